"""The outgoing client: what it will not ask, against real servers on this machine."""

import asyncio
import contextlib
import ssl
from ipaddress import ip_address

import pytest
import trustme

from mailbase.outgoing import Outgoing, Unreachable, is_public


@contextlib.asynccontextmanager
async def serving(answer, *, context=None):
    """Serve one canned answer to everybody; yield the port and the requests' heads."""
    heads = []

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if answer is not None:
                writer.write(answer)
                await writer.drain()
            else:
                await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


def http(status, body=b"", *headers):
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n%b\r\n%b" % (
        status,
        len(body),
        b"".join(headers),
        body,
    )


def pointing(*addresses):
    """Return a resolver that answers these addresses, whatever the name."""

    async def resolve(_host, port):
        return [(address, port) for address in addresses]

    return resolve


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("198.18.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d70e", True),
        ("64:ff9b:1::7f00:1", False),
        ("::127.0.0.1", False),
        ("fec0::1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("192.0.0.8", False),
        ("192.88.99.1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
    ],
)
def test_which_addresses_are_public(address, public):
    """Private, loopback, link-local, shared, multicast and disguised addresses are not; the rest of the Internet is."""
    assert is_public(ip_address(address)) is public


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://127.1:{port}/",
        "http://user:password@127.0.0.1:{port}/",
        "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
        "//127.0.0.1:{port}/",
        "http://",
        "no address",
        "http://127.0.0.1:99999/",
        "http://ex\nample.com/",
    ],
)
async def test_private_addresses_are_not_asked(url):
    """However an address of this machine is written, nobody there is asked."""
    async with serving(http(200)) as (port, heads):
        with pytest.raises(Unreachable):
            await Outgoing().get(url.format(port=port))
    assert heads == []


async def test_one_private_address_is_enough():
    """A name that stands for a private address beside a public one is not asked at all; a name without any is nobody."""
    async with serving(http(200)) as (port, heads):
        for answers in (("93.184.215.14", "127.0.0.1"), ("127.0.0.1", "93.184.215.14"), ("fe80::1%eth0",), ()):
            with pytest.raises(Unreachable):
                await Outgoing(resolver=pointing(*answers)).get(f"http://example.com:{port}/")
    assert heads == []


async def test_the_operator_may_allow_private_addresses():
    """Allowed, a private address is asked under the name it was given, without anything of the environment."""
    async with serving(http(200, b"hello")) as (port, heads):
        answer = await Outgoing(allow_private=True, resolver=pointing("127.0.0.1")).get(
            f"http://peer.internal:{port}/a?b=c"
        )

    assert (answer.status, answer.body) == (200, b"hello")
    assert heads[0].startswith("GET /a?b=c HTTP/1.1\r\n")
    assert f"Host: peer.internal:{port}\r\n" in heads[0]


async def test_the_certificate_is_of_the_name_that_was_asked():
    """TLS is verified against the name, although the connection goes to the address; another name's certificate is refused."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("peer.example").configure_cert(server)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with serving(http(200, b"hello"), context=server) as (port, _):
        client = Outgoing(allow_private=True, resolver=pointing("127.0.0.1"), context=trust)
        assert (await client.get(f"https://peer.example:{port}/")).body == b"hello"
        with pytest.raises(Unreachable):
            await client.get(f"https://other.example:{port}/")
        with pytest.raises(Unreachable):
            await Outgoing(allow_private=True, resolver=pointing("127.0.0.1")).get(f"https://peer.example:{port}/")


async def test_redirects_are_answers():
    """A redirect is handed back, not followed."""
    async with serving(http(302, b"", b"Location: http://127.0.0.1/\r\n")) as (port, heads):
        answer = await Outgoing(allow_private=True).get(f"http://127.0.0.1:{port}/")

    assert (answer.status, answer.headers["location"]) == (302, "http://127.0.0.1/")
    assert len(heads) == 1


async def test_size_and_time_have_limits():
    """An endless answer, and one that never comes, end at the limit; so does one that is no HTTP."""
    async with serving(http(200, b"x" * 5000)) as (port, _):
        with pytest.raises(Unreachable, match="more than is read"):
            await Outgoing(allow_private=True, largest=4999).get(f"http://127.0.0.1:{port}/")
        assert len((await Outgoing(allow_private=True, largest=5000).get(f"http://127.0.0.1:{port}/")).body) == 5000
    async with serving(None) as (port, _):
        with pytest.raises(Unreachable):
            await Outgoing(allow_private=True, seconds=0.2).get(f"http://127.0.0.1:{port}/")
    async with serving(b"SSH-2.0-nothing\r\n") as (port, _):
        with pytest.raises(Unreachable):
            await Outgoing(allow_private=True).get(f"http://127.0.0.1:{port}/")
    with pytest.raises(Unreachable):
        await Outgoing(allow_private=True).get(f"http://127.0.0.1:{port}/")


async def test_a_body_is_sent_and_what_does_not_change_is_fetched_once():
    """A POST carries its body and headers; ``get_kept`` asks once and keeps only a 200."""
    async with serving(http(200, b"kept")) as (port, heads):
        client = Outgoing(allow_private=True)
        url = f"http://127.0.0.1:{port}/certificate.pem"
        assert [await client.get_kept(url), await client.get_kept(url)] == [b"kept", b"kept"]
        answer = await client.request("POST", url, headers={"X-Of": "ours"}, content=b"body")
    assert answer.status == 200
    assert [head.split(" ")[0] for head in heads] == ["GET", "POST"]
    assert "X-Of: ours\r\n" in heads[1]
    assert "Content-Length: 4\r\n" in heads[1]

    async with serving(http(404, b"none")) as (port, heads):
        for _ in range(2):
            with pytest.raises(Unreachable):
                await client.get_kept(f"http://127.0.0.1:{port}/certificate.pem")
    assert len(heads) == 2
