"""Tracking: the pixel and the redirect of every link. Both answer once the hit is committed, and change nothing else.

These are plain ASGI handlers: they run for every letter that is looked at, and need neither injection nor a transaction
of their own. HEAD is answered like GET and counted as a machine's.
"""

from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any, Final

from litestar import asgi
from litestar.datastructures import State
from litestar.exceptions import MethodNotAllowedException
from litestar.types import HTTPScope, Receive

from mailbase.db import Pool
from mailbase.errors import NotFound
from mailbase.http import asked_head, client_ip
from mailbase.signals import readers, verdicts
from mailbase.signals.hits import Hit, Place
from mailbase.signals.record import Recorder

GIF: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""One transparent point, 43 bytes."""
LARGEST_LINK: Final = 2**31 - 1
USER_AGENT: Final = 512
HTTPSend = Callable[[dict[str, Any]], Awaitable[None]]
_PURPOSES: Final = frozenset({b"purpose", b"sec-purpose", b"x-purpose", b"x-moz"})
_COMMON: Final = [
    (b"cache-control", b"no-store, private"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-robots-tag", b"noindex, nofollow"),
    (b"referrer-policy", b"no-referrer"),
]
_PIXEL: Final = [
    (b"content-type", b"image/gif"),
    (b"content-length", str(len(GIF)).encode()),
    (b"cross-origin-resource-policy", b"cross-origin"),
    *_COMMON,
]


@asgi("/o/{token:str}", copy_scope=False)
async def pixel(scope: HTTPScope, receive: Receive, send: HTTPSend) -> None:  # noqa: ARG001 — ASGI's shape
    """Count an open and answer one transparent point."""
    await _record(scope, 0)
    await send({"type": "http.response.start", "status": 200, "headers": _PIXEL})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else GIF, "more_body": False})


@asgi("/l/{n:int}/{token:str}", copy_scope=False)
async def link(scope: HTTPScope, receive: Receive, send: HTTPSend) -> None:  # noqa: ARG001 — ASGI's shape
    """Count a click and send the reader on, to the stored URL and nowhere else."""
    n = int(scope["path_params"]["n"])
    if not 0 < n <= LARGEST_LINK:
        raise NotFound
    place = await _record(scope, n)
    url = await _destination(_state(scope).pool, place) if place else None
    if url is None:
        raise NotFound
    headers = [(b"location", url.encode()), (b"content-length", b"0"), *_COMMON]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _state(scope: HTTPScope) -> State:
    return scope["litestar_app"].state


async def _record(scope: HTTPScope, n: int) -> Place | None:
    if scope["method"] not in {"GET", "HEAD"}:
        raise MethodNotAllowedException(headers={"Allow": "GET, HEAD"})
    state = _state(scope)
    numbers = state.tokens.read("letter", scope["path_params"]["token"], 1)
    if numbers is None:
        raise NotFound
    agent = b""
    purposes: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"user-agent":
            agent = value
        elif name in _PURPOSES:
            purposes.append(value)
    user_agent = agent[:USER_AGENT].decode("latin-1").replace("\0", "")
    address = client_ip(scope, state.settings.trusted_proxies)
    judgement = verdicts.judge(
        "click" if n else "open",
        head=scope["method"] == "HEAD" or asked_head(scope),
        purpose=b" ".join(purposes).decode("latin-1"),
        user_agent=user_agent,
        address=address,
    )
    recorder: Recorder = state.recorder
    return await recorder.record(Hit(numbers[0], n, judgement, address, user_agent, recorder.clock()))


async def _destination(pool: Pool, place: Place) -> str | None:
    if not readers.personal(place):
        return readers.destination(place, None)
    async with pool.acquire() as db:
        return readers.destination(place, await readers.person(db, place.subscriber_id))


ROUTES: Final = [pixel, link]
