"""Statistics and bounces over HTTP."""

import pytest

from mailbase.campaigns.statistics import assemble
from mailbase.signals import batches
from signals.signals_kit import LINKS, NOON, hit, make_campaign

EXAMPLE = {
    "delivery.sent": 985, "delivery.failed": 5, "delivery.bounced": 10, "delivery.queued": 0,
    "bounce.hard": 6, "bounce.soft": 3, "bounce.block": 1,
    "open.total": 700, "open.unique": 410, "open.human": 300, "open.machine": 150,
    "click.total": 120, "click.unique": 90, "click.human": 80, "click.machine": 14,
    "unsubscribes": 3, "complaints": 1,
    "link.1.clicks": 60, "link.1.unique": 50, "link.1.human": 45,
    "hour.1769860800.opens": 40, "hour.1769860800.clicks": 9, "hour.1769857200.opens": 0,
    "provider.google.sent": 400, "provider.google.bounced": 1, "provider.google.deferred": 0, "provider.gone.deferred": 0,
}  # fmt: skip


async def test_contract(client, db):
    """The JSON is the contract's, name by name and figure by figure."""
    campaign_id, _ = await make_campaign(db, letters=0, links=["https://shop.example/one"])
    await db.execute("UPDATE campaigns SET status = 'sent'")
    await db.executemany(
        "INSERT INTO counters VALUES ($1, $2, $3, $4)",
        [(campaign_id, key, slot, n - slot * 2) for key, n in EXAMPLE.items() for slot in (0,)],
    )
    await db.executemany(
        "INSERT INTO counters VALUES ($1, $2, $3, $4)",
        [(campaign_id, key, 1, n) for key, n in [("open.total", 1), ("link.1.clicks", 0)]],
    )
    await db.execute("UPDATE counters SET n = n - 1 WHERE key = 'open.total' AND slot = 0")
    answer = await client.get(f"/v1/campaigns/{campaign_id}/stats")
    assert answer.json() == {
        "campaign_id": campaign_id, "status": "sent", "recipients": 1000,
        "deliveries": {"queued": 0, "sent": 985, "deferred": 0, "failed": 5, "bounced": 10, "unknown": 0, "skipped": 0},
        "bounces": {"hard": 6, "soft": 3, "block": 1},
        "opens": {"total": 700, "unique": 410, "unique_human": 300, "unique_machine": 150},
        "clicks": {"total": 120, "unique": 90, "unique_human": 80, "unique_machine": 14},
        "unsubscribes": 3, "complaints": 1,
        "rates": {"delivery": 0.985, "open": 0.305, "click": 0.081, "click_to_open": 0.267, "unsubscribe": 0.003, "bounce": 0.01, "complaint": 0.001},
        "links": [{"url": "https://shop.example/one", "clicks": 60, "unique": 50, "unique_human": 45}],
        "timeline": [{"at": "2026-01-31T12:00:00Z", "opens": 40, "clicks": 9}],
        "providers": [{"provider": "google", "sent": 400, "bounced": 1, "deferred": 0}],
    }  # fmt: skip


def test_nothing_yet():
    """Without any letter every figure and every rate is 0, never a division by it."""
    found = assemble(1, "draft", {}, [])
    assert (found.recipients, found.rates.open, found.rates.delivery, found.links, found.timeline) == (
        0,
        0.0,
        0.0,
        [],
        [],
    )


async def test_from_hits(client, db):
    """What the recorder wrote is what the statistics say; links nobody clicked are listed too."""
    campaign_id, letters = await make_campaign(db)
    for batch in ([hit(letters[0]), hit(letters[1])], [hit(letters[0], 2)]):
        async with db.transaction():
            await batches.write(db, batch, now=NOON, clock=lambda: 0.0, slot=3)
    found = (await client.get(f"/v1/campaigns/{campaign_id}/stats")).json()
    assert found["opens"] == {"total": 2, "unique": 2, "unique_human": 2, "unique_machine": 0}
    assert [link["url"] for link in found["links"]] == LINKS
    assert [link["unique_human"] for link in found["links"]] == [0, 1, 0, 0]
    assert found["timeline"] == [{"at": "2026-03-14T12:00:00Z", "opens": 2, "clicks": 1}]


async def test_refusals(client, anonymous):
    """No such campaign is 404, no key 401, an unknown parameter 400."""
    assert (await client.get("/v1/campaigns/4711/stats")).status_code == 404
    assert (await anonymous.get("/v1/campaigns/4711/stats")).status_code == 401
    assert (await client.get("/v1/campaigns/4711/stats?x=1")).status_code == 400
    soggy = await client.get("/v1/bounces?class=soggy")
    assert (soggy.status_code, soggy.json()["errors"][0]["field"]) == (422, "class")


@pytest.fixture
async def refused(db):
    """Three bounces of one campaign, one of another."""
    campaign_id, letters = await make_campaign(db)
    other, _ = await make_campaign(db)
    for number, (campaign, class_) in enumerate(
        [(campaign_id, "hard"), (campaign_id, "soft"), (campaign_id, "hard"), (other, "block")]
    ):
        await db.execute(
            "INSERT INTO bounces (delivery_id, campaign_id, subscriber_id, email, class, reason, status, reply, reporting_mta, at) "
            "VALUES ($1, $2, 5, 'a@reader.example', $3, 'user_unknown', '5.1.1', '550 5.1.1 no', 'mx.reader.example', $4)",
            letters[0] + number, campaign, class_, NOON,
        )  # fmt: skip
    return campaign_id, letters[0]


async def test_bounces(client, refused):
    """Bounces are listed newest first, by campaign and by class, page by page."""
    campaign_id, letter = refused
    hard = (await client.get(f"/v1/bounces?campaign_id={campaign_id}&class=hard&include_total=true")).json()
    assert (hard["total"], [one["class"] for one in hard["data"]], hard["next_cursor"]) == (2, ["hard", "hard"], None)
    assert hard["data"][1] == {
        "id": hard["data"][1]["id"], "delivery_id": letter, "campaign_id": campaign_id, "subscriber_id": 5, "email": "a@reader.example", "class": "hard",
        "reason": "user_unknown", "status": "5.1.1", "reply": "550 5.1.1 no", "reporting_mta": "mx.reader.example", "at": "2026-03-14T12:00:00Z",
    }  # fmt: skip
    first = (await client.get("/v1/bounces?limit=3")).json()
    second = (await client.get(f"/v1/bounces?limit=3&cursor={first['next_cursor']}")).json()
    ids = [one["id"] for one in first["data"] + second["data"]]
    assert ids == sorted(ids, reverse=True)
    assert (len(ids), second["next_cursor"]) == (4, None)
