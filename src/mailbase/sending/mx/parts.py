"""Parts: how much of every provider's limits is this worker's, of all that are alive on any machine.

Each worker holds one advisory lock of its own, as long as it lives: those of the others say how many there are, and which of them
it is. So the parts of all workers together are never more than the whole; where a provider takes fewer connections than there are
workers, some have none, and leave its letters to the others.
"""

import asyncio
import contextlib
import logging
from typing import Final

import asyncpg

from mailbase.db import CONNECTION_ERRORS, Connection, connect

log = logging.getLogger(__name__)

EVERY: Final = 2.0
LOCKS: Final = 7_236_541

# One after the other: the first that is nobody's is ours.
TAKE: Final = """
SELECT n FROM generate_series(0, 4095) AS n WHERE pg_try_advisory_lock($1, n) LIMIT 1
"""

COUNT: Final = """
SELECT count(*) FILTER (WHERE objid::bigint < $2::bigint) AS before, count(*) AS all FROM pg_locks
WHERE locktype = 'advisory' AND classid::bigint = $1::bigint AND objsubid = 2 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Parts:
    """This worker's parts. ``expected`` workers are reckoned with, although they may not be there yet."""

    def __init__(self, expected: int = 1) -> None:
        self._expected = max(expected, 1)
        self._total = self._expected
        # Alone, all is ours; else nothing more than everybody's part is, until it is known which one we are.
        self._place = 0 if self._expected == 1 else self._expected

    def of(self, whole: int) -> int:
        """Return our part of a number of connections; may be 0."""
        return whole // self._total + (self._place < whole % self._total)

    def rate(self, whole: float | None, connections: int) -> float | None:
        """Return our part of a pace, which those share who have one of so many connections; None: there is no limit."""
        return None if whole is None else whole / max(min(self._total, connections), 1)

    async def run(self, url: str, *, stop: asyncio.Event) -> None:
        """Know the others until ``stop``; while the database is away, all stays as it was."""
        while not stop.is_set():
            db: Connection | None = None
            try:
                db = await connect(url)
                own: int | None = await db.fetchval(TAKE, LOCKS)
                while not stop.is_set():
                    await self.look(db, own)
                    await _pause(stop)
            except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
                log.warning("workers cannot be counted just now: %s", error)
                await _pause(stop)
            finally:
                if db is not None:
                    with contextlib.suppress(*CONNECTION_ERRORS, asyncpg.PostgresError):
                        await db.close(timeout=1)

    async def look(self, db: Connection, own: int | None) -> None:
        """Count the workers; ``own`` is the number of our lock."""
        row = await db.fetchrow(COUNT, LOCKS, own)
        if row is not None and own is not None:
            self._total = max(row["all"], self._expected)
            self._place = row["before"]


async def _pause(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EVERY):
            await stop.wait()
