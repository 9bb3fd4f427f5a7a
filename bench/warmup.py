"""Sixty days of warm-up on the real code and a real PostgreSQL: caps kept whatever happens, and the forecast against what happened.

The long form of ``tests/sending/test_warmup_simulation.py``: more letters, more workers, more that goes wrong, from many seeds.
``python bench/warmup.py [--forecasts N] [--seeds N] [--first N]``: how many lists to forecast and play with one, two and four
workers, how many times sixty days of trouble, and which seed to begin with.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from random import Random

# In the place of this folder, whose own `sending` would hide the tests'.
sys.path[0] = str(Path(__file__).parents[1] / "tests")

from msgspec import convert, to_builtins  # noqa: E402  (the path comes first)

from mailbase import db as database  # noqa: E402  (the path comes first)
from mailbase import migrate, resources, servers  # noqa: E402  (the path comes first)
from mailbase.sending.warmup import model as warmup_model  # noqa: E402  (the path comes first)
from mailbase.sending.warmup.keys import Chosen  # noqa: E402  (the path comes first)
from mailbase.sending.warmup.rules import Rules  # noqa: E402  (the path comes first)
from sending.sending_kit import add_campaign, add_domain, add_people, assert_counters  # noqa: E402  (the path comes first)
from warmup_simulator import FINE, LATER, NOBODY, START, Simulator  # noqa: E402  (the path comes first)

DOMAINS = {"google": "gmail.com", "yahoo": "yahoo.com", "mailru": "mail.ru", "other": "example.com"}
DEMAND = {"google": 1500, "yahoo": 500, "mailru": 200, "other": 800}
DAYS = 60


async def add_list(db, domain_id: int, demand: dict[str, int], prefix: str, at) -> int:
    """Add a campaign to people of several providers."""
    people = []
    for provider, n in demand.items():
        people += await add_people(db, n, domain=DOMAINS[provider], prefix=prefix)
    campaign_id = await add_campaign(db, domain_id, sorted(people))
    await db.execute("UPDATE deliveries SET due_at = $2 WHERE campaign_id = $1", campaign_id, at)
    return campaign_id


async def fresh(db) -> None:
    """Begin with nothing."""
    await db.execute("TRUNCATE deliveries, campaigns, subscribers, counters, bounces, suppressions, domains CASCADE")


WORKERS = (1, 2, 4)
LIMIT = 0.05
FLOOR = 3
"""So many letters of a provider are no error, whatever share of its letters they are."""


def drawn(seed: int) -> tuple[Chosen, dict[str, int]]:
    """Draw a preset and a list: some hundred letters, in large and small lanes."""
    chance = Random(seed)
    letters = chance.randrange(600, 1500)
    names = ["google", *chance.sample(["yahoo", "mailru", "other"], chance.randrange(1, 4))]
    weights = [chance.choice([1, 2, 5, 10]) for _ in names]
    demand = {name: letters * weight // sum(weights) for name, weight in zip(names, weights, strict=True)}
    rules = convert({"active_hours": chance.choice([1, 4, 10])}, Rules)
    preset = chance.choice(["cautious", "standard", "fast", "custom"])
    return Chosen(preset=preset, schedule=[40, 60, 90, 140, 200] if preset == "custom" else None, rules=rules), demand


async def compare(pool, seed: int, workers: int) -> float:
    """Play a list as it is; return how far the forecast was off.

    On every day, what has gone out by its end against what the forecast said, for each provider as a share of its letters, and for
    all of them together; up to ``FLOOR`` letters count as none.
    """
    chosen, demand = drawn(seed)
    async with pool.acquire() as db:
        await fresh(db)
        domain_id = await add_domain(
            db, preset=chosen.preset, schedule=chosen.schedule, rules=to_builtins(chosen.rules)
        )
        campaign_id = await add_list(db, domain_id, demand, "p", START)
        plan = warmup_model.play(chosen, demand, START, name=f"{domain_id} relay")
    played = Simulator(pool, domain_id, workers=workers, seed=seed)
    while len(played.out) < sum(demand.values()) and played.now < START + timedelta(days=len(plan.days) + 5):
        await played.run(played.now + timedelta(days=1))
    played.check()
    async with pool.acquire() as db:
        await assert_counters(db, campaign_id)
    planned = {day.date: day for day in plan.days}
    days = sorted(planned.keys() | played.by_day().keys())
    worst = 0.0
    for provider in (None, *demand):
        whole = demand[provider] if provider else sum(demand.values())
        done = expected = 0
        for day in days:
            done += played.by_day(provider)[day]
            if day in planned:
                expected += planned[day].by_provider.get(provider, 0) if provider else planned[day].count
            if abs(done - expected) > FLOOR:
                worst = max(worst, abs(done - expected) / whole)
    last = max(at for at, *_ in played.out)
    print(
        f"  seed {seed}, {chosen.preset} over {chosen.rules.active_hours} h, {demand}, {workers} workers: {len(days)} days,"
        f" the last letter {last:%d %B %H:%M}, forecast {plan.finishes_at:%d %B %H:%M}, off by {100 * worst:.1f} %",
        flush=True,
    )
    return worst


async def trouble(pool, seed: int) -> None:
    """Play sixty days of storms, bounces, dying workers and a clock that jumps; every cap must hold."""
    chance = Random(seed)
    async with pool.acquire() as db:
        await fresh(db)
        preset = chance.choice(["cautious", "standard", "fast"])
        domain_id = await add_domain(db, preset=preset, rules={"active_hours": chance.choice([1, 4, 10])})
        made = [await add_list(db, domain_id, DEMAND, "a", START)]
    storms = [(chance.choice(sorted(DOMAINS)), chance.randrange(DAYS), chance.randrange(1, 5)) for _ in range(4)]
    bounces = chance.choice([0.0, 0.01, 0.08])

    def answer(provider, now):
        day = (now - START).days
        if any(provider == who and first <= day < first + n for who, first, n in storms):
            return LATER
        return NOBODY if chance.random() < bounces else FINE

    played = Simulator(pool, domain_id, workers=4, seed=seed, crash=0.02, answer=answer)
    for day in range(DAYS):
        if day == DAYS // 2:
            async with pool.acquire() as db:
                made.append(await add_list(db, domain_id, DEMAND, "b", played.now))
        await played.run(START + timedelta(days=day + 1), step=timedelta(hours=1))
        if chance.random() < 0.05:
            played.now += timedelta(minutes=chance.choice([-60, 60]))
    played.check()
    async with pool.acquire() as db:
        for campaign_id in made:
            await assert_counters(db, campaign_id)
    print(f"  seed {seed}: {preset}, {len(played.out)} letters went out, no window over its cap", flush=True)


async def main(folder: Path, given: argparse.Namespace) -> bool:
    """Run everything; return whether the forecast was within 5 %."""
    server = servers.postgres(folder)
    server.argv += ["-c", "fsync=off"]
    process = server.start()
    try:
        server.wait(process)
        db = await database.connect(server.url)
        await migrate.migrate(db, resources.migrations())
        await db.close()
        async with database.open_pool(server.url, size=10) as pool:
            began = time.monotonic()
            seeds = range(given.first, given.first + given.forecasts)
            off = [await compare(pool, seed, workers) for seed in seeds for workers in WORKERS]
            if off:
                print(
                    f"  the forecast was off by {100 * max(off):.1f} % of a provider's letters at most (limit {100 * LIMIT:.0f} %)"
                )
            for seed in range(given.first, given.first + given.seeds):
                await trouble(pool, seed)
            print(f"  {time.monotonic() - began:.0f} s")
        return max(off, default=0.0) <= LIMIT
    finally:
        process.send_signal(server.stop_signal)
        process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forecasts", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first", type=int, default=0)
    with tempfile.TemporaryDirectory(prefix="mailbase-warmup-") as name:
        Path(name).chmod(0o755)
        sys.exit(0 if asyncio.run(main(Path(name), parser.parse_args())) else 1)
