"""A real worker and its providers: what holds one of them back holds in every worker, and ends."""

import asyncio
from datetime import timedelta

from dns_server import DnsServer
from mailbase.sending.providers import overrides
from mailbase.sending.providers.overrides import Restriction
from sending.sending_kit import WorkerProcess, add_campaign, add_domain, add_people
from sink import Sink


async def until(condition, seconds=20):
    """Wait for a condition of the database."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  (the database rings no bell)
            await asyncio.sleep(0.05)


async def test_a_suspended_provider_waits_and_goes_on(db, database_url, tmp_path):
    """While one provider is suspended everybody else gets their letters; taken back, its own leave within seconds."""
    await db.execute("INSERT INTO recipient_domains (domain, provider) VALUES ('shop.example', 'google')")
    people = await add_people(db, 20, domain="shop.example", prefix="g") + await add_people(db, 20, prefix="x")
    suspension = await overrides.create(
        db, "google", Restriction(suspend=True), reason="test", duration=timedelta(hours=1)
    )
    campaign_id = await add_campaign(db, await add_domain(db), people)
    with Sink(tmp_path / "taken") as sink:
        worker = WorkerProcess(database_url, tmp_path, smtp_port=sink.port, MAILBASE_DNS_SERVERS="127.0.0.1:9")
        try:
            await until(lambda: sent(db, campaign_id, 20))
            assert {to.partition("@")[2] for to, _ in sink.taken()} == {"example.com"}
            await overrides.delete(db, suspension.id)
            await until(lambda: sent(db, campaign_id, 40))
        finally:
            assert worker.stop() == 0
        assert len({to for to, _ in sink.taken()}) == 40


async def sent(db, campaign_id, n):
    """Return whether so many letters have left."""
    return (
        await db.fetchval("SELECT count(*) FROM deliveries WHERE campaign_id = $1 AND state = 'sent'", campaign_id) >= n
    )


async def test_a_worker_looks_domains_up(db, database_url, tmp_path):
    """A running worker asks DNS for the domains of people who come in, and stops at once although a server is silent."""
    async with DnsServer({("shop.example", "MX"): ["10 aspmx.l.google.com"], ("silent.example", "MX"): None}) as zone:
        host, port = zone.address
        worker = WorkerProcess(database_url, tmp_path, MAILBASE_DNS_SERVERS=f"{host}:{port}")
        try:
            await add_people(db, 3, domain="shop.example")
            found = (
                "SELECT EXISTS (SELECT FROM recipient_domains WHERE domain = 'shop.example' AND provider = 'google')"
            )
            await until(lambda: db.fetchval(found))
            await add_people(db, 1, domain="silent.example")
            await until(lambda: asked(zone, "silent.example"))
            began = asyncio.get_running_loop().time()
        finally:
            assert await asyncio.to_thread(worker.stop) == 0
        assert asyncio.get_running_loop().time() - began < 3


async def asked(zone, name):
    """Return whether the server was asked for this name."""
    return (name, "MX") in zone.asked
