"""``/u/{token}``: the page with one button, and the one-click of RFC 8058.

That POST needs nothing but its address: any body or none, no cookie, no origin, and it is never answered by a redirect. It does not expire.
The page's own button is sent to ``/u``, with the token in the form.
"""

from typing import Any, Final

from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from mailbase.audience import account
from mailbase.db import Connection
from mailbase.errors import NotFound
from mailbase.optin import preferences
from mailbase.optin.leave import leave
from mailbase.optin.preferences import Preferences, masked
from mailbase.pages.words import words
from mailbase.tokens import Tokens
from mailbase.web.common import REFUSALS, AnyRequest, language_of, message, page, wants_json
from mailbase.web.form_tokens import posted
from mailbase.web.left import left


def _read(tokens: Tokens, token: str) -> tuple[int, int]:
    numbers = tokens.read("unsubscribe", token, 2)
    if numbers is None:
        raise NotFound
    return numbers[0], numbers[1]


@get(
    "/u/{token:str}",
    media_type=MediaType.HTML,
    exception_handlers=REFUSALS,
    operation_id="show_unsubscribe",
    tags=["Public"],
)
async def show_unsubscribe(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens], token: FromPath[str]
) -> Response[Any]:
    """Show the button that leaves everything."""
    numbers = _read(tokens, token)
    person = await _person(db, numbers[0])
    if person is None or person.status not in {"active", "pending", "archived"}:
        return await _left(request, db, tokens, numbers, person)
    language = language_of(request, person.locale, default=(await account.get(db)).locale)
    said = words(language)
    text = said.unsubscribe.text.format(email=masked(person.email))
    return page(
        "unsubscribe",
        language,
        title=said.unsubscribe.title,
        brand="",
        text=text,
        token=token,
        preferences=f"/p/{tokens.sign('preferences', *numbers)}",
    )


@post(
    "/u/{token:str}",
    media_type=MediaType.HTML,
    status_code=200,
    exception_handlers=REFUSALS,
    operation_id="unsubscribe",
    tags=["Public"],
)
async def unsubscribe(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens], token: FromPath[str]
) -> Response[Any]:
    """Leave everything, at once; once more is the same."""
    return await _leave(request, db, tokens, _read(tokens, token))


@post(
    "/u",
    media_type=MediaType.HTML,
    status_code=200,
    exception_handlers=REFUSALS,
    operation_id="unsubscribe_by_form",
    tags=["Public"],
    include_in_schema=False,
)
async def unsubscribe_by_form(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens]
) -> Response[Any]:
    """Take the button of our own page."""
    return await _leave(request, db, tokens, _read(tokens, await posted(request)))


async def _leave(request: AnyRequest, db: Connection, tokens: Tokens, numbers: tuple[int, int]) -> Response[Any]:
    await leave(db, numbers[0], delivery_id=numbers[1], source="unsubscribe")
    return await _left(request, db, tokens, numbers, await _person(db, numbers[0]))


async def _person(db: Connection, subscriber_id: int) -> Preferences | None:
    try:
        return await preferences.read(db, subscriber_id)
    except NotFound:
        return None


async def _left(
    request: AnyRequest, db: Connection, tokens: Tokens, numbers: tuple[int, int], person: Preferences | None
) -> Response[Any]:
    if wants_json(request):
        return Response(
            b'{"status":"unsubscribed"}', media_type="application/json", headers={"Cache-Control": "no-store"}
        )
    language = language_of(request, person.locale if person else None, default=(await account.get(db)).locale)
    said = words(language)
    if person is None:
        return message(language, said.unsubscribe.left_title, said.preferences.erased_text, icon="done")
    return left(language, person.email, tokens.sign("preferences", *numbers))


ROUTES: Final = [show_unsubscribe, unsubscribe, unsubscribe_by_form]
