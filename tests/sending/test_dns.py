"""SPF and DMARC as receivers read them, against a real DNS server."""

import dns.rcode
import pytest

from dns_server import DnsServer
from mailbase.sending.dns import DnsResolver, Unanswered
from mailbase.sending.domains import dmarc, spf


async def spf_of(zone: dict, domain: str = "example.org") -> spf.Policy:
    async with DnsServer(zone) as server:
        return await spf.read(DnsResolver([server.address]), domain)


def txt(name: str, *texts: str) -> dict:
    return {(name, "TXT"): list(texts)}


async def test_a_plain_record_is_read():
    """Mechanisms are collected, ip4 and all cost no look-up."""
    policy = await spf_of(
        txt("example.org", "v=spf1 ip4:192.0.2.1 a:mail.example.org -all") | {("mail.example.org", "A"): ["192.0.2.1"]}
    )
    assert (policy.error, policy.lookups, policy.void) == (None, 1, 0)
    assert policy.terms == {"ip4:192.0.2.1", "a:mail.example.org", "all"}


async def test_two_records_are_an_error():
    """Two SPF records at one name are named as such; other TXT records do not count."""
    policy = await spf_of(
        txt("example.org", "v=spf1 -all", "v=spf1 mx -all", "google-site-verification=x", "v=spf10 x")
    )
    assert "2 SPF records" in policy.error


async def test_look_ups_are_counted_through_includes():
    """Ten look-ups are fine, the eleventh is an error, wherever it stands."""

    def chain(total: int) -> dict:
        zone = {(f"h{n}.example.org", "A"): ["192.0.2.1"] for n in range(total)}
        inner = " ".join(f"a:h{n}.example.org" for n in range(total - 1))
        return (
            zone
            | txt("example.org", "v=spf1 include:inner.example.org ~all")
            | txt("inner.example.org", f"v=spf1 {inner} -all")
        )

    assert (await spf_of(chain(10))).error is None
    assert "more than 10" in (await spf_of(chain(11))).error


async def test_more_than_two_void_look_ups_are_an_error():
    """Two names that do not exist are tolerated, three are not."""
    assert (await spf_of(txt("example.org", "v=spf1 a:x1.example.org a:x2.example.org -all"))).error is None
    assert (
        "do not exist"
        in (await spf_of(txt("example.org", "v=spf1 a:x1.example.org a:x2.example.org a:x3.example.org -all"))).error
    )


@pytest.mark.parametrize(
    ("record", "word"),
    [
        ("v=spf1 inlcude:x.example -all", "inlcude"),
        ("v=spf1 include:nothing.example -all", "no SPF record"),
        ("v=spf1 include:example.org -all", "itself"),
        ("v=spf1 include: -all", "include:"),
    ],
)
async def test_what_makes_a_record_unreadable_is_named(record, word):
    """A misspelt mechanism, an include of nothing and a circle are errors in words."""
    assert word in (await spf_of(txt("example.org", record))).error


async def test_long_records_and_large_answers_arrive_whole():
    """A record of several strings is joined; an answer too large for UDP is asked for again over TCP."""
    long = "v=spf1 " + " ".join(f"ip4:192.0.2.{n}" for n in range(200)) + " -all"
    policy = await spf_of(txt("example.org", long))
    assert policy.found == [long]
    assert policy.error is None


async def test_no_answer_is_not_no_record():
    """SERVFAIL and silence raise; a name that does not exist is an empty answer."""
    async with DnsServer({("broken.example", "TXT"): dns.rcode.SERVFAIL}) as server:
        resolver = DnsResolver([server.address])
        with pytest.raises(Unanswered):
            await resolver.txt("broken.example")
        assert await resolver.txt("nowhere.example") == []
        assert await resolver.mx("broken.example") == []


async def test_aliases_are_followed():
    """A TXT record behind a CNAME is found."""
    zone = {("s._domainkey.example.org", "CNAME"): ["key.example.net"], ("key.example.net", "TXT"): ["v=DKIM1; p=x"]}
    async with DnsServer(zone) as server:
        assert await DnsResolver([server.address]).txt("s._domainkey.example.org") == ["v=DKIM1; p=x"]


def test_the_walk_up_the_tree_is_bounded():
    """From the domain to the top-level domain, which is never asked; a very long name is cut to seven labels."""
    assert dmarc.names("news.shop.example.org") == [
        "_dmarc.news.shop.example.org",
        "_dmarc.shop.example.org",
        "_dmarc.example.org",
    ]
    long = dmarc.names("a.b.c.d.e.f.g.h.i.example.org")
    assert long[1] == "_dmarc.e.f.g.h.i.example.org"
    assert len(long) <= 8


@pytest.mark.parametrize(
    ("record", "error", "warning"),
    [
        ("v=DMARC1; p=none; np=reject; rua=mailto:a@example.org", None, ""),
        ("v=DMARC1;p=reject;adkim=s;aspf=r;t=y;psd=n;unknown=x;", None, ""),
        ("v=DMARC1; p=none; pct=50; ri=3600", None, "pct, ri no longer"),
        ("v=DMARC1; rua=mailto:a@example.org", None, "no p="),
        ("v=DMARC1; p=none; rua=a@example.org", None, "not an address"),
        ("v=DMARC1; p=blok", "p=blok", ""),
        ("v=DMARC1; p=none; sp=maybe", "sp=maybe", ""),
        ("v=DMARC1; p none", "p none", ""),
        ("v=DMARC1; p=none; p=reject", "twice", ""),
        ("v=DMARC1; p=none; adkim=x", "adkim=x", ""),
    ],
)
def test_dmarc_records_are_read_tag_by_tag(record, error, warning):
    """What RFC 9989 forbids is an error, what it removed or ignores at most a warning."""
    policy = dmarc.parse("_dmarc.example.org", [record])
    assert (policy.error is None) == (error is None)
    assert error is None or error in policy.error
    assert warning in " ".join(policy.warnings)
    assert bool(policy.warnings) == bool(warning)
