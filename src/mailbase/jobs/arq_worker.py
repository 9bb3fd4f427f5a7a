"""The arq worker: hears through Redis that a job waits, and runs it. A side task: it ends when Redis does, and is started again.

What it carries is a number; what is to be done stands in PostgreSQL, where the runner would find it anyway.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from arq import ArqRedis, create_pool
from arq.typing import WorkerCoroutine
from arq.worker import Worker, func
from redis.exceptions import RedisError

from mailbase import queue
from mailbase.db import Pool
from mailbase.jobs import runner
from mailbase.jobs.runner import HANDLERS, Handler

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 5.0
POLL_SECONDS: Final = 2.0
LONGEST: Final = 6 * 3600
GONE: Final = (OSError, RedisError, TimeoutError)


async def run_job(context: dict[Any, Any], job_id: int) -> None:
    """Run the job if it still waits."""
    await runner.run_one(context["pool"], context["erasure_key"], job_id=job_id, handlers=context["handlers"])


async def run(
    pool: Pool, erasure_key: bytes, redis_url: str, *, stop: asyncio.Event, handlers: Mapping[str, Handler] = HANDLERS
) -> None:
    """Keep an arq worker alive until ``stop``, however often Redis goes away."""
    while not stop.is_set():
        try:
            redis = await create_pool(
                queue.redis_settings(redis_url),
                job_serializer=queue.serialize,
                job_deserializer=msgspec.msgpack.decode,
                default_queue_name=queue.ARQ_QUEUE,
            )
        except GONE:
            await _pause(stop)
            continue
        try:
            await _listen(redis, {"pool": pool, "erasure_key": erasure_key, "handlers": handlers}, stop)
        except GONE as error:
            logger.info("wake-ups through Redis pause: %s", error)
        finally:
            with contextlib.suppress(*GONE):
                await redis.aclose(close_connection_pool=True)
        await _pause(stop)


async def _listen(redis: ArqRedis, context: dict[str, Any], stop: asyncio.Event) -> None:
    worker = Worker(
        functions=[
            func(cast("WorkerCoroutine", run_job), name=queue.RUN_JOB, keep_result=0, max_tries=1, timeout=LONGEST)
        ],
        queue_name=queue.ARQ_QUEUE,
        redis_pool=redis,
        job_serializer=queue.serialize,
        job_deserializer=msgspec.msgpack.decode,
        ctx=context,
        handle_signals=False,
        max_jobs=1,
        poll_delay=POLL_SECONDS,
        log_results=False,
    )
    working = asyncio.create_task(worker.async_run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    worker.handle_sig(signal.SIGUSR1)
    # What a job could not tell a Redis that is gone is nobody's news: its row says how it ended.
    await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def _pause(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), AGAIN_SECONDS)
