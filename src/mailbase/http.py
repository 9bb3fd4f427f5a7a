"""What both HTTP doors share: the request's transaction, its id, the visitor's address, the shape of a problem.

One request, one transaction: opened when a handler first asks for ``db``, committed when the answer's head is about to leave
(a failed commit is a 500, never a false 200), rolled back when that answer is a refusal.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, Literal

import msgspec
from asyncpg.transaction import Transaction

from mailbase.db import Connection, Pool
from mailbase.errors import FieldError

PROBLEM: Final = "application/problem+json"
WORK: Final = "mailbase_work"
REQUEST_ID: Final = "mailbase_request_id"
HEAD: Final = "mailbase_head"
SLASH: Final = "\ue000"
"""Stands for an encoded slash while a path is routed: ``%2F`` belongs to a segment and does not end it."""

Scope = Any
"""An ASGI connection scope."""


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An error as RFC 9457 wants it, with our stable ``code`` and the request's id."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: Sequence[FieldError] = ()


class Work:
    """The one transaction of a request."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Any = None
        self._transaction: Transaction | None = None
        self._after: list[Callable[[], Awaitable[None]]] = []
        self.keep = False
        """True commits even when the answer is a refusal, because the refusal itself is stored."""

    async def connection(self) -> Connection:
        """Return the connection, in a transaction from the first call on."""
        if self._connection is None:
            connection: Any = await self._pool.acquire(timeout=30)
            transaction = connection.transaction()
            try:
                await transaction.start()
            except BaseException:
                await self._pool.release(connection)
                raise
            self._connection, self._transaction = connection, transaction
        held: Connection = self._connection
        return held

    def after_commit(self, call: Callable[[], Awaitable[None]]) -> None:
        """Run ``call`` once what was written can be seen by others; not at all if it is rolled back."""
        self._after.append(call)

    async def finish(self, *, commit: bool) -> None:
        """End the transaction and give the connection back; a second call does nothing."""
        connection, self._connection = self._connection, None
        calls, self._after = self._after, []
        if connection is None or self._transaction is None:
            return
        try:
            if commit or self.keep:
                await self._transaction.commit()
            else:
                await self._transaction.rollback()
        finally:
            await self._pool.release(connection)
        if commit:
            for call in calls:
                await call()


def work_of(scope: Scope) -> Work:
    """Return the request's transaction."""
    work: Work = scope["state"][WORK]
    return work


def request_id(scope: Scope) -> str:
    """Return the id that the answer, its header and the log share."""
    found: str = scope.get("state", {}).get(REQUEST_ID, "")
    return found


def asked_head(scope: Scope) -> bool:
    """Tell whether the client asked HEAD; the handler saw GET, and the body is dropped."""
    return bool(scope.get("state", {}).get(HEAD))


def header(scope: Scope, name: bytes) -> str:
    """Return a request header's first value, or an empty string."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def client_ip(scope: Scope, trusted: Sequence[IPv4Network | IPv6Network]) -> IPv4Address | IPv6Address | None:
    """Return whose request this is: the right-most hop of ``X-Forwarded-For`` that is not a trusted proxy.

    The header counts only when the peer itself is trusted. None: the peer has no address (a socket file).
    """
    client = scope.get("client")
    peer = _address(client[0]) if client else None
    if peer is None or not _within(peer, trusted):
        return peer
    hops = [
        hop
        for key, value in scope["headers"]
        if key == b"x-forwarded-for"
        for hop in value.decode("latin-1").split(",")
    ]
    for hop in reversed(hops):
        address = _address(hop)
        if address is None:
            break
        peer = address
        if not _within(address, trusted):
            break
    return peer


def is_local(scope: Scope) -> bool:
    """Tell whether the request comes straight from this machine, by a local name, through no proxy."""
    client = scope.get("client")
    peer = _address(client[0]) if client else None
    host = re.sub(r":\d+$", "", header(scope, b"host")).strip("[]").lower()
    forwarded = any(
        key in {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"}
        for key, _ in scope["headers"]
    )
    return peer is not None and peer.is_loopback and host in {"localhost", "127.0.0.1", "::1"} and not forwarded


def preferred(scope: Scope) -> Literal["html", "json"]:
    """Return what the client would rather read: browsers name ``text/html``, programs do not."""
    if header(scope, b"content-type").partition(";")[0].strip().lower() == "application/json":
        return "json"
    for item in header(scope, b"accept").lower().split(","):
        name = item.partition(";")[0].strip()
        if name in {"text/html", "application/xhtml+xml"}:
            return "html"
        if name in {"application/json", PROBLEM}:
            return "json"
    return "json"


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    bare = text.strip()
    match = re.fullmatch(r"\[([^\]]+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+", bare)
    if match:
        bare = match[1] or match[2]
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _within(address: IPv4Address | IPv6Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)
