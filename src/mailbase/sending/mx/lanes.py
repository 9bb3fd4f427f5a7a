"""A provider's lane and the mail sites in it: who gets the next connection, how fast letters leave, and when to keep away.

    lane (a provider: connections, letters a minute, pauses) ─┬─ site (one set of MX hosts: letters that wait, connections)
                                                              └─ site …

    open ── turned away at greeting, EHLO, MAIL, or 421 ──▶ paused (5, 10, 20 … 300 s; one connection then) ──▶ open
      └── suspended by a rule (the provider's limits say until when)

Letters never wait here for long: they are marked as being handed over, so those that do not get their turn within seconds come
back as ``deferred`` and ``free``, with when to come again.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from mailbase.sending.mx.route import Route
from mailbase.sending.mx.sites import House, Site, Ticket
from mailbase.sending.providers.providers import Limits
from mailbase.sending.smtp.concurrency import Bucket, Concurrency
from mailbase.sending.smtp.replies import wait_seconds
from mailbase.sending.smtp.session import SessionError

HOLD: Final = 5.0
"""Seconds a letter waits for its turn."""
FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 300.0
REOPEN_AFTER: Final = 2.0
LOOK: Final = 1.0
"""Seconds between two looks at a lane's limits."""
FOREIGN: Final = 600.0
"""Seconds for which what only another of our source addresses can connect to is left to that one."""
BUSY: Final = (2, 60)
"""Seconds, shortest and longest, until a letter that found no room comes again."""

FROM_ELSEWHERE: Final = "its mail hosts can be reached from another of our addresses only"


class Lane:
    """One provider, or one site nobody has a row for."""

    def __init__(self, name: str, house: House, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.name = name
        self.house = house
        self.sites: dict[tuple[bool, frozenset[str]], Site] = {}
        self.used = 0.0
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._limits = house.limits(name)
        self._looked = self._loop.time()
        self._concurrency = Concurrency(self._limits.connections)
        self._letters = Bucket(None)
        self._opens = Bucket(None)
        self._paused_until = 0.0
        self._reopen_at = 0.0
        self._failures = 0
        self._why = ("", 0)
        self._foreign_until = 0.0
        self._others_have_it = False
        """The provider takes fewer connections than there are workers, and none is ours."""
        self._surplus = False
        """There may be more connections than are allowed now."""
        self._urgent: set[Site] = set()
        """Where an urgent letter may be waiting."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._done: deque[float] = deque(maxlen=64)
        self._apply()

    # Limits.

    @property
    def limits(self) -> Limits:
        """What holds for this worker, looked at once a second."""
        now = self._loop.time()
        if now - self._looked >= LOOK:
            self._looked = now
            self._limits = self.house.limits(self.name)
            self._apply()
        return self._limits

    def _apply(self) -> None:
        limits, parts = self._limits, self.house.parts
        connections = parts.of(limits.connections)
        self._others_have_it = connections == 0
        self._concurrency.limit = connections
        self._letters.per_minute = parts.rate(limits.letters_per_minute, limits.connections)
        self._opens.per_minute = parts.rate(limits.connections_per_minute, limits.connections)
        self._opens.burst = self._concurrency.limit
        self._surplus = True

    @property
    def suspended(self) -> float:
        """Seconds until a rule lets letters out again; 0: now."""
        until = self.limits.suspended_until
        # As long as the limits say so it is, whatever our clock makes of the database's time.
        return 0.0 if until is None else max((until - self._clock()).total_seconds(), LOOK)

    @property
    def paused(self) -> float:
        """Seconds until the provider is asked again after it turned us away; 0: now."""
        return max(self._paused_until - self._loop.time(), 0.0)

    @property
    def foreign(self) -> bool:
        """Whether its letters leave from another of our source addresses."""
        return self._foreign_until > self._loop.time()

    @property
    def waiting(self) -> int:
        """Letters that wait for their turn."""
        return sum(site.waiting for site in self.sites.values())

    @property
    def open(self) -> int:
        """Connections, those being opened too."""
        return sum(site.live + site.opening for site in self.sites.values())

    @property
    def full(self) -> bool:
        """Whether more letters would only come back."""
        return bool(self.paused or self.suspended or self._others_have_it or self.foreign) or self.waiting >= max(
            self.rate * HOLD / 2, 4 * self._concurrency.limit
        )

    @property
    def rate(self) -> float:
        """Letters a second that left here lately."""
        if len(self._done) < 2:
            return 0.0
        return len(self._done) / max(self._loop.time() - self._done[0], 0.05)

    # Letters in.

    def offer(self, ticket: Ticket, route: Route) -> None:
        """Take a letter, or send it back at once."""
        self.used = self._loop.time()
        if suspended := self.suspended:
            ticket.defer("suspended", f"nothing is sent to {self.name} for now", min(suspended, 900), free=True)
        elif paused := self.paused:
            why, code = self._why
            ticket.defer("turned_away", why, paused, free=True, code=code)
        elif self._others_have_it:
            wait = 0 if ticket.urgent else BUSY[0]
            ticket.defer("busy", f"other workers have the connections to {self.name}", wait, free=True)
        elif self.foreign:
            ticket.defer("busy", FROM_ELSEWHERE, 0, free=True)
        else:
            site = self.sites.get(route.site)
            if site is None:
                site = self.sites[route.site] = Site(self, route)
            site.route = route
            if ticket.urgent:
                self._urgent.add(site)
            site.add(ticket)

    def sweep(self, now: float) -> None:
        """Send back what has waited too long."""
        again = min(max(self.waiting / max(self.rate, 0.1), BUSY[0]), BUSY[1])
        for site in list(self.sites.values()):
            for ticket in site.overdue(now):
                ticket.defer("busy", f"{self.name} takes no more letters at the moment", again, free=True)
        self.serve()
        self.sites = {
            key: site
            for key, site in self.sites.items()
            if site.all_connections or site.opening or site.waiting or site.away > now
        }

    # Connections.

    def may_send(self) -> bool:
        """Take leave to send one letter, as the pace allows."""
        now = self._loop.time()
        if self.suspended or self.paused or self._others_have_it:
            return False
        wait = self._letters.wait(now)
        if wait > 0:
            self._serve_in(wait)
            return False
        self._letters.take(now)
        return True

    def not_sent(self) -> None:
        """Give leave back."""
        self._letters.put_back()

    def crowded(self, site: "Site") -> bool:
        """Whether another site waits for the connection this one does not need, or there are too many."""
        if self.yields(site):
            return True
        return self.open >= self._concurrency.allowed and any(
            other.waiting and not other.live and not other.opening for other in self.sites.values() if other is not site
        )

    def yields(self, site: "Site") -> bool:
        """Whether a connection of this site must go, whatever waits for it: there are too many, or an urgent letter has none."""
        if self._surplus:
            self._surplus = self.open > self._concurrency.allowed
            if self._surplus:
                return True
        if not self._urgent:
            return False
        self._urgent = {one for one in self._urgent if one.urgent}
        lacking = any(not one.live and not one.opening for one in self._urgent if one is not site)
        return lacking and self.open >= self._concurrency.allowed

    def serve(self) -> None:
        """Wake idle connections, then open as many as letters and limits ask for, sites in turn."""
        if self.house.closed or self._others_have_it or not any(site.waiting for site in self.sites.values()):
            return
        if wait := max(self.suspended, self.paused):
            self._serve_in(wait)
            return
        now = self._loop.time()
        pace = self._letters.wait(now)
        if pace > 0:
            self._serve_in(pace)
        else:
            for site in list(self.sites.values()):
                site.wake()
        wanting = [site for site in self.sites.values() if site.wants(now)]
        while wanting and self.open < self._concurrency.allowed and now >= self._reopen_at:
            wait = self._opens.wait(now)
            if wait > 0:
                self._serve_in(wait)
                return
            # Whoever has no connection yet comes first.
            site = min(wanting, key=lambda site: site.live + site.opening)
            self._opens.take(now)
            site.start()
            wanting = [site for site in wanting if site.wants(now)]
        if wanting and now < self._reopen_at:
            self._serve_in(self._reopen_at - now)
        for site in self.sites.values():
            if wanting and self.crowded(site):
                site.make_room()

    def _serve_in(self, seconds: float) -> None:
        at = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        # Not asked of the handle: uvloop's has no time where that has come already.
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.serve()

    # What the provider makes of us.

    def good(self) -> None:
        """Note a letter the provider decided about."""
        self._done.append(self._loop.time())
        self._failures = 0
        if self._concurrency.success(self.open) and self.waiting:
            self.serve()

    def setback(self) -> None:
        """Note that it does not like the pace."""
        self._concurrency.setback(self._loop.time())
        self._surplus = True

    def turned_away(self, error: SessionError) -> None:
        """Note that it refused us: while other connections work it gets no more of them, else a pause."""
        self.setback()
        if any(site.works for site in self.sites.values()):
            self._reopen_at = self._loop.time() + REOPEN_AFTER
            return
        self.pause(error.text, error.code, wait_seconds(error.text))

    def pause(self, why: str, code: int, asked: int | None = None) -> None:
        """Keep away for a while that doubles each time; letters that wait go back."""
        if self.paused:
            return
        self.setback()
        seconds = max(min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE), min(asked or 0, LONGEST_PAUSE))
        self._failures = min(self._failures + 1, 10)
        self._paused_until = self._loop.time() + seconds
        self._why = (why, code)
        for site in list(self.sites.values()):
            for ticket in site.empty():
                ticket.defer("turned_away", why, seconds, free=True, code=code)

    def not_from_here(self) -> None:
        """Leave it to another of our source addresses for a while; letters that wait go back."""
        self._foreign_until = self._loop.time() + FOREIGN
        for site in list(self.sites.values()):
            for ticket in site.empty():
                ticket.defer("busy", FROM_ELSEWHERE, 0, free=True)

    # The end.

    def close(self) -> None:
        """Send letters that wait back and take no more."""
        if self._timer is not None:
            self._timer.cancel()
        for site in list(self.sites.values()):
            site.close()
