"""The sweep: what has to happen to deliveries although nobody asks: dead workers' letters are taken back, warm-up days judged.

It also notices when the database's clock was put back: letters made before that would wait until it is as late again.
"""

import asyncio
import logging
import time
from datetime import datetime
from pathlib import Path
from typing import Final

import asyncpg

from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.sending.deliveries import leases, settle
from mailbase.sending.warmup import judge as warmup_judge

log = logging.getLogger(__name__)

EVERY: Final = 3.0
JUDGE_EVERY: Final = 60.0
PUT_BACK: Final = 60.0
"""Seconds; less is what clocks do when they are set right."""


class Clock:
    """The database's clock, held against one that only goes forward."""

    def __init__(self) -> None:
        self._last: tuple[datetime, float] | None = None

    def put_back(self, now: datetime, boottime: float) -> bool:
        """Note what both say; return whether the database's has been put back since the last time."""
        last, self._last = self._last, (now, boottime)
        return last is not None and (now - last[0]).total_seconds() - (boottime - last[1]) < -PUT_BACK


NOW: Final = """
SELECT clock_timestamp()
"""


class Sweep:
    """What one worker remembers between two sweeps."""

    def __init__(self, *, slot: int, to_outbox: bool, journals: Path | None) -> None:
        self._slot = slot
        self._to_outbox = to_outbox
        self._journals = journals
        self._database = Clock()
        self._behind = False
        self._loop = asyncio.get_running_loop()
        self._judged = self._loop.time() - JUDGE_EVERY

    async def settle(self, db: Connection) -> None:
        """Settle what dead workers of this machine left."""
        if self._journals is not None and (settled := await settle.settle(db, self._journals, slot=self._slot)):
            log.warning("%d letters were held by a worker that died; settled by its journal", settled)

    async def expire(self, db: Connection) -> None:
        """End the leases of those that are gone."""
        if taken_back := await leases.expire(db, slot=self._slot):
            log.warning("%d letters were held by a worker that is gone; taken back", taken_back)

    async def look_at_the_clock(self, db: Connection) -> None:
        """Let letters leave that were made before the clock was put back."""
        if self._database.put_back(await db.fetchval(NOW), time.clock_gettime(time.CLOCK_BOOTTIME)):
            log.warning("the clock of the database was put back")
            self._behind = True
        if self._behind:
            self._behind = await leases.catch_up(db) > 0

    async def judge(self, db: Connection) -> None:
        """Judge warm-up days that are over, once a minute."""
        if self._loop.time() - self._judged >= JUDGE_EVERY:
            await warmup_judge.judge(db, to_outbox=self._to_outbox)
            self._judged = self._loop.time()


async def run(pool: Pool, *, slot: int, to_outbox: bool, stop: asyncio.Event, journals: Path | None = None) -> None:
    """Sweep until ``stop``; any number of workers may. ``journals``: where those of this machine keep theirs."""
    sweep = Sweep(slot=slot, to_outbox=to_outbox, journals=journals)
    while not stop.is_set():
        # Each on its own: what fails in one must not keep the others from their turn.
        for step in (sweep.settle, sweep.expire, sweep.look_at_the_clock, sweep.judge):
            try:
                async with pool.acquire() as db:
                    await step(db)
            except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
                log.warning("the sweep waits for the database: %s", error)
        try:
            async with asyncio.timeout(EVERY):
                await stop.wait()
        except TimeoutError:
            continue
