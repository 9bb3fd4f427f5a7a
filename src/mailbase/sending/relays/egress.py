"""Egress: whether the way out takes letters, and what it said when it did not.

A refusal at greeting, EHLO, AUTH or MAIL is ours, not a letter's: every worker stops, waits (2, 4, 8 … 120 seconds), and one
letter is tried first. The first answer about a letter clears the row.

    open ─▶ stopped until … ─▶ probing (failures > 0) ─▶ open
"""

import logging
from datetime import datetime
from typing import Final

from msgspec import Struct

from mailbase.db import Connection

log = logging.getLogger(__name__)

LONGEST: Final = 120


class Egress(Struct, kw_only=True):
    """``stopped``: nothing may be handed over now. ``failures`` > 0: only a probe may."""

    stopped: bool = False
    failures: int = 0
    reason: str | None = None
    stopped_until: datetime | None = None


# A stop that ends so late was made before the server's clock was put back.
GET = """
SELECT stopped_until > COALESCE($2, now()) AND stopped_until <= COALESCE($2, now()) + make_interval(secs => $3) AS stopped, failures, reason, stopped_until FROM egress WHERE name = $1
"""


async def get(db: Connection, name: str, *, now: datetime | None = None) -> Egress:
    """Return how the way out called ``name`` (``relay`` or ``outbox``) stands."""
    rows = await db.fetch(GET, name, now, float(LONGEST))
    if not rows:
        return Egress()
    row = rows[0]
    return Egress(
        stopped=bool(row["stopped"]), failures=row["failures"], reason=row["reason"], stopped_until=row["stopped_until"]
    )


STOP = """
INSERT INTO egress (name, stopped_until, failures, reason, at)
VALUES ($1, COALESCE($4, now()) + interval '2 seconds', 1, $2, COALESCE($4, now()))
ON CONFLICT (name) DO UPDATE SET
    failures = egress.failures + 1,
    stopped_until = COALESCE($4, now()) + make_interval(secs => LEAST(2 * 2.0 ^ LEAST(egress.failures, 20), $3)),
    reason = excluded.reason,
    at = excluded.at
WHERE egress.stopped_until IS NULL OR egress.stopped_until <= COALESCE($4, now())
RETURNING extract(epoch FROM stopped_until - COALESCE($4, now()))::float8
"""


async def stop(db: Connection, name: str, reason: str, *, now: datetime | None = None) -> None:
    """Stop the way out for a while that doubles. Several workers that fail together count as one failure."""
    seconds: float | None = await db.fetchval(STOP, name, reason, float(LONGEST), now)
    if seconds is not None:
        log.warning("the way out %r takes no letters (%s); tried again in %d seconds", name, reason, round(seconds))


CLEAR = """
UPDATE egress SET stopped_until = NULL, failures = 0, reason = NULL, at = now() WHERE name = $1 AND failures > 0
"""


async def clear(db: Connection, name: str) -> None:
    """Note that it takes letters again."""
    await db.execute(CLEAR, name)
