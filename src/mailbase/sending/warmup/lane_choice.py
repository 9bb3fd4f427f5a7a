"""Which providers' letters a campaign leases next: as many of each, where nothing is held, as it has for them in proportion.

Where caps hold most of them, :mod:`~mailbase.sending.warmup.turns` says whose turn it is. Pure but for the clock and chance it is given. What is remembered is only ever a reason not to look for a moment: a lane that had
nothing, a campaign the warm-up holds.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Final

from mailbase.sending.warmup.take import Room
from mailbase.sending.warmup.turns import Turn, even
from mailbase.sending.warmup.waiting import TIERS_END, Lane

MOST: Final = 64
"""So many lanes are looked into at once."""
EMPTY: Final = 2.0
OWED: Final = 2
"""So many letters may a lane be owed, or have had too many, when the next are shared out."""
FULL: Final = 30.0
"""Seconds for which a lane that had nothing, or for which there was no room, is left out."""


class LaneChoice:
    """The lanes of one campaign as one worker knows them."""

    def __init__(self, *, random: Random, clock: Callable[[], float]) -> None:
        self._random = random
        self._clock = clock
        self._weights: dict[str, int] = {}
        self._left_out: dict[str, float] = {}
        self._asked: dict[str, int] = {}
        self._level = 0.0

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

    def shares(self, names: Sequence[str], limit: int) -> dict[str, int]:
        """Return how many letters of each lane, ``limit`` in all, where nothing is held: in proportion, over many leases.

        A lane that was left out for a while is owed no more than a letter or two.
        """
        turns = {}
        for name in names:
            letters = max(self._weights[name], 1)
            usual = round(self._level * letters)
            turns[name] = Turn(letters, min(max(self._asked.get(name, usual), usual - OWED), usual + OWED))
        shares = even(limit, turns, dict.fromkeys(names, limit))
        self._asked |= {name: turn.gone + shares.get(name, 0) for name, turn in turns.items()}
        self._level = sum(self._asked[name] for name in names) / (sum(turn.letters for turn in turns.values()) or 1)
        return shares

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
