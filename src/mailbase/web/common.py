"""What every public page shares: the templates, the headers, the visitor's language, a refusal as a page or as a problem.

Pages need no script, no cookie and nothing from another origin. Those behind a token are never indexed, framed, cached or named
in a ``Referer``.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from minijinja import Environment, Markup, pass_state

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
from mailbase.letters.templates import show_html
from mailbase.optin.confirm import Witness
from mailbase.optin.confirmation import Desk
from mailbase.web.words import Language, choose, plural, words

HERE: Final = Path(__file__).parent
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


@cache
def _engine() -> Environment:
    templates = {file.name: file.read_text(encoding="utf-8") for file in (HERE / "templates").glob("*.html")}
    return Environment(
        templates=templates,
        undefined_behavior="strict",
        trim_blocks=True,
        lstrip_blocks=True,
        finalizer=lambda value: Markup(show_html(value)),
        filters={"fill": _fill, "plural": _plural},
    )


def _fill(text: str, **values: Any) -> str:
    """``{{ words.unsubscribe.text | fill(email=email) }}``."""
    return text.format(**values)


@pass_state  # type: ignore[arg-type]  # its annotation knows no keywords
def _plural(state: Any, table: Mapping[str, str], n: int, **values: Any) -> str:
    """``{{ words.preferences.weeks | plural(n) }}``, in the page's language."""
    return plural(state.lookup("lang"), table, n, **values)


@cache
def asset(name: str) -> bytes:
    """Return a file of the pages."""
    return (HERE / "assets" / name).read_bytes()


@cache
def stylesheet() -> str:
    """Return the stylesheet's path, which changes with its content."""
    return f"/assets/pages.css?v={hashlib.sha256(asset('pages.css')).hexdigest()[:12]}"


def page(
    name: str,
    language: Language,
    *,
    status: int = 200,
    targets: Sequence[str | None] = (),
    framed: bool = False,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response[str]:
    """Render a page.

    ``targets`` are addresses a form on it may end at by redirect; ``framed`` lets other sites show it in a frame.
    """
    said = words(language)
    content = _engine().render_template(
        f"{name}.html", lang=language, words=said.table, stylesheet=stylesheet(), **values
    )
    origins = " ".join(
        dict.fromkeys(["'self'", *(origin for target in targets if target and (origin := origin_of(target)))])
    )
    ancestors = "*" if framed else "'none'"
    policy = (
        f"default-src 'none'; style-src 'self'; base-uri 'none'; form-action {origins}; frame-ancestors {ancestors}"
    )
    return Response(
        content,
        status_code=status,
        media_type=HTML,
        headers={
            "Content-Security-Policy": policy,
            "Referrer-Policy": "same-origin" if framed else "no-referrer",
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
    language: Language, title: str, text: str, *, icon: str = "letter", status: int = 200, **more: Any
) -> Response[str]:
    """Render a page that says one thing. ``icon``: letter, done or note."""
    values = {"brand": "", "link": None, "link_text": "", **more}
    return page("message", language, status=status, title=title, text=text, icon=icon, **values)


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
    language = language_of(request)
    said = words(language)
    title, text = {
        403: (said.errors.foreign_title, said.errors.foreign_text),
        404: (said.errors.missing_title, said.errors.missing_text),
        410: (said.errors.gone_title, said.errors.gone_text),
        413: (said.errors.large_title, said.errors.large_text),
        429: (said.errors.slow_title, said.errors.plural("slow_text", int(headers.get("Retry-After", "60")))),
    }.get(status, (said.errors.wrong_title, said.errors.wrong_text))
    return message(language, title, text, icon="note", status=status, headers=headers)


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
