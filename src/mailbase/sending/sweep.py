"""The sweep: what has to happen to deliveries although nobody asks: dead workers' letters are taken back, warm-up days judged."""

import asyncio
import logging
from typing import Final

import asyncpg

from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.sending import leases, warmup_judge

log = logging.getLogger(__name__)

EVERY: Final = 3.0
JUDGE_EVERY: Final = 60.0


async def run(pool: Pool, *, slot: int, to_outbox: bool, stop: asyncio.Event) -> None:
    """Sweep until ``stop``; any number of workers may."""
    judged = -JUDGE_EVERY
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        try:
            async with pool.acquire() as db:
                if taken_back := await leases.expire(db, slot=slot):
                    log.warning("%d letters were held by a worker that is gone; taken back", taken_back)
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
