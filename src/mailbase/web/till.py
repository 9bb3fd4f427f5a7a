"""``/f/{key}/till/{token}``: a form as the guests at a counter fill it in, one after the other, on the shop's own device.

The link is the till's permission (``optin.tills``): many guests come from one network, so the till has a limit of its own, and no puzzle
and no minimum time is asked of a device the owner set up. The limits per address hold as everywhere. The page's script forgets each guest,
keeps what cannot be sent in its memory until the line is back, and numbers what it sends, so that a repetition is no second guest.
"""

import hashlib
from functools import cache
from typing import Any, Final
from uuid import UUID

import msgspec
from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from mailbase import resources
from mailbase.audience import account
from mailbase.audience.form_counts import Whence
from mailbase.audience.forms import Form
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import FieldError, Gone, Invalid, MailbaseError, RateLimited
from mailbase.optin import entry, limits, tills
from mailbase.optin.limits import Limit
from mailbase.optin.submit import Visitor, submit
from mailbase.optin.tills import Till
from mailbase.optin.words import mistakes
from mailbase.pages.words import Language, words
from mailbase.tokens import Tokens
from mailbase.web import bodies
from mailbase.web.common import REFUSALS, AnyRequest, answers, desk_of, message, page, refuse, wants_json, witness
from mailbase.web.form_access import form_of, language_for, text
from mailbase.web.form_config import consents_of, fields_of
from mailbase.web.form_pages import shown
from mailbase.web.form_tokens import posted
from mailbase.web.form_words import button_of, note_of, said_by, title_of

PER_TILL: Final = (Limit("till", 60, 60), Limit("till", 1500, 3600))
"""A queue that was kept for an hour is through in some minutes."""
SCRIPT: Final = "till.js"
MODE: Final = "till"
BACK_SECONDS: Final = 8


@cache
def script() -> str:
    """Return the script's path, which changes with its content."""
    content = (resources.embed() / SCRIPT).read_bytes()
    return f"/embed/{SCRIPT}?v={hashlib.sha256(content).hexdigest()[:12]}"


async def _till(db: Connection, tokens: Tokens, form: Form, token: str) -> Till:
    numbers = tokens.read("till", token, 1)
    if numbers is None:
        raise Gone("this till's link is no longer valid")
    return await tills.opened(db, numbers[0], form.id)


@get(
    "/f/{key:str}/till/{token:str}",
    media_type=MediaType.HTML,
    exception_handlers=REFUSALS,
    operation_id="show_till",
    tags=["Public"],
)
async def show_till(
    request: AnyRequest,
    db: NamedDependency[Connection],
    tokens: NamedDependency[Tokens],
    key: FromPath[str],
    token: FromPath[str],
) -> Response[Any]:
    """Show a form in till mode: for a tablet at the counter, by the link the owner made for it."""
    form = await form_of(db, request, key)
    home = (await account.get(db)).locale
    language = language_for(request, form, home)
    try:
        till = await _till(db, tokens, form, token)
    except Gone as error:
        return _gone(request, form, language, error)
    return _page(form, till, language, token, home=home)


def _gone(request: AnyRequest, form: Form, language: Language, error: Gone) -> Response[Any]:
    if wants_json(request):
        return refuse(request, error)
    said = words(language).till
    return message(language, said.gone_title, said.gone_text, icon="note", status=410, brand=title_of(form))


def _page(
    form: Form,
    till: Till,
    language: Language,
    token: str,
    *,
    home: str | None,
    values: bodies.Values | None = None,
    errors: tuple[FieldError, ...] = (),
) -> Response[str]:
    definition = form.definition
    # What a browser would offer is what the guest before typed.
    fields = [{**field, "autocomplete": "off"} for field in fields_of(form, language, home=home, step=1)]
    names = [
        *(field["name"] for field in fields),
        *(f"{field['name']}.{part}" for field in fields if field["type"] == "date" for part in entry.PARTS),
        "interests",
        *(f"consent_{consent.purpose}" for consent in definition.consents),
    ]
    given = values or {}
    return page(
        "till",
        language,
        status=422 if errors else 200,
        script=script(),
        title=title_of(form),
        heading=title_of(form),
        intro=definition.texts.intro or "",
        action=f"/f/{form.key}/till",
        token=token,
        fields=fields,
        interests=[{"slug": i.slug, "name": i.name, "description": i.description or ""} for i in form.interests]
        if definition.interest_choice
        else [],
        chosen=[value for value in given.get("interests", ()) if isinstance(value, str)],
        consents=consents_of(definition.consents),
        versions=" ".join(f"{one['purpose']}:{one['version']}" for one in consents_of(definition.consents)),
        values={name: shown(given.get(name)) for name in names},
        errors=dict.fromkeys(names, "") | {error.field: error.message for error in errors},
        button=button_of(form, language),
        note=note_of(form, language),
        till=till.name,
        said=msgspec.json.encode(_said(form, till, language)).decode(),
    )


def _said(form: Form, till: Till, language: Language) -> dict[str, Any]:
    """Return what the script says and needs to know; it speaks no language itself."""
    said: Any = words(language).table["till"]
    wrong = mistakes(language)
    return {
        "waiting": said["waiting"],
        "dropped": said["dropped"],
        "gone": said["gone_title"],
        "full": said["full"],
        "sending": words(language).form.sending,
        "done": said["done_text"] if form.definition.double_opt_in else said["done_at_once"],
        "kept": said["kept_text"],
        "required": wrong.required,
        "consent": wrong.consent_required,
        "email": wrong.invalid_email,
        "events": f"/f/{form.key}/events",
        "source": till.source,
    }


@post(
    "/f/{key:str}/till/{token:str}",
    status_code=200,
    media_type=MediaType.HTML,
    responses=answers(202, html=False),
    exception_handlers=REFUSALS,
    operation_id="submit_till",
    tags=["Public"],
)
async def submit_till(
    request: AnyRequest,
    db: NamedDependency[Connection],
    tokens: NamedDependency[Tokens],
    key: FromPath[str],
    token: FromPath[str],
) -> Response[Any]:
    """Take a guest's entry from a till. `_id`, a UUID of the page's own: the same again is answered the same and stored once."""
    return await _submit(request, db, tokens, key, token)


@post(
    "/f/{key:str}/till",
    status_code=200,
    media_type=MediaType.HTML,
    exception_handlers=REFUSALS,
    operation_id="submit_till_by_form",
    tags=["Public"],
    include_in_schema=False,
)
async def submit_till_by_form(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens], key: FromPath[str]
) -> Response[Any]:
    """Take a guest's entry from our own page."""
    return await _submit(request, db, tokens, key, await posted(request))


async def _submit(request: AnyRequest, db: Connection, tokens: Tokens, key: str, token: str) -> Response[Any]:
    form = await form_of(db, request, key)
    home = (await account.get(db)).locale
    language = language_for(request, form, home)
    try:
        till = await _till(db, tokens, form, token)
    except Gone as error:
        return _gone(request, form, language, error)
    try:
        await _count(request, till)
        values = await bodies.read(request)
        number = _number(values)
    except (MailbaseError, HTTPException) as error:
        return refuse(request, error)
    try:
        entered = entry.read(form, values, locale=language, home=home)
    except Invalid as error:
        if wants_json(request):
            return refuse(request, error)
        return _page(form, till, language, token, home=home, values=values, errors=error.errors)
    if number is None or await tills.is_new(db, till.id, number):
        seen = witness(request)
        desk = desk_of(request)
        whence = Whence(page=f"{desk.public_url}/f/{form.key}", source=till.source, mode=MODE)
        visitor = Visitor(ip=seen.ip, user_agent=seen.user_agent, whence=whence, locale=language)
        await submit(db, desk, form, entered, visitor, words=said_by(form, language))
    return _thanks(request, form, language, token)


async def _count(request: AnyRequest, till: Till) -> None:
    settings: Settings = request.app.state.settings
    if not settings.form_limits:
        return
    seconds = await limits.wait(request.app.state.redis, PER_TILL, str(till.id))
    if seconds:
        raise RateLimited("Too many guests at once; try again later.", retry_after=seconds)


def _number(values: bodies.Values) -> UUID | None:
    given = text(values, "_id")
    if given is None:
        return None
    try:
        return UUID(given)
    except ValueError:
        raise Invalid.field("_id", "invalid_value", "_id is a UUID") from None


def _thanks(request: AnyRequest, form: Form, language: Language, token: str) -> Response[Any]:
    if wants_json(request):
        return Response(
            b'{"status":"pending"}',
            status_code=202,
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )
    said = words(language).till
    back = f"/f/{form.key}/till/{token}"
    return message(
        language,
        said.done_title,
        said.done_text if form.definition.double_opt_in else said.done_at_once,
        icon="done",
        brand=title_of(form),
        link=back,
        link_text=said.next,
        headers={"Refresh": f"{BACK_SECONDS}; url={back}"},  # without the script the page goes back by itself, too
    )


ROUTES: Final = [show_till, submit_till, submit_till_by_form]
