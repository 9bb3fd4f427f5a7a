"""``/f/{key}``: the hosted form, what the embed script needs, and the submission itself.

A visitor is told the same whatever their address's history is: 202 or the pending page. What bots give themselves away by is noted and
answered the same way, too.
"""

import asyncio
import time
from typing import Any, Final

import msgspec
from litestar import HttpMethod, MediaType, Response, get, post, route
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from mailbase.audience import consent_versions
from mailbase.audience.form_tally import Seen
from mailbase.audience.forms import Form
from mailbase.audience.known_forms import Known
from mailbase.config import Settings
from mailbase.errors import Forbidden, Invalid, MailbaseError, NotFound, RateLimited
from mailbase.http import asked_head, client_ip, header, work_of
from mailbase.optin import entry, limits, protection
from mailbase.optin.intake import Candidate
from mailbase.optin.protection import Given, Guard, Judgement
from mailbase.optin.submit import Taken, Visitor, submit
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
    admit,
    asked_for,
    count,
    known,
    language_for,
    latest,
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
async def show_form(request: AnyRequest, key: FromPath[str]) -> Response[str]:
    """Show the hosted page of a form; it works without JavaScript."""
    state = request.app.state
    counts = not asked_head(request.scope) and is_person(request)
    sure = not counts
    while True:
        remembered, _ = await known(request, key, sure=sure)
        form, home = remembered.form, remembered.settings.locale
        here = f"{desk_of(request).public_url}/f/{form.key}"
        values = {"_mode": ["hosted"], **asked_for(form, request.query_params), "_page": [here]}
        if not counts or await state.tally.ask(Seen(remembered, "view", whence(request, values))):
            break
        sure = True
    language = language_for(request, form, home)
    return form_page(form, language, _time(desk_of(request).tokens, form), values=values, errors=(), home=home)


def _time(tokens: Tokens, form: Form) -> str:
    return tokens.sign("form_time", form.id, int(time.time()))


def _time_again(tokens: Tokens, form: Form, values: bodies.Values) -> str:
    """Return the time a page with mistakes was first shown: one box is ticked sooner than a form is filled in."""
    brought = _first(values, "_t") or ""
    numbers = tokens.read("form_time", brought, 2)
    theirs = numbers is not None and numbers[0] == form.id and 0 <= time.time() - numbers[1] < protection.OLDEST_TIME
    return brought if theirs else _time(tokens, form)


@get("/f/{key:str}/config.json", exception_handlers=REFUSALS, operation_id="get_form_config", tags=["Public"])
async def get_config(request: AnyRequest, key: FromPath[str]) -> Response[Any]:
    """Return what the embed script shows."""
    try:
        found = await latest(request, key)
    except NotFound as error:
        # Whatever page it stands on, the script shall be able to say that its key is wrong.
        answer = refuse(request, error)
        answer.headers["Access-Control-Allow-Origin"] = "*"
        return answer
    form, home = found.form, found.settings.locale
    admit(request, form)
    desk = desk_of(request)
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
    state = request.app.state
    # Before a connection is taken, however long somebody takes to send it.
    values, unread = await _read(request)
    await state.guard.refresh(state.pool)
    case = _Case(request, key, values)
    while True:
        remembered, case.sure = await known(request, key, sure=case.sure)
        form, home = remembered.form, remembered.settings.locale
        language = language_for(request, form, home)
        try:
            await case.admit(form)
            if unread is not None:
                raise unread
            entered = entry.read(form, values, locale=language, home=home)
            protection.refuse(form, entered.address, locale=language)
        except (MailbaseError, HTTPException) as error:
            if not case.sure and not isinstance(error, RateLimited):
                case.sure = True  # it may ask for something else by now
                continue
            if isinstance(error, Forbidden):
                raise
            if isinstance(error, Invalid) and unread is None and not wants_json(request):
                time_token = _time_again(desk_of(request).tokens, form, values)
                return form_page(form, language, time_token, values=values, errors=error.errors, home=home)
            return with_origin(refuse(request, error), form, request)
        taken = await case.take(remembered, entered, language)
        if taken is not None:
            break
        case.sure = True
    more = ticket_for(form, values, desk_of(request).tokens, taken.id)
    if more and not wants_json(request):
        answer = more_page(form, language, more, values=values, errors=(), home=home)
    else:
        answer = with_origin(thanks(request, form, language, token=more), form, request)
    await work_of(request.scope).finish(commit=True)
    state.waking.soon()
    # How long it took depends on what is known of the address; when the answer leaves does not.
    await asyncio.sleep(-(time.monotonic() - began) % PACE)
    return answer


class _Case:
    """One submission on its way: what was counted and asked already, should its form turn out to be another than was remembered."""

    def __init__(self, request: AnyRequest, key: str, values: bodies.Values) -> None:
        self.sure = False
        """Whether the form is not only remembered: it was read just now, or shall be."""
        self._request = request
        self._key = key
        self._values = values
        self._counted = False
        self._over: list[str] | None = None

    async def admit(self, form: Form) -> None:
        """Count the visit, once; refuse strangers' pages and too many."""
        admit(self._request, form, sure=self.sure)
        if not self._counted:
            self._counted = True
            try:
                await count(self._request, limits.PER_IP, form)
            except RateLimited:
                self._request.app.state.guard.refused(form.id, "rate_limited")
                raise

    async def take(self, remembered: Known, entered: entry.Entry, language: Language) -> Taken | None:
        """Store it; None: the form is another by now."""
        request, form = self._request, remembered.form
        state = request.app.state
        guard: Guard = state.guard
        given = await _given(request, form, self._values, entered.address.domain)
        if self._over is None:
            self._over = await protection.count(guard, entered.address, given)
        words, visitor = said_by(form, language), _visitor(request, self._values, language)
        judgement: Judgement | None = None
        if not guard.wants_proof(form) and not consent_versions.outdated(entered.consents, entered.shown):
            judgement = await protection.judge(None, guard, form, entered.address, given, over=self._over)
            if judgement == protection.PASSED:
                candidate = Candidate(known=remembered, entry=entered, visitor=visitor, words=words)
                taken = await state.intake.take(desk_of(request), candidate)
                if isinstance(taken, Taken):
                    return taken
                if taken == "stale":
                    return None
        db = await work_of(request.scope).connection()
        if (await state.forms.read(db, self._key)).version != remembered.version:
            return None
        if judgement is None:
            judgement = await protection.judge(db, guard, form, entered.address, given, over=self._over)
        entered.consents = await consent_versions.as_shown(db, form.id, entered.consents, entered.shown)
        return await submit(
            db, desk_of(request), form, entered, visitor, words=words, judgement=judgement, settings=remembered.settings
        )


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
        if not at_hand:
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
async def ask_origin(request: AnyRequest, key: FromPath[str]) -> Response[None]:
    """Tell a browser whether a page of another origin may use the form."""
    headers = {"Allow": "GET, HEAD, OPTIONS, POST"}
    form = (await latest(request, key)).form
    try:
        admit(request, form)
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
