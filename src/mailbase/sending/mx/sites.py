"""A mail site: one set of MX hosts, the letters that wait for it and the connections to it.

What a connection reports passes through here: a refusal of us, which a relay would make everybody's trouble, is this provider's
alone, and its letters come back as ``deferred`` and ``free``.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from mailbase.sending.mx.dial import Demand, Dialer, Elsewhere, NotOurs, Open, TurnedAway, Unreached
from mailbase.sending.mx.parts import Parts
from mailbase.sending.mx.route import Route
from mailbase.sending.outcomes import Envelope, Outcome
from mailbase.sending.providers.providers import Limits
from mailbase.sending.smtp.conversation import Connection, Job
from mailbase.sending.smtp.replies import enhanced_status
from mailbase.sending.smtp.session import SessionError, Timeouts

log = logging.getLogger(__name__)

AWAY: Final = 30.0
"""Seconds until a site none of whose hosts could be used is tried again; its addresses are remembered for longer."""


_INSISTS: Final = re.compile(r"starttls|\btls\b|encrypt", re.IGNORECASE)


class Told(Protocol):
    """Whom to tell what became of a letter."""

    def report(self, outcome: Outcome) -> None:
        """Take an outcome."""


class Ticket(Struct, eq=False):
    """A letter in a lane: what the connection reports goes through its site, which learns from it."""

    envelope: Envelope
    told: Told
    deadline: float
    """The loop's time at which it goes back if its turn has not come."""
    urgent: bool = False
    site: "Site | None" = None
    provider: str | None = None
    """Who stands behind its domain, where that was found out only here."""

    def report(self, outcome: Outcome) -> None:
        """Take the connection's outcome."""
        if self.site is not None:
            outcome = self.site.judged(outcome)
        outcome.provider = self.provider
        self.told.report(outcome)

    def give_back(self) -> None:
        """Send the letter back: everything stops before its turn came."""
        why = "stopped before its turn came"
        self.told.report(Outcome(self.envelope.delivery_id, "not_sent", 0, None, why, "connect"))

    def defer(self, reason: str, why: str, seconds: float | None, *, free: bool, code: int = 0) -> None:
        """Send the letter back: nothing was asked about it."""
        self.told.report(
            Outcome(
                self.envelope.delivery_id, "deferred", code, enhanced_status(why), why, "connect",
                retry_after=None if seconds is None else max(int(seconds) + 1, 1), reason=reason, free=free, provider=self.provider,
            )
        )  # fmt: skip


class House(Protocol):
    """What all lanes of a way out share."""

    dialer: Dialer
    timeouts: Timeouts
    parts: Parts
    closed: bool

    def limits(self, lane: str) -> Limits:
        """Return what holds for a lane now, for all workers together."""

    def gone(self) -> None:
        """Note that a connection has ended."""


class Keeper(Protocol):
    """The lane, as its sites see it."""

    house: House

    @property
    def limits(self) -> Limits:
        """What holds for this worker."""

    @property
    def paused(self) -> float:
        """Seconds until the provider is asked again; 0: now."""

    def may_send(self) -> bool:
        """Take leave to send one letter, as the pace allows."""

    def not_sent(self) -> None:
        """Give leave back."""

    def crowded(self, site: "Site") -> bool:
        """Whether another site waits for the connection this one does not need, or there are too many."""

    def yields(self, site: "Site") -> bool:
        """Whether a connection of this site must go, whatever waits for it."""

    def serve(self) -> None:
        """Wake and open connections for what waits."""

    def good(self) -> None:
        """Note a letter the provider decided about."""

    def setback(self) -> None:
        """Note that it does not like the pace."""

    def turned_away(self, error: SessionError) -> None:
        """Note that it refused us."""

    def pause(self, why: str, code: int, asked: int | None = None) -> None:
        """Keep away for a while."""

    def not_from_here(self) -> None:
        """Note that another of our source addresses is the one for it."""


class Site:
    """One set of MX hosts, and the connections to it: their :class:`~mailbase.sending.smtp.conversation.Owner`."""

    def __init__(self, lane: Keeper, route: Route) -> None:
        self.lane = lane
        self.route = route
        self.slow = False
        self.away = 0.0
        """The loop's time until which none of its hosts is tried."""
        self._why: tuple[str, str, int] = ("unreachable", "", 0)
        self._urgent: deque[Job] = deque()
        self._plain: deque[Job] = deque()
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._forgetting: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Letters that wait."""
        return len(self._urgent) + len(self._plain)

    @property
    def urgent(self) -> bool:
        """Whether urgent letters wait."""
        return bool(self._urgent)

    @property
    def live(self) -> int:
        """Connections that take letters."""
        return sum(not connection.leaving for connection in self._connections)

    @property
    def opening(self) -> int:
        """Connections on their way."""
        return len(self._opening)

    @property
    def works(self) -> bool:
        """Whether a connection has carried letters and goes on."""
        return any(connection.carried and not connection.leaving for connection in self._connections)

    @property
    def all_connections(self) -> set[Connection]:
        """Those that are leaving, too."""
        return self._connections

    # Letters.

    def add(self, ticket: Ticket) -> None:
        """Take a letter."""
        if self.away > asyncio.get_running_loop().time() and not self.live:
            reason, why, code = self._why
            ticket.defer(reason, why, None, free=False, code=code)
            return
        ticket.site = self
        (self._urgent if ticket.urgent else self._plain).append(Job(ticket.envelope, ticket))
        self.lane.serve()

    def overdue(self, now: float) -> Iterator[Ticket]:
        """Take out the letters whose time to wait is over."""
        for letters in (self._urgent, self._plain):
            while letters and _ticket(letters[0]).deadline <= now:
                yield _ticket(letters.popleft())

    def empty(self) -> list[Ticket]:
        """Take all letters out."""
        found = [_ticket(job) for job in (*self._urgent, *self._plain)]
        self._urgent.clear()
        self._plain.clear()
        return found

    def withdraw(self, told: Told) -> list[Ticket]:
        """Take the letters of one batch out."""
        kept = self.empty()
        for ticket in kept:
            if ticket.told is not told:
                (self._urgent if ticket.urgent else self._plain).append(Job(ticket.envelope, ticket))
        return [ticket for ticket in kept if ticket.told is told]

    def judged(self, outcome: Outcome) -> Outcome:
        """Learn from what a connection reports, and say what it means where one provider among many said it."""
        lane = self.lane
        if outcome.code >= 400 and _INSISTS.search(outcome.reply) and (hosts := lane.house.dialer.in_clear(self.route)):
            self._try_tls_again(hosts)
            return msgspec.structs.replace(
                outcome, kind="deferred", reason="tls", free=True, retry_after=int(AWAY), bounce_class=None
            )
        if outcome.kind == "sender":
            # One of many sites: what it means for the domain the rules on replies say.
            outcome = msgspec.structs.replace(outcome, kind="refused")
        if outcome.kind == "relay":
            lane.pause(outcome.reply, outcome.code, outcome.retry_after)
            return msgspec.structs.replace(
                outcome, kind="deferred", reason="turned_away", free=True, retry_after=int(lane.paused) + 1
            )
        if outcome.code == 421:
            lane.pause(outcome.reply, 421, outcome.retry_after)
        elif outcome.kind in {"not_sent", "unknown"} or (outcome.kind == "deferred" and _about_us(outcome)):
            lane.setback()
        else:
            lane.good()
        return outcome

    def _try_tls_again(self, hosts: list[str]) -> None:
        task = asyncio.create_task(self.lane.house.dialer.try_tls_again(hosts))
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    # What a connection asks of its owner.

    def take(self) -> Job | None:
        """Return the next letter, if the pace allows one."""
        letters = self._urgent or self._plain
        return letters.popleft() if letters and not self.lane.yields(self) and self.lane.may_send() else None

    def put_back(self, job: Job) -> None:
        """Take a letter back to the front."""
        (self._urgent if _ticket(job).urgent else self._plain).appendleft(job)
        self.lane.not_sent()

    def rest(self, connection: Connection) -> None:
        """Remember an idle connection, or let it go where another site waits for its place."""
        self._idle.append(connection)
        if self.lane.house.closed or self.lane.crowded(self):
            connection.leave()

    def leave(self, connection: Connection) -> None:
        """Count a connection out; it is closing."""
        if connection in self._idle:
            self._idle.remove(connection)
        self.lane.serve()

    def gone(self, connection: Connection, trouble: SessionError | None) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if trouble is not None:
            self.lane.turned_away(trouble)
        if self.lane.house.closed:
            self._give_back()
        self.lane.house.gone()
        self.lane.serve()

    # Opening.

    def wants(self, now: float) -> bool:
        """Whether another connection would have something to do."""
        return self.waiting > self.opening and now >= self.away

    def wake(self) -> None:
        """Set idle connections to work."""
        while self.waiting and self._idle and not self.lane.paused:
            left = self.waiting
            self._idle.pop().wake()
            if self.waiting == left:
                return  # the pace allows no letter now

    def make_room(self) -> None:
        """Let an idle connection go."""
        if self._idle:
            self._idle[-1].leave()

    def start(self) -> None:
        """Open a connection."""
        task = asyncio.create_task(self._open())
        self._opening.add(task)

    async def _open(self) -> None:
        lane, house = self.lane, self.lane.house
        limits = lane.limits
        demand: Demand = "any"
        if self.route.verified or (limits.tls == "required" and limits.verify):
            demand = "verified"
        elif limits.tls == "required":
            demand = "required"
        try:
            opened = await house.dialer.open(
                self.route, demand, lambda: Connection(self, house.timeouts, limits.letters_per_connection)
            )
            self._opened()
            self._ready(opened)
        except TurnedAway as refusal:
            self._opened()
            lane.turned_away(refusal.error)
        except Unreached as failure:
            self._opened()
            self._failed(failure)
        except Elsewhere:
            self._opened()
            lane.not_from_here()
        except NotOurs as error:
            self._opened()
            for ticket in self.empty():
                ticket.told.report(Outcome(ticket.envelope.delivery_id, "relay", 0, None, str(error), "connect"))
        except Exception as error:
            # Whatever it was: the letters must hear of it, or they would come again for ever.
            log.exception("no connection to %s", self.route.hosts[0].name)
            self._opened()
            self._failed(Unreached("unreachable", SessionError("connect", f"{type(error).__name__}: {error}")))
        finally:
            self._opened()
            lane.serve()

    def _ready(self, opened: Open) -> None:
        self._connections.add(opened.connection)
        try:
            opened.connection.ready(opened.extensions)
        except SessionError as error:  # it closed as soon as it was ready
            self._connections.discard(opened.connection)
            opened.connection.abort()
            self._failed(Unreached("unreachable", error))

    def _opened(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._opening.discard(task)

    def _failed(self, failure: Unreached) -> None:
        self.lane.setback()
        error = failure.error
        now = asyncio.get_running_loop().time()
        self.away = now + AWAY
        self._why = (failure.reason, error.text, error.code)
        if self.live:
            return
        spoke = error.phase in {"greeting", "ehlo"} and error.code > 0
        for ticket in self.empty():
            if spoke:
                ticket.defer("turned_away", error.text, AWAY, free=True, code=error.code)
            else:
                ticket.defer(failure.reason, error.text, None, free=False, code=error.code)

    def _give_back(self) -> None:
        for ticket in self.empty():
            ticket.give_back()

    def close(self) -> None:
        """Stop opening, send letters back, say goodbye."""
        for task in self._opening:
            task.cancel()
        self._give_back()
        for connection in list(self._connections):
            connection.leave()


def _ticket(job: Job) -> Ticket:
    assert isinstance(job.batch, Ticket)  # noqa: S101  (every job here was made with one)
    return job.batch


def _about_us(outcome: Outcome) -> bool:
    """Tell a refusal of how much we send from one of this letter; greylisting is of the letter."""
    return bool(outcome.enhanced and outcome.enhanced.startswith("4.7.")) and "grey" not in outcome.reply.lower()
