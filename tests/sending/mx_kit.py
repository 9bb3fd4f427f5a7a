"""A small world for sending straight to mail hosts: a DNS server, peers on loopback addresses of their own, one port."""

import asyncio
import contextlib
import itertools
import random
import socket
import ssl

from dns_server import DnsServer
from mailbase.config import Mx
from mailbase.sending.mx.mx_dns import DnsMxResolver
from mailbase.sending.mx.transport import Directory, MxTransport
from mailbase.sending.outcomes import Envelope, Outcome
from mailbase.sending.providers.providers import Limits, Providers
from mailbase.sending.smtp.session import Timeouts
from smtp_peer import EHLO, SmtpPeer

QUICK = Timeouts(connect=0.5, greeting=0.5, ehlo=0.5, starttls=1, mail=2, rcpt=2, data=2, content=2, idle=5, quit=0.5)
BODY = b"Subject: Hello\r\n\r\nHello.\r\n"
_ids = itertools.count(1)


def envelope(rcpt="ann@example.com", *, provider="other", **kw) -> Envelope:
    return Envelope(next(_ids), "news@shop.example", rcpt, kw.pop("data", BODY), provider=provider, **kw)


class Table(Providers):
    """Providers whose limits a test sets by name."""

    def __init__(self, **limits: Limits) -> None:
        super().__init__()
        self.by_name = limits

    def limits(self, provider, egress):
        return self.by_name.get(provider) or super().limits(provider, egress)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class World:
    """``transport`` sends into ``zone``; ``port`` is where every peer must listen."""

    def __init__(self, zone, transport, port, dns, directory) -> None:
        self.zone = zone
        self.transport = transport
        self.port = port
        self.dns = dns
        self.directory = directory

    async def send(self, *letters: Envelope, urgent=False) -> list[Outcome]:
        """Hand over and return the outcomes in the letters' order; more or fewer than one each is a failure."""
        outcomes: list[Outcome] = []
        async with asyncio.timeout(30):
            await self.transport.hand_over(letters, outcomes.append, urgent=urgent)
        by_id = {outcome.delivery_id: outcome for outcome in outcomes}
        assert len(outcomes) == len(by_id) == len(letters)
        return [by_id[letter.delivery_id] for letter in letters]


@contextlib.asynccontextmanager
async def world(zone=None, *, pool=None, port=None, sources=(), context=None, policy_port=None, providers=None, **kw):
    """Yield a :class:`World`; ``context`` verifies mail hosts and policy servers."""
    port = port or free_port()
    async with DnsServer(zone) as dns:
        directory = Directory(
            DnsMxResolver([dns.address]), pool, allow_private=True, context=context or ssl.create_default_context()
        )
        if policy_port is not None:

            async def elsewhere(host, _port, resolve=directory.outgoing._resolver):
                return await resolve(host, policy_port)

            directory.outgoing._resolver = elsewhere
        options = {"allow_private": True, "timeouts": QUICK, "random": random.Random(1), **kw}
        transport = MxTransport(
            Mx(sources=sources, port=port),
            directory,
            providers or Table(),
            hostname="mail.shop.example",
            context=context,
            **options,
        )
        try:
            yield World(dns.zone, transport, port, dns, directory)
        finally:
            await transport.close()


def hosts(domain: str, *addresses: str, preference=10) -> dict:
    """Return the records of a domain whose mail hosts have these addresses, best first."""
    zone: dict = {(domain, "MX"): [f"{preference * (i + 1)} mx{i}.{domain}" for i in range(len(addresses))]}
    for i, address in enumerate(addresses):
        zone[f"mx{i}.{domain}", "AAAA" if ":" in address else "A"] = [address]
    return zone


def server_tls(authority, *names) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def policy(mode="enforce", *mx, version="STSv1", max_age=86400):
    return (
        f"version: {version}\r\nmode: {mode}\r\n" + "".join(f"mx: {one}\r\n" for one in mx) + f"max_age: {max_age}\r\n"
    )


@contextlib.asynccontextmanager
async def policy_server(context, text, *, status="200 OK", kind="text/plain; charset=utf-8", sock=None):
    """Serve one policy over HTTPS; yield its port and how often it was asked."""
    asked = []

    async def serve(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        asked.append(request.decode())
        body = text().encode()
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()

    where = {"sock": sock} if sock else {"host": "127.0.0.1", "port": 0}
    server = await asyncio.start_server(serve, **where, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


TLS_EHLO = EHLO.replace("250-8BITMIME", "250-STARTTLS\n250-8BITMIME")


def peer(place, host="127.0.0.1", answers=None, **kw) -> SmtpPeer:
    return SmtpPeer(answers, host=host, port=place.port, **kw)


async def until(condition) -> None:
    """Wait until something that happens elsewhere is so; five seconds at most."""
    deadline = asyncio.get_running_loop().time() + 5
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


async def until_it_is(condition) -> None:
    """As :func:`until`, of something that has to be awaited."""
    deadline = asyncio.get_running_loop().time() + 5
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)
