"""Straight to the recipients' servers: the way to each domain, and what one provider's trouble means for the others."""
# ruff: noqa: SIM117  (a peer listens where its world says)

import contextlib
import random
from collections import Counter

import dns.rcode
import pytest

from mailbase.sending.deliveries import records
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.mx.mx_dns import forget_old
from mailbase.sending.providers.providers import Limits
from sending.mx_kit import (
    TLS_EHLO,
    Table,
    envelope,
    hosts,
    peer,
    until,
    world,
)
from smtp_peer import DROP, SILENCE

# The way to a domain


async def test_a_letter_goes_to_the_best_mail_host():
    """The MX with the lowest preference gets the letters, over no more connections than it takes to begin with."""
    async with world(hosts("example.com", "127.0.0.2", "127.0.0.3")) as place:
        async with peer(place, "127.0.0.2") as best, peer(place, "127.0.0.3") as backup:
            outcomes = await place.send(*[envelope(f"u{n}@example.com") for n in range(5)])
            assert [outcome.kind for outcome in outcomes] == ["sent"] * 5
            assert best.connections <= 2
            assert (len(best.letters), backup.connections) == (5, 0)
            assert best.lines[0] == "EHLO mail.shop.example"


async def test_a_domain_without_mx_is_its_own_mail_host():
    """Without an MX record the domain's address takes the mail (RFC 5321 § 5.1), over IPv6 where that is all there is."""
    async with world({("example.com", "A"): ["127.0.0.1"], ("six.example", "AAAA"): ["::1"]}) as place:
        async with peer(place) as four, peer(place, "::1") as six:
            outcomes = await place.send(envelope("a@example.com"), envelope("b@six.example"))
            assert [outcome.kind for outcome in outcomes] == ["sent", "sent"]
            assert (len(four.letters), len(six.letters)) == (1, 1)


async def test_a_null_mx_is_refused_for_good():
    """A domain that says it takes no mail (RFC 7505) ends its letters, even where it has an address."""
    async with world({("example.com", "MX"): ["0 ."], ("example.com", "A"): ["127.0.0.1"]}) as place:
        async with peer(place) as server:
            (outcome,) = await place.send(envelope())
            assert (outcome.kind, outcome.bounce_class, outcome.reason) == ("refused", "hard", "bad_domain")
            assert (outcome.code, outcome.enhanced, server.connections) == (556, "5.1.10", 0)


async def test_a_missing_domain_is_believed_after_a_day(pool, db):
    """A domain that is not there defers its letters first; still missing a day later, it ends them."""
    async with world({}, pool=pool) as place:
        (outcome,) = await place.send(envelope("a@gone.example"))
        assert (outcome.kind, outcome.reason, outcome.free) == ("deferred", "bad_domain", False)
    await db.execute("UPDATE mx_answers SET missing_since = missing_since - interval '23 hours', expires_at = now()")
    async with world({}, pool=pool) as place:
        assert (await place.send(envelope("a@gone.example")))[0].kind == "deferred"
    await db.execute("UPDATE mx_answers SET missing_since = missing_since - interval '2 hours', expires_at = now()")
    async with world({}, pool=pool) as place:
        (outcome,) = await place.send(envelope("a@gone.example"))
        assert (outcome.kind, outcome.bounce_class, outcome.reason) == ("refused", "hard", "bad_domain")


async def test_mail_hosts_without_addresses_are_as_good_as_none(pool, db):
    """A domain all of whose mail hosts are gone ends its letters after a day, too; one that DNS is silent about is not gone."""
    zone: dict = {
        ("example.com", "MX"): ["10 mx.gone.example", "20 mx.lost.example"],
        ("example.com", "A"): ["127.0.0.1"],
    }
    later = "UPDATE mx_answers SET missing_since = missing_since - interval '25 hours', expires_at = now()"
    async with world(zone, pool=pool) as place:
        (outcome,) = await place.send(envelope())
        assert (outcome.kind, outcome.reason, outcome.free) == ("deferred", "bad_domain", False)
    await db.execute(later)
    zone["mx.lost.example", "A"] = zone["mx.lost.example", "AAAA"] = dns.rcode.SERVFAIL
    async with world(zone, pool=pool) as place:
        (outcome,) = await place.send(envelope())
        assert (outcome.kind, outcome.reason) == ("deferred", "dns")
    await db.execute(later)
    del zone["mx.lost.example", "A"], zone["mx.lost.example", "AAAA"]
    async with world(zone, pool=pool) as place:
        (outcome,) = await place.send(envelope())
        assert (outcome.kind, outcome.bounce_class, outcome.reason) == ("refused", "hard", "bad_domain")


async def test_a_domain_that_comes_back_starts_its_day_anew(pool, db):
    """One answer with a mail host forgets since when there was none."""
    async with world({}, pool=pool) as place:
        await place.send(envelope("a@example.com"))
    await db.execute("UPDATE mx_answers SET missing_since = now() - interval '2 days', expires_at = now()")
    async with world({("example.com", "A"): ["127.0.0.1"]}, pool=pool) as place, peer(place):
        assert (await place.send(envelope("a@example.com")))[0].kind == "sent"
    await db.execute("UPDATE mx_answers SET expires_at = now()")
    async with world({}, pool=pool) as place:
        assert (await place.send(envelope("a@example.com")))[0].kind == "deferred"


@pytest.mark.parametrize("answer", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_no_answer_from_dns_says_nothing_about_a_domain(answer):
    """SERVFAIL defers: it is never taken for a domain that does not exist."""
    zone = {("example.com", "MX"): answer, ("example.com", "A"): ["127.0.0.1"]}
    async with world(zone) as place:
        (outcome,) = await place.send(envelope())
    assert (outcome.kind, outcome.reason, outcome.bounce_class) == ("deferred", "dns", None)


async def test_answers_are_shared_by_all_workers(pool):
    """What one worker asked, the next one knows, for as long as the record says."""
    zone = hosts("example.com", "127.0.0.1")
    async with world(zone, pool=pool) as place, peer(place):
        await place.send(envelope(), envelope("b@example.com"))
        assert Counter(place.dns.asked)["example.com", "MX"] == 1
    async with world(zone, pool=pool) as place, peer(place):
        assert (await place.send(envelope()))[0].kind == "sent"
        assert place.dns.asked == []


async def test_what_no_longer_holds_is_forgotten(pool, db):
    """Domains nobody has written to for a week are forgotten; those that still hold stay."""
    async with world(hosts("example.com", "127.0.0.1"), pool=pool) as place, peer(place):
        await place.send(envelope())
    await db.execute("UPDATE mx_answers SET expires_at = now() - interval '8 days' WHERE kind = 'MX'")
    await forget_old(db)
    assert {row["kind"] for row in await db.fetch("SELECT kind FROM mx_answers")} == {"ADDRESS", "STS"}


async def test_a_server_that_is_its_own_best_mail_host_sends_to_nobody():
    """Mail for a domain whose best host is ourselves is not sent in a circle."""
    zone = {
        ("example.com", "MX"): ["10 mail.shop.example", "20 backup.example"],
        ("backup.example", "A"): ["127.0.0.1"],
    }
    async with world(zone) as place, peer(place) as server:
        (outcome,) = await place.send(envelope())
        assert (outcome.kind, outcome.reason, server.connections) == ("deferred", "loop", 0)


async def test_private_addresses_get_no_mail_unless_that_is_wanted():
    """A domain that points at loopback or a private network cannot make us talk to our own machines."""
    async with world(hosts("example.com", "127.0.0.1"), allow_private=False) as place, peer(place) as server:
        (outcome,) = await place.send(envelope())
        assert (outcome.kind, outcome.reason, server.connections) == ("deferred", "unreachable", 0)


# The next host, or not


async def test_a_host_that_cannot_be_reached_is_passed_over_and_remembered():
    """The backup takes the letters when nobody is at the best host, which is then left alone for two minutes."""
    async with world(hosts("example.com", "127.0.0.2", "127.0.0.3")) as place:
        async with peer(place, "127.0.0.3") as backup:
            assert (await place.send(envelope()))[0].kind == "sent"
        async with peer(place, "127.0.0.2") as best, peer(place, "127.0.0.3") as backup:
            await until(lambda: not place.transport._connections())
            assert (await place.send(envelope()))[0].kind == "sent"
            assert (best.connections, backup.connections) == (0, 1)


async def test_a_host_that_says_nothing_is_left_alone():
    """What takes connections and never speaks keeps letters waiting once, not again and again; nor does a row of such hosts."""
    zone = hosts("example.com", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
    zone |= {("second.example", "MX"): ["10 mx.second.example"], ("mx.second.example", "A"): ["127.0.0.1"]}
    async with world(zone) as place, contextlib.AsyncExitStack() as stack:
        silent = [
            await stack.enter_async_context(peer(place, f"127.0.0.{n}", {"greeting": SILENCE})) for n in range(1, 6)
        ]
        (first,) = await place.send(envelope())
        assert (first.kind, first.reason, first.free) == ("deferred", "unreachable", False)
        assert [server.connections for server in silent] == [1, 1, 1, 0, 0]
        (second,) = await place.send(envelope("ann@second.example"))
        assert (second.reason, "no answer" in second.reply) == ("unreachable", True)
        assert silent[0].connections == 1


async def test_both_kinds_of_addresses_are_tried():
    """A host with many IPv4 addresses is reached over IPv6 where the others lead nowhere."""
    zone = {("example.com", "MX"): ["10 mx.example.com"], ("mx.example.com", "AAAA"): ["::1"]}
    zone["mx.example.com", "A"] = [f"127.0.0.{n}" for n in range(2, 9)]
    async with world(zone) as place, peer(place, "::1") as server:
        assert (await place.send(envelope()))[0].kind == "sent"
        assert len(server.letters) == 1


async def test_a_host_whose_name_no_certificate_could_have_is_no_trap():
    """TLS cannot begin with a name of a hundred escapes: the letter goes in clear text, or the provider's rule says no; it does not wait for ever."""
    odd = "\\255" * 40 + ".example.com"
    zone = {("example.com", "MX"): [f"10 {odd}"], (odd, "A"): ["127.0.0.1"]}
    limits = Table(careful=Limits(tls="required"))
    async with world(zone, providers=limits) as place, peer(place, answers={"EHLO": TLS_EHLO}) as server:
        assert (await place.send(envelope()))[0].kind == "sent"
        (refused,) = await place.send(envelope(provider="careful"))
        assert (refused.kind, refused.reason) == ("deferred", "tls")
        assert len(server.letters) == 1


async def test_nobody_there_defers():
    """No host of a domain can be reached: its letters wait, the reason in words, and the attempt counts."""
    async with world(hosts("example.com", "127.0.0.2")) as place:
        outcomes = await place.send(envelope(), envelope())
        assert {(one.kind, one.reason, one.free) for one in outcomes} == {("deferred", "unreachable", False)}
        assert "mx0.example.com (127.0.0.2)" in outcomes[0].reply


@pytest.mark.parametrize("greeting", ["554 no service here", "450 later", DROP, SILENCE])
async def test_a_host_out_of_order_is_passed_over(greeting):
    """A refusal at the greeting that does not speak of us sends the letter to the next host."""
    async with world(hosts("example.com", "127.0.0.2", "127.0.0.3")) as place:
        async with peer(place, "127.0.0.2", {"greeting": greeting}), peer(place, "127.0.0.3") as backup:
            assert (await place.send(envelope()))[0].kind == "sent"
            assert len(backup.letters) == 1


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("greeting", "421 4.7.0 [TSS04] messages temporarily deferred"),
        ("greeting", "554 5.7.1 blocked"),
        ("EHLO", "421 too many connections"),
        ("EHLO", "451 4.7.650 rate limited"),
        ("greeting", "450 too many connections from your address"),
        ("greeting", "554 the sending address is on a block list"),
    ],
)
async def test_a_refusal_of_us_is_not_taken_to_the_backup(step, answer):
    """A rate refusal ends there: to try the next host would be abuse. The letter goes back and its attempt does not count."""
    async with world(hosts("example.com", "127.0.0.2", "127.0.0.3")) as place:
        async with peer(place, "127.0.0.2", {step: answer}), peer(place, "127.0.0.3") as backup:
            (outcome,) = await place.send(envelope())
            assert (outcome.kind, outcome.reason, outcome.free) == ("deferred", "turned_away", True)
            assert (outcome.reply, backup.connections) == (answer[4:], 0)
            assert outcome.retry_after >= 5


# One provider's trouble is its own


async def test_a_provider_that_turns_us_away_stops_itself_only():
    """Refused at MAIL, one provider's letters go back unburnt and it counts as full; the other's arrive."""
    zone = hosts("strict.example", "127.0.0.2") | hosts("fine.example", "127.0.0.3")
    async with (
        world(zone) as place,
        peer(place, "127.0.0.2", {"MAIL": "450 4.7.1 too fast, try again in 60 seconds"}),
        peer(place, "127.0.0.3") as fine,
    ):
        letters = [envelope(f"u{n}@{'strict' if n % 2 else 'fine'}.example") for n in range(20)]
        outcomes = await place.send(*letters)
        assert [outcome.kind for outcome in outcomes] == ["sent", "deferred"] * 10
        refused = [outcome for outcome in outcomes if outcome.kind == "deferred"]
        assert {(outcome.reason, outcome.free, outcome.bounce_class) for outcome in refused} == {
            ("turned_away", True, None)
        }
        assert min(outcome.retry_after for outcome in refused) >= 50
        assert place.transport.full() == {"site:strict.example"}
        (again,) = await place.send(envelope("late@strict.example"))
        assert (again.free, again.reply) == (True, "4.7.1 too fast, try again in 60 seconds")
        assert len(fine.letters) == 10


async def test_421_after_some_letters_costs_no_letter():
    """A server that ends each session after fifty letters gets them all, over several."""
    mails: Counter[int] = Counter()

    def mail(server, _):
        mails[server.connections] += 1
        return "421 4.7.0 enough for one session" if mails[server.connections] > 50 else "250 ok"

    async with world(hosts("example.com", "127.0.0.1"), providers=Table(big=Limits(connections=1))) as place:
        async with peer(place, answers={"MAIL": mail}) as server:
            outcomes = await place.send(*[envelope(f"u{n}@example.com", provider="big") for n in range(120)])
            assert {outcome.kind for outcome in outcomes} == {"sent"}
            assert len(server.letters) == 120
            assert server.connections == 3


async def test_who_refused_is_told_where_nobody_knew_it_before(db):
    """A letter to a domain nobody had looked up counts, for the rules on replies, as its provider's, which is found out on the way."""
    providers = Table()
    await providers.load(db)
    zone = {("firm.example", "MX"): ["10 aspmx.l.google.com"], ("aspmx.l.google.com", "A"): ["127.0.0.1"]}
    unusual = "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address."
    providers.by_name["google"] = Limits()
    async with world(zone, providers=providers) as place, peer(place, answers={"DOT": unusual}):
        (outcome,) = await place.send(envelope("ann@firm.example"))
        (again,) = await place.send(envelope("bob@firm.example"))
        (known,) = await place.send(envelope("ann@firm.example", provider="google"))
    assert [one.provider for one in (outcome, again, known)] == ["google", "google", None]
    assert (outcome.free, again.free) == (False, True)
    letter = Handed(1, 1, None, None, None, "other", "ann@firm.example", None, 1, None, egress="mx")
    await records.record(db, [(letter, outcome)], slot=0, random=random.Random(1))
    assert await db.fetch("SELECT provider FROM reply_counts") == [("google",)]
