"""Straight to the recipients' servers: TLS where it is offered, and policies that insist on it (MTA-STS)."""
# ruff: noqa: SIM117  (a peer listens where its world says)

import random
import ssl

import pytest
import trustme

from mailbase.sending.mx.dial import Dialer, opportunistic
from mailbase.sending.mx.mx_dns import DnsMxResolver
from mailbase.sending.mx.route import Host
from mailbase.sending.mx.transport import Directory
from mailbase.sending.providers.providers import Limits
from mailbase.sending.smtp.session import Timeouts
from sending.mx_kit import (
    BODY,
    TLS_EHLO,
    Table,
    envelope,
    hosts,
    peer,
    policy,
    policy_server,
    server_tls,
    until_it_is,
    world,
)
from smtp_peer import DROP, SmtpPeer

# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def encrypted(server: SmtpPeer) -> bool:
    return server.seen("STARTTLS") > 0 and server.seen("EHLO") == 2 * server.seen("STARTTLS")


async def test_tls_is_used_where_it_is_offered_whatever_the_certificate():
    """Without a policy any certificate will do: encryption that is not verified is better than none."""
    async with world(hosts("example.com", "127.0.0.1")) as place:
        context = server_tls(trustme.CA(), "somebody-else.example")
        async with peer(place, answers={"EHLO": TLS_EHLO}, context=context) as server:
            assert (await place.send(envelope()))[0].kind == "sent"
            assert encrypted(server)


async def test_broken_tls_is_remembered_and_clear_text_used(pool, db):
    """A host whose TLS breaks down gets its letters in clear text, at once and for three days, from every worker."""
    zone = hosts("example.com", "127.0.0.1")
    broken = {"EHLO": TLS_EHLO, "STARTTLS": b"220 go on\r\nthis is not TLS at all\r\n"}
    async with world(zone, pool=pool) as place, peer(place, answers=broken) as server:
        assert (await place.send(envelope()))[0].kind == "sent"
        assert (server.connections, server.seen("STARTTLS")) == (2, 1)
    assert await db.fetchval(
        "SELECT until > now() + interval '71 hours' FROM mx_broken_tls WHERE host = 'mx0.example.com'"
    )
    async with world(zone, pool=pool) as place, peer(place, answers=broken) as server:
        assert (await place.send(envelope()))[0].kind == "sent"
        assert (server.connections, server.seen("STARTTLS")) == (1, 0)


@pytest.mark.parametrize(
    "answer", [{"MAIL": "530 5.7.0 Must issue a STARTTLS command first"}, {"RCPT": "550 5.7.10 Encryption needed"}]
)
async def test_a_host_that_insists_on_tls_gets_another_try_of_it(pool, db, answer):
    """What is remembered as broken may have been a bad moment: a host that takes no clear text is not written to in it for days."""
    async with world(hosts("example.com", "127.0.0.1"), pool=pool) as place:
        await place.directory.broken.remember("mx0.example.com", "a bad moment")
        async with peer(place, answers={"EHLO": TLS_EHLO, **answer}) as server:
            (outcome,) = await place.send(envelope())
            assert (outcome.kind, outcome.reason, outcome.free) == ("deferred", "tls", True)
            assert server.seen("STARTTLS") == 0

            async def forgotten():
                return await db.fetchval("SELECT count(*) = 0 FROM mx_broken_tls")

            await until_it_is(forgotten)
            assert not await place.directory.broken.known("mx0.example.com")


@pytest.mark.parametrize(
    "answers", [{}, {"EHLO": TLS_EHLO, "STARTTLS": "454 4.7.0 not now"}, {"EHLO": TLS_EHLO, "STARTTLS": DROP}]
)
async def test_a_provider_that_must_have_tls_gets_no_clear_text(answers):
    """Where the provider's limits say so, no TLS means no letter."""
    async with world(hosts("example.com", "127.0.0.1"), providers=Table(google=Limits(tls="required"))) as place:
        async with peer(place, answers=answers) as server:
            (outcome,) = await place.send(envelope(provider="google"))
            assert outcome.kind == "deferred"
            assert (outcome.reason, outcome.free) == ("tls", False)
            assert server.letters == []


async def test_a_host_that_has_no_tls_just_now_is_passed_over(authority, trusting):
    """454 4.7.0 at STARTTLS says nothing about us: the next host has it, and the provider is not left alone for it."""
    zone = hosts("example.com", "127.0.0.2", "127.0.0.3")
    limits = Table(google=Limits(tls="required"))
    tls = server_tls(authority, "mx1.example.com")
    async with world(zone, providers=limits, context=trusting) as place:
        out_of_order = {"EHLO": TLS_EHLO, "STARTTLS": "454 4.7.0 TLS not available due to temporary reason"}
        async with (
            peer(place, "127.0.0.2", out_of_order),
            peer(place, "127.0.0.3", {"EHLO": TLS_EHLO}, context=tls) as second,
        ):
            assert (await place.send(envelope(provider="google")))[0].kind == "sent"
            assert len(second.letters) == 1


STS = {("_mta-sts.example.com", "TXT"): ["v=STSv1; id=1"], ("mta-sts.example.com", "A"): ["127.0.0.1"]}


async def test_an_enforced_policy_wants_a_right_certificate(authority, trusting, pool):
    """Under MTA-STS a host with a right certificate gets the letter; the policy is fetched once, for all workers."""
    zone = hosts("example.com", "127.0.0.1") | STS
    site = server_tls(authority, "mta-sts.example.com")
    async with policy_server(site, lambda: policy("enforce", "mx0.example.com")) as (port, asked):
        for _ in range(2):
            async with (
                world(zone, context=trusting, policy_port=port, pool=pool) as place,
                peer(place, answers={"EHLO": TLS_EHLO}, context=server_tls(authority, "mx0.example.com")) as server,
            ):
                assert [one.kind for one in await place.send(envelope(), envelope())] == ["sent"] * 2
                assert encrypted(server)
        assert len(asked) == 1
        assert asked[0].startswith("GET /.well-known/mta-sts.txt ")
        assert "host: mta-sts.example.com\r\n" in asked[0].lower()


@pytest.mark.parametrize("fault", ["unknown authority", "other name", "no TLS", "host not in the policy"])
async def test_an_enforced_policy_that_is_not_met_defers(fault, authority, trusting):
    """No TLS, a wrong certificate or a host the policy does not name: the letter waits, and nothing is said in clear text."""
    zone = hosts("example.com", "127.0.0.1") | STS
    issuer = trustme.CA() if fault == "unknown authority" else authority
    context = server_tls(issuer, "other.example" if fault == "other name" else "mx0.example.com")
    named = "mail.example.com" if fault == "host not in the policy" else "*.example.com"
    answers = {} if fault == "no TLS" else {"EHLO": TLS_EHLO}
    async with (
        policy_server(server_tls(authority, "mta-sts.example.com"), lambda: policy("enforce", named)) as (
            port,
            _,
        ),
        world(zone, context=trusting, policy_port=port) as place,
    ):
        async with peer(place, answers=answers, context=context) as server:
            (outcome,) = await place.send(envelope())
            assert (outcome.kind, outcome.reason) == ("deferred", "mta_sts")
            assert (server.seen("MAIL"), server.letters) == (0, [])


async def test_a_policy_holds_although_it_can_no_longer_be_found(authority, trusting, pool):
    """Whoever takes the record or the server away does not take the policy away, until its max_age is over."""
    zone = hosts("example.com", "127.0.0.1") | STS
    site = server_tls(authority, "mta-sts.example.com")
    async with policy_server(site, lambda: policy("enforce", "mx0.example.com")) as (port, _):
        async with world(zone, context=trusting, policy_port=port, pool=pool) as place:
            assert await place.directory.policies.enforced("example.com") is not None
    for changed in ({("_mta-sts.example.com", "TXT"): []}, {("_mta-sts.example.com", "TXT"): ["v=STSv1; id=2"]}):
        async with pool.acquire() as db:
            await db.execute("DELETE FROM mx_answers")
        async with world(zone | changed, context=trusting, policy_port=port, pool=pool) as place:
            found = await place.directory.policies.enforced("example.com")
            assert found is not None
            assert found.hosts == ("mx0.example.com",)


async def test_odd_mail_hosts_are_passed_over_and_aliases_followed():
    """An address in a host's place is no host; an alias is one, as it is met; a host with IPv6 alone is reached."""
    zone = {
        ("example.com", "MX"): ["0 127.0.0.3", "10 alias.example.com"],
        ("alias.example.com", "CNAME"): ["real.example.com"],
        ("real.example.com", "AAAA"): ["::1"],
    }
    async with world(zone) as place, peer(place, "127.0.0.3") as literal, peer(place, "::1") as real:
        assert (await place.send(envelope()))[0].kind == "sent"
        assert (literal.connections, len(real.letters)) == (0, 1)


def test_equal_hosts_are_tried_in_any_order():
    """Hosts of the same preference share the load; the best still come first (RFC 5321 § 5.1)."""
    dialer = Dialer(
        None, None, hostname="mail.shop.example", port=25, source=None, private=False, context=ssl.create_default_context(),
        timeouts=Timeouts(), random=random.Random(1),
    )  # fmt: skip
    equal = [Host(0, "a.example"), Host(0, "b.example"), Host(5, "last.example")]
    orders = {tuple(host.name for host in dialer._in_order(equal)) for _ in range(50)}
    assert orders == {("a.example", "b.example", "last.example"), ("b.example", "a.example", "last.example")}


async def test_a_policy_that_changed_is_fetched_anew(authority, trusting, pool):
    """Another id in the record means another policy: it is fetched, and binds from then on."""
    zone = hosts("example.com", "127.0.0.1") | STS
    named = iter(["old.example.com", "new.example.com"])
    site = server_tls(authority, "mta-sts.example.com")
    async with policy_server(site, lambda: policy("enforce", next(named))) as (port, asked):
        for id, host in (("1", "old.example.com"), ("1", "old.example.com"), ("2", "new.example.com")):
            await pool.execute("DELETE FROM mx_answers")
            zone["_mta-sts.example.com", "TXT"] = [f"v=STSv1; id={id}"]
            async with world(zone, context=trusting, policy_port=port, pool=pool) as place:
                assert (await place.directory.policies.enforced("example.com")).hosts == (host,)
        assert len(asked) == 2


@pytest.mark.parametrize(
    ("text", "kw"),
    [
        (policy("testing", "mx.other.example"), {}),
        (policy("none"), {}),
        (policy("enforce", "mx.other.example", version="STSv2"), {}),
        (policy("enforce"), {}),
        (policy("enforce", "mx.other.example", max_age="soon"), {}),
        (policy("enforce", "mx.other.example"), {"kind": "text/html"}),
        (policy("enforce", "mx.other.example"), {"status": "301 Moved\r\nLocation: https://mta-sts.example.com/x"}),
        (policy("enforce", "mx.other.example") + "x" * 70_000, {}),
    ],
    ids=["testing", "none", "version", "no hosts", "max_age", "type", "redirect", "size"],
)
async def test_a_policy_that_does_not_bind_is_not_kept_to(text, kw, authority, trusting):
    """A policy in testing, or one that is none, changes nothing."""
    zone = hosts("example.com", "127.0.0.1") | STS
    async with policy_server(server_tls(authority, "mta-sts.example.com"), lambda: text, **kw) as (port, asked):
        async with world(zone, context=trusting, policy_port=port) as place, peer(place):
            assert (await place.send(envelope()))[0].kind == "sent"
            assert len(asked) == 1


async def test_policies_are_fetched_from_public_addresses_only(trusting):
    """A domain cannot make us fetch from our own network."""
    async with world(STS) as place:
        directory = Directory(DnsMxResolver([place.dns.address]), None, allow_private=False, context=trusting)
        assert await directory.policies.enforced("example.com") is None
        assert ("mta-sts.example.com", "A") in place.dns.asked


def test_the_opportunistic_context_believes_everybody():
    """Opportunistic TLS verifies neither authority nor name."""
    context = opportunistic()
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_NONE)
    assert BODY
