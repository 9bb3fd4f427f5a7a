"""``mailbase inbound``: the SMTP server, the mailbox's reader, or both, until SIGTERM or SIGINT."""

import asyncio
import contextlib
import signal
import time
from typing import Final

from mailbase.config import Settings
from mailbase.db import open_pool
from mailbase.errors import ConfigError
from mailbase.inbound import certificate, imap
from mailbase.inbound.limits import Limits
from mailbase.inbound.server import Handler, listen
from mailbase.tokens import Tokens

CONNECTIONS: Final = 5
GRACE: Final = 10.0
"""Seconds for mails that are being stored when the signal comes."""


async def run(settings: Settings) -> None:
    """Take mail in until a signal comes.

    Raises:
        ConfigError: there is nothing to do, or the port cannot be had.
        Unavailable: the database does not answer at the start.

    """
    if not settings.inbound_port and settings.inbound_imap_url is None:
        raise ConfigError("MAILBASE_INBOUND_PORT: a port is needed, or a mailbox in MAILBASE_INBOUND_IMAP_URL")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_pool(settings.database_url or "", size=CONNECTIONS, name="mailbase inbound") as pool:
        limits = Limits(time.monotonic)
        handler = Handler(pool, Tokens(settings.secret_keys), limits)
        server = await _listen(settings, handler, limits) if settings.inbound_port else None
        reading = None
        if settings.inbound_imap_url is not None:
            reading = asyncio.create_task(imap.run(pool, settings.inbound_imap_url, stop=stop))
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({waiting, *([reading] if reading else [])}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        if server is not None:
            server.close()
        deadline = loop.time() + GRACE
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(handler.idle.wait(), GRACE)
        if reading is not None:
            _, late = await asyncio.wait({reading}, timeout=max(0.1, deadline - loop.time()))
            for task in late:
                task.cancel()
            if not late:
                reading.result()


async def _listen(settings: Settings, handler: Handler, limits: Limits) -> asyncio.Server:
    host, port = settings.inbound_host, settings.inbound_port
    own = certificate.of(settings)
    try:
        return await listen(handler, limits, host=host, port=port, hostname=settings.hostname, certificate=own)
    except OSError as error:
        raise ConfigError(
            f"MAILBASE_INBOUND_PORT: {host}:{port} cannot be listened on ({error.strerror or error})"
        ) from None
