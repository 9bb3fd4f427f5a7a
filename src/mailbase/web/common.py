"""What every public page shares: the templates, the headers, the visitor's language, a refusal as a page or as a problem.

Pages need no script, no cookie and nothing from another origin. Those behind a token are never indexed, framed, cached or named
in a ``Referer``.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import asyncpg
import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec

from mailbase.audience.form_definition import origin_of
from mailbase.config import Settings
from mailbase.errors import (
    FieldError,
    Forbidden,
    Gone,
    Invalid,
    MailbaseError,
    Malformed,
    NotFound,
    RateLimited,
    TooLarge,
)
from mailbase.http import PROBLEM, Problem, client_ip, header, request_id
from mailbase.optin.confirm import Witness
from mailbase.optin.confirmation import Desk
from mailbase.pages import engine, look
from mailbase.pages.look import LOOK, Look
from mailbase.pages.words import SPOKEN, Language, Languages, choose, spoken, words

FRESH: Final = 1.0
"""Seconds a process goes on with the look it read."""
HTML: Final = "text/html"
MOST_AGENT: Final = 500

STATUS: Final[dict[type[MailbaseError], int]] = {
    Malformed: 400,
    Forbidden: 403,
    NotFound: 404,
    Gone: 410,
    TooLarge: 413,
    Invalid: 422,
    RateLimited: 429,
}

AnyRequest = Request[Any, Any, Any]

asset = engine.asset
logger = logging.getLogger(__name__)


async def dress(request: AnyRequest) -> None:
    """Have the answer wear what the owner chose. Called before every handler; no failure here takes a page down."""
    state = request.app.state
    worn: tuple[float, Look] | None = state.look
    now = time.monotonic()
    if "Public" not in (request.route_handler.tags or ()):
        SPOKEN.set(worn[1].languages if worn else Languages(state.tables))  # for letters written on the owner's word
        return
    if worn is None or worn[0] < now - FRESH:
        if worn is not None:
            state.look = now, worn[1]  # whoever comes meanwhile does not read it, too
        try:
            async with state.pool.acquire(timeout=5) as db:
                worn = state.look = now, await look.read(db, state.tables)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            logger.warning("the settings of the pages cannot be read; they look as they did")
    if worn is not None:
        look.wear(worn[1])


def page(
    name: str,
    language: Language,
    *,
    status: int = 200,
    targets: Sequence[str | None] = (),
    framed: Sequence[str] | None = None,
    script: str | None = None,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response[str]:
    """Render a page.

    ``targets`` are addresses a form on it may end at by redirect; ``framed`` are the origins whose pages may show it in a frame,
    none named: any; ``script`` is the path of the one script it runs.
    """
    worn = LOOK.get()
    content = engine.render(name, language, {**values, "script": script}, worn, spoken())
    origins = " ".join(
        dict.fromkeys(["'self'", *(origin for target in targets if target and (origin := origin_of(target)))])
    )
    ancestors = "'none'" if framed is None else " ".join(["'self'", *framed]) if framed else "*"
    scripts = "script-src 'self'; connect-src 'self'; worker-src 'self'; " if script else ""
    policy = (
        f"default-src 'none'; style-src 'self'; img-src 'self' data:; {scripts}"
        f"base-uri 'none'; form-action {origins}; frame-ancestors {ancestors}"
    )
    return Response(
        content,
        status_code=status,
        media_type=HTML,
        headers={
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer" if framed is None else "same-origin",
            "X-Robots-Tag": "noindex, nofollow",
            "X-Content-Type-Options": "nosniff",
            "Permissions-Policy": "interest-cohort=(), camera=(), microphone=(), geolocation=()",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
            "Vary": "Accept, Accept-Language",
            **(headers or {}),
        },
    )


def message(
    language: Language,
    title: str,
    text: str,
    *,
    icon: str = "letter",
    status: int = 200,
    name: str = "message",
    **more: Any,
) -> Response[str]:
    """Render a page that says one thing. ``icon``: letter, done or note."""
    values = {"brand": "", "link": None, "link_text": "", **more}
    return page(name, language, status=status, title=title, text=text, icon=icon, **values)


def language_of(request: AnyRequest, *locales: str | None, default: str | None = None) -> Language:
    """Return the language of a page: the first tag given, else the browser's, else the default's."""
    return choose(*locales, accept=header(request.scope, b"accept-language"), default=default)


def wants_json(request: AnyRequest) -> bool:
    """Tell whether a program is asking: a JSON body, or JSON named in ``Accept`` and no page before it."""
    if request.content_type[0].lower() == "application/json":
        return True
    names = [item.partition(";")[0].strip() for item in header(request.scope, b"accept").lower().split(",")]
    wanted = next(
        (name for name in names if name in {"application/json", PROBLEM, "text/html", "application/xhtml+xml"}),
        "text/html",
    )
    return wanted in {"application/json", PROBLEM}


def desk_of(request: AnyRequest) -> Desk:
    """Return what writing to somebody needs."""
    state = request.app.state
    return Desk(state.tokens, state.settings.public_url, state.erasure_key)


def witness(request: AnyRequest) -> Witness:
    """Return from where a request comes, as evidence."""
    settings: Settings = request.app.state.settings
    ip = client_ip(request.scope, settings.trusted_proxies)
    agent = header(request.scope, b"user-agent")[:MOST_AGENT].replace("\0", "")
    return Witness(ip=str(ip) if ip else None, user_agent=agent or None)


def problem(
    request: AnyRequest,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response[bytes]:
    """Return a problem for programs."""
    said = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        request_id=request_id(request.scope),
        errors=errors,
    )
    return Response(
        msgspec.json.encode(said),
        status_code=status,
        media_type=PROBLEM,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def refuse(request: AnyRequest, error: Exception) -> Response[Any]:
    """Answer a refusal: a page for browsers, a problem for programs."""
    errors: Sequence[FieldError] = error.errors if isinstance(error, Invalid) else ()
    if isinstance(error, HTTPException):
        code = {413: "too_large", 415: "unsupported_media_type"}.get(error.status_code, "malformed")
        status, detail = error.status_code, error.detail
    elif isinstance(error, MailbaseError):
        status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
        code, detail = error.code, error.message
    else:
        raise error
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, RateLimited) else {}
    if wants_json(request):
        return problem(request, status, code, detail, errors=errors, headers=headers)
    return refusal_page(request, status, headers=headers)


def refusal_page(
    request: AnyRequest, status: int, *, headers: Mapping[str, str] | None = None, link: str | None = None
) -> Response[str]:
    """Say as a page what went wrong; where it was our mistake, with the request's id to ask about.

    ``link`` leads to a form to begin again with.
    """
    last: tuple[float, Look] | None = request.app.state.look
    if LOOK.get() is None and last is not None:  # no handler was found that it could have been put on for
        look.wear(last[1])
    worn = LOOK.get()
    language = language_of(request, default=worn.account.locale if worn else None)
    everything = words(language)
    said = everything.errors
    title, text = {
        403: (said.foreign_title, said.foreign_text),
        404: (said.missing_title, said.missing_text),
        410: (said.gone_title, said.gone_text),
        413: (said.large_title, said.large_text),
        429: (said.slow_title, said.plural("slow_text", int((headers or {}).get("Retry-After", "60")))),
        503: (said.away_title, said.away_text),
    }.get(status, (said.broken_title, said.broken_text) if status >= 500 else (said.wrong_title, said.wrong_text))
    code = request_id(request.scope) if status >= 500 else ""
    more = {"link": link, "link_text": everything.confirm.once_more if link else ""}
    return message(language, title, text, icon="note", status=status, headers=headers, name="error", code=code, **more)


REFUSALS: Final[dict[int | type[Exception], Callable[[AnyRequest, Any], Response[Any]]]] = {
    **dict.fromkeys(STATUS, refuse),
    HTTPException: refuse,
}
"""``exception_handlers`` of every public page."""


def answers(*others: int, html: bool = True) -> dict[int, ResponseSpec]:
    """Return what OpenAPI says about a public route beside its errors."""
    kind = HTML if html else "application/json"
    return {
        status: ResponseSpec(
            data_container=DOCUMENTED.get(status, str),
            description=SAID[status],
            media_type=kind,
            generate_examples=False,
        )
        for status in others
    }


SAID: Final = {
    202: "Taken; the same whatever the address's history.",
    204: "Counted.",
    303: "On to the form's own page.",
    304: "Not changed.",
}
DOCUMENTED: Final[dict[int, Any]] = {202: dict[str, str], 204: None, 303: None, 304: None}
