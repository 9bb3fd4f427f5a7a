"""Workers killed, frozen and stopped in the middle of a campaign: nobody is lost, nobody is written to twice."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter

from sending.sending_kit import WorkerProcess, add_campaign, add_domain, add_people, assert_counters, states
from sink import Sink

OPEN = {"queued", "leased", "marked", "deferred"}
IN_DOUBT = 5 + 64
"""What one kill may leave unknown: a letter a connection, and one batch. (The storm's bound is tighter.)"""


async def wait_for(check, seconds=60.0):
    """Return the first true result of ``check``; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := await check()):
        assert time.monotonic() < deadline, "nothing happened in time"
        await asyncio.sleep(0.05)
    return found


async def is_final(db, campaign_id):
    """Whether every delivery is in a final state."""
    return not OPEN & (await states(db, campaign_id)).keys()


async def sent_at_least(db, campaign_id, n):
    """Whether so many letters are recorded as sent."""
    return (await states(db, campaign_id)).get("sent", 0) >= n


async def addresses(db, campaign_id, state):
    """Return the addresses of a campaign's deliveries in a state."""
    rows = await db.fetch(
        "SELECT email FROM deliveries JOIN subscribers ON subscribers.id = subscriber_id WHERE campaign_id = $1 AND state = $2::text::delivery_state",
        campaign_id, state,
    )  # fmt: skip
    return {row["email"] for row in rows}


@contextlib.contextmanager
def workers(n, *arguments, **options):
    """Run real workers; kill what is left of them at the end."""
    running = [WorkerProcess(*arguments, workers=n, **options) for _ in range(n)]
    try:
        yield running
    finally:
        for worker in running:
            if worker.process.poll() is None:
                worker.kill()


async def test_workers_killed_during_a_campaign_of_5000(db, database_url, tmp_path):
    """Six kills -9 during 5,000 letters: everyone is in one final state, nobody got two, and sink and table agree."""
    dice = random.Random(5)
    domain_id = await add_domain(db, signing=True)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 5000))
    with Sink(tmp_path / "taken") as sink, workers(2, database_url, tmp_path, smtp_port=sink.port) as running:
        for kill in range(6):
            await wait_for(lambda kill=kill: sent_at_least(db, campaign_id, 200 + 600 * kill))
            await asyncio.sleep(dice.random() / 10)
            victim = running[kill % 2]
            victim.kill()
            victim.start()
        await wait_for(lambda: is_final(db, campaign_id))
        assert [worker.stop() for worker in running] == [0, 0]
        taken = Counter(recipient for recipient, _ in sink.taken())
    assert max(taken.values()) == 1
    ends = await states(db, campaign_id)
    assert sum(ends.values()) == 5000
    assert ends.keys() <= {"sent", "unknown"}
    assert ends.get("unknown", 0) <= 6 * IN_DOUBT
    sent, unknown = await addresses(db, campaign_id, "sent"), await addresses(db, campaign_id, "unknown")
    assert sent <= taken.keys() <= sent | unknown
    await assert_counters(db, campaign_id)


async def test_at_least_once_reaches_everyone_and_copies_are_recognisable(db, database_url, tmp_path):
    """With at_least_once a kill leaves nobody out; whoever gets two gets the same Message-ID twice."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 600), on_crash="at_least_once")
    with (
        Sink(tmp_path / "taken", delay=0.01) as sink,
        workers(1, database_url, tmp_path, smtp_port=sink.port) as (worker,),
    ):
        for share in (50, 250):
            await wait_for(lambda share=share: sent_at_least(db, campaign_id, share))
            worker.kill()
            worker.start()
        await wait_for(lambda: is_final(db, campaign_id))
        taken = sink.taken()
    assert await states(db, campaign_id) == {"sent": 600}
    assert len({recipient for recipient, _ in taken}) == 600
    assert len(set(taken)) == 600


async def test_a_frozen_worker_that_wakes_sends_nothing_more(db, database_url, tmp_path):
    """Stopped past its lease and woken again, a worker fails the fence: no one is written to twice."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 400), on_crash="at_least_once")
    with (
        Sink(tmp_path / "taken", delay=0.05) as sink,
        workers(1, database_url, tmp_path, smtp_port=sink.port) as (frozen,),
    ):
        await wait_for(lambda: sent_at_least(db, campaign_id, 20))
        frozen.signal(signal.SIGSTOP)
        before = len(sink.taken())
        assert before < 400
        other = WorkerProcess(database_url, tmp_path, smtp_port=sink.port)
        try:
            await wait_for(lambda: is_final(db, campaign_id))
            finished = len(sink.taken())
            frozen.signal(signal.SIGCONT)
            await asyncio.sleep(1.0)
            assert frozen.stop() == 0
            assert len(sink.taken()) == finished
        finally:
            assert other.stop() == 0
    assert await states(db, campaign_id) == {"sent": 400}
    await assert_counters(db, campaign_id)


async def test_sigterm_leaves_no_doubt(db, database_url, tmp_path):
    """A worker told to stop in the middle ends with 0 and leaves letters sent or queued, none unknown, none held."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 500))
    with (
        Sink(tmp_path / "taken", delay=0.1) as sink,
        workers(1, database_url, tmp_path, smtp_port=sink.port) as (worker,),
    ):
        await wait_for(lambda: sent_at_least(db, campaign_id, 20))
        assert worker.stop() == 0
        ends = await states(db, campaign_id)
        assert ends.keys() == {"sent", "queued"}
        assert len(sink.taken()) == ends["sent"]


async def test_pause_holds_from_that_moment(db, database_url, tmp_path):
    """After a pause is committed only what was marked, or just being marked, goes out; after resuming everybody else gets theirs."""
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 600))
    with (
        Sink(tmp_path / "taken", delay=0.05) as sink,
        workers(1, database_url, tmp_path, smtp_port=sink.port) as (worker,),
    ):
        await wait_for(lambda: sent_at_least(db, campaign_id, 20))
        await db.execute("UPDATE campaigns SET status = 'paused', paused_from = 'sending' WHERE id = $1", campaign_id)
        found = await states(db, campaign_id)
        marked = found.get("sent", 0) + found.get("marked", 0)

        async def at_rest():
            return not {"leased", "marked"} & (await states(db, campaign_id)).keys()

        await wait_for(at_rest)
        await asyncio.sleep(0.5)
        # A mark whose statement had begun when the pause committed may still commit: one batch a worker.
        assert len(sink.taken()) <= marked + 64 < 600
        await db.execute("UPDATE campaigns SET status = 'sending', paused_from = NULL WHERE id = $1", campaign_id)
        await wait_for(lambda: is_final(db, campaign_id))
        assert worker.stop() == 0
        assert len(sink.taken()) == len(set(sink.taken())) == 600


async def test_no_campaign_starves_messages(db, database_url, tmp_path):
    """While a campaign fills a slow relay, a message that is accepted reaches it within two seconds."""
    domain_id = await add_domain(db)
    await add_campaign(db, domain_id, await add_people(db, 3000))
    with Sink(tmp_path / "taken", delay=0.2) as sink, workers(1, database_url, tmp_path, smtp_port=sink.port):
        await wait_for(lambda: asyncio.sleep(0, len(sink.taken()) > 20))
        await db.execute(
            """
            WITH message AS (
                INSERT INTO messages (kind, from_email, email, email_key, subject, text)
                VALUES ('transactional', 'shop@news.example', 'ann@example.com', 'ann@example.com', 'Order', 'Thanks') RETURNING id
            )
            INSERT INTO deliveries (message_id) SELECT id FROM message
            """
        )
        started = time.monotonic()
        await db.execute("SELECT pg_notify('mailbase_sending', '')")
        await wait_for(lambda: asyncio.sleep(0, any(to == "ann@example.com" for to, _ in sink.taken())), 10)
        assert time.monotonic() - started < 2
