"""Submissions while things break: who was told yes is stored, once; who was not may ask again."""

import asyncio

import httpx
import pytest

from api_process import KEY, free_port, home, ready, start, until
from mailbase import db as database
from optin.optin_kit import ENTRY, JSON, make_form
from web.test_attacks import empty_buckets

__all__ = ["home", "start"]  # fixtures

PEOPLE = 240
VISITORS = 12

STORED = """
SELECT (SELECT count(*) FROM subscribers) AS people, (SELECT count(*) FROM messages) AS letters, (SELECT count(DISTINCT email_key) FROM messages) AS readers,
    (SELECT count(*) FROM deliveries) AS deliveries, (SELECT count(*) FROM confirmations) AS confirmations,
    (SELECT count(*) FROM submissions WHERE outcome = 'accepted') AS accepted,
    (SELECT sum(n) FROM form_counts WHERE dimension = 'page' AND what = 'submit') AS counted
"""

BLOCKED = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.mark.timeout(120)
async def test_what_was_answered_is_stored_once(start, database_url, redis_url):
    """A killed API, a PostgreSQL that goes away and comes back, an emptied Redis: in the middle of submissions."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    process = start(port, MAILBASE_TRUSTED_PROXIES="127.0.0.1")
    until(lambda: ready(port), "the API is ready")
    async with httpx.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {KEY}"}) as owner:
        path = f"/f/{(await make_form(owner))['key']}"
    waiting = iter(range(PEOPLE))
    statuses: set[int] = set()
    answered: list[int] = []
    moved = asyncio.Event()

    async def visit():
        async with httpx.AsyncClient(base_url=base, timeout=30) as visitor:
            for n in waiting:
                data = {**ENTRY, "email": f"person@shop-{n}.example"}
                headers = {**JSON, "X-Forwarded-For": f"198.51.{n // 250}.{n % 250}"}
                while (status := await ask(visitor, data, headers)) != 202:
                    statuses.add(status)
                    await asyncio.sleep(0.2)
                answered.append(n)
                moved.set()

    async def ask(visitor, data, headers):
        try:
            return (await visitor.post(path, data=data, headers=headers)).status_code
        except httpx.TransportError:
            return 0

    async def come_to(share):
        while len(answered) < PEOPLE * share:
            moved.clear()
            await moved.wait()

    db = await database.connect(database_url)
    visits = asyncio.gather(*(visit() for _ in range(VISITORS)))
    try:
        await come_to(0.2)
        process.kill()
        process.wait()
        start(port, MAILBASE_TRUSTED_PROXIES="127.0.0.1")
        await come_to(0.5)
        async with db.transaction():  # what is being stored waits for this, and is cut off
            await db.execute("LOCK TABLE subscribers IN EXCLUSIVE MODE")
            while not await db.fetchval(BLOCKED):
                pass
            await db.execute(CUT)
        await come_to(0.8)
        empty_buckets(redis_url)
        await visits
        assert set((await db.fetchrow(STORED)).values()) == {PEOPLE}
    finally:
        visits.cancel()
        await db.close()
    assert statuses == {0, 503}
