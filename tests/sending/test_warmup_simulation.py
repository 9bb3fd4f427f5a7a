"""Weeks of warm-up, played on the real queue, mark, record and judge: caps, order, storms, crashes, clocks, and the forecast."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import convert

from mailbase.sending.warmup import model as warmup_model
from mailbase.sending.warmup import overrides as warmup_overrides
from mailbase.sending.warmup import warmup
from mailbase.sending.warmup.keys import Chosen
from mailbase.sending.warmup.overrides import Override
from mailbase.sending.warmup.rules import Rules
from sending.sending_kit import add_campaign, add_domain, add_people, assert_counters
from warmup_simulator import FINE, LATER, NOBODY, START, Simulator

DOMAINS = {"google": "gmail.com", "yahoo": "yahoo.com", "mailru": "mail.ru", "other": "example.com"}


async def add_list(db, domain_id, demand, *, prefix="p", at=START):
    """Add a campaign to people of several providers; return its id."""
    people = []
    for provider, n in demand.items():
        people += await add_people(db, n, domain=DOMAINS[provider], prefix=prefix)
    campaign_id = await add_campaign(db, domain_id, sorted(people))
    await db.execute("UPDATE deliveries SET due_at = $2 WHERE campaign_id = $1", campaign_id, at)
    return campaign_id


async def levels(db):
    """Return the level of each key."""
    return {row["provider"]: row["level"] for row in await db.fetch("SELECT provider, level FROM warmup_keys")}


DEMAND = {"google": 400, "yahoo": 140, "mailru": 60, "other": 150}
SCHEDULE = [60, 90, 130, 200, 300]
STEADY = {"active_hours": 2, "spacing_below": 0}


@pytest.mark.timeout(180)
async def test_the_forecast_is_what_happens(pool, db):
    """By the end of each day the plan and what two workers then did never differ by more than 5 %: of each provider's letters, and of all."""
    domain_id = await add_domain(db, preset="custom", schedule=SCHEDULE, rules=STEADY)
    campaign_id = await add_list(db, domain_id, DEMAND)
    chosen = Chosen(preset="custom", schedule=SCHEDULE, rules=convert(STEADY, Rules))
    plan = warmup_model.play(chosen, DEMAND, START, name=f"{domain_id} relay")
    played = Simulator(pool, domain_id, workers=2)
    await played.run(START + timedelta(days=len(plan.days) + 1))
    played.check()
    assert len(played.out) == sum(DEMAND.values())
    planned = {day.date: day for day in plan.days}
    for provider in (None, *DEMAND):
        done, expected, whole = 0, 0, DEMAND[provider] if provider else sum(DEMAND.values())
        for day in sorted(set(planned) | set(played.by_day())):
            done += played.by_day(provider)[day]
            if day in planned:
                expected += planned[day].by_provider.get(provider, 0) if provider else planned[day].count
            assert abs(done - expected) <= 0.05 * whole, (provider, day, done, expected)
    assert abs(max(played.by_day()) - plan.finishes_at.date()) <= timedelta(days=1)
    await assert_counters(db, campaign_id)


STORMS = st.lists(st.tuples(st.sampled_from(sorted(DOMAINS)), st.integers(0, 50), st.integers(1, 4)), max_size=3)
JUMPS = st.lists(st.tuples(st.integers(0, 58), st.sampled_from([-90, -60, 60, 90])), max_size=3)


@pytest.mark.timeout(300)
@settings(max_examples=2)
@given(storms=STORMS, jumps=JUMPS, seed=st.integers(0, 10**6), hours=st.sampled_from([1, 3]))
async def test_sixty_days_of_whatever_happens(pool, storms, jumps, seed, hours):
    """Three workers that die or record late, storms of refusals, a clock set back or forth, a ceiling: no cap is ever exceeded, nothing sticks."""
    async with pool.acquire() as db:
        await db.execute(
            "TRUNCATE deliveries, campaigns, subscribers, counters, bounces, suppressions, domains CASCADE"
        )
        domain_id = await add_domain(
            db, preset="custom", schedule=[20, 25, 30, 40, 50], rules={"active_hours": hours, "spacing_below": 20}
        )
        await warmup.set_ceilings(db, domain_id, {"yahoo": 12}, now=START)
        made = [await add_list(db, domain_id, {"google": 90, "yahoo": 50, "other": 40}, prefix="a")]

        def answer(provider, now):
            day = (now - START).days
            return LATER if any(provider == who and first <= day < first + n for who, first, n in storms) else FINE

        played = Simulator(pool, domain_id, workers=3, seed=seed, crash=0.02, late=0.05, answer=answer)
        jumps_by_day = dict(jumps)
        for day in range(60):
            if day == 25:
                made.append(
                    await add_list(db, domain_id, {"google": 40, "mailru": 20, "other": 20}, prefix="b", at=played.now)
                )
            await played.run(START + timedelta(days=day + 1), step=timedelta(hours=4))
            played.now += timedelta(minutes=jumps_by_day.get(day, 0))
        played.check()
        rows = await db.fetch("SELECT state::text, count(*) FROM deliveries GROUP BY state")
        states = {row["state"]: row["count"] for row in rows}
        assert not states.keys() & {"queued"}, states
        for campaign_id in made:
            await assert_counters(db, campaign_id)


async def test_a_storm_at_one_provider_slows_only_that_one(pool, db):
    """One provider refuses everything for days: the others rise as they would have, the total is not judged by it."""
    domain_id = await add_domain(db, preset="custom", schedule=[40, 60, 90, 130], rules={"active_hours": 2})
    await add_list(db, domain_id, {"google": 170, "mailru": 60})
    played = Simulator(pool, domain_id, answer=lambda who, _now: LATER if who == "mailru" else FINE)
    await played.run(START + timedelta(days=3), step=timedelta(minutes=30))
    played.check()
    found = await levels(db)
    assert found["google"] >= 3
    assert played.by_day("google").total() == 170
    assert played.by_day("mailru").total() == 0
    said = await db.fetch(
        "SELECT provider, decision FROM warmup_history WHERE decision IN ('step_back', 'suspend', 'stop', 'hold')"
    )
    assert {row["provider"] for row in said} <= {"mailru"}


async def test_idle_days_raise_nothing(pool, db):
    """A list that is through on the first day leaves the level where that day brought it, then silence brings it down."""
    domain_id = await add_domain(db, preset="custom", schedule=[10, 20, 40], rules={"active_hours": 1})
    await add_list(db, domain_id, {"google": 10})
    played = Simulator(pool, domain_id, workers=1)
    await played.run(START + timedelta(days=6), step=timedelta(hours=6))
    assert await levels(db) == {"*": 2, "google": 2}
    await played.run(START + timedelta(days=12), step=timedelta(hours=6))
    assert await levels(db) == {"*": 1, "google": 1}


async def test_a_paused_key_sends_nothing_and_the_others_go_on(pool, db):
    """Paused by hand, a provider's letters wait; let go on, they leave."""
    domain_id = await add_domain(db, preset="custom", schedule=[50], rules={"active_hours": 1})
    await add_list(db, domain_id, {"google": 10, "mailru": 10})
    await warmup_overrides.apply(
        db, domain_id, Override(egress="relay", provider="mailru", state="paused"), to_outbox=False, now=START
    )
    played = Simulator(pool, domain_id)
    await played.run(START + timedelta(hours=3))
    assert Counter(who for _, who, _, _ in played.out) == {"google": 10}
    await warmup_overrides.apply(
        db, domain_id, Override(egress="relay", provider="mailru", state="warming"), to_outbox=False, now=played.now
    )
    await played.run(START + timedelta(hours=4))
    assert Counter(who for _, who, _, _ in played.out) == {"google": 10, "mailru": 10}


async def test_hard_bounces_stop_a_key_until_a_probe_goes_well(pool, db):
    """Too many hard bounces stop it, a day later a probe of a few letters goes out, and then it goes on lower."""
    domain_id = await add_domain(db, preset="custom", schedule=[100, 150, 200, 300], rules={"active_hours": 1})
    await add_list(db, domain_id, {"other": 900})
    bad_until = START + timedelta(days=1)
    random_like = iter(range(10**6))
    played = Simulator(
        pool, domain_id, workers=1,
        answer=lambda _who, now: NOBODY if now < bad_until and next(random_like) % 5 == 0 else FINE,
    )  # fmt: skip
    await played.run(START + timedelta(hours=12), step=timedelta(minutes=30))
    stopped = len(played.out)
    assert dict(await db.fetch("SELECT provider, state FROM warmup_keys"))["other"] == "stopped"
    await played.run(START + timedelta(hours=23), step=timedelta(hours=1))
    assert len(played.out) == stopped
    await played.run(START + timedelta(days=4), step=timedelta(hours=1))
    played.check()
    said = [
        row["decision"]
        for row in await db.fetch("SELECT decision FROM warmup_history WHERE provider = 'other' ORDER BY id")
    ]
    assert said[:3] == ["stop", "probe", "resume"]
    assert len(played.out) > stopped + 20


ENGAGE = """
INSERT INTO engaged (subscriber_id, at, clicked_at) SELECT id, $2, $2 FROM unnest($1::bigint[]) AS id
"""


async def test_the_most_engaged_are_written_to_first(pool, db):
    """Inside a provider the warmer tier leaves first, whatever the order people came in."""
    domain_id = await add_domain(db, preset="custom", schedule=[10], rules={"active_hours": 1, "spacing_below": 0})
    people = await add_people(db, 30, domain="gmail.com")
    now = await db.fetchval("SELECT now()")
    await db.execute("UPDATE subscribers SET created_at = now() - interval '1 year'")
    await db.execute(ENGAGE, people[20:25], now - timedelta(days=10))
    await db.execute(ENGAGE, people[25:28], now - timedelta(days=50))
    await db.execute(
        "UPDATE subscribers SET confirmed_at = now() - interval '2 days' WHERE id = ANY($1::bigint[])", people[28:]
    )
    await add_campaign(db, domain_id, people)
    await db.execute("UPDATE deliveries SET due_at = $1", START)
    played = Simulator(pool, domain_id, workers=1, batch=3)
    await played.run(START + timedelta(days=3), step=timedelta(hours=1))
    tiers = [tier for _, _, tier, _ in played.out]
    assert Counter(tiers) == {0: 2, 1: 5, 4: 3, 6: 20}
    assert tiers == sorted(tiers)


async def test_cold_people_wait_while_warmer_mail_does_and_an_all_cold_list_still_rises(pool, db):
    """Cold letters of one campaign wait for the warm ones of another; alone, they use the whole cap and raise it."""
    domain_id = await add_domain(db, preset="custom", schedule=[20, 30, 40], rules={"active_hours": 1})
    await db.execute("UPDATE subscribers SET source = 'import'")
    cold = await add_list(db, domain_id, {"google": 120}, prefix="cold")
    await db.execute("UPDATE deliveries SET rank = (6 << 27) | (rank & 134217727)")
    warm = await add_list(db, domain_id, {"google": 30}, prefix="warm")
    played = Simulator(pool, domain_id)
    await played.run(START + timedelta(days=5), step=timedelta(hours=1))
    order = [campaign for _, _, _, campaign in played.out]
    assert set(order[:30]) == {warm}
    assert Counter(order) == {warm: 30, cold: 120}
    assert (await levels(db))["google"] >= 3
    assert (await warmup.get(db, domain_id, to_outbox=False, now=played.now)).day >= 3
