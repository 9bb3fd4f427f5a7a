"""Jobs: taken once, kept alive, ended one way or another; with Redis, without it, and with Redis gone in the middle."""

import asyncio
import time

import asyncpg
import pytest

from mailbase import queue
from mailbase.errors import Conflict, Invalid
from mailbase.jobs import arq_worker, cron, runner
from mailbase.queue import Wake

KEY = b"k" * 32
KIND = "echo"


async def echo(pool, held, progress, _erasure_key):
    async with pool.acquire() as db, db.transaction():
        await db.execute(
            "INSERT INTO job_rejects (job_id, line, reason) VALUES ($1, $2, 'done')", held.id, held.attempts
        )
        await queue.finish(db, held, {"said": held.payload["word"]}, done=progress.done + 1)


async def make(pool, word="hello", kind=KIND):
    async with pool.acquire() as db, db.transaction():
        return await queue.create(db, kind, {"word": word}, total=1)


async def until(pool, job_id, *statuses, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        async with pool.acquire() as db:
            job = await queue.get(db, job_id)
        if job.status in statuses:
            return job
        assert time.monotonic() < deadline, job
        await asyncio.sleep(0.02)


async def test_a_job_is_done_once_by_many_runners(pool, db):
    """Many runners at once do each job exactly once."""
    jobs = [await make(pool, str(n)) for n in range(20)]
    await asyncio.gather(*(runner.run_one(pool, KEY, handlers={KIND: echo}) for _ in range(30)))
    for n, job in enumerate(jobs):
        finished = await queue.get(db, job.id)
        assert (finished.status, finished.result, finished.done) == ("done", {"said": str(n)}, 1)
    assert await db.fetchval("SELECT count(*) FROM job_rejects") == 20


async def test_a_notification_wakes_the_runner(pool, database_url):
    """A job is announced on the channel when, and only when, its transaction commits."""
    heard = asyncio.Queue()
    listener = await asyncpg.connect(database_url)
    await listener.add_listener(queue.CHANNEL, lambda *words: heard.put_nowait(words[-1]))
    async with pool.acquire() as db, db.transaction():
        job = await queue.create(db, KIND, {"word": "x"})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(heard.get(), 0.2)
    assert await asyncio.wait_for(heard.get(), 5) == str(job.id)
    await listener.close()


async def test_a_running_runner_needs_no_redis(pool):
    """With no Redis at all and no wake-up, a job that comes later is done within seconds."""
    stop = asyncio.Event()
    running = asyncio.create_task(runner.run(pool, KEY, stop=stop, wake=asyncio.Event(), handlers={KIND: echo}))
    job = await make(pool)
    await until(pool, job.id, "done", seconds=10)
    stop.set()
    await running


async def test_a_refusal_is_the_jobs_error(pool):
    """What a handler refuses becomes the job's error; an unexpected failure is said without its internals."""

    async def refuse(*_):
        raise Invalid("The file is empty.")

    async def break_down(*_):
        raise ZeroDivisionError("secret")

    first, second = await make(pool, kind="refuse"), await make(pool, kind="break")
    for _ in range(2):
        await runner.run_one(pool, KEY, handlers={"refuse": refuse, "break": break_down})
    assert (await until(pool, first.id, "failed")).error == "The file is empty."
    assert "secret" not in (await until(pool, second.id, "failed")).error


async def test_a_lost_connection_puts_the_job_back(pool, db):
    """When PostgreSQL breaks off, the job waits and is tried again; one that never ends is given up."""

    async def lose(*_):
        raise asyncpg.ConnectionDoesNotExistError("gone")

    job = await make(pool)
    for _ in range(queue.ATTEMPTS):
        assert await runner.run_one(pool, KEY, handlers={KIND: lose})
        assert (await queue.get(db, job.id)).status == "queued"
        assert not await runner.run_one(pool, KEY, handlers={KIND: lose}), "it rests for a while"
        await db.execute("UPDATE jobs SET lease_until = now()")
    assert await runner.run_one(pool, KEY, handlers={KIND: lose})
    assert (await queue.get(db, job.id)).status == "failed"


async def test_a_restart_gives_the_job_back_at_once(pool, db):
    """A worker told to stop gives its job back, and that is no failed attempt."""
    started = asyncio.Event()

    async def hang(*_):
        started.set()
        await asyncio.sleep(60)

    job = await make(pool)
    stop = asyncio.Event()
    running = asyncio.create_task(runner.run(pool, KEY, stop=stop, wake=asyncio.Event(), handlers={KIND: hang}))
    await asyncio.wait_for(started.wait(), 10)
    stop.set()
    await asyncio.wait_for(running, 10)
    assert await db.fetchrow("SELECT status, attempts, lease_until FROM jobs") == ("queued", 0, None)
    assert await runner.run_one(pool, KEY, handlers={KIND: echo})
    assert (await queue.get(db, job.id)).status == "done"


async def test_cancelling_a_running_job(pool, db):
    """A running job that is cancelled ends within seconds; a finished one cannot be cancelled."""
    started = asyncio.Event()

    async def hang(*_):
        started.set()
        await asyncio.sleep(60)

    job = await make(pool)
    work = asyncio.create_task(runner.run_one(pool, KEY, handlers={KIND: hang}))
    await asyncio.wait_for(started.wait(), 10)
    assert (await queue.cancel(db, job.id)).status == "running"
    await asyncio.wait_for(work, 10)
    assert (await queue.get(db, job.id)).status == "cancelled"
    assert (await queue.cancel(db, job.id)).status == "cancelled"
    done = await make(pool)
    await runner.run_one(pool, KEY, handlers={KIND: echo})
    with pytest.raises(Conflict):
        await queue.cancel(db, done.id)


async def test_redis_wakes_a_job(pool, redis_url):
    """A wake-up through Redis runs the job; a second one for it does nothing."""
    stop = asyncio.Event()
    working = asyncio.create_task(arq_worker.run(pool, KEY, redis_url, stop=stop, handlers={KIND: echo}))
    wake = Wake(redis_url)
    job = await make(pool)
    await wake.job(job.id)
    await wake.job(job.id)
    assert (await until(pool, job.id, "done")).result == {"said": "hello"}
    stop.set()
    await asyncio.wait_for(working, 15)
    await wake.close()


async def test_without_redis_nothing_is_said_and_nothing_breaks(pool):
    """A Redis that is not there costs a wake-up its second at most, and the worker's side task just waits for it."""
    nowhere = "redis://127.0.0.1:1"
    wake = Wake(nowhere)
    started = time.monotonic()
    await wake.job(1)
    await wake.job(2)
    await Wake(None).job(3)
    assert time.monotonic() - started < 3
    stop = asyncio.Event()
    working = asyncio.create_task(arq_worker.run(pool, KEY, nowhere, stop=stop))
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(working, 10)


async def test_the_table_is_gone_through_and_a_failure_stops_nothing(pool, db):
    """Everything in the table is done in its own transaction; what fails leaves no trace and the rest goes on."""

    async def fail(connection):
        await connection.execute("INSERT INTO interests (slug, name) VALUES ('half', 'done')")
        await connection.execute("SELECT 1 / 0")

    async def work(connection):
        await connection.execute("INSERT INTO interests (slug, name) VALUES ('done', 'done')")

    await cron.tick(pool, {"fail": fail, "work": work})
    assert [row["slug"] for row in await db.fetch("SELECT slug FROM interests")] == ["done"]
    await cron.tick(pool)


async def test_finished_jobs_are_forgotten_after_a_month(pool, db):
    """Jobs that ended long ago are deleted with the lines they rejected; others stay."""
    old, recent = await make(pool), await make(pool)
    for _ in range(2):
        await runner.run_one(pool, KEY, handlers={KIND: echo})
    await db.execute("UPDATE jobs SET finished_at = now() - interval '31 days' WHERE id = $1", old.id)
    assert await queue.forget_old(db) == 1
    assert [row["job_id"] for row in await db.fetch("SELECT job_id FROM job_rejects")] == [recent.id]
