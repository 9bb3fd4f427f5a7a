"""``/f/{key}``: the hosted form, what the embed script needs, and the submission itself.

A visitor is told the same whatever their address's history is: 202 or the pending page. What bots give themselves away by is noted and
answered the same way, too.
"""

import asyncio
import time
from typing import Any, Final

import msgspec
from litestar import HttpMethod, MediaType, Response, get, post, route
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from mailbase.audience import account, consent_versions, form_counts, forms
from mailbase.audience.forms import Form
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import Forbidden, Invalid, MailbaseError, NotFound, RateLimited
from mailbase.http import asked_head, client_ip, header, work_of
from mailbase.optin import entry, limits, protection
from mailbase.optin.protection import Given, Guard
from mailbase.optin.submit import Visitor, submit
from mailbase.pages.words import Language
from mailbase.tokens import Tokens
from mailbase.web import bodies
from mailbase.web.common import (
    REFUSALS,
    AnyRequest,
    answers,
    desk_of,
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
from mailbase.web.form_config import config_of
from mailbase.web.form_events import is_person
from mailbase.web.form_more import thanks, ticket_for
from mailbase.web.form_pages import form_page, more_page
from mailbase.web.form_words import said_by

PACE: Final = 0.04
"""Answers to submissions leave at multiples of so many seconds."""
LONGEST_PROOF: Final = 5000


@get("/f/{key:str}", media_type=MediaType.HTML, exception_handlers=REFUSALS, operation_id="show_form", tags=["Public"])
async def show_form(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[str]:
    """Show the hosted page of a form; it works without JavaScript."""
    form = await forms.by_key(db, key)
    here = f"{desk_of(request).public_url}/f/{form.key}"
    values = {"_mode": ["hosted"], **asked_for(form, request.query_params), "_page": [here]}
    if not asked_head(request.scope) and is_person(request):
        await form_counts.add(db, form.id, "view", whence(request, values))
    home = (await account.get(db)).locale
    language = language_for(request, form, home)
    return form_page(form, language, _time(desk_of(request).tokens, form), values=values, errors=(), home=home)


def _time(tokens: Tokens, form: Form) -> str:
    return tokens.sign("form_time", form.id, int(time.time()))


@get("/f/{key:str}/config.json", exception_handlers=REFUSALS, operation_id="get_form_config", tags=["Public"])
async def get_config(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[Any]:
    """Return what the embed script shows."""
    try:
        form = await form_of(db, request, key)
    except NotFound as error:
        # Whatever page it stands on, the script shall be able to say that its key is wrong.
        answer = refuse(request, error)
        answer.headers["Access-Control-Allow-Origin"] = "*"
        return answer
    desk = desk_of(request)
    home = (await account.get(db)).locale
    language = language_for(request, form, home)
    config = config_of(form, language, desk.public_url, _time(desk.tokens, form), home=home)
    headers = {**origin_headers(form, request), "Cache-Control": "public, max-age=60"}
    return Response(msgspec.json.encode(config), media_type="application/json", headers=headers)


@post(
    "/f/{key:str}",
    status_code=200,
    media_type=MediaType.HTML,
    responses=answers(202, 303, html=False),
    exception_handlers=REFUSALS,
    operation_id="submit_form",
    tags=["Public"],
)
async def submit_form(request: AnyRequest, key: FromPath[str]) -> Response[Any]:
    """Take a submission: 202 for programs, 303 or a page for browsers, 422 with the fields that need another look."""
    began = time.monotonic()
    guard: Guard = request.app.state.guard
    work = work_of(request.scope)
    # Before a connection is taken, however long somebody takes to send it.
    values, unread = await _read(request)
    await guard.refresh(request.app.state.pool)
    db = await work.connection()
    form = await form_of(db, request, key)
    desk = desk_of(request)
    try:
        await count(request, limits.PER_IP, form)
        if unread is not None:
            raise unread
    except (MailbaseError, HTTPException) as error:
        if isinstance(error, RateLimited):
            guard.refused(form.id, "rate_limited")
        return with_origin(refuse(request, error), form, request)
    owner = await account.get(db)
    home = owner.locale
    language = language_for(request, form, home)
    try:
        entered = entry.read(form, values, locale=language, home=home)
        protection.refuse(form, entered.address, locale=language)
    except Invalid as error:
        if wants_json(request):
            return with_origin(refuse(request, error), form, request)
        return form_page(form, language, _time(desk.tokens, form), values=values, errors=error.errors, home=home)
    given = await _given(request, form, values, entered.address.domain)
    db = await work.connection()
    judgement = await protection.judge(db, guard, form, entered.address, given)
    entered.consents = await consent_versions.as_shown(db, form.id, entered.consents, entered.shown)
    visitor = _visitor(request, values, language)
    words = said_by(form, language)
    taken = await submit(db, desk, form, entered, visitor, words=words, judgement=judgement, settings=owner)
    more = ticket_for(form, values, desk.tokens, taken.id)
    if more and not wants_json(request):
        answer = more_page(form, language, more, values=values, errors=(), home=home)
    else:
        answer = with_origin(thanks(request, form, language, token=more), form, request)
    await work.finish(commit=True)
    request.app.state.waking.soon()
    # How long it took depends on what is known of the address; when the answer leaves does not.
    await asyncio.sleep(-(time.monotonic() - began) % PACE)
    return answer


async def _read(request: AnyRequest) -> tuple[bodies.Values, MailbaseError | HTTPException | None]:
    try:
        return await bodies.read(request), None
    except (MailbaseError, HTTPException) as error:
        return {}, error


async def _given(request: AnyRequest, form: Form, values: bodies.Values, domain: str) -> Given:
    guard: Guard = request.app.state.guard
    takes_mail: bool | None = None
    if guard.hosts is not None and form.definition.protection.mx:
        at_hand, takes_mail = guard.hosts.known(domain)
        if not at_hand:  # no connection is held while DNS is asked
            await work_of(request.scope).finish(commit=True)
            takes_mail = await guard.hosts.take_mail(domain)
    settings: Settings = request.app.state.settings
    return Given(
        honeypot=any(value not in {None, ""} for value in values.get("_hp", ()) if not isinstance(value, (list, dict))),
        time=_first(values, "_t"),
        proof=_first(values, "altcha"),
        origin=bool(header(request.scope, b"origin") or header(request.scope, b"referer")),
        agent=bool(header(request.scope, b"user-agent")),
        whose=limits.whose(client_ip(request.scope, settings.trusted_proxies)),
        takes_mail=takes_mail,
    )


def _first(values: bodies.Values, name: str) -> str | None:
    given: Any = next(iter(values.get(name, ())), None)
    if given is None or given == "":
        return None
    return str(given)[:LONGEST_PROOF] if isinstance(given, (str, int, float)) else "?"


def _visitor(request: AnyRequest, values: bodies.Values, language: Language) -> Visitor:
    seen = witness(request)
    return Visitor(
        ip=seen.ip, user_agent=seen.user_agent, whence=whence(request, values), utm=utm(values), locale=language
    )


@route(
    ["/f/{key:str}", "/f/{key:str}/config.json", "/f/{key:str}/events", "/f/{key:str}/more"],
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
ROUTES: Final = [ask_origin, show_form, get_config, submit_form]
