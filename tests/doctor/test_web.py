"""The public address, against real servers before which things go wrong."""

import asyncio
import contextlib
import re
from datetime import UTC, datetime, timedelta

import pytest

from doctor.doctor_kit import Authority, levels, of
from mailbase.doctor import web

NOW = datetime.now(UTC)
HEALTH = "200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n" + '{"status":"ok"}'
NOBODY = "404 Not Found\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def authority():
    return Authority()


@contextlib.asynccontextmanager
async def serving(health=HEALTH, unsubscribe=NOBODY, *, context=None):
    """Serve two answers; yields the port and the requests' first lines."""
    lines, tasks, writers = [], [], []

    async def serve(reader, writer):
        tasks.append(asyncio.current_task())
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines.append(head.partition("\r\n")[0])
                length = re.search(r"(?i)^content-length: *([0-9]+)", head, re.MULTILINE)
                body = await reader.readexactly(int(length[1]) if length else 0)
                writer.write(f"HTTP/1.1 {unsubscribe if body == b'List-Unsubscribe=One-Click' else health}".encode())
                await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], lines
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def look(url, authority, *, real=True):
    """Look at an address."""
    return await web.examine(url, real=real, context=authority.client(), now=NOW)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:8000", ["wrong"]),
        ("https://localhost", ["wrong"]),
        ("http://[::1]:8000", ["wrong"]),
        ("http://news.shop.example", ["wrong"]),
        ("https://news.shop.example", []),
    ],
)
def test_addresses(url, found):
    """An address nobody else can reach, or without TLS, will not do once letters leave; with the outbox it is a warning."""
    assert [one.level for one in web.address(url, real=True)] == found
    assert all(one.level == "warning" for one in web.address(url, real=False))


async def test_all_is_well(authority):
    """A valid certificate, mailbase behind it, and a one-click that gets through."""
    async with serving(context=authority.server("127.0.0.1")) as (port, lines):
        found = await look(f"https://127.0.0.1:{port}", authority, real=False)
    assert levels(found) == {"public_url": "warning", "certificate": "ok", "reachable": "ok", "unsubscribe": "ok"}
    assert lines == ["GET /healthz HTTP/1.1", "POST /u/doctor HTTP/1.1"]


@pytest.mark.parametrize("name", ["other.example", None])
async def test_a_certificate_that_is_not_right(authority, name):
    """A certificate for another name, or from nobody we know, is wrong, and no request is made over it."""
    issuer = authority if name else Authority()
    async with serving(context=issuer.server(name or "127.0.0.1")) as (port, lines):
        found = of(await look(f"https://127.0.0.1:{port}", authority), "certificate")
    assert (found.level, lines) == ("wrong", [])


async def test_a_certificate_that_ends_soon(authority):
    """A certificate that ends within two weeks is a warning."""
    context = authority.server("127.0.0.1", not_after=NOW + timedelta(days=3))
    async with serving(context=context) as (port, _):
        found = await look(f"https://127.0.0.1:{port}", authority)
    assert of(found, "certificate").level == "warning"
    assert of(found, "reachable").level == "ok"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("301 Moved\r\nlocation: https://www.shop.example/u/doctor\r\ncontent-length: 0\r\n\r\n", "www.shop.example"),
        ("403 Forbidden\r\ncontent-length: 0\r\n\r\n", "403"),
        ("200 OK\r\ncontent-length: 5\r\n\r\nlogin", "200"),
    ],
)
async def test_a_one_click_that_does_not_get_through(authority, answer, words):
    """A redirect, a refusal or a page of somebody else before mailbase breaks one-click unsubscribing."""
    async with serving(unsubscribe=answer) as (port, _):
        found = of(await look(f"http://127.0.0.1:{port}", authority), "unsubscribe")
    assert found.level == "wrong"
    assert words in found.text


@pytest.mark.parametrize(
    "answer", [NOBODY, "200 OK\r\ncontent-length: 7\r\n\r\nWelcome", "502 Bad\r\ncontent-length: 0\r\n\r\n"]
)
async def test_somebody_else(authority, answer):
    """A server at the address that is not mailbase is told from it."""
    async with serving(health=answer) as (port, _):
        found = await look(f"http://127.0.0.1:{port}", authority)
    assert levels(found) == {"public_url": "wrong", "reachable": "wrong"}


async def test_nobody_there(authority):
    """An address that does not answer is wrong, with or without TLS."""
    async with serving() as (port, _):
        pass
    for scheme in ("http", "https"):
        assert of(await look(f"{scheme}://127.0.0.1:{port}", authority), "reachable").level == "wrong"
