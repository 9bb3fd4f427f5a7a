"""A process that is frozen in the middle of a transaction: the rows it holds are not lost to the others."""

import asyncio
import time

import pytest

from mailbase.db import CONNECTION_ERRORS, open_pool


async def test_a_frozen_transaction_gives_its_rows_back(db, database_url):
    """A worker's transaction that asks for nothing is ended by PostgreSQL; the worker takes it for a lost connection."""
    await db.execute("INSERT INTO egress (name) VALUES ('relay')")
    async with open_pool(database_url, silence=0.5) as frozen, frozen.acquire() as silent:
        began = time.monotonic()
        transaction = silent.transaction()
        await transaction.start()
        await silent.execute("UPDATE egress SET failures = 1")
        await asyncio.wait_for(db.execute("UPDATE egress SET failures = 2"), 10)
        assert time.monotonic() - began >= 0.4
        with pytest.raises(CONNECTION_ERRORS):
            await silent.execute("UPDATE egress SET failures = 3")
    assert await db.fetchval("SELECT failures FROM egress") == 2
