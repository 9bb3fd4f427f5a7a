"""Rules on replies: each one on its sample, counted for all workers, acting for a while."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mailbase.errors import Invalid
from mailbase.sending.outcomes import Outcome
from mailbase.sending.providers import domain_stops, overrides, reply_rule_table
from mailbase.sending.providers.reply_rule_table import Change
from mailbase.sending.providers.reply_rules import Refusal, notice, notice_all, said
from mailbase.sending.smtp.replies import classify, enhanced_status
from sending.sending_kit import add_domain

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
UNUSUAL = "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address."


def heard(text, *, phase="rcpt"):
    """Return the outcome of a reply given as one line, code first."""
    code, _, reply = text.partition(" ")
    kind = "refused" if code.startswith("5") else "deferred"
    return Outcome(1, kind, int(code), enhanced_status(reply), reply, phase)


async def in_force(db, now=NOW):
    return await overrides.page(db, before=2**62, limit=100, now=now)


async def test_every_rule_acts_on_its_sample(db):
    """Each rule of the first day, given its sample as often as it asks, does what it says to the provider it names: and to no other."""
    rules = await reply_rule_table.page(db, before=2**62, limit=1000)
    assert len(rules) > 40
    domain_id = await add_domain(db)
    for rule in rules:
        for provider in rule.providers or ["site:example.net"]:
            await db.execute("DELETE FROM provider_overrides")
            await db.execute("DELETE FROM reply_counts")
            await domain_stops.resume(db, domain_id)
            outcome = heard(rule.sample)
            for n in range(rule.threshold):
                acted = [one for one in await in_force(db) if one.rule_id == rule.id]
                stopped = await domain_stops.get(db, domain_id)
                assert not acted, (rule.pattern, n)
                assert not (rule.stop_domain and stopped), (rule.pattern, n)
                verdict = await notice(db, provider, "mx", outcome, domain_id=domain_id, now=NOW)
                assert verdict.rate, rule.pattern
            if rule.stop_domain:
                stopped = await domain_stops.get(db, domain_id)
                assert stopped is not None, rule.pattern
                assert rule.advice in stopped.reason
                assert rule.sample in stopped.reason
                continue
            (override,) = [one for one in await in_force(db) if one.rule_id == rule.id]
            assert (override.provider, override.egress, override.reply) == (provider, "mx", rule.sample)
            assert override.expires_at == NOW + timedelta(seconds=rule.duration_seconds)
            for field in (
                "suspend",
                "connections",
                "letters_per_connection",
                "letters_per_minute",
                "connections_per_minute",
            ):
                assert getattr(override, field) == getattr(rule, field)
            assert verdict.until >= override.expires_at


@pytest.mark.parametrize(
    ("reply", "ours"),
    [
        ("550 5.4.5 Daily user sending limit exceeded.", True),
        ("554 Transaction failed: Daily message quota exceeded", True),
        ("550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients", True),
        ("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; message limit exceeded", True),
        ("550 you have exceeded your hourly limit of 500 mails", True),
        ("552 5.7.0 Credits exhausted", True),
        ("552 5.2.2 mailbox over its message quota", False),
        ("550 this user has reached the daily limit of mails they may receive", False),
        ("550 5.2.2 quota exceeded", False),
        ("550 5.1.1 no such user", False),
    ],
)
async def test_a_limit_of_ours_that_is_used_up_loses_no_letter(db, reply, ours):
    """What a relay refuses for good because we sent enough today waits, and after three such replies so does the rest."""
    refusals = [Refusal("other", None, heard(reply, phase="content"))] * 3
    verdicts = await notice_all(db, "relay", refusals, now=NOW)
    assert {verdict.rate for verdict in verdicts} == {ours}
    assert [one.suspend for one in await in_force(db)] == [True] * ours


async def test_no_sample_is_held_against_the_reader(db):
    """What a rule takes for the sender's matter the classifier never calls a dead address: else no rule would hear of it."""
    for rule in await reply_rule_table.page(db, before=2**62, limit=1000):
        outcome = heard(rule.sample)
        for phase in ("rcpt", "content"):
            assert classify(outcome.code, outcome.enhanced, outcome.reply, phase)[0] != "hard", rule.sample


async def test_every_provider_of_a_rule_is_in_the_table(db):
    """No rule names a provider that no domain can have."""
    names = {row["name"] for row in await db.fetch("SELECT name FROM providers")}
    for rule in await reply_rule_table.page(db, before=2**62, limit=1000):
        assert set(rule.providers) <= names, rule.pattern


@pytest.mark.parametrize(
    "text",
    [
        "550 5.1.1 The email account that you tried to reach does not exist.",
        "452 4.2.2 The email account that you tried to reach is over quota",
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message at a later time.",
        "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered; message rate limit.",
        "450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see https://postgrey.schweikert.ch",
        "451 4.3.0 Temporary lookup failure",
        "250 2.0.0 OK",
    ],
)
async def test_what_concerns_one_recipient_is_nobodys_rule(db, text):
    """A full mailbox, an unknown user, greylisting, or one reader who gets too much holds back no provider."""
    for provider in ("google", "yahoo", "microsoft", "gmx", "site:example.net", "other"):
        for _ in range(10):
            verdict = await notice(db, provider, "mx", heard(text), now=NOW)
            assert not verdict.rate
    assert await in_force(db) == []
    assert await db.fetchval("SELECT count(*) FROM reply_counts") == 0


async def test_a_rule_of_ones_own_comes_first(db):
    """Yahoo's TSS04 is Yahoo's rule, which waits for the second; the same words from anybody else act at once."""
    text = "421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume"
    await notice(db, "yahoo", "mx", heard(text), now=NOW)
    assert await in_force(db) == []
    await notice(db, "site:example.net", "mx", heard(text), now=NOW)
    assert [(one.provider, one.connections) for one in await in_force(db)] == [("site:example.net", 1)]


async def test_replies_outside_the_window_do_not_count(db):
    """Two unusual rates of Google's within the hour act; two further apart do not."""
    await notice(db, "google", "mx", heard(UNUSUAL), now=NOW)
    await notice(db, "google", "mx", heard(UNUSUAL), now=NOW + HOUR + timedelta(minutes=2))
    assert await in_force(db, NOW + HOUR) == []
    await notice(db, "google", "mx", heard(UNUSUAL), now=NOW + HOUR + timedelta(minutes=30))
    assert len(await in_force(db, NOW + HOUR + timedelta(minutes=30))) == 1


async def test_each_way_out_counts_by_itself(db):
    """What one address of ours hears holds back that address alone."""
    for egress in ("mx:192.0.2.1", "mx:192.0.2.2"):
        await notice(db, "google", egress, heard(UNUSUAL), now=NOW)
    assert await in_force(db) == []
    await notice(db, "google", "mx:192.0.2.2", heard(UNUSUAL), now=NOW)
    assert [one.egress for one in await in_force(db)] == ["mx:192.0.2.2"]


async def test_workers_count_together(pool, db):
    """Refusals heard by several workers at once are one count, and make one override."""

    async def worker():
        async with pool.acquire() as mine, mine.transaction():
            return await notice_all(mine, "mx", [Refusal("google", None, heard(UNUSUAL))] * 3, now=NOW)

    found = await asyncio.gather(*(worker() for _ in range(6)))
    (override,) = await in_force(db)
    assert override.letters_per_minute == 10
    assert all(verdict.rate for verdicts in found for verdict in verdicts)


async def test_it_ends_by_itself_and_goes_on_while_they_refuse(db):
    """An override is over at its end; refusals after that start a new one, and refusals before prolong it."""
    for minutes in (0, 1):
        await notice(db, "google", "mx", heard(UNUSUAL), now=NOW + timedelta(minutes=minutes))
    assert len(await in_force(db, NOW + timedelta(minutes=30))) == 1
    assert await in_force(db, NOW + timedelta(minutes=32)) == []
    for minutes in (20, 21):
        await notice(db, "google", "mx", heard(UNUSUAL), now=NOW + timedelta(minutes=minutes))
    (prolonged,) = await in_force(db, NOW + timedelta(minutes=32))
    assert prolonged.expires_at == NOW + timedelta(minutes=51)
    assert prolonged.created_at == NOW + timedelta(minutes=1)


async def test_authentication_refused_stops_the_domain_at_once(db):
    """One 5.7.26 stops that domain and no other, keeps its first reason, and is over when a person says so."""
    mine, other = await add_domain(db), await add_domain(db, "other.example")
    text = "550 5.7.26 Your email has been blocked because the sender is unauthenticated."
    await notice_all(db, "mx", [Refusal("google", mine, heard(text)), Refusal("google", None, heard(text))], now=NOW)
    await notice(db, "google", "mx", heard(text), domain_id=mine, now=NOW + HOUR)
    stop = await domain_stops.get(db, mine)
    assert stop.at == NOW
    assert "DNS" in stop.reason
    assert await domain_stops.get(db, other) is None
    await domain_stops.resume(db, mine)
    assert await domain_stops.get(db, mine) is None


async def test_a_status_in_every_line_is_read_once(db):
    """Words that a reply of several lines tears apart by its status are found all the same."""
    outcome = Outcome(
        1, "deferred", 421, "4.7.0", "4.7.0 Our system has detected that 4.7.0 this message is suspicious", "content"
    )
    assert said(outcome) == "421 4.7.0 Our system has detected that this message is suspicious"
    assert (await notice(db, "google", "mx", outcome, now=NOW)).rate


async def test_odd_bytes_do_no_harm(db):
    """A reply of NULs, half surrogates and a hundred kilobytes is read like any other."""
    for reply in ("\0\0", "\ud800 unusual rate", "x" * 100_000, ""):
        await notice(db, "google", "mx", Outcome(1, "deferred", 421, None, reply, "rcpt"), now=NOW)


async def test_a_rule_that_is_off_does_nothing(db):
    """A rule switched off matches nothing; a rule of the owner's acts like the others."""
    for rule in await reply_rule_table.page(db, before=2**62, limit=1000, provider="google"):
        await reply_rule_table.update(db, rule.id, Change(enabled=False))
    assert not (await notice(db, "google", "mx", heard(UNUSUAL), now=NOW)).rate
    made = await reply_rule_table.create(
        db, Change(providers=["google"], pattern="unusual", sample=UNUSUAL, advice="Slow down.", threshold=1, letters_per_minute=5)
    )  # fmt: skip
    await notice(db, "google", "mx", heard(UNUSUAL), now=NOW)
    assert [one.rule_id for one in await in_force(db)] == [made.id]
    await reply_rule_table.delete(db, made.id)
    assert await in_force(db) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (Change(pattern="(", sample="("), "invalid_pattern"),
        (Change(pattern="apple", sample="pear"), "no_match"),
        (Change(suspend=False), "no_action"),
        (Change(providers=["gmail"]), "unknown_provider"),
    ],
)
async def test_a_rule_that_could_not_work_is_refused(db, change, code):
    """A pattern that is none or misses its sample, a rule without action, a provider nobody has (google, not gmail): said at once."""
    rule = await reply_rule_table.create(db, Change(pattern="a", sample="a", advice="b", suspend=True))
    with pytest.raises(Invalid) as refused:
        await reply_rule_table.update(db, rule.id, change)
    assert refused.value.code == code


async def test_old_counts_and_overrides_are_forgotten(db):
    """What no rule looks at any more and what was over a week ago is deleted."""
    await notice(db, "google", "mx", heard(UNUSUAL), now=NOW)
    await notice(db, "gmx", "mx", heard("421 Messages from 192.0.2.25 temporarily deferred"), now=NOW)
    await overrides.forget(db, now=NOW + timedelta(hours=26))
    assert await db.fetchval("SELECT count(*) FROM reply_counts") == 0
    assert await db.fetchval("SELECT count(*) FROM provider_overrides") == 1
    await overrides.forget(db, now=NOW + timedelta(days=8))
    assert await db.fetchval("SELECT count(*) FROM provider_overrides") == 0


async def test_a_thousand_refusals_at_once_are_counted_quickly(db):
    """A storm costs the recorder little: a batch of five hundred refusals is counted in well under a second."""
    refusals = [
        Refusal("google", None, heard(f"421 4.7.28 [192.0.2.{n % 250}] an unusual rate {n}")) for n in range(500)
    ]
    async with asyncio.timeout(5):
        async with db.transaction():
            verdicts = await notice_all(db, "mx", refusals, now=NOW)
    assert all(verdict.until == NOW + timedelta(minutes=30) for verdict in verdicts)
    assert len(await in_force(db)) == 1
