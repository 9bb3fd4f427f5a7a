"""The queue of campaign letters as one worker sees it: whose turn it is, which providers have room, who is written to first.

Nothing is asked again and again: a campaign that the warm-up holds is looked at when its next letter may go, or when something
about its domain's warm-up has changed.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Final

from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.deliveries import leases
from mailbase.sending.deliveries.leases import CampaignLetter
from mailbase.sending.relays.shares import Interval
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import turns, waiting
from mailbase.sending.warmup.lane_choice import LaneChoice, lanes_of
from mailbase.sending.warmup.waiting import Due

LANES_EVERY: Final = 5.0
"""Seconds for which the sizes of a campaign's lanes are believed; they only set proportions."""
TRIES: Final = 3
"""So often a held campaign's lanes are looked into at once: what the furthest behind have may be in others' hands."""
LONGEST: Final = 600.0
"""Seconds after which a held campaign is looked at in any case."""


class Leased(Struct):
    """Letters of one campaign under one fence."""

    due: Due
    fence: int
    letters: list[CampaignLetter]
    capped: bool


class _Known:
    """What this worker remembers of a campaign."""

    def __init__(self, choice: LaneChoice) -> None:
        self.choice = choice
        self.read = float("-inf")
        self.until = float("-inf")
        self.version = -1


async def _any(_db: Connection, _due: Due) -> bool:
    return True


class CampaignQueue:
    """Leases letters for one way out."""

    def __init__(
        self,
        egress: str,
        *,
        to_outbox: bool,
        slot: int,
        clock: Callable[[], float],
        random: Random,
        lease: timedelta = leases.LEASE,
        full: Callable[[], Collection[str]] = tuple,
        own: Callable[[], Sequence[Interval] | None] = lambda: None,
        diverted: Callable[[], Mapping[str, Sequence[Interval]]] = dict,
    ) -> None:
        """``full`` names the providers of which the way out can take no more letters just now; ``own``: see ``lease_campaign``.

        ``diverted``: what stands for ``own`` with the letters of single providers, which some other way sends nothing.
        """
        self._egress = egress
        self._to_outbox = to_outbox
        self._slot = slot
        self._clock = clock
        self._random = random
        self._lease = lease
        self._full = full
        self._own = own
        self._diverted = diverted
        self._turn = 0
        self._known: dict[int, _Known] = {}
        self._last = 0

    async def lease(
        self,
        db: Connection,
        limit: int,
        *,
        accept: Callable[[Connection, Due], Awaitable[bool]] = _any,
        now: datetime | None = None,
    ) -> Leased | None:
        """Lease from the next campaign in turn that may send; None when nothing may go now."""
        if not any(own is None or own for own in (self._own(), *self._diverted().values())):
            return None
        found = await waiting.due(db, now=now)
        self._known = {due.campaign_id: self._know(due.campaign_id) for due in found}
        # In turn: the campaigns behind the last one first.
        for due in sorted(found, key=lambda due: (due.campaign_id <= self._last, due.campaign_id)):
            known = self._known[due.campaign_id]
            if known.until > self._clock() and known.version == due.version:
                continue
            if await accept(db, due) and (leased := await self._lease_from(db, due, found, limit, now)) is not None:
                self._last = due.campaign_id
                return leased
        return None

    @property
    def wakes_at(self) -> float | None:
        """When, by its clock, a campaign that is held now may go on; None: none is held."""
        now = self._clock()
        return min((known.until for known in self._known.values() if known.until > now), default=None)

    def _know(self, campaign_id: int) -> _Known:
        known = self._known.get(campaign_id)
        return known or _Known(LaneChoice(random=self._random, clock=self._clock))

    async def _lease_from(
        self, db: Connection, due: Due, found: Sequence[Due], limit: int, now: datetime | None
    ) -> Leased | None:
        known = self._known[due.campaign_id]
        if self._clock() - known.read >= LANES_EVERY:
            known.choice.know(await waiting.lanes(db, due.campaign_id))
            known.read = self._clock()
        for own, closed in self._shares(known.choice.names):
            leased = await self._lease_share(db, due, found, limit, own=own, closed=closed, now=now)
            if leased is not None:
                return leased
        return None

    def _shares(self, names: Collection[str]) -> list[tuple[Sequence[Interval] | None, Collection[str]]]:
        """Return which slots are ours, and of which providers not, one after the other: all is one where nobody is diverted."""
        own, full = self._own(), self._full()
        diverted = {name: slots for name, slots in self._diverted().items() if name in names}
        if not diverted:
            return [(own, full)]
        shares: list[tuple[Sequence[Interval] | None, Collection[str]]] = [(own, {*full, *diverted})]
        for slots in {tuple(slots) for slots in diverted.values()}:
            theirs = {name for name, others in diverted.items() if tuple(others) == slots}
            shares.append((slots, {*full, *(name for name in names if name not in theirs)}))
        # Each of them is the first one in its turn.
        self._turn += 1
        first = self._turn % len(shares)
        ordered = shares[first:] + shares[:first]
        return [
            (slots, closed)
            for slots, closed in ordered
            if (slots is None or slots) and any(name not in closed for name in names)
        ]

    async def _lease_share(
        self,
        db: Connection,
        due: Due,
        found: Sequence[Due],
        limit: int,
        *,
        own: Sequence[Interval] | None,
        closed: Collection[str],
        now: datetime | None,
    ) -> Leased | None:
        known = self._known[due.campaign_id]
        capped = due.capped(to_outbox=self._to_outbox)
        for _ in range(TRIES if capped else 1):
            names = known.choice.candidates(closed)
            if not names:
                # Created since, or all of them closed for now.
                known.read = float("-inf")
                return None
            room = warmup_take.Room()
            warmest: dict[str, int] = {}
            if capped:
                room = await warmup_take.room(
                    db, due.domain_id, self._egress, names, to_outbox=self._to_outbox, now=now
                )
            if room.total is None:
                shares = known.choice.shares(names, limit)
            else:
                found_turns = await turns.look(db, due.campaign_id, names, now=now)
                known.choice.found(names, dict.fromkeys(found_turns, 1))
                if not found_turns:
                    continue
                shares = turns.even(min(limit, room.total), found_turns, room.left)
            if not shares:
                self._wait(known, due, room, names)
                return None
            others = [other.campaign_id for other in found if other.domain_id == due.domain_id and other is not due]
            if capped and others:
                warmest = await waiting.warmest(db, others, list(shares))
            fence, letters = await leases.lease_campaign(
                db, due.campaign_id, limit, egress=self._egress, lanes=lanes_of(shares, room, warmest), own=own, now=now,
                lease=self._lease,
            )  # fmt: skip
            known.choice.found(shares, Counter(letter.provider for letter in letters))
            if letters:
                return Leased(due, fence, letters, capped)
        return None

    def _wait(self, known: _Known, due: Due, room: warmup_take.Room, names: Sequence[str]) -> None:
        if room.total and any(name not in names for name in known.choice.names):
            known.choice.no_room(names)
        elif room.wait is not None:
            known.until = self._clock() + min(max(room.wait, 0.1), LONGEST)
            known.version = due.version
