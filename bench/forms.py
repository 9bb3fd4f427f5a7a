"""200 submissions a second to one form for 30 seconds, against a whole installation: API, worker, PostgreSQL, Redis, outbox.

Every submission is somebody new. They are sent by the clock, whether answers come or not, and timed from when they should have been sent.
Limits: each accepted one is stored once, with one letter, and 99 % are answered within 250 ms (of which up to 40 are waited for on purpose).
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx
import psutil

from mailbase import servers
from mailbase.db import connect

KEY = "mb_the-key-of-a-benchmark"
WITHIN = 0.250
CONNECTIONS = 128
WARMING = 20
FORM = {
    "name": "Load",
    "fields": [{"name": "city", "type": "text"}],
    "interests": ["news"],
    "consents": [{"purpose": "newsletter", "text": "Send me letters.", "required": True}],
    "from": {"name": "Load", "email": "hello@news.example.com"},
}


class Browser:
    """One kept connection; HTTP by hand, because a client library would cost as much as what is measured."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, email: str) -> int:
        """Submit the form once and return the status."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        body = urlencode({"email": email, "city": "London", "consent_newsletter": "on"}).encode()
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: application/json\r\nUser-Agent: bench\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        return int(answer[9:12])


async def load(
    port: int, path: str, rate: int, seconds: int, name: str = "reader"
) -> tuple[list[float], dict[int, int]]:
    """Send by the clock; return how long each took, and the statuses."""
    free: asyncio.Queue[Browser] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(Browser(port, path))
    took: list[float] = []
    statuses: dict[int, int] = {}

    async def one(n: int, due: float) -> None:
        browser = await free.get()
        status = await browser.send(f"{name}{n}@example.com")
        free.put_nowait(browser)
        took.append(time.perf_counter() - due)
        statuses[status] = statuses.get(status, 0) + 1

    began = time.perf_counter() + 0.1
    async with asyncio.TaskGroup() as group:
        for n in range(rate * seconds):
            due = began + n / rate
            if due > time.perf_counter():
                await asyncio.sleep(due - time.perf_counter())
            group.create_task(one(n, due))
    return took, statuses


async def stored(home: Path, form_id: int) -> dict[str, int]:
    """Return what is in the database afterwards."""
    db = await connect(servers.postgres_url(home))
    try:
        return {
            "submissions": await db.fetchval(
                "SELECT count(*) FROM submissions WHERE form_id = $1 AND outcome = 'accepted'", form_id
            ),
            "subscribers": await db.fetchval("SELECT count(DISTINCT email_key) FROM subscribers"),
            "letters": await db.fetchval("SELECT count(DISTINCT email_key) FROM messages WHERE kind = 'confirmation'"),
            "counted": await db.fetchval(
                "SELECT COALESCE(sum(n), 0)::bigint FROM form_counts WHERE form_id = $1 AND what = 'submit' AND dimension = 'page'",
                form_id,
            ),
        }
    finally:
        await db.close()


async def backends(home: Path) -> tuple[dict[int, str], int]:
    """Return whose PostgreSQL's processes are, and how many transactions were committed so far."""
    db = await connect(servers.postgres_url(home))
    try:
        whose = {row["pid"]: row["whose"] for row in await db.fetch(BACKENDS)}
        return whose, await db.fetchval("SELECT sum(xact_commit)::bigint FROM pg_stat_database")
    finally:
        await db.close()


BACKENDS = """
SELECT pid, COALESCE(NULLIF(application_name, ''), backend_type) AS whose FROM pg_stat_activity WHERE pid <> pg_backend_pid()
"""


def cpu(family: list[psutil.Process], whose: dict[int, str]) -> dict[str, float]:
    """Return CPU seconds by kind of process; PostgreSQL's by whom they work for."""
    spent: dict[str, float] = {}
    for process in family:
        try:
            line, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        kind = next(
            (name for name in ("mailbase api", "mailbase worker", "postgres", "redis") if name in line), "other"
        )
        if kind == "postgres":
            kind = f"PostgreSQL for {whose.get(process.pid, 'itself')}"
        spent[kind] = spent.get(kind, 0.0) + times.user + times.system
    return spent


@contextlib.contextmanager
def installation() -> Iterator[tuple[subprocess.Popen, int, Path, dict]]:
    """Run a whole installation with one form: its process, its port, where its data is, and the form."""
    home = Path(tempfile.mkdtemp(prefix="mailbase-bench-"))
    home.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "MAILBASE_DATA_DIR": str(home / "data"),
        "MAILBASE_PORT": str(port),
        "MAILBASE_ADMIN_KEY": KEY,
        "MAILBASE_FORM_LIMITS": "off",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "mailbase", "up"], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert any(line == "ready\n" for line in process.stdout)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}) as owner:
            owner.post("/v1/interests", json={"slug": "news", "name": "News"}).raise_for_status()
            form = owner.post("/v1/forms", json=FORM).raise_for_status().json()
        yield process, port, home, form
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def main() -> int:
    """Print the figures; return 1 if a limit was missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rate", type=int, default=200)
    arguments.add_argument("--seconds", type=int, default=30)
    asked = arguments.parse_args()
    with installation() as (process, port, home, form):
        asyncio.run(load(port, f"/f/{form['key']}", WARMING, 1, "first"))  # what is done once: caches, plans
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        whose, committed = asyncio.run(backends(home / "data"))
        before = cpu(family, whose)
        took, statuses = asyncio.run(load(port, f"/f/{form['key']}", asked.rate, asked.seconds))
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        ended, committed_then = asyncio.run(backends(home / "data"))
        after = cpu(family, whose | ended)
        found = asyncio.run(stored(home / "data", form["id"]))
    accepted = statuses.get(202, 0)
    p50, p99, worst = statistics.median(took), sorted(took)[int(len(took) * 0.99)], max(took)
    print(json.dumps({"statuses": statuses, "stored": found}))
    spent = {kind: (after[kind] - before.get(kind, 0)) / len(took) * 1000 for kind in sorted(after) if kind != "other"}
    each = ", ".join(f"{kind} {ms:.2f}" for kind, ms in spent.items() if ms >= 0.005)
    print(f"CPU ms a submission: {sum(spent.values()):.2f} ({each})")
    print(f"transactions a submission, the workers' among them: {(committed_then - committed) / len(took):.2f}")
    print(f"answered in {p50 * 1000:.0f} ms (median), {p99 * 1000:.0f} ms (99 %), {worst * 1000:.0f} ms (worst)")
    print(f"99 % within      {p99 * 1000:6.0f} ms   {p99 / WITHIN:.2f} x the limit of {WITHIN * 1000:.0f} ms")
    whole = accepted == len(took) and set(found.values()) == {asked.rate * asked.seconds + WARMING}
    print(f"stored once      {'yes' if whole else 'NO'}")
    return 0 if whole and p99 < WITHIN else 1


if __name__ == "__main__":
    sys.exit(main())
