"""A key of the warm-up: (domain, way out, provider), where it stands, and how many letters it lets go just now. Pure.

warming ⇄ held          a sign of trouble: the level stays
warming ─▶ slowed       a step back, half the rate for a day ─▶ warming
warming ─▶ suspended    refused at large: nothing for hours ─▶ slowed
warming ─▶ stopped      a day ─▶ probing, a few letters ─▶ warming at half the last good level, or stopped again
probing ─▶ paused       when three probes failed; by hand it goes on
warming ─▶ warm         the target is reached
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from mailbase.sending.warmup import rules as warmup_rules
from mailbase.sending.warmup.rules import TOTAL, Cap, Preset, Rules

State = Literal["warming", "held", "slowed", "suspended", "stopped", "probing", "paused", "warm"]

PLENTY: Final = 2**31
BUCKET: Final = timedelta(minutes=warmup_rules.BUCKET_MINUTES)


class Chosen(Struct, kw_only=True):
    """What the owner of a domain chose."""

    preset: Preset
    schedule: list[int] | None = None
    rules: Rules = Rules()
    paused: bool = False
    hold: bool = False
    exempt: bool = True
    restricted: bool = False

    @property
    def capped(self) -> bool:
        """Whether anything may be held."""
        return self.preset != "none" or self.restricted


class Key(Struct, kw_only=True):
    """Where a key stands, and what it took: in its day's and hour's windows and in these ten minutes."""

    provider: str
    level: int = 1
    state: State = "warming"
    until: datetime | None = None
    next_at: datetime | None = None
    known: bool = True
    """Whether it has a row."""
    multiplier: float | None = None
    least: int | None = None
    ceiling: int | None = None
    day: int = 0
    hour: int = 0
    bucket: int = 0
    cold: int = 0
    everywhere: int = 0
    """Of the day's window, over every way out: what a ceiling binds."""


def cap_of(chosen: Chosen, key: Key, now: datetime) -> Cap | None:
    """Return the cap in force, or None where there is none."""
    slowed = key.state == "slowed" and key.until is not None and key.until > now
    return warmup_rules.cap(
        chosen.preset, chosen.schedule, key.level, key.provider, rules=chosen.rules, multiplier=key.multiplier,
        least=key.least, factor=chosen.rules.slow_to if slowed else 1.0, probing=key.state == "probing",
    )  # fmt: skip


def closed(key: Key, now: datetime) -> bool:
    """Whether nothing at all may go."""
    if key.state in {"paused", "stopped"}:
        return True
    return key.state == "suspended" and (key.until is None or key.until > now)


def bucket_of(now: datetime) -> int:
    """Return the number of the ten minutes since 1970."""
    return int(now.timestamp()) // (60 * warmup_rules.BUCKET_MINUTES)


def spacing_of(cap: Cap, key: Key, name: str, now: datetime, rules: Rules) -> timedelta | None:
    """Return how long the next letter waits after one that goes now, where letters go one at a time."""
    if cap.spacing is None:
        return None
    # Not the time of day but the chance in it: the top of the hour halves the allowance of ten minutes, not a pause.
    usual = warmup_rules.jitter(f"{name} {key.provider}", 6 * bucket_of(now) + 1, rules)
    return timedelta(seconds=cap.spacing * usual)


def left(chosen: Chosen, key: Key, name: str, now: datetime) -> int:
    """Return how many letters may go now. ``name`` seeds the jitter: the domain and the way out."""
    if chosen.paused or closed(key, now):
        return 0
    least = PLENTY if key.ceiling is None else key.ceiling - key.everywhere
    cap = cap_of(chosen, key, now)
    if cap is None:
        return max(least, 0)
    least = min(least, cap.day - key.day)
    if cap.hour is not None:
        least = min(least, cap.hour - key.hour)
    free = chosen.rules.burst - key.hour
    if cap.bucket is not None:
        usual = warmup_rules.jitter(f"{name} {key.provider}", bucket_of(now), chosen.rules)
        least = min(least, max(int(cap.bucket * usual) - key.bucket, free))
    elif cap.spacing is not None and free > 0:
        least = min(least, free)
    elif cap.spacing is not None:
        least = min(least, 0 if _too_soon(cap.spacing, key, now, chosen.rules) else 1)
    return max(least, 0)


def _too_soon(spacing: float, key: Key, now: datetime, rules: Rules) -> bool:
    # A pause that is longer than any: the clock was set back since. The caps hold without it.
    longest = timedelta(seconds=spacing * (1 + rules.jitter) + 1)
    return key.next_at is not None and now < key.next_at <= now + longest


def cold_left(chosen: Chosen, key: Key, now: datetime) -> int:
    """Return how many letters may go to cold people while warmer mail waits."""
    cap = cap_of(chosen, key, now)
    return PLENTY if cap is None else max(int(cap.day * chosen.rules.cold_share) - key.cold, 0)


def share_out(wanted: Mapping[str, int], lefts: Mapping[str, int], total: int) -> dict[str, int]:
    """Grant letters: where the total is short each provider gets less in proportion, the rest goes round one by one."""
    may = {provider: min(n, lefts[provider]) for provider, n in wanted.items()}
    whole = sum(may.values())
    if whole <= total:
        return may
    granted = {provider: n * total // whole for provider, n in may.items()}
    rest = total - sum(granted.values())
    for provider in sorted(may, key=lambda provider: granted[provider] - may[provider] * total / whole):
        if rest and granted[provider] < may[provider]:
            granted[provider] += 1
            rest -= 1
    return granted


def wait(chosen: Chosen, keys: Sequence[Key], now: datetime) -> datetime:
    """Return when it is worth looking again: a pause between letters ends, a suspension does, or the next ten minutes begin."""
    moments = [now + BUCKET - timedelta(seconds=now.timestamp() % BUCKET.total_seconds())]
    for key in keys:
        if key.next_at is not None and now < key.next_at < moments[0]:
            moments.append(key.next_at)
        if key.state == "suspended" and key.until is not None and key.until > now:
            moments.append(key.until)
    return moments[0] if chosen.paused else min(moments)


def total_of(keys: Mapping[str, Key]) -> Key:
    """Return the key of all providers together."""
    return keys[TOTAL]
