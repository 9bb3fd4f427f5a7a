"""A real browser, a real ``mailbase api``, and a shop on another origin."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from api_process import KEY, SECRET, free_port, home, ready, start, until
from mailbase import db as database

__all__ = ["home", "start"]

HERE = Path(__file__).parent
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of this folder share one event loop, and so one driver of the browser."""
    for item in items:
        if HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session")
async def db(database_url: str) -> AsyncGenerator[database.Connection]:
    """One connection to this test's own database, on the loop these tests share."""
    connection = await database.connect(database_url)
    yield connection
    await connection.close()


def with_database(url: str, name: str) -> str:
    """Return the same server's address of another database."""
    return url.replace("@/postgres?", f"@/{name}?")


class Shop:
    """A page of another origin; ``html`` is what it serves at every path, under the policy ``csp``, and ``css`` at ``/shop.css``."""

    def __init__(self) -> None:
        self.html = ""
        self.css = ""
        self.csp = ""
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        asked = await reader.readline()
        while (await reader.readline()).strip():
            pass
        kind, body = ("css", self.css.encode()) if b" /shop.css " in asked else ("html", self.html.encode())
        policy = f"Content-Security-Policy: {self.csp}\r\n" if self.csp else ""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/{kind}; charset=utf-8\r\n{policy}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _driven(chromium: str) -> AsyncGenerator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(_driven: Browser) -> AsyncGenerator[Browser]:
    """The run's Chromium; what a test opens in it is closed after the test."""
    before = set(_driven.contexts)
    yield _driven
    for context in {*_driven.contexts} - before:
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def shop() -> AsyncGenerator[Shop]:
    """The owner's website."""
    shop = Shop()
    server = await asyncio.start_server(shop.answer, "127.0.0.1", 0)
    shop.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield shop
    server.close()


@pytest_asyncio.fixture(loop_scope="session")
async def host(start) -> str:
    """The origin of a running ``mailbase api``."""
    port = free_port()
    start(port, MAILBASE_FORM_LIMITS="off")
    await asyncio.to_thread(until, lambda: ready(port), "the API is ready", 60)
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def standing(postgres_server, template_database: str, redis_url: str) -> Iterator[tuple[str, str]]:
    """One ``mailbase api`` for all tests that leave its settings alone: its origin and its database's address."""
    name, port = f"browser_{os.getpid()}", free_port()
    folder = Path(tempfile.mkdtemp(prefix="mailbase-standing-"))

    async def create() -> None:
        admin = await database.connect(postgres_server.url)
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template_database}" STRATEGY FILE_COPY')
        await admin.close()

    asyncio.run(create())
    url = with_database(postgres_server.url, name)
    env = {
        "PATH": os.environ["PATH"],
        "MAILBASE_DATA_DIR": str(folder),
        "MAILBASE_DATABASE_URL": url,
        "MAILBASE_REDIS_URL": redis_url,
        "MAILBASE_SECRET_KEY": SECRET,
        "MAILBASE_ADMIN_KEY": KEY,
        "MAILBASE_PORT": str(port),
        "MAILBASE_FORM_LIMITS": "off",
    }
    with (folder / "api.log").open("w") as log:
        command = [str(Path(sys.executable).with_name("mailbase")), "api"]
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        until(lambda: ready(port), "the API is ready", 60)
        yield f"http://127.0.0.1:{port}", url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def house(standing: tuple[str, str]) -> str:
    """The origin of the standing ``mailbase api``."""
    return standing[0]


@pytest_asyncio.fixture(loop_scope="session")
async def records(standing: tuple[str, str]) -> AsyncGenerator[database.Connection]:
    """A connection to its database."""
    connection = await database.connect(standing[1])
    yield connection
    await connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def keeper(house: str) -> AsyncGenerator[httpx.AsyncClient]:
    """The owner's program at the standing ``mailbase api``."""
    async with httpx.AsyncClient(base_url=house, headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def owner(host: str) -> AsyncGenerator[httpx.AsyncClient]:
    """The owner's program."""
    async with httpx.AsyncClient(base_url=host, headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client
