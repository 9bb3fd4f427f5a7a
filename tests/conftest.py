"""Real servers for every test: one PostgreSQL and one Redis a run, a fresh database a test."""

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from chaos.small_disk import can_mount
from mailbase import db as database
from mailbase import migrate, resources, servers
from mailbase.app import Mailbase, create_app
from mailbase.config import Settings

hypothesis_settings.register_profile(
    "mailbase",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=bool(os.environ.get("CI")),
)
hypothesis_settings.load_profile("mailbase")

_names = itertools.count()


def _has_mail_tools() -> bool:
    perl = shutil.which("perl")
    found = perl and subprocess.run([perl, "-MMail::DKIM", "-e", "1"], capture_output=True, check=False).returncode == 0
    return bool(found) and Path("/usr/sbin/smtp-sink").exists()


def _has_namespaces() -> bool:
    if os.geteuid() or not Path("/usr/sbin/postfix").exists() or shutil.which("ip") is None:
        return False
    name = f"mailbase-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    return made and subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False).returncode == 0


AXE = next((Path(__file__).parents[1] / ".venv").glob("axe-core-*/axe.min.js"), Path("axe.min.js"))
"""Where ``tests/tools.sh`` put axe-core."""

TOOLS = {
    "axe": ("axe-core (sh tests/tools.sh fetches it by npm)", AXE.exists),
    "browser": ("Chromium", lambda: shutil.which("chromium") is not None),
    "commands": ("curl", lambda: shutil.which("curl") is not None),
    "imap": ("Dovecot", lambda: Path("/usr/sbin/dovecot").exists() and Path("/usr/lib/dovecot/imap").exists()),
    "namespaces": ("the right to make network namespaces (root), ip or Postfix", _has_namespaces),
    "mounts": ("the right to mount a small disk (root)", can_mount),
    "mailtools": ("Postfix's smtp-sink and Mail::DKIM", _has_mail_tools),
}
"""What a marked test needs beside Python, and how it is found."""
RIGHTS = {"namespaces", "mounts"}
"""Of these, what no package brings: the kernel's leave."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what has no tool here, and say so; on CI a missing tool fails, for it can be installed there. A right cannot."""
    for marker, (tool, present) in TOOLS.items():
        if os.environ.get("CI") and marker not in RIGHTS:
            continue
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not present():
            left_out = pytest.mark.skip(reason=f"left out: {tool} not found")  # a newcomer still gets every other test
            for item in marked:
                item.add_marker(left_out)


@contextlib.contextmanager
def running(server: servers.Server) -> Iterator[servers.Server]:
    """Run a prepared server until the block ends."""
    process = server.start()
    try:
        server.wait(process)
        yield server
    finally:
        process.send_signal(server.stop_signal)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A short-lived folder the servers' user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="mailbase-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_dir: Path) -> Iterator[servers.Server]:
    """The embedded PostgreSQL, without fsync: a test's data need not survive the machine."""
    server = servers.postgres(server_dir)
    server.argv += ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum_naptime=1min"]
    with running(server):
        yield server


@pytest.fixture(scope="session")
def redis_url(server_dir: Path) -> Iterator[str]:
    """The embedded Redis."""
    with running(servers.redis(server_dir)) as server:
        yield server.url


def with_database(url: str, name: str) -> str:
    """Return the same server's address of another database."""
    return (
        urlsplit(url)._replace(path=f"/{name}").geturl().replace(":///", "://", 1)
        if "@/" not in url
        else url.replace("@/postgres?", f"@/{name}?")
    )


@pytest.fixture(scope="session")
def template_database(postgres_server: servers.Server) -> str:
    """A migrated database that every test's own is copied from."""

    async def make() -> None:
        admin = await database.connect(postgres_server.url)
        await admin.execute('CREATE DATABASE "template_mailbase"')
        await admin.close()
        target = await database.connect(with_database(postgres_server.url, "template_mailbase"))
        await migrate.migrate(target, resources.migrations())
        await target.close()

    asyncio.run(make())
    return "template_mailbase"


@pytest.fixture
async def database_url(postgres_server: servers.Server, template_database: str) -> AsyncGenerator[str]:
    """A migrated, empty database of this test's own."""
    name = f"test_{os.getpid()}_{next(_names)}"
    admin = await database.connect(postgres_server.url)
    try:
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template_database}" STRATEGY FILE_COPY')
        yield with_database(postgres_server.url, name)
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncGenerator[database.Pool]:
    """A pool on this test's database."""
    async with database.open_pool(database_url, size=10) as opened:
        yield opened


@pytest.fixture
async def db(pool: database.Pool) -> AsyncGenerator[database.Connection]:
    """One connection, outside any transaction."""
    async with pool.acquire() as connection:
        yield connection


ADMIN_KEY = "mb_admin-key-of-the-tests"


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Complete settings on this test's own database: letters go to an outbox in its own folder."""
    return Settings(
        data_dir=tmp_path,
        database_url=database_url,
        redis_url=redis_url,
        secret_keys=("the secret key of the tests",),
        admin_key=ADMIN_KEY,
        public_url="http://mailbase.test",
    )


@contextlib.asynccontextmanager
async def living(application: Mailbase) -> AsyncGenerator[None]:
    """Run an application's lifespan, in a task of its own: fixtures are set up and torn down in different ones."""
    ready, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with application.lifespan():
            ready.set()
            await stop.wait()

    life = asyncio.create_task(live())
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({life, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if life.done():
        life.result()
    yield
    stop.set()
    await life


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[Mailbase]:
    """The application, started, on the test's own loop. Another test of settings overrides ``settings``."""
    application = create_app(settings)
    async with living(application):
        yield application


@pytest.fixture
async def anonymous(app: Mailbase) -> AsyncGenerator[httpx.AsyncClient]:
    """A client without a key: a visitor."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mailbase.test") as visitor:
        yield visitor


@pytest.fixture
async def client(app: Mailbase) -> AsyncGenerator[httpx.AsyncClient]:
    """A client with the admin key: ``await client.post("/v1/interests", json={…})``."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://mailbase.test",
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
    ) as owner:
        yield owner
