"""Imports: a CSV file becomes subscribers, all of it or nothing.

The file waits in slices in ``job_uploads``, so any worker can read it. Slice by slice it is checked line by line, copied into a
temporary table and merged by one statement, while the next slice is being checked. All of it, the ledger, the rejected lines and the
job's result are one transaction, under the job's fence: a worker killed on the way leaves nothing behind, and the next one starts over.

Of lines with the same address the first one counts. Skipped are: those others, people who left, bounced or complained, suppressed
and erased addresses, and, with ``on_conflict: "skip"``, people who are there already.
"""

import asyncio
import contextlib
import io
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, Literal

import asyncpg
import msgspec

from mailbase import queue
from mailbase.audience import consents, import_rows
from mailbase.audience.consents import ConsentGiven
from mailbase.audience.csv_files import Records
from mailbase.audience.import_rows import STAGED, Batch, Judge
from mailbase.db import Connection, Pool
from mailbase.errors import Invalid, NotFound
from mailbase.queue import Job, Lease

KIND: Final = "import"
SLICE: Final = 1 << 20
FIRST_PART: Final = SLICE // 8  # PostgreSQL waits for the first lines only, not for the first slice
PATIENCE: Final = 6 * 3600.0  # one statement may merge millions of lines

OnConflict = Literal["error", "merge", "replace", "skip"]


class Plan(msgspec.Struct, kw_only=True):
    """What shall be done with the file; the job's payload."""

    on_conflict: OnConflict = "error"
    mapping: dict[str, str | None] = {}
    tags: list[str] = []
    interests: list[int] = []
    consent: ConsentGiven


class Result(msgspec.Struct):
    """How many lines became what; the four add up to the lines of the file that were not empty."""

    created: int
    updated: int
    skipped: int
    rejected: int


class Progress(msgspec.Struct):
    """How far a job is; its runner writes it down."""

    done: int = 0
    total: int | None = None


SAVE = """
INSERT INTO job_uploads (job_id, seq, data) VALUES ($1, $2, $3)
"""


async def save_slice(db: Connection, job_id: int, seq: int, data: bytes) -> None:
    """Store a part of the file."""
    await db.execute(SAVE, job_id, seq, data)


SLICE_OF = """
SELECT data FROM job_uploads WHERE job_id = $1 AND seq = $2
"""


INTERESTS = """
SELECT slug, id FROM interests
"""

ANYBODY_ERASED = """
SELECT EXISTS (SELECT FROM suppressions WHERE kind = 'erased')
"""

# Sorting in memory; the tags' index cleaned by autovacuum afterwards instead of by us in between; and each slice planned for the
# table as it is by then: a plan made while it was empty reads all of it for each line.
SETTINGS: Final = (
    "SET LOCAL work_mem = '64MB'",
    "SET LOCAL gin_pending_list_limit = '64MB'",
    "SET LOCAL plan_cache_mode = force_custom_plan",
)

STAGING = """
CREATE TEMPORARY TABLE staging (
    line bigint, email text, email_key text, domain text, erased text, attributes jsonb, tags text[], interests bigint[], locale text, timezone text
) ON COMMIT DROP
"""

# Two imports that touch the same people in another order would deadlock; they take turns.
TURN = """
SELECT pg_advisory_xact_lock(hashtextextended('mailbase audience', 0))
"""

# The lines are sorted by address and each address is there once. People are looked up one by one: a join would read all of them
# for each slice. The consent's line is the timeline's as well.
MERGE = """
WITH judged AS MATERIALIZED (
    SELECT staged.*, known.id AS subscriber_id,
           CASE WHEN known.xmin = pg_current_xact_id()::xid THEN 'duplicate'
                WHEN known.status IN ('unsubscribed', 'bounced', 'complained') THEN 'left'
                WHEN coalesce(by_email.id, by_domain.id, by_hash.id) IS NOT NULL THEN 'suppressed'
                WHEN known.id IS NULL THEN 'create'
                WHEN $2 IN ('merge', 'replace') THEN 'update'
                WHEN $2 = 'skip' THEN 'exists'
                ELSE 'conflict' END AS verdict
      FROM staging AS staged
      LEFT JOIN LATERAL (SELECT id, status, xmin FROM subscribers WHERE email_key = staged.email_key LIMIT 1) AS known ON true
      LEFT JOIN suppressions AS by_email ON by_email.value = staged.email_key
      LEFT JOIN suppressions AS by_domain ON by_domain.value = staged.domain
      LEFT JOIN suppressions AS by_hash ON by_hash.value = staged.erased
), created AS (
    INSERT INTO subscribers (email, email_key, domain, status, attributes, tags, interests, locale, timezone, source)
    SELECT email, email_key, domain, 'active', attributes, tags, interests, locale, timezone, 'import'
      FROM judged WHERE verdict = 'create'
    /* unless */
    RETURNING id
), updated AS (
    UPDATE subscribers
       SET status = CASE subscribers.status WHEN 'pending' THEN 'active' ELSE subscribers.status END,
           attributes = CASE $2 WHEN 'merge' THEN subscribers.attributes || judged.attributes ELSE judged.attributes END,
           tags = CASE WHEN $2 <> 'merge' THEN judged.tags WHEN subscribers.tags @> judged.tags THEN subscribers.tags
                  ELSE ARRAY(SELECT DISTINCT tag FROM unnest(subscribers.tags || judged.tags) AS tag ORDER BY tag) END,
           interests = CASE WHEN $2 <> 'merge' THEN judged.interests WHEN subscribers.interests @> judged.interests THEN subscribers.interests
                       ELSE ARRAY(SELECT DISTINCT i FROM unnest(subscribers.interests || judged.interests) AS i ORDER BY i) END,
           locale = CASE $2 WHEN 'merge' THEN coalesce(judged.locale, subscribers.locale) ELSE judged.locale END,
           timezone = CASE $2 WHEN 'merge' THEN coalesce(judged.timezone, subscribers.timezone) ELSE judged.timezone END,
           updated_at = now()
      FROM judged
     WHERE verdict = 'update' AND subscribers.id = judged.subscriber_id
       AND subscribers.status NOT IN ('unsubscribed', 'bounced', 'complained')
    RETURNING subscribers.id
), written AS (
    SELECT id, true AS new FROM created UNION ALL SELECT id, false FROM updated
), ledger AS (
    INSERT INTO consents (subscriber_id, purpose, text, text_hash, policy_url, source, page, ip, user_agent, at, import_id, import_created, imported_at)
    SELECT id, $3, $4, $5, $6, coalesce($7, 'import'), $8, $9::text::inet, $10, coalesce($11, now()), $1, new, now() FROM written
), rejected AS (
    INSERT INTO job_rejects (job_id, line, email, reason)
    SELECT $1, line, email, 'already a subscriber' FROM judged WHERE verdict = 'conflict'
)
SELECT (SELECT count(*) FROM created) AS created, (SELECT count(*) FROM updated) AS updated,
       count(*) FILTER (WHERE verdict = 'conflict') AS conflicts
  FROM judged
"""

# Somebody may sign up while their line is on its way. To be ready for that costs a tenth of every import, so only one to which it
# has happened is.
MERGE_AGAIN: Final = MERGE.replace("/* unless */", "ON CONFLICT (email_key) DO NOTHING")


async def run(pool: Pool, held: Lease, progress: Progress, erasure_key: bytes) -> None:
    """Do the import and write its result.

    Raises:
        Invalid: the file cannot be an import; the sentence is the job's error.
        LeaseLost: somebody else does it now, or it shall be cancelled.

    """
    try:
        await _run(pool, held, progress, erasure_key, MERGE)
    except asyncpg.UniqueViolationError:
        progress.done = 0
        await _run(pool, held, progress, erasure_key, MERGE_AGAIN)


async def _run(pool: Pool, held: Lease, progress: Progress, erasure_key: bytes, merge: str) -> None:
    plan = msgspec.convert(held.payload, Plan)
    result = Result(0, 0, 0, 0)
    async with pool.acquire() as db, db.transaction():
        for setting in SETTINGS:
            await db.execute(setting)
        await db.execute(STAGING)
        await db.execute(TURN, timeout=PATIENCE)
        interests = {row["slug"]: row["id"] for row in await db.fetch(INTERESTS)}
        reader = _Reader(plan, interests, erasure_key if await db.fetchval(ANYBODY_ERASED) else None)
        async with contextlib.aclosing(_judged(pool, held.id, reader)) as batches:
            batch = await anext(batches, None)
            while batch is not None:
                await _stage(db, held.id, batch, result)
                # The next lines are checked while PostgreSQL merges these, not while it is fed: both would want the interpreter.
                following = asyncio.ensure_future(anext(batches, None))
                try:
                    if batch.count:
                        merged = await _merge(db, held.id, plan, merge)
                        result.created += merged["created"]
                        result.updated += merged["updated"]
                        result.rejected += merged["conflicts"]
                        result.skipped += batch.count - merged["created"] - merged["updated"] - merged["conflicts"]
                    progress.done += batch.lines
                    batch = await following
                finally:
                    following.cancel()
                    await asyncio.wait({following})
        if not reader.started:
            raise Invalid("The file is empty.", code="empty_file")
        await queue.finish(db, held, result, done=progress.done)


class _Reader:
    """Turns slices of the file into lines that may come in and lines that may not; runs in a thread."""

    def __init__(self, plan: Plan, interests: dict[str, int], erasure_key: bytes | None) -> None:
        self._plan = plan
        self._interests = interests
        self._erasure_key = erasure_key
        self._records = Records()
        self._judge: Judge | None = None

    @property
    def started(self) -> bool:
        """Whether there was a header."""
        return self._judge is not None

    def read(self, data: bytes, *, final: bool) -> Batch:
        """Return what this slice completes."""
        records = self._records.feed(data, final=final)
        if self._judge is None and records:
            found = import_rows.columns(records[0][1], self._plan.mapping)
            self._judge = Judge(
                found, self._interests, self._erasure_key, tags=self._plan.tags, to_all=self._plan.interests
            )
            del records[0]
        return self._judge.sort(records) if self._judge else Batch()


async def _judged(pool: Pool, job_id: int, reader: _Reader) -> AsyncGenerator[Batch]:
    seq, final, part = 0, False, FIRST_PART
    while not final:
        async with pool.acquire() as db:
            data = await db.fetchval(SLICE_OF, job_id, seq) or b""
        final = not data
        for start in range(0, len(data), part) if data else (0,):
            yield await asyncio.to_thread(reader.read, data[start : start + part], final=final)
        part = SLICE
        seq += 1


async def _stage(db: Connection, job_id: int, batch: Batch, result: Result) -> None:
    """Hand PostgreSQL the lines that may come in, and write down those that may not."""
    result.skipped += batch.repeated
    if batch.rejected:
        lines = [(job_id, *reject) for reject in batch.rejected]
        await db.copy_records_to_table(
            "job_rejects", records=lines, columns=("job_id", "line", "email", "reason"), timeout=PATIENCE
        )
        result.rejected += len(batch.rejected)
    if batch.count:
        await db.copy_to_table("staging", source=io.BytesIO(batch.staged), columns=STAGED, timeout=PATIENCE)


async def _merge(db: Connection, job_id: int, plan: Plan, merge: str) -> Any:
    """Merge what is staged; of later lines with an address this transaction wrote already, the row's ``xmin`` tells."""
    consent = plan.consent
    words = consents.version(consent.text, consent.policy_url)
    merged = await db.fetchrow(
        merge, job_id, plan.on_conflict, consent.purpose, consent.text, words, consent.policy_url, consent.source,
        consent.page, consent.ip, consent.user_agent, consent.at, timeout=PATIENCE,
    )  # fmt: skip
    await db.execute("TRUNCATE staging")
    return merged


async def get(db: Connection, import_id: int) -> Job:
    """Return the job of an import.

    Raises:
        NotFound: there is none of this id.

    """
    job = await queue.get(db, import_id)
    if job.kind != KIND:
        raise NotFound("There is no such import.")
    return job


REJECTS = """
SELECT line, email, reason FROM job_rejects WHERE job_id = $1 AND line > $2 ORDER BY line LIMIT $3
"""


async def rejects(db: Connection, import_id: int, *, after: int, limit: int) -> Sequence[tuple[int, str | None, str]]:
    """Return rejected lines in the file's order."""
    return [(row["line"], row["email"], row["reason"]) for row in await db.fetch(REJECTS, import_id, after, limit)]
