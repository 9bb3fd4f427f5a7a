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

from mailbase.db import CONNECTION_ERRORS, Pool
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


async def run(pool: Pool, *, slot: int, to_outbox: bool, stop: asyncio.Event, journals: Path | None = None) -> None:
    """Sweep until ``stop``; any number of workers may. ``journals``: where those of this machine keep theirs."""
    judged = -JUDGE_EVERY
    database = Clock()
    behind = False
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        try:
            async with pool.acquire() as db:
                if journals is not None and (settled := await settle.settle(db, journals, slot=slot)):
                    log.warning("%d letters were held by a worker that died; settled by its journal", settled)
                if taken_back := await leases.expire(db, slot=slot):
                    log.warning("%d letters were held by a worker that is gone; taken back", taken_back)
                if database.put_back(await db.fetchval(NOW), time.clock_gettime(time.CLOCK_BOOTTIME)):
                    log.warning("the clock of the database was put back")
                    behind = True
                if behind:
                    behind = await leases.catch_up(db) > 0
                if clock() - judged >= JUDGE_EVERY:
                    await warmup_judge.judge(db, to_outbox=to_outbox)
                    judged = clock()
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            log.warning("the sweep waits for the database: %s", error)
        try:
            async with asyncio.timeout(EVERY):
                await stop.wait()
        except TimeoutError:
            continue
