"""Every test starts with empty form buckets."""

import pytest
from redis import Redis

from optin.optin_kit import last_link, make_form, person, submit


@pytest.fixture(autouse=True)
def _empty_buckets(redis_url):
    with Redis.from_url(redis_url) as redis:
        for key in redis.scan_iter("mailbase:limit:*"):
            redis.delete(key)


@pytest.fixture
async def reader(client, anonymous, db, app):
    """An active subscriber with a campaign's delivery, and the tokens of its letter."""
    form = await make_form(client)
    await submit(anonymous, form)
    await anonymous.post(await last_link(db))
    subscriber = (await person(client))["id"]
    await client.post("/v1/domains", json={"name": "news.example.com"})
    domain = await db.fetchval(
        "INSERT INTO domains (name) VALUES ('news.example.com') ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id"
    )
    campaign = await db.fetchval(
        "INSERT INTO campaigns (name, domain_id, from_email, subject, audience, status) VALUES ('c', $1, 'a@news.example.com', 's', '{}', 'sent') RETURNING id",
        domain,
    )
    delivery = await db.fetchval(
        "INSERT INTO deliveries (campaign_id, subscriber_id, state) VALUES ($1, $2, 'sent') RETURNING id",
        campaign,
        subscriber,
    )
    sign = app.state.tokens.sign
    return {
        "u": f"/u/{sign('unsubscribe', subscriber, delivery)}",
        "p": f"/p/{sign('preferences', subscriber, delivery)}",
        "campaign": campaign,
        "id": subscriber,
        "delivery": delivery,
    }
