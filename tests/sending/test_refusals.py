"""Refusals all the way into the table: a provider's pace costs no letter its attempts, and everything ends after two days."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from mailbase.sending.deliveries import deliveries, leases, marks, records
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.outcomes import Outcome
from mailbase.sending.providers import domain_stops, overrides, reply_rule_table
from mailbase.sending.providers.reply_rule_table import Change
from mailbase.sending.smtp.replies import enhanced_status
from mailbase.sending.warmup import waiting
from sending.sending_kit import add_campaign, add_domain, add_people, assert_counters, states

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNUSUAL = "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address."
UNAUTHENTICATED = "550 5.7.26 Your email has been blocked because the sender is unauthenticated."


@pytest.fixture
async def google(db):
    """Return (campaign id, domain id) of a campaign to six people at Google's."""
    await db.execute(
        "INSERT INTO recipient_domains (domain, provider) VALUES ('shop.example', 'google'), ('own.example', 'site:own.example')"
    )
    domain_id = await add_domain(db)
    people = await add_people(db, 6, domain="shop.example") + await add_people(db, 2, domain="own.example", prefix="q")
    campaign_id = await add_campaign(db, domain_id, people)
    await db.execute("UPDATE deliveries SET due_at = $1", START)
    return campaign_id, domain_id


async def hand_over(db, campaign, text, *, n=1, now=START, provider="google", **more):
    """Lease and mark ``n`` letters of a provider and record one reply for each; return their ids."""
    campaign_id, domain_id = campaign
    fence, letters = await leases.lease_campaign(
        db, campaign_id, n, egress="mx", now=now, lease=timedelta(minutes=1), lanes=[waiting.Lane(provider, n)]
    )
    assert len(letters) == n
    pairs = [marks.Pair(letter.id, letter.email, letter.provider, letter.tier) for letter in letters]
    marked = await marks.mark_campaign(
        db, campaign_id, domain_id, fence, pairs, egress="mx", to_outbox=False, slot=1, now=now
    )
    assert len(marked.ids) == n
    code, _, reply = text.partition(" ")
    kind = "sent" if code == "250" else "refused" if code.startswith("5") else "deferred"
    bounce_class = "block" if kind == "refused" else None
    results = [
        (
            Handed(letter.id, fence, campaign_id, domain_id, letter.subscriber_id, letter.provider, letter.email, None, letter.attempts + 1, marked.bucket, egress="mx"),
            Outcome(letter.id, kind, int(code), enhanced_status(reply), reply, more.get("phase", "rcpt"), bounce_class, retry_after=more.get("retry_after"), free=more.get("free", False), denied=more.get("denied", False)),
        )
        for letter in letters
    ]  # fmt: skip
    assert await records.record(db, results, slot=1, random=Random(1), now=now) == n
    return [letter.id for letter in letters]


async def rows(db, ids):
    return await db.fetch(
        "SELECT state::text, attempts, due_at, reason, refused_since FROM deliveries WHERE id = ANY ($1::bigint[]) ORDER BY id", ids
    )  # fmt: skip


async def test_a_providers_pace_burns_no_attempt(db, google):
    """Letters refused for Google's pace come back after the override's end, as fresh as before; the counters agree."""
    ids = await hand_over(db, google, UNUSUAL, n=3)
    (override,) = await overrides.page(db, before=2**62, limit=9, now=START)
    assert (override.egress, override.letters_per_minute) == ("mx", 10)
    for row in await rows(db, ids):
        assert (row["state"], row["attempts"], row["refused_since"]) == ("deferred", 0, START)
        assert override.expires_at < row["due_at"] <= override.expires_at + timedelta(minutes=10)
    await assert_counters(db, google[0])


async def test_a_connection_turned_away_is_one_refusal(db, google):
    """A greeting that sends a whole queue back counts as one reply, burns nothing and keeps to the time it named."""
    ids = await hand_over(db, google, UNUSUAL, n=6, phase="connect", free=True, retry_after=20)
    assert await overrides.count(db) == 0
    assert await db.fetchval("SELECT sum(n) FROM reply_counts") == 1
    for row in await rows(db, ids):
        assert (row["state"], row["attempts"]) == ("deferred", 0)
        assert timedelta(seconds=20) <= row["due_at"] - START <= timedelta(seconds=24)


async def test_waiting_for_ones_turn_is_no_refusal(db, google):
    """A letter for which its provider had no room waits as long as it takes: its two days do not begin."""
    ids = await hand_over(db, google, "0 no room", free=True, phase="connect", retry_after=5)
    (row,) = await rows(db, ids)
    assert (row["state"], row["attempts"], row["refused_since"]) == ("deferred", 0, None)


async def test_two_days_of_refusals_are_enough(db, google):
    """Refused for the provider's pace again and again, a letter that burns no attempt is given up after 48 hours all the same."""
    (id,) = await hand_over(db, google, UNUSUAL)
    await db.execute("UPDATE deliveries SET due_at = 'infinity' WHERE id <> $1", id)
    now = START
    for _ in range(200):
        (row,) = await rows(db, [id])
        if row["state"] != "deferred":
            break
        assert (row["attempts"], row["refused_since"]) == (0, START)
        now = row["due_at"]
        await hand_over(db, google, UNUSUAL, now=now)
    assert (row["state"], row["reason"]) == ("failed", "expired")
    assert timedelta(hours=48) <= now - START <= timedelta(hours=48, minutes=1)
    await assert_counters(db, google[0])


@pytest.mark.parametrize("text", [UNAUTHENTICATED, "421 4.7.32 The From: header is not aligned with SPF or DKIM."])
async def test_authentication_refused_stops_the_campaign(db, google, text):
    """One 5.7.26 and nothing more of that domain is leased or marked until a person resumes it; then that letter goes out, too.

    It was never a matter of the name, so no warm-up is slowed for it.
    """
    campaign_id, domain_id = google
    await db.execute("UPDATE warmups SET preset = 'standard'")
    ids = await hand_over(db, google, text)
    assert await db.fetchval("SELECT sum(blocked + deferred) FROM allowances") == 0
    assert [(row["state"], row["attempts"]) for row in await rows(db, ids)] == [("queued", 0)]
    assert await db.fetchval("SELECT count(*) FROM bounces") == 0
    stop = await domain_stops.get(db, domain_id)
    assert text in stop.reason
    assert await waiting.due(db, now=START) == []
    fence, letters = await leases.lease_campaign(
        db, campaign_id, 1, egress="mx", now=START, lease=timedelta(minutes=1), lanes=[waiting.Lane("google", 1)]
    )
    pairs = [marks.Pair(letter.id, letter.email, letter.provider, letter.tier) for letter in letters]
    marked = await marks.mark_campaign(
        db, campaign_id, domain_id, fence, pairs, egress="mx", to_outbox=False, slot=1, now=START
    )
    assert not marked.ids
    await domain_stops.resume(db, domain_id)
    assert [due.campaign_id for due in await waiting.due(db, now=START)] == [campaign_id]
    await assert_counters(db, campaign_id)


async def test_authentication_refused_below_the_rules_number_waits(db, google):
    """Where three refusals stop a domain the first two letters wait as well: none bounces, none burns an attempt, all go out after it."""
    campaign_id, domain_id = google
    await db.execute("UPDATE recipient_domains SET provider = 'site:own.example' WHERE domain = 'shop.example'")
    await db.execute("UPDATE deliveries SET provider = 'site:own.example' WHERE campaign_id = $1", campaign_id)
    await db.execute("DELETE FROM campaign_lanes WHERE provider = 'google'")
    text, site = "550 5.7.26 Multiple authentication checks failed for this message", "site:own.example"
    early = await hand_over(db, google, text, n=2, provider=site)
    assert await domain_stops.get(db, domain_id) is None
    (last,) = await hand_over(db, google, text, provider=site)
    assert await domain_stops.get(db, domain_id) is not None
    assert [(row["state"], row["attempts"]) for row in await rows(db, early)] == [("deferred", 0)] * 2
    assert [(row["state"], row["attempts"]) for row in await rows(db, [last])] == [("queued", 0)]
    assert await db.fetchval("SELECT count(*) FROM bounces") == 0
    monday = START + timedelta(hours=60)
    await domain_stops.resume(db, domain_id, now=monday)
    await hand_over(db, google, text, n=2, now=monday, provider=site)
    assert (await states(db, campaign_id)).get("bounced") is None
    await hand_over(db, google, "250 2.0.0 OK", n=8, now=monday + timedelta(hours=2), provider=site)
    assert await states(db, campaign_id) == {"sent": 8}
    await assert_counters(db, campaign_id)


@pytest.mark.parametrize(
    ("text", "blocked"),
    [
        ("550 5.7.1 Our system has detected that this message is likely unsolicited mail.", 1),
        ("550 5.7.26 Multiple authentication checks failed for this message", 0),
    ],
)
async def test_one_letter_is_refused_for_our_sake_for_two_days(db, google, text, blocked):
    """A letter blocked for our sake comes back every hour at most, tips no rule by itself, counts once, and bounces after 48 hours."""
    await db.execute("UPDATE reply_rules SET threshold = 3 WHERE pattern LIKE '%26|27%'")
    await db.execute("UPDATE warmups SET preset = 'standard' WHERE domain_id = $1", google[1])
    (id,) = await hand_over(db, google, text)
    await db.execute("UPDATE deliveries SET due_at = 'infinity' WHERE id <> $1", id)
    now, tries = START, 1
    while (row := (await rows(db, [id]))[0])["state"] == "deferred":
        assert (row["attempts"], row["reason"], row["refused_since"]) == (0, None, START)
        assert row["due_at"] >= now + timedelta(hours=1) or row["due_at"] >= START + timedelta(hours=48)
        now, tries = row["due_at"], tries + 1
        await hand_over(db, google, text, now=now)
    assert (row["state"], row["reason"]) == ("bounced", "uncategorized")
    assert timedelta(hours=48) <= now - START <= timedelta(hours=48, minutes=1)
    assert 6 < tries < 16
    assert await overrides.count(db) == 0
    assert await domain_stops.get(db, google[1]) is None
    assert [row["class"] for row in await db.fetch("SELECT class FROM bounces")] == ["block"]
    assert await db.fetchval("SELECT sum(blocked) FROM allowances WHERE provider = 'google'") == blocked
    await assert_counters(db, google[0])


async def test_a_letter_its_relay_denies_waits_two_days(db, google):
    """What a relay will not relay waits, longer each time, at no cost; nobody's name suffers, and after 48 hours it is a block."""
    text = "550 5.7.1 Relaying denied"
    await db.execute("UPDATE warmups SET preset = 'standard' WHERE domain_id = $1", google[1])
    (id,) = await hand_over(db, google, text, denied=True)
    await db.execute("UPDATE deliveries SET due_at = 'infinity' WHERE id <> $1", id)
    now, tries = START, 1
    while (row := (await rows(db, [id]))[0])["state"] == "deferred":
        assert (row["attempts"], row["refused_since"]) == (0, START)
        now, tries = row["due_at"], tries + 1
        await hand_over(db, google, text, now=now, denied=True)
    assert row["state"] == "bounced"
    assert timedelta(hours=48) <= now - START <= timedelta(hours=48, minutes=1)
    assert 10 < tries < 40
    assert [row["class"] for row in await db.fetch("SELECT class FROM bounces")] == ["block"]
    assert await db.fetchval("SELECT sum(blocked + deferred + taken) FROM allowances") == 0
    assert await overrides.count(db) == 0
    await assert_counters(db, google[0])


async def test_over_mx_a_host_that_does_not_relay_is_one_domains_matter(db, google):
    """A domain that points at a large provider and is unknown there bounces as a block, and holds that provider back for nobody."""
    await hand_over(db, google, "550 5.7.1 Relaying denied", n=6)
    assert await states(db, google[0]) == {"bounced": 6, "queued": 2}
    assert await overrides.count(db) == 0
    assert await domain_stops.get(db, google[1]) is None


async def test_sites_count_as_other(db, google):
    """Statistics know the table's providers; letters to everybody else's hosts are counted together."""
    await hand_over(db, google, "250 2.0.0 OK", n=2, provider="site:own.example")
    assert await db.fetchval("SELECT sum(n) FROM counters WHERE key = 'provider.other.sent'") == 2
    assert (await states(db, google[0]))["sent"] == 2
    await assert_counters(db, google[0])
    assert dict(key[1:] for key in deliveries.moved(1, "site:x.example", "queued", "sent")) == {
        "delivery.queued": -1, "delivery.sent": 1, "provider.other.sent": 1,
    }  # fmt: skip


async def test_a_rule_nobody_can_apply_loses_no_outcome(db, google):
    """A rule that PostgreSQL cannot carry out is left out; what became of the letter is recorded."""
    rule = await reply_rule_table.create(db, Change(pattern="a", sample="a", advice="b", suspend=True))
    await db.execute("UPDATE reply_rules SET pattern = '(' WHERE id = $1", rule.id)
    ids = await hand_over(db, google, UNUSUAL)
    assert [row["state"] for row in await rows(db, ids)] == ["deferred"]
