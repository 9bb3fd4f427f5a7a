"""Mailbox providers: who takes letters for many domains, recognised by the names of their mail hosts, and what each one takes.

The table (:mod:`~mailbase.sending.providers.table`) is data, changed through the API. A limit that a provider's row leaves out is
the row ``other``'s, which also holds for everybody who has no row: each such *site* (``site:example.net``, by the name of its
mail host) is a lane of its own.

:class:`Providers` is a process's copy of the table with the overrides in force (:mod:`~mailbase.sending.providers.overrides`) laid over it::

    providers = Providers()
    await providers.load(db)                 # and then run(pool, stop=…), woken by NOTIFY mailbase_providers
    providers.limits("google", "mx")         # what holds now, for all workers of the installation together
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec
from msgspec import Struct

from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.sending.providers import table as provider_table
from mailbase.sending.providers.table import OTHER, Provider, Tls

log = logging.getLogger(__name__)

CHANNEL: Final = "mailbase_providers"
SITE: Final = "site:"
EVERY: Final = 5.0
"""Seconds between two loads, should a notice be missed."""
LONGEST_LANE: Final = 120
LOWERED: Final = ("connections", "letters_per_connection", "letters_per_minute", "connections_per_minute")
SECOND_LEVEL: Final = frozenset({"ac", "co", "com", "edu", "gob", "gov", "gouv", "ltd", "mil", "ne", "net", "or", "org", "sch"})  # fmt: skip


class Limits(Struct, frozen=True, kw_only=True):
    """What a provider takes from one egress now, of all workers together."""

    connections: int = 10
    letters_per_connection: int = 100
    letters_per_minute: float | None = None
    connections_per_minute: float | None = None
    tls: Tls = "opportunistic"
    verify: bool = False
    """Whether the certificate must be right, where TLS is required."""
    suspended_until: datetime | None = None
    """Nothing is sent before this."""


class Share(Struct, frozen=True):
    """Which part of a warming domain's cap a provider gets: ``max(least, multiplier × cap)``."""

    multiplier: float
    least: int


def counted_as(lane: str) -> str:
    """Return the provider under which statistics count a lane: sites all count as ``other``."""
    return OTHER if lane.startswith(SITE) else lane


def site_of(host: str) -> str:
    """Return the lane of a mail host nobody's suffix fits: ``site:`` and the part of its name that looks registered.

    Two labels, or three where the second-last one is a registry's (``co.uk``): a guess that keeps a host's own machines together.
    """
    labels = host.lower().rstrip(".").split(".")
    keep = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in SECOND_LEVEL else 2
    return (SITE + ".".join(labels[-keep:]))[:LONGEST_LANE]


IN_FORCE = """
SELECT provider, egress, suspend, connections, letters_per_connection, letters_per_minute, connections_per_minute, expires_at,
    extract(epoch FROM expires_at - COALESCE($1, now()))::float8 AS seconds
FROM provider_overrides WHERE expires_at > COALESCE($1, now())
"""


class _Override(Struct, frozen=True):
    egress: str
    suspend: bool
    least: dict[str, float]
    expires_at: datetime
    until: float
    """By this process's clock, which no change of the time of day moves."""


class Providers:
    """The table with the overrides in force over it; everything but :meth:`load` and :meth:`run` is a look at memory."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` counts seconds and never jumps."""
        self._clock = clock
        self._rows: Mapping[str, Provider] = {}
        self._suffixes: Mapping[str, str] = {}
        self._overrides: Mapping[str, Sequence[_Override]] = {}
        self._wake = asyncio.Event()

    async def load(self, db: Connection, *, now: datetime | None = None) -> None:
        """Read both tables anew."""
        rows = await provider_table.everything(db)
        overrides: dict[str, list[_Override]] = {}
        asked = self._clock()
        for row in await db.fetch(IN_FORCE, now):
            least = {name: row[name] for name in LOWERED if row[name] is not None}
            overrides.setdefault(row["provider"], []).append(
                _Override(row["egress"], row["suspend"], least, row["expires_at"], asked + row["seconds"])
            )
        self._rows = {row.name: row for row in rows}
        self._suffixes = {suffix: row.name for row in rows for suffix in row.mx_suffixes}
        self._overrides = overrides

    def wake(self) -> None:
        """Load soon: a notice came."""
        self._wake.set()

    async def run(self, pool: Pool, *, stop: asyncio.Event) -> None:
        """Keep the copy fresh: at every notice, and every few seconds in any case."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._wake.clear()
                try:
                    async with pool.acquire() as db:
                        await self.load(db)
                except (*CONNECTION_ERRORS, asyncpg.PostgresError, TimeoutError) as error:
                    log.warning("providers keep their limits while the database is away: %s", error)
                waking = asyncio.create_task(self._wake.wait())
                await asyncio.wait({stopping, waking}, timeout=EVERY, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
        finally:
            stopping.cancel()

    @property
    def names(self) -> Sequence[str]:
        """The providers of the table."""
        return list(self._rows)

    def limits(self, provider: str, egress: str) -> Limits:
        """Return what holds for a provider (or a site) over one way out: the table's, or an override's that is stricter."""
        limits = self._of_table(provider)
        now = self._clock()
        ends: list[datetime] = []
        values: dict[str, Any] = {}
        for override in self._overrides.get(provider, ()):
            if override.until <= now or override.egress not in {"*", egress}:
                continue
            if override.suspend:
                ends.append(override.expires_at)
            for name, value in override.least.items():
                held = values.get(name, getattr(limits, name))
                values[name] = value if held is None else min(held, value)
        if not ends and not values:
            return limits
        return msgspec.structs.replace(limits, **values, suspended_until=max(ends, default=None))

    def _of_table(self, provider: str) -> Limits:
        other = self._rows.get(OTHER)
        row = self._rows.get(provider, other)
        if row is None or other is None:
            return Limits()

        def of(name: str) -> Any:
            value = getattr(row, name)
            return getattr(other, name) if value is None else value

        return Limits(
            connections=of("connections"),
            letters_per_connection=of("letters_per_connection"),
            letters_per_minute=of("letters_per_minute"),
            connections_per_minute=of("connections_per_minute"),
            tls=of("tls"),
            verify=of("verify_tls"),
        )

    def suspended(self, egress: str) -> frozenset[str]:
        """Return the providers nothing is sent to over this way out now."""
        now = self._clock()
        return frozenset(
            provider
            for provider, overrides in self._overrides.items()
            if any(one.suspend and one.until > now and one.egress in {"*", egress} for one in overrides)
        )

    def share(self, provider: str) -> Share:
        """Return which part of a warming domain's cap a provider (or a site) gets."""
        other = self._rows.get(OTHER)
        row = self._rows.get(provider, other)
        if row is None or row.warmup_multiplier is None:
            row = other
        if row is None:
            return Share(0.05, 20)
        return Share(row.warmup_multiplier or 0.05, row.warmup_least or 0)

    def group_of(self, mx_hosts: Sequence[str], domain: str) -> str:  # noqa: ARG002  (the domain decides nothing: its hosts do)
        """Return the provider of a domain by its mail hosts, best first; a lane of its own where no suffix fits.

        ``other``: there is no answer yet.
        """
        if not mx_hosts:
            return OTHER
        for host in mx_hosts:
            name = "." + host.lower().rstrip(".")
            # From the longest end of the name to the shortest: the first hit is the longest suffix.
            at = 0
            while at >= 0:
                if found := self._suffixes.get(name[at:]):
                    return found
                at = name.find(".", at + 1)
        return site_of(mx_hosts[0])
