"""``/v1/forms``: what visitors are asked, and what came of it."""

import html
from datetime import datetime
from typing import Final

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from mailbase.api import lead_magnets
from mailbase.api.common import Listing, Page, paged, scope
from mailbase.audience import forms
from mailbase.audience.form_checks import check
from mailbase.audience.form_definition import (
    Confirmation,
    Display,
    Field,
    FormChanges,
    FormConsent,
    NewForm,
    Protection,
    Redirects,
    Sender,
    Texts,
)
from mailbase.audience.forms import Form
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import FieldError, Invalid, gathered
from mailbase.optin import letter, magnets, senders
from mailbase.optin.magnets import Magnet
from mailbase.pages.words import choose, words


class FormOut(Struct, kw_only=True):
    """A form, and how to put it on a page."""

    id: int
    key: str
    name: str
    fields: list[Field]
    interests: list[str]
    interest_choice: bool
    consents: list[FormConsent]
    double_opt_in: bool
    from_: Sender | None = msgspec.field(name="from")
    confirmation: Confirmation | None
    redirects: Redirects
    display: Display
    allowed_origins: list[str]
    locale: str | None
    texts: Texts
    protection: Protection
    lead_magnet: lead_magnets.LeadMagnetOut | None
    embed_html: str
    hosted_url: str
    created_at: datetime
    updated_at: datetime


async def _out(db: Connection, form: Form, settings: Settings) -> FormOut:
    return _shown(form, settings, (await magnets.of_forms(db, [form.id])).get(form.id))


def _shown(form: Form, settings: Settings, magnet: Magnet | None) -> FormOut:
    public = settings.public_url
    return FormOut(
        id=form.id,
        key=form.key,
        embed_html=_embed(form, public),
        hosted_url=f"{public}/f/{form.key}",
        created_at=form.created_at,
        updated_at=form.updated_at,
        **{**msgspec.structs.asdict(form.definition), "lead_magnet": lead_magnets.shown(magnet)},
    )


def _embed(form: Form, public: str) -> str:
    """Return the lines for the owner's page; without scripts they are a link to the hosted one."""
    said = form.definition.texts.button or words(choose(form.definition.locale)).form.subscribe
    return (
        f'<script src="{public}/embed/v1.js" async></script>\n'
        f'<div data-mailbase-form="{form.key}"></div>\n'
        f'<noscript><a href="{public}/f/{form.key}">{html.escape(said)}</a></noscript>'
    )


async def _checked(db: Connection, form: NewForm, settings: Settings) -> NewForm:
    checked = form
    errors: list[FieldError] = []
    with gathered(errors):
        checked = check(form, public_url=settings.public_url)
    with gathered(errors):
        letter.check(form)
    with gathered(errors):
        await senders.check(db, checked.from_, strict=settings.sending_checks == "strict")
    with gathered(errors):
        await forms.interest_ids(db, form.interests)
    if errors:
        raise Invalid(code=errors[0].code, errors=errors)
    return checked


@post("/forms", guards=[scope("forms:write")], operation_id="create_form", tags=["Forms"])
async def create_form(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], data: JSONBody[NewForm]
) -> FormOut:
    """Make a form. `name`, `from` and `interests` or `fields` suffice."""
    return await _out(db, await forms.create(db, await _checked(db, data, settings)), settings)


@get("/forms", guards=[scope("forms:read")], operation_id="list_forms", tags=["Forms"])
async def list_forms(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], page: NamedDependency[Page]
) -> Listing[FormOut]:
    """List the forms, newest first."""
    listed = await forms.page(db, before=page.before, limit=page.take)
    gifts = await magnets.of_forms(db, [form.id for form in listed])
    found = [_shown(form, settings, gifts.get(form.id)) for form in listed]
    return paged(page, found, total=await forms.count(db) if page.include_total else None)


@get("/forms/{form_id:int}", guards=[scope("forms:read")], operation_id="get_form", tags=["Forms"])
async def get_form(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], form_id: FromPath[int]
) -> FormOut:
    """Return one form."""
    return await _out(db, await forms.get(db, form_id), settings)


@patch("/forms/{form_id:int}", guards=[scope("forms:write")], operation_id="update_form", tags=["Forms"])
async def update_form(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    form_id: FromPath[int],
    data: JSONBody[FormChanges],
) -> FormOut:
    """Change a form; each named field is replaced whole. Its key and its place on your pages stay."""
    form = await forms.get(db, form_id)
    named = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
    changed = await _checked(db, msgspec.structs.replace(form.definition, **named), settings)
    return await _out(db, await forms.update(db, form_id, changed), settings)


@delete("/forms/{form_id:int}", guards=[scope("forms:write")], operation_id="delete_form", tags=["Forms"])
async def delete_form(db: NamedDependency[Connection], form_id: FromPath[int]) -> None:
    """Delete a form with its numbers; who subscribed through it stays."""
    await forms.delete(db, form_id)


ROUTES: Final = [create_form, list_forms, get_form, update_form, delete_form]
