"""The start of an SMTP session: greeting, EHLO or HELO, TLS, AUTH (RFC 5321, RFC 3207, RFC 4954).

    connected ── 220 ──▶ EHLO ──▶ STARTTLS ──▶ EHLO ──▶ AUTH ──▶ ready
                          └─ 5xx ▶ HELO (no extensions)

Every refusal on this way is ours, not a letter's: :class:`SessionError` says at which step and in which words.
"""

import base64
import ipaddress
import ssl
from typing import Protocol

import msgspec

from mailbase.config import Relay
from mailbase.sending.outcomes import Outcome, Phase
from mailbase.sending.smtp.replies import Reply, enhanced_status


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds a server may stay silent, by step (RFC 5321 § 4.5.3.2, shortened where newsletters need no patience)."""

    connect: float = 30
    greeting: float = 60
    ehlo: float = 60
    starttls: float = 30
    auth: float = 60
    mail: float = 120
    rcpt: float = 120
    data: float = 120
    content: float = 600
    idle: float = 30
    quit: float = 3
    hold: float = 5
    """How long a letter whose content has not begun waits for a server that says nothing; then it goes another way."""


class Extensions(msgspec.Struct):
    """What the server offers (EHLO keywords)."""

    pipelining: bool = False
    eightbitmime: bool = False
    smtputf8: bool = False
    starttls: bool = False
    size_known: bool = False
    size: int = 0
    """The largest message in bytes; 0: no limit stated."""
    auth: frozenset[str] = frozenset()


class SessionError(Exception):
    """The session could not be made ready."""

    def __init__(self, phase: Phase, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.phase: Phase = phase
        self.text = text
        self.code = code

    def outcome(self, delivery_id: int) -> Outcome:
        """Return what this means for a letter that waited for the session."""
        return Outcome(delivery_id, "relay", self.code, enhanced_status(self.text), self.text, self.phase)


class Conversation(Protocol):
    """The connection as the session sees it: one command, one reply."""

    async def greeting(self, timeout: float) -> Reply:
        """Return the server's first words."""

    async def command(self, line: bytes, phase: Phase, timeout: float) -> tuple[Reply, list[str]]:
        """Send one line (without CRLF) and return the reply and its lines."""

    async def upgrade(self, context: ssl.SSLContext, host: str, timeout: float) -> None:
        """Start TLS on the connection."""


def ehlo_name(hostname: str) -> bytes:
    """Return the name to introduce ourselves by: a host name, or an address literal (RFC 5321 § 4.1.3)."""
    try:
        address = ipaddress.ip_address(hostname)
    except ValueError:
        return hostname.encode("ascii")
    return f"[{'IPv6:' if address.version == 6 else ''}{address}]".encode("ascii")


def read_extensions(lines: list[str]) -> Extensions:
    """Return what an EHLO reply offers; its first line is the server's name."""
    found = Extensions()
    mechanisms: set[str] = set()
    for line in lines[1:]:
        words = line.upper().replace("=", " ").split()
        match words:
            case ["PIPELINING", *_]:
                found.pipelining = True
            case ["8BITMIME", *_]:
                found.eightbitmime = True
            case ["SMTPUTF8", *_]:
                found.smtputf8 = True
            case ["STARTTLS", *_]:
                found.starttls = True
            case ["SIZE", *rest]:
                found.size_known = True
                found.size = (
                    int(rest[0]) if rest and rest[0].isascii() and rest[0].isdigit() and len(rest[0]) < 19 else 0
                )
            case ["AUTH", *rest]:
                mechanisms.update(rest)
            case _:
                pass
    found.auth = frozenset(mechanisms)
    return found


async def open_session(
    line: Conversation, relay: Relay, *, hostname: str, context: ssl.SSLContext, timeouts: Timeouts
) -> Extensions:
    """Bring a fresh connection to the point where letters can be sent; return what the server offers.

    Raises:
        SessionError: the server refused, or does not offer what the settings ask for.

    """
    extensions = await greet(line, hostname, timeouts)
    if relay.tls == "starttls":
        if not extensions.starttls:
            raise SessionError(
                "starttls", "the server does not offer STARTTLS; say tls=none or tls=implicit if that is right"
            )
        reply, _ = await line.command(b"STARTTLS", "starttls", timeouts.starttls)
        if reply.code != 220:
            raise SessionError("starttls", reply.text, reply.code)
        await line.upgrade(context, relay.host, timeouts.starttls)
        # What was offered in clear text may have been written by anyone (RFC 3207 § 4.2).
        extensions = await hello(line, hostname, timeouts)
    if relay.user is not None:
        await _log_in(line, relay.user, relay.password or "", extensions, timeouts)
    return extensions


async def greet(line: Conversation, hostname: str, timeouts: Timeouts) -> Extensions:
    """Wait for the greeting and introduce ourselves; return what the server offers.

    Raises:
        SessionError: it refused.

    """
    greeting = await line.greeting(timeouts.greeting)
    if greeting.code != 220:
        raise SessionError("greeting", greeting.text or "the server refused the connection", greeting.code)
    return await hello(line, hostname, timeouts)


async def hello(line: Conversation, hostname: str, timeouts: Timeouts) -> Extensions:
    """Introduce ourselves (again, once TLS has begun).

    Raises:
        SessionError: it refused.

    """
    name = ehlo_name(hostname)
    reply, lines = await line.command(b"EHLO " + name, "ehlo", timeouts.ehlo)
    if reply.good:
        return read_extensions(lines)
    if reply.code in {500, 501, 502, 504, 550}:
        reply, _ = await line.command(b"HELO " + name, "ehlo", timeouts.ehlo)
        if reply.good:
            return Extensions()
    raise SessionError("ehlo", reply.text or "the server refused EHLO", reply.code)


async def _log_in(line: Conversation, user: str, password: str, extensions: Extensions, timeouts: Timeouts) -> None:
    if "PLAIN" in extensions.auth:
        secret = base64.b64encode(b"\0" + user.encode() + b"\0" + password.encode())
        reply, _ = await line.command(b"AUTH PLAIN " + secret, "auth", timeouts.auth)
    elif "LOGIN" in extensions.auth:
        reply, _ = await line.command(b"AUTH LOGIN", "auth", timeouts.auth)
        for answer in (user, password):
            if reply.code != 334:
                break
            reply, _ = await line.command(base64.b64encode(answer.encode()), "auth", timeouts.auth)
    else:
        offered = ", ".join(sorted(extensions.auth)) or "none"
        raise SessionError(
            "auth", f"the server offers no way to log in that is known here (PLAIN, LOGIN); offered: {offered}"
        )
    if reply.code != 235:
        raise SessionError("auth", reply.text or "the server refused the login", reply.code)
