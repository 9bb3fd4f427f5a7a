"""The crew: a recorder and two lanes for each way out of one worker; relays with names are hired and let go as the table says.

    table of relays ──look──▶ hire ─▶ at work ─▶ let go (its letters come to rest first)
                                       └─ each campaign letter belongs to one way out, by its id (relay_shares)

Letters that wait for no campaign go over whichever way with a share takes them first. The way that the settings name is always there; it
shares with the named relays as one of weight 1. The outbox shares with nobody: while letters go there, named relays rest.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

import asyncpg

from mailbase.config import Settings
from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.errors import ConfigError
from mailbase.sending.deliveries.journal import Journal
from mailbase.sending.deliveries.recorder import Recorder
from mailbase.sending.dispatch.dispatcher import Dispatcher
from mailbase.sending.dispatch.lanes import CampaignSource, MessageSource
from mailbase.sending.dispatch.transport import Transport, parts_of, ways
from mailbase.sending.labels import labels_for
from mailbase.sending.mx.parts import Parts
from mailbase.sending.providers.providers import Providers
from mailbase.sending.relays import egress, relays
from mailbase.sending.relays import shares as relay_shares
from mailbase.sending.relays.relays import NamedRelay
from mailbase.sending.relays.shares import Interval
from mailbase.sending.smtp.connections import SmtpTransport
from mailbase.vault import Vault

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 2.0
LAST_WORDS: Final = 3.0
OWN_WEIGHT: Final = 1

STOPPED = """
SELECT name FROM egress WHERE stopped_until > now()
"""


Shares = dict[str, tuple[Interval, ...]]
"""By way out, the slots of its letters."""


class Way:
    """One way out at work."""

    def __init__(self, name: str, recorder: Recorder, lanes: Sequence[Dispatcher]) -> None:
        self.name = name
        self._recorder = recorder
        self._lanes = lanes
        self._sending: list[asyncio.Task[None]] = []
        self._recording: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._recording = asyncio.create_task(self._recorder.run())
        self._sending = [asyncio.create_task(lane.run()) for lane in self._lanes]

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What runs until :meth:`leave`, unless it breaks."""
        return [*self._sending, *([self._recording] if self._recording else [])]

    def wake(self) -> None:
        """Look for letters now."""
        for lane in self._lanes:
            lane.wake()

    async def leave(self, seconds: float = LAST_WORDS) -> bool:
        """Take nothing new, let what is on its way arrive, write the last outcomes down; tell whether all of them could be.

        Where the database does not answer just now the rest is written when it does, until :meth:`end`.
        """
        for lane in self._lanes:
            lane.stop()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._recorder.flush(seconds)
        if self._recorder.waiting:
            return False
        await self.end()
        return True

    @property
    def waiting(self) -> int:
        """How many outcomes are not committed yet."""
        return self._recorder.waiting

    async def end(self) -> None:
        """Write nothing more."""
        with contextlib.suppress(*CONNECTION_ERRORS, asyncpg.PostgresError):
            for lane in self._lanes:
                await lane.close()
        if self._recording is not None:
            self._recording.cancel()
            await asyncio.gather(self._recording, return_exceptions=True)


class Crew:
    """All ways out of one worker."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        letters: Pool,
        vault: Vault,
        *,
        campaigns: Callable[..., CampaignSource],
        messages: Callable[..., MessageSource],
        providers: Providers,
        slot: int,
        lease: timedelta,
        journal: Journal | None = None,
        parts: Parts | None = None,
    ) -> None:
        """``pool`` is for looking at relays, ``letters`` for everything about letters; the sources lack only their way out."""
        self._settings = settings
        self._pool = pool
        self._letters = letters
        self._vault = vault
        self._sources = (campaigns, messages)
        self._providers = providers
        self._slot = slot
        self._lease = lease
        self._journal = journal or Journal(None)
        self._parts = parts
        self._ways: dict[str, Way] = {}
        self._late: list[Way] = []
        """Let go of while their last outcomes could not be written."""
        self._named: dict[str, NamedRelay] = {}
        self._shares: Shares | None = None
        self._diverted: dict[str, Shares] = {}
        """By provider, where some ways send it nothing now and others do."""
        self._look_now = asyncio.Event()
        self._own: list[str] = []
        self._seen = float("-inf")

    def wake(self) -> None:
        """Look for letters now."""
        for way in self._ways.values():
            way.wake()

    def look(self) -> None:
        """Look at the table of relays now."""
        self._look_now.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop``, then come to rest; what breaks is raised."""
        out = ways(self._settings, self._pool, self._providers, parts=self._parts)
        host = self._settings.smtp.host if self._settings.smtp else None
        for way in out.campaigns:
            self._hire(way.name, [out.messages[way.name]] if way.name in out.messages else [], way, host)
        self._own = list(self._ways)
        try:
            while not stop.is_set():
                self._look_now.clear()
                await self._look()
                await self._wait(stop)
        finally:
            tasks = [task for way in self._ways.values() for task in way.tasks]
            broken = [task for task in tasks if task.done()]
            leaving = [*self._ways.values(), *self._late]
            await asyncio.gather(*(way.leave() for way in leaving))
            await asyncio.gather(*(way.end() for way in leaving))
        for task in broken:
            task.result()

    async def _wait(self, stop: asyncio.Event) -> None:
        events = [asyncio.create_task(event.wait()) for event in (stop, self._look_now)]
        working = [task for way in self._ways.values() for task in way.tasks]
        try:
            await asyncio.wait([*events, *working], timeout=LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()
        if any(task.done() for task in working):
            stop.set()

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        unsaid = now - self._seen >= egress.SEE_EVERY
        if self._settings.to_outbox and not unsaid:
            return
        try:
            async with self._pool.acquire() as db:
                if unsaid:
                    await egress.see(db, self._own)
                    self._seen = now
                if self._settings.to_outbox:
                    return
                named = {
                    one.name: one for one in await relays.list_enabled(db, self._vault) if one.name not in self._own
                }
                # Before anybody new begins: a spare gets nothing meanwhile.
                self._shares, self._diverted = await self._divide(db, named)
                await self._follow(named)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            log.warning("relays are looked at later: %s", error)
        except ConfigError as error:
            # A password that does not open: the other ways out must not end for it.
            log.error("the relays stay as they were: %s", error)  # noqa: TRY400  (it says it all)

    async def _follow(self, named: dict[str, NamedRelay]) -> None:
        """Hire new relays; let go those that are gone, disabled, or no longer the same."""
        gone = [name for name, known in self._named.items() if name not in named or named[name].smtp != known.smtp]
        leaving = [self._ways.pop(name) for name in gone]
        await asyncio.gather(*(way.leave() for way in leaving))
        leaving += self._late
        await asyncio.gather(*(way.end() for way in leaving if not way.waiting))
        self._late = [way for way in leaving if way.waiting]
        for name, relay in named.items():
            if name not in self._ways:
                # The system's authorities take a third of a second to read: not for a relay without TLS.
                smtp = relay.smtp
                context = None if smtp.tls == "none" else ssl.create_default_context()
                few, many = (
                    SmtpTransport(part, hostname=self._settings.hostname, context=context, name=name)
                    for part in parts_of(smtp, self._settings.workers)
                )
                self._hire(name, [few], many, smtp.host)
        self._named = named

    def _hire(self, name: str, for_messages: Sequence[Transport], for_campaigns: Transport, host: str | None) -> None:
        campaigns, messages = (partial(source, egress=name, labels=labels_for(host)) for source in self._sources)
        chance = random.Random()  # noqa: S311  (spreads retries)
        recorder = Recorder(self._letters, name, slot=self._slot, random=chance, journal=self._journal)
        lane = partial(Dispatcher, self._letters, recorder=recorder, journal=self._journal, lease=self._lease)
        source = campaigns(
            full=partial(self._closed, for_campaigns), own=partial(self._own_share, name), diverted=partial(self._diverted_to, name)
        )  # fmt: skip
        rests = partial(self._rests, name)
        lanes = [lane(messages(full=transport.full, rests=rests), transport) for transport in for_messages]
        lanes.append(lane(source, for_campaigns, first=lanes[0] if lanes else None))
        way = self._ways[name] = Way(name, recorder, lanes)
        way.start()

    def _closed(self, way: Transport) -> frozenset[str]:
        """Return the providers that get nothing over a way out now: it has no room for them, or they are suspended."""
        return way.full() | self._providers.suspended(way.name)

    def _own_share(self, name: str) -> Sequence[Interval] | None:
        return None if self._shares is None else self._shares.get(name, ())

    def _diverted_to(self, name: str) -> dict[str, Sequence[Interval]]:
        return {provider: shares.get(name, ()) for provider, shares in self._diverted.items()}

    def _rests(self, name: str) -> bool:
        return self._own_share(name) == ()

    async def _divide(self, db: Connection, named: dict[str, NamedRelay]) -> tuple[Shares | None, dict[str, Shares]]:
        """Return each way's slots, and those of providers that are suspended over some; None where there are no named relays."""
        if not named:
            return None, {}
        weights = dict.fromkeys(self._own, OWN_WEIGHT) | {name: relay.weight for name, relay in named.items()}
        stopped = {row["name"] for row in await db.fetch(STOPPED)}
        there = weights.keys() - stopped
        suspended = {name: self._providers.suspended(name) for name in there}
        diverted = relay_shares.diverted(weights, there, suspended)
        shares = self._together(relay_shares.share(weights, there))
        return shares, {provider: self._together(divided) for provider, divided in diverted.items()}

    def _together(self, divided: Shares) -> Shares:
        # Source addresses take what is theirs together: not each can connect to every host.
        ours = [part for name in self._own for part in divided.get(name, ())]
        return divided | {name: tuple(ours) for name in self._own if name in divided}
