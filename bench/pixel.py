"""What an open costs, committed before it is answered, against a bare Litestar route on the same server.

The real application and a Litestar with one route, one API process each, real PostgreSQL with fsync; a client in a process of
its own holds 64 connections and asks for a random letter's pixel each time. Rounds alternate; afterwards the rows are counted.

``python bench/pixel.py [--seconds N] [--rounds N]``
"""

import argparse
import asyncio
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, get

from mailbase import resources, servers
from mailbase.db import connect
from mailbase.migrate import migrate
from mailbase.tokens import Tokens
from mailbase.web.track import GIF

SECRET = "the-secret-of-a-benchmark"
LIMIT = 0.5
LETTERS = 50_000
CONNECTIONS = 64
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@get("/bare", media_type="image/gif")
async def bare() -> bytes:
    """Answer the same picture."""
    return GIF


async def serve_bare(port: int) -> None:
    """Run the bare route as the API is run."""
    app = Litestar([bare], openapi_config=None, logging_config=None)
    server = Server(
        app,
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGINL,
        backlog=2048,
        websockets=False,
        log_enabled=False,
    )
    async with app.lifespan():
        await server.serve()


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, paths: list[bytes], until: float, done: asyncio.Future) -> None:
        self.paths, self.until, self.done = paths, until, done
        self.answers = 0
        self.buffer = b""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        head = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: %b\r\nAccept: image/*\r\n\r\n"
        self.transport.write(head % (random.choice(self.paths), BROWSER.encode()))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.buffer.endswith(GIF):
            return
        if not self.buffer.startswith(b"HTTP/1.1 200 "):
            self.transport.close()
            raise SystemExit(f"not an answer: {self.buffer[:300]!r}")
        self.answers += 1
        self.buffer = b""
        if time.monotonic() < self.until:
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self.done.set_result(self.answers)


async def load(port: int, seconds: float, paths: list[bytes]) -> int:
    """Ask for that long; return how many answers came."""
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    waits = []
    for _ in range(CONNECTIONS):
        done = loop.create_future()
        await loop.create_connection(lambda done=done: Client(paths, until, done), "127.0.0.1", port)
        waits.append(done)
    return sum(await asyncio.gather(*waits))


def ask(port: int, seconds: float, paths: Path) -> int:
    """Run the load in a process of its own."""
    found = subprocess.run(
        [sys.executable, __file__, "--load", str(port), str(seconds), str(paths)],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(found.stdout)


async def seed(url: str) -> list[str]:
    """Make a campaign with letters; return its pixels' paths."""
    db = await connect(url)
    await migrate(db, resources.migrations())
    await db.execute("INSERT INTO domains (name) VALUES ('shop.example')")
    await db.execute(
        "INSERT INTO campaigns (name, status, domain_id, from_email, subject, audience) VALUES ('n', 'sent', 1, 'a@shop.example', 's', '{}')"
    )
    await db.execute(
        "INSERT INTO subscribers (email, email_key, domain, status) SELECT e, e, 'reader.example', 'active' FROM (SELECT format('r%s@reader.example', n) AS e FROM generate_series(1, $1::int) AS n) AS s",
        LETTERS,
    )
    rows = await db.fetch(
        "INSERT INTO deliveries (campaign_id, subscriber_id, state) SELECT 1, id, 'sent' FROM subscribers RETURNING id"
    )
    await db.execute("VACUUM ANALYZE")
    await db.close()
    tokens = Tokens([SECRET])
    return [f"/o/{tokens.sign('letter', row['id'])}" for row in rows]


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(port: int, path: str) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 20
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}{path}")
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def cpu(root: psutil.Process) -> float:
    """Return the seconds a process and everything below it have used."""
    return sum(sum(process.cpu_times()[:2]) for process in [root, *root.children(recursive=True)])


def bench(folder: Path, seconds: float, rounds: int) -> bool:
    """Run everything; return whether the limit was kept."""
    server = servers.postgres(folder)
    postgres = server.start()
    processes: list[subprocess.Popen] = []
    try:
        server.wait(postgres)
        paths = asyncio.run(seed(server.url))
        (folder / "pixels").write_text("\n".join(paths))
        (folder / "bare").write_text("/bare")
        ports = free_port(), free_port()
        env = {
            **os.environ,
            "MAILBASE_DATABASE_URL": server.url,
            "MAILBASE_REDIS_URL": "unix:///nowhere/redis.sock",
            "MAILBASE_DATA_DIR": str(folder / "data"),
            "MAILBASE_SECRET_KEY": SECRET,
            "MAILBASE_PORT": str(ports[0]),
            "MAILBASE_API_WORKERS": "1",
        }
        processes.append(subprocess.Popen([sys.executable, "-m", "mailbase", "api"], env=env))
        processes.append(subprocess.Popen([sys.executable, __file__, "--bare", str(ports[1])]))
        wait(ports[0], "/healthz")
        wait(ports[1], "/bare")
        answers = ask(ports[0], 1.0, folder / "pixels")
        ask(ports[1], 1.0, folder / "bare")
        ratios: list[float] = []
        roots = [psutil.Process(pid) for pid in (processes[0].pid, postgres.pid, processes[1].pid)]
        for _ in range(rounds):
            before = [cpu(root) for root in roots]
            plain = ask(ports[1], seconds, folder / "bare")
            committed = ask(ports[0], seconds, folder / "pixels")
            spent = [(cpu(root) - earlier) * 1e6 for root, earlier in zip(roots, before, strict=True)]
            answers += committed
            ratios.append(committed / plain)
            print(
                f"  bare route {plain / seconds:6.0f}/s   pixel {committed / seconds:6.0f}/s   ratio {ratios[-1]:.2f}"
                f"   CPU: bare {spent[2] / plain:.0f} µs, pixel {spent[0] / committed:.0f} + PostgreSQL {spent[1] / committed:.0f} µs"
            )
        rows, counted = asyncio.run(count(server.url))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        postgres.send_signal(server.stop_signal)
        postgres.wait(20)
    ratio = statistics.median(ratios)
    exact = answers == rows == counted
    print(f"answers {answers}, rows {rows}, counted {counted}: {'equal' if exact else 'NOT EQUAL'}")
    print(f"limit {LIMIT:.2f} × the bare route: {'kept' if ratio >= LIMIT else 'MISSED'} ({ratio:.2f})")
    return exact and ratio >= LIMIT


async def count(url: str) -> tuple[int, int]:
    """Return the rows and what the counters say."""
    db = await connect(url)
    rows = await db.fetchval("SELECT count(*) FROM signals")
    counted = await db.fetchval("SELECT sum(n)::bigint FROM counters WHERE key = 'open.total'")
    await db.close()
    return rows, counted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        uvloop.run(serve_bare(given.bare))
    elif given.load:
        chosen = Path(given.load[2]).read_bytes().split(b"\n")
        print(uvloop.run(load(int(given.load[0]), float(given.load[1]), chosen)))
    else:
        with tempfile.TemporaryDirectory(prefix="mailbase-bench-") as name:
            Path(name).chmod(0o755)
            sys.exit(0 if bench(Path(name), given.seconds, given.rounds) else 1)
