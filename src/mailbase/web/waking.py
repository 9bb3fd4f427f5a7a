"""Waking the workers for letters that submissions stored: once for many, a moment later.

A transaction that notifies commits alone, and a worker woken for each letter sends each by itself; both cost more than the submission.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.sending.dispatch import messages

logger = logging.getLogger(__name__)

MOMENT: Final = 0.05
"""Seconds in which letters gather."""


class Waking:
    """Wakes the workers of letters."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tasks: set[asyncio.Task[None]] = set()
        self._gathering = False

    def soon(self) -> None:
        """Wake them within a moment. A wake that is lost costs seconds: workers look by themselves, too."""
        if not self._gathering:
            self._gathering = True
            task = asyncio.create_task(self._wake())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _wake(self) -> None:
        await asyncio.sleep(MOMENT)
        self._gathering = False  # a letter stored from now on asks for a wake of its own
        try:
            async with self._pool.acquire() as db:
                await messages.wake(db)
        except (*CONNECTION_ERRORS, TimeoutError, asyncpg.PostgresError) as error:
            logger.info("the workers were not woken: %s", error)

    async def close(self) -> None:
        """Let the last wake go out."""
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def waking(pool: Pool) -> AsyncGenerator[Waking]:
    """Wake workers until the block ends."""
    made = Waking(pool)
    try:
        yield made
    finally:
        await made.close()
