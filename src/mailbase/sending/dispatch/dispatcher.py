"""The dispatcher: sets the pace of one lane: lease, compose, mark, hand over, record; and comes to rest without a doubt left.

    lease (a second's worth) ─▶ compose and sign a batch (25 ms' worth) ─▶ mark, committed ─▶ hand over ─▶ record
                                          ▲                                                      │
                                          └──────── as soon as there is room again ──────────────┘

A crash leaves in doubt what is marked and not recorded; its journal narrows that down to what waits for an answer
(:mod:`~mailbase.sending.deliveries.journal`).
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import asyncpg

from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.sending.deliveries import leases
from mailbase.sending.deliveries.journal import Journal
from mailbase.sending.deliveries.kept import Kept
from mailbase.sending.deliveries.recorder import Recorder
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.deliveries.second_look import EVERY as LOOK_EVERY
from mailbase.sending.deliveries.second_look import Waiting
from mailbase.sending.dispatch.lanes import Batch, Holding, Ready, Source, boottime
from mailbase.sending.dispatch.transport import Transport
from mailbase.sending.outcomes import Envelope, Outcome
from mailbase.sending.relays import egress
from mailbase.sending.signing.eightfold import LANES

log = logging.getLogger(__name__)

BATCH_SECONDS: Final = 0.025
LARGEST_BATCH: Final = 128
LARGEST_LEASE: Final = 1000
UNRECORDED: Final = 512
BESIDE: Final = 16
"""Letters that are composed in one go while a lane that goes first has letters: it waits for no more than these."""
IDLE: Final = 2.0
STOPPED: Final = 1.0
ANSWER: Final = 5.0
GRACE: Final = 12.0


class Pace:
    """How fast letters leave, measured as they do, and what follows for the sizes of batches."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._room = float(transport.capacity)
        self._work = BATCH_SECONDS / self._room
        self._since = boottime()
        self._count = 0
        self.rate = 0.0

    def composed(self, letters: int, seconds: float) -> None:
        """Note what a batch cost to compose: seconds of our own CPU, whatever else this machine is doing."""
        self._work += (seconds / letters - self._work) / 4

    def waited(self, seconds: float) -> None:
        """Note how long a finished batch waited for the connections: they are what holds us up, or they are not."""
        self._room *= 0.6 if seconds > BATCH_SECONDS else 1.25
        self._room = min(max(self._room, self._transport.capacity // 4, 1), LARGEST_BATCH)

    def landed(self, letters: int) -> None:
        """Note a batch whose letters all had their outcome."""
        self._count += letters
        now = boottime()
        elapsed = now - self._since
        if elapsed < 0.25:
            return
        # A window that began before a pause says nothing.
        if elapsed < 5:
            self.rate = (self.rate + self._count / elapsed) / 2 if self.rate else self._count / elapsed
        self._since, self._count = now, 0

    @property
    def batch(self) -> int:
        """Letters that are marked together: 25 ms of our work, and no more than what leaves in 25 ms; in eights, as they are signed."""
        letters = max(int(min(self._room, BATCH_SECONDS / self._work)), 1)
        return letters - letters % LANES if letters > LANES else letters

    @property
    def lease(self) -> int:
        """Letters leased together: about a second's worth."""
        return min(max(int(self.rate), 4 * self.batch, self._transport.capacity), LARGEST_LEASE)


class Dispatcher:
    """One lane of one worker."""

    def __init__(
        self,
        pool: Pool,
        source: Source,
        transport: Transport,
        recorder: Recorder,
        *,
        journal: Journal | None = None,
        first: "Dispatcher | None" = None,
        lease: timedelta = leases.LEASE,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``first``: the lane that this one makes room for."""
        self._pool = pool
        self._source = source
        self._transport = transport
        self._recorder = recorder
        self._journal = journal or Journal(None)
        self._first = first
        self._lease = lease
        self._clock = clock
        self._pace = Pace(transport)
        self._batch: Batch | None = None
        self._abandoned: list[Batch] = []
        self._kept = Kept(pool)
        self._next: asyncio.Task[Batch | None] | None = None
        self._handed: dict[int, Handed] = {}
        self._waiting = Waiting()
        self._holdings: dict[int, Holding] = {}
        self._flights: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._wake = asyncio.Event()
        self._looking = False
        self._stopping = False
        self._probing = False

    def wake(self) -> None:
        """Look for letters now."""
        self._looking = True
        self._wake.set()

    @property
    def busy(self) -> bool:
        """Whether it looks for letters, or has some in hand."""
        return self._looking or bool(self._handed)

    async def run(self) -> None:
        """Send until :meth:`stop`; a database that is away is waited for."""
        beside = [asyncio.create_task(self._renew()), asyncio.create_task(self._look_again())]
        try:
            while not self._stopping:
                self._wake.clear()
                try:
                    pause = await self._round()
                except CONNECTION_ERRORS as error:
                    log.warning("%s wait for the database: %s", self._source.name, error)
                    self._abandon()
                    pause = 0.5
                except Exception:
                    log.exception("%s: a batch failed; its letters go back to the queue", self._source.name)
                    self._abandon()
                    pause = STOPPED
                self._looking = not pause or self._wake.is_set()
                if pause and not self._stopping:
                    await self._wait(self._wake, pause)
            await self._drain()
        finally:
            for task in beside:
                task.cancel()
            await self._kept.drop()

    def stop(self) -> None:
        """Take nothing new; :meth:`run` returns when what is on its way has arrived."""
        self._stopping, self._probing = True, False
        self._wake.set()
        self._room.set()

    # One round: a batch on its way. Returns how long to wait before the next.

    async def _round(self) -> float:
        await self._give_back()
        if self._batch is None:
            stopped = await self._look_at_egress()
            if stopped:
                await self._give_up_next()
                return STOPPED
            self._batch = await self._lease_next()
            if self._batch is None:
                return IDLE
        batch = self._batch
        size = 1 if self._probing else self._size()
        ready = await self._compose(batch, size)
        finished = boottime()
        await self._wait_for_room()
        self._pace.waited(boottime() - finished)
        if self._stopping or self._batch is not batch:
            # A stop, or the way out refused us meanwhile.
            return 0
        last = len(ready) < size
        if not (last or self._probing) and self._next is None and len(batch.undecided) <= 2 * size:
            self._next = asyncio.create_task(self._lease_more(self._pace.lease))
        if ready:
            await self._hand_over(batch, ready)
        if last and self._batch is batch:
            # Not before: whatever fails in between, these letters go back to the queue.
            self._batch = None
        return 0

    def _size(self) -> int:
        """Return how many letters to compose in one go, while nothing else in this process gets its turn."""
        beside = self._first is not None and self._first.busy
        return min(self._pace.batch, BESIDE) if beside else self._pace.batch

    async def _look_at_egress(self) -> bool:
        # A probe is answered, and a refusal written down, before we ask again: a login refused time after time locks the account.
        late = boottime() + ANSWER
        while self._probing and (self._handed or self._recorder.waiting) and boottime() < late:
            self._room.clear()
            await self._wait(self._room, 0.05)
        async with self._pool.acquire() as db:
            state = await egress.get(db, self._transport.name)
        self._probing = state.failures > 0
        return state.stopped

    async def _lease_next(self) -> Batch | None:
        task, self._next = self._next, None
        if task is not None and (found := await task) is not None:
            return found
        return await self._lease_more(1 if self._probing else self._pace.lease)

    async def _lease_more(self, limit: int) -> Batch | None:
        await self.close()
        batch = await self._source.lease(self._pool, limit)
        if batch is not None:
            self._holdings[batch.holding.fence] = batch.holding
            self._journal.hold(batch.holding.fence)
        return batch

    async def _give_up_next(self) -> None:
        task, self._next = self._next, None
        if task is not None and (batch := await task) is not None:
            self._abandoned.append(batch)
            await self._give_back()

    async def _give_back(self) -> None:
        """Give back what is abandoned; what cannot be given back now is tried again."""
        while self._abandoned:
            batch = self._abandoned[-1]
            await self._release(batch)
            self._abandoned.remove(batch)

    async def _release(self, batch: Batch) -> None:
        if batch.undecided:
            async with self._pool.acquire() as db:
                await leases.release(db, list(batch.undecided), batch.holding.fence)
            batch.holding.settle(len(batch.undecided))
            batch.undecided.clear()

    async def close(self) -> None:
        """End the leases of which every letter is recorded or given back."""
        done = [fence for fence, holding in self._holdings.items() if not holding.open]
        if done:
            async with self._pool.acquire() as db:
                await leases.close(db, done)
            for fence in done:
                self._holdings.pop(fence, None)

    def _abandon(self) -> None:
        """Give the batch in hand back as soon as that is possible; until then its lease is prolonged with the others."""
        batch, self._batch = self._batch, None
        if batch is not None:
            self._abandoned.append(batch)

    async def _wait_for_room(self) -> None:
        """Wait until the connections have no more in hand than keeps them busy."""
        room = self._transport.capacity
        while not self._stopping and (len(self._handed) > room or self._recorder.waiting > UNRECORDED):
            self._room.clear()
            await self._wait(self._room, 0.25)

    async def _compose(self, batch: Batch, size: int) -> list[Ready]:
        # In one go: to serve the connections in between costs a fifth more CPU, and 25 ms are no time for them.
        ready: list[Ready] = []
        now, began = self._clock(), time.thread_time()
        while len(ready) < size:
            one = await batch.prepare(self._pool, now)
            if one is None:
                break
            ready.append(one)
        if ready:
            batch.seal(ready)
            self._pace.composed(len(ready), time.thread_time() - began)
        return ready

    async def _hand_over(self, batch: Batch, ready: list[Ready]) -> None:
        try:
            async with self._kept.connection() as db:
                marked = await batch.mark(db, ready)
        except CONNECTION_ERRORS:
            batch.undecided.difference_update(one.id for one in ready)
            # Perhaps it was committed; nothing of it went out, and that is what the recorder will say when it can.
            for one in ready:
                self._recorder.put(one.handed, _not_sent(one.id))
            raise
        batch.undecided.difference_update(one.id for one in ready)
        envelopes: list[Envelope] = []
        for one in ready:
            if one.id not in marked.ids:
                batch.holding.settle()
                continue
            one.handed.bucket, one.handed.cold = marked.bucket, one.id in marked.cold
            if one.envelope is None:
                one.handed.failure = one.failure
                self._recorder.put(one.handed, _not_sent(one.id))
                continue
            self._handed[one.id] = one.handed
            one.envelope.begins = partial(self._journal.begin, one.id, one.handed.fence)
            self._waiting.add(one.handed, one.envelope, boottime())
            envelopes.append(one.envelope)
        if envelopes:
            flight = asyncio.create_task(self._fly(envelopes))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        if marked.held:
            self._batch = None
            self._abandoned.append(batch)

    async def _fly(self, envelopes: list[Envelope]) -> None:
        await self._transport.hand_over(envelopes, self._on_outcome)
        self._pace.landed(len(envelopes))

    def _on_outcome(self, outcome: Outcome) -> None:
        letter = self._handed.pop(outcome.delivery_id)
        self._waiting.drop(outcome.delivery_id)
        if outcome.kind != "unknown":
            self._journal.answered(letter.id, letter.fence, taken=outcome.kind == "sent")
        self._recorder.put(letter, outcome)
        if outcome.kind == "relay" or outcome.stops:
            self._probing = True
            self._abandon()
        if outcome.stops:
            self._waiting.revoke()
        self._room.set()

    async def _renew(self) -> None:
        """Prolong the leases of what is in hand; what cannot be prolonged is not sent."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 4)
            asked = boottime()
            # Most letters leave within a third of their lease: prolonging those would write each of them once more.
            soon = asked + self._lease.total_seconds() * 0.6
            fences = [fence for fence, holding in self._holdings.items() if holding.until < soon]
            if not fences:
                continue
            try:
                async with self._pool.acquire() as db:
                    held = await leases.renew(db, fences, lease=self._lease)
            except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
                log.warning("leases of %s cannot be prolonged just now: %s", self._source.name, error)
                continue
            for fence in fences:
                holding = self._holdings.get(fence)
                if fence in held and holding is not None:
                    holding.until = asked + held[fence]
                else:
                    # It is no longer ours, or was ended meanwhile.
                    self._holdings.pop(fence, None)

    async def _look_again(self) -> None:
        """Hold back marked letters that wait for a connection and may not go out any more."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._waiting.due(boottime()):
                try:
                    async with self._pool.acquire() as db:
                        await self._waiting.look(db, boottime())
                except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
                    log.warning("%s cannot be looked at again: %s", self._source.name, error)

    async def _drain(self) -> None:
        """Give back what is leased, or waits for a connection, and see what is on its way through."""
        self._waiting.revoke()
        try:
            await self._give_up_next()
            self._abandon()
            await self._give_back()
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            log.warning("leased letters come back when their lease ends: %s", error)
        if self._flights:
            _, late = await asyncio.wait(self._flights, timeout=GRACE)
            for flight in late:
                flight.cancel()
        await self._transport.close()

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass


def _not_sent(delivery_id: int) -> Outcome:
    return Outcome(delivery_id, "not_sent", 0, None, "it did not leave", "connect")
