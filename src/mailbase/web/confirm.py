"""``/c/{token}``: a page with one button, and the button. Looking changes nothing, because scanners look at every link."""

from typing import Any, Final

from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from mailbase.audience import account
from mailbase.db import Connection
from mailbase.errors import NotFound
from mailbase.optin.confirm import Asked, confirm, look
from mailbase.tokens import Tokens
from mailbase.web.common import REFUSALS, AnyRequest, answers, desk_of, language_of, message, page, wants_json, witness
from mailbase.web.words import words


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
    asked = await look(db, _read(tokens, token))
    if asked.state != "open":
        return await _done(request, db, asked)
    language = language_of(request, asked.locale, default=(await account.get(db)).locale)
    said = words(language)
    return page(
        "confirm",
        language,
        targets=[asked.form.definition.redirects.confirmed if asked.form else None],
        title=said.confirm.title,
        brand=asked.title,
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
    number = _read(tokens, token)
    asked = await confirm(db, desk_of(request), number, witness(request))
    target = asked.form.definition.redirects.confirmed if asked.form else None
    if target is not None and asked.state == "confirmed" and not wants_json(request):
        return Response(
            None,
            status_code=303,
            headers={"Location": target, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
        )
    return await _done(request, db, asked)


async def _done(request: AnyRequest, db: Connection, asked: Asked) -> Response[Any]:
    if wants_json(request):
        return Response(
            b'{"status":"confirmed"}' if asked.state == "confirmed" else b'{"status":"unsubscribed"}',
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )
    language = language_of(request, asked.locale, default=(await account.get(db)).locale)
    said = words(language)
    if asked.state == "void":
        return message(language, said.confirm.used_title, said.confirm.used_text, icon="note", brand=asked.title)
    own = asked.form.definition.texts.confirmed if asked.form else None
    return message(
        language, said.confirm.confirmed_title, own or said.confirm.confirmed_text, icon="done", brand=asked.title
    )


ROUTES: Final = [show_confirmation, confirm_subscription]
