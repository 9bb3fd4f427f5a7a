"""``/c/{token}``: a page with one button, and the button. Looking changes nothing, because scanners look at every link."""

from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from mailbase.audience import account
from mailbase.db import Connection
from mailbase.errors import Gone, NotFound
from mailbase.optin import magnets
from mailbase.optin.confirm import Asked, confirm, form_key, look
from mailbase.pages import engine
from mailbase.pages.words import words
from mailbase.tokens import Tokens
from mailbase.web import bodies
from mailbase.web.common import (
    REFUSALS,
    AnyRequest,
    answers,
    desk_of,
    language_of,
    message,
    page,
    refusal_page,
    wants_json,
    witness,
)
from mailbase.web.form_more import one_more
from mailbase.web.form_tokens import token_of


def _read(tokens: Tokens, token: str) -> int:
    numbers = tokens.read("confirm", token, 2)
    if numbers is None:
        raise NotFound
    return numbers[0]


@get(
    "/c/{token:str}",
    media_type=MediaType.HTML,
    exception_handlers=REFUSALS,
    operation_id="show_confirmation",
    tags=["Public"],
)
async def show_confirmation(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens], token: FromPath[str]
) -> Response[Any]:
    """Show what is to be confirmed."""
    number = _read(tokens, token)
    try:
        asked = await look(db, number)
    except Gone:
        return await _gone(request, db, number)
    if asked.state != "open":
        return await _done(request, db, asked)
    return await _open(request, db, asked, token)


async def _open(request: AnyRequest, db: Connection, asked: Asked, token: str) -> Response[Any]:
    settings = await account.get(db)
    language = language_of(request, asked.locale, default=settings.locale)
    script = engine.address("confirm.js") if settings.confirm_auto_post else None
    said = words(language)
    return page(
        "confirm",
        language,
        targets=[asked.form.definition.redirects.confirmed if asked.form else None],
        script=script,
        auto=script,
        token=token,
        shown=asked.shown,
        title=said.confirm.title,
        brand=asked.title,
        until=_local(asked.expires_at, asked.timezone),
        interests=asked.interests,
        consents=[{"text": consent.text, "policy_url": consent.policy_url or ""} for consent in asked.consents],
    )


@post(
    "/c/{token:str}",
    media_type=MediaType.HTML,
    responses=answers(303),
    status_code=200,
    exception_handlers=REFUSALS,
    operation_id="confirm",
    tags=["Public"],
)
async def confirm_subscription(
    request: AnyRequest,
    db: NamedDependency[Connection],
    tokens: NamedDependency[Tokens],
    token: FromPath[str],
) -> Response[Any]:
    """Confirm: 303 to the form's page, or 200; once more is the same."""
    return await _confirm(request, db, tokens, token)


@post(
    "/c",
    media_type=MediaType.HTML,
    status_code=200,
    exception_handlers=REFUSALS,
    operation_id="confirm_by_form",
    tags=["Public"],
    include_in_schema=False,
)
async def confirm_by_form(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens]
) -> Response[Any]:
    """Take the button of our own page; what came in since it was shown is shown first."""
    values = await bodies.read(request)
    said = next(iter(values.get("shown", ())), None)
    return await _confirm(request, db, tokens, token_of(values), said if isinstance(said, str) else None)


async def _confirm(
    request: AnyRequest, db: Connection, tokens: Tokens, token: str, shown: str | None = None
) -> Response[Any]:
    number = _read(tokens, token)
    try:
        asked = await confirm(db, desk_of(request), number, witness(request), shown=shown)
    except Gone:
        return await _gone(request, db, number)
    if asked.state == "open":
        return await _open(request, db, asked, token)
    target = asked.form.definition.redirects.confirmed if asked.form else None
    if target is not None and asked.state == "confirmed" and not wants_json(request):
        return Response(
            None,
            status_code=303,
            headers={"Location": target, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
        )
    return await _done(request, db, asked)


def _local(at: datetime, timezone: str | None) -> datetime:
    """Return a moment as the reader's clocks show it; UTC where their time zone is not known."""
    try:
        return at.astimezone(ZoneInfo(timezone)) if timezone else at.astimezone(UTC)
    except (ZoneInfoNotFoundError, ValueError):
        return at.astimezone(UTC)


async def _gone(request: AnyRequest, db: Connection, number: int) -> Response[Any]:
    """Say that the link's time is over, and lead back to the form it came from."""
    if wants_json(request):
        raise Gone("this confirmation is no longer valid")
    key = await form_key(db, number)
    return refusal_page(request, 410, link=f"/f/{key}" if key else None)


async def _done(request: AnyRequest, db: Connection, asked: Asked) -> Response[Any]:
    if wants_json(request):
        return Response(
            b'{"status":"confirmed"}' if asked.state == "confirmed" else b'{"status":"unsubscribed"}',
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )
    home = (await account.get(db)).locale
    language = language_of(request, asked.locale, default=home)
    said = words(language)
    if asked.state == "void":
        return message(
            language,
            said.confirm.used_title,
            said.confirm.used_text,
            icon="note",
            brand=asked.title,
            link=f"/f/{asked.form.key}" if asked.form else None,
            link_text=said.confirm.once_more,
        )
    own = asked.form.definition.texts.confirmed if asked.form else None
    return message(
        language,
        said.confirm.confirmed_title,
        own or said.confirm.confirmed_text,
        icon="done",
        name="confirmed",
        brand=asked.title,
        magnet=await _magnet(request, db, asked),
        more=one_more(asked.form, language, desk_of(request).tokens, asked.subscriber_id, home=home),
    )


async def _magnet(request: AnyRequest, db: Connection, asked: Asked) -> dict[str, str] | None:
    if asked.form is None:
        return None
    desk = desk_of(request)
    offer = await magnets.offer(
        db, desk.tokens, desk.public_url, asked.form.id, asked.subscriber_id, now=datetime.now(UTC)
    )
    return {"title": offer.title, "url": offer.url} if offer else None


ROUTES: Final = [show_confirmation, confirm_subscription, confirm_by_form]
