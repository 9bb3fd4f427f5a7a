"""Straight to the recipients' servers: the way to each domain, TLS, and what one provider's trouble means for the others."""
# ruff: noqa: SIM117  (a peer listens where its world says)

import asyncio
import contextlib
import random
import ssl
from collections import Counter
from datetime import UTC, datetime, timedelta

import dns.rcode
import pytest
import trustme

from mailbase.audience import addresses
from mailbase.config import Settings
from mailbase.db import connect
from mailbase.letters.content import Sender
from mailbase.sending.deliveries import leases, records
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.messages import NewMessage
from mailbase.sending.dispatch.transport import ways
from mailbase.sending.mx import parts
from mailbase.sending.mx.dial import Dialer, opportunistic
from mailbase.sending.mx.mx_dns import DnsMxResolver, forget_old
from mailbase.sending.mx.parts import Parts
from mailbase.sending.mx.route import Host
from mailbase.sending.mx.transport import Directory
from mailbase.sending.providers.providers import Limits
from mailbase.sending.smtp.session import Timeouts
from sending.mx_kit import BODY, Table, envelope, hosts, policy, policy_server, server_tls, world
from smtp_peer import DROP, EHLO, SILENCE, SmtpPeer

TLS_EHLO = EHLO.replace("250-8BITMIME", "250-STARTTLS\n250-8BITMIME")


def peer(place, host="127.0.0.1", answers=None, **kw) -> SmtpPeer:
    return SmtpPeer(answers, host=host, port=place.port, **kw)


async def until(condition) -> None:
    """Wait until something that happens elsewhere is so; five seconds at most."""
    deadline = asyncio.get_running_loop().time() + 5
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


async def until_it_is(condition) -> None:
    """As :func:`until`, of something that has to be awaited."""
    deadline = asyncio.get_running_loop().time() + 5
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


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


async def test_a_refused_recipient_is_the_letters_own_affair():
    """What a server says at RCPT reaches the letter as it was said, and the next ones go on."""
    answers = {"RCPT": lambda _, line: "550 5.1.1 unknown user" if "bad" in line else "250 ok"}
    async with world(hosts("example.com", "127.0.0.1")) as place, peer(place, answers=answers):
        outcomes = await place.send(envelope("bad@example.com"), envelope("good@example.com"))
        assert [(one.kind, one.bounce_class, one.free) for one in outcomes] == [
            ("refused", "hard", False),
            ("sent", None, False),
        ]


async def test_a_providers_connections_are_counted_over_all_its_hosts():
    """Two sites of one provider share its connections, and both are served."""
    zone = hosts("one.example", "127.0.0.2") | hosts("two.example", "127.0.0.3")
    async with world(zone, providers=Table(big=Limits(connections=1))) as place:
        async with peer(place, "127.0.0.2") as one, peer(place, "127.0.0.3") as two:
            outcomes = await place.send(
                *[envelope(f"u{n}@{'one' if n % 2 else 'two'}.example", provider="big") for n in range(40)]
            )
            assert {outcome.kind for outcome in outcomes} == {"sent"}
            assert (len(one.letters), len(two.letters)) == (20, 20)
            assert one.most_open == two.most_open == 1
            assert one.open + two.open <= 1


async def test_connections_grow_with_success_up_to_the_limit():
    """A slow server is kept full: connections rise one by one as letters leave, never above the provider's limit."""

    class Slow(SmtpPeer):
        async def _say(self, writer, step, line=""):
            if step == "DOT":
                await asyncio.sleep(0.01)
            return await super()._say(writer, step, line)

    async with world(hosts("example.com", "127.0.0.1"), providers=Table(big=Limits(connections=4))) as place:
        async with Slow(host="127.0.0.1", port=place.port) as server:
            outcomes = await place.send(*[envelope(f"u{n}@example.com", provider="big") for n in range(200)])
            assert {outcome.kind for outcome in outcomes} == {"sent"}
            assert server.most_open == 4


async def test_letters_per_connection_are_kept():
    """A connection ends after the provider's number of letters, and another one goes on."""
    limits = Limits(connections=1, letters_per_connection=5)
    async with world(hosts("example.com", "127.0.0.1"), providers=Table(apple=limits)) as place, peer(place) as server:
        await place.send(*[envelope(f"u{n}@example.com", provider="apple") for n in range(20)])
        await until(lambda: server.seen("QUIT") == 4)
        assert server.connections == 4


async def test_a_pace_is_kept_and_what_does_not_fit_goes_back():
    """120 letters a minute leave one by one, half a second apart; those that would wait too long go back unburnt."""
    limits = Limits(letters_per_minute=120)
    async with world(hosts("example.com", "127.0.0.1"), providers=Table(calm=limits)) as place, peer(place) as server:
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcomes = await place.send(*[envelope(f"u{n}@example.com", provider="calm") for n in range(40)])
        sent = sum(outcome.kind == "sent" for outcome in outcomes)
        assert 8 <= sent <= (loop.time() - began) * 2 + 1
        assert len(server.letters) == sent
        assert {(one.kind, one.reason, one.free) for one in outcomes if one.kind != "sent"} == {
            ("deferred", "busy", True)
        }


async def test_letters_whose_way_was_long_in_coming_wait_no_longer_than_others():
    """Where DNS takes its time, what waits for its turn afterwards is looked at all the same."""

    class Late:
        def __init__(self, resolver) -> None:
            self.resolver, self.may_answer = resolver, asyncio.Event()

        async def ask(self, name, kind):
            await self.may_answer.wait()
            return await self.resolver.ask(name, kind)

    limits = Table(slow=Limits(letters_per_minute=1))
    async with world(hosts("example.com", "127.0.0.1"), providers=limits) as place, peer(place) as server:
        late = place.directory.answers._resolver = Late(place.directory.answers._resolver)
        letters = [envelope(f"u{n}@example.com", provider="slow") for n in range(2)]
        sending = asyncio.create_task(place.transport.hand_over(letters, lambda _: None))
        await until(lambda: place.transport._finding and place.transport._sweeping is None)
        late.may_answer.set()
        await until(lambda: server.letters)
        assert place.transport._sweeping is not None
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_suspended_provider_gets_nothing():
    """While a rule suspends a provider its letters go back at once, and it counts as full."""
    limits = Limits(suspended_until=datetime.now(UTC) + timedelta(minutes=2))
    async with world(hosts("example.com", "127.0.0.1"), providers=Table(yahoo=limits)) as place, peer(place) as server:
        (outcome,) = await place.send(envelope(provider="yahoo"))
        assert (outcome.reason, outcome.free, server.connections) == ("suspended", True, 0)
        assert 100 < outcome.retry_after <= 121
        assert "yahoo" in place.transport.full()


async def test_limits_are_shared_by_workers():
    """Each of several workers keeps its part of a provider's connections; where there is none for it, it leaves the letters to the others."""
    limits = Table(big=Limits(connections=8), narrow=Limits(connections=1))
    async with world(hosts("example.com", "127.0.0.1"), providers=limits, parts=Parts(4)) as place:
        async with peer(place) as server:
            await place.send(*[envelope(f"u{n}@example.com", provider="big") for n in range(100)])
            assert server.most_open <= 2
            before = server.connections
            (outcome,) = await place.send(envelope(provider="narrow"))
            assert (outcome.kind, outcome.reason, outcome.free) == ("deferred", "busy", True)
            assert "narrow" in place.transport.full()
            assert server.connections == before


@pytest.mark.parametrize("expected", [1, 2, 4])
async def test_the_parts_of_all_workers_are_never_more_than_the_whole(database_url, expected):
    """Three workers on any machines know of each other; their parts add up to the limit, or less where more are expected."""
    workers = [Parts(expected) for _ in range(3)]
    for whole in range(12):
        assert expected == 1 or sum(one.of(whole) for one in workers[:expected]) <= whole
    async with contextlib.AsyncExitStack() as stack:
        sessions = [await connect(database_url) for _ in workers]
        for session in sessions:
            stack.push_async_callback(session.close)
        locks = [await session.fetchval(parts.TAKE, parts.LOCKS) for session in sessions]
        assert sorted(locks) == [0, 1, 2]
        for one, session, lock in zip(workers, sessions, locks, strict=True):
            await one.look(session, lock)
        for whole in range(12):
            found = sum(one.of(whole) for one in workers)
            assert found == whole if expected < 4 else whole - 2 <= found <= whole
        for connections in range(1, 12):
            sharing = [one.rate(60, connections) for one in workers if one.of(connections)]
            assert 45 <= sum(sharing) <= 60 if expected == 4 and connections > 3 else sum(sharing) == pytest.approx(60)


async def test_messages_are_left_to_a_worker_that_may_send_them(db):
    """A worker without a part of a provider's connections leases no messages to it; those to a domain nobody knows only where others are late."""
    limits = Table(narrow=Limits(connections=1))
    limits._rows = dict.fromkeys(["narrow", "google"])
    domain_id = await db.fetchval("INSERT INTO domains (name) VALUES ('shop.example') RETURNING id")
    for provider in ("narrow", "google", "other"):
        message = NewMessage(
            kind="transactional", from_=Sender("Shop", "a@shop.example"), to=addresses.parse(f"ann@{provider}.example"),
            subject="Hi", text="Hi.",
        )  # fmt: skip
        _, letter_id = await messages.create(db, message)
        await db.execute("UPDATE deliveries SET provider = $2 WHERE id = $1", letter_id, provider)
    due = await db.fetchval("UPDATE deliveries SET due_at = now() - interval '1 hour' RETURNING due_at")
    assert domain_id
    async with world(providers=limits, parts=Parts(4)) as place:
        way = place.transport.urgent()
        assert way.full() == {"narrow"}
        for late, whom in ((0, "google"), (1, "other")):
            _, letters = await leases.lease_messages(
                db, 9, full=way.full(), now=due + timedelta(seconds=late / 2 + 0.1)
            )
            assert [letter.email for letter in letters] == [f"ann@{whom}.example"]
        await way.close()
    _, rest = await leases.lease_messages(db, 9)
    assert [letter.email for letter in rest] == ["ann@narrow.example"]


async def test_an_urgent_letter_gets_a_connection_of_another_site_s():
    """Where all connections a provider allows are busy with one site, a message to another site waits for one letter at most."""
    zone = hosts("busy.example", "127.0.0.1") | hosts("other.example", "127.0.0.2")
    async with world(zone, providers=Table(both=Limits(connections=1))) as place:
        async with peer(place) as busy, peer(place, host="127.0.0.2") as other:
            await place.send(envelope("bob@other.example", provider="both"))
            letters = [envelope(f"u{n}@busy.example", provider="both") for n in range(90)]
            many = asyncio.create_task(place.send(*letters))
            await until(lambda: busy.letters)
            (outcome,) = await place.send(envelope("ann@other.example", provider="both"), urgent=True)
            assert (outcome.kind, len(other.letters)) == ("sent", 2)
            assert len(busy.letters) < 80
            assert {one.kind for one in await many} == {"sent"}
            assert len(busy.letters) == 90
            assert busy.most_open == 1


async def test_fewer_connections_are_so_at_once():
    """A limit that is lowered closes connections after the letter they have in hand."""
    table = Table(big=Limits(connections=6))
    async with world(hosts("example.com", "127.0.0.1"), providers=table) as place, peer(place) as server:
        await place.send(*[envelope(f"u{n}@example.com", provider="big") for n in range(100)])
        assert server.most_open > 2
        table.by_name["big"] = Limits(connections=1)
        lane = place.transport._lanes["big"]
        lane._looked = float("-inf")
        await place.send(*[envelope(f"v{n}@example.com", provider="big") for n in range(20)])
        assert lane.open == 1


async def test_messages_go_before_campaigns():
    """An urgent letter is the next to leave, whatever waits."""
    limits = Limits(connections=1, letters_per_minute=300)
    async with world(hosts("example.com", "127.0.0.1"), providers=Table(calm=limits)) as place, peer(place) as server:
        slow = asyncio.create_task(place.send(*[envelope(f"u{n}@example.com", provider="calm") for n in range(15)]))
        await until(lambda: len(server.letters) >= 2)
        await place.send(envelope("now@example.com", provider="calm"), urgent=True)
        assert len(server.letters) <= 6
        assert any(letter[1] == "now@example.com" for letter in server.letters)
        await slow


async def test_an_address_beyond_ascii_needs_smtputf8():
    """A host without SMTPUTF8 ends the letter for good; one with it gets the address as it is."""
    zone = hosts("example.com", "127.0.0.2") | hosts("example.org", "127.0.0.3")
    async with world(zone) as place:
        async with peer(place, "127.0.0.2", {"EHLO": "250-x\n250 PIPELINING"}), peer(place, "127.0.0.3") as modern:
            outcomes = await place.send(envelope("пётр@example.com"), envelope("пётр@example.org"))
            assert (outcomes[0].kind, outcomes[0].bounce_class, outcomes[1].kind) == ("refused", "hard", "sent")
            assert outcomes[0].reply.startswith("smtputf8")
            assert modern.letters[0][1] == "пётр@example.org"


async def test_a_source_address_is_used_and_named():
    """Each source address is a way out of its own; one that is not ours stops it and says so."""
    async with world(hosts("example.com", "127.0.0.1"), source="127.0.0.9") as place:
        froms = []

        def greet(server, _):
            froms.extend(writer.get_extra_info("peername")[0] for writer in server._writers)
            return "220 hi"

        async with peer(place, answers={"greeting": greet}):
            assert (await place.send(envelope()))[0].kind == "sent"
        assert (place.transport.name, froms) == ("mx:127.0.0.9", ["127.0.0.9"])
    async with world(hosts("example.com", "127.0.0.1"), source="192.0.2.77") as place, peer(place):
        (outcome,) = await place.send(envelope())
        assert (outcome.kind, outcome.phase) == ("relay", "connect")
        assert "192.0.2.77" in outcome.reply


async def test_a_host_of_another_kind_of_address_is_left_to_another_source():
    """With sources of both kinds a letter that the one cannot bring comes back at once for the other, and no more of its provider is taken here."""
    zone = hosts("four.example", "127.0.0.1") | hosts("six.example", "::1")
    both = {"sources": ("::1", "127.0.0.1")}
    async with world(zone, source="::1", **both) as place, peer(place, "::1") as server, peer(place) as other:
        (outcome,) = await place.send(envelope("a@four.example"))
        assert (outcome.kind, outcome.reason, outcome.free, outcome.retry_after) == ("deferred", "busy", True, 1)
        assert "site:four.example" in place.transport.full()
        way = place.transport.urgent()
        assert way.full() == {"site:four.example"}
        await way.close()
        assert (await place.send(envelope("a@six.example")))[0].kind == "sent"
        assert (len(server.letters), other.connections) == (1, 0)
    async with world(zone, source="::1", sources=("::1",)) as alone, peer(alone):
        (outcome,) = await alone.send(envelope("a@four.example"))
        assert (outcome.reason, outcome.free) == ("unreachable", False)


def test_messages_leave_from_the_first_source_of_each_kind(tmp_path):
    """So that a message reaches a host that has one kind of address only."""
    urls = {
        "mx:?source=192.0.2.1&source=192.0.2.2&source=2001:db8::1": {"mx:192.0.2.1", "mx:2001:db8::1"},
        "mx:": {"mx"},
    }
    for url, expected in urls.items():
        settings = Settings.from_env({"MAILBASE_SMTP_URL": url, "MAILBASE_DATA_DIR": str(tmp_path)})
        assert ways(settings, None, Table()).messages.keys() == expected


async def test_cancelled_and_closed_letters_have_an_outcome():
    """Cancelled or closed in the middle, every letter is accounted for."""
    async with world(hosts("example.com", "127.0.0.1"), providers=Table(big=Limits(connections=1))) as place:
        async with peer(place, answers={"DOT": SILENCE}) as server:
            outcomes = []
            letters = [envelope(f"u{n}@example.com", provider="big") for n in range(5)]
            task = asyncio.create_task(place.transport.hand_over(letters, outcomes.append))
            await until(lambda: server.seen("DATA"))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await place.transport.close()
            await until(lambda: len(outcomes) == 5)
    assert Counter(outcome.kind for outcome in outcomes) == {"not_sent": 4, "unknown": 1}


# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def encrypted(server: SmtpPeer) -> bool:
    return server.seen("STARTTLS") > 0 and server.seen("EHLO") == 2 * server.seen("STARTTLS")


async def test_tls_is_used_where_it_is_offered_whatever_the_certificate():
    """Without a policy any certificate will do: encryption that is not verified is better than none."""
    async with world(hosts("example.com", "127.0.0.1")) as place:
        context = server_tls(trustme.CA(), "somebody-else.example")
        async with peer(place, answers={"EHLO": TLS_EHLO}, context=context) as server:
            assert (await place.send(envelope()))[0].kind == "sent"
            assert encrypted(server)


async def test_broken_tls_is_remembered_and_clear_text_used(pool, db):
    """A host whose TLS breaks down gets its letters in clear text, at once and for three days, from every worker."""
    zone = hosts("example.com", "127.0.0.1")
    broken = {"EHLO": TLS_EHLO, "STARTTLS": b"220 go on\r\nthis is not TLS at all\r\n"}
    async with world(zone, pool=pool) as place, peer(place, answers=broken) as server:
        assert (await place.send(envelope()))[0].kind == "sent"
        assert (server.connections, server.seen("STARTTLS")) == (2, 1)
    assert await db.fetchval(
        "SELECT until > now() + interval '71 hours' FROM mx_broken_tls WHERE host = 'mx0.example.com'"
    )
    async with world(zone, pool=pool) as place, peer(place, answers=broken) as server:
        assert (await place.send(envelope()))[0].kind == "sent"
        assert (server.connections, server.seen("STARTTLS")) == (1, 0)


@pytest.mark.parametrize(
    "answer", [{"MAIL": "530 5.7.0 Must issue a STARTTLS command first"}, {"RCPT": "550 5.7.10 Encryption needed"}]
)
async def test_a_host_that_insists_on_tls_gets_another_try_of_it(pool, db, answer):
    """What is remembered as broken may have been a bad moment: a host that takes no clear text is not written to in it for days."""
    async with world(hosts("example.com", "127.0.0.1"), pool=pool) as place:
        await place.directory.broken.remember("mx0.example.com", "a bad moment")
        async with peer(place, answers={"EHLO": TLS_EHLO, **answer}) as server:
            (outcome,) = await place.send(envelope())
            assert (outcome.kind, outcome.reason, outcome.free) == ("deferred", "tls", True)
            assert server.seen("STARTTLS") == 0

            async def forgotten():
                return await db.fetchval("SELECT count(*) = 0 FROM mx_broken_tls")

            await until_it_is(forgotten)
            assert not await place.directory.broken.known("mx0.example.com")


@pytest.mark.parametrize(
    "answers", [{}, {"EHLO": TLS_EHLO, "STARTTLS": "454 4.7.0 not now"}, {"EHLO": TLS_EHLO, "STARTTLS": DROP}]
)
async def test_a_provider_that_must_have_tls_gets_no_clear_text(answers):
    """Where the provider's limits say so, no TLS means no letter."""
    async with world(hosts("example.com", "127.0.0.1"), providers=Table(google=Limits(tls="required"))) as place:
        async with peer(place, answers=answers) as server:
            (outcome,) = await place.send(envelope(provider="google"))
            assert outcome.kind == "deferred"
            assert (outcome.reason, outcome.free) == ("tls", False)
            assert server.letters == []


async def test_a_host_that_has_no_tls_just_now_is_passed_over(authority, trusting):
    """454 4.7.0 at STARTTLS says nothing about us: the next host has it, and the provider is not left alone for it."""
    zone = hosts("example.com", "127.0.0.2", "127.0.0.3")
    limits = Table(google=Limits(tls="required"))
    tls = server_tls(authority, "mx1.example.com")
    async with world(zone, providers=limits, context=trusting) as place:
        out_of_order = {"EHLO": TLS_EHLO, "STARTTLS": "454 4.7.0 TLS not available due to temporary reason"}
        async with (
            peer(place, "127.0.0.2", out_of_order),
            peer(place, "127.0.0.3", {"EHLO": TLS_EHLO}, context=tls) as second,
        ):
            assert (await place.send(envelope(provider="google")))[0].kind == "sent"
            assert len(second.letters) == 1


STS = {("_mta-sts.example.com", "TXT"): ["v=STSv1; id=1"], ("mta-sts.example.com", "A"): ["127.0.0.1"]}


async def test_an_enforced_policy_wants_a_right_certificate(authority, trusting, pool):
    """Under MTA-STS a host with a right certificate gets the letter; the policy is fetched once, for all workers."""
    zone = hosts("example.com", "127.0.0.1") | STS
    site = server_tls(authority, "mta-sts.example.com")
    async with policy_server(site, lambda: policy("enforce", "mx0.example.com")) as (port, asked):
        for _ in range(2):
            async with (
                world(zone, context=trusting, policy_port=port, pool=pool) as place,
                peer(place, answers={"EHLO": TLS_EHLO}, context=server_tls(authority, "mx0.example.com")) as server,
            ):
                assert [one.kind for one in await place.send(envelope(), envelope())] == ["sent"] * 2
                assert encrypted(server)
        assert len(asked) == 1
        assert asked[0].startswith("GET /.well-known/mta-sts.txt ")
        assert "host: mta-sts.example.com\r\n" in asked[0].lower()


@pytest.mark.parametrize("fault", ["unknown authority", "other name", "no TLS", "host not in the policy"])
async def test_an_enforced_policy_that_is_not_met_defers(fault, authority, trusting):
    """No TLS, a wrong certificate or a host the policy does not name: the letter waits, and nothing is said in clear text."""
    zone = hosts("example.com", "127.0.0.1") | STS
    issuer = trustme.CA() if fault == "unknown authority" else authority
    context = server_tls(issuer, "other.example" if fault == "other name" else "mx0.example.com")
    named = "mail.example.com" if fault == "host not in the policy" else "*.example.com"
    answers = {} if fault == "no TLS" else {"EHLO": TLS_EHLO}
    async with (
        policy_server(server_tls(authority, "mta-sts.example.com"), lambda: policy("enforce", named)) as (
            port,
            _,
        ),
        world(zone, context=trusting, policy_port=port) as place,
    ):
        async with peer(place, answers=answers, context=context) as server:
            (outcome,) = await place.send(envelope())
            assert (outcome.kind, outcome.reason) == ("deferred", "mta_sts")
            assert (server.seen("MAIL"), server.letters) == (0, [])


async def test_a_policy_holds_although_it_can_no_longer_be_found(authority, trusting, pool):
    """Whoever takes the record or the server away does not take the policy away, until its max_age is over."""
    zone = hosts("example.com", "127.0.0.1") | STS
    site = server_tls(authority, "mta-sts.example.com")
    async with policy_server(site, lambda: policy("enforce", "mx0.example.com")) as (port, _):
        async with world(zone, context=trusting, policy_port=port, pool=pool) as place:
            assert await place.directory.policies.enforced("example.com") is not None
    for changed in ({("_mta-sts.example.com", "TXT"): []}, {("_mta-sts.example.com", "TXT"): ["v=STSv1; id=2"]}):
        async with pool.acquire() as db:
            await db.execute("DELETE FROM mx_answers")
        async with world(zone | changed, context=trusting, policy_port=port, pool=pool) as place:
            found = await place.directory.policies.enforced("example.com")
            assert found is not None
            assert found.hosts == ("mx0.example.com",)


async def test_odd_mail_hosts_are_passed_over_and_aliases_followed():
    """An address in a host's place is no host; an alias is one, as it is met; a host with IPv6 alone is reached."""
    zone = {
        ("example.com", "MX"): ["0 127.0.0.3", "10 alias.example.com"],
        ("alias.example.com", "CNAME"): ["real.example.com"],
        ("real.example.com", "AAAA"): ["::1"],
    }
    async with world(zone) as place, peer(place, "127.0.0.3") as literal, peer(place, "::1") as real:
        assert (await place.send(envelope()))[0].kind == "sent"
        assert (literal.connections, len(real.letters)) == (0, 1)


def test_equal_hosts_are_tried_in_any_order():
    """Hosts of the same preference share the load; the best still come first (RFC 5321 § 5.1)."""
    dialer = Dialer(
        None, None, hostname="mail.shop.example", port=25, source=None, private=False, context=ssl.create_default_context(),
        timeouts=Timeouts(), random=random.Random(1),
    )  # fmt: skip
    equal = [Host(0, "a.example"), Host(0, "b.example"), Host(5, "last.example")]
    orders = {tuple(host.name for host in dialer._in_order(equal)) for _ in range(50)}
    assert orders == {("a.example", "b.example", "last.example"), ("b.example", "a.example", "last.example")}


async def test_a_policy_that_changed_is_fetched_anew(authority, trusting, pool):
    """Another id in the record means another policy: it is fetched, and binds from then on."""
    zone = hosts("example.com", "127.0.0.1") | STS
    named = iter(["old.example.com", "new.example.com"])
    site = server_tls(authority, "mta-sts.example.com")
    async with policy_server(site, lambda: policy("enforce", next(named))) as (port, asked):
        for id, host in (("1", "old.example.com"), ("1", "old.example.com"), ("2", "new.example.com")):
            await pool.execute("DELETE FROM mx_answers")
            zone["_mta-sts.example.com", "TXT"] = [f"v=STSv1; id={id}"]
            async with world(zone, context=trusting, policy_port=port, pool=pool) as place:
                assert (await place.directory.policies.enforced("example.com")).hosts == (host,)
        assert len(asked) == 2


@pytest.mark.parametrize(
    ("text", "kw"),
    [
        (policy("testing", "mx.other.example"), {}),
        (policy("none"), {}),
        (policy("enforce", "mx.other.example", version="STSv2"), {}),
        (policy("enforce"), {}),
        (policy("enforce", "mx.other.example", max_age="soon"), {}),
        (policy("enforce", "mx.other.example"), {"kind": "text/html"}),
        (policy("enforce", "mx.other.example"), {"status": "301 Moved\r\nLocation: https://mta-sts.example.com/x"}),
        (policy("enforce", "mx.other.example") + "x" * 70_000, {}),
    ],
    ids=["testing", "none", "version", "no hosts", "max_age", "type", "redirect", "size"],
)
async def test_a_policy_that_does_not_bind_is_not_kept_to(text, kw, authority, trusting):
    """A policy in testing, or one that is none, changes nothing."""
    zone = hosts("example.com", "127.0.0.1") | STS
    async with policy_server(server_tls(authority, "mta-sts.example.com"), lambda: text, **kw) as (port, asked):
        async with world(zone, context=trusting, policy_port=port) as place, peer(place):
            assert (await place.send(envelope()))[0].kind == "sent"
            assert len(asked) == 1


async def test_policies_are_fetched_from_public_addresses_only(trusting):
    """A domain cannot make us fetch from our own network."""
    async with world(STS) as place:
        directory = Directory(DnsMxResolver([place.dns.address]), None, allow_private=False, context=trusting)
        assert await directory.policies.enforced("example.com") is None
        assert ("mta-sts.example.com", "A") in place.dns.asked


def test_the_opportunistic_context_believes_everybody():
    """Opportunistic TLS verifies neither authority nor name."""
    context = opportunistic()
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_NONE)
    assert BODY
