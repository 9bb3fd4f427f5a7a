"""The job runner: takes jobs from PostgreSQL one at a time, keeps their leases alive, ends them one way or another.

It needs no Redis: a notification wakes it, and it looks by itself every second. Any number of workers may run one.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import asyncpg

from mailbase import queue
from mailbase.audience import bulk, imports
from mailbase.audience.imports import Progress
from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.errors import MailbaseError, Unavailable
from mailbase.queue import Lease, LeaseLost

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
BEAT_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 5.0

Handler = Callable[[Pool, Lease, Progress, bytes], Awaitable[None]]

HANDLERS: Final[Mapping[str, Handler]] = {imports.KIND: imports.run, bulk.KIND: bulk.run}
"""What each kind of job does. A handler writes its result itself, by ``queue.finish`` in the transaction of its work."""


async def run(
    pool: Pool,
    erasure_key: bytes,
    *,
    stop: asyncio.Event,
    wake: asyncio.Event,
    handlers: Mapping[str, Handler] = HANDLERS,
) -> None:
    """Do jobs until ``stop``; ``wake`` is set by whoever hears of a new one. A job in the middle of it then goes back to the queue."""
    running = asyncio.create_task(_forever(pool, erasure_key, wake, handlers))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _forever(pool: Pool, erasure_key: bytes, wake: asyncio.Event, handlers: Mapping[str, Handler]) -> None:
    while True:
        wake.clear()
        try:
            worked = await run_one(pool, erasure_key, handlers=handlers)
        except (*CONNECTION_ERRORS, TimeoutError) as error:
            logger.warning("jobs wait for PostgreSQL: %s", error)
            worked = False
        if not worked:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), POLL_SECONDS)


async def run_one(
    pool: Pool, erasure_key: bytes, *, job_id: int | None = None, handlers: Mapping[str, Handler] = HANDLERS
) -> bool:
    """Do one job that waits (or just this one, if it does); False: there was none."""
    async with pool.acquire() as db:
        held = await queue.lease(db, list(handlers), job_id=job_id)
        if held is None:
            return False
        if held.attempts > queue.ATTEMPTS:
            await queue.fail(db, held, f"The job was started {queue.ATTEMPTS} times and never came to an end.")
            return True
    progress = Progress()
    work = asyncio.ensure_future(handlers[held.kind](pool, held, progress, erasure_key))
    beat = asyncio.create_task(_beat(pool, held, progress, work))
    try:
        await work
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            work.cancel()
            await asyncio.wait({work})
            await _end(pool, held, shutdown=True)
            raise
        await _end(pool, held)
    except LeaseLost:
        await _end(pool, held)
    except (*CONNECTION_ERRORS, Unavailable, asyncpg.TransactionRollbackError) as error:
        logger.warning("job %d (%s) will be tried again: %s", held.id, held.kind, error)
        await _put_back(pool, held)
    except MailbaseError as error:
        await _fail(pool, held, error.message)
    except Exception:
        logger.exception("job %d (%s) failed", held.id, held.kind)
        await _fail(pool, held, "An unexpected error; the log of the worker has it.")
    finally:
        beat.cancel()
        await asyncio.wait({beat})
    return True


async def _beat(pool: Pool, held: Lease, progress: Progress, work: asyncio.Future[None]) -> None:
    """Renew the lease and write the progress down; stop the work when the lease is gone or cancelling was asked for."""
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        try:
            async with pool.acquire() as db:
                going = await queue.renew(db, held, done=progress.done, total=progress.total)
        except LeaseLost:
            going = False
        except (*CONNECTION_ERRORS, TimeoutError):
            continue
        if not going:
            work.cancel()
            return


async def _end(pool: Pool, held: Lease, *, shutdown: bool = False) -> None:
    with contextlib.suppress(*CONNECTION_ERRORS, TimeoutError):
        async with asyncio.timeout(5), pool.acquire() as db:
            if not await queue.end_cancelled(db, held) and shutdown:
                await queue.release(db, held, polite=True)


async def _put_back(pool: Pool, held: Lease) -> None:
    # With PostgreSQL still gone, the lease runs out by itself.
    with contextlib.suppress(*CONNECTION_ERRORS, TimeoutError):
        async with asyncio.timeout(5), pool.acquire() as db:
            await queue.release(db, held, after=RETRY_SECONDS)


async def _fail(pool: Pool, held: Lease, error: str) -> None:
    async with pool.acquire() as db:
        await queue.fail(db, held, error)
