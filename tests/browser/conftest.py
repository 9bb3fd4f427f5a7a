"""A real browser, a real ``mailbase api``, and a shop on another origin."""

import asyncio
import shutil
from collections.abc import AsyncGenerator

import httpx
import pytest
from playwright.async_api import Browser, async_playwright

from api_process import KEY, free_port, home, ready, start, until

__all__ = ["home", "start"]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Shop:
    """A page of another origin; ``html`` is what it serves at every path."""

    def __init__(self) -> None:
        self.html = ""
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        while (await reader.readline()).strip():
            pass
        body = self.html.encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
        await writer.drain()
        writer.close()


@pytest.fixture
async def browser() -> AsyncGenerator[Browser]:
    """Chromium, as it is installed."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def shop() -> AsyncGenerator[Shop]:
    """The owner's website."""
    shop = Shop()
    server = await asyncio.start_server(shop.answer, "127.0.0.1", 0)
    shop.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield shop
    server.close()


@pytest.fixture
async def host(start) -> str:
    """The origin of a running ``mailbase api``."""
    port = free_port()
    start(port, MAILBASE_FORM_LIMITS="off")
    await asyncio.to_thread(until, lambda: ready(port), "the API is ready", 60)
    return f"http://127.0.0.1:{port}"


@pytest.fixture
async def owner(host: str) -> AsyncGenerator[httpx.AsyncClient]:
    """The owner's program."""
    async with httpx.AsyncClient(base_url=host, headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client
