"""Bulk changes: tags and interests of everybody a filter finds, or their erasure, as a job in batches.

Each batch commits with the place it came to, so a job whose runner died goes on where it was, and nobody is counted twice.
Cancelling stops between two batches; what was done stays done.
"""

from typing import Any, Final

import msgspec

from mailbase import queue
from mailbase.audience import erasure
from mailbase.audience.imports import PATIENCE, TURN, Progress
from mailbase.audience.subscribers import Filter
from mailbase.db import Connection, Pool
from mailbase.queue import Job, Lease

KIND: Final = "bulk"
BATCH: Final = 1000


class Change(msgspec.Struct, kw_only=True):
    """What shall be done to whom; the job's payload. ``upper`` freezes the selection: nobody who comes later is in it."""

    which: Filter
    ids: list[int] | None = None
    add_tags: list[str] = []
    remove_tags: list[str] = []
    add_interests: list[int] = []
    remove_interests: list[int] = []
    delete: bool = False
    upper: int = 0
    after: int = 0
    changed: int = 0


class Result(msgspec.Struct):
    """How many people the filter found, and how many of them are different now."""

    matched: int
    changed: int


UPPER = """
SELECT coalesce(max(id), 0) FROM subscribers
"""

COUNT = """
SELECT count(*) FROM subscribers
 WHERE ($1::text IS NULL OR status = $1) AND ($2::text[] IS NULL OR tags @> $2) AND ($3::bigint[] IS NULL OR interests @> $3)
   AND ($4::text IS NULL OR email_key LIKE $4) AND ($5::bigint[] IS NULL OR id = ANY ($5)) AND id <= $6
"""


async def ask(db: Connection, change: Change) -> Job:
    """Store the job; the selection is everybody who is there now."""
    change.upper = await db.fetchval(UPPER)
    total = await db.fetchval(COUNT, *change.which.arguments(), change.ids, change.upper)
    return await queue.create(db, KIND, msgspec.to_builtins(change), total=total)


NEXT = """
SELECT id, email, email_key FROM subscribers
 WHERE ($1::text IS NULL OR status = $1) AND ($2::text[] IS NULL OR tags @> $2) AND ($3::bigint[] IS NULL OR interests @> $3)
   AND ($4::text IS NULL OR email_key LIKE $4) AND ($5::bigint[] IS NULL OR id = ANY ($5)) AND id <= $6 AND id > $7
 ORDER BY id LIMIT $8 FOR UPDATE
"""

APPLY = """
WITH wanted AS (
    SELECT id,
           ARRAY(SELECT DISTINCT tag FROM unnest(tags || $2::text[]) AS tag WHERE tag <> ALL ($3::text[]) ORDER BY tag) AS tags,
           ARRAY(SELECT DISTINCT i FROM unnest(interests || $4::bigint[]) AS i WHERE i <> ALL ($5::bigint[]) ORDER BY i) AS interests
      FROM subscribers WHERE id = ANY ($1::bigint[])
), changed AS (
    UPDATE subscribers SET tags = wanted.tags, interests = wanted.interests, updated_at = now()
      FROM wanted
     WHERE subscribers.id = wanted.id AND cardinality(wanted.tags) <= 64
       AND (subscribers.tags IS DISTINCT FROM wanted.tags OR subscribers.interests IS DISTINCT FROM wanted.interests)
    RETURNING subscribers.id
), noted AS (
    INSERT INTO subscriber_events (subscriber_id, kind, data) SELECT id, 'updated', jsonb_build_object('source', 'bulk', 'job_id', $6::bigint) FROM changed
)
SELECT count(*) FROM changed
"""


async def run(pool: Pool, held: Lease, progress: Progress, erasure_key: bytes) -> None:
    """Do the change batch by batch and write the result.

    Raises:
        LeaseLost: somebody else does it now, or it shall be cancelled.

    """
    change = msgspec.convert(held.payload, Change)
    progress.done = int(held.payload.get("done", 0))
    more = True
    while more:
        async with pool.acquire() as db, db.transaction():
            await db.execute(TURN, timeout=PATIENCE)
            rows = await db.fetch(NEXT, *change.which.arguments(), change.ids, change.upper, change.after, BATCH)
            more = len(rows) == BATCH
            change.changed += await _apply(db, held.id, change, rows, erasure_key)
            if rows:
                change.after = rows[-1]["id"]
            done = progress.done + len(rows)
            if more:
                await queue.keep_place(db, held, {**msgspec.to_builtins(change), "done": done}, done=done)
            else:
                await queue.finish(db, held, Result(done, change.changed), done=done)
        progress.done = done


async def _apply(db: Connection, job_id: int, change: Change, rows: list[Any], erasure_key: bytes) -> int:
    ids = [row["id"] for row in rows]
    if not ids:
        return 0
    if change.delete:
        await erasure.erase_many(db, ids, [(row["email"], row["email_key"]) for row in rows], erasure_key)
        return len(ids)
    changed: int = await db.fetchval(
        APPLY, ids, change.add_tags, change.remove_tags, change.add_interests, change.remove_interests, job_id
    )
    return changed
