"""Relays, port 25 and our name, against real servers that take us or do not."""

from datetime import UTC, datetime, timedelta

import pytest

from dns_server import DnsServer
from doctor.doctor_kit import ADDRESS, HOST, Authority, levels
from mailbase.config import Relay
from mailbase.doctor import way_out
from mailbase.doctor.findings import About
from mailbase.sending.dns import DnsResolver
from mailbase.sending.smtp.session import Timeouts
from smtp_peer import DROP, EHLO, SILENCE, SmtpPeer

NOW = datetime.now(UTC)
QUICK = Timeouts(connect=2, greeting=0.5, ehlo=0.5, starttls=2, auth=0.5, quit=0.5)
WITH_TLS = EHLO.replace("250-PIPELINING", "250-STARTTLS\n250-AUTH PLAIN LOGIN")


@pytest.fixture(scope="module")
def authority():
    return Authority()


async def probe(peer, authority, **kw):
    """Look at a relay."""
    given = {"host": "127.0.0.1", "port": peer.port, "user": None, "password": None, "tls": "none", "connections": 1}
    relay = Relay(**{**given, **kw})
    return await way_out.relay("relay", relay, hostname=HOST, context=authority.client(), now=NOW, timeouts=QUICK)


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
async def test_a_relay_that_takes_us(authority, tls):
    """A relay that greets, speaks the TLS asked for and accepts the login is well; no letter is begun."""
    context = authority.server("127.0.0.1")
    async with SmtpPeer({"EHLO": WITH_TLS}, context=context, implicit=tls == "implicit") as peer:
        (found,) = await probe(peer, authority, tls=tls, user="u", password="p")
    assert found.level == "ok"
    assert "login" in found.text
    assert peer.lines[0] == f"EHLO {HOST}"
    assert peer.lines[-1] == "QUIT"
    assert not any(line.startswith("MAIL") for line in peer.lines)


@pytest.mark.parametrize(
    ("answers", "kw", "words", "advice"),
    [
        ({"AUTH": "535 5.7.8 no"}, {"tls": "starttls", "user": "u", "password": "hunter2"}, "5.7.8", "password"),
        ({"EHLO": EHLO}, {"tls": "starttls"}, "STARTTLS", "tls="),
        ({"STARTTLS": "454 4.7.0 not now"}, {"tls": "starttls"}, "not now", "tls="),
        ({"greeting": "554 go away"}, {}, "go away", "whether it may connect"),
        ({"greeting": SILENCE}, {}, "no answer", "whether it may connect"),
        ({"greeting": DROP}, {}, "lost", "whether it may connect"),
        ({"EHLO": "451 who"}, {}, "who", "MAILBASE_HOSTNAME"),
        ({"greeting": "HTTP/1.1 400 Bad Request"}, {}, "SMTP", "whether it may connect"),
    ],
)
async def test_a_relay_that_does_not(authority, answers, kw, words, advice):
    """Each step a relay can refuse at is said in its own words, with what to look at."""
    async with SmtpPeer({"EHLO": WITH_TLS, **answers}, context=authority.server("127.0.0.1")) as peer:
        (found,) = await probe(peer, authority, **kw)
    assert found.level == "wrong"
    assert words in found.text
    assert advice in found.advice
    assert "hunter2" not in found.text


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("name", ["other.example", None])
async def test_a_certificate_that_is_not_right(authority, tls, name):
    """A certificate for another name, or from nobody we know, is named as the reason."""
    issuer = authority if name else Authority()
    context = issuer.server(name or "127.0.0.1")
    async with SmtpPeer({"EHLO": WITH_TLS}, context=context, implicit=tls == "implicit") as peer:
        (found,) = await probe(peer, authority, tls=tls)
    assert found.level == "wrong"
    assert "certificate" in found.text
    assert "certificate" in found.advice


async def test_nobody_there(authority):
    """A closed port is said as such."""
    async with SmtpPeer() as peer:
        pass
    (found,) = await probe(peer, authority)
    assert (found.level, "cannot be reached" in found.text) == ("wrong", True)


async def test_a_certificate_that_ends_soon(authority):
    """A certificate that ends within two weeks is a warning beside what works."""
    context = authority.server("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=5))
    async with SmtpPeer({"EHLO": WITH_TLS}, context=context, implicit=True) as peer:
        found = await probe(peer, authority, tls="implicit")
    assert levels(found) == {"relay": "ok", "certificate": "warning"}


def test_expiry():
    """Without TLS, and long before its end, a certificate is nothing to mention."""
    about = About("x")
    assert way_out.expiry(about, None, NOW) == []
    assert way_out.expiry(about, NOW + timedelta(days=15), NOW) == []
    assert way_out.ends({}) is None


@pytest.fixture
async def dns_server():
    async with DnsServer() as server:
        yield server


@pytest.fixture
def resolver(dns_server):
    return DnsResolver([dns_server.address])


async def test_port_25(dns_server, resolver):
    """One mail server that answers shows that the port is open; when none does it is closed."""
    dns_server.zone["a.example", "MX"] = ["10 127.0.0.1"]
    dns_server.zone["b.example", "MX"] = ["10 127.0.0.2"]
    async with SmtpPeer() as peer:
        open_ = await way_out.port_25(resolver, ["a.example", "b.example", "none.example"], port=peer.port, patience=1)
    closed = await way_out.port_25(resolver, ["a.example"], port=peer.port, patience=1)
    unknown = await way_out.port_25(resolver, ["none.example"], port=peer.port, patience=1)
    assert (open_.level, closed.level, unknown.level) == ("ok", "wrong", "warning")
    assert "relay" in closed.advice


REVERSE = "10.2.0.192.in-addr.arpa"


@pytest.mark.parametrize(
    ("zone", "level", "words"),
    [
        ({(REVERSE, "PTR"): [HOST + "."], (HOST, "A"): [ADDRESS]}, "ok", "and back"),
        ({(HOST, "A"): [ADDRESS]}, "wrong", "no name in reverse DNS"),
        ({(REVERSE, "PTR"): ["host-10.isp.example."], (HOST, "A"): [ADDRESS]}, "wrong", "host-10.isp.example"),
        ({(REVERSE, "PTR"): [HOST + "."], (HOST, "A"): ["192.0.2.99"]}, "wrong", "does not lead back"),
        ({(REVERSE, "PTR"): None, (HOST, "A"): [ADDRESS]}, "warning", "does not answer"),
    ],
)
async def test_names(dns_server, zone, level, words):
    """An address must be called by our name, and the name lead back; what DNS does not say is not held against anybody."""
    dns_server.zone.update(zone)
    resolver = DnsResolver([dns_server.address])
    resolver._resolver.lifetime = 1
    (found,) = await way_out.names(resolver, HOST, [ADDRESS])
    assert found.level == level
    assert words in found.text
    assert level != "wrong" or HOST in found.advice


async def test_names_of_no_address(dns_server, resolver):
    """Without addresses of the settings those of our name count; a name without any is wrong."""
    (found,) = await way_out.names(resolver, HOST, [])
    assert (found.level, found.check) == ("wrong", "hostname")
    dns_server.zone[HOST, "A"] = [ADDRESS]
    dns_server.zone[HOST, "AAAA"] = ["2001:db8::10"]
    dns_server.zone[REVERSE, "PTR"] = [HOST + "."]
    found = await way_out.names(resolver, HOST, [])
    assert [one.level for one in found] == ["ok", "wrong"]


async def test_listens():
    """The door for returned mail is open, or is not."""
    async with SmtpPeer() as peer:
        assert (await way_out.listens("127.0.0.1", peer.port)).level == "ok"
        assert (await way_out.listens("0.0.0.0", peer.port)).level == "ok"
    assert (await way_out.listens("127.0.0.1", peer.port)).level == "wrong"
    async with SmtpPeer({"greeting": SILENCE}) as peer:
        assert (await way_out.listens("127.0.0.1", peer.port, patience=0.1)).level == "wrong"
