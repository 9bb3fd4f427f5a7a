"""What is done again and again: the table of names and noun functions, and the loop that goes through it.

Every worker runs the loop; for each entry an advisory lock lets one of them at a time do it. All of them bear being done twice.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import asyncpg

from mailbase import queue
from mailbase.audience import answers, form_counts
from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.optin import address_change, attacks, cooldowns, pending, proof, submissions, tills
from mailbase.sending.deliveries import counters
from mailbase.sending.mx import mx_dns
from mailbase.sending.providers import overrides
from mailbase.signals import age, incoming, source_events

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 60.0

Task = Callable[[Connection], Awaitable[object]]
"""Does its work in the connection's transaction."""

TABLE: Final[Mapping[str, Task]] = {
    "forget finished jobs": queue.forget_old,
    "forget answers": answers.forget_old,
    "delete who never confirmed": pending.expire,
    "forget cooldowns": cooldowns.sweep,
    "forget changes of address nobody confirmed": address_change.forget_old,
    "watch forms for attacks": attacks.watch,
    "forget used proofs of work": proof.sweep,
    "strip submissions of nobody's": submissions.strip,
    "forget what tills handed in": tills.forget_old,
    "fold the counters of forms": form_counts.fold,
    "shorten addresses of opens and clicks": age.shorten,
    "gather the counters of old hours": counters.gather,
    "forget what held providers back": overrides.forget,
    "forget mail hosts": mx_dns.forget_old,
    "forget mail that was read": incoming.forget_old,
    "apply what providers reported": source_events.catch_up,
    "forget what providers reported": source_events.forget_old,
}

ALONE = """
SELECT pg_try_advisory_xact_lock(hashtextextended($1, 1))
"""


async def run(
    pool: Pool, *, stop: asyncio.Event, table: Mapping[str, Task] = TABLE, seconds: float = TICK_SECONDS
) -> None:
    """Go through the table every minute until ``stop``."""
    while not stop.is_set():
        await tick(pool, table)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)


async def tick(pool: Pool, table: Mapping[str, Task] = TABLE) -> None:
    """Do everything in the table once, each in a transaction of its own; what fails is logged and comes again."""
    for name, task in table.items():
        try:
            async with pool.acquire() as db, db.transaction():
                if await db.fetchval(ALONE, name):
                    await task(db)
        except (*CONNECTION_ERRORS, TimeoutError, asyncpg.PostgresError) as error:
            logger.warning("%s: %s", name, error)
