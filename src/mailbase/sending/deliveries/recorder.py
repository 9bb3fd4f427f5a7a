"""The recorder: gathers outcomes for a moment and writes them together; what cannot be written now is written later.

It also tells the way out's row (:mod:`~mailbase.sending.relays.egress`) when it refuses us, or denies letter after letter
(:mod:`~mailbase.sending.relays.denials`), and when it takes letters again; and stops
the domain whose sender is refused.
"""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from random import Random

import asyncpg

from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.sending.deliveries import records
from mailbase.sending.deliveries.journal import Journal
from mailbase.sending.deliveries.kept import Kept
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.outcomes import Outcome
from mailbase.sending.providers import domain_stops
from mailbase.sending.relays import egress
from mailbase.sending.relays.denials import Denials
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup.rules import TOTAL

log = logging.getLogger(__name__)

GATHER = 0.1  # seconds; what was answered meanwhile is in the journal, should we die
ENOUGH = 256  # outcomes that wait no longer
MOST = 500
AGAIN = 0.5
NOTE_EVERY = 1.0

Result = tuple[Handed, Outcome]


class Recorder:
    """One a worker. ``waiting`` letters have an outcome that is not committed yet."""

    def __init__(self, pool: Pool, name: str, *, slot: int, random: Random, journal: Journal | None = None) -> None:
        """``name`` is the row of ``egress`` that the outcomes are about."""
        self._kept = Kept(pool)
        self._name = name
        self._slot = slot
        self._random = random
        self._journal = journal or Journal(None)
        self._queue: deque[Result] = deque()
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._written = asyncio.Event()
        self._writing = 0
        self._flushing = False
        self._uncapped: Counter[tuple[int, str]] = Counter()
        self._denials = Denials()
        self._noted = 0.0
        self._troubled = True
        self.counts: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """How many outcomes are not committed yet."""
        return len(self._queue) + self._writing

    def put(self, letter: Handed, outcome: Outcome) -> None:
        """Take an outcome; where the way out is to be stopped for it, say so in it."""
        outcome.stops = self._denials.heard(letter.email, outcome)
        self._queue.append((letter, outcome))
        self.counts[outcome.kind] += 1
        if not self._some.is_set():
            self._some.set()
        elif len(self._queue) >= ENOUGH:
            self._enough.set()

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                await self._wait()
                await self._gather()
                await self._write([self._queue.popleft() for _ in range(min(MOST, len(self._queue)))])
        finally:
            await self._kept.drop()

    async def _wait(self) -> None:
        """Wait for an outcome; in a pause, and at the end, count what went out before it."""
        while not self._queue:
            self._some.clear()
            try:
                async with asyncio.timeout(NOTE_EVERY if self._uncapped else None):
                    await self._some.wait()
            except TimeoutError:
                await self._note_now()
            if self._flushing and not self._queue:
                await self._note_now()
                self._written.set()

    async def _gather(self) -> None:
        """Let outcomes come together for a moment, unless there are enough or everything is coming to its end."""
        if not self._flushing and len(self._queue) < ENOUGH:
            self._enough.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER):
                    await self._enough.wait()

    async def flush(self, seconds: float) -> None:
        """Return once everything is committed, or after ``seconds``."""
        self._flushing = True
        self._some.set()
        self._enough.set()
        try:
            async with asyncio.timeout(seconds):
                while self.waiting or self._uncapped:
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            if self.waiting:
                log.warning("%d outcomes could not be recorded in time", self.waiting)

    async def _write(self, batch: list[Result]) -> None:
        self._writing = len(batch)
        committed = False
        while batch:
            try:
                async with self._kept.connection() as db:
                    if not committed:
                        await records.record(db, batch, slot=self._slot, random=self._random, uncapped=self._uncapped)
                        committed = True
                        self._settle(batch)
                    await self._tell(db, batch)
                    await self._note(db)
                break
            except (*CONNECTION_ERRORS, asyncpg.TransactionRollbackError, asyncpg.OperatorInterventionError) as error:
                log.warning("outcomes wait for the database: %s", error)
                await asyncio.sleep(AGAIN)
            except Exception:
                # One bad row must not take the others with it; alone, it is in doubt.
                log.exception("outcomes of %d letters could not be written", len(batch))
                if committed:
                    break
                if len(batch) == 1:
                    await self._doubt(batch[0][0])
                    break
                for one in batch:
                    await self._write([one])
                break
        self._writing = 0
        self._written.set()

    def _settle(self, batch: list[Result]) -> None:
        """Note that outcomes are committed; once, for their leases count them."""
        self._journal.forget((letter.id, letter.fence) for letter, _ in batch)
        for letter, _ in batch:
            if letter.settled is not None:
                letter.settled()

    async def _doubt(self, letter: Handed) -> None:
        """Close a letter whose outcome cannot be written: its lease is prolonged with the others', so it would stay open for ever."""
        try:
            async with self._kept.connection() as db:
                await records.doubt(db, letter, slot=self._slot)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            log.warning("letter %d stays in hand until this worker ends: %s", letter.id, error)
            return
        self._journal.forget([(letter.id, letter.fence)])
        if letter.settled is not None:
            letter.settled()

    async def _note_now(self) -> None:
        self._noted = 0.0
        with contextlib.suppress(*CONNECTION_ERRORS, asyncpg.PostgresError):
            async with self._kept.connection() as db:
                await self._note(db)

    async def _note(self, db: Connection) -> None:
        """Count what went out of domains without caps, now and then: nothing is held by it, and the row is every worker's."""
        now = asyncio.get_running_loop().time()
        if self._noted and now - self._noted < NOTE_EVERY and not self._flushing:
            return
        self._noted = now
        for (domain_id, name), n in list(self._uncapped.items()):
            await warmup_take.note(db, domain_id, name, {TOTAL: n})
            del self._uncapped[domain_id, name]

    async def _tell(self, db: Connection, batch: list[Result]) -> None:
        refusals = [outcome for _, outcome in batch if outcome.kind == "relay" or outcome.stops]
        if refusals:
            last = refusals[-1]
            self._troubled = True
            reason = f"{last.phase}: {last.code} {last.reply}" if last.code else f"{last.phase}: {last.reply}"
            await egress.stop(db, self._name, reason.replace("\0", "")[:500])
        of_senders = {
            letter.domain_id: f"The way out {self._name!r} refuses letters from this domain: {outcome.code} {outcome.reply}"[
                :500
            ]
            for letter, outcome in batch
            if outcome.kind == "sender" and letter.domain_id is not None and letter.campaign_id is not None
        }
        if of_senders:
            await domain_stops.stop(db, {id: why.replace("\0", "") for id, why in of_senders.items()})
        if (
            not refusals
            and self._troubled
            and any(outcome.kind != "not_sent" and not outcome.denied for _, outcome in batch)
        ):
            await egress.clear(db, self._name)
            self._troubled = False
