"""``/f/{key}``: the hosted form, what the embed script needs, and the submission itself.

A visitor is told the same whatever their address's history is: 202 or the pending page. What bots give themselves away by is noted and
answered the same way, too.
"""

import io
import time
from typing import Any, Final

import msgspec
import segno
from litestar import HttpMethod, MediaType, Response, get, post, route
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from mailbase.audience import account, form_counts, forms
from mailbase.audience.form_definition import origin_of
from mailbase.audience.forms import Form
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import Forbidden, Invalid, MailbaseError, RateLimited
from mailbase.http import asked_head, client_ip, header
from mailbase.optin import entry, limits
from mailbase.optin.submit import Verdict, Visitor, submit
from mailbase.tokens import Tokens
from mailbase.web import bodies
from mailbase.web.common import (
    REFUSALS,
    AnyRequest,
    answers,
    desk_of,
    language_of,
    message,
    refuse,
    wants_json,
    witness,
)
from mailbase.web.form_pages import config_of, form_page, origin_headers, pending_words, said_by
from mailbase.web.words import Language

OLDEST_TIME: Final = 86_400
MOST_PAGE: Final = 500


async def _form(db: Connection, request: AnyRequest, key: str) -> Form:
    """Return the form, if the asking page may hold it."""
    form = await forms.by_key(db, key)
    origin = header(request.scope, b"origin").lower()
    if origin and origin != "null" and not form.allows(origin) and not _is_own(request, origin):
        raise Forbidden("This form may not be used from this origin.", code="origin_not_allowed")
    return form


def _is_own(request: AnyRequest, origin: str) -> bool:
    """Tell whether the hosted page asks, under the public name or the one it was reached by."""
    settings: Settings = request.app.state.settings
    return (
        origin == origin_of(settings.public_url) or origin.partition("://")[2] == header(request.scope, b"host").lower()
    )


def _language(request: AnyRequest, form: Form, default: str | None) -> Language:
    return language_of(request, form.definition.locale, request.query_params.get("lang"), default=default)


async def _count(request: AnyRequest, rules: tuple[limits.Limit, ...], form: Form) -> None:
    """Count this use of a form.

    Raises:
        RateLimited: by this visitor's network, or of this form by everybody.

    """
    settings: Settings = request.app.state.settings
    redis = request.app.state.redis
    if not settings.form_limits:
        return
    seconds = await limits.wait(redis, rules, limits.whose(client_ip(request.scope, settings.trusted_proxies)))
    if rules is limits.PER_IP and not seconds:
        seconds = await limits.wait(redis, limits.PER_FORM, str(form.id))
    if seconds:
        raise RateLimited("Too many submissions; try again later.", retry_after=seconds)


@get("/f/{key:str}", media_type=MediaType.HTML, exception_handlers=REFUSALS, operation_id="show_form", tags=["Public"])
async def show_form(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[str]:
    """Show the hosted page of a form; it works without JavaScript."""
    form = await forms.by_key(db, key)
    if not asked_head(request.scope):
        await form_counts.add(db, form.id, "view", page=f"{desk_of(request).public_url}/f/{form.key}")
    language = _language(request, form, (await account.get(db)).locale)
    return form_page(form, language, _time(desk_of(request).tokens, form), values={}, errors=())


def _time(tokens: Tokens, form: Form) -> str:
    return tokens.sign("form_time", form.id, int(time.time()))


@get("/f/{key:str}/config.json", exception_handlers=REFUSALS, operation_id="get_form_config", tags=["Public"])
async def get_config(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[bytes]:
    """Return what the embed script shows."""
    form = await _form(db, request, key)
    desk = desk_of(request)
    language = _language(request, form, (await account.get(db)).locale)
    config = config_of(form, language, desk.public_url, _time(desk.tokens, form))
    headers = {**origin_headers(form, request), "Cache-Control": "public, max-age=60"}
    return Response(msgspec.json.encode(config), media_type="application/json", headers=headers)


@get(
    "/f/{key:str}/qr.svg",
    media_type="image/svg+xml",
    exception_handlers=REFUSALS,
    operation_id="get_form_qr",
    tags=["Public"],
)
async def get_qr(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[bytes]:
    """Return the hosted page's address as a QR code for the counter."""
    form = await forms.by_key(db, key)
    picture = io.BytesIO()
    code = segno.make(f"{desk_of(request).public_url}/f/{form.key}", error="m", micro=False)
    code.save(picture, kind="svg", scale=8, border=4, light="#fff", xmldecl=False, nl=False)
    headers = {
        "Cache-Control": "public, max-age=3600",
        "Content-Security-Policy": "default-src 'none'",
        "X-Robots-Tag": "noindex, nofollow",
    }
    return Response(picture.getvalue(), media_type="image/svg+xml", headers=headers)


@post(
    "/f/{key:str}",
    status_code=200,
    media_type=MediaType.HTML,
    responses=answers(202, 303, html=False),
    exception_handlers=REFUSALS,
    operation_id="submit_form",
    tags=["Public"],
)
async def submit_form(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[Any]:
    """Take a submission: 202 for programs, 303 or a page for browsers, 422 with the fields that need another look."""
    form = await _form(db, request, key)
    desk = desk_of(request)
    try:
        await _count(request, limits.PER_IP, form)
        values = await bodies.read(request)
    except (MailbaseError, HTTPException) as error:
        return _with_origin(refuse(request, error), form, request)
    language = _language(request, form, (await account.get(db)).locale)
    try:
        entered = entry.read(form, values, locale=language)
    except Invalid as error:
        if wants_json(request):
            return _with_origin(refuse(request, error), form, request)
        return form_page(form, language, _time(desk.tokens, form), values=values, errors=error.errors)
    visitor = _visitor(request, values, language)
    await submit(
        db, desk, form, entered, visitor, words=said_by(form, language), verdict=_verdict(desk.tokens, form, values)
    )
    return _with_origin(_thanks(request, form, language), form, request)


def _with_origin(response: Response[Any], form: Form, request: AnyRequest) -> Response[Any]:
    response.headers.update(origin_headers(form, request))
    return response


def _thanks(request: AnyRequest, form: Form, language: Language) -> Response[Any]:
    if wants_json(request):
        return Response(
            b'{"status":"pending"}',
            status_code=202,
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )
    target = form.definition.redirects.pending
    if target is not None:
        return Response(
            None,
            status_code=303,
            headers={"Location": target, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
        )
    title, text = pending_words(form, language)
    return message(
        language,
        title,
        text,
        brand=form.definition.texts.title or form.name,
    )


def _verdict(tokens: Tokens, form: Form, values: bodies.Values) -> Verdict | None:
    if any(value not in {None, ""} for value in values.get("_hp", ()) if not isinstance(value, (list, dict))):
        return "honeypot"
    given = next(iter(values.get("_t", [])), None)
    numbers = tokens.read("form_time", given, 2) if isinstance(given, str) else None
    if numbers is None or numbers[0] != form.id:
        return None
    age = time.time() - numbers[1]
    return "too_fast" if age < form.definition.protection.min_seconds and age < OLDEST_TIME else None


def _visitor(request: AnyRequest, values: bodies.Values, language: Language) -> Visitor:
    seen = witness(request)
    return Visitor(
        ip=seen.ip,
        user_agent=seen.user_agent,
        page=_text(values, "_page") or header(request.scope, b"referer")[:MOST_PAGE].replace("\0", "") or None,
        source=_text(values, "_source"),
        locale=language,
    )


def _text(values: bodies.Values, name: str) -> str | None:
    given = next(iter(values.get(name, [])), None)
    return given[:MOST_PAGE].replace("\0", "") or None if isinstance(given, str) else None


@post(
    "/f/{key:str}/events",
    status_code=200,
    responses=answers(204),
    exception_handlers=REFUSALS,
    operation_id="record_form_event",
    tags=["Public"],
)
async def record_event(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[Any]:
    """Count a view of the form or the start of filling it in; `{type: "view"|"start", page?, source?, mode?, trigger?}`."""
    form = await _form(db, request, key)
    try:
        await _count(request, limits.EVENTS_PER_IP, form)
        # Text is what a page may send across origins without asking first.
        values = bodies.json_values(await request.body())
        kind = _text(values, "type")
        if kind not in {"view", "start"}:
            raise Invalid.field("type", "invalid_type", "type is view or start")
    except (MailbaseError, HTTPException) as error:
        return _with_origin(refuse(request, error), form, request)
    await form_counts.add(db, form.id, "view" if kind == "view" else "start", page=_text(values, "page"))
    return _with_origin(Response(None, status_code=204), form, request)


@route(
    ["/f/{key:str}", "/f/{key:str}/config.json", "/f/{key:str}/events"],
    http_method=[HttpMethod.OPTIONS],
    status_code=204,
    exception_handlers=REFUSALS,
    operation_id="ask_form_origin",
    include_in_schema=False,
)
async def ask_origin(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[None]:
    """Tell a browser whether a page of another origin may use the form."""
    headers = {"Allow": "GET, HEAD, OPTIONS, POST"}
    try:
        form = await _form(db, request, key)
    except Forbidden:
        return Response(None, status_code=204, headers=headers)
    headers |= origin_headers(form, request)
    headers |= {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "Content-Type, Accept",
        "Access-Control-Max-Age": "86400",
    }
    return Response(None, status_code=204, headers=headers)


# First the preflight: Litestar gives a path an OPTIONS of its own once another method comes before it.
ROUTES: Final = [ask_origin, show_form, get_config, get_qr, submit_form, record_event]
