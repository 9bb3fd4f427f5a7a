"""One worker process: the lanes, the fan-out, the sweep, jobs and timers, until SIGTERM or SIGINT.

    LISTEN ─wakes─▶ crew: for each way out a campaigns lane, mostly a messages lane, a recorder ─▶ PostgreSQL
    beside them: campaigns' fan-out · sweep · mail that came in · jobs and timers · arq (a restartable side task)

A signal stops the intake first, then lets what is on its way arrive (12 s at most), then writes the last outcomes down.
Any number of workers may run; each is given its share of the relay's connections (a few of them for messages alone), or of what
each provider takes.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import tempfile
from collections.abc import Awaitable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg

from mailbase import queue
from mailbase.campaigns import fan_out
from mailbase.config import Settings
from mailbase.db import CONNECTION_ERRORS, Pool, connect, open_pool
from mailbase.jobs import arq_worker, cron, runner
from mailbase.pages.words import SPOKEN, Languages, with_files
from mailbase.sending.deliveries import counters, journal
from mailbase.sending.deliveries.journal import Journal
from mailbase.sending.deliveries.leases import LEASE
from mailbase.sending.dispatch import messages, sweep
from mailbase.sending.dispatch.compose import Streams
from mailbase.sending.dispatch.crew import Crew
from mailbase.sending.dispatch.lanes import CampaignSource, MessageSource
from mailbase.sending.dns import DnsResolver
from mailbase.sending.mx.parts import Parts
from mailbase.sending.providers import lookup as provider_lookup
from mailbase.sending.providers import providers
from mailbase.sending.providers.lookup import DnsHosts
from mailbase.sending.providers.providers import Providers
from mailbase.sending.relays import relays
from mailbase.sending.signing.signers import Signers
from mailbase.signals import reading
from mailbase.tokens import Tokens
from mailbase.vault import CANARY, ERASURE_KEY, Vault, open_secret

log = logging.getLogger("mailbase.worker")

CONNECTIONS: Final = 10
LETTERS_CONNECTIONS: Final = 40  # three or four a way out; opened when they are needed
AGAIN: Final = 0.5
FAN_OUT_EVERY: Final = 2.0
LAST_WORDS: Final = 3.0
BEAT: Final = Path(tempfile.gettempdir(), "mailbase-worker")
BEAT_EVERY: Final = 5.0


async def run(settings: Settings, *, lease: timedelta = LEASE) -> None:
    """Run until a signal comes. ``lease`` is how long a worker that went away keeps its letters.

    Raises:
        Unavailable: the database does not answer at the start.
        ConfigError: the secret key is not the one the stored secrets were encrypted under.

    """
    SPOKEN.set(Languages(with_files(settings.data_dir / "locales")))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    url = settings.database_url or ""
    silence = max(lease.total_seconds() / 3, 1)
    async with (
        open_pool(url, size=CONNECTIONS, name="mailbase worker") as pool,
        open_pool(url, size=LETTERS_CONNECTIONS, name="mailbase letters", by_index=True, silence=silence) as letters,
    ):
        vault = Vault(settings.secret_keys)
        async with pool.acquire() as db:
            await open_secret(db, vault, CANARY)
            erasure_key = await open_secret(db, vault, ERASURE_KEY)
        # What is here now stays: the collector need not walk through all the modules again and again.
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        await Worker(settings, pool, letters, vault, erasure_key, stop, lease=lease).run()


class Worker:
    """The parts of one worker, wired together."""

    def __init__(  # noqa: PLR0917  (the parts it is wired from)
        self,
        settings: Settings,
        pool: Pool,
        letters: Pool,
        vault: Vault,
        erasure_key: bytes,
        stop: asyncio.Event,
        *,
        lease: timedelta = LEASE,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._erasure_key = erasure_key
        self._stop = stop
        self._slot = counters.own_slot()
        self._jobs_wake = asyncio.Event()
        self._campaigns_wake = asyncio.Event()
        signers = Signers(vault)
        tokens = self._tokens = Tokens(settings.secret_keys)
        self._resolver = DnsResolver(settings.dns_servers)
        streams = Streams(public_url=settings.public_url, tokens=tokens)
        self._providers = Providers()
        self._parts = Parts(settings.workers)
        self._journals = settings.data_dir / journal.FOLDER
        self._journal = Journal(self._journals)
        self._crew = Crew(
            settings,
            pool,
            letters,
            vault,
            campaigns=partial(
                CampaignSource, streams, signers, to_outbox=settings.to_outbox, slot=self._slot, lease=lease
            ),
            messages=partial(
                MessageSource, signers, erasure_key, lease=lease, tokens=tokens, to_outbox=settings.to_outbox
            ),
            providers=self._providers,
            slot=self._slot,
            lease=lease,
            journal=self._journal,
            parts=self._parts,
        )

    async def run(self) -> None:
        """Work until the stop, then come to rest."""
        stop = self._stop
        # Not a letter before each provider's limits are known, and who is suspended.
        async with self._pool.acquire() as db:
            await self._providers.load(db)
        sending = asyncio.create_task(self._crew.run(stop))
        side = [
            self._listen(),
            self._beat(),
            self._fan_out(),
            sweep.run(
                self._pool, slot=self._slot, to_outbox=self._settings.to_outbox, stop=stop, journals=self._journals
            ),
            runner.run(self._pool, self._erasure_key, stop=stop, wake=self._jobs_wake),
            cron.run(self._pool, stop=stop),
            self._providers.run(self._pool, stop=stop),
            provider_lookup.run(self._pool, DnsHosts(self._settings.dns_servers), stop=stop),
            reading.run(self._pool, self._tokens, self._resolver, slot=self._slot, stop=stop),
        ]
        if self._settings.mx is not None:
            side.append(self._parts.run(self._settings.database_url or "", stop=stop))
        if self._settings.redis_url:
            side.append(arq_worker.run(self._pool, self._erasure_key, self._settings.redis_url, stop=stop))
        sides = [asyncio.create_task(self._until_stop(part)) for part in side]
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, sending}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await asyncio.gather(sending, return_exceptions=True)
        _, late = await asyncio.wait(sides, timeout=LAST_WORDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*sides, return_exceptions=True)
        self._journal.close()
        sending.result()

    async def _until_stop(self, part: Awaitable[Any]) -> None:
        """Run a side task; the worker ends when one breaks, so that its supervisor starts a sound one."""
        try:
            await part
        except Exception:
            log.exception("a part of the worker broke")
            self._stop.set()

    async def _beat(self) -> None:
        """Touch a file while the event loop turns: a container's health check looks at its age."""
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                BEAT.touch()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), BEAT_EVERY)

    async def _listen(self) -> None:
        """Hear of new letters and jobs; a lost connection is opened again, and everything looked at once."""
        while not self._stop.is_set():
            try:
                db = await connect(self._settings.database_url or "")
            except (*CONNECTION_ERRORS, asyncpg.PostgresError):
                await _pause(self._stop, AGAIN)
                continue
            lost = asyncio.Event()
            db.add_termination_listener(lambda _connection, lost=lost: lost.set())
            try:
                await db.add_listener(messages.CHANNEL, self._on_letters)
                await db.add_listener(queue.CHANNEL, self._on_jobs)
                await db.add_listener(providers.CHANNEL, self._on_providers)
                await db.add_listener(relays.CHANNEL, self._on_relays)
                self._on_letters()
                self._on_jobs()
                await _first(self._stop, lost)
            except (*CONNECTION_ERRORS, asyncpg.PostgresError):
                await _pause(self._stop, AGAIN)
            finally:
                with contextlib.suppress(*CONNECTION_ERRORS, asyncpg.PostgresError):
                    await db.close(timeout=1)

    def _on_letters(self, *heard: object) -> None:
        self._crew.wake()
        if heard[-1:] != (messages.ALONE,):
            self._campaigns_wake.set()

    def _on_jobs(self, *_arguments: object) -> None:
        self._jobs_wake.set()

    def _on_relays(self, *_arguments: object) -> None:
        self._crew.look()

    def _on_providers(self, *_arguments: object) -> None:
        self._providers.wake()

    async def _fan_out(self) -> None:
        """Start due campaigns, create their letters, finish them."""
        while not self._stop.is_set():
            self._campaigns_wake.clear()
            try:
                more = await fan_out.step(self._pool)
            except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
                log.warning("campaigns wait for the database: %s", error)
                more = False
            if not more:
                await _first(self._stop, self._campaigns_wake, seconds=FAN_OUT_EVERY)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    await _first(stop, seconds=seconds)


async def _first(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until one of the events is set, or for so long."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
