"""Pause, cancel, leaving: what a stop means for letters that already wait in a worker's memory, measured at the sink."""

import asyncio
import time

import pytest

from chaos.rough_sink import RoughSink
from mailbase.campaigns import lifecycle
from mailbase.optin.leave import leave
from mailbase.sending.providers.providers import Limits
from sending.mx_kit import Table, envelope, hosts
from sending.mx_kit import world as world_of_hosts
from sending.sending_kit import WorkerProcess, add_campaign, add_domain, add_people, assert_counters, states
from smtp_peer import SmtpPeer

SLOW = 0.8
LETTERS = 400
FINAL = {"sent", "skipped"}


async def until(check, seconds=40.0):
    """Return once ``check`` is true; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


async def crowd(db, sink, campaign_id):
    """Let a fast server become slow, and return once letters that are marked wait for it in the worker's memory."""

    async def some_sent():
        return len(sink.dots()) >= 40

    await until(some_sent)
    sink.set_pace(SLOW)

    async def many_wait():
        return (await states(db, campaign_id)).get("marked", 0) >= 12

    await until(many_wait)


def after(sink, moment):
    """Return the recipients whose final dot came later than a second after ``moment``."""
    return [dot.recipient for dot in sink.dots() if dot.at > moment + 1.0]


@pytest.fixture
def world(db, database_url, tmp_path):
    """A campaign, a sink that does as told, and one worker with four connections."""

    async def begin():
        domain_id = await add_domain(db)
        people = await add_people(db, LETTERS)
        return await add_campaign(db, domain_id, people), people

    with RoughSink(tmp_path, share=0) as sink:
        worker = WorkerProcess(database_url, tmp_path, smtp_port=sink.port, connections=5)
        try:
            yield sink, begin, worker
            assert worker.stop() == 0
        finally:
            if worker.process.poll() is None:
                worker.kill()


@pytest.mark.parametrize("act", [lifecycle.pause, lifecycle.cancel])
async def test_a_stop_holds_within_a_second_whatever_is_queued(db, world, act):
    """One second after pause or cancel has answered no letter arrives any more, however slow the server and however much waits."""
    sink, begin, _ = world
    campaign_id, _ = await begin()
    await crowd(db, sink, campaign_id)
    async with db.transaction():
        await act(db, campaign_id)
    stopped = time.monotonic()
    await asyncio.sleep(3)
    assert after(sink, stopped) == []

    async def at_rest():
        return not {"leased", "marked"} & (await states(db, campaign_id)).keys()

    await until(at_rest)
    sink.set_pace(0)
    if act is lifecycle.pause:
        waiting = (await states(db, campaign_id))["queued"]
        assert await db.fetchval("SELECT max(attempts) FROM deliveries WHERE state = 'queued'") == 0
        async with db.transaction():
            await lifecycle.resume(db, campaign_id)
        await until(lambda: _all(db, campaign_id, {"sent"}))
        assert waiting
        assert sorted(dot.recipient for dot in sink.dots()) == sorted(
            f"p{i}@example.com" for i in range(1, LETTERS + 1)
        )
    else:
        await until(lambda: _all(db, campaign_id, FINAL))
        assert (await states(db, campaign_id))["sent"] == len(sink.dots()) < LETTERS
    await assert_counters(db, campaign_id)


async def test_who_leaves_gets_nothing_from_that_second_on(db, world):
    """A second after people have left nothing reaches them, not even letters that were marked and waited for a connection."""
    sink, begin, _ = world
    campaign_id, people = await begin()
    await crowd(db, sink, campaign_id)
    async with db.transaction():
        for person in people[::2]:
            await leave(db, person, delivery_id=0, source="link")
    left = time.monotonic()
    gone = {row["email"] for row in await db.fetch("SELECT email FROM subscribers WHERE status <> 'active'")}
    assert len(gone) == LETTERS / 2
    await asyncio.sleep(2)
    sink.set_pace(0)
    await until(lambda: _all(db, campaign_id, FINAL))
    assert not gone & set(after(sink, left))
    taken = {dot.recipient for dot in sink.dots()}
    assert len(taken) == len(sink.dots()) == (await states(db, campaign_id))["sent"]
    assert taken | gone == {f"p{i}@example.com" for i in range(1, LETTERS + 1)}
    await assert_counters(db, campaign_id)


async def test_sigterm_begins_nothing_new(db, world):
    """Told to stop, a worker waits for the answers it is owed, however slow, and gives back what waits: none is in doubt."""
    sink, begin, worker = world
    campaign_id, _ = await begin()
    await crowd(db, sink, campaign_id)
    sink.set_pace(4.0)
    await asyncio.sleep(SLOW + 0.5)
    told = time.monotonic()
    assert await asyncio.to_thread(worker.stop) == 0
    assert time.monotonic() - told < 8
    assert after(sink, told) == []
    ends = await states(db, campaign_id)
    assert ends.keys() == {"sent", "queued"}
    assert ends["sent"] == len(sink.dots())
    await assert_counters(db, campaign_id)


async def _all(db, campaign_id, ends):
    return (await states(db, campaign_id)).keys() <= ends


async def test_a_letter_in_a_providers_lane_can_be_held_back_too():
    """Straight to a mail host, what is revoked while it waits its turn is not sent, even with its commands on their way."""
    letters = [envelope(f"u{n}@example.com", provider="big") for n in range(4)]

    def revoke(_peer, _recipient):
        letters[1].revoked = letters[2].revoked = True
        return "250 2.0.0 queued"

    limits = Table(big=Limits(connections=1))
    async with (
        world_of_hosts(hosts("example.com", "127.0.0.1"), providers=limits) as place,
        SmtpPeer({"DOT": revoke}, port=place.port) as peer,
    ):
        outcomes = await place.send(*letters)
    assert [outcome.kind for outcome in outcomes] == ["sent", "not_sent", "not_sent", "sent"]
    assert [outcome.free for outcome in outcomes] == [False, True, True, False]
    assert len(peer.letters) == 2
