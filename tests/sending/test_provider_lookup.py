"""Which provider is behind a domain, asked of a real DNS server."""

import asyncio
from datetime import UTC, datetime, timedelta

import dns.rcode
import pytest

from dns_server import DnsServer
from mailbase.audience.addresses import Address
from mailbase.letters.content import Sender
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.messages import NewMessage
from mailbase.sending.providers import lookup as provider_lookup
from mailbase.sending.providers import table as provider_table
from mailbase.sending.providers.lookup import DnsHosts
from mailbase.sending.providers.table import Change

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
async def zone():
    async with DnsServer(
        {
            ("shop.example", "MX"): ["10 aspmx.l.google.com"],
            ("two.example", "MX"): ["20 backup.example", "10 mx.hoster.example"],
            ("bare.example", "A"): ["192.0.2.7"],
            ("six.example", "AAAA"): ["2001:db8::7"],
            ("null.example", "MX"): ["0 ."],
            ("silent.example", "MX"): dns.rcode.SERVFAIL,
            ("text.example", "TXT"): ["nothing"],
        }
    ) as server:
        yield server


async def people(db, *domains, n=1):
    for domain in domains:
        await db.execute(
            "INSERT INTO subscribers (email, email_key, domain, status) SELECT a, a, $1, 'active' FROM (SELECT 'p' || i || '@' || $1 AS a FROM generate_series(1, $2::int) AS i) AS x",
            domain, n,
        )  # fmt: skip


async def known(db):
    rows = await db.fetch("SELECT domain, provider FROM recipient_domains WHERE looked_up_at IS NOT NULL")
    return {row["domain"]: row["provider"] for row in rows}


async def test_domains_get_their_provider(pool, db, zone):
    """MX hosts decide, best first; a domain with only an address is its own host; nobody's mail stays other; silence changes nothing."""
    await people(
        db,
        "shop.example",
        "two.example",
        "bare.example",
        "six.example",
        "null.example",
        "silent.example",
        "gone.example",
        "text.example",
    )
    assert await provider_lookup.step(pool, DnsHosts([zone.address])) == 8
    assert await known(db) == {
        "shop.example": "google",
        "two.example": "site:hoster.example",
        "bare.example": "site:bare.example",
        "six.example": "site:six.example",
        "null.example": "other",
        "gone.example": "other",
        "text.example": "other",
    }
    assert await provider_lookup.step(pool, DnsHosts([zone.address])) == 0
    row = await db.fetchrow(
        "SELECT provider, failures, due_at > now() AS later FROM recipient_domains WHERE domain = 'silent.example'"
    )
    assert tuple(row) == ("other", 1, True)


async def test_asked_once_a_domain(pool, db, zone):
    """A thousand people of one domain, and more of them later, are one question."""
    await people(db, "shop.example", n=1000)
    await provider_lookup.step(pool, DnsHosts([zone.address]))
    await db.execute("DELETE FROM subscribers")
    await people(db, "shop.example", n=3)
    await provider_lookup.step(pool, DnsHosts([zone.address]))
    assert zone.asked.count(("shop.example", "MX")) == 1
    assert await db.fetchval("SELECT count(*) FROM arrived_domains") == 0


async def test_known_by_heart_until_written_to(pool, db, zone):
    """The large providers' own domains are known without a question, and asked about once somebody there is written to."""
    assert await provider_lookup.step(pool, DnsHosts([zone.address])) == 0
    assert await db.fetchval("SELECT provider FROM recipient_domains WHERE domain = 'gmail.com'") == "google"
    zone.zone["gmail.com", "MX"] = ["5 gmail-smtp-in.l.google.com"]
    await people(db, "gmail.com")
    assert await provider_lookup.step(pool, DnsHosts([zone.address])) == 1
    assert await known(db) == {"gmail.com": "google"}


async def test_looked_up_again_when_old(pool, db, zone):
    """An answer is believed for its time, then asked for again; what changed holds from then on."""
    await people(db, "shop.example")
    resolver = DnsHosts([zone.address])
    await provider_lookup.step(pool, resolver)
    zone.zone["shop.example", "MX"] = ["10 mx.hoster.example"]
    soon = datetime.now(UTC) + provider_lookup.SOONEST
    assert await provider_lookup.step(pool, resolver, now=soon - timedelta(minutes=5)) == 0
    assert await provider_lookup.step(pool, resolver, now=soon + timedelta(minutes=5)) == 1
    assert await known(db) == {"shop.example": "site:hoster.example"}


async def test_silence_is_asked_less_and_less(pool, db, zone):
    """A domain whose servers do not answer is asked again after a minute, then two, and keeps what was known of it."""
    await db.execute(
        "INSERT INTO recipient_domains (domain, provider, due_at) VALUES ('silent.example', 'gmx', $1)", NOW
    )
    resolver, now = DnsHosts([zone.address]), NOW
    for minutes in (1, 2, 4):
        assert await provider_lookup.step(pool, resolver, now=now) == 1
        row = await db.fetchrow("SELECT provider, due_at FROM recipient_domains WHERE domain = 'silent.example'")
        assert (row["provider"], row["due_at"]) == ("gmx", now + timedelta(minutes=minutes))
        now = row["due_at"]


async def test_two_workers_share_the_work(pool, db, zone):
    """Workers that look at the same time never look up the same domain twice."""
    names = [f"d{i}.shop.example" for i in range(300)]
    zone.zone |= {(name, "MX"): ["10 aspmx.l.google.com"] for name in names}
    await people(db, *names)
    resolver = DnsHosts([zone.address])

    async def work():
        while await provider_lookup.step(pool, resolver):
            pass

    await asyncio.gather(work(), work())
    assert len(await known(db)) == 300
    assert len(zone.asked) == 300


async def test_a_message_brings_its_domain(pool, db, zone):
    """A letter to somebody who is no subscriber has the domain looked up as well."""
    sender = Sender("Shop", "shop@sender.example")
    await messages.create(
        db, NewMessage(kind="transactional", from_=sender, to=Address("a@shop.example", "a@shop.example", "shop.example"), subject="Hi", text="Hi")
    )  # fmt: skip
    await provider_lookup.step(pool, DnsHosts([zone.address]))
    assert await known(db) == {"shop.example": "google"}


async def test_nobody_waits_for_an_import(pool, db):
    """A person of a new domain is added while an import that brought the same domain is not committed yet."""
    async with pool.acquire() as importing, importing.transaction():
        await people(importing, "new.example", n=100)
        async with asyncio.timeout(5):
            await people(db, "new.example".upper())
            await db.execute(
                "INSERT INTO subscribers (email, email_key, domain, status) VALUES ('z@new.example', 'z@new.example', 'new.example', 'active')"
            )


async def test_the_loop_looks_up_until_it_is_stopped(pool, db, zone):
    """The worker's loop finds what arrives while it runs, with a provider that was added meanwhile."""
    stop = asyncio.Event()
    running = asyncio.create_task(provider_lookup.run(pool, DnsHosts([zone.address]), stop=stop))
    await provider_table.create(db, "hoster", Change(mx_suffixes=[".hoster.example"]))
    await people(db, "two.example")
    async with asyncio.timeout(10):
        while await known(db) != {"two.example": "hoster"}:  # noqa: ASYNC110  (the database rings no bell)
            await asyncio.sleep(0.05)
    stop.set()
    await running
