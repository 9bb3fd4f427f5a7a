"""Whose a letter is, of several relays: a question of its id and the weights alone, so all workers agree without asking each other.

A delivery's id names one of 65,536 slots; each relay has a home of so many slots as its weight says. Pure.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

SLOTS: Final = 1 << 16
STEP: Final = 40_503
"""Odd and near the golden section of SLOTS: ids that follow one another fall evenly over the slots."""

Interval = tuple[int, int]
"""Slots from the first up to, but not including, the second."""

BELONGS: Final = "EXISTS (SELECT FROM unnest($1::int[], $2::int[]) AS own (low, high) WHERE (id & 65535) * 40503 & 65535 >= low AND (id & 65535) * 40503 & 65535 < high)"
"""How SQL says :func:`slot`, for a lease that takes one relay's letters; ``$1`` and ``$2`` are the ends of its intervals."""


def slot(delivery_id: int) -> int:
    """Return the slot of a letter, from 0 to SLOTS - 1; any run of ids is spread evenly."""
    return (delivery_id % SLOTS) * STEP % SLOTS


def share(weights: Mapping[str, int], available: Collection[str]) -> dict[str, tuple[Interval, ...]]:
    """Return which slots each available relay sends, given the weights of all that are enabled.

    Each has a home by its weight; only while a relay is away is its home divided among those that are there, by their weights.
    So a letter changes its relay only while its own takes nothing, and goes home afterwards. Everything is somebody's as long as
    anybody is there. A weight of 0 has no home, and gets something only where nobody with a weight is left.
    """
    there = sorted(name for name in weights if name in available)
    if not there:
        return {}
    owned: dict[str, list[Interval]] = {name: [] for name in there}
    for name, home in _divide((0, SLOTS), {name: weights[name] for name in sorted(weights)}):
        if name in owned:
            owned[name].append(home)
            continue
        for heir, part in _divide(home, {heir: weights[heir] for heir in there}):
            owned[heir].append(part)
    return {name: _joined(parts) for name, parts in owned.items()}


def diverted(
    weights: Mapping[str, int], available: Collection[str], suspended: Mapping[str, Collection[str]]
) -> dict[str, dict[str, tuple[Interval, ...]]]:
    """Return, by provider, who sends its letters where that is not as :func:`share` has it: it is ``suspended`` over some ways, given by name.

    To its letters those ways are away, and to them alone.
    """
    without: dict[str, set[str]] = {}
    for name in available:
        for provider in suspended.get(name, ()):
            without.setdefault(provider, set()).add(name)
    found: dict[frozenset[str], dict[str, tuple[Interval, ...]]] = {}
    for names in {frozenset(names) for names in without.values()}:
        found[names] = share(weights, set(available) - names)
    return {provider: found[frozenset(names)] for provider, names in without.items()}


def _divide(whole: Interval, weights: Mapping[str, int]) -> list[tuple[str, Interval]]:
    total = sum(weights.values())
    counted = weights if total else dict.fromkeys(weights, 1)
    total = total or len(weights)
    low, high = whole
    parts: list[tuple[str, Interval]] = []
    before = 0
    for name, weight in counted.items():
        start = low + (high - low) * before // total
        before += weight
        end = low + (high - low) * before // total
        if end > start:
            parts.append((name, (start, end)))
    return parts


def _joined(parts: Sequence[Interval]) -> tuple[Interval, ...]:
    joined: list[Interval] = []
    for low, high in sorted(parts):
        if joined and joined[-1][1] == low:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return tuple(joined)
