"""A real browser, a real ``mailbase api``, and a shop on another origin."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

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
    """A page of another origin; ``html`` is what it serves at every path, under the policy ``csp``."""

    def __init__(self) -> None:
        self.html = ""
        self.csp = ""
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        while (await reader.readline()).strip():
            pass
        body = self.html.encode()
        policy = f"Content-Security-Policy: {self.csp}\r\n" if self.csp else ""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n{policy}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    """Chromium, as it is installed, once a run: starting it is what a browser test costs. The address it listens at."""
    folder = Path(tempfile.mkdtemp(prefix="mailbase-chromium-"))
    command = [shutil.which("chromium") or "chromium", "--headless", *FLAGS, "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={folder}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    said = folder / "DevToolsActivePort"
    try:
        until(lambda: said.exists() and len(said.read_text().splitlines()) == 2, "Chromium listens", 60)
        port, path = said.read_text().splitlines()
        yield f"ws://127.0.0.1:{port}{path}"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def browser(chromium: str) -> AsyncGenerator[Browser]:
    """The run's Chromium; what a test opens in it is closed after the test."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium)
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
