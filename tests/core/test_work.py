"""One request, one transaction."""

import asyncio

import pytest

from mailbase.db import Pool
from mailbase.http import Work


async def test_nothing_is_opened_unasked(pool: Pool):
    """A request that asks for no database takes no connection, and ending twice is fine."""
    work = Work(pool)
    await work.finish(commit=True)
    await work.finish(commit=False)
    assert pool.get_idle_size() == pool.get_size()


@pytest.mark.parametrize("commit", [True, False])
async def test_what_follows_the_commit_waits_for_it(pool: Pool, commit: bool):
    """A call for after the commit sees what was written; after a rollback it is not made."""
    seen: list[int] = []

    async def look() -> None:
        seen.append(await pool.fetchval("SELECT pending_days FROM settings"))

    work = Work(pool)
    db = await work.connection()
    assert await work.connection() is db
    await db.execute("UPDATE settings SET pending_days = 99")
    work.after_commit(look)
    assert seen == []
    await work.finish(commit=commit)
    assert seen == ([99] if commit else [])
    assert await pool.fetchval("SELECT pending_days FROM settings") == (99 if commit else 30)


async def test_a_cancelled_start_gives_the_connection_back(pool: Pool):
    """A request cancelled at any moment while its transaction begins leaves no connection behind."""
    for turns in range(12):
        work = Work(pool)
        begun = asyncio.create_task(work.connection())
        for _ in range(turns):
            await asyncio.sleep(0)
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)
        await work.finish(commit=False)
    assert pool.get_idle_size() == pool.get_size()
