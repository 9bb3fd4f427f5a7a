"""How often a public form may be used: windows counted in Redis.

Redis may be gone at any moment; then each process counts for itself, in memory, until it is back: looser by the number of processes,
never shut, never open to everybody.
"""

import logging
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from msgspec import Struct
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis.asyncio import Redis
else:
    Redis = Any

logger = logging.getLogger(__name__)

MOST_WINDOWS: Final = 50_000
PAUSE: Final = 5.0
"""Seconds for which a Redis that did not answer is not asked again."""


class Limit(Struct, frozen=True):
    """At most ``most`` in each window of ``seconds``."""

    name: str
    most: int
    seconds: int


PER_IP: Final = (Limit("ip", 30, 60), Limit("ip", 300, 3600))
PER_FORM: Final = (Limit("form", 600, 60), Limit("form", 12_000, 3600))
EVENTS_PER_IP: Final = (Limit("events", 240, 60),)
CHECKS_PER_IP: Final = (Limit("checks", 60, 60),)
"""Of typo hints and of challenges."""

PER_ADDRESS: Final = Limit("address", 10, 3600)
PER_DOMAIN: Final = Limit("domain", 120, 600)
PER_PROVIDER: Final = Limit("domain", 3000, 600)
"""A domain where everybody has an address: gmail.com, mail.ru …"""
PER_TIME: Final = Limit("time", 60, 86_400)
"""The same signed time from everywhere: a page kept for a minute by a cache is shown to many."""
PER_TIME_AND_IP: Final = Limit("time_ip", 20, 86_400)
"""The same signed time from one network."""


def whose(ip: IPv4Address | IPv6Address | None) -> str:
    """Return the address that counts: an IPv6 visitor owns a whole /64."""
    if isinstance(ip, IPv6Address):
        return str(ip_network((ip, 64), strict=False).network_address)
    return str(ip)


class _Alone:
    """What a process counts by itself while Redis is gone."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._asked_again = 0.0

    def is_away(self) -> bool:
        return time.monotonic() < self._asked_again

    def gone(self, error: Exception) -> None:
        if not self.is_away():
            logger.warning("Redis does not answer (%s): each process counts the use of forms by itself", error)
        self._asked_again = time.monotonic() + PAUSE

    def read(self, windows: Sequence[str]) -> list[int]:
        return [self._counts.get(window, 0) for window in windows]

    def add(self, windows: Sequence[str]) -> list[int]:
        if len(self._counts) > MOST_WINDOWS:
            self._counts.clear()  # letting some through again costs less than a list that only grows
        for window in windows:
            self._counts[window] = self._counts.get(window, 0) + 1
        return self.read(windows)


_ALONE: Final[WeakKeyDictionary[Redis, _Alone]] = WeakKeyDictionary()


def _alone(redis: Redis) -> _Alone:
    return _ALONE.setdefault(redis, _Alone())


Use = tuple[Limit, str]
"""A limit and whose use of it this is."""


async def use(redis: Redis, uses: Sequence[Use], *, now: float | None = None) -> list[int]:
    """Count one use of each; return for each 0, or after how many seconds the next is welcome."""
    at = int(time.time() if now is None else now)
    counts = await _add(redis, uses, at)
    return [
        limit.seconds - at % limit.seconds if count > limit.most else 0
        for (limit, _), count in zip(uses, counts, strict=True)
    ]


async def wait(redis: Redis, limits: tuple[Limit, ...], key: str, *, now: float | None = None) -> int:
    """Count one use; return 0, or after how many seconds the next is welcome."""
    return max(await use(redis, [(limit, key) for limit in limits], now=now), default=0)


async def spent(redis: Redis, limits: tuple[Limit, ...], key: str, *, now: float | None = None) -> int:
    """Count nothing; return 0, or after how many seconds the next is welcome, where a window is used up already."""
    at = int(time.time() if now is None else now)
    windows = [_window(limit, key, at) for limit in limits]
    counts = await _read(redis, windows)
    waits = [
        limit.seconds - at % limit.seconds for limit, count in zip(limits, counts, strict=True) if count >= limit.most
    ]
    return max(waits, default=0)


def _window(limit: Limit, key: str, at: int) -> str:
    return f"mailbase:limit:{limit.name}:{key}:{limit.seconds}:{at // limit.seconds}"


async def _read(redis: Redis, windows: Sequence[str]) -> list[int]:
    alone = _alone(redis)
    if not alone.is_away():
        try:
            return [int(count or 0) for count in await redis.mget(windows)]
        except (RedisError, OSError) as error:
            alone.gone(error)
    return alone.read(windows)


async def _add(redis: Redis, uses: Sequence[Use], at: int) -> list[int]:
    windows = [_window(limit, key, at) for limit, key in uses]
    alone = _alone(redis)
    if not alone.is_away():
        try:
            async with redis.pipeline(transaction=False) as pipe:
                for (limit, _), window in zip(uses, windows, strict=True):
                    pipe.incr(window)
                    pipe.expire(window, limit.seconds)
                return [int(count) for count in (await pipe.execute())[::2]]
        except (RedisError, OSError) as error:
            alone.gone(error)
    return alone.add(windows)
