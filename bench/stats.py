"""What a campaign's statistics cost with a million deliveries and three million opens and clicks behind them.

The rows are written by SQL, the counters are derived from them by the recount and spread over the slots of several processes as
the recorder would have left them; then the real application answers ``GET /v1/campaigns/{id}/stats`` over HTTP.

``python bench/stats.py [--deliveries N] [--events N] [--spread]``
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx

from mailbase import resources, servers
from mailbase.campaigns.recount import RECOUNT
from mailbase.db import connect
from mailbase.migrate import migrate
from mailbase.sending.deliveries import counters

SECRET = "the-secret-of-a-benchmark"
KEY = "mb_the-key-of-a-benchmark"
LIMIT = 10.0
LINKS = 18
DAYS = 14
SLOTS = 4
GATHERED_AT = datetime(2026, 3, 28, 12, tzinfo=UTC)
"""The moment after the last event."""

DELIVERIES = """
INSERT INTO deliveries (campaign_id, subscriber_id, provider, state, bounce_class)
SELECT 1, n, (ARRAY['google', 'microsoft', 'yahoo', 'gmx', 'apple', 'other'])[1 + n % 6],
       (CASE WHEN n % 100 = 0 THEN 'bounced' WHEN n % 301 = 0 THEN 'failed' ELSE 'sent' END)::delivery_state,
       CASE WHEN n % 100 = 0 THEN 'hard' END
FROM generate_series(1, $1::bigint) AS n
"""

SIGNALS = """
INSERT INTO signals (delivery_id, campaign_id, subscriber_id, kind, link, verdict, at)
SELECT 1 + (n * 7919) % $1::bigint, 1, 1 + (n * 7919) % $1::bigint, CASE WHEN n % 5 = 0 THEN 'click' ELSE 'open' END,
       CASE WHEN n % 5 = 0 THEN 1 + n % $3::int END, CASE WHEN n % 4 = 0 THEN 'machine' ELSE 'human' END,
       '2026-03-14T12:00:00Z'::timestamptz + ($4::int * 86400.0 * n / $2::bigint) * interval '1 second'
FROM generate_series(1, $2::bigint) AS n
"""

SPREAD = """
INSERT INTO counters (campaign_id, key, slot, n)
SELECT 1, key, slot, n / $3 + CASE WHEN slot = 0 THEN n % $3 ELSE 0 END
FROM unnest($1::text[], $2::bigint[]) AS number (key, n) CROSS JOIN generate_series(0, $3 - 1) AS slot
"""


async def seed(url: str, deliveries: int, events: int, *, gathered: bool = True) -> None:
    """Write the campaign."""
    db = await connect(url)
    await migrate(db, resources.migrations())
    await db.execute("INSERT INTO domains (name) VALUES ('shop.example')")
    await db.execute(
        "INSERT INTO campaigns (name, status, domain_id, from_email, subject, audience) VALUES ('n', 'sent', 1, 'a@shop.example', 's', '{}')"
    )
    await db.execute(
        "INSERT INTO campaign_links SELECT 1, n, format('https://shop.example/%s', n) FROM generate_series(1, $1::int) AS n",
        LINKS,
    )
    await db.execute(DELIVERIES, deliveries)
    await db.execute(SIGNALS, deliveries, events, LINKS, DAYS)
    rows = await db.fetch(RECOUNT, 1)
    await db.execute(SPREAD, [row["key"] for row in rows], [row["n"] for row in rows], SLOTS)
    if gathered:  # as a worker does every minute; the last two days' hours stay spread
        await counters.gather(db, GATHERED_AT)
    await db.execute("VACUUM ANALYZE")
    left = await db.fetchval("SELECT count(*) FROM counters")
    print(
        f"{deliveries} deliveries, {events} opens and clicks over {DAYS} days, {len(rows)} counters in {SLOTS} slots: {left} rows"
    )
    await db.close()


def measure(port: int, deliveries: int, events: int) -> float:
    """Ask a thousand times; return what 99 of 100 stay within, in milliseconds."""
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        deadline = time.monotonic() + 20
        while True:
            try:
                found = client.get("/v1/campaigns/1/stats").raise_for_status().json()
                break
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        assert found["recipients"] == deliveries
        assert found["opens"]["total"] + found["clicks"]["total"] == events
        took = []
        for _ in range(1000):
            start = time.perf_counter()
            client.get("/v1/campaigns/1/stats")
            took.append((time.perf_counter() - start) * 1000)
        bare = []
        for _ in range(200):
            start = time.perf_counter()
            client.get("/healthz")
            bare.append((time.perf_counter() - start) * 1000)
    took.sort()
    print(
        f"stats: median {took[500]:.1f} ms, 99 % within {took[989]:.1f} ms; /healthz {statistics.median(bare):.1f} ms"
    )
    return took[989]


def bench(folder: Path, deliveries: int, events: int, *, gathered: bool) -> bool:
    """Run everything; return whether the limit was kept."""
    server = servers.postgres(folder)
    postgres = server.start()
    process = None
    try:
        server.wait(postgres)
        asyncio.run(seed(server.url, deliveries, events, gathered=gathered))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        env = {
            **os.environ,
            "MAILBASE_DATABASE_URL": server.url,
            "MAILBASE_REDIS_URL": "unix:///nowhere/redis.sock",
            "MAILBASE_DATA_DIR": str(folder / "data"),
            "MAILBASE_SECRET_KEY": SECRET,
            "MAILBASE_ADMIN_KEY": KEY,
            "MAILBASE_PORT": str(port),
        }
        process = subprocess.Popen([sys.executable, "-m", "mailbase", "api"], env=env)
        most = measure(port, deliveries, events)
    finally:
        if process:
            process.terminate()
            process.wait(20)
        postgres.send_signal(server.stop_signal)
        postgres.wait(20)
    print(f"limit {LIMIT:.0f} ms for 99 %: {'kept' if most < LIMIT else 'MISSED'} ({most:.1f} ms)")
    return most < LIMIT


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--spread", action="store_true", help="leave every hour in all of its slots")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mailbase-bench-") as name:
        Path(name).chmod(0o755)
        sys.exit(0 if bench(Path(name), given.deliveries, given.events, gathered=not given.spread) else 1)
