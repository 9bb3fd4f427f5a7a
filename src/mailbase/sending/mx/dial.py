"""One connection to a mail site: its hosts in order, their addresses, and as much TLS as can be had.

    host ─▶ address ─▶ connect ─▶ greeting, EHLO ─▶ STARTTLS ─▶ EHLO ─▶ ready
     ▲         ▲          │             │               └─ fails ─▶ remembered for 3 days, and clear text, where that is allowed
     │         └──────────┘             ├─ 421, 4.7.x, 5.7.x ─▶ it is us they refuse: the next host would be abuse
     └──────────────────────────────────┴─ any other refusal ─▶ the next host

An address that cannot be reached is left alone for 2 minutes, one that says nothing for 15; after three of those the rest are left for
the next time. Certificates are looked at only where a policy or the provider's row says so: whoever could be in between could also
take TLS away. What was remembered of a host's TLS is forgotten when it insists on it.
"""

import asyncio
import errno
import re
import ssl
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from random import Random
from typing import Final, Literal

import asyncpg
from msgspec import Struct

from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.outgoing import is_public
from mailbase.sending.dns import Unanswered
from mailbase.sending.mx.mx_dns import Answers
from mailbase.sending.mx.route import Host, Route
from mailbase.sending.smtp.conversation import Connection
from mailbase.sending.smtp.replies import enhanced_status
from mailbase.sending.smtp.session import Extensions, SessionError, Timeouts, greet, hello

UNREACHABLE: Final = 120.0
SILENT: Final = 900.0
BROKEN_TLS: Final = 3 * 86_400.0
LOOK_AGAIN: Final = 60.0
"""Seconds between two looks at what other workers found out about a host's TLS."""
MOST: Final = 20_000
MOST_ADDRESSES: Final = 4
"""Addresses of one host that are tried, of both kinds where it has both."""
MOST_SILENT: Final = 3
"""Addresses whose silence one connection waits for."""

_US: Final = re.compile(
    r"too many|too (fast|quickly|much)|rate.?limit|limit exceeded|throttl|slow down|block.?list|black.?list|reputation|trop de connexions",
    re.IGNORECASE,
)

Demand = Literal["any", "required", "verified"]
"""Clear text is all right; TLS; TLS with a certificate that is right for the host."""


class TurnedAway(Exception):
    """The server does not want us now, whichever of its hosts we ask."""

    def __init__(self, error: SessionError) -> None:
        super().__init__(error.text)
        self.error = error


class Unreached(Exception):
    """No host of the site could be brought to the point where letters are taken."""

    def __init__(self, reason: str, error: SessionError) -> None:
        super().__init__(error.text)
        self.reason = reason
        self.error = error


class Silent(SessionError):
    """Nobody said anything there in their time."""


class Elsewhere(Exception):
    """Its hosts have no address of our source's kind, and another source of ours is of theirs."""


class NotOurs(Exception):
    """The source address is not one of this machine's."""


class Open(Struct):
    """A connection that is ready, and what its server offers."""

    connection: Connection
    extensions: Extensions


KNOWN = """
SELECT extract(epoch FROM until - now())::float8 AS left FROM mx_broken_tls WHERE host = $1 AND until > now()
"""

REMEMBER = """
INSERT INTO mx_broken_tls (host, until, reason) VALUES ($1, now() + make_interval(secs => $2), $3)
ON CONFLICT (host) DO UPDATE SET until = excluded.until, reason = excluded.reason
"""

FORGET = """
DELETE FROM mx_broken_tls WHERE host = ANY ($1::text[])
"""


class BrokenTls:
    """The hosts whose TLS does not work, known to all workers."""

    def __init__(self, pool: Pool | None = None) -> None:
        self._pool = pool
        self._until: dict[str, float] = {}
        self._looked: dict[str, float] = {}

    async def known(self, host: str) -> bool:
        """Tell whether a host's TLS was found broken within the last three days."""
        now = asyncio.get_running_loop().time()
        if self._until.get(host, now) > now:
            return True
        if self._pool is None or self._looked.get(host, now) > now:
            return False
        if len(self._looked) >= MOST:
            self._looked.clear()
        self._looked[host] = now + LOOK_AGAIN
        try:
            async with self._pool.acquire() as db:
                left: float | None = await db.fetchval(KNOWN, host)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError):
            return False
        if left is not None:
            self._until[host] = now + left
        return left is not None

    def remembered(self, host: str) -> bool:
        """Tell whether we write to a host in clear text because its TLS was found broken."""
        return self._until.get(host, 0.0) > asyncio.get_running_loop().time()

    async def forget(self, hosts: Sequence[str]) -> None:
        """Try their TLS again."""
        for host in hosts:
            self._until.pop(host, None)
        if self._pool is None:
            return
        try:
            async with self._pool.acquire() as db:
                await db.execute(FORGET, hosts)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError):
            return

    async def remember(self, host: str, reason: str) -> None:
        """Note that a host offers TLS and cannot do it."""
        if len(self._until) >= MOST:
            self._until.clear()
        self._until[host] = asyncio.get_running_loop().time() + BROKEN_TLS
        if self._pool is None:
            return
        try:
            async with self._pool.acquire() as db:
                await db.execute(REMEMBER, host, BROKEN_TLS, reason.replace("\0", "")[:200])
        except (*CONNECTION_ERRORS, asyncpg.PostgresError):
            return


def opportunistic() -> ssl.SSLContext:
    """Return a context that encrypts and believes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Dialer:
    """Opens connections from one source address, and remembers where that is no use."""

    def __init__(
        self, answers: Answers, broken: BrokenTls, *, hostname: str, port: int, source: str | None, private: bool,
        context: ssl.SSLContext, timeouts: Timeouts, random: Random, mixed: bool = False,
    ) -> None:  # fmt: skip
        """``context`` verifies, where that is demanded; ``private``: mail may go to private addresses; ``mixed``: there are sources of both kinds."""
        self._answers = answers
        self._broken = broken
        self._hostname = hostname
        self._port = port
        self._source = source
        self._private = private
        self._mixed = mixed
        self._verifying = context
        self._believing = opportunistic()
        self._timeouts = timeouts
        self._random = random
        self._avoid: dict[str, tuple[float, str]] = {}

    async def open(self, route: Route, demand: Demand, make: Callable[[], Connection]) -> Open:
        """Return a connection to the first host of a site that takes us.

        Raises:
            TurnedAway: one said that it is us.
            Unreached: none could be used.
            Elsewhere: none has an address of our kind.
            NotOurs: the source address is not one of this machine's.

        """
        trouble = SessionError("connect", "none of its mail hosts has an address that mail can be sent to")
        reason = "unreachable"
        silent = 0
        ours = theirs = False
        for host in self._in_order(route.hosts):
            if silent >= MOST_SILENT:
                break
            try:
                addresses, others = await self._addresses(host.name)
                ours, theirs = ours or bool(addresses), theirs or others
            except Unanswered as error:
                trouble, reason = SessionError("connect", f"DNS does not answer about {host.name}: {error}"), "dns"
                continue
            for address in addresses:
                try:
                    return await self._open(host.name, address, demand, make)
                except SessionError as error:
                    if _is_us(error):
                        raise TurnedAway(error) from None
                    trouble, reason = error, "tls" if error.phase == "starttls" else "unreachable"
                    silent += isinstance(error, Silent)
                    if silent >= MOST_SILENT:
                        break
                    if error.phase in {"greeting", "ehlo"} and error.code:
                        break  # the host has spoken, its other addresses would say the same
        if theirs and not ours and self._mixed:
            raise Elsewhere
        raise Unreached("mta_sts" if reason == "tls" and route.verified else reason, trouble)

    def in_clear(self, route: Route) -> list[str]:
        """Return the hosts of a site that we write to in clear text because their TLS was found broken."""
        return [host.name for host in route.hosts if self._broken.remembered(host.name)]

    async def try_tls_again(self, hosts: Sequence[str]) -> None:
        """Believe that it was a bad moment."""
        await self._broken.forget(hosts)

    def _in_order(self, hosts: Sequence[Host]) -> list[Host]:
        """Return hosts by preference, equal ones in any order (RFC 5321 § 5.1)."""
        return sorted(hosts, key=lambda host: (host.preference, self._random.random()))

    async def _addresses(self, host: str) -> tuple[list[str], bool]:
        """Return a host's addresses as we try them, and whether it has others, to which our source cannot connect."""
        found = [ip_address(text) for text in (await self._answers.get(host, "ADDRESS")).answers]
        found = [address for address in found if self._private or is_public(address)]
        whole = len(found)
        if self._source is not None:
            version = ip_address(self._source).version
            found = [address for address in found if address.version == version]
        others = len(found) < whole
        self._random.shuffle(found)
        # IPv4 first: its reputation and reverse name are what most senders have looked after. The last place is for the other kind.
        found.sort(key=lambda address: address.version)
        tried = (*found[: MOST_ADDRESSES - 1], *found[MOST_ADDRESSES - 1 :][-1:])
        return [str(address) for address in tried], others

    async def _open(self, host: str, address: str, demand: Demand, make: Callable[[], Connection]) -> Open:
        now = asyncio.get_running_loop().time()
        avoided = self._avoid.get(address)
        if avoided is not None and avoided[0] > now:
            raise SessionError("connect", avoided[1])
        clear = demand == "any" and await self._broken.known(host)
        opened = await self._session(host, address, demand, make, clear=clear)
        if opened is None:  # TLS broke down: once more without, if that is allowed
            opened = await self._session(host, address, demand, make, clear=True)
        if opened is None:
            raise SessionError("starttls", f"{host} cannot do TLS")
        self._avoid.pop(address, None)
        return opened

    async def _session(
        self, host: str, address: str, demand: Demand, make: Callable[[], Connection], *, clear: bool
    ) -> Open | None:
        """Return a session, or None when it can be had in clear text only, and may."""
        connection = make()
        try:
            await self._connect(connection, host, address)
            extensions = await self._greet(connection, host, address)
            if not clear and (extensions.starttls or demand != "any"):
                after = await self._encrypt(connection, host, demand, extensions)
                if after is None:
                    connection.abort()
                    return None
                extensions = after
        except BaseException:
            connection.abort()
            raise
        return Open(connection, extensions)

    async def _connect(self, connection: Connection, host: str, address: str) -> None:
        where = f"{host} ({address})"
        local = (self._source, 0) if self._source is not None else None
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, address, self._port, local_addr=local
                )
        except TimeoutError:
            trouble = Silent("connect", f"{where} does not answer within {self._timeouts.connect:g} seconds")
            self._remember(address, SILENT, trouble)
            raise trouble from None
        except OSError as error:
            if local is not None and errno.EADDRNOTAVAIL in {error.errno, *_causes(error)}:
                raise NotOurs(f"{self._source} is not an address of this machine") from None
            refused = SessionError("connect", f"cannot connect to {where}: {error.strerror or error}")
            self._remember(address, UNREACHABLE, refused)
            raise refused from None

    async def _greet(self, connection: Connection, host: str, address: str) -> Extensions:
        began = asyncio.get_running_loop().time()
        try:
            return await greet(connection, self._hostname, self._timeouts)
        except SessionError as error:
            waited = asyncio.get_running_loop().time() - began
            if error.code or waited < min(self._timeouts.greeting, self._timeouts.ehlo):
                raise
            trouble = Silent(error.phase, f"{host} ({address}): {error.text}")
            self._remember(address, SILENT, trouble)
            raise trouble from None

    def _remember(self, address: str, seconds: float, trouble: SessionError) -> None:
        if len(self._avoid) >= MOST:
            self._avoid.clear()
        self._avoid[address] = (asyncio.get_running_loop().time() + seconds, trouble.text)

    async def _encrypt(
        self, connection: Connection, host: str, demand: Demand, extensions: Extensions
    ) -> Extensions | None:
        """Start TLS; return what the server offers then, or None when it cannot do it and need not."""
        if not extensions.starttls:
            raise SessionError("starttls", f"{host} offers no TLS, and letters to it must have it")
        reply, _ = await connection.command(b"STARTTLS", "starttls", self._timeouts.starttls)
        if reply.code != 220:
            if demand == "any" and reply.code != 421:
                return extensions  # the session goes on as it was
            raise SessionError("starttls", reply.text, reply.code)
        context = self._verifying if demand == "verified" else self._believing
        try:
            await connection.upgrade(context, host, self._timeouts.starttls)
        except (OSError, SessionError, ValueError) as error:  # ValueError: of a name that no certificate could have
            words = _words(error)
            if demand != "any":
                raise SessionError("starttls", f"{host}: {words}") from None
            await self._broken.remember(host, words)
            return None
        # What was offered in clear text may have been written by anyone (RFC 3207 § 4.2).
        return await hello(connection, self._hostname, self._timeouts)


def _is_us(error: SessionError) -> bool:
    """Tell a refusal of who we are, or how much we send, from a host that is out of order."""
    if error.code == 421:
        return True
    if error.phase == "starttls":  # 454 4.7.0: there is no TLS just now (RFC 3207 § 4)
        return False
    status = enhanced_status(error.text)
    return error.code >= 400 and ((status is not None and status[1:4] == ".7.") or bool(_US.search(error.text)))


def _causes(error: OSError) -> list[int | None]:
    """Return the error numbers behind one that asyncio put together."""
    text = str(error)
    return [errno.EADDRNOTAVAIL] if "Cannot assign requested address" in text else []


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    return str(error) or type(error).__name__
