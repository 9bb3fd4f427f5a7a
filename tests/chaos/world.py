"""A campaign through everything that can go wrong, and afterwards a count of every row.

A supervisor (``mailbase up`` with its own PostgreSQL and Redis) and two more workers with leases of two seconds send two
campaigns, one *at most once*, one *at least once*, to a server that misbehaves by a seeded plan (rough_sink.py), while workers
are killed, stopped and frozen, PostgreSQL and Redis are killed, and the supervisor as well.

Two things are not as in production: refused letters are not waited for, their next attempt is brought forward by an UPDATE of
``due_at``; and the two workers hold their letters for 2 seconds instead of 15.
"""

import asyncio
import contextlib
import math
import os
import random
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import asyncpg

from chaos.rough_sink import RoughSink
from mailbase import servers
from mailbase.db import CONNECTION_ERRORS, connect
from mailbase.sending.deliveries import journal
from sending.sending_kit import SECRET, WorkerProcess, add_campaign, add_domain, add_people
from up.conftest import Up

LEASE = 2.0
UP_LEASE = 15.0
WORKERS = 3
CONNECTIONS = 24
IN_FLIGHT = CONNECTIONS // WORKERS
"""Letters of one worker whose content is with the server and whose answer is not here: one a connection."""
BATCH_SECONDS = 0.025
AT_WORK = 1.0
"""Seconds for which a worker that is struck has been at work."""
SLOW = 1.0
FAST = 0.0
OPEN = {"queued", "deferred"}
LONG = {"kill": 20, "term": 5, "freeze": 2, "postgres": 2, "redis": 2, "supervisor": 2}
SHORT = {"supervisor": 1, "term": 1, "redis": 1, "kill": 2, "postgres": 1, "freeze": 1}


ACTIVITY = """
SELECT pid, application_name, state, now() - xact_start AS since, wait_event, pg_blocking_pids(pid) AS behind, left(query, 200) AS query
FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start
"""
HELD = """
SELECT fence, cardinality(ids) AS letters, marked, cardinality(aside) AS aside, until - now() AS left FROM claims ORDER BY fence
"""


def plan(numbers: dict[str, int], seed: int | None) -> list[str]:
    """Return the faults one after another, shuffled by ``seed``."""
    faults = [name for name, n in numbers.items() for _ in range(n)]
    if seed is not None:
        random.Random(seed).shuffle(faults)
    return faults


def age(worker: WorkerProcess) -> float:
    """Return for how many seconds a worker has been at work: it has a journal from then on, and hears signals."""
    folder = Path(worker.env["MAILBASE_DATA_DIR"]) / journal.FOLDER
    if worker.works is None and any(folder.glob(f"{worker.process.pid}-*.journal")):
        worker.works = time.monotonic()
    return 0.0 if worker.works is None else time.monotonic() - worker.works


class Struck(NamedTuple):
    """A fault and what it left in doubt."""

    name: str
    at: float
    done: int
    unknown: int


class Broken(Exception):
    """A promise that was not kept."""


class World:
    """Everything that runs, on one machine."""

    def __init__(self, home: Path, *, letters: int, seed: int, faults: list[str], say=print) -> None:
        self.home = home
        self.letters = letters
        self.dice = random.Random(seed)
        self.workers: list[WorkerProcess] = []
        self.faults = faults
        self.patient = len(faults) > 10
        self.say = say
        self.began = time.monotonic()
        self.struck: list[Struck] = []
        self.campaigns: dict[str, int] = {}
        self.exits: list[int] = []
        self.ended: list[tuple[int, bool]] = []
        self.outage = float("-inf")
        self.pushed = 0
        self.most_in_doubt = 0
        self.fences: list[int] = []
        self.before = 0
        self.faults_seen: Counter[str] = Counter()
        self.db: asyncpg.Connection | None = None
        self._stack = contextlib.ExitStack()
        self.sink = self._stack.enter_context(RoughSink(home, seed=seed))

    # The database, whatever happens to it.

    async def ask(self, query: str, *arguments):
        """Return rows; a server that is away is waited for."""
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.db is None or self.db.is_closed():
                    self.db = await connect(servers.postgres_url(self.home / "data"))
                return await self.db.fetch(query, *arguments)
            except (*CONNECTION_ERRORS, asyncpg.PostgresError):
                if time.monotonic() > deadline:
                    raise
                self.db = None
                await asyncio.sleep(0.2)

    async def count(self, query: str, *arguments) -> int:
        """Return one number."""
        return (await self.ask(query, *arguments))[0][0]

    async def states(self, name: str) -> dict[str, int]:
        """Return how many letters of a campaign are in each state."""
        rows = await self.ask(
            "SELECT state::text, count(*) FROM deliveries WHERE campaign_id = $1 GROUP BY state", self.campaigns[name]
        )
        return {row["state"]: row["count"] for row in rows}

    async def done(self) -> int:
        """Return how many letters of both campaigns are final."""
        return await self.count(
            "SELECT count(*) FROM deliveries WHERE state IN ('sent', 'bounced', 'failed', 'unknown', 'skipped')"
        )

    def in_doubt(self) -> int:
        """Return what one kill may leave unknown: the letters in flight, and one batch, which is what a worker hands over in 25 ms."""
        seconds = Counter(int(dot.at) for dot in self.sink.dots())
        return IN_FLIGHT + math.ceil(max(seconds.values()) / WORKERS * BATCH_SECONDS)

    async def of_fences(self) -> int:
        """Return how many letters of the leases noted last are in doubt."""
        return await self.count(
            "SELECT count(*) FROM deliveries WHERE state = 'unknown' AND reason = 'worker_died' AND fence = ANY($1::bigint[])",
            self.fences,
        )

    async def note(self, pids: set[int]) -> None:
        """Note the leases of workers that are about to be killed: on a busy machine leases of the living run out, too."""
        for file in self.journals():
            if int(file.name.partition("-")[0]) in pids and (left := journal.read(file.read_bytes())) is not None:
                self.fences += left.fences
        self.before = await self.of_fences()

    def journals(self) -> list[Path]:
        """Return the journals of all workers."""
        return list((self.home / "data" / journal.FOLDER).glob("*.journal"))

    async def until(self, check, seconds: float, what: str):
        """Return once ``check`` is true, bringing refused letters forward meanwhile."""
        deadline = time.monotonic() + seconds
        while not await check():
            self.mind()
            if time.monotonic() > deadline:
                raise Broken(f"{what}: not within {seconds:.0f} s\n{await self.look()}")
            await self.forward()
            await asyncio.sleep(0.1)

    def mind(self) -> None:
        """Start workers again that ended by themselves, as a supervisor does: one that starts while PostgreSQL is away says so and ends."""
        for worker in self.workers:
            age(worker)
            if (code := worker.process.poll()) is not None:
                self.ended.append((code, worker.works is None or worker.works > self.outage - AT_WORK))
                self.begin(worker)

    def begin(self, worker: WorkerProcess) -> None:
        """Start a worker again."""
        worker.start()
        worker.works = None

    async def look(self) -> str:
        """Return what the database is doing, for whoever has to find out why nothing moves."""
        rows = [*await self.ask(ACTIVITY), *await self.ask(HELD)]
        for worker in self.workers:
            worker.signal(signal.SIGUSR1)
        return "\n".join(str(dict(row)) for row in rows)

    async def forward(self) -> None:
        """Bring what waits for its next attempt forward, and forget what refusals taught about providers and the relay."""
        rows = await self.ask(
            "UPDATE deliveries SET due_at = now() WHERE state IN ('queued', 'deferred') AND due_at > now() RETURNING id"
        )
        self.pushed += len(rows)
        await self.ask("UPDATE egress SET stopped_until = now() WHERE stopped_until > now() + interval '1 second'")

    # The processes.

    def up(self) -> Up:
        """Start the supervisor."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return Up(
            self.home,
            port,
            MAILBASE_SECRET_KEY=SECRET,
            MAILBASE_SMTP_URL=f"smtp://127.0.0.1:{self.sink.port}?tls=none&connections={CONNECTIONS // WORKERS}",
            MAILBASE_PUBLIC_URL="https://mail.example",
        )

    def worker(self) -> WorkerProcess:
        """Start a worker of our own."""
        worker = WorkerProcess(
            servers.postgres_url(self.home / "data"),
            self.home / "data",
            smtp_port=self.sink.port,
            log=self.home / "worker.log",
            workers=WORKERS,
            connections=CONNECTIONS,
            lease=LEASE,
            MAILBASE_REDIS_URL=servers.redis_url(self.home / "data"),
        )
        worker.works = None
        return worker

    async def start(self) -> None:
        """Start everything, and the campaigns."""
        self.sink.set_pace(SLOW)
        self.supervisor = self.up()
        self._stack.callback(self._end)
        await asyncio.to_thread(self.supervisor.ready)
        db = await connect(servers.postgres_url(self.home / "data"))
        domain_id = await add_domain(db, signing=True)
        once = self.letters * 4 // 5
        for name, n in (("at_most_once", once), ("at_least_once", self.letters - once)):
            people = await add_people(db, n, domain=f"{name.replace('_', '-')}.example")
            self.campaigns[name] = await add_campaign(db, domain_id, people, on_crash=name)
        await db.close()
        self.workers = [self.worker() for _ in range(WORKERS - 1)]

    def _end(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.signal(signal.SIGCONT)
                worker.kill()
        if self.supervisor.process.poll() is None:
            self.supervisor.stop()

    # The faults.

    async def somebody_works(self) -> bool:
        """Whether a worker has been at work for a while."""
        return any(age(worker) > AT_WORK for worker in self.workers)

    async def kill(self) -> float:
        """Kill a worker that is at work."""
        await self.until(self.somebody_works, 60, "a worker at work")
        worker = self.dice.choice([worker for worker in self.workers if age(worker) > AT_WORK])
        worker.signal(signal.SIGSTOP)
        await self.note({worker.process.pid})
        dead = worker.process.pid
        worker.kill()
        self.begin(worker)

        async def settled() -> bool:
            return not any(file.name.startswith(f"{dead}-") for file in self.journals())

        await self.until(settled, 60, "the journal of a dead worker was not settled")
        return LEASE

    async def term(self) -> float:
        """Stop a worker, politely: the one that has run longest, so that it is surely at work."""
        await self.until(self.somebody_works, 60, "a worker at work")
        worker = max(self.workers, key=age)
        self.exits.append(await asyncio.to_thread(worker.stop))
        self.begin(worker)
        return 0

    async def freeze(self) -> float:
        """Freeze a worker until others have taken what it held, and wake it."""
        worker = self.dice.choice(self.workers)
        worker.signal(signal.SIGSTOP)
        await self.settled(LEASE)
        worker.signal(signal.SIGCONT)
        return 0.5

    async def postgres(self) -> float:
        """Kill PostgreSQL's first process: the others leave at once, nothing is written down; the supervisor starts it again."""
        self.outage = time.monotonic()
        pid = int((self.home / "data" / "postgres" / "cluster" / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, self.dice.choice([signal.SIGKILL, signal.SIGQUIT]))
        return LEASE

    async def redis(self) -> float:
        """Kill Redis."""
        for process in self.supervisor.parts("redis"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return 0

    async def supervise(self) -> float:
        """Kill the supervisor, and start another."""
        self.outage = time.monotonic()
        await self.note(
            {int(file.name.partition("-")[0]) for file in self.journals()} - {one.process.pid for one in self.workers}
        )
        self.supervisor.process.kill()
        self.supervisor.process.wait()
        self.supervisor = self.up()
        await asyncio.to_thread(self.supervisor.ready)
        return UP_LEASE if self.patient else LEASE

    async def settled(self, lease: float) -> None:
        """Return when whatever somebody held who is gone has been taken back."""
        mark = (await self.ask("SELECT clock_timestamp() + make_interval(secs => $1) AS at", lease))[0]["at"]

        async def taken_back() -> bool:
            late = await self.count("SELECT count(*) FROM claims WHERE until <= now()")
            return not late and await self.count("SELECT (clock_timestamp() > $1)::int", mark)

        await self.until(taken_back, 60, "letters of a dead worker were not taken back")

    async def strike(self, name: str, k: int, n: int) -> None:
        """Let one fault happen in the middle of full speed, and count what it left in doubt."""
        goal = self.letters * (k + self.dice.random()) / (n + 1)

        async def there() -> bool:
            return await self.done() >= goal

        self.sink.set_pace(FAST)
        await self.until(there, 90, f"{goal:.0f} letters before the next fault")
        await asyncio.sleep(self.dice.random() / 5)
        self.mind()
        self.fences, self.before = [], 0
        if self.dice.random() < 0.5:
            # Every other time at a server that has just become slow: all connections are full, letters wait behind them.
            self.sink.set_pace(SLOW)
            await asyncio.sleep(self.dice.random() / 2)
        self.sink.set_pace(SLOW)
        at = time.monotonic() - self.began
        lease = await getattr(self, "supervise" if name == "supervisor" else name)()
        if lease:
            await self.settled(lease)
        struck = Struck(name, at, await self.done(), await self.of_fences() - self.before)
        self.struck.append(struck)
        self.say(
            f"  {at:6.1f} s  {name:<11} {struck.done:>6,} of {self.letters:,} letters final, {struck.unknown} in doubt"
        )

    async def play(self) -> None:
        """Play it all."""
        await self.start()
        for k, name in enumerate(self.faults):
            await self.strike(name, k, len(self.faults))
        self.sink.set_pace(FAST)

        async def over() -> bool:
            return await self.done() == self.letters

        await self.until(over, 180, "every letter in a final state")
        self.mind()

        async def at_work() -> bool:
            return all(age(worker) > 0 for worker in self.workers)

        await self.until(at_work, 60, "workers at work again")
        self.exits += [await asyncio.to_thread(worker.stop) for worker in self.workers]

    async def close(self) -> None:
        """Stop everything."""
        if self.db is not None:
            self.db.terminate()
        await asyncio.to_thread(self._stack.close)
