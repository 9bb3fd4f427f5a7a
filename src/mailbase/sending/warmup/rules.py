"""The numbers of warm-up, all in one place: presets, ladder, multipliers, spreading, tiers, and when a key advances or stops.

They are the usual ones; a domain may have its own (:class:`Rules`, stored beside its preset). Pure: no database.

A preset is a table of letters a day by *level*. Levels count warm-up days (days that used their cap), not calendar days; after
the table's end the ladder goes on, three such days a step.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from zlib import crc32

from msgspec import Meta, Struct

Preset = Literal["cautious", "standard", "fast", "custom", "none"]

TOTAL: Final = "*"
"""The provider that stands for all of them together."""
UNKNOWN: Final = "other"
"""Nobody knows yet who stands behind these addresses: many hosts, so the total cap alone holds them."""

CAUTIOUS: Final = tuple(int(50 * 1.26**day + 0.5) for day in range(21))
"""A new domain on a new address: 26 % more each day."""
STANDARD: Final = (200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 50_000, 75_000, 100_000)
"""A known domain on a new address."""
FAST: Final = (
    20, 28, 39, 55, 77, 108, 151, 211, 295, 413, 579, 810, 1_000, 1_587, 2_222, 3_111, 4_356, 6_098, 8_583, 11_953, 16_734,
)  # fmt: skip
"""Letters an hour, not spread further; the day's cap is 24 times that."""
LADDER: Final = ((50_000, 2.0), (100_000, 1.5), (250_000, 1.2))
"""Up to so many letters a day, times so much; above the last, times 1.1."""
LADDER_DAYS: Final = 3
LARGEST: Final = 2_000_000_000

MULTIPLIERS: Final = {
    TOTAL: 1.0, UNKNOWN: 1.0, "google": 1.0, "microsoft": 0.5, "microsoft365": 0.5, "yahoo": 0.35, "apple": 0.25,
    "gmx": 0.5, "telekom": 0.5, "orange": 0.35, "free": 0.35, "laposte": 0.35, "mailru": 0.35, "yandex": 0.35,
    "comcast": 0.5, "proofpoint": 0.5, "mimecast": 0.5, "barracuda": 0.5,
}  # fmt: skip
"""A provider's share of the day's total, at its own level; the table of providers says it where there is one."""
ANY_SHARE: Final = 0.05
ANY_LEAST: Final = 20
"""Every other group: the larger of these."""

WINDOW_HOURS: Final = 24 + 1 / 3
HOUR_MINUTES: Final = 80
"""Twenty minutes more than a day and an hour: a bucket is as long as ten, and a letter may leave a while after it was counted."""
BUCKET_MINUTES: Final = 10

Share = Annotated[float, Meta(ge=0, le=1)]
Days = Annotated[int, Meta(ge=0, le=3650)]


class Signal(Struct, frozen=True, forbid_unknown_fields=True):
    """When a sign of trouble holds a level, takes one back, or stops the key. Rates are shares of ``of``; None: never does."""

    window_hours: Annotated[int, Meta(ge=1, le=168)]
    sample: Annotated[int, Meta(ge=1)]
    """So many letters at least, so that one bounce of three says nothing."""
    warn: Share | None
    bad: Share | None
    stop: Share | None
    least: Annotated[int, Meta(ge=1)] = 1
    """So many of the sign itself at least."""


class Blocks(Struct, frozen=True, forbid_unknown_fields=True):
    """Refusals for the sender's sake (5.7.x, lists). Counted, not shares."""

    an_hour: Annotated[int, Meta(ge=1)] = 3
    suspend_hours: Annotated[int, Meta(ge=1, le=168)] = 2
    a_day: Annotated[int, Meta(ge=1)] = 20
    days_running: Annotated[int, Meta(ge=1, le=30)] = 3


class Rules(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The numbers of one domain."""

    active_hours: Annotated[int, Meta(ge=1, le=24)] = 10
    """An hour's cap is the day's divided by this; 1: not spread over the day."""
    jitter: Share = 0.2
    top_of_hour: Share = 0.5
    """How much of the usual the ten minutes after a full hour get."""
    spacing_below: Annotated[int, Meta(ge=0)] = 100
    """Caps below so many a day let one letter go at a time, spread over the hour."""
    burst: Annotated[int, Meta(ge=1)] = 5
    """So many letters of an hour need not wait for one another, however small the cap: a first letter to oneself and to colleagues."""

    used: Share = 0.8
    """The share of its cap a day must have used to count."""
    quiet_days: Annotated[int, Meta(ge=1)] = 7
    """So many days without a letter cost a level, and each as many again another."""
    restart_days: Annotated[int, Meta(ge=1)] = 30
    """After so many days it begins again."""
    target: Annotated[int, Meta(ge=1)] | None = None
    """Letters a day that are enough: a cap that reached it is warm and grows no more."""

    hard: Signal = Signal(24, 50, 0.02, 0.03, 0.05)
    hard_first: Annotated[int, Meta(ge=1)] = 10
    """So many hard bounces among a key's first letters (``hard.sample``) stop it."""
    complaints: Signal = Signal(168, 500, 0.0005, 0.001, 0.003, least=2)
    deferred: Signal = Signal(1, 20, 0.10, 0.25, 0.50)
    """``stop`` must last two hours; it suspends the provider for ``suspend_hours``, no more."""
    suspend_hours: Annotated[int, Meta(ge=1, le=168)] = 2
    unsubscribed: Signal = Signal(24, 200, 0.01, 0.02, None)
    engagement: Signal = Signal(168, 300, 0.5, None, None)
    """Opens and clicks of people fell by this share against the campaigns before."""
    blocks: Blocks = Blocks()
    slow_hours: Annotated[int, Meta(ge=1, le=168)] = 24
    slow_to: Share = 0.5
    """What a step back leaves of the rate for that long."""
    cooldown_hours: Annotated[int, Meta(ge=1, le=720)] = 24
    probe_share: Share = 0.01
    probe_least: Annotated[int, Meta(ge=1)] = 10
    probes: Annotated[int, Meta(ge=1, le=100)] = 3

    tier_days: tuple[Days, Days, Days, Days] = (7, 30, 60, 90)
    """Confirmed within the first; clicked or opened within the second; the third; the fourth."""
    held_back: tuple[tuple[Days, Annotated[int, Meta(ge=1, le=7)]], ...] = ((14, 4), (28, 5), (42, 6))
    """Up to this level, this tier and colder ones wait while warmer mail does."""
    cold_tier: Annotated[int, Meta(ge=1, le=7)] = 4
    cold_share: Share = 0.15
    """Of a day's cap, to ``cold_tier`` and colder, while warmer mail waits."""


TIERS: Final = (
    "confirmed within 7 days", "clicked within 30 days", "opened within 30 days", "new, not written to yet",
    "engaged within 60 days", "engaged within 90 days", "silent or imported",
)  # fmt: skip
TIER_BITS: Final = 27
"""A rank is the tier above so many bits of chance."""


class Cap(Struct, frozen=True):
    """What a key allows: in any 24 hours, in any hour, in ten minutes, and seconds between letters; None: not held so."""

    day: int
    hour: int | None = None
    bucket: int | None = None
    spacing: float | None = None


def level_cap(preset: Preset, schedule: Sequence[int] | None, level: int) -> int:
    """Return what a level (from 1) allows in total: letters a day, or an hour where the preset is ``fast``."""
    return _step(_table(preset, schedule), level)


def _step(table: Sequence[int], level: int) -> int:
    if level <= len(table):
        return table[max(level, 1) - 1]
    value = table[-1]
    for _ in range((level - len(table) + LADDER_DAYS - 1) // LADDER_DAYS):
        value = int(value * next((factor for below, factor in LADDER if value < below), 1.1))
        if value >= LARGEST:
            return LARGEST
    return value


def _table(preset: Preset, schedule: Sequence[int] | None) -> Sequence[int]:
    return {"fast": FAST, "standard": STANDARD, "custom": tuple(schedule or CAUTIOUS)}.get(preset, CAUTIOUS)


def step_of(preset: Preset, schedule: Sequence[int] | None, day: int) -> int:
    """Return the level of a warm-up day: the ladder holds each for three days."""
    known = len(_table(preset, schedule))
    return day if day <= known else known + (day - known + LADDER_DAYS - 1) // LADDER_DAYS


def day_of(preset: Preset, schedule: Sequence[int] | None, level: int) -> int:
    """Return the first warm-up day of a level."""
    known = len(_table(preset, schedule))
    return level if level <= known else known + (level - known - 1) * LADDER_DAYS + 1


def share_of(value: int, provider: str, multiplier: float | None = None, least: int | None = None) -> int:
    """Return a provider's share of a total cap, at least 1. ``multiplier`` and ``least`` come from the table of providers."""
    if provider in {TOTAL, UNKNOWN}:
        return value
    if multiplier is None:
        multiplier = MULTIPLIERS.get(provider)
        least = ANY_LEAST if multiplier is None else 0
    share = int(value * (ANY_SHARE if multiplier is None else multiplier))
    # No provider is ever given more than the whole.
    return max(min(max(share, least or 0), value), 1)


def cap(
    preset: Preset,
    schedule: Sequence[int] | None,
    level: int,
    provider: str = TOTAL,
    *,
    rules: Rules = Rules(),  # noqa: B008  (frozen)
    multiplier: float | None = None,
    least: int | None = None,
    factor: float = 1.0,
    probing: bool = False,
) -> Cap | None:
    """Return what a key at this level allows, or None where nothing but the total holds it.

    ``factor`` is what a step back leaves of the rate; ``probing``: only as much as shows whether it works again.
    """
    if preset == "none" or (provider == UNKNOWN and factor == 1 and not probing):
        return None
    value = share_of(level_cap(preset, schedule, level), provider, multiplier, least)
    if rules.target is not None and preset != "fast":
        value = min(value, max(share_of(rules.target, provider, multiplier, least), 1))
    value = max(int(value * factor), 1)
    if preset == "fast":
        day = min(24 * value, LARGEST)
        if probing:
            day = min(max(rules.probe_least, int(day * rules.probe_share)), day)
            value = min(value, day)
        return Cap(day, value)
    if probing:
        value = min(max(rules.probe_least, int(value * rules.probe_share)), value)
    return spread(value, rules)


def spread(day: int, rules: Rules) -> Cap:
    """Return a day's cap spread over its hours."""
    if rules.active_hours == 1:
        return Cap(day)
    hour = max(math.ceil(day / rules.active_hours), min(rules.burst, day))
    if day < rules.spacing_below:
        return Cap(day, hour, None, HOUR_MINUTES * 60 / hour)
    return Cap(day, hour, math.ceil(hour / 7))


def possible(cap: Cap, minutes: float = 24 * 60) -> int:
    """Return how many letters a day, or what is left of it, can bring: an hour's cap binds a little more than an hour."""
    return cap.day if cap.hour is None else min(cap.day, cap.hour * max(int(minutes // HOUR_MINUTES), 1))


def jitter(key: str, bucket: int, rules: Rules) -> float:
    """Return by how much ten minutes (their number since 1970) differ from the usual; the same for every worker."""
    share = 1 + rules.jitter * (2 * crc32(f"{key} {bucket}".encode()) / 0xFFFFFFFF - 1)
    return share * rules.top_of_hour if bucket % 6 == 0 else share


def held_tier(rules: Rules, level: int) -> int | None:
    """Return the first tier that waits at this level while warmer mail does."""
    return next((tier for until, tier in rules.held_back if level <= until), None)
