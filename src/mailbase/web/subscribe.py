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
from mailbase.audience.forms import Form
from mailbase.db import Connection
from mailbase.errors import Forbidden, Invalid, MailbaseError
from mailbase.http import asked_head
from mailbase.optin import entry, limits
from mailbase.optin.submit import Verdict, Visitor, submit
from mailbase.tokens import Tokens
from mailbase.web import bodies
from mailbase.web.common import (
    REFUSALS,
    AnyRequest,
    answers,
    desk_of,
    message,
    refuse,
    wants_json,
    witness,
)
from mailbase.web.form_access import (
    asked_for,
    count,
    form_of,
    language_for,
    origin_headers,
    utm,
    whence,
    with_origin,
)
from mailbase.web.form_events import is_person
from mailbase.web.form_pages import config_of, form_page, pending_words, said_by
from mailbase.web.words import Language

OLDEST_TIME: Final = 86_400


@get("/f/{key:str}", media_type=MediaType.HTML, exception_handlers=REFUSALS, operation_id="show_form", tags=["Public"])
async def show_form(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[str]:
    """Show the hosted page of a form; it works without JavaScript."""
    form = await forms.by_key(db, key)
    link = asked_for(request.query_params)
    if not asked_head(request.scope) and is_person(request):
        page = f"{desk_of(request).public_url}/f/{form.key}"
        await form_counts.add(db, form.id, "view", whence(request, {"_mode": ["hosted"], **link, "_page": [page]}))
    language = language_for(request, form, (await account.get(db)).locale)
    return form_page(form, language, _time(desk_of(request).tokens, form), values={}, errors=())


def _time(tokens: Tokens, form: Form) -> str:
    return tokens.sign("form_time", form.id, int(time.time()))


@get("/f/{key:str}/config.json", exception_handlers=REFUSALS, operation_id="get_form_config", tags=["Public"])
async def get_config(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[bytes]:
    """Return what the embed script shows."""
    form = await form_of(db, request, key)
    desk = desk_of(request)
    language = language_for(request, form, (await account.get(db)).locale)
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
    form = await form_of(db, request, key)
    desk = desk_of(request)
    try:
        await count(request, limits.PER_IP, form)
        values = await bodies.read(request)
    except (MailbaseError, HTTPException) as error:
        return with_origin(refuse(request, error), form, request)
    language = language_for(request, form, (await account.get(db)).locale)
    try:
        entered = entry.read(form, values, locale=language)
    except Invalid as error:
        if wants_json(request):
            return with_origin(refuse(request, error), form, request)
        return form_page(form, language, _time(desk.tokens, form), values=values, errors=error.errors)
    visitor = _visitor(request, values, language)
    await submit(
        db, desk, form, entered, visitor, words=said_by(form, language), verdict=_verdict(desk.tokens, form, values)
    )
    return with_origin(_thanks(request, form, language), form, request)


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
        ip=seen.ip, user_agent=seen.user_agent, whence=whence(request, values), utm=utm(values), locale=language
    )


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
        form = await form_of(db, request, key)
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
ROUTES: Final = [ask_origin, show_form, get_config, get_qr, submit_form]
