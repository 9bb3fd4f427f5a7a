"""The history of a warm-up: every decision, by rule or by hand, with the numbers it was taken on. Append only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from mailbase.db import Connection


class Decision(Struct, kw_only=True):
    """One decision. ``egress`` and ``provider`` are None where it is about the whole domain."""

    id: int
    at: datetime
    egress: str | None
    provider: str | None
    decision: str
    level_before: int | None
    level_after: int | None
    reason: str
    numbers: dict[str, Any]


class Entry(Struct, kw_only=True):
    """A decision to be written down."""

    decision: str
    reason: str
    egress: str | None = None
    provider: str | None = None
    level_before: int | None = None
    level_after: int | None = None
    numbers: dict[str, Any] = {}


WRITE = """
INSERT INTO warmup_history (domain_id, at, egress, provider, decision, level_before, level_after, reason, numbers)
VALUES ($1, COALESCE($2, now()), $3, $4, $5, $6, $7, $8, $9)
"""


async def write(db: Connection, domain_id: int, entries: Sequence[Entry], *, now: datetime | None = None) -> None:
    """Write decisions down."""
    if not entries:
        return
    await db.executemany(
        WRITE,
        [
            (domain_id, now, one.egress, one.provider, one.decision, one.level_before, one.level_after, one.reason, one.numbers)
            for one in entries
        ],
    )  # fmt: skip


PAGE = """
SELECT id, at, egress, provider, decision, level_before, level_after, reason, numbers FROM warmup_history
WHERE domain_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3
"""


async def page(db: Connection, domain_id: int, *, before: int, limit: int) -> list[Decision]:
    """Return a domain's decisions, newest first."""
    return [Decision(**row) for row in await db.fetch(PAGE, domain_id, before, limit)]


COUNT = """
SELECT count(*) FROM warmup_history WHERE domain_id = $1
"""


async def count(db: Connection, domain_id: int) -> int:
    """Return how many decisions there are."""
    total: int = await db.fetchval(COUNT, domain_id)
    return total
