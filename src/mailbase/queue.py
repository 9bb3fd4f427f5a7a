"""Jobs: long work as rows, and the best-effort wake-up through Redis.

``queued ─▶ running ─▶ done | failed | cancelled``; ``queued ─▶ cancelled``; ``running ─▶ queued`` when its runner died or lost PostgreSQL.

A row is the only truth. A runner leases it (``fence`` rises with every lease) and renews; every write of a runner names its fence,
so one that lost its lease writes nothing more. A job's result is written in the same transaction as its work.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from arq import ArqRedis, create_pool
from arq.connections import RedisSettings
from redis.exceptions import RedisError

from mailbase.db import Connection
from mailbase.errors import Conflict, NotFound

logger = logging.getLogger(__name__)

CHANNEL: Final = "mailbase_jobs"
ARQ_QUEUE: Final = "mailbase:jobs"
RUN_JOB: Final = "run_job"
LEASE_SECONDS: Final = 30
ATTEMPTS: Final = 5
QUIET_SECONDS: Final = 5.0  # how long a Redis that did not answer is left alone


class Job(msgspec.Struct, kw_only=True):
    """A job as its asker sees it."""

    id: int
    kind: str
    status: str
    done: int
    total: int | None
    result: Any
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Lease(msgspec.Struct, frozen=True):
    """A job as its runner holds it."""

    id: int
    kind: str
    payload: dict[str, Any]
    fence: int
    attempts: int


class LeaseLost(Exception):
    """Another runner has the job now, it was cancelled, or it is no more: write nothing."""


CREATE = """
WITH created AS (
    INSERT INTO jobs (kind, payload, total) VALUES ($1, $2, $3)
    RETURNING id, kind, status, done, total, result, error, created_at, started_at, finished_at
)
SELECT created.*, pg_notify('mailbase_jobs', id::text)::text AS notified FROM created
"""


async def create(db: Connection, kind: str, payload: Mapping[str, Any], *, total: int | None = None) -> Job:
    """Store a job; at commit the workers that listen are told."""
    row = dict(await db.fetchrow(CREATE, kind, dict(payload), total) or {})
    del row["notified"]
    return Job(**row)


EXPECT = """
UPDATE jobs SET payload = $2, total = $3 WHERE id = $1
"""


async def expect(db: Connection, job_id: int, payload: Mapping[str, Any], total: int) -> None:
    """Complete a job that was created, in this same transaction, before all of its request was read."""
    await db.execute(EXPECT, job_id, dict(payload), total)


GET = """
SELECT id, kind, status, done, total, result, error, created_at, started_at, finished_at FROM jobs WHERE id = $1
"""


async def get(db: Connection, job_id: int) -> Job:
    """Return one job.

    Raises:
        NotFound: there is none of this id.

    """
    row = await db.fetchrow(GET, job_id)
    if row is None:
        raise NotFound("There is no such job.")
    return Job(**row)


PAGE = """
SELECT id, kind, status, done, total, result, error, created_at, started_at, finished_at FROM jobs
 WHERE ($1::bigint IS NULL OR id < $1) AND ($3::text IS NULL OR kind = $3) AND ($4::text IS NULL OR status = $4)
 ORDER BY id DESC LIMIT $2
"""


async def page(
    db: Connection, *, limit: int, before: int | None = None, kind: str | None = None, status: str | None = None
) -> list[Job]:
    """Return jobs, newest first."""
    return [Job(**row) for row in await db.fetch(PAGE, before, limit, kind, status)]


COUNT = """
SELECT count(*) FROM jobs WHERE ($1::text IS NULL OR kind = $1) AND ($2::text IS NULL OR status = $2)
"""


async def count(db: Connection, *, kind: str | None = None, status: str | None = None) -> int:
    """Return how many jobs there are."""
    total: int = await db.fetchval(COUNT, kind, status)
    return total


CANCEL = """
UPDATE jobs
   SET cancel_requested = true,
       status = CASE status WHEN 'queued' THEN 'cancelled' ELSE status END,
       finished_at = CASE status WHEN 'queued' THEN now() END
 WHERE id = $1 AND status IN ('queued', 'running')
"""

DISCARD = """
DELETE FROM job_uploads USING jobs WHERE jobs.id = job_id AND jobs.id = $1 AND status NOT IN ('queued', 'running')
"""


async def cancel(db: Connection, job_id: int) -> Job:
    """Ask for the end of a job: a waiting one ends at once, a running one within a second or two.

    Raises:
        NotFound: there is none of this id.
        Conflict: ``job_finished``, it is done or failed.

    """
    changed = await db.execute(CANCEL, job_id)
    await db.execute(DISCARD, job_id)
    job = await get(db, job_id)
    if changed == "UPDATE 0" and job.status != "cancelled":
        raise Conflict(f"This job is {job.status} already.", code="job_finished")
    return job


LEASE = """
UPDATE jobs
   SET status = 'running', fence = fence + 1, attempts = attempts + 1, lease_until = now() + make_interval(secs => $1),
       started_at = coalesce(started_at, now())
 WHERE id = (
    SELECT id FROM jobs
     WHERE (status = 'queued' OR (status = 'running' AND lease_until < now())) AND ($2::bigint IS NULL OR id = $2)
       AND kind = ANY($3::text[]) AND (lease_until IS NULL OR lease_until < now())
     ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, kind, payload, fence, attempts
"""


async def lease(
    db: Connection, kinds: list[str], *, job_id: int | None = None, seconds: float = LEASE_SECONDS
) -> Lease | None:
    """Take the oldest job that waits or whose runner died (or just this one); None: there is none."""
    row = await db.fetchrow(LEASE, float(seconds), job_id, kinds)
    return Lease(**row) if row else None


RENEW = """
UPDATE jobs SET lease_until = now() + make_interval(secs => $3), done = $4, total = coalesce($5, total)
 WHERE id = $1 AND fence = $2 AND status = 'running'
RETURNING cancel_requested
"""


async def renew(
    db: Connection, held: Lease, *, done: int = 0, total: int | None = None, seconds: float = LEASE_SECONDS
) -> bool:
    """Keep the lease and say how far the work is; False: the job shall be cancelled.

    Raises:
        LeaseLost: somebody else has the job.

    """
    asked: bool | None = await db.fetchval(RENEW, held.id, held.fence, float(seconds), done, total)
    if asked is None:
        raise LeaseLost
    return not asked


KEEP_PLACE = """
UPDATE jobs SET payload = $3, done = $4 WHERE id = $1 AND fence = $2 AND status = 'running' AND NOT cancel_requested
"""


async def keep_place(db: Connection, held: Lease, payload: Mapping[str, Any], *, done: int) -> None:
    """Write down, in the transaction of a batch, where the next one starts.

    Raises:
        LeaseLost: the job is no longer ours or shall be cancelled; the transaction must not commit.

    """
    if await db.execute(KEEP_PLACE, held.id, held.fence, dict(payload), done) == "UPDATE 0":
        raise LeaseLost


FINISH = """
UPDATE jobs SET status = 'done', result = $3, done = $4, total = $4, payload = '{}', finished_at = now(), lease_until = NULL
 WHERE id = $1 AND fence = $2 AND status = 'running' AND NOT cancel_requested
"""


async def finish(db: Connection, held: Lease, result: Any, *, done: int) -> None:
    """Write the result, in the transaction of the work it sums up. What was asked (it may name people) is dropped with the upload.

    Raises:
        LeaseLost: the job is no longer ours or shall be cancelled; the transaction must not commit.

    """
    if await db.execute(FINISH, held.id, held.fence, msgspec.to_builtins(result), done) == "UPDATE 0":
        raise LeaseLost
    await db.execute(DISCARD, held.id)


END = """
UPDATE jobs SET status = 'failed', error = $3, payload = '{}', finished_at = now(), lease_until = NULL
 WHERE id = $1 AND fence = $2 AND status = 'running'
"""


async def fail(db: Connection, held: Lease, error: str) -> None:
    """End a job that cannot be done, with a sentence for its asker."""
    await db.execute(END, held.id, held.fence, error)
    await db.execute(DISCARD, held.id)


CANCELLED = """
UPDATE jobs SET status = 'cancelled', payload = '{}', finished_at = now(), lease_until = NULL
 WHERE id = $1 AND fence = $2 AND status = 'running' AND cancel_requested
"""


async def end_cancelled(db: Connection, held: Lease) -> bool:
    """End a job of ours whose cancellation was asked for; False: none was."""
    if await db.execute(CANCELLED, held.id, held.fence) == "UPDATE 0":
        return False
    await db.execute(DISCARD, held.id)
    return True


RELEASE = """
UPDATE jobs SET status = 'queued', attempts = attempts - $4, lease_until = CASE WHEN $3::float8 > 0 THEN now() + make_interval(secs => $3) END
 WHERE id = $1 AND fence = $2 AND status = 'running'
"""


async def release(db: Connection, held: Lease, *, after: float = 0, polite: bool = False) -> None:
    """Put a job back, to be taken again after that many seconds; a polite return (a restart) is no failed attempt."""
    await db.execute(RELEASE, held.id, held.fence, float(after), int(polite))


FORGET = """
DELETE FROM jobs WHERE status IN ('done', 'failed', 'cancelled') AND finished_at < now() - interval '30 days'
"""


async def forget_old(db: Connection) -> int:
    """Delete finished jobs, and what was rejected in them, after 30 days."""
    return int((await db.execute(FORGET)).rpartition(" ")[2])


class Wake:
    """Tells arq of a job, if Redis is there; silence when it is not, because the notification at commit is enough."""

    def __init__(self, redis_url: str | None) -> None:
        self._settings = redis_settings(redis_url) if redis_url else None
        self._redis: ArqRedis | None = None
        self._quiet_until = 0.0

    async def job(self, job_id: int) -> None:
        """Enqueue the wake-up; call it after the commit."""
        if self._settings is None or time.monotonic() < self._quiet_until:
            return
        try:
            async with asyncio.timeout(1):
                if self._redis is None:
                    self._redis = await create_pool(
                        self._settings, job_serializer=serialize, job_deserializer=msgspec.msgpack.decode
                    )
                await self._redis.enqueue_job(RUN_JOB, job_id, _queue_name=ARQ_QUEUE)
        except (OSError, RedisError, TimeoutError) as error:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            logger.debug("no wake-up for job %s: %s", job_id, error)
            await self.close()

    async def close(self) -> None:
        """Close the connection."""
        redis, self._redis = self._redis, None
        if redis is not None:
            with contextlib.suppress(OSError, RedisError):
                await redis.aclose()


def redis_settings(url: str) -> RedisSettings:
    """Return arq's settings: one attempt, a short time-out, since nothing waits for Redis."""
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout = 1
    settings.conn_retries = 0
    if settings.unix_socket_path:
        settings.unix_socket_path = unquote(settings.unix_socket_path)
    return settings


def serialize(value: dict[str, Any]) -> bytes:
    """Pack what arq keeps in Redis; nothing in there may be code, so no pickle."""
    return msgspec.msgpack.encode(value, enc_hook=repr)
