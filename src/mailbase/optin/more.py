"""What is asked after the address: the second step of a form, and one more thing after confirming.

::

    POST /f ─▶ token of the submission ─▶ second step ─┬─ held ────────────▶ kept with what is held
                                                       ├─ not confirmed yet ▶ joins the open confirmation, as an act of its own
                                                       ├─ active by it ────▶ fills what is still empty
                                                       └─ anything else ───▶ noted with the submission, nothing else
    POST /c ─▶ token of the person ─▶ one more thing ─▶ written to the person: the mailbox has answered

The answers of a second step only ever add to that submission's own evidence: whoever typed somebody's address overwrites nothing. What
was given with the address never waits for them.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from mailbase.audience import subscribers, suppressions, timeline
from mailbase.audience.form_counts import Whence
from mailbase.audience.forms import Form
from mailbase.audience.subscribers import Details
from mailbase.db import Connection
from mailbase.errors import Gone, NotFound
from mailbase.optin import submissions
from mailbase.optin.confirmation import MOST_ACTS, OPEN, Act, Desk, acts_of
from mailbase.tokens import Tokens

DAY: Final = 86_400
Step = Literal["more", "profile"]


class Ticket(Struct, frozen=True):
    """What a token of a later step stands for: a submission (``more``) or a person (``profile``), and a form."""

    number: int
    form_id: int


def sign(tokens: Tokens, step: Step, ticket: Ticket, *, now: datetime) -> str:
    """Return the token that asks the later questions; it is good for a day."""
    return tokens.sign(step, ticket.number, ticket.form_id, int(now.timestamp()) + DAY)


def read(tokens: Tokens, step: Step, token: str, form: Form, *, now: datetime) -> Ticket:
    """Return what a token stands for.

    Raises:
        NotFound: it is none of ours, or another form's.
        Gone: its day is over.

    """
    numbers = tokens.read(step, token, 3)
    if numbers is None or numbers[1] != form.id:
        raise NotFound("there is no such step")
    if numbers[2] < now.timestamp():
        raise Gone("the day of this step is over")
    return Ticket(numbers[0], numbers[1])


WHOSE = """
SELECT subscriber_id, more_at IS NULL AS first FROM submissions WHERE id = $1 AND form_id = $2
"""

HOLD = """
SELECT email_key, status, attributes FROM subscribers WHERE id = $1 FOR UPDATE
"""

NOTE = """
UPDATE submissions SET fields = fields || $3, more_at = now() WHERE id = $1 AND form_id = $2
RETURNING outcome, at, page, whence
"""

KEEP = """
UPDATE confirmations SET evidence = $2 WHERE id = $1
"""

ANSWERED = """
SELECT EXISTS (SELECT FROM confirmations WHERE subscriber_id = $1 AND confirmed_at >= $3
    AND evidence @> jsonb_build_object('acts', jsonb_build_array(jsonb_build_object('form_id', $2::bigint))))
"""

# Names that are there already stay as they are; what would outgrow the limits of attributes is left out.
FILL = """
UPDATE subscribers SET attributes = $2::jsonb || attributes, updated_at = now()
WHERE id = $1 AND octet_length(($2::jsonb || attributes)::text) <= 16384
    AND (SELECT count(*) FROM jsonb_object_keys($2::jsonb || attributes)) <= 64
"""


async def add(db: Connection, desk: Desk, form: Form, ticket: Ticket, answers: Mapping[str, Any]) -> None:
    """Add the answers of the second step to what the submission brought; nobody is told what became of them."""
    if not answers or await submissions.add_answers(db, ticket.number, dict(answers)):
        return
    # The person first, then the submission: erasing somebody goes the same way.
    whose = await db.fetchrow(WHOSE, ticket.number, form.id)
    if whose is None or whose["subscriber_id"] is None:
        return
    subscriber_id: int = whose["subscriber_id"]
    person = await db.fetchrow(HOLD, subscriber_id)
    if person is None:
        return
    sent = await db.fetchrow(NOTE, ticket.number, form.id, dict(answers))
    if sent is None:
        return
    if whose["first"]:
        await timeline.note(db, subscriber_id, "submitted", form_id=form.id, data={"step": 2})
    if sent["outcome"] == "activated" or await db.fetchval(ANSWERED, subscriber_id, form.id, sent["at"]):
        if person["status"] == "active":
            await db.execute(FILL, subscriber_id, dict(answers))
        return
    opened = await db.fetchrow(OPEN, subscriber_id, suppressions.erased_value(person["email_key"], desk.erasure_key))
    if opened is not None and (acts := _joined(acts_of(opened["evidence"]), form, ticket, answers, sent)):
        await db.execute(KEEP, opened["id"], {"acts": msgspec.to_builtins(acts)})


def _joined(acts: list[Act], form: Form, ticket: Ticket, answers: Mapping[str, Any], sent: Any) -> list[Act] | None:
    """Return the acts with these answers as one of their own; None: this confirmation has nothing of the form."""
    others = [act for act in acts if act.more_of != ticket.number]
    before = {name: value for act in acts if act.more_of == ticket.number for name, value in act.attributes.items()}
    if not any(act.form_id == form.id for act in others) or len(others) >= MOST_ACTS:
        return None
    known = {name for act in others for name in act.attributes}
    fresh = {name: value for name, value in {**before, **answers}.items() if name not in known}
    came = Whence(page=sent["page"], **{name: sent["whence"].get(name) for name in ("source", "mode", "trigger")})
    mine = Act(form_id=form.id, attributes=fresh, more_of=ticket.number, **msgspec.structs.asdict(came))
    return [*others, mine]


async def complete(db: Connection, ticket: Ticket, answers: Mapping[str, Any]) -> None:
    """Write the answers given after confirming to the person; who has left since is let alone.

    Raises:
        Gone: the person has left, or was erased.

    """
    person = await db.fetchrow(HOLD, ticket.number)
    if person is None or person["status"] != "active":
        raise Gone("this person is no longer there")
    together = {**person["attributes"], **answers}
    if together == person["attributes"] or len(together) > 64 or len(msgspec.json.encode(together)) > 16_384:
        return
    await subscribers.merge(db, ticket.number, Details(attributes=dict(answers)))
    await timeline.note(db, ticket.number, "updated", form_id=ticket.form_id, data={"step": 3})
