"""Sending domains over the API: created, published, verified, rotated, against a real DNS server."""

import dkim
import dns.rcode
import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization

from dns_server import DnsServer
from mailbase.config import Relay, Settings
from mailbase.sending.dns import DnsResolver
from mailbase.sending.domains import dns_records
from mailbase.sending.domains import verify as verify_records
from mailbase.sending.signing import keys
from mailbase.sending.signing.signers import Signers
from mailbase.vault import Vault

HOST = "mail.mailbase.example"


@pytest.fixture
async def dns_server():
    async with DnsServer({(HOST, "A"): ["192.0.2.10"]}) as server:
        yield server


@pytest.fixture
def settings(settings: Settings, dns_server: DnsServer) -> Settings:
    return msgspec.structs.replace(settings, dns_servers=(dns_server.address,), hostname=HOST)


def publish(server: DnsServer, domain: dict) -> None:
    """Publish every record exactly as given."""
    for record in domain["dns"]:
        server.zone.setdefault((record["name"], record["type"]), [])
        server.zone[record["name"], record["type"]] = [record["value"]]


async def create(client: httpx.AsyncClient, **body) -> dict:
    answer = await client.post("/v1/domains", json={"name": "news.example.org", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def verify(client: httpx.AsyncClient, domain: dict) -> dict:
    answer = await client.post(f"/v1/domains/{domain['id']}/verify")
    assert answer.status_code == 200, answer.text
    return answer.json()


def one(domain: dict, purpose: str, name: str | None = None) -> dict:
    return next(record for record in domain["dns"] if record["purpose"] == purpose and name in {None, record["name"]})


async def test_publishing_every_record_exactly_as_given_verifies(client: httpx.AsyncClient, dns_server: DnsServer):
    """A new domain is pending, its records are told, and once they are published it is verified."""
    made = await create(client)
    assert made["status"] == "pending"
    assert made["dkim"]["algorithm"] == "rsa-sha256"
    assert {record["status"] for record in made["dns"]} == {"unchecked"}
    assert {record["purpose"] for record in made["dns"]} == {"dkim", "spf", "dmarc", "bounce_mx"}
    assert one(made, "dkim")["name"] == f"{made['dkim']['selector']}._domainkey.news.example.org"
    assert one(made, "bounce_mx") | {"status": ""} == {
        "purpose": "bounce_mx",
        "type": "MX",
        "name": "bounces.news.example.org",
        "value": f"10 {HOST}",
        "status": "",
    }
    assert "PRIVATE" not in str(made)
    before = await verify(client, made)
    assert before["status"] == "pending"
    assert {record["status"] for record in before["dns"]} == {"missing"}
    publish(dns_server, made)
    after = await verify(client, made)
    assert after["status"] == "verified"
    assert {record["status"] for record in after["dns"]} == {"ok"}
    assert (await client.get(f"/v1/domains/{made['id']}")).json() == after
    assert (await client.get("/v1/domains")).json()["data"] == [after]


async def test_the_bounce_records_turn_own_envelope_senders_on(client, db, dns_server):
    """The bounce MX and its SPF record set ``verp``; without them the domain is verified all the same."""
    made = await create(client)
    publish(dns_server, {"dns": [record for record in made["dns"] if not record["name"].startswith("bounces.")]})
    assert (await verify(client, made))["status"] == "verified"
    assert await db.fetchval("SELECT verp FROM domains") is False
    publish(dns_server, made)
    await verify(client, made)
    assert await db.fetchval("SELECT verp FROM domains") is True


FAULTS = [
    ("dkim", [], "missing", "no such record"),
    ("dkim", ["v=DKIM1; k=rsa; p="], "wrong", "revoked"),
    ("dkim", ["v=DKIM1; k=rsa; p=MIIB"], "wrong", "another key"),
    ("dkim", ["hello"], "wrong", "no p="),
    ("dkim", ["{value}", "v=DKIM1; p=x"], "wrong", "2 TXT records"),
    ("dkim", ["v=DKIM1; k=ed25519; {p}"], "wrong", "does not verify"),
    ("dkim", ["{value}; h=sha1"], "wrong", "h=sha1"),
    ("spf", [], "missing", "no such record"),
    ("spf", ["{value}", "v=spf1 mx -all"], "wrong", "2 SPF records"),
    ("spf", ["v=spf1 include:_spf.other.example -all"], "wrong", "no SPF record"),
    ("spf", ["v=spf1 ip4:192.0.2.77 -all"], "wrong", f"add a:{HOST}"),
    ("spf", ["v=spf1 " + " ".join(f"a:{HOST}" for _ in range(11)) + " -all"], "wrong", "more than 10"),
    ("dmarc", [], "missing", "no such record"),
    ("dmarc", ["v=DMARC1; p=nope"], "wrong", "p=nope"),
    ("dmarc", ["{value}", "v=DMARC1; p=none"], "wrong", "2 DMARC records"),
    ("dmarc", ["DMARC: none"], "wrong", "must begin with"),
]


@pytest.mark.parametrize(
    ("purpose", "published", "status", "words"), FAULTS, ids=[f"{fault[0]}: {fault[3]}" for fault in FAULTS]
)
async def test_each_fault_is_found_and_said(purpose, published, status, words, *, client, dns_server):
    """A missing, foreign, doubled or unreadable record is named with what was found, and the domain is not verified."""
    made = await create(client)
    publish(dns_server, made)
    record = one(made, purpose, None if purpose != "spf" else "news.example.org")
    texts = [
        text.replace("{value}", record["value"]).replace("{p}", record["value"].rpartition(" ")[2])
        for text in published
    ]
    dns_server.zone[record["name"], record["type"]] = texts
    seen = await verify(client, made)
    found = one(seen, purpose, record["name"])
    assert found["status"] == status
    assert words in found["message"]
    assert sorted(found.get("found", [])) == sorted(texts)
    assert seen["status"] == ("pending" if status == "missing" else "failing")
    assert all(other["status"] == "ok" for other in seen["dns"] if other["name"] != record["name"])


async def test_a_domain_that_loses_a_record_is_failing_and_recovers(client, dns_server):
    """After verification a lost record makes the domain failing; a resolver without answers changes nothing."""
    made = await create(client)
    publish(dns_server, made)
    await verify(client, made)
    name = one(made, "dmarc")["name"], "TXT"
    kept = dns_server.zone.pop(name)
    dns_server.zone[name] = dns.rcode.SERVFAIL
    silent = await verify(client, made)
    assert (silent["status"], one(silent, "dmarc")["status"]) == ("verified", "unknown")
    del dns_server.zone[name]
    assert (await verify(client, made))["status"] == "failing"
    dns_server.zone[name] = kept
    assert (await verify(client, made))["status"] == "verified"


async def test_the_policy_of_the_domain_above_counts(client, dns_server):
    """A sub-domain without a DMARC record of its own is covered by its organisation's."""
    made = await create(client)
    publish(dns_server, made)
    del dns_server.zone["_dmarc.news.example.org", "TXT"]
    dns_server.zone["_dmarc.example.org", "TXT"] = ["v=DMARC1; p=reject"]
    seen = await verify(client, made)
    assert seen["status"] == "verified"
    assert "_dmarc.example.org" in one(seen, "dmarc")["message"]


async def test_rotation_switches_only_when_dns_shows_the_new_key(client, db, dns_server, settings):
    """The old key signs until a verification has seen the next one; then the next signs and the old one retires."""
    made = await create(client)
    publish(dns_server, made)
    await verify(client, made)
    old = made["dkim"]["selector"]
    rotated = (await client.post(f"/v1/domains/{made['id']}/dkim/rotate")).json()
    new = rotated["dkim"]["next_selector"]
    assert rotated["dkim"]["selector"] == old != new
    again = await client.post(f"/v1/domains/{made['id']}/dkim/rotate")
    assert (again.status_code, again.json()["code"]) == (409, "rotation_pending")
    waiting = await verify(client, made)
    assert (waiting["status"], waiting["dkim"]["selector"]) == ("verified", old)
    publish(dns_server, rotated)
    switched = await verify(client, made)
    assert (switched["status"], switched["dkim"]["selector"], switched["dkim"]["next_selector"]) == (
        "verified",
        new,
        None,
    )
    states = dict(await db.fetch("SELECT selector, state FROM dkim_keys"))
    assert states == {old: "retiring", new: "active"}
    third = (await client.post(f"/v1/domains/{made['id']}/dkim/rotate")).json()["dkim"]["next_selector"]
    assert third not in {old, new}
    active = await db.fetchval("SELECT id FROM dkim_keys WHERE state = 'active'")
    signer = await Signers(Vault(settings.secret_keys)).get(db, active)
    headers = [(b"From", b"a@news.example.org")]
    letter = signer.sign(headers, b"x\r\n", now=1_790_000_000) + b"\r\nFrom: a@news.example.org\r\n\r\nx\r\n"
    record = one(switched, "dkim", f"{new}._domainkey.news.example.org")["value"].encode()
    assert dkim.verify(letter, dnsfunc=lambda *_, **__: record)


async def test_keys_rest_encrypted(client, db):
    """Nothing of the private key lies readable in the database."""
    await create(client)
    blob = await db.fetchval("SELECT private_key FROM dkim_keys")
    with pytest.raises(ValueError, match="deserialize"):
        serialization.load_der_private_key(blob, password=None)


def pem(bits: int) -> str:
    form = serialization.PrivateFormat.PKCS8
    return keys.generate(bits).private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


async def test_a_key_may_be_brought(client):
    """A PEM and a selector of one's own are taken; the public half is told, the private never."""
    text = pem(1024)
    made = await create(client, dkim_private_key=text, selector="S1")
    assert made["dkim"]["selector"] == "s1"
    assert made["dkim"]["public_key"] == keys.public_key(keys.bring(text))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "localhost"}, 422, "invalid_domain"),
        ({"name": "exa mple.org"}, 422, "invalid_domain"),
        ({"name": "192.0.2.1"}, 422, "invalid_domain"),
        ({"name": "-a.example"}, 422, "invalid_domain"),
        ({"name": "a" * 64 + ".example"}, 422, "invalid_domain"),
        ({"name": "x.example", "selector": "a b"}, 422, "invalid_selector"),
        ({"name": "x.example", "dkim_private_key": "no key"}, 422, "invalid_key"),
        ({"name": "x.example", "warmup": {"preset": "custom"}}, 422, "schedule_mismatch"),
        ({"name": "x.example", "warmup": {"preset": "fast", "schedule": [1]}}, 422, "schedule_mismatch"),
        ({"name": "x.example", "unknown": 1}, 400, "malformed"),
        ({"name": "NEWS.example.org."}, 409, "domain_exists"),
    ],
)
async def test_what_cannot_be_set_up_is_refused(body, status, code, client):
    """Bad names, selectors, keys and schedules are refused by code, a domain twice is a conflict."""
    await create(client)
    answer = await client.post("/v1/domains", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_name_in_any_script_becomes_an_a_label(client):
    """An internationalised name is kept as its A-label, and is the same domain in either form."""
    made = await create(client, name="Почта.Пример.рф")
    assert made["name"] == "почта.пример.рф".encode("idna").decode()
    assert (await client.post("/v1/domains", json={"name": made["name"]})).status_code == 409


async def test_a_relay_may_sign(client, dns_server):
    """With ``signing: false`` there is no key and no DKIM record; switched on later, there is one."""
    made = await create(client, signing=False)
    assert made["dkim"] is None
    assert "dkim" not in {record["purpose"] for record in made["dns"]}
    publish(dns_server, made)
    assert (await verify(client, made))["status"] == "verified"
    assert (await client.post(f"/v1/domains/{made['id']}/dkim/rotate")).json()["code"] == "not_signing"
    changed = (await client.patch(f"/v1/domains/{made['id']}", json={"signing": True})).json()
    assert changed["dkim"]["selector"]
    assert changed["status"] == "pending"


async def test_a_domain_can_go_unless_letters_belong_to_it(client):
    """DELETE removes a domain; one that a campaign is from stays (409)."""
    made = await create(client)
    campaign = {
        "name": "c",
        "from": {"name": "N", "email": "a@news.example.org"},
        "subject": "s",
        "html": "<p>x</p>",
        "audience": {"all": True},
    }
    campaign_id = (await client.post("/v1/campaigns", json=campaign)).json()["id"]
    refused = await client.delete(f"/v1/domains/{made['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "domain_in_use")
    assert (await client.delete(f"/v1/campaigns/{campaign_id}")).status_code == 204
    assert (await client.delete(f"/v1/domains/{made['id']}")).status_code == 204
    assert (await client.get(f"/v1/domains/{made['id']}")).status_code == 404


async def test_warm_up_is_chosen_and_paused(client):
    """The preset can be read and changed, a schedule belongs to custom, a pause allows nothing."""
    made = await create(client, warmup={"preset": "standard"})
    path = f"/v1/domains/{made['id']}/warmup"
    assert (await client.get(path)).json()["cap_today"] == made["warmup"]["cap_today"] == 200
    custom = (await client.patch(path, json={"preset": "custom", "schedule": [7, 9]})).json()
    assert (custom["preset"], custom["cap_today"], custom["schedule"]) == ("custom", 7, [7, 9])
    assert (await client.patch(path, json={"preset": "fast", "schedule": [1]})).status_code == 422
    assert (await client.patch(path, json={"state": "paused"})).json()["cap_today"] == 0
    assert (await client.patch(path, json={"state": "warming"})).json()["cap_today"] == 7


@pytest.mark.parametrize(
    ("url", "domain", "name"),
    [
        ("https://links.example.org", "news.example.org", "links.example.org"),
        ("https://links.example.org:8443", "example.org", "links.example.org"),
        ("https://news.example.org", "news.example.org", None),
        ("https://links.example.com", "news.example.org", None),
        (f"https://{HOST}", "mailbase.example", None),
        ("http://192.0.2.7:8000", "example.org", None),
        ("http://127.0.0.1:8000", "0.0.1", None),
        ("https://[2001:db8::1]", "example.org", None),
        ("https://example.org", "news.example.org", None),
    ],
)
def test_the_host_of_links_is_named_where_it_has_a_name_of_its_own(url, domain, name, settings):
    """A CNAME for links is proposed in the owner's zone alone, and never beside the domain's other records."""
    given = msgspec.structs.replace(settings, public_url=url)
    assert dns_records.tracking_name(domain, given) == name
    proposed = dns_records.proposed(domain, [], signing=False, settings=given)
    links = [(one.type, one.name, one.value) for one in proposed if one.purpose == "tracking"]
    assert links == ([("CNAME", name, HOST)] if name else [])


@pytest.mark.parametrize(("kind", "value"), [("CNAME", HOST), ("A", "192.0.2.99")])
async def test_the_host_of_links_may_lead_here_in_any_way(kind, value):
    """The CNAME as given is right without anything behind it, and so is an address; neither is missing."""
    record = dns_records.Record(purpose="tracking", type="CNAME", name="l.example.org", value=HOST, status="unchecked")
    async with DnsServer({("l.example.org", kind): [value]}) as server:
        (found,) = await verify_records.check(
            DnsResolver([server.address]), verify_records.Asked("example.org", [record], {}, None, 0)
        )
        assert (found.status, found.found) == ("ok", [value])
    async with DnsServer({("other.example.org", kind): [value]}) as server:
        (found,) = await verify_records.check(
            DnsResolver([server.address]), verify_records.Asked("example.org", [record], {}, None, 0)
        )
        assert found.status == "missing"


@pytest.mark.parametrize(
    ("relay", "hostname", "term"),
    [
        ("email-smtp.eu-west-1.amazonaws.com", HOST, "include:amazonses.com"),
        ("smtp.eu.mailgun.org", HOST, "include:eu.mailgun.org"),
        ("relay.example", HOST, f"a:{HOST}"),
        (None, HOST, f"a:{HOST}"),
        (None, "192.0.2.9", "ip4:192.0.2.9"),
        (None, "2001:db8::9", "ip6:2001:db8::9"),
        (None, "localhost", None),
    ],
)
def test_the_proposed_spf_names_who_sends(relay, hostname, term, settings):
    """A known relay is included, otherwise this host is named; nothing is proposed that means nothing."""
    given = Relay(relay, 587, None, None, "starttls", 1) if relay else None
    assert dns_records.spf_term(msgspec.structs.replace(settings, smtp=given, hostname=hostname)) == term
