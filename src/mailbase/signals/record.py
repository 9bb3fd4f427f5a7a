"""The recorder: one a process; requests wait in it until the batch that holds theirs is committed.

record() ─▶ waiting (bounded) ─▶ flush: one transaction a batch ─▶ the requests answer
                ▲                    │ PostgreSQL away, deadlock
                └────── again ───────┘ (unless it is found to have gone through)

No delay is added: while a batch commits, the next one gathers. Opens and clicks each have a lane. A slow database slows the
answers, one that is away for longer than the patience makes them fail; a request that was answered is in the tables, once.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

import asyncpg
from msgspec import Struct

from mailbase.config import Settings
from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.errors import Unavailable
from mailbase.sending.deliveries import counters
from mailbase.signals import batches, verdicts
from mailbase.signals.hits import Hit, Place, Written
from mailbase.signals.verdicts import EARLY

BATCH: Final = 500
WAITING: Final = 10_000
PATIENCE: Final = 20.0
DRAIN: Final = 10.0

_log = logging.getLogger(__name__)
_AGAIN: Final = (*CONNECTION_ERRORS, asyncpg.DeadlockDetectedError, asyncpg.SerializationError, TimeoutError)


class _Waiting(Struct):
    hit: Hit
    since: float
    place: asyncio.Future[Place | None]


class Recorder:
    """Gathers hits and commits them in batches. Made by :func:`recorder`."""

    def __init__(
        self,
        pool: Pool,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
        early: timedelta = EARLY,
    ) -> None:
        self.clock = clock
        self._patience = patience
        slot = counters.own_slot()
        # Opens and clicks are stored by different statements, and each sort keeps its locks to itself.
        self._opens = _Lane(pool, slot, early)
        self._clicks = _Lane(pool, (slot + counters.SLOTS // 2) % counters.SLOTS, early)
        self._closing = False

    async def record(self, hit: Hit) -> Place | None:
        """Return once the hit is committed; None when there is nothing such a hit could belong to.

        Raises:
            Unavailable: too many wait already, or the database stayed away for longer than the patience.
        """
        lane = self._clicks if hit.link else self._opens
        if self._closing or len(lane.waiting) >= WAITING:
            raise Unavailable("too many requests wait for the database")
        place: asyncio.Future[Place | None] = asyncio.get_running_loop().create_future()
        lane.waiting.append(_Waiting(hit, self.clock(), place))
        lane.wake.set()
        return await place

    async def run(self) -> None:
        """Commit batch after batch until :meth:`close` and nothing waits any more."""
        impatient = asyncio.create_task(self._give_up(), name="signals' patience")
        try:
            await asyncio.gather(self._run(self._opens), self._run(self._clicks))
        finally:
            impatient.cancel()

    async def _give_up(self) -> None:
        """Fail those that have waited for longer than the patience; cheaper than a timer for each."""
        while True:
            await asyncio.sleep(self._patience / 20)
            oldest = self.clock() - self._patience
            lanes = self._opens, self._clicks
            for one in [one for lane in lanes for part in (lane.batch, lane.waiting) for one in part]:
                if one.since < oldest and not one.place.done():
                    one.place.set_exception(Unavailable("the database does not answer"))

    async def _run(self, lane: "_Lane") -> None:
        try:
            while (waiting := lane.waiting) or not self._closing:
                if not waiting:
                    lane.wake.clear()
                    await lane.wake.wait()
                    continue
                lane.batch = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
                await self._flush(lane, lane.batch)
                lane.batch = []
        finally:
            await lane.release()

    def close(self) -> None:
        """Take no more hits; :meth:`run` ends once those that wait are committed."""
        self._closing = True
        self._opens.wake.set()
        self._clicks.wake.set()

    async def _flush(self, lane: "_Lane", batch: list[_Waiting]) -> None:
        pause = 0.02
        lane.begin()
        while True:
            # Whoever no longer waits was told that it failed.
            batch = [one for one in batch if not one.place.done()]
            if not batch:
                return
            try:
                places = await lane.commit([one.hit for one in batch], self.clock)
                break
            except _AGAIN as error:
                _log.warning("signals wait: %s", error or type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(1.0, 2 * pause)
            except Exception:  # noqa: BLE001 — whatever it is, it is logged and answered
                # One hit that cannot be stored must not take the others with it.
                if len(batch) == 1:
                    _log.exception("a signal cannot be stored")
                    batch[0].place.set_exception(Unavailable("this could not be recorded"))
                    return
                middle = len(batch) // 2
                await self._flush(lane, batch[:middle])
                await self._flush(lane, batch[middle:])
                return
        for one, place in zip(batch, places, strict=True):
            if not one.place.done():
                one.place.set_result(place)


class _Lane:
    """One connection that commits one batch at a time (the pool would reset it after each), and those that wait for it."""

    def __init__(self, pool: Pool, slot: int, early: timedelta) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.wake = asyncio.Event()
        self.batch: list[_Waiting] = []
        self._pool = pool
        self._slot = slot
        self._early = early
        self._db: asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | None = None
        self._mark = 0
        self._sent = False

    def begin(self) -> None:
        """Begin a batch, which keeps its mark however often it has to be sent."""
        self._mark = secrets.randbits(63)
        self._sent = False

    async def commit(self, batch: list[Hit], clock: Callable[[], float]) -> list[Place | None]:
        """Write a batch; when the answer was lost, find out what became of it."""
        write = self._clicks if batch[0].link else self._opens
        try:
            if self._db is None:
                self._db = await self._pool.acquire()
        except _AGAIN:
            await self.release()
            raise
        return await write(self._db, batch, clock)

    async def _opens(self, db: Connection, batch: list[Hit], clock: Callable[[], float]) -> list[Place | None]:
        """Store opens in one round trip: a statement that commits by itself. Sent again, it is refused if it did."""
        try:
            try:
                written = await batches.write(
                    db, batch, clock=clock, slot=self._slot, early=self._early, mark=self._mark
                )
            except asyncpg.UniqueViolationError:
                if not self._sent:
                    raise
                return await batches.places(db, batch)
        except _AGAIN:
            self._sent = True
            await self.release()
            raise
        return written.places

    async def _clicks(self, db: Connection, batch: list[Hit], clock: Callable[[], float]) -> list[Place | None]:
        """Store clicks in a transaction; whether it was committed is asked by its id."""
        written: Written | None = None
        try:
            async with db.transaction():
                written = await batches.write(db, batch, clock=clock, slot=self._slot, early=self._early)
        except _AGAIN:
            await self.release()
            if written is None or (written.xid and not await self._committed(written.xid)):
                raise
        return written.places

    async def release(self) -> None:
        """Give the connection back."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(*_AGAIN):
                await self._pool.release(db)

    async def _committed(self, xid: str) -> bool:
        """Find out what became of a commit whose answer was lost; ask until PostgreSQL says."""
        while True:
            try:
                status = await self._pool.fetchval(STATUS, xid)
            except _AGAIN:
                await asyncio.sleep(0.2)
                continue
            if status != "in progress":
                return bool(status == "committed")
            await asyncio.sleep(0.2)


STATUS = "SELECT pg_xact_status($1::text::xid8)"


def early(settings: Settings) -> timedelta:
    """Return how soon after it left nobody can have read a letter.

    Zero with the outbox or a relay on this machine: leaving says nothing of when such a letter is delivered.
    """
    if settings.to_outbox or (settings.smtp is not None and not _elsewhere(settings.smtp.host)):
        return timedelta(0)
    return EARLY


def _elsewhere(host: str) -> bool:
    try:
        return verdicts.telling(ip_address(host))
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")


@contextlib.asynccontextmanager
async def recorder(pool: Pool, *, patience: float = PATIENCE, early: timedelta = EARLY) -> AsyncGenerator[Recorder]:
    """Run a recorder for as long as the block; on the way out what waits is committed, for up to ten seconds.

    ``early`` is how soon after it left nobody can have read a letter; see :func:`early`.
    """
    made = Recorder(pool, patience=patience, early=early)
    task = asyncio.create_task(made.run(), name="signals")
    try:
        yield made
    finally:
        made.close()
        try:
            await asyncio.wait_for(task, DRAIN)
        except TimeoutError:
            _log.warning("signals were still waiting for the database")
