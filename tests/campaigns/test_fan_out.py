"""What campaigns do by themselves: fan out in slices, start on time, expire, finish; killed anywhere, by many at once."""

import asyncio
from datetime import timedelta

import pytest

from mailbase import db as database
from mailbase.audience.selection import Audience
from mailbase.campaigns import fan_out, launch, lifecycle
from mailbase.sending.deliveries import counters, deliveries
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import warmup

HOLD = """
INSERT INTO claims (fence, campaign_id, ids, until) VALUES (nextval('fences'), $1, ARRAY[$2::bigint], now() + interval '15 seconds')
"""


async def run(pool, **options):
    """Step until there is nothing more to do."""
    for _ in range(200):
        if not await fan_out.step(pool, **options):
            return
    raise AssertionError("the fan-out does not come to rest")


async def states_of(db, campaign):
    """Count the campaign's deliveries by state and reason."""
    rows = await db.fetch(
        "SELECT state::text, reason, count(*) FROM deliveries WHERE campaign_id = $1 GROUP BY 1, 2", campaign.id
    )
    return {(row["state"], row["reason"]): row["count"] for row in rows}


async def counted(db, campaign):
    """Read the campaign's delivery counters, those that are not zero."""
    rows = await db.fetch(
        "SELECT key, sum(n)::bigint AS n FROM counters WHERE campaign_id = $1 AND key LIKE 'delivery.%' GROUP BY key",
        campaign.id,
    )
    return {row["key"].removeprefix("delivery."): row["n"] for row in rows if row["n"]}


async def finish_all(db, campaign, state="sent"):
    """Play the engine: hand over whatever is queued."""
    rows = await db.fetch(
        "UPDATE deliveries SET state = $2, sent_at = now() WHERE campaign_id = $1 AND state IN ('queued', 'deferred') RETURNING 1",
        campaign.id,
        state,
    )
    await counters.add(db, deliveries.moved(campaign.id, "other", "queued", state, len(rows)), slot=0)


async def status_of(db, campaign):
    """Read the campaign's status."""
    return await db.fetchval("SELECT status FROM campaigns WHERE id = $1", campaign.id)


async def test_everyone_gets_exactly_one_delivery_in_slices(pool, db, settings, people, written):
    """A campaign is fanned out slice by slice, and its counters say so."""
    ids = await people(25)
    campaign = await launch.send(db, (await written()).id, at=None, settings=settings)
    assert campaign.status == "sending"
    assert await fan_out.step(pool, size=10)
    assert await states_of(db, campaign) == {("queued", None): 10}
    await run(pool, size=10)
    rows = await db.fetch("SELECT subscriber_id FROM deliveries WHERE campaign_id = $1 ORDER BY 1", campaign.id)
    assert [row["subscriber_id"] for row in rows] == ids
    assert await counted(db, campaign) == {"queued": 25}
    assert await status_of(db, campaign) == "sending"


async def test_many_workers_at_once_double_nobody(pool, db, settings, people, written):
    """Eight workers fan out three campaigns at the same time: each person has one delivery of each."""
    await people(60)
    launched = [await launch.send(db, (await written()).id, at=None, settings=settings) for _ in range(3)]
    await asyncio.gather(*(run(pool, size=7) for _ in range(8)))
    for campaign in launched:
        assert await states_of(db, campaign) == {("queued", None): 60}
        assert await counted(db, campaign) == {"queued": 60}
        assert await db.fetchval("SELECT fanned_out FROM campaigns WHERE id = $1", campaign.id)


async def test_a_worker_killed_in_a_slice_leaves_all_of_it_or_nothing(db, settings, people, written):
    """Connections are cut again and again during the fan-out; in the end there is one delivery a person and the counters agree."""
    await people(300)
    campaign = await launch.send(db, (await written()).id, at=None, settings=settings)

    async def killer():
        while True:
            await db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%deliveries%' AND state <> 'idle'"
            )
            await asyncio.sleep(0)

    async with database.open_pool(settings.database_url, size=2) as victim:
        killing = asyncio.create_task(killer())
        done = cut = 0
        async with asyncio.timeout(30):
            while not done:
                try:
                    done = not await fan_out.step(victim, size=5)
                except database.CONNECTION_ERRORS:
                    cut += 1
                if cut >= 10:
                    killing.cancel()
                    await asyncio.gather(killing, return_exceptions=True)
    killing.cancel()
    await asyncio.gather(killing, return_exceptions=True)
    assert cut
    assert await states_of(db, campaign) == {("queued", None): 300}
    assert await counted(db, campaign) == {"queued": 300}


async def test_the_audience_is_frozen_when_it_is_due(pool, db, settings, people, written):
    """Content is frozen at `send`, the audience at its time: who joins before is in, who joins after is not."""
    await people(2)
    soon = await db.fetchval("SELECT now()") + timedelta(hours=1)
    campaign = await launch.send(db, (await written()).id, at=soon, settings=settings)
    assert (campaign.status, campaign.scheduled_at) == ("scheduled", soon)
    await run(pool)
    assert await status_of(db, campaign) == "scheduled"
    await people(3)
    await fan_out.step(pool, now=soon + timedelta(seconds=1), size=2)
    await people(4)
    await run(pool)
    assert await states_of(db, campaign) == {("queued", None): 5}


async def test_a_campaign_is_sent_once_every_delivery_is_final(pool, db, settings, people, written):
    """Sending, until the last letter has its fate; a leased one counts as open."""
    await people(3)
    campaign = await launch.send(db, (await written()).id, at=None, settings=settings)
    await run(pool)
    held = await db.fetchval("SELECT min(id) FROM deliveries")
    await db.execute(HOLD, campaign.id, held)
    await finish_all(db, campaign)
    await db.execute("UPDATE deliveries SET state = 'queued' WHERE id = $1", held)
    await run(pool)
    assert await status_of(db, campaign) == "sending"
    await db.execute("UPDATE deliveries SET state = 'sent' WHERE id = $1", held)
    await run(pool)
    row = await db.fetchrow("SELECT status, finished_at FROM campaigns WHERE id = $1", campaign.id)
    assert row["status"] == "sent"
    assert row["finished_at"] is not None


async def test_a_scheduled_campaign_whose_people_left_is_sent_to_nobody(pool, db, settings, people, written):
    """An audience that is empty when it is due ends as sent, with no deliveries."""
    await people(1)
    soon = await db.fetchval("SELECT now()") + timedelta(hours=1)
    campaign = await launch.send(db, (await written()).id, at=soon, settings=settings)
    await db.execute("UPDATE subscribers SET status = 'unsubscribed'")
    await run(pool, now=soon)
    assert await status_of(db, campaign) == "sent"
    assert await states_of(db, campaign) == {}


async def test_cancelling_skips_what_has_not_gone_out(pool, db, settings, people, written):
    """Cancelled: waiting letters are skipped in slices, sent ones stay, counters agree, nothing is fanned out any more."""
    await people(30)
    campaign = await launch.send(db, (await written()).id, at=None, settings=settings)
    for _ in range(2):
        await fan_out.step(pool, size=10)
    await db.execute(HOLD, campaign.id, await db.fetchval("SELECT min(id) FROM deliveries"))
    async with db.transaction():
        cancelled = await lifecycle.cancel(db, campaign.id)
    assert (cancelled.status, cancelled.finished_at) == ("cancelled", None)
    await db.execute("DELETE FROM claims")
    await run(pool, size=10)
    assert await states_of(db, campaign) == {("skipped", "cancelled"): 20}
    assert await counted(db, campaign) == {"skipped": 20}
    row = await db.fetchrow("SELECT status, finished_at FROM campaigns WHERE id = $1", campaign.id)
    assert row["status"] == "cancelled"
    assert row["finished_at"] is not None


async def test_what_is_not_sent_in_time_is_skipped(pool, db, settings, people, written):
    """Past `send_until` the waiting letters are skipped as expired and the campaign is done."""
    await people(5)
    until = await db.fetchval("SELECT now()") + timedelta(hours=1)
    campaign = await launch.send(db, (await written(send_until=until)).id, at=None, settings=settings)
    await run(pool)
    assert await status_of(db, campaign) == "sending"
    await run(pool, now=until, size=2)
    assert await states_of(db, campaign) == {("skipped", "expired"): 5}
    assert await status_of(db, campaign) == "sent"


async def test_what_the_warm_up_held_too_long_is_skipped_as_such(pool, db, settings, people, written):
    """Past `send_until`, letters for which there was no allowance are skipped with the reason `warmup`."""
    await people(5)
    until = await db.fetchval("SELECT now()") + timedelta(hours=1)
    campaign = await launch.send(db, (await written(send_until=until)).id, at=None, settings=settings)
    await run(pool)
    domain_id = await db.fetchval("SELECT domain_id FROM campaigns")
    await warmup.set_preset(db, domain_id, "custom", [3])
    async with db.transaction():
        grants = await warmup_take.take(db, domain_id, "relay", {"other": [0] * 3}, to_outbox=False, now=until)
    assert grants.granted == {"other": 3}
    # The outbox of the first days, and a relay that is gone, have room for nobody.
    await db.execute("INSERT INTO egress (name, seen_at) VALUES ('relay', now())")
    await db.execute(
        "INSERT INTO warmup_keys (domain_id, egress, provider) VALUES ($1, 'outbox', '*'), ($1, 'gone', '*')", domain_id
    )
    await run(pool, now=until, size=2)
    assert await states_of(db, campaign) == {("skipped", "warmup"): 5}
    assert await status_of(db, campaign) == "sent"


@pytest.mark.parametrize("scheduled", [True, False])
async def test_a_paused_campaign_rests_until_it_is_resumed(pool, db, settings, people, written, *, scheduled):
    """Paused: it neither starts nor fans out; resumed, it goes on where it was, at once if its time has passed."""
    await people(20)
    soon = await db.fetchval("SELECT now()") + timedelta(hours=1)
    campaign = await launch.send(db, (await written()).id, at=soon if scheduled else None, settings=settings)
    await lifecycle.pause(db, campaign.id)
    await run(pool, now=soon)
    assert await states_of(db, campaign) == {}
    resumed = await lifecycle.resume(db, campaign.id)
    assert resumed.status == ("scheduled" if scheduled else "sending")
    await run(pool, now=soon)
    assert await states_of(db, campaign) == {("queued", None): 20}


async def test_a_label_decides_who_is_written_to(pool, db, settings, people, written):
    """Only the audience gets deliveries, each with the mailbox provider of its address."""
    wanted = await people(2, tags=["vip"])
    await people(3)
    await db.execute("INSERT INTO recipient_domains (domain, provider) VALUES ('mail.example.org', 'google')")
    campaign = await launch.send(db, (await written(audience=Audience(tags=["vip"]))).id, at=None, settings=settings)
    await run(pool)
    rows = await db.fetch(
        "SELECT subscriber_id, provider, domain_id FROM deliveries WHERE campaign_id = $1 ORDER BY 1", campaign.id
    )
    assert [(row["subscriber_id"], row["provider"]) for row in rows] == [(one, "google") for one in wanted]
    assert {row["domain_id"] for row in rows} == {await db.fetchval("SELECT id FROM domains")}


@pytest.mark.parametrize(
    "how", ["status = 'cancelled'", "send_until = now() - interval '1 second'"], ids=["cancelled", "overdue"]
)
async def test_a_campaign_in_somebodys_hands_holds_up_no_other(pool, db, settings, people, written, how):  # noqa: PLR0917  (fixtures)
    """While a slow worker holds the last letters of one campaign that is over, the next one's are skipped all the same."""
    await people(3)
    campaigns = [await launch.send(db, (await written()).id, at=None, settings=settings) for _ in range(2)]
    await run(pool)
    await db.execute(
        "INSERT INTO claims (fence, campaign_id, ids, marked, until) "
        "SELECT nextval('fences'), $1, array_agg(id), 0, now() + interval '15 seconds' FROM deliveries WHERE campaign_id = $1",
        campaigns[0].id,
    )
    await db.execute(f"UPDATE campaigns SET {how}")
    await run(pool)
    assert [state for state, _ in await states_of(db, campaigns[0])] == ["queued"]
    assert [state for state, _ in await states_of(db, campaigns[1])] == ["skipped"]
