"""Submissions: what came in through forms, what was thought of it, and what became of it.

::

    pass ──▶ accepted | activated | cooldown | suppressed | sender_missing
    suspect, bot, limited ──▶ held ──release──▶ one of the above
                               ├──▶ deleted by the owner
                               └──▶ 30 days: nothing personal is left

A held submission keeps everything needed to go the ordinary way later; nobody is a subscriber before that.
"""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import Conflict, NotFound

Verdict = Literal["pass", "suspect", "bot", "limited"]


class Submission(Struct, kw_only=True):
    """A submission as the API shows it; ``email`` is the subscriber's, or the one it is held for."""

    id: int
    form_id: int
    verdict: Verdict
    reasons: list[str]
    outcome: str
    """held, accepted, activated, cooldown, suppressed or sender_missing."""
    email: str | None
    subscriber_id: int | None
    fields: dict[str, Any]
    interests: list[str]
    page: str | None
    ip: str | None
    user_agent: str | None
    at: datetime
    released_at: datetime | None


GET = """
SELECT submission.id, form_id, verdict, reasons, outcome, COALESCE(submission.email, subscriber.email) AS email, subscriber_id, fields,
    ARRAY(SELECT slug FROM interests WHERE interests.id = ANY (submission.interests) ORDER BY slug) AS interests,
    page, host(ip) AS ip, user_agent, at, released_at
FROM submissions AS submission LEFT JOIN subscribers AS subscriber ON subscriber.id = subscriber_id
WHERE submission.id = $1
"""


async def get(db: Connection, submission_id: int) -> Submission:
    """Return one submission.

    Raises:
        NotFound: there is none of this id.

    """
    row = await db.fetchrow(GET, submission_id)
    if row is None:
        raise NotFound("There is no such submission.")
    return Submission(**row)


PAGE = """
SELECT submission.id, form_id, verdict, reasons, outcome, COALESCE(submission.email, subscriber.email) AS email, subscriber_id, fields,
    ARRAY(SELECT slug FROM interests WHERE interests.id = ANY (submission.interests) ORDER BY slug) AS interests,
    page, host(ip) AS ip, user_agent, at, released_at
FROM submissions AS submission LEFT JOIN subscribers AS subscriber ON subscriber.id = subscriber_id
WHERE submission.id < $1 AND ($2::text IS NULL OR verdict = $2) AND ($3::bigint IS NULL OR form_id = $3) AND ($4::text IS NULL OR outcome = $4)
ORDER BY submission.id DESC LIMIT $5
"""


async def page(
    db: Connection,
    *,
    before: int,
    limit: int,
    verdict: str | None = None,
    form_id: int | None = None,
    outcome: str | None = None,
) -> list[Submission]:
    """Return submissions with an id below ``before``, newest first."""
    return [Submission(**row) for row in await db.fetch(PAGE, before, verdict, form_id, outcome, limit)]


COUNT = """
SELECT count(*) FROM submissions
WHERE ($1::text IS NULL OR verdict = $1) AND ($2::bigint IS NULL OR form_id = $2) AND ($3::text IS NULL OR outcome = $3)
"""


async def count(
    db: Connection, *, verdict: str | None = None, form_id: int | None = None, outcome: str | None = None
) -> int:
    """Return how many there are."""
    total: int = await db.fetchval(COUNT, verdict, form_id, outcome)
    return total


HELD = """
SELECT form_id, held, verdict, outcome, at FROM submissions WHERE id = $1 FOR UPDATE
"""


class Held(Struct, frozen=True):
    """What a submission is released from."""

    form_id: int
    content: dict[str, Any]
    at: datetime


async def take_held(db: Connection, submission_id: int) -> Held:
    """Return what is held and keep its row until the transaction ends.

    Raises:
        NotFound: there is no such submission.
        Conflict: ``not_held``: it passed, was released, or is older than 30 days.

    """
    row = await db.fetchrow(HELD, submission_id)
    if row is None:
        raise NotFound("There is no such submission.")
    if row["outcome"] != "held" or row["held"] is None:
        raise Conflict("This submission is not held.", code="not_held")
    return Held(row["form_id"], row["held"], row["at"])


ADD_ANSWERS = """
UPDATE submissions SET fields = fields || $2, held = jsonb_set(held, '{entry,attributes}', (held #> '{entry,attributes}') || $2)
WHERE id = $1 AND outcome = 'held' AND held IS NOT NULL RETURNING id
"""


async def add_answers(db: Connection, submission_id: int, attributes: dict[str, Any]) -> bool:
    """Add the answers of a second step to a submission that is held; False: it is not."""
    return await db.fetchval(ADD_ANSWERS, submission_id, attributes) is not None


RELEASED = """
UPDATE submissions SET outcome = $2, subscriber_id = $3, released_at = now(), email = NULL, email_key = NULL, held = NULL WHERE id = $1
"""


async def mark_released(db: Connection, submission_id: int, outcome: str, subscriber_id: int | None) -> None:
    """Note what became of it in the end."""
    await db.execute(RELEASED, submission_id, outcome, subscriber_id)


DELETE = """
DELETE FROM submissions WHERE id = $1 RETURNING id
"""


async def delete(db: Connection, submission_id: int) -> None:
    """Delete a submission; a subscriber it made stays.

    Raises:
        NotFound: there is none of this id.

    """
    if await db.fetchval(DELETE, submission_id) is None:
        raise NotFound("There is no such submission.")


STRIP = """
UPDATE submissions SET ip = NULL, user_agent = NULL, email = NULL, email_key = NULL, held = NULL, fields = '{}', interests = '{}', page = NULL
WHERE id IN (SELECT id FROM submissions WHERE subscriber_id IS NULL AND (ip IS NOT NULL OR user_agent IS NOT NULL OR email IS NOT NULL)
    AND at < now() - interval '30 days' LIMIT 5000)
"""


async def strip(db: Connection) -> None:
    """Take everything personal from submissions of nobody's that are older than 30 days."""
    await db.execute(STRIP)
