"""Real workers, a real sink, real kills: nobody is lost, nobody is written to twice, and what was promised holds."""

import asyncio
import time
from collections import Counter

from sending.sending_kit import WorkerProcess, add_campaign, add_domain, add_people, assert_counters, states
from sink import Sink


async def wait_for(check, seconds=30.0):
    """Return the first true result of ``check``; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := await check()):
        assert time.monotonic() < deadline, "nothing happened in time"
        await asyncio.sleep(0.05)
    return found


async def test_a_campaign_reaches_everyone_once(db, database_url, tmp_path):
    """Every letter of a campaign is taken exactly once, the table says so, and the counters equal a recount."""
    domain_id = await add_domain(db, signing=True)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 300))
    with Sink(tmp_path / "taken") as sink:
        worker = WorkerProcess(database_url, tmp_path, smtp_port=sink.port)
        try:
            await wait_for(lambda: done(db, campaign_id))
        finally:
            assert worker.stop() == 0
        taken = Counter(recipient for recipient, _ in sink.taken())
    assert len(taken) == 300
    assert set(taken.values()) == {1}
    assert await states(db, campaign_id) == {"sent": 300}
    await assert_counters(db, campaign_id)


async def done(db, campaign_id):
    return not {"queued", "leased", "handing_over", "deferred"} & (await states(db, campaign_id)).keys()
