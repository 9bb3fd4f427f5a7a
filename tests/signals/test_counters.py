"""The slots of old hours are put together, and no number changes by it."""

from datetime import UTC, datetime

from mailbase.campaigns import statistics
from mailbase.sending.deliveries import counters

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)
HOUR = 3600


async def campaign(db):
    domain = await db.fetchval("INSERT INTO domains (name) VALUES ('shop.example') RETURNING id")
    return await db.fetchval(
        "INSERT INTO campaigns (name, status, domain_id, from_email, subject, audience) VALUES ('n', 'sent', $1, 'a@shop.example', 's', '{}') RETURNING id",
        domain,
    )


async def test_hours_that_are_over_become_one_row_each(db):
    """After two days an hour's slots are one row with their sum; younger hours and everything that is no hour stay as they were."""
    found = await campaign(db)
    now = int(NOW.timestamp())
    old, young = f"hour.{now - 50 * HOUR}", f"hour.{now - 47 * HOUR}"
    for slot in (0, 3, 7):
        keys = [f"{old}.opens", f"{young}.opens", "open.total"]
        await counters.add(db, [(found, key, 10 + slot) for key in keys], slot=slot)
    await counters.add(db, [(found, f"{old}.clicks", 5)], slot=9)
    before = await statistics.of_campaign(db, found)

    assert await counters.gather(db, NOW) == 2
    assert await counters.gather(db, NOW) == 0, "there is nothing left to do"

    rows = await db.fetch("SELECT key, slot, n FROM counters WHERE campaign_id = $1 AND key LIKE 'hour.%'", found)
    assert sorted(tuple(row) for row in rows) == sorted(
        [(f"{old}.opens", 0, 40), (f"{old}.clicks", 0, 5), *((f"{young}.opens", slot, 10 + slot) for slot in (0, 3, 7))]
    )
    assert await statistics.of_campaign(db, found) == before
    assert (before.opens.total, [(hour.opens, hour.clicks) for hour in before.timeline]) == (40, [(40, 5), (40, 0)])


async def test_a_late_count_of_an_old_hour_is_kept(db):
    """What is added to an hour after it was gathered counts, and is gathered in turn."""
    found = await campaign(db)
    key = f"hour.{int(NOW.timestamp()) - 100 * HOUR}.clicks"
    for slot in (1, 1, 2):
        await counters.add(db, [(found, key, 4)], slot=slot)
        await counters.gather(db, NOW)
    assert [tuple(row) for row in await db.fetch("SELECT slot, n FROM counters WHERE key = $1", key)] == [(0, 12)]
