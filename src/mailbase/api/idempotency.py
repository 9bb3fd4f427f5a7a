"""``Idempotency-Key``: the same POST again within 24 hours gets the stored answer, and nothing is done twice.

The row is written in the transaction of the work itself, so there is never one without the other. The work runs in a savepoint:
a refusal rolls it back and is still stored. A twin that arrives meanwhile does not wait, it is told so (409).
The body's fingerprint is taken while it streams past, so a file of a gigabyte costs no memory; a multipart boundary,
which clients choose at random, does not count.
Answers are encrypted where they are kept: a new API key's secret is in one of them, and nowhere else.
"""

import hashlib
import re
from typing import Any, Final

from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Send

from mailbase.audience import answers, keys
from mailbase.audience.answers import Stored
from mailbase.errors import Conflict, Malformed, Unauthorized
from mailbase.http import header, work_of

HEADER: Final = b"idempotency-key"
LONGEST: Final = 255
NOT_STORED: Final = {401, 413, 429}
KEPT_HEADERS: Final = {b"content-type", b"location", b"www-authenticate"}
SEALED: Final = b"\0"
"""What an encrypted body begins with; those of versions before are plain JSON until their day is over."""


class Authenticate(ASGIMiddleware):
    """Finds the key behind ``Authorization: Bearer mb_…`` before anything else is looked at."""

    async def handle(self, scope: Any, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Put the key into the scope, where ``request.auth`` finds it.

        Raises:
            Unauthorized: there is no key, or not one of ours.

        """
        if scope["type"] == "http" and scope["method"] != "OPTIONS":
            scheme, _, secret = header(scope, b"authorization").strip().partition(" ")
            if scheme.lower() != "bearer" or not secret:
                raise Unauthorized
            async with scope["litestar_app"].state.pool.acquire(timeout=30) as db:
                scope["auth"] = await keys.authenticate(db, secret.strip())
        await next_app(scope, receive, send)


class Fingerprint:
    """A hash of method, path, query and body, fed piece by piece."""

    def __init__(self, scope: Any) -> None:
        self._hash = hashlib.sha256()
        self._boundary = b""
        self._tail = b""
        kind = header(scope, b"content-type")
        if match := re.search(r'multipart/.*boundary="?([^";]{1,200})', kind, re.IGNORECASE):
            self._boundary = match[1].encode("latin-1")
            kind = "multipart"
        for part in (
            scope.get("method", ""),
            scope["path"],
            scope["query_string"].decode("latin-1"),
            kind.partition(";")[0],
        ):
            self._hash.update(part.encode() + b"\0")

    def update(self, chunk: bytes) -> None:
        """Add a piece of the body."""
        if not self._boundary:
            self._hash.update(chunk)
            return
        *whole, rest = (self._tail + chunk).split(self._boundary)
        for piece in whole:
            self._hash.update(piece)
        keep = len(self._boundary) - 1
        cut = max(0, len(rest) - keep)
        self._hash.update(rest[:cut])
        self._tail = rest[cut:]

    def finish(self) -> bytes:
        """Return the fingerprint of everything."""
        self._hash.update(self._tail)
        self._tail = b""
        return self._hash.digest()


class _Reading:
    """Passes the body on and remembers its fingerprint."""

    def __init__(self, scope: Any, receive: Receive) -> None:
        self._receive = receive
        self._fingerprint = Fingerprint(scope)
        self.complete = False

    async def receive(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.request":
            self._fingerprint.update(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        return message

    async def finish(self) -> bytes | None:
        """Read what the handler left unread; None: the client went away."""
        while not self.complete:
            if (await self.receive())["type"] != "http.request":
                return None
        return self._fingerprint.finish()


class Idempotency(ASGIMiddleware):
    """Gives every keyed POST with the header its one answer."""

    async def handle(self, scope: Any, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Replay, refuse, or run and store.

        Raises:
            Malformed: the key is empty, too long, or not printable ASCII.
            Conflict: a twin is still running, or the key was used for something else.

        """
        key = next((value.decode("latin-1") for name, value in scope["headers"] if name == HEADER), None)
        if scope["type"] != "http" or scope["method"] != "POST" or key is None:
            await next_app(scope, receive, send)
            return
        if not re.fullmatch(r"[\x20-\x7e]{1,255}", key):
            raise Malformed(f"An Idempotency-Key has 1 to {LONGEST} printable characters.", code="bad_idempotency_key")
        async with scope[
            "litestar_app"
        ].state.idempotent:  # leaves half of the pool to handlers with connections of their own
            await self._once(scope, receive, send, next_app, key)

    async def _once(self, scope: Any, receive: Receive, send: Send, next_app: ASGIApp, key: str) -> None:
        work = work_of(scope)
        db = await work.connection()
        key_id = scope["auth"].id
        if not await answers.lock(db, key_id, key):
            raise Conflict("A request with this Idempotency-Key is still running.", code="idempotency_key_in_use")
        reading = _Reading(scope, receive)
        if (stored := await answers.find(db, key_id, key)) is not None:
            if await reading.finish() != stored.fingerprint:
                raise Conflict("This Idempotency-Key was used for another request.", code="idempotency_key_reused")
            body = _opened(scope, stored.body, key_id, key)
            await _answer(send, stored.status, [*stored.headers, ("idempotent-replayed", "true")], body)
            return
        messages: list[Message] = []

        async def hold(message: Message) -> None:
            messages.append(message)

        savepoint = db.transaction()
        await savepoint.start()
        await next_app(scope, reading.receive, hold)
        status, headers, body = _assemble(messages)
        if status < 400:
            await savepoint.commit()
        else:
            await savepoint.rollback()
        if status < 500 and status not in NOT_STORED and (fingerprint := await reading.finish()) is not None:
            kept = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in headers
                if name.lower() in KEPT_HEADERS
            ]
            await answers.store(db, key_id, key, Stored(fingerprint, status, kept, _sealed(scope, body, key_id, key)))
            work.keep = True
        for message in messages:
            await send(message)


def _sealed(scope: Any, body: bytes, key_id: int, key: str) -> bytes:
    blob: bytes = scope["litestar_app"].state.vault.encrypt(body, f"answer:{key_id}:{key}")
    return SEALED + blob


def _opened(scope: Any, body: bytes, key_id: int, key: str) -> bytes:
    if not body.startswith(SEALED):
        return body
    opened: bytes = scope["litestar_app"].state.vault.decrypt(body[1:], f"answer:{key_id}:{key}")
    return opened


def _assemble(messages: list[Message]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    start: Any = messages[0]
    body = b"".join(message.get("body", b"") for message in messages[1:] if message["type"] == "http.response.body")
    return start["status"], list(start["headers"]), body


async def _answer(send: Send, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    raw.append((b"content-length", str(len(body)).encode()))
    start: Any = {"type": "http.response.start", "status": status, "headers": raw}
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})
