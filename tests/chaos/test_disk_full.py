"""A disk without room: nobody is lost, nobody gets two, the reason is said, and it goes on by itself once there is room."""

import shutil
import socket
import tempfile
import time
from pathlib import Path

import pytest

from chaos.rough_sink import RoughSink
from chaos.small_disk import enlarge, fill, small_disk
from chaos.test_stops import until
from mailbase import servers
from mailbase.db import CONNECTION_ERRORS, connect
from sending.sending_kit import SECRET, WorkerProcess, add_campaign, add_domain, add_people, assert_counters, states
from up.conftest import Up

pytestmark = pytest.mark.mounts


async def test_a_full_outbox_is_waited_for(db, database_url, tmp_path):
    """With no room for the outbox letters stay in the queue, the reason is on the egress, and room is all it takes to go on."""
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    domain_id = await add_domain(db)
    campaign_id = await add_campaign(db, domain_id, await add_people(db, 300))
    with small_disk(outbox, "256k"):
        worker = WorkerProcess(database_url, tmp_path)
        try:

            async def refused():
                return "No space left on device" in (
                    await db.fetchval("SELECT reason FROM egress WHERE name = 'outbox'") or ""
                )

            await until(refused)
            enlarge(outbox, "16m")

            async def all_sent():
                return await states(db, campaign_id) == {"sent": 300}

            await until(all_sent)
            assert len(list(outbox.glob("*.eml"))) == 300
            assert not list(outbox.glob(".*.part"))
            assert await db.fetchval("SELECT max(attempts) FROM deliveries") == 1
            await assert_counters(db, campaign_id)
            assert worker.stop() == 0
        finally:
            if worker.process.poll() is None:
                worker.kill()


async def test_a_full_database_is_waited_for():
    """With no room for PostgreSQL nothing is sent in vain; with room again every letter is sent once, and none is in doubt."""
    home = Path(tempfile.mkdtemp(prefix="mailbase-full-"))
    home.chmod(0o755)
    data = home / "data"
    data.mkdir()
    try:
        with small_disk(data, "400m"), RoughSink(home, share=0, pace=0.02) as sink:
            up = Up(
                home, _port(), MAILBASE_SECRET_KEY=SECRET, MAILBASE_SMTP_URL=f"smtp://127.0.0.1:{sink.port}?tls=none"
            )
            try:
                up.ready()
                await _fill_and_go_on(home, sink)
            finally:
                up.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _fill_and_go_on(home, sink):
    url = servers.postgres_url(home / "data")
    db = await connect(url)
    campaign_id = await add_campaign(db, await add_domain(db), await add_people(db, 2000))
    await db.execute("SELECT pg_notify('mailbase_sending', '')")

    async def some():
        return len(sink.dots()) > 100

    await until(some)
    ballast = home / "data" / "ballast"
    log = home / "data" / "postgres.log"

    async def complains():
        fill(ballast, 0)
        return "No space left on device" in log.read_text() and time.monotonic() > full + 3

    full = time.monotonic()
    await until(complains)
    db.terminate()
    ballast.unlink()

    async def all_sent():
        nonlocal db
        try:
            if db.is_closed():
                db = await connect(url)
            return await states(db, campaign_id) == {"sent": 2000}
        except (*CONNECTION_ERRORS, OSError):
            db.terminate()
            return False

    await until(all_sent, 90)
    taken = [dot.recipient for dot in sink.dots()]
    assert len(taken) == len(set(taken)) == 2000
    await assert_counters(db, campaign_id)
    db.terminate()


def _port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
