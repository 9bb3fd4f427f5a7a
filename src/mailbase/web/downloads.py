"""``/d/{token}``: what a form gave away: the file, or on to the owner's page; later, a page that sends a new link.

A file leaves as a download only: no browser shows it as a page of this origin, whatever it holds. It is read from the database in
pieces, and a part of it may be asked for (RFC 9110, section 14), so that phones can resume and players can seek.
"""

import re
from collections.abc import AsyncGenerator
from typing import Any, Final

from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import Stream

from mailbase.audience import account
from mailbase.config import Settings
from mailbase.db import Connection, Pool
from mailbase.errors import NotFound
from mailbase.http import asked_head, client_ip, header
from mailbase.optin import magnet_files, magnets
from mailbase.optin.magnet_files import Part
from mailbase.optin.magnet_types import UNKNOWN, disposition
from mailbase.optin.magnets import File, Opened
from mailbase.pages.words import words
from mailbase.signals.machines import by_agent, by_network
from mailbase.tokens import Tokens
from mailbase.web.common import REFUSALS, AnyRequest, answers, desk_of, language_of, message, page, problem, wants_json
from mailbase.web.form_tokens import posted

_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
UNSATISFIABLE: Final = Part(0, -1)

HEADERS: Final = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}

DOCUMENTED: Final = {
    206: ResponseSpec(bytes, description="The part that was asked for.", media_type=UNKNOWN, generate_examples=False),
    302: ResponseSpec(None, description="On to the stored URL.", generate_examples=False),
    416: ResponseSpec(None, description="The file has no such part.", generate_examples=False),
}


def _read(tokens: Tokens, token: str) -> tuple[int, int, int]:
    numbers = tokens.read("download", token, 3)
    if numbers is None:
        raise NotFound
    return numbers[0], numbers[1], numbers[2]


@get(
    "/d/{token:str}",
    media_type=MediaType.HTML,
    responses=DOCUMENTED,
    exception_handlers=REFUSALS,
    operation_id="download",
    tags=["Public"],
)
async def download(
    request: AnyRequest,
    db: NamedDependency[Connection],
    pool: NamedDependency[Pool],
    tokens: NamedDependency[Tokens],
    token: FromPath[str],
) -> Response[Any]:
    """Fetch a lead magnet: its file as a download (`Range` is understood), or 302 to its URL. Too late: 410 and a way to a new link."""
    form_id, subscriber_id, expires = _read(tokens, token)
    found = await magnets.opened(db, form_id, subscriber_id, expires)
    if found.expired:
        return await _expired(request, db, found, token)
    counts = not asked_head(request.scope) and not _is_machine(request)
    if found.magnet.url is not None:
        if counts:
            await magnets.count(db, form_id, subscriber_id)
        return Response(None, status_code=302, headers={**HEADERS, "Location": found.magnet.url})
    file = found.magnet.file
    if file is None:
        raise NotFound
    part = _part(request, file)
    headers = _file_headers(file, part)
    if part is UNSATISFIABLE:
        return Response(None, status_code=416, headers=headers)
    status = 200 if part is None else 206
    whole = part or Part(0, file.size - 1)
    if asked_head(request.scope):
        return Response(b"", status_code=status, headers=headers)

    async def pieces() -> AsyncGenerator[bytes]:
        left = whole.length
        async for piece in magnet_files.stream(pool, file.content_id, whole):
            left -= len(piece)
            # Before the last piece: once a client has that, it hangs up, and what runs here ends.
            if not left and counts and whole.last == file.size - 1:
                async with pool.acquire(timeout=30) as own, own.transaction():
                    await magnets.count(own, form_id, subscriber_id)
            yield piece

    return Stream(pieces(), status_code=status, headers=headers)


def _file_headers(file: File, part: Part | None) -> dict[str, str]:
    headers = {
        **HEADERS,
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(file.filename),
        "content-type": file.content_type,  # a stream would take the handler's
        "ETag": f'"{file.sha256[:32]}"',
    }
    if part is UNSATISFIABLE:
        return {**headers, "Content-Range": f"bytes */{file.size}"}
    if part is not None:
        return {
            **headers,
            "Content-Length": str(part.length),
            "Content-Range": f"bytes {part.first}-{part.last}/{file.size}",
        }
    return {**headers, "Content-Length": str(file.size)}


def _part(request: AnyRequest, file: File) -> Part | None:
    """Return what part of the file is asked for; None is all of it, also for what may be ignored: several parts, other units."""
    if (same := header(request.scope, b"if-range")) and same != f'"{file.sha256[:32]}"':
        return None
    match = _RANGE.fullmatch(header(request.scope, b"range").replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:  # the last so many bytes
        wanted = int(match[2])
        return Part(max(0, file.size - wanted), file.size - 1) if wanted else UNSATISFIABLE
    first = int(match[1])
    last = min(int(match[2]), file.size - 1) if match[2] else file.size - 1
    if match[2] and int(match[2]) < first:
        return None
    return Part(first, last) if first < file.size else UNSATISFIABLE


def _is_machine(request: AnyRequest) -> bool:
    """Tell whether a mail gateway or a chat's preview is looking, which every link is followed by."""
    settings: Settings = request.app.state.settings
    ip = client_ip(request.scope, settings.trusted_proxies)
    if ip is not None and by_network("click", ip) is not None:
        return True
    return by_agent(header(request.scope, b"user-agent")) is not None


async def _expired(request: AnyRequest, db: Connection, found: Opened, token: str) -> Response[Any]:
    if wants_json(request):
        return problem(
            request, 410, "link_expired", "This link is no longer valid; POST to it, and a new one is mailed."
        )
    language = language_of(request, found.locale, default=(await account.get(db)).locale)
    said = words(language).magnet
    return page(
        "download",
        language,
        status=410,
        token=token,
        title=said.expired_title,
        brand=found.form_title,
        text=said.expired_text.format(title=found.magnet.title),
    )


@post(
    "/d/{token:str}",
    status_code=200,
    media_type=MediaType.HTML,
    responses=answers(202, html=False),
    exception_handlers=REFUSALS,
    operation_id="ask_for_download",
    tags=["Public"],
)
async def ask_again(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens], token: FromPath[str]
) -> Response[Any]:
    """Mail a new link to the person the old one was for; the answer is the same when that was done a moment ago."""
    return await _ask_again(request, db, _read(tokens, token))


@post(
    "/d",
    status_code=200,
    media_type=MediaType.HTML,
    exception_handlers=REFUSALS,
    operation_id="ask_for_download_by_form",
    tags=["Public"],
    include_in_schema=False,
)
async def ask_again_by_form(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens]
) -> Response[Any]:
    """Take the button of our own page."""
    return await _ask_again(request, db, _read(tokens, await posted(request)))


async def _ask_again(request: AnyRequest, db: Connection, numbers: tuple[int, int, int]) -> Response[Any]:
    form_id, subscriber_id, expires = numbers
    found = await magnets.opened(db, form_id, subscriber_id, expires)
    await magnets.deliver(db, desk_of(request), form_id, subscriber_id, locale=found.locale, sparingly=True)
    if wants_json(request):
        return Response(
            b'{"status":"sent"}',
            status_code=202,
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )
    language = language_of(request, found.locale, default=(await account.get(db)).locale)
    said = words(language).magnet
    return message(language, said.sent_title, said.sent_text, brand=found.form_title)


ROUTES: Final = [download, ask_again, ask_again_by_form]
