"""Providers: recognised by their mail hosts, limited by a table, held back by overrides."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.db import connect
from mailbase.errors import Conflict, Invalid
from mailbase.sending.providers import overrides
from mailbase.sending.providers import table as provider_table
from mailbase.sending.providers.overrides import Restriction
from mailbase.sending.providers.providers import CHANNEL, LONGEST_LANE, Providers, counted_as, site_of
from mailbase.sending.providers.table import Change, Provider

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """Seconds that pass when told to."""

    seconds = 100.0

    def __call__(self):
        return self.seconds


async def loaded(db, clock=None):
    providers = Providers(clock=clock or Clock())
    await providers.load(db)
    return providers


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("gmail-smtp-in.l.google.com", "google"),
        ("ASPMX.L.GOOGLE.COM.", "google"),
        ("aspmx2.googlemail.com", "google"),
        ("mta5.am0.yahoodns.net", "yahoo"),
        ("hotmail-com.olc.protection.outlook.com", "microsoft"),
        ("example-com.mail.protection.outlook.com", "microsoft365"),
        ("example-com.p-v1.mx.microsoft", "microsoft365"),
        ("mx01.mail.icloud.com", "apple"),
        ("mx-ha.web.de", "gmx"),
        ("mx00.t-online.de", "telekom"),
        ("smtp-in.orange.fr", "orange"),
        ("mx1.free.fr", "free"),
        ("smtpz4.laposte.net", "laposte"),
        ("mxs.mail.ru", "mailru"),
        ("mx.yandex.ru", "yandex"),
        ("mx1h1.comcast.net", "comcast"),
        ("us-smtp-inbound-1.mimecast.com", "mimecast"),
        ("mx0a-001b2d01.pphosted.com", "proofpoint"),
        ("d123.a.ess.barracudanetworks.com", "barracuda"),
        ("mx3.qq.com", "qq"),
        ("163mx01.mxmail.netease.com", "netease"),
        ("mx.google.com.evil.example", "site:evil.example"),
        ("mx.notgoogle.com", "site:notgoogle.com"),
        ("mail.shop.co.uk", "site:shop.co.uk"),
        ("localhost", "site:localhost"),
    ],
)
async def test_a_mail_host_tells_the_provider(db, host, group):
    """A provider is known by the end of its best mail host's name, never by a part of it; anybody else is a site of its own."""
    assert (await loaded(db)).group_of([host, "backup.elsewhere.example"], "example.com") == group


async def test_without_an_answer_it_is_other(db):
    """A domain without mail hosts waits among the others."""
    assert (await loaded(db)).group_of([], "example.com") == "other"


async def test_a_backup_at_a_provider_counts(db):
    """A domain that names a provider's host after its own is with that provider."""
    assert (await loaded(db)).group_of(["mx.own.example", "alt1.aspmx.l.google.com"], "own.example") == "google"


@given(st.text(alphabet="abcxyz0189-.éß ", max_size=300))
def test_any_host_has_a_short_lane(host):
    """Whatever DNS says, a lane's name is short, and statistics count it as other."""
    lane = site_of(host)
    assert len(lane) <= LONGEST_LANE
    assert counted_as(lane) == "other"


def test_a_provider_counts_as_itself():
    """Statistics count a provider of the table by its name."""
    assert counted_as("google") == "google"


async def test_the_longest_suffix_wins(db):
    """Of two suffixes that fit, the longer one decides, whoever was added first."""
    await provider_table.create(db, "short", Change(mx_suffixes=["example.net"]))
    await provider_table.create(db, "long", Change(mx_suffixes=[".mx.example.net"]))
    assert (await loaded(db)).group_of(["a.mx.example.net"], "x") == "long"
    assert (await loaded(db)).group_of(["a.example.net"], "x") == "short"


async def test_a_limit_left_out_is_others(db):
    """What a row does not say is said by the row other, and a site has its limits too."""
    providers = await loaded(db)
    yahoo, site = providers.limits("yahoo", "mx"), providers.limits("site:example.net", "mx")
    assert (yahoo.connections, yahoo.letters_per_connection, yahoo.tls) == (10, 20, "opportunistic")
    assert (site.connections, site.letters_per_connection, site.letters_per_minute) == (10, 100, 6000)
    google = providers.limits("google", "mx")
    assert (google.connections, google.tls, google.verify) == (5, "required", True)


async def test_the_first_warm_up_shares(db):
    """Each provider's part of a warming domain's cap is in the table; everybody else has 5 %, or 20 letters."""
    providers = await loaded(db)
    shares = {name: providers.share(name).multiplier for name in ("google", "microsoft", "yahoo", "apple", "mimecast")}
    assert shares == {"google": 1, "microsoft": 0.5, "yahoo": 0.35, "apple": 0.25, "mimecast": 0.5}
    assert providers.share("site:example.net") == providers.share("kpn") == providers.share("other")
    assert (providers.share("other").multiplier, providers.share("other").least) == (0.05, 20)


async def test_an_override_lowers_and_ends_by_itself(db):
    """The strictest of what is in force holds, over its way out alone, until it ends without anybody's doing."""
    clock = Clock()
    minute = timedelta(minutes=1)
    await overrides.create(db, "google", Restriction(connections=2, letters_per_minute=10), reason="a", duration=minute)
    await overrides.create(
        db, "google", Restriction(connections=3, letters_per_connection=500), reason="b", duration=minute
    )
    await overrides.create(
        db, "google", Restriction(suspend=True), reason="c", duration=2 * minute, egress="mx:192.0.2.1"
    )
    providers = await loaded(db, clock)

    limits = providers.limits("google", "mx")
    assert (limits.connections, limits.letters_per_minute, limits.letters_per_connection) == (2, 10, 50)
    assert limits.suspended_until is None
    assert providers.limits("google", "mx:192.0.2.1").suspended_until is not None
    assert providers.suspended("mx:192.0.2.1") == {"google"}
    assert providers.suspended("mx") == frozenset()
    assert providers.limits("yahoo", "mx").connections == 10

    clock.seconds += 61
    assert providers.limits("google", "mx").connections == 5
    clock.seconds += 60
    assert providers.limits("google", "mx:192.0.2.1").suspended_until is None


async def test_suspended_by_sql(db):
    """The database names the same suspended providers as a worker's own copy."""
    await overrides.create(db, "gmx", Restriction(suspend=True), reason="x", duration=timedelta(hours=1))
    await overrides.create(db, "yahoo", Restriction(suspend=True), reason="x", duration=timedelta(hours=1), egress="mx")
    assert sorted(await overrides.suspended(db, "mx")) == ["gmx", "yahoo"]
    assert await overrides.suspended(db, "second") == ["gmx"]
    assert await overrides.suspended(db, "mx", now=datetime.now(UTC) + timedelta(hours=2)) == []


async def test_a_copy_follows_the_table(pool):
    """A change made elsewhere holds in every worker's copy within seconds, woken or not."""
    providers, stop = Providers(), asyncio.Event()
    running = asyncio.create_task(providers.run(pool, stop=stop))
    async with pool.acquire() as db:
        google = next(row for row in await provider_table.everything(db) if row.name == "google")
        async with db.transaction():
            await provider_table.update(db, google.id, Change(connections=1))
    async with asyncio.timeout(10):
        while providers.limits("google", "mx").connections != 1:
            providers.wake()
            await asyncio.sleep(0.01)
    stop.set()
    await running


async def test_notices_are_sent(database_url, db):
    """Whoever changes an override tells all workers when it commits."""
    heard = asyncio.Event()
    listener = await connect(database_url)
    await listener.add_listener(CHANNEL, lambda *_: heard.set())
    await overrides.create(db, "gmx", Restriction(suspend=True), reason="x", duration=timedelta(hours=1))
    await asyncio.wait_for(heard.wait(), 5)
    await listener.close()


async def test_other_stays(db):
    """The row everybody falls back to keeps a value for each limit, has no suffix and cannot be deleted."""
    other = next(row for row in await provider_table.everything(db) if row.name == "other")
    for change in (Change(connections=None), Change(tls=None), Change(mx_suffixes=[".example.net"])):
        with pytest.raises(Invalid):
            await provider_table.update(db, other.id, change)
    with pytest.raises(Conflict):
        await provider_table.delete(db, other.id)


async def test_one_owner_a_suffix(db):
    """A suffix belongs to one provider."""
    with pytest.raises(Invalid) as refused:
        async with db.transaction():
            await provider_table.create(db, "mine", Change(mx_suffixes=["GOOGLE.com."]))
    assert refused.value.code == "suffix_taken"


async def test_new_suffixes_are_looked_at_again(db):
    """Domains whose hosts a new suffix names, or who had the provider, are due at once; the others are left alone."""
    await db.execute("TRUNCATE recipient_domains")
    for domain, provider, host in (
        ("a.example", "site:hoster.example", "mx.hoster.example"),
        ("b.example", "google", "x.google.com"),
    ):
        await db.execute(
            "INSERT INTO recipient_domains (domain, provider, mx, due_at) VALUES ($1, $2, ARRAY[$3], now() + interval '1 day')",
            domain, provider, host,
        )  # fmt: skip
    made = await provider_table.create(db, "hoster", Change(mx_suffixes=[".hoster.example"]))
    due = "SELECT domain FROM recipient_domains WHERE due_at <= now()"
    assert [row["domain"] for row in await db.fetch(due)] == ["a.example"]
    assert isinstance(made, Provider)
