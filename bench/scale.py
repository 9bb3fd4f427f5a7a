"""What must not depend on size: the first letter and a worker's memory, a message beside a campaign, a slow relay.

``first``     a campaign to 1,000,000 is launched over HTTP: from the answer to the first letter's last dot at the sink, and what
              a worker holds during the minute after, against an audience of 10,000.
``messages``  200 messages posted at random moments while a campaign of 100,000 runs at full speed: from the request to the dot.
``slow``      a relay that takes 200 ms to answer each letter: letters a second against connections / 0.2 s.

Real PostgreSQL with fsync, real API, real workers, a sink in its own process. ``python bench/scale.py [first|messages|slow …]``
"""

# ruff: noqa: E402, ASYNC110  (the sink is found first; a benchmark may poll)

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from mailbase.db import Connection
from sink import Sink
from stage import Taken, client, database, draft, environment, memory, percentile, prepare, processes, send

FIRST_LIMIT = 1.0
MESSAGE_LIMIT = 1.0
GROWTH_LIMIT = 1.10
FULL_LIMIT = 0.9
DELAY = 0.2
MESSAGE = "<p>Hello {{ name }}, your order {{ number }} is on its way.</p>"

LEFT = """
SELECT count(*) FROM campaigns WHERE status <> 'draft' AND finished_at IS NULL
"""


async def rested(db: Connection) -> None:
    """Wait until no campaign is open."""
    while await db.fetchval(LEFT):
        await asyncio.sleep(0.1)


def verdict(what: str, limit: str, *, kept: bool) -> bool:
    """Print how it ended."""
    print(f"  {what}: limit {limit} {'kept' if kept else 'MISSED'}", flush=True)
    return kept


async def first(folder: Path, *, people: int, workers: int, launches: int) -> bool:
    """Measure the first letter, and memory."""
    few = 5_000
    peaks: dict[int, float] = {}
    with database(folder) as url, Sink(folder / "sink.log", stamp=True) as sink:
        db = await prepare(url, few)
        env = environment(folder, url, sink=sink.port, workers=workers, connections=10)
        with processes(env, "api"):
            async with client(env) as http:
                with processes(env, *["worker"] * workers) as running:
                    campaign_id = await draft(http, "signed.example")
                    await send(http, campaign_id)
                    peak = 0.0
                    while await db.fetchval(LEFT):
                        peak = max(peak, *(memory(one) for one in running))
                        await asyncio.sleep(0.5)
                    peaks[few] = peak
                print(f"  {few} people: a worker's memory (PSS) {peak:.1f} MB at most", flush=True)
                await prepare_more(db, few, people)
                took: list[float] = []
                with processes(env, *["worker"] * workers) as running:
                    await asyncio.sleep(2)
                    for number in range(launches):
                        campaign_id = await draft(http, "signed.example")
                        taken = Taken(sink)
                        started = time.monotonic()
                        answered = await send(http, campaign_id)
                        at = await taken.first()
                        took.append(at - answered)
                        print(
                            f"  launch {number + 1}: answered in {answered - started:.2f} s, first letter {at - answered:.2f} s later",
                            flush=True,
                        )
                        if number + 1 < launches:
                            await http.post(f"/v1/campaigns/{campaign_id}/cancel")
                            await rested(db)
                    samples = []
                    for _ in range(60):
                        await asyncio.sleep(1)
                        samples.append(max(memory(one) for one in running))
                    made, sent = await db.fetchrow(
                        "SELECT count(*), count(*) FILTER (WHERE state = 'sent') FROM deliveries WHERE campaign_id = $1",
                        campaign_id,
                    )
                    await http.post(f"/v1/campaigns/{campaign_id}/cancel")
        await db.close()
    shown = ", ".join(f"{samples[second]:.1f}" for second in (0, 9, 19, 29, 39, 49, 59))
    print(
        f"  {people} people: memory after 1, 10, 20, … 60 s {shown} MB; {made} letters made and {sent} sent by then",
        flush=True,
    )
    return all([
        verdict(f"first letter of {people} at the latest {max(took):.2f} s", f"{FIRST_LIMIT:.0f} s", kept=max(took) <= FIRST_LIMIT),
        verdict(
            f"memory {max(samples):.1f} MB against {peaks[few]:.1f} MB for {few}", f"{GROWTH_LIMIT:.2f} times as much",
            kept=max(samples) <= peaks[few] * GROWTH_LIMIT,
        ),
    ])  # fmt: skip


async def prepare_more(db: Connection, have: int, people: int) -> None:
    """Add people up to a number."""
    from stage import PEOPLE  # noqa: PLC0415

    for start in range(have + 1, people + 1, 100_000):
        await db.execute(PEOPLE, start, min(start + 99_999, people))
    await db.execute("VACUUM ANALYZE subscribers")


async def messages(folder: Path, *, people: int, workers: int, number: int, domain: str) -> bool:
    """Measure messages beside a campaign."""
    chance = random.Random(1)
    moments = sorted(chance.uniform(2, 2 + number / 14) for _ in range(number))
    posted: dict[str, float] = {}
    arrived: dict[str, float] = {}
    with database(folder) as url, Sink(folder / "sink.log", stamp=True) as sink:
        db = await prepare(url, people)
        env = environment(folder, url, sink=sink.port, workers=workers, connections=10)
        with processes(env, "api", *["worker"] * workers):
            async with client(env) as http:
                campaign_id = await draft(http, domain)
                taken = Taken(sink)
                start = await send(http, campaign_id)

                async def post(n: int, at: float) -> None:
                    await asyncio.sleep(start + at - time.monotonic())
                    to = f"m{n}@example.net"
                    posted[to] = time.monotonic()
                    body = {
                        "from": {"name": "Shop", "email": f"orders@{domain}"}, "to": to, "subject": "Order {{ number }}",
                        "html": MESSAGE, "variables": {"number": n, "name": "Ann"},
                    }  # fmt: skip
                    answer = await http.post("/v1/messages", json=body)
                    assert answer.status_code == 202, answer.text

                await asyncio.gather(*(post(n, at) for n, at in enumerate(moments)))
                ended = time.monotonic()
                sent = await db.fetchval(
                    "SELECT count(*) FROM deliveries WHERE campaign_id = $1 AND state = 'sent'", campaign_id
                )
                assert sent < people, "the campaign was over before the messages were; give it more people"
                while len(arrived) < number:
                    assert time.monotonic() < ended + 60, f"{number - len(arrived)} messages did not arrive"
                    arrived.update((to, at) for to, at in taken.more() if to in posted)
                    await asyncio.sleep(0.1)
                await http.post(f"/v1/campaigns/{campaign_id}/cancel")
        await db.close()
    took = [arrived[to] - posted[to] for to in posted]
    most = percentile(took, 0.99)
    print(
        f"  {number} messages beside {sent / (ended - start):.0f} letters/s of {domain}: median {percentile(took, 0.5) * 1000:.0f} ms, "
        f"90 % within {percentile(took, 0.9) * 1000:.0f}, 99 % within {most * 1000:.0f}, the last {max(took) * 1000:.0f} ms",
        flush=True,
    )
    return verdict("99 of 100 messages", f"{MESSAGE_LIMIT:.0f} s", kept=most <= MESSAGE_LIMIT)


async def slow(folder: Path, *, connections: int, seconds: int) -> bool:
    """Measure a relay that answers late."""
    few = max(connections // 5, 1)
    limit = (connections - few) / DELAY
    with database(folder) as url, Sink(folder / "sink.log", stamp=True, delay=DELAY) as sink:
        db = await prepare(url, int(limit * seconds * 1.2))
        env = environment(folder, url, sink=sink.port, workers=1, connections=connections)
        with processes(env, "api", "worker"):
            async with client(env) as http:
                campaign_id = await draft(http, "signed.example")
                taken = Taken(sink)
                start = await send(http, campaign_id)
                await asyncio.sleep(seconds)
                times = [at - start for _, at in taken.more()]
                await http.post(f"/v1/campaigns/{campaign_id}/cancel")
        await db.close()
    rates = [sum(begin <= at < begin + 5 for at in times) / 5 for begin in range(0, seconds - 4, 5)]
    print(
        f"  {connections} connections, {few} of them for messages alone: {', '.join(f'{rate:.0f}' for rate in rates)} letters/s "
        f"in each 5 s; {connections - few} connections / {DELAY} s = {limit:.0f}",
        flush=True,
    )
    last = rates[-1] / limit
    return verdict(f"{last:.2f} of what the connections can carry", f"{FULL_LIMIT}", kept=last >= FULL_LIMIT)


async def main(parts: list[str], *, people: int, workers: int, domain: str) -> bool:
    """Run the parts; return whether every limit was kept."""
    kept = True
    for part in parts:
        print(f"{part}:", flush=True)
        with tempfile.TemporaryDirectory(prefix="mailbase-bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            match part:
                case "first":
                    kept &= await first(folder, people=people, workers=workers, launches=5)
                case "messages":
                    kept &= await messages(folder, people=100_000, workers=workers, number=200, domain=domain)
                case _:
                    kept &= await slow(folder, connections=50, seconds=60)
    return kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["first", "messages", "slow"], metavar="PART")
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--domain", default="unsigned.example", help="signed.example: the campaign beside messages is signed"
    )
    given = parser.parse_args()
    run = main(given.parts, people=given.people, workers=given.workers, domain=given.domain)
    sys.exit(0 if asyncio.run(run) else 1)
