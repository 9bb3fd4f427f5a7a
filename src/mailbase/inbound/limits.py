"""How much one peer may hand over: mails a minute, and connections at once."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from msgspec import Struct

MAILS_A_MINUTE: Final = 600
BURST: Final = 600
CONNECTIONS: Final = 200
"""At once, of everybody."""
CONNECTIONS_EACH: Final = 50
"""At once, of one address: a provider reports a campaign's bounces from few."""
PEERS: Final = 10_000
"""Addresses remembered."""


class _Bucket(Struct):
    left: float
    at: float


class Limits:
    """Counts by a peer's address; ``clock`` is monotonic."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        mails_a_minute: float = MAILS_A_MINUTE,
        burst: float = BURST,
        connections: int = CONNECTIONS,
        each: int = CONNECTIONS_EACH,
    ) -> None:
        self._clock = clock
        self._rate = mails_a_minute / 60
        self._burst = burst
        self._connections = connections
        self._each = each
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._open: Counter[str] = Counter()

    def enter(self, peer: str) -> bool:
        """Count a connection, which must ``leave`` again; False: one too many, and not counted."""
        if self._open.total() >= self._connections or self._open[peer] >= self._each:
            return False
        self._open[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """Forget a connection."""
        self._open[peer] -= 1
        if self._open[peer] <= 0:
            del self._open[peer]

    def mail(self, peer: str) -> bool:
        """Count a mail; False: too many of late."""
        now = self._clock()
        bucket = self._buckets.setdefault(peer, _Bucket(self._burst, now))
        self._buckets.move_to_end(peer)
        bucket.left = min(bucket.left + (now - bucket.at) * self._rate, self._burst)
        bucket.at = now
        while len(self._buckets) > PEERS:
            self._buckets.popitem(last=False)
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True
