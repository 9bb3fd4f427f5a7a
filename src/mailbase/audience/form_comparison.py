"""Two forms compared: which turns more of those who see it into subscribers, and whether the difference is more than chance.

A two-sided test of two proportions (pooled variance), with the 95 % interval of their difference after Agresti and Caffo (2000), which
holds for small numbers, too. With fewer than five expected either way on a side, nothing is concluded.
"""

import math
from typing import Final, Literal

from msgspec import Struct

Verdict = Literal["likely", "unclear", "too_few"]
By = Literal["confirmed", "submit"]

LEAST_EXPECTED: Final = 5
DOUBT: Final = 0.05
Z95: Final = 1.959964


class Side(Struct, kw_only=True):
    """One form's part: ``wins`` of ``views``."""

    id: int
    name: str
    views: int
    wins: int
    rate: float


class Comparison(Struct, kw_only=True):
    """What is known of the difference (second rate minus first)."""

    by: By
    """What a win is: a confirmation, or an accepted submission."""
    forms: list[Side]
    difference: float
    interval: list[float]
    """Between these two the true difference lies, nineteen times of twenty."""
    p_value: float | None
    """How often chance alone brings a difference this large; null where there is too little to say."""
    verdict: Verdict
    """likely: the difference is probably real; unclear: it may well be chance; too_few: not enough was counted yet."""
    better: int | None
    """The id of the form that is probably better."""
    said: str
    """All of it as a sentence."""


def side(form_id: int, name: str, *, views: int, wins: int) -> Side:
    """Return a form's part. Wins without a view (a program's, the counter's) are left out: they were never to be lost."""
    counted = min(wins, views)
    return Side(id=form_id, name=name, views=views, wins=counted, rate=round(counted / views, 4) if views else 0.0)


def compare(one: Side, other: Side, *, by: By) -> Comparison:
    """Return what two forms' numbers say about them."""
    p_value = _chance(one, other)
    low, high = _interval(one, other)
    verdict: Verdict = "too_few" if p_value is None else "likely" if p_value < DOUBT else "unclear"
    better = (one if one.wins * other.views > other.wins * one.views else other) if verdict == "likely" else None
    return Comparison(
        by=by,
        forms=[one, other],
        difference=round(other.rate - one.rate, 4),
        interval=[round(low, 4), round(high, 4)],
        p_value=None if p_value is None else round(p_value, 4),
        verdict=verdict,
        better=better.id if better else None,
        said=_sentence(one, other, verdict, p_value, better),
    )


def _chance(one: Side, other: Side) -> float | None:
    views, wins = one.views + other.views, one.wins + other.wins
    if not one.views or not other.views:
        return None
    share = wins / views
    least = min(one.views, other.views) * min(share, 1 - share)
    if least < LEAST_EXPECTED:
        return None
    spread = math.sqrt(share * (1 - share) * (1 / one.views + 1 / other.views))
    z = abs(other.wins / other.views - one.wins / one.views) / spread
    return math.erfc(z / math.sqrt(2))


def _interval(one: Side, other: Side) -> tuple[float, float]:
    first, second = ((side.wins + 1) / (side.views + 2) for side in (one, other))
    spread = math.sqrt(first * (1 - first) / (one.views + 2) + second * (1 - second) / (other.views + 2))
    return max(-1.0, second - first - Z95 * spread), min(1.0, second - first + Z95 * spread)


def _sentence(one: Side, other: Side, verdict: Verdict, p_value: float | None, better: Side | None) -> str:
    both = " and ".join(
        f"“{side.name}” won {side.wins:,} of {side.views:,} views ({side.rate:.1%})" for side in (one, other)
    )
    if verdict == "too_few" or p_value is None:
        return f"{both}. That is too little to compare: wait until more people have seen both."
    if better is None:
        return f"{both}. The difference may well be chance: it would come about in {p_value:.0%} of comparisons of two equal forms."
    rare = (
        "in fewer than one of a hundred" if p_value < 0.01 else f"in about {max(1, round(p_value * 100))} of a hundred"
    )
    return f"{both}. “{better.name}” is probably better: two equal forms differ this much only {rare} comparisons."
