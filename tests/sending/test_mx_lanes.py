"""Straight to the recipients' servers: each provider's limits, shared by all workers, and what waits for its turn."""
# ruff: noqa: SIM117  (a peer listens where its world says)

import asyncio
import contextlib
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from mailbase.audience import addresses
from mailbase.config import Settings
from mailbase.db import connect
from mailbase.letters.content import Sender
from mailbase.sending.deliveries import leases
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.messages import NewMessage
from mailbase.sending.dispatch.transport import ways
from mailbase.sending.mx import parts
from mailbase.sending.mx.parts import Parts
from mailbase.sending.providers.providers import Limits
from sending.mx_kit import (
    Table,
    envelope,
    hosts,
    peer,
    until,
    world,
)
from smtp_peer import SILENCE, SmtpPeer


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
