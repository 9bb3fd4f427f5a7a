"""Judging: what a key's numbers say, with the samples they need, and where a key goes from there."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.sending.outcomes import Outcome
from mailbase.sending.warmup import judge as warmup_judge
from mailbase.sending.warmup import lane_choice
from mailbase.sending.warmup import overrides as warmup_overrides
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import tally as warmup_tally
from mailbase.sending.warmup.engagement import Group, compared
from mailbase.sending.warmup.health import Counts, examine
from mailbase.sending.warmup.keys import Chosen
from mailbase.sending.warmup.model import gathered, play
from mailbase.sending.warmup.overrides import Override
from mailbase.sending.warmup.rules import TIER_BITS, Cap, Rules, cap, day_of, possible, share_of, spread, step_of
from mailbase.sending.warmup.tally import Result
from mailbase.sending.warmup.turns import Turn, even
from sending.sending_kit import add_campaign, add_domain, add_people

RULES = Rules()
NOON = datetime(2026, 3, 10, 12, 5, tzinfo=UTC)


@pytest.mark.parametrize(("counts", "verdict"), [
    (Counts(), "well"),
    (Counts(hard_sent=3, hard=1), "well"),
    (Counts(hard_sent=49, hard=9), "well"),
    (Counts(hard_sent=50, hard=1), "hold"),
    (Counts(hard_sent=100, hard=3), "step_back"),
    (Counts(hard_sent=100, hard=5), "stop"),
    (Counts(ever_sent=40, ever_hard=10), "stop"),
    (Counts(ever_sent=400, ever_hard=10), "well"),
    (Counts(complaints_sent=400, complaints=5), "well"),
    (Counts(complaints_sent=1000, complaints=1), "well"),
    (Counts(complaints_sent=4000, complaints=2), "hold"),
    (Counts(complaints_sent=2000, complaints=2), "step_back"),
    (Counts(complaints_sent=600, complaints=2), "stop"),
    (Counts(attempts=19, deferred=19), "well"),
    (Counts(attempts=100, deferred=10), "hold"),
    (Counts(attempts=100, deferred=25), "step_back"),
    (Counts(attempts=100, deferred=60), "step_back"),
    (Counts(attempts=100, deferred=60, attempts_before=100, deferred_before=50), "suspend"),
    (Counts(blocked_hour=3, blocked_day=3), "suspend"),
    (Counts(blocked_day=20), "pause"),
    (Counts(blocked_days=3), "pause"),
    (Counts(unsubscribed_sent=200, unsubscribed=2), "hold"),
    (Counts(unsubscribed_sent=200, unsubscribed=4), "step_back"),
    (Counts(engaged=0.5), "hold"),
])  # fmt: skip
def test_each_sign_has_its_sample_and_its_consequence(counts, verdict):
    """Warn holds, bad steps back, stop stops; below the sample nothing is said; a reason comes with each."""
    finding = examine("google", counts, RULES)
    assert finding.verdict == verdict
    assert bool(finding.reason) == (verdict != "well")


def test_the_total_is_not_judged_by_one_providers_refusals():
    """A storm of refusals or blocks says nothing about all of them together."""
    storm = Counts(attempts=500, deferred=500, attempts_before=500, deferred_before=500, blocked_hour=9, blocked_day=50)
    assert examine("*", storm, RULES).verdict == "well"


def test_shares_and_spreading():
    """Providers get their share of the total, others twenty or a twentieth; a day is spread over ten hours."""
    assert [share_of(1000, name) for name in ("*", "other", "google", "microsoft", "yahoo", "apple", "site:a.example")] == [
        1000, 1000, 1000, 500, 350, 250, 50,
    ]  # fmt: skip
    assert share_of(100, "site:a.example") == 20
    assert share_of(10, "site:a.example") == 10
    assert share_of(1000, "google", 0.1, 0) == 100
    assert spread(1000, RULES) == Cap(1000, 100, 15)
    assert spread(50, RULES) == Cap(50, 5, None, 960.0)
    assert spread(50, Rules(active_hours=1)) == Cap(50)
    assert cap("fast", None, 1) == Cap(480, 20)
    assert possible(Cap(480, 20)) == 360
    assert cap("standard", None, 3, rules=Rules(target=700)).day == 700
    assert cap("standard", None, 3, factor=0.5).day == 500
    assert cap("standard", None, 3, probing=True).day == 10


def test_a_level_of_the_ladder_lasts_three_days():
    """Levels and warm-up days are the same within the table, and three days a level behind it."""
    assert [step_of("custom", [10, 20], day) for day in range(1, 10)] == [1, 2, 3, 3, 3, 4, 4, 4, 5]
    assert [day_of("custom", [10, 20], level) for level in range(1, 6)] == [1, 2, 3, 6, 9]


@pytest.mark.parametrize(("outcome", "first", "what"), [
    (Outcome(1, "sent", 250, None, "ok", "content"), False, "sent"),
    (Outcome(1, "refused", 550, "5.1.1", "no", "rcpt", "hard"), False, "hard"),
    (Outcome(1, "refused", 554, "5.7.1", "no", "content", "block"), True, "blocked"),
    (Outcome(1, "refused", 554, "5.7.1", "no", "content", "block"), False, None),
    (Outcome(1, "refused", 552, "5.2.2", "full", "rcpt", "soft"), True, None),
    (Outcome(1, "deferred", 421, None, "later", "rcpt"), True, "deferred"),
    (Outcome(1, "deferred", 421, None, "later", "rcpt"), False, None),
    (Outcome(1, "deferred", 451, None, "grey", "rcpt", reason="greylisted"), True, None),
    (Outcome(1, "unknown", 0, None, "", "content"), True, None),
])  # fmt: skip
def test_what_an_outcome_says(outcome, first, what):
    """A letter's refusals count once, greylisting never, a full mailbox says nothing of the sender."""
    assert warmup_tally.said(outcome, first=first) == what


def test_engagement_is_compared_tier_by_tier():
    """A week of colder people is no fall; half as many opens in the same tier are; few letters say nothing."""
    before = [Group("google", 1, False, 400, 200), Group("google", 6, False, 400, 20)]
    assert compared([*before, Group("google", 6, True, 400, 20)], 300)["google"] == 0
    assert compared([*before, Group("google", 1, True, 400, 100)], 300)["google"] == 0.5
    assert compared([*before, Group("google", 1, True, 299, 0)], 300) == {}
    assert compared([*before, Group("google", 4, True, 900, 0)], 300) == {}


def test_a_forecast_of_thousands_of_mail_hosts_takes_them_together():
    """Groups with a hundredth of the letters are held by the total alone; those left are each planned, and no letter is lost."""
    demand = {"google": 30_000, "site:large.example": 5000} | {f"site:h{n}.example": 5 + n % 40 for n in range(3000)}
    assert gathered(demand).keys() == {"google", "site:large.example", "other"}
    many = {"google": 3000} | {f"site:h{n}.example": 400 for n in range(30)}
    plan = play(Chosen(preset="standard"), many, NOON, name="x")
    assert sum(day.count for day in plan.days) == 15_000
    assert all(day.count <= day.cap for day in plan.days)
    assert [(day.date - NOON.date()).days for day in plan.days] == list(range(len(plan.days)))
    assert len(plan.days) <= 9


def test_a_forecast_in_the_evening_counts_the_whole_day():
    """What went out since midnight, ten minutes by ten minutes, is a day's use: the level rises at midnight as it will."""
    evening = NOON.replace(hour=20, minute=0)
    buckets = [evening - timedelta(minutes=10 * n) for n in range(24, 0, -1)]
    taken = [("google", evening - timedelta(hours=22), 9)] + [
        (name, at, 2) for at in buckets for name in ("*", "google")
    ]
    chosen = Chosen(preset="custom", schedule=[50, 80, 120], rules=Rules(active_hours=1))
    plan = play(chosen, {"google": 300}, evening, name="x", taken=taken)
    assert [(day.count, day.cap) for day in plan.days[:3]] == [(2, 50), (80, 80), (120, 120)]


async def send(db, domain_id, at, *, provider="yahoo", **counts):
    """Count letters and what became of them in ten minutes of one provider."""
    async with db.transaction():
        await warmup_take.note(db, domain_id, "relay", {provider: sum(counts.values())}, now=at)
        await db.execute(
            "INSERT INTO warmup_keys (domain_id, egress, provider, level, judged_on) SELECT $1, 'relay', name, 3, $3 FROM unnest($2::text[]) AS name ON CONFLICT DO NOTHING",
            domain_id, ["*", provider], at.date(),
        )  # fmt: skip
        bucket = at.replace(minute=at.minute // 10 * 10, second=0, microsecond=0)
        results = [Result(domain_id, "relay", provider, bucket, what) for what, n in counts.items() for _ in range(n)]
        await warmup_tally.note(db, results)


async def judged(db, at, provider="yahoo"):
    """Judge, and return (state, level) of a key."""
    await warmup_judge.judge(db, to_outbox=False, now=at)
    return tuple(await db.fetchrow("SELECT state, level FROM warmup_keys WHERE provider = $1", provider))


async def test_a_storm_suspends_then_slows_then_goes_on(db):
    """Half refused for two hours: nothing for two hours, half the rate for a day, then as before; the total untouched."""
    domain_id = await add_domain(db, preset="standard")
    await send(db, domain_id, NOON, sent=10, deferred=20)
    assert await judged(db, NOON + timedelta(minutes=6)) == ("slowed", 2)
    await send(db, domain_id, NOON + timedelta(hours=1), sent=10, deferred=20)
    assert await judged(db, NOON + timedelta(minutes=66)) == ("suspended", 2)
    async with db.transaction():
        later = NOON + timedelta(hours=2)
        grants = await warmup_take.take(
            db, domain_id, "relay", {"yahoo": [0], "google": [0]}, to_outbox=False, now=later
        )
    assert grants.granted == {"yahoo": 0, "google": 1}
    assert await judged(db, NOON + timedelta(hours=4)) == ("slowed", 2)
    assert await judged(db, NOON + timedelta(hours=30)) == ("warming", 2)
    assert await judged(db, NOON + timedelta(hours=31), "*") == ("warming", 3)


async def test_three_failed_probes_wait_for_a_person(db):
    """Stopped, probed three times in vain: paused, with the reason in the history."""
    domain_id = await add_domain(db, preset="standard")
    at = NOON
    await send(db, domain_id, at, sent=80, hard=20)
    assert await judged(db, at + timedelta(minutes=6)) == ("stopped", 3)
    for number in range(3):
        at += timedelta(hours=25)
        assert (await judged(db, at))[0] == "probing"
        await send(db, domain_id, at + timedelta(hours=1), sent=6, hard=4)
        at += timedelta(hours=25)
        assert (await judged(db, at))[0] == ("stopped" if number < 2 else "paused")
    reason = await db.fetchval("SELECT reason FROM warmup_history WHERE decision = 'pause' AND provider = 'yahoo'")
    assert reason == "4 of 10 letters of the probe bounced for good. That was probe 3: resume by hand."


async def test_a_sign_of_trouble_is_held_against_a_key_once(db):
    """Two complaints take one level back, not one on each day of the week they are counted in; new ones take the next."""
    domain_id = await add_domain(db, preset="standard")
    await send(db, domain_id, NOON, sent=1500, complaints=2)
    assert await judged(db, NOON + timedelta(minutes=6)) == ("slowed", 2)
    assert await judged(db, NOON + timedelta(hours=13)) == ("slowed", 2)
    assert await judged(db, NOON + timedelta(hours=25)) == ("warming", 2)
    assert await judged(db, NOON + timedelta(hours=50)) == ("warming", 2)
    await send(db, domain_id, NOON + timedelta(hours=51), sent=1500, complaints=2)
    assert await judged(db, NOON + timedelta(hours=52)) == ("slowed", 1)


@pytest.mark.parametrize("first", [{"sent": 1000, "complaints": 4}, {"sent": 20, "hard": 10}])
async def test_a_probe_is_judged_by_its_own_letters(db, first):
    """Whatever stopped a key, a probe that goes well lets it go on: what it was stopped for is not counted against it again."""
    domain_id = await add_domain(db, preset="standard")
    await send(db, domain_id, NOON, **first)
    assert (await judged(db, NOON + timedelta(minutes=11)))[0] == "stopped"
    assert (await judged(db, NOON + timedelta(hours=25)))[0] == "probing"
    await send(db, domain_id, NOON + timedelta(hours=26), sent=10)
    assert (await judged(db, NOON + timedelta(hours=50)))[0] == "warming"
    assert (await judged(db, NOON + timedelta(hours=51)))[0] == "warming"


async def test_a_probe_of_which_all_is_blocked_has_failed(db):
    """A probe that was refused for the sender's sake is over, too, though nothing of it went out."""
    domain_id = await add_domain(db, preset="standard")
    await send(db, domain_id, NOON, sent=80, hard=20)
    await judged(db, NOON + timedelta(minutes=6))
    await judged(db, NOON + timedelta(hours=25))
    await send(db, domain_id, NOON + timedelta(hours=26), blocked=10)
    assert (await judged(db, NOON + timedelta(hours=50)))[0] == "stopped"


async def test_what_a_person_lets_go_on_goes_on(db):
    """Resumed by hand, a paused key is not paused again for what was known then; for new refusals it is."""
    domain_id = await add_domain(db, preset="standard")
    await send(db, domain_id, NOON, sent=100, blocked=20)
    assert await judged(db, NOON + timedelta(minutes=6)) == ("paused", 3)
    later = NOON + timedelta(hours=1)
    resume = Override(egress="relay", provider="yahoo", state="warming")
    await warmup_overrides.apply(db, domain_id, resume, to_outbox=False, now=later)
    assert await judged(db, later + timedelta(minutes=6)) == ("warming", 3)
    await send(db, domain_id, later + timedelta(hours=1), blocked=20)
    assert (await judged(db, later + timedelta(hours=1, minutes=6)))[0] == "paused"


async def test_silence_is_counted_for_as_long_as_the_rules_say(db):
    """A key that begins again only after sixty quiet days does, though what it took is forgotten after forty."""
    domain_id = await add_domain(db, preset="standard", rules={"restart_days": 60})
    await send(db, domain_id, NOON, sent=100)
    await db.execute("UPDATE warmup_keys SET level = 30")
    levels = [(await judged(db, NOON + timedelta(days=day)))[1] for day in (1, 30, 45, 59, 61)]
    assert levels == [30, 26, 24, 22, 1]


async def test_a_hold_keeps_the_level_for_a_day(db):
    """Two in a hundred bounced: the full day does not raise the level; the next good one does."""
    domain_id = await add_domain(db, preset="standard")
    await send(db, domain_id, NOON, sent=343, hard=7)
    assert await judged(db, NOON + timedelta(minutes=6)) == ("held", 3)
    assert await judged(db, NOON + timedelta(hours=12, minutes=5)) == ("held", 3)
    decisions = [
        row["decision"]
        for row in await db.fetch("SELECT decision FROM warmup_history WHERE provider = 'yahoo' ORDER BY id")
    ]
    assert decisions == ["hold", "stay"]
    assert await judged(db, NOON + timedelta(hours=25)) == ("warming", 3)


async def test_a_lease_reads_no_more_than_it_takes(db):
    """Lease and look keep to the queue's indexes, however many letters were sent, are refused for now, or wait."""
    domain_id = await add_domain(db)
    people = await add_people(db, 3000)
    for state in ("sent", "queued"):
        campaign_id = await add_campaign(db, domain_id, people)
        await db.execute("UPDATE deliveries SET state = $2::delivery_state WHERE campaign_id = $1", campaign_id, state)
    await db.execute(
        "UPDATE deliveries SET state = 'deferred', due_at = now() + interval '1 hour' WHERE state = 'queued' AND id % 2 = 0"
    )
    await db.execute("VACUUM ANALYZE deliveries")
    await db.execute("SET plan_cache_mode = force_generic_plan")
    from mailbase.sending.deliveries import leases  # noqa: PLC0415  (their statements)
    from mailbase.sending.warmup import waiting  # noqa: PLC0415  (their statements)

    lanes = [["google", "other"], [50, 50], [0, 0], [15 << TIER_BITS] * 2, None, None, None]
    plans = [
        "\n".join(row[0] for row in await db.fetch(f"EXPLAIN {statement}", *arguments))
        for statement, arguments in (
            (leases.LEASE_CAMPAIGN, [campaign_id, *lanes]),
            (waiting.DUE, [None]),
        )
    ]
    for plan in plans:
        assert "deliveries_queue" in plan
        assert "deliveries_again" in plan
        assert "Seq Scan on deliveries" not in plan
        assert "Bitmap" not in plan
    assert "Sort" not in plans[0]


def test_lanes_share_in_proportion_and_small_ones_get_their_turn():
    """Where nothing is held a hundred letters go as the lanes are large; one at a time, the small lane has its own now and then."""
    choice = lane_choice.LaneChoice(random=Random(1), clock=lambda: 0.0)
    choice.know({"google": 900, "yahoo": 90, "mailru": 10})
    assert choice.shares(["google", "yahoo", "mailru"], 100) == {"google": 90, "yahoo": 9, "mailru": 1}
    ones = Counter(next(iter(choice.shares(["google", "yahoo", "mailru"], 1))) for _ in range(500))
    assert ones == {"google": 450, "yahoo": 45, "mailru": 5}
    for _ in range(50):
        choice.shares(["google"], 100)
    assert choice.shares(["google", "yahoo", "mailru"], 100)["google"] >= 85


@given(
    turns=st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.integers(1, 5000), st.integers(0, 3000), st.integers(0, 2000)),
        min_size=1,
    ),
    limits=st.lists(st.integers(0, 900), min_size=1, max_size=4),
)
def test_turns_depend_on_no_batch(turns, limits):
    """Letter by letter to who is furthest behind: the same however many are shared out at once, and never more than is left."""
    letters = {name: n for name, (n, _, _) in turns.items()}
    gone = {name: min(n, of) for name, (of, n, _) in turns.items()}
    lefts = {name: n for name, (_, _, n) in turns.items()}
    whole = even(sum(limits), {name: Turn(letters[name], gone[name]) for name in turns}, lefts)
    assert sum(whole.values()) == min(sum(limits), sum(lefts.values()))
    assert all(n <= lefts[name] for name, n in whole.items())
    piece: Counter[str] = Counter()
    for limit in limits:
        now = {name: Turn(letters[name], gone[name] + piece[name]) for name in turns}
        piece.update(even(limit, now, {name: n - piece[name] for name, n in lefts.items()}))
    assert piece == whole
