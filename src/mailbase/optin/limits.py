"""How often a public form may be used: buckets in Redis, by visitor's address and by form.

Redis may be gone at any moment; then everybody is let through, because a form that answers is worth more than a count.
"""

import logging
import time
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis.asyncio import Redis
else:
    Redis = Any

logger = logging.getLogger(__name__)


class Limit(Struct, frozen=True):
    """At most ``most`` in each window of ``seconds``."""

    name: str
    most: int
    seconds: int


PER_IP: Final = (Limit("ip", 30, 60), Limit("ip", 300, 3600))
PER_FORM: Final = (Limit("form", 600, 60), Limit("form", 12_000, 3600))
EVENTS_PER_IP: Final = (Limit("events", 240, 60),)


def whose(ip: IPv4Address | IPv6Address | None) -> str:
    """Return the address that counts: an IPv6 visitor owns a whole /64."""
    if isinstance(ip, IPv6Address):
        return str(ip_network((ip, 64), strict=False).network_address)
    return str(ip)


async def spent(redis: Redis, limits: tuple[Limit, ...], key: str, *, now: float | None = None) -> int:
    """Count nothing; return 0, or after how many seconds the next is welcome, where a window is used up already."""
    at = int(time.time() if now is None else now)
    try:
        counts = await redis.mget([_window(limit, key, at) for limit in limits])
    except (RedisError, OSError) as error:
        logger.debug("limits are not looked at: %s", error)
        return 0
    waits = [
        limit.seconds - at % limit.seconds
        for limit, count in zip(limits, counts, strict=True)
        if int(count or 0) >= limit.most
    ]
    return max(waits, default=0)


def _window(limit: Limit, key: str, at: int) -> str:
    return f"mailbase:limit:{limit.name}:{key}:{limit.seconds}:{at // limit.seconds}"


async def wait(redis: Redis, limits: tuple[Limit, ...], key: str, *, now: float | None = None) -> int:
    """Count one use; return 0, or after how many seconds the next is welcome."""
    at = int(time.time() if now is None else now)
    try:
        async with redis.pipeline(transaction=False) as pipe:
            for limit in limits:
                window = _window(limit, key, at)
                pipe.incr(window)
                pipe.expire(window, limit.seconds)
            counts = (await pipe.execute())[::2]
    except (RedisError, OSError) as error:
        logger.debug("form limits are not counted: %s", error)
        return 0
    waits = [
        limit.seconds - at % limit.seconds for limit, count in zip(limits, counts, strict=True) if count > limit.most
    ]
    return max(waits, default=0)
