"""Import 200,000 rows × 4 columns, validated and merged, against a raw COPY of the same file into a table of text columns.

``python bench/imports.py [rows]``: rows a second of the job (from the lease to the committed result), the raw COPY in the same run,
and the ratio of the two; then the same file once more, now as 200,000 updates.
"""

import asyncio
import contextlib
import csv
import io
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from mailbase import migrate, queue, resources, servers
from mailbase.audience import imports
from mailbase.audience.consents import ConsentGiven
from mailbase.audience.imports import Plan
from mailbase.db import Connection, Pool, connect, open_pool
from mailbase.jobs import runner

LIMIT = 30_000
PROVIDERS = [
    "gmail.com",
    "yahoo.com",
    "outlook.com",
    "mail.ru",
    "gmx.de",
    "orange.fr",
    *(f"firm{n}.example.com" for n in range(2000)),
]


def make_file(rows: int) -> bytes:
    """Return a file of plausible people: address, name, city, tag."""
    dice = random.Random(1)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["email", "name", "city", "tags"])
    for n in range(rows):
        domain = PROVIDERS[dice.randrange(6)] if dice.random() < 0.7 else dice.choice(PROVIDERS)
        writer.writerow(
            [
                f"Reader.{n}@{domain}",
                f"Name {n}",
                dice.choice(["Porto", "Köln", "Казань", "Lyon"]),
                dice.choice(["customer", "prospect", ""]),
            ]
        )
    return text.getvalue().encode()


async def raw_copy(db: Connection, data: bytes) -> float:
    """Return the seconds PostgreSQL needs to read the file into a table of the same columns."""
    await db.execute("CREATE TABLE raw (email text, name text, city text, tags text)")
    started = time.perf_counter()
    await db.copy_to_table("raw", source=io.BytesIO(data), format="csv", header=True, timeout=600)
    seconds = time.perf_counter() - started
    await db.execute("DROP TABLE raw")
    return seconds


async def one_import(pool: Pool, data: bytes) -> tuple[float, object]:
    """Store the file as the API does, run the job, and return its seconds and result."""
    plan = Plan(
        on_conflict="merge",
        tags=["imported"],
        consent=ConsentGiven(
            purpose="newsletter", text="I would like to get the newsletter of the shop, about once a week."
        ),
    )
    async with pool.acquire() as db, db.transaction():
        job = await queue.create(db, imports.KIND, msgspec.to_builtins(plan))
        for seq, start in enumerate(range(0, len(data), imports.SLICE)):
            await imports.save_slice(db, job.id, seq, data[start : start + imports.SLICE])
    started = time.perf_counter()
    await runner.run_one(pool, b"k" * 32, job_id=job.id)
    seconds = time.perf_counter() - started
    async with pool.acquire() as db:
        finished = await queue.get(db, job.id)
    if finished.status != "done":
        raise SystemExit(f"the import ended {finished.status}: {finished.error}")
    return seconds, finished.result


async def measure(url: str, rows: int) -> None:
    """Print the figures."""
    db = await connect(url)
    await migrate.migrate(db, resources.migrations())
    data = make_file(rows)
    raw = min([await raw_copy(db, data) for _ in range(3)])
    print(f"raw COPY of {rows:,} rows × 4 columns: {rows / raw:,.0f} rows/s")
    async with open_pool(url, size=4) as pool:
        for what in ("new people", "the same people again (merge)"):
            seconds, result = await one_import(pool, data)
            verdict = (
                ""
                if what != "new people"
                else f"; the limit is {LIMIT:,} rows/s: {'reached' if rows / seconds >= LIMIT else 'NOT reached'}"
            )
            print(
                f"import, {what}: {rows / seconds:,.0f} rows/s, {seconds / raw:.1f} × the raw COPY{verdict}  {result}"
            )
    await db.close()


def main() -> None:
    """Run on an embedded PostgreSQL of its own."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    folder = Path(tempfile.mkdtemp(prefix="mailbase-bench-"))
    folder.chmod(0o755)
    server = servers.postgres(folder)
    process = server.start()
    try:
        server.wait(process)
        asyncio.run(measure(server.url, rows))
    finally:
        process.send_signal(server.stop_signal)
        with contextlib.suppress(TimeoutError):
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
