"""A sending domain, some people, and a campaign to write to them."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mailbase.audience.selection import Audience
from mailbase.campaigns import campaigns
from mailbase.campaigns.campaigns import Campaign
from mailbase.campaigns.drafts import Draft, From
from mailbase.db import Connection

NewPeople = Callable[..., Awaitable[list[int]]]
NewCampaign = Callable[..., Awaitable[Campaign]]


@pytest.fixture
async def domain(db: Connection) -> int:
    """The verified sending domain ``shop.example.com``."""
    return await db.fetchval("INSERT INTO domains (name, status) VALUES ('shop.example.com', 'verified') RETURNING id")


@pytest.fixture
def people(db: Connection) -> NewPeople:
    """Add ``n`` subscribers (``status``, ``tags``, ``interests`` as ids) and return their ids."""

    async def add(
        n: int, *, status: str = "active", tags: list[str] | None = None, interests: list[int] | None = None
    ) -> list[int]:
        rows = await db.fetch(
            """
            INSERT INTO subscribers (email, email_key, domain, status, tags, interests)
            SELECT address, address, 'mail.example.org', $2, $3, $4
            FROM (SELECT 'p' || i || '-' || gen_random_uuid() || '@mail.example.org' AS address FROM generate_series(1, $1) AS i) AS new
            RETURNING id
            """,
            n,
            status,
            tags or [],
            interests or [],
        )
        return [row["id"] for row in rows]

    return add


@pytest.fixture
def written(db: Connection, domain: int) -> NewCampaign:
    """Write a campaign to everybody; any field may be given."""
    assert domain

    async def write(**fields: Any) -> Campaign:
        draft = {
            "name": "News",
            "from_": From(name="Shop", email="news@shop.example.com"),
            "subject": "News of {{ subscriber.email }}",
            "html": "<html><body><p>Hello</p><a href='https://shop.example.com/a'>A</a></body></html>",
            "audience": Audience(all=True),
        }
        return await campaigns.create(db, Draft(**(draft | fields)))

    return write
