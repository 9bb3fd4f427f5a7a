"""Writing what many requests bring at one time, together: a connection of its own, one batch after the other.

::

    ask ─▶ waiting (bounded) ─▶ write, once they have gathered for a moment ─▶ answered, each after the commit
                                  │ PostgreSQL away ─▶ Unavailable: who asked is told that nothing is known to be done

Nothing is sent twice: whoever asks may ask again.
"""

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

import asyncpg

from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.errors import Unavailable

logger = logging.getLogger(__name__)

GATHER: Final = 0.012
"""Seconds for which they gather. Many small batches cost what many statements do."""
BATCH: Final = 64
WAITING: Final = 2_000
DRAIN: Final = 10.0
AWAY: Final = (*CONNECTION_ERRORS, TimeoutError)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Waiting(Generic[Item, Answer]):
    """Something to be written, and who waits for it."""

    __slots__ = ("answer", "item", "since")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.since = time.monotonic()
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def tell(self, answer: Answer) -> None:
        """Answer, unless nobody waits any more or it was answered already."""
        if not self.answer.done():
            self.answer.set_result(answer)


class Gathering(ABC, Generic[Item, Answer]):
    """Gathers and writes; :meth:`write` is a kind's own. ``pool``'s statements look things up by index."""

    def __init__(self, pool: Pool, *, gather: float = GATHER) -> None:
        self._pool = pool
        self._gather = gather
        self._db: asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | None = None
        self._waiting: deque[Waiting[Item, Answer]] = deque()
        self._wake = asyncio.Event()
        self._closing = False

    @abstractmethod
    async def write(self, db: Connection, batch: Sequence[Waiting[Item, Answer]]) -> None:
        """Write a batch and ``tell`` each of it; whoever is told nothing is told that it failed."""

    async def look(self, db: Connection, batch: Sequence[Waiting[Item, Answer]]) -> None:
        """Read what ``write`` needs to know. Done again if the connection turns out to have ended meanwhile."""

    async def ask(self, item: Item) -> Answer:
        """Have something written; return once it is committed.

        Raises:
            Unavailable: the database does not answer, or too many wait.

        """
        if self._closing or len(self._waiting) >= WAITING:
            raise Unavailable("too many requests wait for the database")
        waiting: Waiting[Item, Answer] = Waiting(item)
        self._waiting.append(waiting)
        self._wake.set()
        return await waiting.answer

    async def run(self) -> None:
        """Write batch after batch until :meth:`close` and nothing waits any more."""
        try:
            while self._waiting or not self._closing:
                if not self._waiting:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                await asyncio.sleep(self._waiting[0].since + self._gather - time.monotonic())
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                try:
                    await self.write(await self._looked(batch), batch)
                except AWAY as error:
                    logger.warning("nothing can be written: %s", error or type(error).__name__)
                    await self._release()
                except Exception:
                    logger.exception("a batch cannot be written")
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(Unavailable("the database does not answer"))
        finally:
            await self._release()

    def close(self) -> None:
        """Take no more; :meth:`run` ends once those that wait are written."""
        self._closing = True
        self._wake.set()

    async def _looked(self, batch: Sequence[Waiting[Item, Answer]]) -> Connection:
        for last in (False, True):
            try:
                if self._db is None:
                    self._db = await self._pool.acquire(timeout=30)
                await self.look(self._db, batch)
            except AWAY:  # a connection that ended while nobody used it says so now
                await self._release()
                if last:
                    raise
            else:
                return self._db
        raise AssertionError

    async def _release(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(*AWAY):
                await self._pool.release(db)


@asynccontextmanager
async def running(*gatherings: Gathering[Item, Answer]) -> AsyncGenerator[None]:
    """Run for as long as the block; on the way out what waits is written."""
    tasks = [asyncio.create_task(one.run(), name=type(one).__name__) for one in gatherings]
    try:
        yield
    finally:
        for one in gatherings:
            one.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*tasks), DRAIN)
