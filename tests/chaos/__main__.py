"""``make chaos``, or ``PYTHONPATH=tests python -m chaos [--letters N] [--seed N] [--short]``."""

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from chaos.audit import audit, table
from chaos.world import LONG, SHORT, Broken, World, plan


async def chaos(*, letters: int, seed: int, faults: list[str], say=print) -> dict[str, dict[str, int]]:
    """Play it once; return the figures.

    Raises:
        Broken: a promise was not kept.

    """
    home = Path(tempfile.mkdtemp(prefix="mailbase-chaos-"))
    home.chmod(0o755)
    world = World(home, letters=letters, seed=seed, faults=faults, say=say)
    try:
        await world.play()
        figures = await audit(world)
    except BaseException:
        if keep := os.environ.get("CHAOS_KEEP"):
            leave = shutil.ignore_patterns("postgres", "*socket*", "*.sock")
            shutil.copytree(home, keep, ignore=leave, dirs_exist_ok=True)
        raise
    finally:
        await world.close()
        shutil.rmtree(home, ignore_errors=True)
    say(table(figures))
    say(f"  the server: {', '.join(f'{n} {fault}' for fault, n in sorted(world.faults_seen.items()))}")
    kills = [one.unknown for one in world.struck if one.name == "kill"]
    say(f"  in doubt by kill: {' '.join(map(str, kills))} (at most {world.most_in_doubt} each may be)")
    if world.ended:
        say(f"  {len(world.ended)} workers were started while PostgreSQL was away, and again after it")
    say(f"  {world.pushed:,} waits brought forward; {time.monotonic() - world.began:.0f} s")
    return figures


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="chaos", description="A campaign through everything that can go wrong.")
    parser.add_argument("--letters", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--short", action="store_true", help="few faults, as in make test")
    given = parser.parse_args()
    faults = plan(SHORT if given.short else LONG, None if given.short else given.seed)
    print(f"{given.letters:,} letters, seed {given.seed}, {len(faults)} faults", flush=True)
    try:
        asyncio.run(chaos(letters=given.letters, seed=given.seed, faults=faults, say=partial(print, flush=True)))
    except Broken as broken:
        print(f"BROKEN\n{broken}", flush=True)
        sys.exit(1)
    print("every promise was kept")


if __name__ == "__main__":
    main()
