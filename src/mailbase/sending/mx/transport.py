"""Straight to the recipients' servers: finds the way to each letter's domain, and puts it into its provider's lane.

    letter ─▶ route of its domain (DNS, MTA-STS) ─▶ lane of its provider ─▶ site (one set of MX hosts) ─▶ connection

One provider's trouble is its own: its letters come back as ``deferred``, the others' go on. ``full()`` names those whose letters
had better stay in the queue. One :class:`MxTransport` has one source address; ``urgent()`` is the same way out for letters that
wait for no campaign.
"""

import asyncio
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from random import Random
from typing import Final

from mailbase.config import Mx
from mailbase.db import Pool
from mailbase.outgoing import Outgoing
from mailbase.sending.mx.dial import BrokenTls, Dialer
from mailbase.sending.mx.lanes import HOLD, LOOK, Lane
from mailbase.sending.mx.mta_sts import Policies
from mailbase.sending.mx.mx_dns import Answers, MxResolver
from mailbase.sending.mx.parts import Parts
from mailbase.sending.mx.route import NoRoute, Route, find
from mailbase.sending.mx.sites import Ticket
from mailbase.sending.outcomes import Envelope, OnOutcome
from mailbase.sending.providers.providers import SITE, Limits, Providers
from mailbase.sending.providers.table import OTHER
from mailbase.sending.smtp.connections import Told
from mailbase.sending.smtp.conversation import Connection
from mailbase.sending.smtp.session import Timeouts

CAPACITY: Final = 100
URGENT_CAPACITY: Final = 20
SWEEP: Final = 0.5
KEPT: Final = 60.0
"""Seconds a route is kept at most: its parts are kept as long as they last."""
LANE_KEPT: Final = 600.0
MOST_ROUTES: Final = 20_000


class Directory:
    """What all ways out of a worker know of the world: DNS, policies, whose TLS is broken."""

    def __init__(
        self, resolver: MxResolver, pool: Pool | None, *, allow_private: bool, context: ssl.SSLContext | None = None
    ) -> None:
        """``context`` verifies the policies' servers (default: the system's authorities)."""
        self.answers = Answers(resolver, pool)
        self.outgoing = Outgoing(allow_private=allow_private, resolver=self._addresses, context=context)
        self.policies = Policies(self.answers, self.outgoing, pool)
        self.broken = BrokenTls(pool)

    async def _addresses(self, host: str, port: int) -> list[tuple[str, int]]:
        """Resolve a policy's host with our own resolver."""
        try:
            return [(address, port) for address in (await self.answers.get(host, "ADDRESS")).answers]
        except Exception as error:
            raise OSError(str(error)) from error


class MxTransport:
    """A :class:`~mailbase.sending.dispatch.transport.Transport` to everybody's mail hosts."""

    def __init__(
        self, mx: Mx, directory: Directory, providers: Providers, *, hostname: str, source: str | None = None, parts: Parts | None = None,
        allow_private: bool = False, context: ssl.SSLContext | None = None, timeouts: Timeouts | None = None, random: Random | None = None,
    ) -> None:  # fmt: skip
        """``hostname`` is our EHLO name; ``parts``: ours of every provider's limits; ``context`` verifies where that is demanded."""
        versions = {ip_address(one).version for one in mx.sources}
        self.name = f"mx:{source}" if source else "mx"
        self.timeouts = timeouts or Timeouts()
        self.parts = parts or Parts()
        self.closed = False
        self.dialer = Dialer(
            directory.answers, directory.broken, hostname=hostname, port=mx.port, source=source, private=allow_private,
            context=context or ssl.create_default_context(), timeouts=self.timeouts, random=random or Random(),  # noqa: S311  (spreads load)
            mixed=len(versions) > 1,
        )  # fmt: skip
        self._directory = directory
        self._providers = providers
        self._hostname = hostname
        self._lanes: dict[str, Lane] = {}
        self._routes: dict[str, tuple[float, Route | NoRoute]] = {}
        self._finding: dict[str, list[Ticket]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._others: frozenset[str] = frozenset()
        self._looked = float("-inf")
        self._users = 1
        self._gone = asyncio.Event()

    @property
    def capacity(self) -> int:
        """Letters in hand at once: enough for many lanes, few enough for a crash to leave in doubt."""
        return CAPACITY

    def limits(self, lane: str) -> Limits:
        """Return what holds for a lane now, for all workers together."""
        return self._providers.limits(lane, self.name)

    def gone(self) -> None:
        """Note that a connection has ended."""
        self._gone.set()

    def full(self) -> frozenset[str]:
        """Return the providers that can take no more letters now: suspended, paused, with enough that wait, or other workers'."""
        busy = {name for name, lane in self._lanes.items() if lane.full}
        return self._providers.suspended(self.name) | self.others() | busy

    def others(self) -> frozenset[str]:
        """Return the providers all of whose connections are other workers', or another source's; ``other``: those of every site, too."""
        now = asyncio.get_running_loop().time()
        if now - self._looked >= LOOK:
            self._looked = now
            names = (*self._providers.names, OTHER)
            self._others = frozenset(name for name in names if not self.parts.of(self.limits(name).connections))
        return self._others | {name for name, lane in self._lanes.items() if lane.foreign}

    def urgent(self) -> "Urgent":
        """Return the same way out for letters that go before all others."""
        self._users += 1
        return Urgent(self)

    async def hand_over(self, batch: Sequence[Envelope], on_outcome: OnOutcome, *, urgent: bool = False) -> None:
        """Send the batch; return once every letter has had its outcome.

        Cancelled, letters still waiting here are reported as ``not_sent``; those on a connection are reported later.
        """
        if not batch:
            return
        told = Told(len(batch), on_outcome, lambda outcome: outcome)
        deadline = asyncio.get_running_loop().time() + HOLD
        for envelope in batch:
            self._take(Ticket(envelope, told, deadline, urgent))
        self._keep_sweeping()
        try:
            await told.done
        except asyncio.CancelledError:
            mine = [
                ticket
                for lane in self._lanes.values()
                for site in lane.sites.values()
                for ticket in site.withdraw(told)
            ]
            for domain, tickets in self._finding.items():
                mine += [ticket for ticket in tickets if ticket.told is told]
                self._finding[domain] = [ticket for ticket in tickets if ticket.told is not told]
            for ticket in mine:
                ticket.give_back()
            raise

    async def close(self) -> None:
        """Say goodbye on every connection, once all who use this way out have closed it; drop those that do not answer soon."""
        self._users -= 1
        if self._users > 0 or self.closed:
            return
        self.closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes.values():
            lane.close()
        try:
            async with asyncio.timeout(self.timeouts.quit):
                while self._connections():
                    self._gone.clear()
                    await self._gone.wait()
        except TimeoutError:
            for connection in self._connections():
                connection.abort()
            await asyncio.sleep(0)

    def _connections(self) -> list[Connection]:
        return [one for lane in self._lanes.values() for site in lane.sites.values() for one in site.all_connections]

    # The way to a domain.

    def _take(self, ticket: Ticket) -> None:
        if self.closed:
            ticket.give_back()
            return
        domain = ticket.envelope.rcpt_to.rpartition("@")[2].lower().rstrip(".")
        known = self._routes.get(domain)
        if known is not None and known[0] > asyncio.get_running_loop().time():
            self._place(ticket, domain, known[1])
        elif domain in self._finding:
            self._finding[domain].append(ticket)
        else:
            self._finding[domain] = [ticket]
            task = asyncio.create_task(self._find(domain))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _find(self, domain: str) -> None:
        loop = asyncio.get_running_loop()
        found: Route | NoRoute
        try:
            found = await find(self._directory.answers, self._directory.policies, domain, hostname=self._hostname)
        except NoRoute as none:
            found = none
        except asyncio.CancelledError:
            for ticket in self._finding.pop(domain, ()):
                ticket.give_back()
            raise
        except Exception as error:  # noqa: BLE001  (whatever it was: the letters must hear of it)
            found = NoRoute("deferred", "4.4.3", "dns", f"the way to {domain} could not be found: {error}")
        if len(self._routes) >= MOST_ROUTES:
            self._routes.clear()
        until = loop.time() + KEPT
        self._routes[domain] = (min(until, found.expires) if isinstance(found, Route) else until, found)
        for ticket in self._finding.pop(domain, ()):
            self._place(ticket, domain, found)

    def _place(self, ticket: Ticket, domain: str, found: Route | NoRoute) -> None:
        if isinstance(found, NoRoute):
            ticket.told.report(found.outcome(ticket.envelope))
            return
        name = ticket.envelope.provider
        if name == "other":
            name = ticket.provider = self._providers.group_of([host.name for host in found.hosts], domain)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name, self)
        lane.offer(ticket, found)
        self._keep_sweeping()

    # Letters that wait too long.

    def _keep_sweeping(self) -> None:
        if self._sweeping is None and not self.closed:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        now = asyncio.get_running_loop().time()
        for name, lane in list(self._lanes.items()):
            lane.sweep(now)
            if (
                not lane.sites
                and not lane.paused
                and not lane.foreign
                and now - lane.used > (LANE_KEPT if not name.startswith(SITE) else KEPT)
            ):
                del self._lanes[name]
        if self._lanes:
            self._keep_sweeping()


class Urgent:
    """The same way out, for letters that go before all others, and wait for no room: only what other workers must send is left to them."""

    def __init__(self, transport: MxTransport) -> None:
        self._transport = transport
        self.name = transport.name

    @property
    def capacity(self) -> int:
        """How many letters it can have in hand at once."""
        return URGENT_CAPACITY

    def full(self) -> frozenset[str]:
        """Return the providers whose letters are other workers'."""
        return self._transport.others()

    async def hand_over(self, batch: Sequence[Envelope], on_outcome: OnOutcome) -> None:
        """Send the batch; return once every letter has had its outcome."""
        await self._transport.hand_over(batch, on_outcome, urgent=True)

    async def close(self) -> None:
        """Say that nobody uses it any more from here."""
        await self._transport.close()
