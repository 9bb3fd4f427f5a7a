"""Plays weeks of sending against the real queue, mark, record and judge on a real PostgreSQL, with the time as an argument.

Nothing of the warm-up is modelled here: only the workers' loop, the other side's answers, and what goes wrong.
"""

import asyncio
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from random import Random

from mailbase.sending.deliveries import leases, marks, records
from mailbase.sending.deliveries.marks import Pair
from mailbase.sending.deliveries.records import BEFORE_DATA, Handed
from mailbase.sending.dispatch.campaign_queue import CampaignQueue
from mailbase.sending.outcomes import Outcome
from mailbase.sending.warmup import judge as warmup_judge
from mailbase.sending.warmup import keys as warmup_keys
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup.rules import TOTAL

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TEN = timedelta(minutes=10)

FINE = Outcome(0, "sent", 250, None, "ok", "content")
LATER = Outcome(0, "deferred", 421, "4.7.0", "try again later", "rcpt")
NOBODY = Outcome(0, "refused", 550, "5.1.1", "no such user", "rcpt", "hard")


class Simulator:
    """Some workers, one domain, and a clock that anybody may set."""

    def __init__(
        self, pool, domain_id, *, workers=2, seed=1, egress="relay", batch=20, crash=0.0, late=0.0, answer=None
    ):
        self.pool, self.domain_id, self.egress, self.batch = pool, domain_id, egress, batch
        self.crash, self.late = crash, late
        self.unrecorded = []
        self.random = Random(seed)
        self.answer = answer or (lambda _provider, _now: FINE)
        self.now = START
        self.out = []  # (when, provider, tier, campaign): letters whose content may have gone out
        self.caps = defaultdict(list)  # provider -> [(when, day, hour)], as they changed
        self.judged = None
        self.queues = [self._queue(number) for number in range(workers)]
        self.retry = timedelta(0)

    def _queue(self, number):
        return CampaignQueue(self.egress, to_outbox=False, slot=number, clock=self._seconds, random=Random(number))

    def _seconds(self):
        return self.now.timestamp()

    async def run(self, until, *, step=TEN):
        """Work until a moment; time jumps to when there is something to do."""
        while self.now < until:
            await self.tick()
            wakes = [queue.wakes_at for queue in self.queues if queue.wakes_at is not None]
            ahead = min([self.now + step, *(datetime.fromtimestamp(at, UTC) + timedelta(seconds=1) for at in wakes)])
            self.now = max(min(ahead, until), self.now + timedelta(seconds=1))

    async def tick(self):
        """Let every worker do what it can now, all at once."""
        async with self.pool.acquire() as db:
            hour = self.now.replace(minute=0, second=0, microsecond=0)
            if self.judged != hour:
                await leases.expire(db, slot=0, now=self.now)
                await warmup_judge.judge(db, to_outbox=False, now=self.now)
                await self._see_caps(db)
                self.judged = hour
        late, self.unrecorded = self.unrecorded, []
        await asyncio.gather(*[self._work(number) for number in range(len(self.queues))])
        async with self.pool.acquire() as db:
            for results, slot in late:
                await records.record(db, results, slot=slot, random=self.random, now=self.now)

    async def _see_caps(self, db):
        names = [row["provider"] for row in await db.fetch("SELECT DISTINCT provider FROM campaign_lanes")]
        chosen = await warmup_take.look(db, self.domain_id, to_outbox=False)
        found, _, _ = await warmup_take.keys(db, self.domain_id, self.egress, names, now=self.now)
        for name, key in found.items():
            cap = warmup_keys.cap_of(chosen, key, self.now)
            ceiling = 10**9 if key.ceiling is None else key.ceiling
            seen = (min(cap.day, ceiling), cap.hour) if cap else (ceiling, None)
            if not self.caps[name] or self.caps[name][-1][1:] != seen:
                self.caps[name].append((self.now, *seen))

    async def _work(self, number):
        async with self.pool.acquire() as db:
            for _ in range(20):
                leased = await self.queues[number].lease(db, self.batch, now=self.now)
                if leased is None or await self._send(db, leased, number):
                    return

    async def _send(self, db, leased, number):
        """Mark and record a lease; True when the worker goes no further: it died, or there was no room for all of it."""
        pairs = [Pair(one.id, one.email or "", one.provider, one.tier) for one in leased.letters]
        if self.random.random() < self.crash:
            self.queues[number] = self._queue(number)
            return True
        marked = await marks.mark_campaign(
            db, leased.due.campaign_id, self.domain_id, leased.fence, pairs, egress=self.egress, to_outbox=False,
            slot=number, capped=leased.capped, now=self.now,
        )  # fmt: skip
        letters = [one for one in leased.letters if one.id in marked.ids]
        if self.random.random() < self.crash:
            self.out += [(self.now, one.provider, one.tier, leased.due.campaign_id) for one in letters]
            self.queues[number] = self._queue(number)
            return True
        results = []
        for one in letters:
            said = self.answer(one.provider, self.now)
            outcome = Outcome(one.id, *[getattr(said, field) for field in said.__struct_fields__[1:]])
            if outcome.kind == "sent" or outcome.phase not in BEFORE_DATA:
                self.out.append((self.now, one.provider, one.tier, leased.due.campaign_id))
            handed = Handed(
                one.id, leased.fence, leased.due.campaign_id, self.domain_id, one.subscriber_id, one.provider,
                one.email or "", None, one.attempts + 1, marked.bucket, egress=self.egress,
            )  # fmt: skip
            results.append((handed, outcome))
        if results and self.random.random() < self.late:
            self.unrecorded.append((results, number))
        elif results:
            await records.record(db, results, slot=number, random=self.random, now=self.now)
        return marked.held

    def by_day(self, provider=None):
        """Return how many letters went out on each UTC day."""
        return Counter(at.date() for at, name, _, _ in self.out if provider in {None, name})

    def check(self):
        """No sliding day over the largest cap in force in it, and no sliding hour over its share; by provider and in total."""
        for provider, caps in self.caps.items():
            times = sorted(at for at, name, _, _ in self.out if provider in {TOTAL, name})
            for hours, which in ((24, 1), (1, 2)):
                self._check_windows(provider, times, caps, timedelta(hours=hours), which)

    def _check_windows(self, provider, times, caps, window, which):
        first = 0
        for last, at in enumerate(times):
            while times[first] <= at - window:
                first += 1
            inside = [
                cap[which]
                for cap, after in zip(caps, [*caps[1:], None], strict=True)
                if cap[0] <= at and (after is None or after[0] > at - window)
            ]
            if inside and None not in inside:
                assert last - first + 1 <= max(inside), (
                    f"{provider}: {last - first + 1} in {window} up to {at}, cap {max(inside)}"
                )
