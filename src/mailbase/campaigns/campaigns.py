"""A campaign: one newsletter to an audience. What may be done with it when is in ``states``.

draft ─▶ scheduled ─▶ sending ─▶ sent
             └── paused ──┘        scheduled | sending | paused ─▶ cancelled

``finished_at`` is set once nothing is left to do: every delivery is final.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from asyncpg import Record
from msgspec import UNSET, Struct, field, structs

from mailbase.audience import selection
from mailbase.audience.selection import Audience, Rule
from mailbase.campaigns import drafts, states
from mailbase.campaigns.drafts import Changes, Checked, Draft, From, OnCrash, Track
from mailbase.campaigns.states import Status
from mailbase.db import Connection
from mailbase.errors import NotFound


class Summary(Struct, kw_only=True):
    """A campaign as a list shows it."""

    id: int
    name: str
    status: Status
    paused_from: Literal["scheduled", "sending"] | None
    from_: From = field(name="from")
    reply_to: str | None
    subject: str
    preheader: str | None
    audience: Audience
    headers: dict[str, str]
    send_until: datetime | None
    track: Track
    utm: dict[str, str] | None
    on_crash: OnCrash
    created_at: datetime
    updated_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    stopped_reason: str | None
    """Why it was paused by itself."""


class Campaign(Summary, kw_only=True):
    """A campaign with its bodies."""

    mjml: str | None
    html: str | None
    text: str | None


class Held(Struct, kw_only=True):
    """A campaign with what only the engine needs."""

    campaign: Campaign
    domain_id: int
    rule: Rule
    fanned_out: bool
    expected: int | None


CREATE = """
INSERT INTO campaigns (name, domain_id, from_name, from_email, reply_to, subject, preheader, mjml, html, text,
    audience, headers, send_until, track_opens, track_clicks, utm, on_crash, track_trap)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
RETURNING id
"""


async def create(db: Connection, draft: Draft) -> Campaign:
    """Store a draft.

    Raises:
        Invalid: see :func:`~mailbase.campaigns.drafts.check`.

    """
    checked = await drafts.check(db, draft)
    return await get(db, await db.fetchval(CREATE, *_columns(draft, checked)))


UPDATE = """
UPDATE campaigns SET name = $1, domain_id = $2, from_name = $3, from_email = $4, reply_to = $5, subject = $6, preheader = $7,
    mjml = $8, html = $9, text = $10, audience = $11, headers = $12, send_until = $13, track_opens = $14, track_clicks = $15,
    utm = $16, on_crash = $17, track_trap = $18, updated_at = now()
WHERE id = $19
"""


async def update(db: Connection, campaign_id: int, changes: Changes) -> Campaign:
    """Change a draft.

    Raises:
        NotFound: there is no such campaign.
        Conflict: ``campaign_not_draft``.
        Invalid: see :func:`~mailbase.campaigns.drafts.check`.

    """
    held = await hold(db, campaign_id)
    states.allow(held.campaign.status, "edit")
    draft = drafts.changed(draft_of(held.campaign), changes)
    checked = await drafts.check(db, draft)
    await db.execute(UPDATE, *_columns(draft, checked), campaign_id)
    return await get(db, campaign_id)


DELETE = """
DELETE FROM campaigns WHERE id = $1
"""


async def delete(db: Connection, campaign_id: int) -> None:
    """Delete a draft.

    Raises:
        NotFound: there is no such campaign.
        Conflict: ``campaign_not_draft``.

    """
    held = await hold(db, campaign_id)
    states.allow(held.campaign.status, "delete")
    await db.execute(DELETE, campaign_id)


DUPLICATE = """
INSERT INTO campaigns (name, domain_id, from_name, from_email, reply_to, subject, preheader, mjml, html, text,
    audience, headers, send_until, track_opens, track_clicks, utm, on_crash, track_trap)
SELECT left(name, 193) || ' (copy)', domain_id, from_name, from_email, reply_to, subject, preheader, mjml, html, text,
    audience, headers, CASE WHEN send_until > now() THEN send_until END, track_opens, track_clicks, utm, on_crash, track_trap
FROM campaigns WHERE id = $1
RETURNING id
"""


async def duplicate(db: Connection, campaign_id: int) -> Campaign:
    """Make a new draft of any campaign; a ``send_until`` that has passed is left out.

    Raises:
        NotFound: there is no such campaign.

    """
    copy = await db.fetchval(DUPLICATE, campaign_id)
    if copy is None:
        raise NotFound("There is no such campaign.")
    return await get(db, copy)


GET = """
SELECT id, name, status, paused_from, domain_id, from_name, from_email, reply_to, subject, preheader, mjml, html, text, audience,
    headers, send_until, track_opens, track_clicks, track_trap, utm, on_crash, created_at, updated_at, scheduled_at, started_at, finished_at,
    stopped_reason, fanned_out, expected
FROM campaigns WHERE id = $1
"""


async def get(db: Connection, campaign_id: int) -> Campaign:
    """Return a campaign.

    Raises:
        NotFound: there is no such campaign.

    """
    return (await look(db, campaign_id)).campaign


async def look(db: Connection, campaign_id: int) -> Held:
    """Return a campaign with its stored rule, without a lock.

    Raises:
        NotFound: there is no such campaign.

    """
    row = await db.fetchrow(GET, campaign_id)
    if row is None:
        raise NotFound("There is no such campaign.")
    rule = selection.load(row["audience"])
    (audience,) = await selection.shown(db, [rule])
    bodies = {name: row[name] for name in ("mjml", "html", "text")}
    campaign = Campaign(**structs.asdict(_summary(row, audience)), **bodies)
    return Held(
        campaign=campaign, domain_id=row["domain_id"], rule=rule, fanned_out=row["fanned_out"], expected=row["expected"]
    )


# Lets deliveries be inserted meanwhile (their foreign key takes FOR KEY SHARE), keeps every other change out.
HOLD = """
SELECT id FROM campaigns WHERE id = $1 FOR NO KEY UPDATE
"""


async def hold(db: Connection, campaign_id: int) -> Held:
    """Return a campaign and keep its row locked until the transaction ends.

    Raises:
        NotFound: there is no such campaign.

    """
    await db.fetchval(HOLD, campaign_id)
    return await look(db, campaign_id)


LIST = """
SELECT id, name, status, paused_from, from_name, from_email, reply_to, subject, preheader, audience, headers, send_until, track_opens,
    track_clicks, track_trap, utm, on_crash, created_at, updated_at, scheduled_at, started_at, finished_at, stopped_reason
FROM campaigns
WHERE id < $1 AND ($2::text IS NULL OR status = $2)
ORDER BY id DESC LIMIT $3
"""


async def page(db: Connection, *, before: int, limit: int, status: Status | None = None) -> list[Summary]:
    """Return campaigns with an id below ``before``, newest first."""
    rows = await db.fetch(LIST, before, status, limit)
    audiences = await selection.shown(db, [selection.load(row["audience"]) for row in rows])
    return [_summary(row, audience) for row, audience in zip(rows, audiences, strict=True)]


COUNT = """
SELECT count(*) FROM campaigns WHERE $1::text IS NULL OR status = $1
"""


async def count(db: Connection, *, status: Status | None = None) -> int:
    """Return how many campaigns there are."""
    total: int = await db.fetchval(COUNT, status)
    return total


def draft_of(campaign: Campaign) -> Draft:
    """Return what the campaign is written as."""
    return Draft(**{name: getattr(campaign, name) for name in Draft.__struct_fields__})


def _columns(draft: Draft, checked: Checked) -> Sequence[object]:
    return (
        draft.name,
        checked.domain_id,
        checked.sender.name,
        checked.sender.email,
        checked.reply_to,
        draft.subject,
        draft.preheader,
        draft.mjml,
        draft.html,
        draft.text,
        selection.dump(checked.rule),
        draft.headers,
        draft.send_until,
        draft.track.opens,
        draft.track.clicks,
        draft.utm,
        draft.on_crash,
        draft.track.trap is True,
    )


def _summary(row: Record, audience: Audience) -> Summary:
    return Summary(
        id=row["id"],
        name=row["name"],
        status=row["status"],
        paused_from=row["paused_from"],
        from_=From(name=row["from_name"], email=row["from_email"]),
        reply_to=row["reply_to"],
        subject=row["subject"],
        preheader=row["preheader"],
        audience=audience,
        headers=row["headers"],
        send_until=row["send_until"],
        track=Track(row["track_opens"], row["track_clicks"], row["track_trap"] or UNSET),
        utm=row["utm"],
        on_crash=row["on_crash"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        scheduled_at=row["scheduled_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        stopped_reason=row["stopped_reason"],
    )
