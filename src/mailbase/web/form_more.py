"""``POST /f/{key}/more`` and ``/f/{key}/profile``: the second step of a form, and one more thing after confirming."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from litestar import MediaType, Response, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from mailbase.audience import account
from mailbase.audience.forms import Form
from mailbase.db import Connection
from mailbase.errors import Gone, Invalid, MailbaseError
from mailbase.http import work_of
from mailbase.optin import entry, limits, more
from mailbase.optin.more import Ticket
from mailbase.pages.words import Language, words
from mailbase.tokens import Tokens
from mailbase.web import bodies
from mailbase.web.common import REFUSALS, AnyRequest, answers, desk_of, message, refuse, wants_json
from mailbase.web.form_access import count, form_of, language_for, text, with_origin
from mailbase.web.form_config import AFTERWARDS
from mailbase.web.form_pages import asked, more_page, one_more_page
from mailbase.web.form_words import pending_words, title_of

LAST: Final = 3
"""The step on the page after confirming."""
PACE: Final = 0.04
"""Answers leave at multiples of so many seconds, whatever was to be done."""
NO_STORE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def ticket_for(form: Form, values: Mapping[str, Any], tokens: Tokens, submission_id: int) -> str | None:
    """Return the token of the second step, or None: the form has none, or its questions are answered already."""
    later = [field.name for field in form.definition.fields if field.step == AFTERWARDS]
    if not later or any(name in values for name in later):
        return None
    return more.sign(tokens, "more", Ticket(submission_id, form.id), now=datetime.now(UTC))


def one_more(
    form: Form | None, language: Language, tokens: Tokens, subscriber_id: int, *, home: str | None
) -> dict[str, Any] | None:
    """Return what the page after confirming needs to ask one more thing, or None: there is nothing to ask."""
    if form is None or all(field.step != LAST for field in form.definition.fields):
        return None
    token = more.sign(tokens, "profile", Ticket(subscriber_id, form.id), now=datetime.now(UTC))
    said = words(language).form
    return {
        "title": form.definition.texts.one_more or said.one_title,
        "text": said.one_text,
        "button": said.one_button,
        **asked(form, language, token, step=LAST, action=f"/f/{form.key}/profile", values={}, home=home),
    }


@post(
    "/f/{key:str}/more",
    status_code=200,
    media_type=MediaType.HTML,
    responses=answers(202, 303, html=False),
    exception_handlers=REFUSALS,
    operation_id="submit_form_more",
    tags=["Public"],
)
async def submit_more(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[Any]:
    """Take the answers of a form's second step: `_more` is the token of the first. 202 for programs, 303 or a page for browsers."""
    began = time.monotonic()
    form = await form_of(db, request, key)
    desk = desk_of(request)
    settings = await account.get(db)
    language = language_for(request, form, settings.locale)
    try:
        await count(request, limits.EVENTS_PER_IP, form)
        values = await bodies.read(request)
        token = text(values, "_more") or ""
        ticket = more.read(desk.tokens, "more", token, form, now=datetime.now(UTC))
    except Gone as error:
        late = refuse(request, error) if wants_json(request) else _late(form, language)
        return with_origin(late, form, request)
    except (MailbaseError, HTTPException) as error:
        return with_origin(refuse(request, error), form, request)
    try:
        given = (
            {} if values.get("_skip") else entry.answers(form, values, step=2, locale=language, home=settings.locale)
        )
    except Invalid as error:
        if wants_json(request):
            return with_origin(refuse(request, error), form, request)
        return more_page(form, language, token, values=values, errors=error.errors, home=settings.locale)
    await more.add(db, desk, form, ticket, given)
    answer = with_origin(thanks(request, form, language), form, request)
    await work_of(request.scope).finish(commit=True)
    # How long it took depends on what is known of the address; when the answer leaves does not.
    await asyncio.sleep(-(time.monotonic() - began) % PACE)
    return answer


@post(
    "/f/{key:str}/profile",
    status_code=200,
    media_type=MediaType.HTML,
    exception_handlers=REFUSALS,
    operation_id="submit_form_profile",
    tags=["Public"],
)
async def submit_profile(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[Any]:
    """Take what is asked once more after confirming: `_more` is the token from that page."""
    form = await form_of(db, request, key)
    desk = desk_of(request)
    settings = await account.get(db)
    language = language_for(request, form, settings.locale)
    await count(request, limits.EVENTS_PER_IP, form)
    values = await bodies.read(request)
    token = text(values, "_more") or ""
    ticket = more.read(desk.tokens, "profile", token, form, now=datetime.now(UTC))
    try:
        given = (
            {} if values.get("_skip") else entry.answers(form, values, step=3, locale=language, home=settings.locale)
        )
    except Invalid as error:
        if wants_json(request):
            return refuse(request, error)
        return one_more_page(form, language, token, values=values, errors=error.errors, home=settings.locale)
    await more.complete(db, ticket, given)
    if wants_json(request):
        return Response(b'{"status":"saved"}', media_type="application/json", headers=NO_STORE)
    said = words(language)
    return message(language, said.confirm.confirmed_title, said.form.one_saved, icon="done", brand=title_of(form))


def thanks(request: AnyRequest, form: Form, language: Language, *, token: str | None = None) -> Response[Any]:
    """Answer a submission that was taken, the same to everybody; ``token`` asks a program for the second step."""
    if wants_json(request):
        body = b'{"status":"pending","more":"%s"}' % token.encode() if token else b'{"status":"pending"}'
        return Response(body, status_code=202, media_type="application/json", headers={"Cache-Control": "no-store"})
    target = form.definition.redirects.pending
    if target is not None:
        return Response(None, status_code=303, headers={"Location": target, **NO_STORE})
    title, said = pending_words(form, language)
    return message(language, title, said, brand=title_of(form), framed=form.definition.allowed_origins)


def _late(form: Form, language: Language) -> Response[Any]:
    said = words(language).form
    framed = form.definition.allowed_origins
    return message(
        language, said.late_title, said.late_text, icon="note", status=410, brand=title_of(form), framed=framed
    )


ROUTES: Final = [submit_more, submit_profile]
