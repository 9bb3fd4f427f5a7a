"""A sending domain: each thing receivers look up, right and wrong, against a real DNS server."""

from datetime import UTC, datetime, timedelta

import dns.rcode
import pytest

from dns_server import DnsServer
from doctor.doctor_kit import ADDRESS, HOST, NAME, VAULT, add_domain, levels, of, publish, settings_for
from mailbase.doctor import domain as domain_module
from mailbase.sending.dns import DnsResolver
from mailbase.vault import Vault

NOW = datetime.now(UTC)
RELAY = "smtp://u:p@relay.example:587"


@pytest.fixture
async def server():
    async with DnsServer() as server:
        yield server


@pytest.fixture
def resolver(server):
    return DnsResolver([server.address])


@pytest.fixture
async def made(db, server, tmp_path):
    """A domain with everything published, sending straight."""
    await add_domain(db)
    (found,) = await domain_module.load(db, VAULT)
    settings = settings_for(tmp_path, SMTP_URL="mx:")
    publish(server, found, settings)
    return found, settings


async def look(resolver, made, **env):
    found, settings = made
    return await domain_module.examine(resolver, found, settings, env.get("now", NOW))


async def test_all_is_well(resolver, made):
    """A domain whose records are published as proposed has nothing to complain of."""
    assert set(levels(await look(resolver, made)).items()) == {
        ("dkim", "ok"),
        ("spf", "ok"),
        ("dmarc", "ok"),
        ("bounce_mx", "ok"),
        ("spf_lookups", "ok"),
        ("alignment", "ok"),
        ("receives", "ok"),
    }


FAULTS = [
    ("dkim", ("s1._domainkey." + NAME, "TXT"), [], "missing"),
    ("dkim", ("s1._domainkey." + NAME, "TXT"), ["v=DKIM1; k=rsa; p=MIIB"], "another key"),
    ("spf", (NAME, "TXT"), [], "missing"),
    ("spf", ("bounces." + NAME, "TXT"), [], "missing"),
    ("spf", (NAME, "TXT"), ["v=spf1 " + f"a:{HOST} " * 11 + "-all"], "more than 10"),
    ("spf_source", ("bounces." + NAME, "TXT"), ["v=spf1 ip4:198.51.100.0/24 -all"], ADDRESS),
    ("dmarc", ("_dmarc." + NAME, "TXT"), [], "missing"),
    ("dmarc", ("_dmarc." + NAME, "TXT"), ["v=DMARC1; p=maybe"], "p=maybe"),
    ("bounce_mx", ("bounces." + NAME, "MX"), [], "missing"),
    ("receives", (NAME, "MX"), [], "no MX"),
    ("receives", (NAME, "MX"), ["0 ."], "null MX"),
]


@pytest.mark.parametrize(("check", "where", "answer", "words"), FAULTS, ids=lambda one: str(one)[:40])
async def test_each_fault(check, where, answer, words, *, server, resolver, made):
    """Each thing that would make receivers refuse is wrong, and says what to publish; the others stay as they were."""
    server.zone[where] = answer
    findings = await look(resolver, made)
    wrong = [one for one in findings if one.level != "ok"]
    assert levels(wrong) == {check: "wrong"}
    assert any(words in one.text for one in wrong)
    assert all(one.advice for one in wrong)


@pytest.mark.parametrize(
    ("record", "level"),
    [
        (["v=spf1 ip4:192.0.2.0/24 -all"], "ok"),
        ([f"v=spf1 a:{HOST} -all"], "ok"),
        (["v=spf1 mx -all"], "ok"),
        (["v=spf1 include:_spf.relay.example -all"], "ok"),
        (["v=spf1 ip4:rubbish a:other.example -all"], "wrong"),
    ],
)
async def test_who_may_send(server, resolver, made, record, level):
    """Sending straight, the record must name the address letters leave from, in whatever way."""
    server.zone["bounces." + NAME, "TXT"] = record
    server.zone["_spf.relay.example", "TXT"] = [f"v=spf1 ip4:{ADDRESS} -all"]
    server.zone["other.example", "A"] = ["192.0.2.77"]
    assert levels(await look(resolver, made)).get("spf_source", "ok") == level


async def test_many_lookups(server, resolver, made):
    """A record close to ten look-ups is a warning before it breaks."""
    names = [f"h{n}.example" for n in range(8)]
    for name in names:
        server.zone[name, "A"] = ["192.0.2.77"]
    server.zone["bounces." + NAME, "TXT"] = ["v=spf1 " + " ".join(f"a:{name}" for name in [HOST, *names]) + " -all"]
    assert of(await look(resolver, made), "spf_lookups").level == "warning"


async def test_strict_alignment(server, resolver, made):
    """With aspf=s a return path below the From domain no longer counts, and that is said."""
    server.zone["_dmarc." + NAME, "TXT"] = ["v=DMARC1; p=none; aspf=s"]
    found = of(await look(resolver, made), "alignment")
    assert (found.level, "aspf=s" in found.text) == ("warning", True)


async def test_dns_that_does_not_answer(server, resolver, made):
    """A DNS server that fails is a warning: nothing was learnt."""
    for key in list(server.zone):
        server.zone[key] = dns.rcode.SERVFAIL
    assert set(levels(await look(resolver, made)).values()) == {"warning"}


async def test_an_old_key(resolver, made):
    """A key that has signed for more than half a year wants to be rotated."""
    found = of(await look(resolver, made, now=NOW + timedelta(days=201)), "dkim_age")
    assert (found.level, "rotate" in found.advice) == ("warning", True)


async def test_with_the_outbox(db, resolver, tmp_path):
    """While letters go to files, missing records are for later."""
    await add_domain(db, verp=False)
    (found,) = await domain_module.load(db, VAULT)
    findings = await domain_module.examine(resolver, found, settings_for(tmp_path), NOW)
    assert levels(findings) == {
        "dkim": "warning",
        "spf": "warning",
        "dmarc": "warning",
        "bounce_mx": "warning",
        "alignment": "ok",
        "receives": "warning",
    }


async def test_with_a_relay(db, server, resolver, tmp_path):
    """Behind a relay no record need name an address, and a bounce MX that is not asked for is no fault."""
    await add_domain(db, verp=False)
    (found,) = await domain_module.load(db, VAULT)
    settings = settings_for(tmp_path, SMTP_URL=RELAY)
    publish(server, found, settings)
    server.zone[NAME, "TXT"] = ["v=spf1 ip4:198.51.100.7 -all"]
    server.zone["bounces." + NAME, "MX"] = []
    findings = await domain_module.examine(resolver, found, settings, NOW)
    assert levels(findings) == {
        "dkim": "ok",
        "spf": "ok",
        "dmarc": "ok",
        "bounce_mx": "warning",
        "spf_lookups": "ok",
        "alignment": "ok",
        "receives": "ok",
    }


async def test_a_relay_that_signs(db, server, resolver, tmp_path):
    """Where the relay signs there is no key to look at, and whose signature it is cannot be told."""
    await add_domain(db, signing=False)
    (found,) = await domain_module.load(db, VAULT)
    settings = settings_for(tmp_path, SMTP_URL=RELAY)
    publish(server, found, settings)
    found = levels(await domain_module.examine(resolver, found, settings, NOW))
    assert ("dkim" not in found, found["alignment"]) == (True, "warning")


async def test_a_key_that_cannot_be_opened(db, resolver, tmp_path):
    """A key stored under another secret is named, not raised."""
    await add_domain(db)
    (found,) = await domain_module.load(db, Vault(["another-secret-key"]))
    findings = await domain_module.examine(resolver, found, settings_for(tmp_path), NOW)
    assert of(findings, "dkim_key").level == "wrong"


async def test_one_domain(db):
    """One domain can be asked for by name."""
    await add_domain(db)
    await add_domain(db, name="other.example")
    assert [one.name for one in await domain_module.load(db, VAULT)] == [NAME, "other.example"]
    assert [one.name for one in await domain_module.load(db, VAULT, "other.example")] == ["other.example"]
