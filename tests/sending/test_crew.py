"""Several ways out at once: each letter belongs to one by its id, and moves to the others only while its own takes nothing."""

import asyncio
import contextlib
import socket
from datetime import timedelta
from random import Random

import pytest

from mailbase.audience import addresses
from mailbase.letters.content import Sender
from mailbase.sending.deliveries.recorder import Recorder
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.crew import Way
from mailbase.sending.dispatch.messages import NewMessage
from mailbase.sending.outcomes import Outcome
from mailbase.sending.providers import overrides
from mailbase.sending.relays import relays
from mailbase.vault import Vault
from sending.sending_kit import (
    SECRET,
    WorkerProcess,
    add_campaign,
    add_domain,
    add_people,
    assert_counters,
    in_hand,
    states,
)
from sending.test_crash import is_final, sent_at_least, wait_for
from sink import Sink
from smtp_peer import SmtpPeer

VAULT = Vault([SECRET])
MESSAGE = NewMessage(
    kind="transactional",
    from_=Sender("Shop", "a@shop.example"),
    to=addresses.parse("ann@example.org"),
    subject="Hi",
    text="Hi.",
)


def address(port):
    """Return a relay's address on this machine."""
    return f"smtp://127.0.0.1:{port}?tls=none&connections=4"


@contextlib.contextmanager
def three_sinks(tmp_path):
    """Run three recording sinks."""
    with Sink(tmp_path / "own") as own, Sink(tmp_path / "big") as big, Sink(tmp_path / "spare") as spare:
        yield own, big, spare


@contextlib.contextmanager
def worker(*arguments, **options):
    """Run a real worker and stop it at the end."""
    running = WorkerProcess(*arguments, **options)
    try:
        yield running
        assert running.stop() == 0
    finally:
        if running.process.poll() is None:
            running.kill()


def recipients(sink):
    """Return whom a sink took letters for."""
    return [recipient for recipient, _ in sink.taken()]


async def by_way(db, campaign_id):
    """Return how many letters went over each way out, as the table says."""
    rows = await db.fetch("SELECT egress, count(*) FROM deliveries WHERE campaign_id = $1 GROUP BY egress", campaign_id)
    return {row["egress"]: row["count"] for row in rows}


async def test_letters_are_shared_by_weight(db, database_url, tmp_path):
    """With weights 1 and 3 a quarter goes over the settings' relay and the rest over the other; a spare of weight 0 gets none, messages neither."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 2000), status="paused")
    with three_sinks(tmp_path) as (own, big, spare):
        await relays.create(db, VAULT, name="big", url=address(big.port), weight=3)
        await relays.create(db, VAULT, name="spare", url=address(spare.port), weight=0)
        with worker(database_url, tmp_path, smtp_port=own.port):
            await wait_for(
                lambda: db.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mailbase letters' AND datname = current_database()"
                )
            )
            await db.execute("UPDATE campaigns SET status = 'sending' WHERE id = $1", campaign_id)
            await db.execute("SELECT pg_notify('mailbase_sending', '')")
            await wait_for(lambda: is_final(db, campaign_id))
            assert not spare.taken()
            counts = len(own.taken()), len(big.taken())
            for _ in range(12):
                message_id, _ = await messages.create(db, MESSAGE)
                await wait_for(
                    lambda id=message_id: db.fetchval("SELECT state = 'sent' FROM deliveries WHERE message_id = $1", id)
                )
        went = await by_way(db, campaign_id)
        assert went == dict(zip(("relay", "big"), counts, strict=True))
        assert counts[1] == pytest.approx(1500, abs=20)
        assert not spare.taken()
        assert len(own.taken()) + len(big.taken()) == 2012
        assert len(set(recipients(own) + recipients(big))) == 2001
    await assert_counters(db, campaign_id)


async def test_a_relay_that_is_away_leaves_its_letters_to_the_others(db, database_url, tmp_path):
    """Letters of a relay where nobody answers go over the others, each once, and none of them loses an attempt for it."""
    campaign_id = await add_campaign(db, await add_domain(db), await add_people(db, 600))
    with socket.socket() as nobody, Sink(tmp_path / "own") as own:
        nobody.bind(("127.0.0.1", 0))
        await relays.create(db, VAULT, name="away", url=address(nobody.getsockname()[1]), weight=5)
        with worker(database_url, tmp_path, smtp_port=own.port):
            await wait_for(lambda: is_final(db, campaign_id))
        assert await states(db, campaign_id) == {"sent": 600}
        assert len(set(recipients(own))) == len(own.taken()) == 600
        assert await db.fetchval("SELECT max(attempts) FROM deliveries WHERE campaign_id = $1", campaign_id) == 1
        assert await db.fetchval("SELECT reason FROM egress WHERE name = 'away'") is not None


async def test_a_relay_that_denies_everybody_is_stopped_and_loses_no_letter(db, database_url, tmp_path):
    """A relay that will not relay for us any more is left alone, with its words; no letter bounces, and all leave when it does again."""
    domain_id = await add_domain(db)
    people = [id for n in range(60) for id in await add_people(db, 5, domain=f"d{n}.example", prefix=f"p{n}x")]
    campaign_id = await add_campaign(db, domain_id, people)
    answers = {"RCPT": "550 5.7.1 Relaying denied"}
    async with SmtpPeer(answers) as peer:
        with worker(database_url, tmp_path, smtp_port=peer.port):
            await wait_for(lambda: db.fetchval("SELECT failures > 0 FROM egress WHERE name = 'relay'"))
            assert await db.fetchval("SELECT reason FROM egress") == "rcpt: 550 5.7.1 Relaying denied"
            early = await states(db, campaign_id)
            assert early.keys() <= {"queued", "deferred", "leased", "marked"}
            assert early["deferred"] < 100
            assert await db.fetchval("SELECT max(attempts) FROM deliveries") == 0
            peer.answers["RCPT"] = "250 2.1.5 ok"

            async def all_gone():
                await db.execute("UPDATE deliveries SET due_at = now() WHERE state = 'deferred' AND due_at > now()")
                return await is_final(db, campaign_id)

            await wait_for(all_gone, seconds=30)
        assert await states(db, campaign_id) == {"sent": 300}
        assert len({recipient for _, recipient, _ in peer.letters}) == len(peer.letters) == 300
        assert await db.fetchval("SELECT reason FROM egress WHERE name = 'relay'") is None
    await assert_counters(db, campaign_id)


async def test_a_domain_a_relay_will_not_relay_to_stops_nobody(db, database_url, tmp_path):
    """Forty letters in a row to a domain the relay will not relay to wait; the way out is never stopped, and the others go on."""
    people = await add_people(db, 100) + await add_people(db, 40, domain="odd.example", prefix="o")
    campaign_id = await add_campaign(db, await add_domain(db), people + await add_people(db, 100, prefix="q"))
    answers = {"RCPT": lambda _, line: "550 5.7.1 Relaying denied" if "odd.example" in line else "250 ok"}
    async with SmtpPeer(answers) as peer:
        with worker(database_url, tmp_path, smtp_port=peer.port):

            async def nobody_waits_fresh():
                return await states(db, campaign_id) == {"sent": 200, "deferred": 40}

            await wait_for(nobody_waits_fresh)
    assert "takes no letters" not in (tmp_path / "worker.log").read_text()
    assert await db.fetchval("SELECT max(attempts) FROM deliveries WHERE state = 'deferred'") == 0
    await assert_counters(db, campaign_id)


async def test_a_provider_suspended_over_one_relay_is_sent_to_over_the_others(db, database_url, tmp_path):
    """While a provider takes nothing over one relay, that relay's letters to it go over the others, each once; the rest stays."""
    domain_id = await add_domain(db)
    await db.execute("INSERT INTO recipient_domains (domain, provider) VALUES ('shop.example', 'google')")
    people = await add_people(db, 200, domain="shop.example") + await add_people(db, 200, prefix="q")
    campaign_id = await add_campaign(db, domain_id, people)
    limits = overrides.Restriction(suspend=True)
    await overrides.create(db, "google", limits, reason="no", duration=timedelta(hours=1), egress="big")
    with three_sinks(tmp_path) as (own, big, spare):
        await relays.create(db, VAULT, name="big", url=address(big.port), weight=3)
        await relays.create(db, VAULT, name="spare", url=address(spare.port), weight=0)
        with worker(database_url, tmp_path, smtp_port=own.port):
            await wait_for(lambda: is_final(db, campaign_id))
        assert await states(db, campaign_id) == {"sent": 400}
        assert not [one for one in recipients(big) if "@shop.example" in one]
        assert 100 < len(big.taken()) < 200
        assert len(set(recipients(own) + recipients(big))) == len(own.taken()) + len(big.taken()) == 400
        assert not spare.taken()


async def test_relays_come_and_go_while_letters_are_sent(db, database_url, tmp_path):
    """A relay added in the middle of a campaign takes its share at once; one disabled gets nothing more, and nobody is lost."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 3000))
    with Sink(tmp_path / "own", delay=0.05) as own, Sink(tmp_path / "late", delay=0.05) as late:
        with worker(database_url, tmp_path, smtp_port=own.port):
            await wait_for(lambda: sent_at_least(db, campaign_id, 100))
            added = await relays.create(db, VAULT, name="late", url=address(late.port), weight=9)

            async def taken_by_late():
                return len(late.taken()) >= 100

            await wait_for(taken_by_late)
            await relays.update(db, VAULT, added.id, relays.Change(enabled=False))
            await wait_for(lambda: is_final(db, campaign_id), seconds=90)
        assert await states(db, campaign_id) == {"sent": 3000}
        assert len(own.taken()) + len(late.taken()) == len(set(recipients(own) + recipients(late))) == 3000
        assert len(late.taken()) < 1500


async def test_a_way_out_let_go_while_the_database_is_away_writes_its_last_words_later(pool, db):
    """What was answered is recorded once that can be, although the way out is gone by then; nobody is left in doubt."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 1))
    letter_id = await db.fetchval("SELECT id FROM deliveries")
    fence = await in_hand(db, letter_id, campaign_id=campaign_id)
    recorder = Recorder(pool, "gone", slot=0, random=Random(1))
    way = Way("gone", recorder, [])
    way.start()
    handed = Handed(letter_id, fence, campaign_id, domain_id, None, "other", "", None, 1, None, egress="gone")
    async with pool.acquire() as other:
        away = other.transaction()
        await away.start()
        await other.execute("LOCK TABLE deliveries")
        recorder.put(handed, Outcome(letter_id, "sent", 250, None, "taken", "content"))
        assert not await way.leave(0.05)
        await away.rollback()
    await wait_for(lambda: asyncio.sleep(0, not way.waiting))
    await way.end()
    assert await states(db, campaign_id) == {"sent": 1}
