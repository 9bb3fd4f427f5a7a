"""Warm-up: the caps of each preset, and that no number of workers, crashes or clocks makes a domain exceed them."""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from random import Random

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbase.audience.addresses import Address
from mailbase.letters.content import Sender
from mailbase.sending.deliveries import leases, marks, records
from mailbase.sending.deliveries.marks import Pair
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.dispatch import messages
from mailbase.sending.outcomes import Outcome
from mailbase.sending.warmup import judge as warmup_judge
from mailbase.sending.warmup import overrides as warmup_overrides
from mailbase.sending.warmup import rules as warmup_rules
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import warmup
from mailbase.sending.warmup.overrides import Override
from mailbase.sending.warmup.rules import Cap, Rules
from sending.sending_kit import add_campaign, add_domain, add_people, assert_counters, states

START = datetime(2026, 3, 1, 12, 3, tzinfo=UTC)
AT_ONCE = {"active_hours": 1}


def test_the_tables_are_the_published_ones():
    """Cautious grows by 26 % a day from 50; standard and fast are the tables; the ladder goes on behind them."""
    cautious = [warmup_rules.level_cap("cautious", None, level) for level in range(1, 22)]
    assert cautious == [50, 63, 79, 100, 126, 159, 200, 252, 318, 400, 504, 635, 801, 1009, 1271, 1602, 2018, 2543, 3204, 4037, 5086]  # fmt: skip
    assert [warmup_rules.level_cap("standard", None, level) for level in (1, 2, 11)] == [200, 500, 100_000]
    assert warmup_rules.cap("fast", None, 1) == Cap(480, 20)
    assert [warmup_rules.level_cap("custom", [10, 30], level) for level in range(1, 7)] == [10, 30, 60, 60, 60, 120]
    assert warmup_rules.cap("none", None, 1) is None


@given(preset=st.sampled_from(["cautious", "standard", "fast", "custom"]), level=st.integers(1, 400))
def test_a_cap_never_falls_as_the_level_rises(preset, level):
    """Each level allows at least what the one before allowed."""
    now, following = (warmup_rules.cap(preset, [5, 7, 9], number) for number in (level, level + 1))
    assert following.day >= now.day > 0


@pytest.mark.parametrize(("to_outbox", "preset"), [(True, "none"), (False, "cautious")])
def test_the_default_depends_on_where_letters_go(to_outbox, preset):
    """Without a choice it is cautious, and nothing is held while letters only go to the outbox."""
    assert warmup.effective(None, to_outbox=to_outbox) == preset


async def mark_some(pool, campaign_id, domain_id, n, now):
    """Lease and mark up to ``n`` letters; return how many may go."""
    async with pool.acquire() as db:
        fence, letters = await leases.lease_campaign(db, campaign_id, n, now=now)
        if not letters:
            return 0
        pairs = [Pair(letter.id, letter.email, letter.provider, letter.tier) for letter in letters]
        marked = await marks.mark_campaign(
            db, campaign_id, domain_id, fence, pairs, egress="relay", to_outbox=False, slot=1, now=now
        )
        return len(marked.ids)


async def test_parallel_workers_never_exceed_a_cap(pool, db):
    """Ten workers that take at once hand over exactly the cap, and the rest stays in the queue."""
    domain_id = await add_domain(db, preset="custom", schedule=[37], rules=AT_ONCE)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 200))
    taken = await asyncio.gather(*[mark_some(pool, campaign_id, domain_id, 15, None) for _ in range(10)])
    assert sum(taken) == 37
    assert (await states(db, campaign_id)) == {"marked": 37, "queued": 163}
    assert await warmup.remaining(db, domain_id, to_outbox=False) == 0
    await assert_counters(db, campaign_id)


@settings(max_examples=15)
@given(steps=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 30)), min_size=1, max_size=40))
async def test_no_sliding_day_exceeds_the_cap(pool, steps):
    """Whatever the pauses between the batches: in any 24 hours no more than the cap leaves."""
    async with pool.acquire() as db:
        await db.execute("TRUNCATE deliveries, campaigns, subscribers, counters, domains CASCADE")
        domain_id = await add_domain(db, preset="custom", schedule=[40], rules=AT_ONCE)
        campaign_id = await add_campaign(db, domain_id, await add_people(db, 300))
        await db.execute("UPDATE deliveries SET due_at = $1", START)
    now, left = START, []
    for minutes, n in steps:
        now += timedelta(minutes=minutes)
        left += [now] * await mark_some(pool, campaign_id, domain_id, n, now)
        assert sum(at > now - timedelta(hours=24) for at in left) <= 40
    assert left


async def test_the_first_letters_of_an_hour_wait_for_nobody(pool, db):
    """At 80 a day five letters go at once, then one in seven or eight minutes, and never more than eight in an hour; at 3 a day, three."""
    domain_id = await add_domain(db, preset="custom", schedule=[80])
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 40))
    start = datetime.now(UTC) + timedelta(minutes=1)
    few = await add_campaign(
        db, await add_domain(db, "few.example", preset="custom", schedule=[3]), await add_people(db, 9, prefix="q")
    )
    few_domain = await db.fetchval("SELECT domain_id FROM campaigns WHERE id = $1", few)
    assert await mark_some(pool, few, few_domain, 9, start) == 3
    went = [
        await mark_some(pool, campaign_id, domain_id, 40, start + timedelta(minutes=minute)) for minute in range(60)
    ]
    assert went[0] == 5
    assert sum(went) <= 8
    assert all(n <= 1 for n in went[1:])


async def test_what_is_given_back_can_be_taken_again(db):
    """A refusal before DATA returns the allowance to the ten minutes it was taken from."""
    domain_id = await add_domain(db, preset="custom", schedule=[10], rules=AT_ONCE)
    async with db.transaction():
        grants = await warmup_take.take(db, domain_id, "relay", {"other": [0] * 25}, to_outbox=False, now=START)
    assert grants.granted == {"other": 10}
    await warmup_take.give_back(db, domain_id, "relay", "other", grants.bucket, 4)
    assert await warmup.remaining(db, domain_id, to_outbox=False, now=START) == 4


async def test_a_cold_letter_that_is_refused_before_data_leaves_its_tiers_share(db):
    """What is given back of cold people's letters counts no more as cold."""
    domain_id = await add_domain(db, preset="custom", schedule=[10], rules=AT_ONCE)
    people = await add_people(db, 4)
    campaign_id = await add_campaign(db, domain_id, people)
    await db.execute("UPDATE deliveries SET due_at = $1", START)
    fence, letters = await leases.lease_campaign(db, campaign_id, 4, now=START, lease=timedelta(minutes=1))
    pairs = [
        marks.Pair(letter.id, letter.email, letter.provider, tier)
        for letter, tier in zip(letters, (1, 2, 7, 8), strict=True)
    ]
    marked = await marks.mark_campaign(
        db, campaign_id, domain_id, fence, pairs, egress="relay", to_outbox=False, slot=1, now=START
    )
    assert set(marked.cold) == {letters[2].id, letters[3].id}
    counted = "SELECT taken, cold FROM allowances WHERE provider = 'other' AND egress = 'relay'"
    assert tuple(await db.fetchrow(counted)) == (4, 2)
    results = [
        (
            Handed(one.id, fence, campaign_id, domain_id, one.subscriber_id, one.provider, one.email, None, 1, marked.bucket, cold=one.id in marked.cold),
            Outcome(one.id, "deferred", 450, "4.7.1", "Greylisted", "rcpt", reason="greylisted"),
        )
        for one in letters[1:3]
    ]  # fmt: skip
    await records.record(db, results, slot=1, random=Random(1), now=START)
    assert tuple(await db.fetchrow(counted)) == (2, 1)


async def take(db, domain_id, n, now, provider="other"):
    """Take letters of one provider; return how many were granted."""
    async with db.transaction():
        grants = await warmup_take.take(db, domain_id, "relay", {provider: [0] * n}, to_outbox=False, now=now)
    return grants.granted[provider]


async def test_fast_is_held_by_the_hour(db):
    """The fast preset's number binds any hour; two hours later there is room again."""
    domain_id = await add_domain(db, preset="fast")
    assert await take(db, domain_id, 100, START) == 20
    assert await take(db, domain_id, 100, START + timedelta(minutes=59)) == 0
    assert await take(db, domain_id, 100, START + timedelta(hours=2)) == 20


async def test_a_paused_domain_sends_no_campaign(pool, db):
    """Paused by hand, a domain hands over nothing until it is let go on."""
    domain_id = await add_domain(db, preset="standard", rules=AT_ONCE)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 5))
    await warmup.set_state(db, domain_id, "paused", "by hand")
    assert await mark_some(pool, campaign_id, domain_id, 5, None) == 0
    await warmup.set_state(db, domain_id, "warming", None)
    assert await mark_some(pool, campaign_id, domain_id, 5, None) == 5


async def advance(db, day, hour=1):
    """Judge as of a day in March; return the level of the total."""
    await warmup_judge.judge(db, to_outbox=False, now=datetime(2026, 3, day, hour, tzinfo=UTC))
    return await db.fetchval("SELECT level FROM warmup_keys WHERE provider = '*'")


async def sent(db, domain_id, n, day):
    """Send letters on a day in March."""
    await db.execute(
        "INSERT INTO warmup_keys (domain_id, egress, provider) VALUES ($1, 'relay', '*') ON CONFLICT DO NOTHING",
        domain_id,
    )
    await warmup_take.note(db, domain_id, "relay", {"other": n}, now=datetime(2026, 3, day, 9, tzinfo=UTC))


async def test_the_level_rises_by_days_that_used_their_cap(db):
    """A day with 80 % of its cap raises the level once; an idle day never; silence brings it down again."""
    domain_id = await add_domain(db, preset="cautious")
    await sent(db, domain_id, 40, 1)
    assert await advance(db, 1) == 1
    assert await advance(db, 2) == 2
    assert await advance(db, 2, hour=5) == 2
    assert await advance(db, 3) == 2
    await sent(db, domain_id, 49, 3)
    assert await advance(db, 4) == 2
    assert Counter([await advance(db, day) for day in range(5, 12)]) == {2: 6, 1: 1}
    assert (await warmup.get(db, domain_id, to_outbox=False, now=datetime(2026, 3, 3, 20, tzinfo=UTC))).sent_today == 49
    assert await db.fetchval("SELECT judged_on FROM warmup_keys") == date(2026, 3, 11)
    said = await db.fetch("SELECT decision, level_before, level_after, reason FROM warmup_history ORDER BY id")
    assert [tuple(row) for row in said] == [
        ("advance", 1, 2, "40 of 50 letters went out in good health."),
        ("stay", 2, 2, "49 of 63 letters went out: too few to go on."),
        ("step_back", 2, 1, "Nothing was sent for 8 days."),
    ]


async def test_another_preset_begins_at_its_first_level(db):
    """Choosing a preset starts it; choosing the same one again changes nothing."""
    domain_id = await add_domain(db, preset="cautious")
    await db.execute(
        "INSERT INTO warmup_keys (domain_id, egress, provider, level) VALUES ($1, 'relay', '*', 9)", domain_id
    )
    await warmup.set_preset(db, domain_id, "cautious", None)
    assert (await warmup.get(db, domain_id, to_outbox=False)).day == 9
    await warmup.set_preset(db, domain_id, "custom", [5])
    found = await warmup.get(db, domain_id, to_outbox=False)
    assert (found.day, found.cap_today, found.schedule) == (1, 5, [5])


async def test_the_owner_may_raise_a_level_in_the_middle_of_the_day_or_hold_it(db):
    """A level set by hand gives its room at once; a held one stays, however well the day went, and the history says why."""
    domain_id = await add_domain(db, preset="custom", schedule=[10, 20, 40], rules=AT_ONCE)
    assert [await take(db, domain_id, 15, START) for _ in range(2)] == [10, 0]
    for provider in ("*", "other"):
        override = Override(egress="relay", provider=provider, level=3)
        await warmup_overrides.apply(db, domain_id, override, to_outbox=False, now=START)
    assert [await take(db, domain_id, 50, START + timedelta(hours=1)) for _ in range(2)] == [30, 0]
    await warmup_judge.judge(db, to_outbox=False, now=START)
    await warmup.set_rules(db, domain_id, Rules(active_hours=1), hold=True, exempt=True)
    assert await advance(db, 2) == 3
    said = await db.fetch("SELECT decision, reason FROM warmup_history WHERE provider = '*' ORDER BY id")
    assert [tuple(row) for row in said] == [
        ("level", "By hand: level 3."), ("stay", "40 of 40 letters went out; levels are held by hand."),
    ]  # fmt: skip


@pytest.mark.parametrize(("exempt", "marked"), [(True, 5), (False, 3)])
async def test_messages_count_and_wait_only_where_the_owner_says_so(db, exempt, marked):
    """Five messages of a domain that may send three letters: all go, or three and the rest later; either way no campaign letter is left."""
    domain_id = await add_domain(db, preset="custom", schedule=[3], rules=AT_ONCE)
    await warmup.set_rules(db, domain_id, Rules(active_hours=1), hold=False, exempt=exempt)
    for n in range(5):
        to = Address(f"p{n}@example.com", f"p{n}@example.com", "example.com")
        sender = Sender(name="Shop", email="shop@news.example")
        await messages.create(db, messages.NewMessage(kind="confirmation", from_=sender, to=to, subject="s", text="t"))
    fence, letters = await leases.lease_messages(db, 9)
    went = await marks.mark_messages(db, fence, [(letter.id, "") for letter in letters], egress="relay")
    assert len(went.ids) == marked
    assert await warmup.remaining(db, domain_id, to_outbox=False) == 0
    waiting = await db.fetch(
        "SELECT due_at > now() AS later FROM deliveries WHERE id <> ALL ($1::bigint[])", list(went.ids)
    )
    assert [row["later"] for row in waiting] == [True] * (5 - marked)


async def test_nothing_in_the_history_can_be_changed_or_removed(db):
    """The database itself refuses; only a domain that goes takes its history with it."""
    domain_id = await add_domain(db)
    await warmup.set_preset(db, domain_id, "fast", None)
    for statement in ("UPDATE warmup_history SET reason = ''", "DELETE FROM warmup_history", "TRUNCATE warmup_history"):
        with pytest.raises(asyncpg.RaiseError, match="append only"):
            await db.execute(statement)
    await db.execute("DELETE FROM domains")
    assert await db.fetchval("SELECT count(*) FROM warmup_history") == 0
