"""Attacks: noticed by themselves, answered by proof of work and quarantine, over by themselves.

::

    quiet ──few of the letters are confirmed, or most of what comes is caught──▶ under attack ──ten minutes at least, then neither──▶ quiet

A form by itself, or all of them: the circuit breaker (``form_id`` null). What is looked at is in PostgreSQL, so every process sees the same. Letters
younger than five minutes are not judged: people need time to look into their mailbox.
"""

import logging
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from mailbase.db import Connection

logger = logging.getLogger(__name__)

Reason = Literal["unconfirmed", "caught"]

FORM_SAMPLE: Final = 50
"""Letters of one form within the hour, before their ratio says anything."""
BREAKER_SAMPLE: Final = 200
LEAST_CONFIRMED: Final = 0.05
MOST_CAUGHT: Final = 30
"""Caught at one form within ten minutes, and at least half of what came."""
NEWEST: Final = 3000
"""How many submissions are looked at, at most."""


class Attack(Struct, kw_only=True):
    """One attack; ``form_id`` null: the circuit breaker, all forms. The numbers are those seen last."""

    id: int
    form_id: int | None
    reason: str
    letters: int
    """Confirmation letters of the last hour, the last five minutes left out."""
    confirmed: int
    """Of these."""
    caught: int
    """Submissions held or limited within the last ten minutes."""
    began_at: datetime
    ended_at: datetime | None


LETTERS = """
WITH recent AS (
    SELECT form_id, subscriber_id, at FROM submissions
    WHERE at BETWEEN COALESCE($1, now()) - interval '1 hour' AND COALESCE($1, now()) - interval '5 minutes' AND outcome = 'accepted'
    ORDER BY at DESC LIMIT $2
), asked AS (
    SELECT form_id, EXISTS (SELECT FROM confirmations WHERE subscriber_id = recent.subscriber_id AND confirmed_at >= recent.at) AS confirmed FROM recent
)
SELECT form_id, count(*) AS letters, count(*) FILTER (WHERE confirmed) AS confirmed FROM asked GROUP BY ROLLUP (form_id)
"""

CAUGHT = """
WITH recent AS (
    SELECT form_id, verdict FROM submissions WHERE at > COALESCE($1, now()) - interval '10 minutes' AND at <= COALESCE($1, now()) ORDER BY at DESC LIMIT $2
)
SELECT form_id, count(*) AS total, count(*) FILTER (WHERE verdict <> 'pass') AS caught FROM recent GROUP BY form_id
"""

BEGIN = """
INSERT INTO attacks AS known (form_id, reason, letters, confirmed, caught, began_at) VALUES ($1, $2, $3, $4, $5, COALESCE($6, now()))
ON CONFLICT (COALESCE(form_id, 0)) WHERE ended_at IS NULL
DO UPDATE SET letters = excluded.letters, confirmed = excluded.confirmed, caught = excluded.caught
RETURNING id, (xmax = 0) AS began
"""

END = """
UPDATE attacks SET ended_at = COALESCE($2, now())
WHERE ended_at IS NULL AND id <> ALL ($1::bigint[]) AND began_at <= COALESCE($2, now()) - interval '10 minutes'
RETURNING form_id
"""

ALONE = """
SELECT pg_try_advisory_xact_lock(7236531)
"""


async def watch(db: Connection, *, now: datetime | None = None) -> None:
    """Look at the last hour; note attacks that began and end those that are over. One process at a time, in a transaction."""
    if not await db.fetchval(ALONE):
        return
    letters = {row["form_id"]: (row["letters"], row["confirmed"]) for row in await db.fetch(LETTERS, now, NEWEST)}
    caught = {row["form_id"]: (row["total"], row["caught"]) for row in await db.fetch(CAUGHT, now, NEWEST)}
    going_on: list[int] = []
    for form_id in [*sorted({*letters, *caught} - {None}), None]:
        asked, confirmed = letters.get(form_id, (0, 0))
        total, stopped = caught.get(form_id, (0, 0))
        reason = _judge(asked, confirmed, total, stopped, sample=FORM_SAMPLE if form_id else BREAKER_SAMPLE)
        if reason is None:
            continue
        row = await db.fetchrow(BEGIN, form_id, reason, asked, confirmed, stopped, now)
        assert row is not None  # noqa: S101  (an INSERT … RETURNING of one row)
        going_on.append(row["id"])
        if row["began"]:
            logger.warning(
                "attack on %s: %d of %d letters confirmed, %d submissions caught",
                f"form {form_id}" if form_id else "all forms",
                confirmed,
                asked,
                stopped,
            )
    for row in await db.fetch(END, going_on, now):
        logger.warning("attack on %s is over", f"form {row['form_id']}" if row["form_id"] else "all forms")


def _judge(letters: int, confirmed: int, total: int, caught: int, *, sample: int) -> Reason | None:
    if letters >= sample and confirmed < letters * LEAST_CONFIRMED:
        return "unconfirmed"
    return "caught" if caught >= MOST_CAUGHT and caught * 2 >= total else None


GOING_ON = """
SELECT id, form_id, reason, letters, confirmed, caught, began_at, ended_at FROM attacks WHERE ended_at IS NULL ORDER BY form_id NULLS FIRST
"""


async def going_on(db: Connection) -> list[Attack]:
    """Return the attacks under way, the breaker first."""
    return [Attack(**row) for row in await db.fetch(GOING_ON)]


LATELY = """
SELECT id, form_id, reason, letters, confirmed, caught, began_at, ended_at FROM attacks WHERE ended_at IS NOT NULL ORDER BY id DESC LIMIT 20
"""


async def lately(db: Connection) -> list[Attack]:
    """Return the last twenty that are over."""
    return [Attack(**row) for row in await db.fetch(LATELY)]


COUNT = """
INSERT INTO protection_counts AS known (form_id, day, reason, n)
SELECT id, current_date, reason, n FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS caught (form, reason, n) JOIN forms ON forms.id = form
ORDER BY 1, 3
ON CONFLICT (form_id, day, reason) DO UPDATE SET n = known.n + excluded.n
"""


async def count(db: Connection, caught: dict[tuple[int, str], int]) -> None:
    """Add to what was caught, by (form id, reason); call it last in a transaction, an attacked form's row is hot."""
    if caught:
        forms = [form_id for form_id, _ in caught]
        await db.execute(COUNT, forms, [reason for _, reason in caught], list(caught.values()))


COUNTS = """
SELECT day, reason, n FROM protection_counts WHERE ($1::bigint IS NULL OR form_id = $1) AND day > current_date - $2::integer ORDER BY day DESC, reason
"""


class Caught(Struct, kw_only=True):
    """What was caught on one UTC day, by reason."""

    date: str
    reasons: dict[str, int]


async def counts(db: Connection, *, form_id: int | None = None, days: int = 30) -> list[Caught]:
    """Return what was caught, the newest day first."""
    found: dict[str, dict[str, int]] = {}
    for row in await db.fetch(COUNTS, form_id, days):
        of_day = found.setdefault(row["day"].isoformat(), {})
        of_day[row["reason"]] = of_day.get(row["reason"], 0) + row["n"]
    return [Caught(date=day, reasons=reasons) for day, reasons in found.items()]
