"""Which providers' letters a campaign leases next, and how many of each: in proportion to what it has for them, within the room.

Pure but for the clock and chance it is given. What is remembered is only ever a reason not to look for a moment: a lane that had
nothing, a campaign the warm-up holds.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Final

from mailbase.sending.waiting import TIERS_END, Lane
from mailbase.sending.warmup_take import Room

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
        self._asked: Sequence[str] = ()

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

        What a small lane is owed of a letter, or could not take just now, it is given later: over a day each lane has its part.
        """
        self._asked = names
        whole = sum(max(self._weights[name], 1) for name in names) or 1
        most = {name: limit if lefts is None else lefts[name] for name in names}
        for name in names:
            part = limit * max(self._weights[name], 1) / whole
            self._due[name] = min(max(self._due.get(name, 0.0), -OWED) + part, part + OWED)
        shares = dict.fromkeys(names, 0)
        for name in sorted(names, key=lambda name: -self._due[name]):
            shares[name] = max(min(int(self._due[name] + EVEN), most[name], limit), 0)
            limit -= shares[name]
        self._share_rest(shares, most, limit)
        for name, n in shares.items():
            self._due[name] -= n
        return {name: n for name, n in shares.items() if n}

    def _share_rest(self, shares: dict[str, int], most: Mapping[str, int], rest: int) -> None:
        """Give the rest to those that may have more, in proportion; the last letters one by one to whom most is owed."""
        while rest > 0 and (open_ := [name for name in shares if shares[name] < most[name]]):
            weights = [max(self._weights[name], 1) for name in open_]
            whole = sum(weights)
            parts = [
                min(rest * weight // whole, most[name] - shares[name])
                for name, weight in zip(open_, weights, strict=True)
            ]
            if not any(parts):
                parts[open_.index(max(open_, key=lambda name: self._due[name] - shares[name]))] = 1
            for name, part in zip(open_, parts, strict=True):
                shares[name] += part
            rest -= sum(parts)

    def returned(self, letters: Mapping[str, int]) -> None:
        """Take letters of the last shares back that found no room after all: another worker was quicker."""
        whole = sum(max(self._weights[name], 1) for name in self._asked) or 1
        n = sum(letters.values())
        for name in self._asked:
            self._due[name] += letters.get(name, 0) - n * max(self._weights[name], 1) / whole

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
