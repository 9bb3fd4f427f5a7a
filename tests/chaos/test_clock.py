"""The database's clock jumps: nothing is sent twice for it, and nothing stays where it is. (Caps: the warm-up's simulation.)"""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from mailbase.db import open_pool
from mailbase.sending.deliveries import leases, marks, records
from mailbase.sending.deliveries.marks import Pair
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.dispatch.sweep import Clock
from mailbase.sending.outcomes import Outcome
from mailbase.sending.relays import egress
from sending.sending_kit import add_campaign, add_domain, add_people, assert_counters, states
from warmup_simulator import Simulator

START = datetime.now(UTC)
HOUR = timedelta(hours=1)


async def held(db):
    """Return a campaign of four letters, two of them marked, two leased, all by one worker."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 4))
    await db.execute("UPDATE deliveries SET due_at = $1", START)
    soon = START + timedelta(seconds=5)
    fence, letters = await leases.lease_campaign(db, campaign_id, 4, now=soon)
    assert len(letters) == 4
    marked = await mark(db, (campaign_id, domain_id), fence, letters[:2], soon)
    assert len(marked) == 2
    return campaign_id, domain_id, fence, letters


async def mark(db, campaign, fence, letters, now):
    campaign_id, domain_id = campaign
    pairs = [Pair(letter.id, letter.email) for letter in letters]
    found = await marks.mark_campaign(
        db, campaign_id, domain_id, fence, pairs, egress="relay", to_outbox=False, slot=0, now=now
    )
    return found.ids


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["an hour on", "an hour back"])
async def test_a_jump_takes_letters_from_the_living_and_the_dead_alike(db, jump):
    """After a jump leases of before are taken back at once; their holder can mark nothing more, and its answers still count."""
    campaign_id, domain_id, fence, letters = await held(db)
    now = START + jump
    assert await leases.expire(db, slot=1, now=now) == 4
    assert await states(db, campaign_id) == {"unknown": 2, "queued": 2}
    assert await mark(db, (campaign_id, domain_id), fence, letters[2:], now) == set()
    results = [
        (
            Handed(one.id, fence, campaign_id, domain_id, one.subscriber_id, "other", one.email, None, 1, None),
            Outcome(one.id, "sent", 250, None, "ok", "content"),
        )
        for one in letters[:2]
    ]
    assert await records.record(db, results, slot=0, random=Random(1), now=now) == 2
    await leases.catch_up(db, now=now)
    _, again = await leases.lease_campaign(db, campaign_id, 4, now=now)
    assert {one.id for one in again} == {one.id for one in letters[2:]}
    assert await states(db, campaign_id) == {"sent": 2, "leased": 2}
    await assert_counters(db, campaign_id)


async def test_fresh_letters_do_not_wait_for_the_hour_to_come_again(db):
    """Put back an hour, the clock says that letters of just now are due in an hour; they leave all the same, deferred ones wait."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 5))
    now = START - HOUR
    await db.execute(
        "UPDATE deliveries SET state = 'deferred', due_at = $1 WHERE id = (SELECT min(id) FROM deliveries)",
        START + HOUR,
    )
    assert await leases.catch_up(db, now=now) == 4
    assert await leases.catch_up(db, now=now) == 0
    _, letters = await leases.lease_campaign(db, campaign_id, 9, now=now)
    assert len(letters) == 4


async def test_a_stopped_relay_is_asked_again_after_a_jump_back(db):
    """A stop of two seconds does not become one of an hour."""
    await egress.stop(db, "relay", "connect: refused", now=START)
    assert (await egress.get(db, "relay", now=START + timedelta(seconds=1))).stopped
    assert not (await egress.get(db, "relay", now=START - HOUR)).stopped


@pytest.mark.parametrize("night", ["2026-03-29", "2026-10-25"], ids=["an hour less", "an hour more"])
async def test_summer_time_begins_and_ends_and_nothing_notices(db, database_url, night):
    """In a database that lives in Berlin the night of 23 or 25 hours changes no cap, keeps no letter and judges each day once."""
    name = await db.fetchval("SELECT current_database()")
    await db.execute(f"ALTER DATABASE {name} SET timezone = 'Europe/Berlin'")
    midnight = datetime.fromisoformat(night).replace(tzinfo=UTC)
    async with open_pool(database_url, size=4) as pool:
        async with pool.acquire() as own:
            assert await own.fetchval("SHOW timezone") == "UTC"
        domain_id = await add_domain(db, preset="custom", schedule=[20, 30, 45], rules={"active_hours": 1})
        campaign_id = await add_campaign(db, domain_id, await add_people(db, 50))
        played = Simulator(pool, domain_id, workers=1)
        played.now = midnight - timedelta(hours=2)
        await db.execute("UPDATE deliveries SET due_at = $1", played.now)
        await played.run(midnight + timedelta(hours=25))
        played.check()
    assert [n for _, n in sorted(played.by_day().items())] == [20, 30]
    assert await states(db, campaign_id) == {"sent": 50}
    advanced = await db.fetch("SELECT at FROM warmup_history WHERE provider = '*' AND decision = 'advance' ORDER BY id")
    assert [row["at"].astimezone(UTC).date() for row in advanced] == [midnight.date(), midnight.date() + HOUR * 24]


@pytest.mark.parametrize(
    ("said", "passed", "back"),
    [(3.0, 3.0, False), (-3597.0, 3.0, True), (3603.0, 3.0, False), (3.0, 3603.0, True), (1.0, 31.0, False)],
)
def test_a_clock_put_back_is_noticed(said, passed, back):
    """What the database's clock has gone on by is compared with what has passed; going on too far, or a little, is nothing."""
    clock = Clock()
    assert not clock.put_back(START, 100.0)
    assert clock.put_back(START + timedelta(seconds=said), 100.0 + passed) is back
