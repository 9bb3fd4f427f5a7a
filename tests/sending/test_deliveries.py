"""Leases, marks and records under every order of events: one letter is handed over by one holder, and the counters are right."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbase.campaigns import campaigns, lifecycle
from mailbase.sending.deliveries import deliveries, leases, marks, recorder, records
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.outcomes import Outcome
from mailbase.sending.relays import egress
from mailbase.signals import feedback
from mailbase.signals.feedback import Feedback
from sending.sending_kit import add_campaign, add_domain, add_people, assert_counters, states
from sending.test_crash import wait_for

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)
OUTCOMES = {
    "sent": Outcome(0, "sent", 250, None, "ok", "content"),
    "hard": Outcome(0, "refused", 550, "5.1.1", "no such user", "rcpt", "hard", reason="invalid_recipient"),
    "block": Outcome(0, "refused", 554, "5.7.1", "spam", "content", "block", reason="spam_block"),
    "deferred": Outcome(0, "deferred", 451, "4.3.0", "later", "rcpt"),
    "relay": Outcome(0, "relay", 535, None, "bad password", "auth"),
    "dropped": Outcome(0, "not_sent", 0, None, "gone", "content"),
    "unknown": Outcome(0, "unknown", 0, None, "silence", "content"),
}


def handed(letter, fence, campaign_id, domain_id, bucket=None):
    """Return what a worker keeps of a marked letter."""
    return Handed(
        letter.id, fence, campaign_id, domain_id, letter.subscriber_id, letter.provider, letter.email or "", None,
        letter.attempts + 1, bucket,
    )  # fmt: skip


def outcome(name, delivery_id):
    """Return a named outcome for a delivery."""
    found = OUTCOMES[name]
    return Outcome(delivery_id, *[getattr(found, field) for field in found.__struct_fields__[1:]])


async def lease(db, campaign_id, limit=100, now=START):
    """Lease letters."""
    return await leases.lease_campaign(db, campaign_id, limit, now=now, lease=LEASE)


async def mark(db, campaign_id, domain_id, fence, letters, now=START):  # noqa: PLR0917  (reads as a sentence)
    """Mark letters."""
    pairs = [marks.Pair(letter.id, letter.email or "", letter.provider, letter.tier) for letter in letters]
    return await marks.mark_campaign(
        db, campaign_id, domain_id, fence, pairs, egress="relay", to_outbox=False, slot=1, now=now
    )


async def record(db, campaign_id, domain_id, fence, results, now=START, bucket=None):  # noqa: PLR0917
    """Record (letter, name of an outcome)."""
    pairs = [
        (handed(letter, fence, campaign_id, domain_id, bucket), outcome(name, letter.id)) for letter, name in results
    ]
    return await records.record(db, pairs, slot=1, random=Random(1), now=now)


@pytest.fixture
async def campaign(db):
    """Return (campaign id, domain id) of a campaign to five people that is due."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 5))
    await db.execute("UPDATE deliveries SET due_at = $1", START)
    return campaign_id, domain_id


async def test_a_letter_goes_from_the_queue_to_sent(db, campaign):
    """Lease, mark and record move it on, count the attempt, keep the reply, and the counters follow."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    assert len(letters) == 5
    assert letters[0].attributes["city"] == "Oslo"
    assert (await lease(db, campaign_id))[1] == []
    marked = await mark(db, campaign_id, domain_id, fence, letters)
    assert len(marked.ids) == 5
    assert await record(db, campaign_id, domain_id, fence, [(letter, "sent") for letter in letters]) == 5
    row = await db.fetchrow("SELECT * FROM deliveries WHERE id = $1", letters[0].id)
    assert (row["state"], row["attempts"], row["last_reply"], row["sent_at"]) == ("sent", 1, "250 ok", START)
    await assert_counters(db, campaign_id)


CHANGES = {
    "unsubscribed": "UPDATE subscribers SET status = 'unsubscribed' WHERE id = $1",
    "complained": "UPDATE subscribers SET status = 'complained' WHERE id = $1",
    "archived": "UPDATE subscribers SET status = 'archived' WHERE id = $1",
    "erased": "DELETE FROM subscribers WHERE id = $1",
    "suppressed": "INSERT INTO suppressions (kind, value, reason) SELECT 'email', email_key, 'manual' FROM subscribers WHERE id = $1",
}


@pytest.mark.parametrize("reason", CHANGES)
async def test_who_left_after_the_lease_is_skipped_by_the_mark(db, campaign, reason):
    """Leaving, complaint, archive, erasure and suppression hold although the letter was leased before."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    await db.execute(CHANGES[reason], letters[0].subscriber_id)
    marked = await mark(db, campaign_id, domain_id, fence, letters)
    assert marked.ids == {letter.id for letter in letters[1:]}
    row = await db.fetchrow("SELECT state, reason FROM deliveries WHERE id = $1", letters[0].id)
    assert (row["state"], row["reason"]) == ("skipped", reason)
    await assert_counters(db, campaign_id)


async def test_a_suppressed_domain_holds_everyone_there(db, campaign):
    """A domain on the suppression list skips every address of it."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    await db.execute("INSERT INTO suppressions (kind, value, reason) VALUES ('domain', 'example.com', 'manual')")
    assert (await mark(db, campaign_id, domain_id, fence, letters)).ids == set()
    assert await states(db, campaign_id) == {"skipped": 5}


async def test_a_changed_address_is_written_to_anew(db, campaign):
    """A letter composed for an address that changed meanwhile goes back to the queue, to be composed again."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    await db.execute("UPDATE subscribers SET email = 'New@example.com' WHERE id = $1", letters[0].subscriber_id)
    await mark(db, campaign_id, domain_id, fence, letters)
    _, again = await lease(db, campaign_id)
    assert [letter.email for letter in again] == ["New@example.com"]


@pytest.mark.parametrize(("change", "state", "reason"), [
    ("UPDATE campaigns SET status = 'paused', paused_from = 'sending'", "queued", None),
    ("UPDATE campaigns SET status = 'cancelled'", "skipped", "cancelled"),
    ("UPDATE campaigns SET send_until = '2026-03-01 11:59:59Z'", "skipped", "expired"),
])  # fmt: skip
async def test_pause_cancel_and_the_last_moment_are_looked_at_in_the_mark(db, campaign, change, state, reason):
    """A paused campaign's leased letters wait, a cancelled or overdue one's are skipped with the reason."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    await db.execute(change)
    assert (await mark(db, campaign_id, domain_id, fence, letters)).ids == set()
    rows = await db.fetch("SELECT DISTINCT state::text, reason FROM deliveries")
    assert [tuple(row) for row in rows] == [(state, reason)]
    await assert_counters(db, campaign_id)


async def test_a_lease_that_ran_out_marks_nothing(db, campaign):
    """Whoever comes back after the lease ended gets no letter marked, even before anyone took it back."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    assert (await mark(db, campaign_id, domain_id, fence, letters, now=START + LEASE)).ids == set()


async def test_nothing_is_marked_for_a_provider_without_room(db, campaign):
    """Letters of a provider that can take no more just now are not marked: another lease may have them."""
    campaign_id, domain_id = campaign
    await db.execute("UPDATE deliveries SET provider = 'google' WHERE id % 2 = 0")
    await db.execute(
        "INSERT INTO campaign_lanes (campaign_id, provider, letters) VALUES ($1, 'google', 3)", campaign_id
    )
    fence, letters = await lease(db, campaign_id)
    pairs = [marks.Pair(letter.id, letter.email, letter.provider) for letter in letters]
    marked = await marks.mark_campaign(
        db, campaign_id, domain_id, fence, pairs, egress="relay", to_outbox=False, slot=1, closed={"google"}, now=START
    )
    assert len(letters) == 5
    assert marked.ids == {letter.id for letter in letters if letter.provider != "google"}
    assert not marked.held
    again = (await lease(db, campaign_id))[1]
    assert {letter.id for letter in again} == {letter.id for letter in letters} - marked.ids


async def test_a_dead_workers_letters(db, campaign):
    """After a crash leased letters are queued for free, marked ones of an at-most-once campaign are unknown."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    await mark(db, campaign_id, domain_id, fence, letters[:2])
    assert await leases.expire(db, slot=2, now=START + timedelta(seconds=29)) == 0
    assert await leases.expire(db, slot=2, now=START + LEASE) == 5
    assert await states(db, campaign_id) == {"unknown": 2, "queued": 3}
    await assert_counters(db, campaign_id)


async def test_an_answer_that_comes_late_still_counts(db, campaign):
    """An unknown letter becomes sent or bounced when its reply is recorded after all, but not under another's lease."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    await mark(db, campaign_id, domain_id, fence, letters)
    await leases.expire(db, slot=2, now=START + LEASE)
    results = [(letters[0], "sent"), (letters[1], "hard"), (letters[2], "unknown")]
    assert await record(db, campaign_id, domain_id, fence, results) == 3
    assert await states(db, campaign_id) == {"unknown": 3, "sent": 1, "bounced": 1}
    assert await record(db, campaign_id, domain_id, fence + 1, [(letters[3], "sent")]) == 0
    await assert_counters(db, campaign_id)


async def test_renewing_prolongs_only_what_still_holds(db, campaign):
    """A renewed lease lasts on; one that ran out cannot be renewed."""
    campaign_id, _ = campaign
    fence, _ = await lease(db, campaign_id)
    held = await leases.renew(db, [fence], now=START + timedelta(seconds=20), lease=LEASE)
    assert held == {fence: 30.0}
    assert await leases.expire(db, slot=1, now=START + timedelta(seconds=49)) == 0
    assert await leases.renew(db, [fence], now=START + timedelta(seconds=51), lease=LEASE) == {}
    assert await leases.expire(db, slot=1, now=START + timedelta(seconds=51)) == 5


async def test_a_hard_bounce_ends_the_subscriber(db, campaign):
    """5.1.1: the delivery is bounced, the bounce is kept, the person is bounced and suppressed; a block touches nobody."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    await mark(db, campaign_id, domain_id, fence, letters)
    await record(db, campaign_id, domain_id, fence, [(letters[0], "hard"), (letters[1], "block")])
    people = dict(await db.fetch("SELECT id, status FROM subscribers"))
    assert people[letters[0].subscriber_id] == "bounced"
    assert people[letters[1].subscriber_id] == "active"
    assert await db.fetchval("SELECT count(*) FROM suppressions") == 1
    rows = await db.fetch("SELECT class, reason, status, reply FROM bounces ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("hard", "invalid_recipient", "5.1.1", "550 no such user"),
        ("block", "spam_block", "5.7.1", "554 spam"),
    ]
    await assert_counters(db, campaign_id)


async def test_a_temporary_refusal_comes_again_and_in_the_end_fails(db, campaign):
    """Deferred letters wait 5, 10, 20, 40, 80 minutes, then 4 hours, ±20 %; after two days they have failed."""
    campaign_id, domain_id = campaign
    now = START
    waits = []
    for _ in range(30):
        fence, letters = await lease(db, campaign_id, 1, now)
        await mark(db, campaign_id, domain_id, fence, letters, now)
        await record(db, campaign_id, domain_id, fence, [(letters[0], "deferred")], now)
        await db.execute("UPDATE deliveries SET due_at = 'infinity' WHERE id <> $1", letters[0].id)
        row = await db.fetchrow("SELECT state::text, due_at, reason FROM deliveries WHERE id = $1", letters[0].id)
        if row["state"] == "failed":
            break
        assert row["state"] == "deferred"
        waits.append((row["due_at"] - now).total_seconds() / 60)
        now = row["due_at"]
        await assert_counters(db, campaign_id)
    assert row["reason"] == "expired"
    # The last wait is cut to the end of the two days.
    for wait, minutes in zip(waits[:-1], [5, 10, 20, 40, 80] + [240] * 20, strict=False):
        assert 0.8 * minutes <= wait <= 1.2 * minutes
    assert timedelta(hours=48) <= now - START < timedelta(hours=48, minutes=1)
    await assert_counters(db, campaign_id)


async def test_a_refusal_of_us_burns_no_attempt(db, campaign):
    """What the relay refuses before a recipient is named goes back to the queue as if it had never been tried."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    await mark(db, campaign_id, domain_id, fence, letters)
    await record(db, campaign_id, domain_id, fence, [(letter, "relay") for letter in letters])
    rows = await db.fetch("SELECT DISTINCT state::text, attempts, due_at FROM deliveries")
    assert [tuple(row) for row in rows] == [("queued", 0, START)]


async def test_the_way_out_stops_and_backs_off(db, caplog):
    """Failures double the pause to two minutes; workers that fail together count once, and say so once; a success clears it."""
    now = START
    for seconds in (2, 4, 8, 16, 32, 64, 120, 120):
        await egress.stop(db, "relay", "auth: 535 bad password", now=now)
        await egress.stop(db, "relay", "auth: 535 bad password", now=now)
        state = await egress.get(db, "relay", now=now)
        assert state.stopped
        assert state.stopped_until - now == timedelta(seconds=seconds)
        now = state.stopped_until
        assert not (await egress.get(db, "relay", now=now)).stopped
    assert state.reason == "auth: 535 bad password"
    assert [record.message for record in caplog.records] == [
        f"the way out 'relay' takes no letters (auth: 535 bad password); tried again in {seconds} seconds"
        for seconds in (2, 4, 8, 16, 32, 64, 120, 120)
    ]
    await egress.clear(db, "relay")
    assert (await egress.get(db, "relay", now=now)).failures == 0


ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "lease",
                "two_leases",
                "mark",
                "record",
                "release",
                "renew",
                "close",
                "expire",
                "wait",
                "pause",
                "resume",
                "leave",
                "skip_waiting",
                "cancel",
                "bounce",
            ]
        ),
        st.integers(0, 7),
        st.sampled_from(sorted(OUTCOMES)),
    ),
    max_size=40,
)


@settings(max_examples=25)
@given(acts=ACTS)
async def test_whatever_happens_in_whatever_order(pool, acts):
    """In any order of leases, marks, answers, crashes, pauses, cancellations, bounces and departures: a letter has one holder at a
    time, a mark is never given twice without a record between, final states stay, nothing on its way is skipped, and the counters
    equal a recount. And in the end every letter has its end.
    """
    async with pool.acquire() as db:
        await db.execute(
            "TRUNCATE deliveries, campaigns, subscribers, counters, bounces, suppressions, domains, claims CASCADE"
        )
        domain_id = await add_domain(db)
        people = await add_people(db, 6)
        campaign_id = await add_campaign(db, domain_id, people)
        await db.execute("UPDATE deliveries SET due_at = $1", START)
        await Model(pool, db, campaign_id, domain_id, people).play(acts)


class Model:
    """Plays workers against one campaign and checks the promises after each act."""

    def __init__(self, pool, db, campaign_id, domain_id, people):
        self.pool, self.db, self.campaign_id, self.domain_id, self.people = pool, db, campaign_id, domain_id, people
        self.now = START
        self.leased, self.marked = [], []
        self.open = {}  # fence -> ids that are neither recorded nor given back
        self.out = {}  # delivery id -> fence under which its content may be going out
        self.final = {}

    async def play(self, acts):
        """Do everything, checking as it goes, and come to the end."""
        for act, n, name in acts:
            await getattr(self, act)(n, name)
            await self.check()
        await self.end()

    async def lease(self, n, _):
        self.took(*await leases.lease_campaign(self.db, self.campaign_id, n, now=self.now, lease=LEASE))

    async def two_leases(self, n, _):
        async with self.pool.acquire() as other:
            both = await asyncio.gather(
                leases.lease_campaign(self.db, self.campaign_id, n, now=self.now, lease=LEASE),
                leases.lease_campaign(other, self.campaign_id, n, now=self.now, lease=LEASE),
            )
        ids = [letter.id for _, letters in both for letter in letters]
        assert len(ids) == len(set(ids)), "leased twice at once"
        for fence, letters in both:
            self.took(fence, letters)

    def took(self, fence, letters):
        if letters:
            self.leased.append((fence, letters))
            self.open[fence] = {letter.id for letter in letters}

    def some(self, n):
        """Return a lease that has letters left, and its next ones."""
        fence, letters = self.leased.pop(n % len(self.leased))
        some = letters[: n % 3 + 1]
        if rest := letters[len(some) :]:
            self.leased.append((fence, rest))
        return fence, some

    async def mark(self, n, _):
        if not self.leased:
            return
        fence, letters = self.some(n)
        marked = await mark(self.db, self.campaign_id, self.domain_id, fence, letters, self.now)
        for letter in letters:
            if letter.id in marked.ids:
                assert letter.id not in self.out, "handed over twice without an answer between"
                self.out[letter.id] = fence
                self.marked.append((fence, letter))
            else:
                self.open[fence].discard(letter.id)

    async def record(self, n, name):
        if not self.marked:
            return
        fence, letter = self.marked.pop(n % len(self.marked))
        await record(self.db, self.campaign_id, self.domain_id, fence, [(letter, name)], self.now)
        self.open[fence].discard(letter.id)
        if name != "unknown":
            self.out.pop(letter.id, None)

    async def release(self, n, _):
        if self.leased:
            fence, letters = self.leased.pop(n % len(self.leased))
            # Twice: as a worker does that has not heard that it was done.
            for _again in range(1 + n % 2):
                await leases.release(self.db, [letter.id for letter in letters], fence)
            self.open[fence] -= {letter.id for letter in letters}

    async def renew(self, *_):
        await leases.renew(self.db, list(self.open), now=self.now, lease=LEASE)

    async def close(self, *_):
        done = [fence for fence, ids in self.open.items() if not ids]
        await leases.close(self.db, done)
        for fence in done:
            del self.open[fence]

    async def expire(self, *_):
        await leases.expire(self.db, slot=2, now=self.now)

    async def wait(self, n, _):
        self.now += timedelta(seconds=(1, 10, 31, 60, 300, 600, 3600, 20000)[n])

    async def pause(self, *_):
        await self.db.execute(
            "UPDATE campaigns SET status = 'paused', paused_from = 'sending' WHERE status = 'sending'"
        )

    async def resume(self, *_):
        await self.db.execute("UPDATE campaigns SET status = 'sending', paused_from = NULL WHERE status = 'paused'")

    async def leave(self, n, _):
        await self.db.execute("UPDATE subscribers SET status = 'unsubscribed' WHERE id = $1", self.people[n % 6])

    async def skip_waiting(self, n, _):
        async with self.db.transaction():
            await deliveries.skip_waiting(self.db, self.campaign_id, "expired", limit=n % 3, slot=3)

    async def cancel(self, n, _):
        # Half of them, so that not every game is over soon.
        if n < 4 and await self.db.fetchval("SELECT finished_at IS NULL AND status <> 'cancelled' FROM campaigns"):
            async with self.db.transaction():
                await lifecycle.cancel(self.db, self.campaign_id)
            assert await self.db.fetchval("SELECT finished_at IS NULL FROM campaigns") == bool(await self.waiting())

    async def bounce(self, n, _):
        letter = await self.db.fetchval("SELECT id FROM deliveries ORDER BY id OFFSET $1 LIMIT 1", n % 6)
        report = Feedback(kind="bounce", source="inbound", delivery_id=letter, cls=("hard", "soft", "block")[n % 3])
        async with self.db.transaction():
            await feedback.apply(self.db, report, slot=4, now=self.now)
        if self.final.get(letter) in {"sent", "failed"}:
            self.final[letter] = "bounced"

    async def waiting(self):
        """Return how many letters have no end yet."""
        return await self.db.fetchval("SELECT count(*) FROM deliveries WHERE state IN ('queued', 'deferred')")

    async def check(self):
        """Compare the table with the promises."""
        rows = dict(await self.db.fetch("SELECT id, state::text FROM deliveries"))
        for delivery_id, state in self.final.items():
            assert rows[delivery_id] == state, "a final state changed"
        assert "skipped" not in {rows[delivery_id] for delivery_id in self.out}, "skipped on its way"
        self.final = {id: state for id, state in rows.items() if state in {"sent", "bounced", "failed", "skipped"}}
        await assert_counters(self.db, self.campaign_id)

    async def end(self):
        """Let every worker be gone and another one do the rest: nothing waits for ever, and the campaign ends."""
        await self.resume()
        self.now += timedelta(days=2)
        await self.expire()
        assert await self.db.fetchval("SELECT count(*) FROM claims") == 0
        self.leased, self.marked = [], []
        await self.lease(100, None)
        while self.leased:
            await self.mark(2, None)
        while self.marked:
            await self.record(0, "sent")
        await self.close()
        async with self.db.transaction():
            await deliveries.skip_waiting(self.db, self.campaign_id, "cancelled", limit=100, slot=0)
            await lifecycle.finish(self.db, [self.campaign_id])
        await self.check()
        assert await self.waiting() == 0
        assert await self.db.fetchval("SELECT finished_at IS NOT NULL FROM campaigns")


async def test_parallel_leases_never_share_a_letter(pool, db):
    """Eight leases at once take each letter exactly once."""
    campaign_id = await add_campaign(db, await add_domain(db), await add_people(db, 400))

    async def take():
        async with pool.acquire() as own:
            return [letter.id for letter in (await leases.lease_campaign(own, campaign_id, 50))[1]]

    found = [id for ids in await asyncio.gather(*[take() for _ in range(8)]) for id in ids]
    assert len(found) == len(set(found)) == 400


async def test_a_slice_is_made_once(db):
    """Creating the same slice again adds nobody and counts nobody."""
    domain_id = await add_domain(db)
    people = await add_people(db, 10)
    campaign_id = await add_campaign(db, domain_id, people)
    assert await deliveries.create_slice(db, campaign_id, domain_id, people, slot=3) == 0
    assert await deliveries.skip_waiting(db, campaign_id, "cancelled", limit=4, slot=3) == 4
    assert await states(db, campaign_id) == {"queued": 6, "skipped": 4}
    await assert_counters(db, campaign_id)


async def test_a_holder_that_lost_its_lease_writes_nothing(db):
    """When another has leased and marked the letter since, the first one's mark and answer change nothing."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 2), on_crash="at_least_once")
    await db.execute("UPDATE deliveries SET due_at = $1", START)
    first, letters = await lease(db, campaign_id)
    await mark(db, campaign_id, domain_id, first, letters[:1])
    later = START + LEASE
    await leases.expire(db, slot=1, now=later)
    second, again = await lease(db, campaign_id, now=later)
    assert len(again) == 2
    assert (await mark(db, campaign_id, domain_id, first, letters, later)).ids == set()
    await mark(db, campaign_id, domain_id, second, again, later)
    assert await record(db, campaign_id, domain_id, first, [(letter, "hard") for letter in letters], later) == 0
    assert await states(db, campaign_id) == {"marked": 2}
    assert await record(db, campaign_id, domain_id, second, [(letter, "sent") for letter in again], later) == 2
    assert await db.fetchval("SELECT count(*) FROM bounces") == 0
    await assert_counters(db, campaign_id)


async def test_a_late_answer_opens_no_campaign_that_is_just_being_closed(pool, db, campaign):
    """A letter in doubt whose late answer would queue it again stays in doubt when its campaign is closed in that same moment."""
    campaign_id, domain_id = campaign
    fence, letters = await lease(db, campaign_id)
    await mark(db, campaign_id, domain_id, fence, letters)
    await leases.expire(db, slot=2, now=START + LEASE)
    async with pool.acquire() as other:
        closing = other.transaction()
        await closing.start()
        await campaigns.hold(other, campaign_id)
        assert await lifecycle.finish(other, [campaign_id]) == 1
        async with asyncio.timeout(10):
            await record(
                db, campaign_id, domain_id, fence, [(letters[0], "dropped"), (letters[1], "sent")], START + LEASE
            )
        await closing.commit()
    assert await states(db, campaign_id) == {"unknown": 4, "sent": 1}
    await assert_counters(db, campaign_id)


async def test_a_recorder_settles_a_letter_once(pool, db, campaign, monkeypatch):
    """PostgreSQL goes away just behind a commit: the rest is told again, and the lease counts no letter twice."""
    campaign_id, domain_id = campaign
    await db.execute("UPDATE deliveries SET due_at = now()")
    fence, letters = await lease(db, campaign_id, now=None)
    await mark(db, campaign_id, domain_id, fence, letters, now=None)
    told = []

    async def clear(_db, name):
        told.append(name)
        if len(told) == 1:
            raise ConnectionResetError("gone")

    monkeypatch.setattr(egress, "clear", clear)
    monkeypatch.setattr(recorder, "AGAIN", 0.01)
    writer = recorder.Recorder(pool, "relay", slot=1, random=Random(1))
    settled = []
    for letter in letters:
        one = handed(letter, fence, campaign_id, domain_id)
        one.settled = partial(settled.append, letter.id)
        writer.put(one, outcome("sent", letter.id))
    task = asyncio.create_task(writer.run())
    async with asyncio.timeout(10):
        await writer.flush(5)
    task.cancel()
    assert told == ["relay", "relay"]
    assert sorted(settled) == sorted(letter.id for letter in letters)
    assert await states(db, campaign_id) == {"sent": 5}


@pytest.mark.parametrize("phase", ["rcpt", "data"])
async def test_a_letter_whose_recipient_ends_the_connection_is_given_up_in_time(db, campaign, phase):
    """A server that hangs up on one recipient gets that letter three times at once, then later and later, and for two days at most."""
    campaign_id, domain_id = campaign
    now, tries = START, 0
    while tries < 40:
        fence, letters = await lease(db, campaign_id, 1, now)
        await mark(db, campaign_id, domain_id, fence, letters, now)
        hung_up = Outcome(letters[0].id, "not_sent", 0, None, "the connection was lost", phase)
        one = handed(letters[0], fence, campaign_id, domain_id)
        await records.record(db, [(one, hung_up)], slot=1, random=Random(1), now=now)
        tries += 1
        row = await db.fetchrow("SELECT state, reason, due_at, attempts FROM deliveries WHERE id = $1", letters[0].id)
        assert row["attempts"] == tries
        if tries <= records.FREE_DROPS:
            assert (row["state"], row["due_at"]) == ("queued", now + timedelta(seconds=5))
        if row["state"] == "failed":
            break
        # Nobody else is in the queue before it.
        await db.execute("UPDATE deliveries SET due_at = $1 WHERE id <> $2", START + timedelta(days=9), letters[0].id)
        now = row["due_at"]
    assert (row["state"], row["reason"]) == ("failed", "expired")
    assert timedelta(hours=47) < now - START < timedelta(hours=50)
    await assert_counters(db, campaign_id)


@pytest.mark.parametrize("writer", ["renew", "close", "give back"])
async def test_whoever_writes_several_claims_takes_them_in_one_order(pool, db, campaign, writer):
    """While the first of two claims is somebody's, the second is left alone: two who want both cannot block each other."""
    campaign_id, domain_id = campaign
    fences = [(await lease(db, campaign_id, 1)) for _ in range(2)]
    (first, (one,)), (second, (two,)) = fences
    # What is written last lies first on the disk.
    await db.execute("DELETE FROM claims WHERE fence = $1", first)
    await db.execute(
        "INSERT INTO claims (fence, campaign_id, ids, marked, until) VALUES ($1, $2, $3, 1, $4)",
        first,
        campaign_id,
        [one.id],
        START + LEASE,
    )
    waits = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())"
    )
    async with pool.acquire() as other, pool.acquire() as third:
        holding = other.transaction()
        await holding.start()
        await other.execute("SELECT FROM claims WHERE fence = $1 FOR UPDATE", first)
        match writer:
            case "renew":
                writing = asyncio.create_task(leases.renew(db, [second, first], now=START, lease=LEASE))
            case "close":
                writing = asyncio.create_task(leases.close(db, [second, first]))
            case _:
                both = [
                    (handed(letter, fence, campaign_id, domain_id), outcome("relay", letter.id))
                    for letter, fence in ((two, second), (one, first))
                ]
                writing = asyncio.create_task(records.record(db, both, slot=1, random=Random(1), now=START))
        await wait_for(lambda: third.fetchval(waits))
        await third.execute("SELECT FROM claims WHERE fence = $1 FOR UPDATE NOWAIT", second)
        await holding.rollback()
        await writing
