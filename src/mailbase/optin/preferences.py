"""The preference centre: what a person may see and change about themselves.

Topics, how often, a pause. Interests that are not public are the owner's: neither shown nor changed. Who has left is asked to confirm by
letter before anything is sent again, as at a form; how often and from when is kept for that day.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from mailbase.audience import timeline
from mailbase.audience.consents import ConsentGiven
from mailbase.db import Connection
from mailbase.errors import Invalid, NotFound
from mailbase.optin import confirmation, notices, withdrawal
from mailbase.optin.confirm import Witness
from mailbase.optin.confirmation import Desk
from mailbase.optin.withdrawal import InForce
from mailbase.optin.words import words

Saved = Literal["saved", "asked", "paused", "resumed"]
Frequency = Literal["all", "weekly", "monthly"]

HERE: Final = frozenset({"active", "archived"})
"""Who gets letters, or would if the owner had not put them aside."""
LONGEST_PAUSE: Final = 52


class Topic(Struct):
    """An interest on offer."""

    slug: str
    name: str
    description: str | None
    chosen: bool


class Preferences(Struct):
    """What the page shows. ``paused_until`` is None once that moment is over."""

    email: str
    status: str
    locale: str | None
    timezone: str | None
    frequency: Frequency
    paused_until: datetime | None
    topics: list[Topic]
    consents: list[InForce]


PERSON = """
SELECT email, status, locale, timezone, frequency, CASE WHEN paused_until > now() THEN paused_until END AS paused_until
FROM subscribers WHERE id = $1
"""

TOPICS = """
SELECT slug, name, description, id = ANY((SELECT interests FROM subscribers WHERE id = $1)::bigint[]) AS chosen
FROM interests WHERE public ORDER BY name, id
"""


async def read(db: Connection, subscriber_id: int) -> Preferences:
    """Return a person's preferences.

    Raises:
        NotFound: the person is no longer there.

    """
    row = await db.fetchrow(PERSON, subscriber_id)
    if row is None:
        raise NotFound("there is nothing stored about you any more")
    topics = [Topic(**topic) for topic in await db.fetch(TOPICS, subscriber_id)]
    return Preferences(**row, topics=topics, consents=await withdrawal.in_force(db, subscriber_id))


CHOSEN = """
SELECT id, slug FROM interests WHERE public AND slug = ANY($1::text[])
"""

SAVE = """
UPDATE subscribers SET updated_at = now(), frequency = $3, interests = CASE WHEN $2::bigint[] IS NULL THEN interests ELSE ARRAY(
    SELECT id FROM interests WHERE id = ANY($2) OR NOT public AND id = ANY(subscribers.interests) ORDER BY id) END
WHERE id = $1
"""


async def save(
    db: Connection,
    desk: Desk,
    subscriber_id: int,
    witness: Witness,
    *,
    slugs: Sequence[str] | None = None,
    frequency: Frequency | None = None,
    delivery_id: int = 0,
) -> Saved:
    """Set the public interests and how often; None changes nothing. ``asked``: a letter asks who had left to confirm coming back.

    ``delivery_id`` is the letter whose link led here, 0 for none: its sender asks when the settings name nobody.

    Raises:
        Invalid: an interest that is not on offer; ``sender_missing``.
        NotFound: the person is no longer there.

    """
    before = await read(db, subscriber_id)
    ids = {row["slug"]: row["id"] for row in await db.fetch(CHOSEN, slugs or ())}
    if any(slug not in ids for slug in slugs or ()):
        raise Invalid.field("interests", "unknown_interest", "there is no such interest")
    away = before.status not in HERE
    chosen = None if away or slugs is None else list(ids.values())
    await db.execute(SAVE, subscriber_id, chosen, frequency or before.frequency)
    changed: dict[str, object] = {}
    if chosen is not None and sorted(ids) != sorted(topic.slug for topic in before.topics if topic.chosen):
        changed["interests"] = sorted(ids)
    if frequency not in {None, before.frequency}:
        changed["frequency"] = frequency
    if changed:
        await timeline.note(db, subscriber_id, "preferences", data=changed)
    if not away:
        return "saved"
    chosen = list(ids.values())
    await _come_back(db, desk, subscriber_id, witness, locale=before.locale, interests=chosen, delivery_id=delivery_id)
    return "asked"


PAUSE = """
UPDATE subscribers SET paused_until = now() + make_interval(weeks => $2), updated_at = now() WHERE id = $1 RETURNING paused_until
"""

RESUME = """
UPDATE subscribers SET paused_until = NULL, updated_at = now() WHERE id = $1
"""


async def pause(
    db: Connection, desk: Desk, subscriber_id: int, weeks: int, witness: Witness, *, delivery_id: int = 0
) -> Saved:
    """Send no campaign's letter for so many weeks from now, 0 ends it; who had left is asked to come back after it.

    Raises:
        Invalid: ``invalid_value``, not 0 to 52; ``sender_missing``.
        NotFound: the person is no longer there.

    """
    if not 0 <= weeks <= LONGEST_PAUSE:
        raise Invalid.field("pause_weeks", "invalid_value", f"A pause is at most {LONGEST_PAUSE} weeks long.")
    before = await read(db, subscriber_id)
    if weeks:
        until = await db.fetchval(PAUSE, subscriber_id, weeks)
        await timeline.note(db, subscriber_id, "paused", data={"weeks": weeks, "until": f"{until:%Y-%m-%dT%H:%M:%SZ}"})
    else:
        await db.execute(RESUME, subscriber_id)
        if before.paused_until:
            await timeline.note(db, subscriber_id, "resumed")
    if before.status not in HERE:
        await _come_back(db, desk, subscriber_id, witness, locale=before.locale, interests=[], delivery_id=delivery_id)
        return "asked"
    return "paused" if weeks else "resumed"


LAST_CHOSEN = """
SELECT array_agg(interests.id) FROM subscribers JOIN interests ON interests.id = ANY(subscribers.interests) AND public WHERE subscribers.id = $1
"""


async def _come_back(
    db: Connection,
    desk: Desk,
    subscriber_id: int,
    witness: Witness,
    *,
    locale: str | None,
    interests: list[int],
    delivery_id: int,
) -> None:
    # Who chooses nothing comes back to what they read before.
    chosen = interests or await db.fetchval(LAST_CHOSEN, subscriber_id) or []
    consent = ConsentGiven(
        purpose="newsletter",
        text=words(locale).button,
        source="preferences",
        ip=witness.ip,
        user_agent=witness.user_agent,
    )
    await confirmation.ask(
        db,
        desk,
        subscriber_id,
        interests=chosen,
        consents=[consent],
        otherwise=await notices.sender_for(db, subscriber_id, delivery_id),
    )


def masked(email: str) -> str:
    """Return an address as its owner still recognises it: ``m•••@example.com``."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}•••@{domain}"
