"""What several benchmarks stand on: PostgreSQL, the API, workers and a sink that notes when each letter's last dot came.

Nothing is measured here; ``python bench/stage.py`` does nothing.
"""


# ruff: noqa: E402  (the sink is found first)

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from letters import sample
from mailbase import resources, servers
from mailbase.db import Connection, connect
from mailbase.migrate import migrate
from mailbase.sending.signing import keys
from mailbase.vault import Vault
from sink import Sink

SECRET = "the-secret-of-a-benchmark"
KEY = "mb_the-key-of-a-benchmark"

PEOPLE = """
INSERT INTO subscribers (email, email_key, domain, status, attributes)
SELECT 'p' || i || '@example.com', 'p' || i || '@example.com', 'example.com', 'active', jsonb_build_object('name', 'Ann ' || i, 'city', 'Oslo')
FROM generate_series($1::int, $2::int) AS i
"""


@contextlib.contextmanager
def database(folder: Path) -> Iterator[str]:
    """Run the embedded PostgreSQL, with fsync, as it is installed."""
    server = servers.postgres(folder)
    process = server.start()
    try:
        server.wait(process)
        yield server.url
    finally:
        process.send_signal(server.stop_signal)
        process.wait(60)


async def prepare(url: str, people: int) -> Connection:
    """Migrate; add the domains signed.example and unsigned.example, without caps, and people."""
    db = await connect(url)
    await migrate(db, resources.migrations())
    for name, signing in (("signed.example", True), ("unsigned.example", False)):
        await add_domain(db, name, signing=signing)
    # In steps, as they would come, so that the embedded server's memory does.
    for start in range(1, people + 1, 100_000):
        await db.execute(PEOPLE, start, min(start + 99_999, people))
    await db.execute("VACUUM ANALYZE subscribers")
    return db


async def add_domain(db: Connection, name: str, *, signing: bool) -> int:
    """Add a verified domain without caps, with a key."""
    domain_id: int = await db.fetchval(
        "INSERT INTO domains (name, status, signing, verified_at) VALUES ($1, 'verified', $2, now()) RETURNING id",
        name,
        signing,
    )
    await db.execute("INSERT INTO warmups (domain_id, preset) VALUES ($1, 'none')", domain_id)
    private = keys.generate()
    key_id = await db.fetchval(
        "INSERT INTO dkim_keys (domain_id, selector, state, private_key, public_key) VALUES ($1, 's1', 'active', '', $2) RETURNING id",
        domain_id,
        keys.public_key(private),
    )
    blob = Vault([SECRET]).encrypt(keys.to_der(private), f"dkim:{key_id}")
    await db.execute("UPDATE dkim_keys SET private_key = $2 WHERE id = $1", key_id, blob)
    return domain_id


def environment(folder: Path, url: str, *, sink: int, workers: int, connections: int) -> dict[str, str]:
    """Return the settings of every process of ours."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        **os.environ,
        "MAILBASE_DATABASE_URL": url,
        "MAILBASE_DATA_DIR": str(folder / "data"),
        "MAILBASE_SECRET_KEY": SECRET,
        "MAILBASE_ADMIN_KEY": KEY,
        "MAILBASE_PORT": str(port),
        "MAILBASE_REDIS_URL": "unix:///nowhere/redis.sock",
        "MAILBASE_SMTP_URL": f"smtp://127.0.0.1:{sink}?tls=none&connections={connections}",
        "MAILBASE_WORKERS": str(workers),
    }


@contextlib.contextmanager
def processes(env: dict[str, str], *names: str) -> Iterator[list[psutil.Process]]:
    """Run ``mailbase NAME`` for each name."""
    started = [subprocess.Popen([sys.executable, "-m", "mailbase", name], env=env) for name in names]
    try:
        yield [psutil.Process(one.pid) for one in started]
        for one in started:
            one.terminate()
        for one in started:
            one.wait(30)
    finally:
        for one in started:
            one.kill()


@contextlib.asynccontextmanager
async def client(env: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the API once it answers."""
    base = f"http://127.0.0.1:{env['MAILBASE_PORT']}"
    async with httpx.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                (await http.get("/healthz")).raise_for_status()
                break
            await asyncio.sleep(0.05)
        answer = await http.patch("/v1/settings", json={"postal_address": "1 Street"})
        answer.raise_for_status()
        yield http


async def draft(http: httpx.AsyncClient, domain: str) -> int:
    """Write the campaign of ``bench/letters.py`` to everybody; return its id."""
    content = sample()
    body: dict[str, Any] = {
        "name": "bench",
        "from": {"name": "Shop", "email": f"news@{domain}"},
        "subject": content.subject,
        "html": content.html,
        "audience": {"all": True},
    }
    answer = await http.post("/v1/campaigns", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def send(http: httpx.AsyncClient, campaign_id: int) -> float:
    """Launch a campaign; return the moment of the answer on the monotonic clock."""
    answer = await http.post(f"/v1/campaigns/{campaign_id}/send")
    now = time.monotonic()
    assert answer.status_code < 300, answer.text
    return now


class Taken:
    """What the sink took since: read on as it comes."""

    def __init__(self, sink: Sink) -> None:
        assert sink.log is not None
        self._log = sink.log
        self._log.touch()
        self._at = self._log.stat().st_size
        self._rest = b""

    def more(self) -> list[tuple[str, float]]:
        """Return (recipient, second of its last dot on the monotonic clock) of each letter since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._at)
            data = log.read()
        self._at += len(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        found = [line.split(b"\t") for line in lines]
        return [(recipient.decode(), int(at) / 1e9) for recipient, _, at in found]

    async def first(self, seconds: float = 60) -> float:
        """Wait for the next letter; return when its last dot came."""
        deadline = time.monotonic() + seconds
        while not (found := self.more()):
            assert time.monotonic() < deadline, f"no letter within {seconds:.0f} s"
            await asyncio.sleep(0.005)
        return min(at for _, at in found)


def memory(process: psutil.Process) -> float:
    """Return a process's share of memory (PSS) in MB."""
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise LookupError


def percentile(values: list[float], part: float) -> float:
    """Return the value that ``part`` of the values stay within."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]
