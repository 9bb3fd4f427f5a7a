"""Tracking: the pixel and the redirect of every link. Both answer once the hit is committed, and change nothing else.

They run for every letter that is looked at, so the application calls them before everything else, by the first letters of
the path. HEAD is answered like GET and counted as a machine's.
"""

import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from litestar.datastructures import State
from litestar.exceptions import MethodNotAllowedException

from mailbase.db import Pool
from mailbase.errors import NotFound
from mailbase.http import Scope, client_ip
from mailbase.signals import readers, verdicts
from mailbase.signals.hits import Hit, Place
from mailbase.signals.record import Recorder


class Answer(NamedTuple):
    """What is sent, to HEAD without the body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Door(NamedTuple):
    """A handler, and the name it is measured by."""

    answer: Callable[[State, Scope], Awaitable[Answer]]
    name: str


GIF: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
"""One transparent point, 43 bytes."""
USER_AGENT: Final = 512
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_PURPOSES: Final = frozenset({b"purpose", b"sec-purpose", b"x-purpose", b"x-moz"})
_UNTRACKED: Final = frozenset({b"sec-gpc", b"dnt"})
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


async def pixel(state: State, scope: Scope) -> Answer:
    """Count an open and answer one transparent point."""
    await _record(state, scope, 0, scope["path"][len("/o/") :])
    return Answer(200, _PIXEL, GIF)


async def link(state: State, scope: Scope) -> Answer:
    """Count a click and send the reader on, to the stored URL and nowhere else."""
    number, _, token = scope["path"][len("/l/") :].partition("/")
    if not _NUMBER.fullmatch(number):
        raise NotFound
    place = await _record(state, scope, int(number), token)
    url = await _destination(state.pool, place) if place else None
    if url is None:
        raise NotFound
    return Answer(302, [(b"location", url.encode()), (b"content-length", b"0"), *_COMMON], b"")


async def _record(state: State, scope: Scope, n: int, token: str) -> Place | None:
    method = scope["method"]
    if method not in {"GET", "HEAD"}:
        raise MethodNotAllowedException(headers={"Allow": "GET, HEAD"})
    numbers = state.tokens.read("letter", token, 1)
    if numbers is None:
        raise NotFound
    agent = b""
    purposes: list[bytes] = []
    untracked = False
    for name, value in scope["headers"]:
        if name == b"user-agent":
            agent = value
        elif name in _PURPOSES:
            purposes.append(value)
        elif name in _UNTRACKED and value == b"1":
            untracked = True
    user_agent = agent[:USER_AGENT].decode("latin-1").replace("\0", "")
    address = client_ip(scope, state.settings.trusted_proxies)
    judgement = verdicts.judge(
        "click" if n else "open",
        head=method == "HEAD",
        purpose=b" ".join(purposes).decode("latin-1"),
        user_agent=user_agent,
        address=address,
    )
    if untracked:  # judged like anybody's, and counted; where it came from is not kept
        address, user_agent = None, ""
    recorder: Recorder = state.recorder
    return await recorder.record(Hit(numbers[0], n, judgement, address, user_agent, recorder.clock()))


async def _destination(pool: Pool, place: Place) -> str | None:
    if not readers.personal(place):
        return readers.destination(place, None)
    async with pool.acquire() as db:
        return readers.destination(place, await readers.person(db, place.subscriber_id))


DOORS: Final = {"/o/": Door(pixel, "/o/{token}"), "/l/": Door(link, "/l/{n}/{token}")}
"""By the first three letters of the path."""
