"""Redis goes away in the middle, or is wiped: what was under way finishes once, what comes later finishes too."""

import asyncio

import pytest
from redis.asyncio import Redis

from mailbase import queue, servers
from mailbase.jobs import arq_worker, runner
from mailbase.queue import Wake

KEY = b"k" * 32


@pytest.fixture
def own_redis(tmp_path):
    """A Redis of this test's own, to be killed."""
    server = servers.redis(tmp_path)
    process = server.start()
    server.wait(process)
    yield server, process
    process.kill()
    process.wait()


async def test_a_job_outlives_the_redis_that_woke_it(pool, own_redis):
    """A job that Redis woke goes on when Redis is killed, is done exactly once, and so is the one made after it."""
    server, process = own_redis
    begun, go_on, runs = asyncio.Event(), asyncio.Event(), []

    async def slow(pool, held, progress, _erasure_key):
        runs.append(held.id)
        begun.set()
        await go_on.wait()
        async with pool.acquire() as db, db.transaction():
            await queue.finish(db, held, {}, done=progress.done + 1)

    stop = asyncio.Event()
    handlers = {"slow": slow}
    woken = asyncio.create_task(arq_worker.run(pool, KEY, server.url, stop=stop, handlers=handlers))
    wake = Wake(server.url)
    first = await _make(pool)
    await wake.job(first)
    await asyncio.wait_for(begun.wait(), 20)
    process.kill()
    process.wait()
    polling = asyncio.create_task(runner.run(pool, KEY, stop=stop, wake=asyncio.Event(), handlers=handlers))
    second = await _make(pool)
    await wake.job(second)
    go_on.set()

    assert await _end(pool, first) == "done"
    assert await _end(pool, second) == "done"
    assert sorted(runs) == [first, second]

    stop.set()
    await asyncio.wait_for(asyncio.gather(woken, polling), 30)
    await wake.close()


async def test_a_wiped_redis_costs_nothing(pool, own_redis):
    """A wake-up that a FLUSHALL wiped away is made good by the runner's own look."""
    server, _ = own_redis

    async def quick(pool, held, progress, _erasure_key):
        async with pool.acquire() as db, db.transaction():
            await queue.finish(db, held, {}, done=progress.done + 1)

    wake = Wake(server.url)
    job = await _make(pool)
    await wake.job(job)
    redis = Redis.from_url(server.url)
    await redis.flushall()
    await redis.aclose()
    stop = asyncio.Event()
    polling = asyncio.create_task(runner.run(pool, KEY, stop=stop, wake=asyncio.Event(), handlers={"slow": quick}))

    assert await _end(pool, job) == "done"

    stop.set()
    await polling
    await wake.close()


async def _make(pool) -> int:
    async with pool.acquire() as db, db.transaction():
        return (await queue.create(db, "slow", {})).id


async def _end(pool, job_id: int) -> str:
    for _ in range(600):
        async with pool.acquire() as db:
            job = await queue.get(db, job_id)
        if job.status not in {"queued", "running"}:
            return job.status
        await asyncio.sleep(0.05)
    return "still running"
