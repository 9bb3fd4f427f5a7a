"""The SMTP server that takes bounces, complaints and unsubscribing mails, and nothing else.

    MAIL FROM   anybody; bounces come from nobody (``<>``)
    RCPT TO     a VERP or unsubscribe address whose MAC is right, or ``fbl@``, of a domain of ours: everything else is refused here,
                so that there is never a mail to send back
    STARTTLS    whoever wants to; nobody has to
    DATA        250 only once the mail is stored in PostgreSQL; without PostgreSQL 451, and the other side comes again

What a mail says is read later, by a worker.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import asyncpg
from aiosmtpd.smtp import SMTP, Envelope, Session, TLSSetupException

from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.inbound.certificate import Certificate
from mailbase.inbound.limits import Limits
from mailbase.sending.domains import domains, verp
from mailbase.signals import incoming
from mailbase.signals.incoming import Mail
from mailbase.tokens import Tokens

log = logging.getLogger(__name__)
# aiosmtpd writes a line for each command of a stranger that it does not know.
logging.getLogger("mail.log").setLevel(logging.ERROR)

FRESH: Final = 30.0
"""Seconds for which the list of our domains is believed."""
SILENCE: Final = 120.0
LONGEST_LINE: Final = 100_000
"""Many who report bounces keep to no limit of a line."""

BUSY: Final = "451 4.3.0 The mail cannot be stored just now, try again later"


class Handler:
    """What is taken and what is refused."""

    def __init__(self, pool: Pool, tokens: Tokens, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._tokens = tokens
        self._limits = limits
        self._clock = clock
        self._ours: frozenset[str] = frozenset()
        self._asked = -FRESH
        self._under_way = 0
        self.idle = asyncio.Event()
        """Set while no mail is being stored."""
        self.idle.set()

    async def handle_MAIL(  # noqa: N802  (aiosmtpd's names and shape)
        self, _server: SMTP, session: Session, envelope: Envelope, address: str | None, options: list[str]
    ) -> str:
        """Take any sender, until a peer has handed over too much."""
        if not self._limits.mail(_peer(session)):
            return "451 4.7.1 Too many mails from your address, try again later"
        # aiosmtpd takes an empty sender for a missing one.
        envelope.mail_from = address or "<>"
        envelope.mail_options.extend(options)
        return "250 2.1.0 Sender ok"

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take our own addresses, refuse everybody else's."""
        if len(envelope.rcpt_tos) >= incoming.MOST:
            return "452 4.5.3 Too many recipients"
        own = verp.read_address(self._tokens, address)
        try:
            known = own is not None and await self._is_ours(own.domain)
        except (*CONNECTION_ERRORS, TimeoutError, asyncpg.PostgresError):
            return BUSY
        if not known:
            return "550 5.1.1 There is no such address here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Recipient ok"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Store the mail, then take responsibility for it."""
        sender = envelope.mail_from or ""
        mail = Mail(
            source="smtp",
            data=envelope.content if isinstance(envelope.content, bytes) else b"",
            mail_from="" if sender == "<>" else sender,
            recipients=envelope.rcpt_tos,
            peer=_peer(session) or None,
        )
        self._under_way += 1
        self.idle.clear()
        try:
            async with self._pool.acquire(timeout=20) as db:
                stored = await incoming.store(db, mail)
        except (*CONNECTION_ERRORS, TimeoutError, asyncpg.PostgresError) as error:
            log.warning("a mail could not be stored: %s", error)
            return BUSY
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.idle.set()
        return f"250 2.6.0 Stored as {stored}"

    async def handle_VRFY(self, _server: SMTP, _session: Session, _envelope: Envelope, _address: str) -> str:  # noqa: N802
        """Tell nobody who is here."""
        return "252 2.5.0 Hand it over and see"

    async def _is_ours(self, domain: str) -> bool:
        if self._clock() - self._asked >= FRESH or domain not in self._ours:
            async with self._pool.acquire(timeout=10) as db:
                self._ours = await domains.inbound_names(db)
            self._asked = self._clock()
        return domain in self._ours


def _peer(session: Session) -> str:
    peer: Any = session.peer
    return str(peer[0]).partition("%")[0] if isinstance(peer, tuple) else ""


class Connection(SMTP):
    """One connection; one too many is sent away before it says anything."""

    line_length_limit = LONGEST_LINE

    def __init__(
        self, handler: Handler, limits: Limits, *, hostname: str, certificate: Certificate | None = None
    ) -> None:
        super().__init__(
            handler,
            data_size_limit=incoming.LARGEST,
            enable_SMTPUTF8=True,
            hostname=hostname,
            ident="mailbase",
            timeout=SILENCE,
            command_call_limit={"*": 1000},
            tls_context=certificate.context if certificate else None,
            loop=asyncio.get_running_loop(),
        )
        self._limits = limits
        self._entered: str | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin, or send away; begin anew once the connection is encrypted."""
        if self._entered is not None:
            super().connection_made(transport)
            return
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._limits.enter(address):
            transport.write(b"421 4.7.0 Too many connections, try again later\r\n")
            transport.close()
            return
        self._entered = address
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Make room."""
        if self._entered is None:
            return
        self._limits.leave(self._entered)
        self._entered = None
        super().connection_lost(error)

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802
        """Encrypt. A handshake that fails ends the connection, which asyncio tells only its own layer."""
        try:
            await super().smtp_STARTTLS(arg)
        except TLSSetupException:
            self.connection_lost(None)

    def eof_received(self) -> bool | None:
        """End a connection the other side ended, unless it never began."""
        return None if self._entered is None else super().eof_received()

    def data_received(self, data: bytes) -> None:
        """Pass on what arrives, unless the connection was sent away."""
        if self._entered is not None:
            super().data_received(data)


async def listen(
    handler: Handler, limits: Limits, *, host: str, port: int, hostname: str, certificate: Certificate | None = None
) -> asyncio.Server:
    """Return the listening server; without a certificate it offers no encryption.

    Raises:
        OSError: the port cannot be had.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return await asyncio.get_running_loop().create_server(
        lambda: Connection(handler, limits, hostname=hostname, certificate=certificate),
        host,
        port,
        family=family,
        backlog=256,
    )
