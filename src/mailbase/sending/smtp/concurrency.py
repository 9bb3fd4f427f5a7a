"""How many connections a server is given, and how fast: found out by trying, within limits.

Additive increase, multiplicative decrease (RFC 5681's idea): one more connection for every few letters, half of them when the
server refuses us or drops connections, and from then on one more only when each of the present ones got rid of a few. A slow server
is kept full, a troubled one left alone; while connections have nothing to do, more of them would not help.
"""

from typing import Final

START: Final = 2
LETTERS: Final = 5
"""Letters the server must have decided about before there is one more connection; after trouble, for each connection so many."""
ONE_SETBACK: Final = 1.0
"""Seconds in which several refusals are one: connections that fail together had one cause."""


class Concurrency:
    """``allowed`` connections, between 1 and ``limit``."""

    def __init__(self, limit: int, *, start: int = START) -> None:
        self._limit = max(limit, 1)
        self._allowed = min(max(start, 1), self._limit)
        self._good = 0
        self._calm_below = self._limit
        """Trouble began above so many connections."""
        self._last_setback = float("-inf")

    @property
    def allowed(self) -> int:
        """How many connections may be open now."""
        return self._allowed

    @property
    def limit(self) -> int:
        """The most there may ever be; lowering it takes connections away at once."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = max(limit, 1)
        self._allowed = min(self._allowed, self._limit)

    def success(self, used: int) -> bool:
        """Note a letter the server decided about, while ``used`` connections were open. Return whether there may be one more."""
        if self._allowed >= self._limit or used < self._allowed:
            return False
        self._good += 1
        if self._good < (LETTERS if self._allowed < self._calm_below else self._allowed * LETTERS):
            return False
        self._good = 0
        self._allowed += 1
        return True

    def idle(self) -> None:
        """Note that a connection has nothing to do."""
        self._good = 0

    def setback(self, now: float) -> None:
        """Note that the server refused us or dropped a connection."""
        self._good = 0
        if now - self._last_setback >= ONE_SETBACK:
            self._last_setback = now
            self._allowed = self._calm_below = max(self._allowed // 2, 1)


class Bucket:
    """A token bucket: ``per_minute`` tokens, at most ``burst`` at once; None: as many as you like. Times are a loop's."""

    def __init__(self, per_minute: float | None, *, burst: int = 1) -> None:
        self.per_minute = per_minute
        self.burst = max(burst, 1)
        self._full_at = float("-inf")
        """When it will be full again, if nobody takes any more."""

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token."""
        if self.per_minute is None:
            return 0.0
        every = 60 / max(self.per_minute, 1e-6)
        return max(self._full_at - now - every * (self.burst - 1), 0.0)

    def take(self, now: float) -> None:
        """Take a token; call it only when ``wait`` said 0."""
        if self.per_minute is not None:
            self._full_at = max(self._full_at, now) + 60 / max(self.per_minute, 1e-6)

    def put_back(self) -> None:
        """Give a token back that was not used."""
        if self.per_minute is not None:
            self._full_at -= 60 / max(self.per_minute, 1e-6)
