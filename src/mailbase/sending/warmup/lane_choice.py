"""Which providers' letters a campaign leases next, and how many of each: in proportion to what it has for them, within the room.

Pure but for the clock and chance it is given. What is remembered is only ever a reason not to look for a moment: a lane that had
nothing, a campaign the warm-up holds.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Final

from mailbase.sending.warmup.take import Room
from mailbase.sending.warmup.waiting import TIERS_END, Lane

MOST: Final = 64
"""So many lanes are looked into at once."""
EMPTY: Final = 2.0
OWED: Final = 2.0
"""So many letters may a lane be owed, or have had too many, when the next are shared out."""
EVEN: Final = 1e-9
FULL: Final = 30.0
"""Seconds for which a lane that had nothing, or for which there was no room, is left out."""


class LaneChoice:
    """The lanes of one campaign as one worker knows them."""

    def __init__(self, *, random: Random, clock: Callable[[], float]) -> None:
        self._random = random
        self._clock = clock
        self._weights: dict[str, int] = {}
        self._left_out: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._owed: dict[str, float] = {}
        self._before: tuple[dict[str, float], dict[str, float]] = ({}, {})
        self._shared = 0

    def know(self, letters: Mapping[str, int]) -> None:
        """Take over how many letters there were made for each provider."""
        self._weights = dict(letters)

    @property
    def names(self) -> Collection[str]:
        """All of its providers."""
        return self._weights.keys()

    def candidates(self, closed: Collection[str] = ()) -> list[str]:
        """Return lanes worth looking into, ``closed`` ones left out; the larger ones likelier where there are many."""
        now = self._clock()
        open_ = [name for name in self._weights if name not in closed]
        found = [name for name in open_ if self._left_out.get(name, now) <= now]
        if not found:
            # Everything is thought to be empty, but something waits: look again.
            self._left_out.clear()
            found = open_
        if len(found) <= MOST:
            return found
        # The smallest of weighted chances: a weighted sample without replacement.
        keyed = sorted(found, key=lambda name: self._random.expovariate(max(self._weights[name], 1)))
        return keyed[:MOST]

    def shares(self, names: Sequence[str], limit: int, lefts: Mapping[str, int] | None = None) -> dict[str, int]:
        """Return how many letters of each lane, ``limit`` in all, none more than is left for it.

        Fractions of a letter are kept for the next time, and what a lane was held back by its own pace it is given later: over a day
        each has its part.
        """
        self._before = dict(self._due), dict(self._owed)
        weights = {name: max(self._weights[name], 1) for name in names}
        whole = sum(weights.values()) or 1
        most = {name: limit if lefts is None else lefts[name] for name in names}
        parts = _poured(limit, weights, most)
        shares = dict.fromkeys(names, 0)
        for name in names:
            self._due[name] = self._due.get(name, 0.0) + parts[name]
            self._owed[name] = min(
                self._owed.get(name, 0.0) + max(limit * weights[name] / whole - parts[name], 0.0), OWED
            )
        wanted = {name: self._due[name] + self._owed[name] for name in names}
        for name in sorted(names, key=lambda name: -wanted[name]):
            shares[name] = max(min(int(wanted[name] + EVEN), most[name], limit), 0)
            limit -= shares[name]
        while limit > 0 and (open_ := [name for name in names if shares[name] < most[name]]):
            name = max(open_, key=lambda name: wanted[name] - shares[name])
            n = max(min(limit * weights[name] // whole, most[name] - shares[name]), 1)
            shares[name] += n
            limit -= n
        self._settle(shares, parts, [name for name in names if most[name] > 0])
        self._shared = sum(shares.values())
        return {name: n for name, n in shares.items() if n}

    def _settle(self, shares: Mapping[str, int], parts: Mapping[str, float], open_: Sequence[str]) -> None:
        """Keep what each lane had less, or more, than its part; nobody is in debt to nobody."""
        for name in shares:
            late = min(self._owed[name], max(shares[name] - parts[name], 0.0))
            self._owed[name] -= late
            self._due[name] += late - shares[name]
        whole = sum(max(self._weights[name], 1) for name in open_) or 1
        over = sum(self._due[name] for name in open_)
        for name in open_:
            due = self._due[name] - over * max(self._weights[name], 1) / whole
            self._due[name] = min(max(due, -OWED), OWED)

    def returned(self, letters: Mapping[str, int]) -> None:
        """Take letters of the last shares back that found no room after all: another worker was quicker."""
        back = min(sum(letters.values()) / max(self._shared, 1), 1.0)
        for now, before in zip((self._due, self._owed), self._before, strict=True):
            for name, n in now.items():
                now[name] = n + (before.get(name, 0.0) - n) * back

    def found(self, asked: Collection[str], got: Mapping[str, int]) -> None:
        """Note what a lease brought."""
        until = self._clock() + EMPTY
        for name in asked:
            if got.get(name):
                self._left_out.pop(name, None)
            else:
                self._left_out[name] = until

    def no_room(self, names: Collection[str]) -> None:
        """Note lanes for which nothing is left just now."""
        until = self._clock() + FULL
        for name in names:
            self._left_out[name] = until


def _poured(limit: int, weights: Mapping[str, int], most: Mapping[str, int]) -> dict[str, float]:
    """Return each lane's part in proportion; what does not fit into one goes to the others, in proportion again."""
    parts = dict.fromkeys(weights, 0.0)
    left, open_ = float(limit), [name for name in weights if most[name] > 0]
    while open_ and left > EVEN:
        whole = sum(weights[name] for name in open_)
        full = [name for name in open_ if left * weights[name] / whole >= most[name] - parts[name]]
        if not full:
            for name in open_:
                parts[name] += left * weights[name] / whole
            break
        for name in full:
            left -= most[name] - parts[name]
            parts[name] = float(most[name])
        open_ = [name for name in open_ if name not in full]
    return parts


def lanes_of(shares: Mapping[str, int], room: Room, warmest: Mapping[str, int]) -> list[Lane]:
    """Return the lanes to lease from. ``warmest``: the warmest tier that waits elsewhere on the domain, by provider.

    While warmer mail waits the coldest people's letters wait, too, and those of cold tiers keep to their share of the day.
    """
    lanes: list[Lane] = []
    for name, most in shares.items():
        if name not in warmest:
            lanes.append(Lane(name, most))
            continue
        behind = warmest[name] + 1
        held = TIERS_END if room.held_tier is None else max(room.held_tier, behind)
        cold = min(max(room.cold_tier, behind), held)
        lanes.append(Lane(name, most, 0, cold))
        few = min(room.cold.get(name, 0), most)
        if cold < held and few > 0:
            lanes.append(Lane(name, few, cold, held))
    return lanes
