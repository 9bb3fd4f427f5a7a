"""``/a/{token}``: the answer to a change of address, from the new mailbox (yes) or the old one (no). Looking changes nothing."""

from typing import Any, Final

from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from mailbase.audience import account
from mailbase.db import Connection
from mailbase.errors import NotFound
from mailbase.optin import address_change
from mailbase.optin.address_change import ROLES, Change, Role
from mailbase.pages.words import words
from mailbase.tokens import Tokens
from mailbase.web.common import REFUSALS, AnyRequest, desk_of, language_of, message, page, wants_json, witness
from mailbase.web.form_tokens import posted


def _read(tokens: Tokens, token: str) -> tuple[int, Role]:
    numbers = tokens.read("address", token, 2)
    if numbers is None or numbers[1] >= len(ROLES):
        raise NotFound
    return numbers[0], ROLES[numbers[1]]


@get(
    "/a/{token:str}",
    media_type=MediaType.HTML,
    exception_handlers=REFUSALS,
    operation_id="show_address_change",
    tags=["Public"],
)
async def show_address_change(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens], token: FromPath[str]
) -> Response[Any]:
    """Show the change of address that waits for an answer."""
    number, role = _read(tokens, token)
    return await _show(request, db, await address_change.look(db, desk_of(request), number), role, token)


@post(
    "/a/{token:str}",
    media_type=MediaType.HTML,
    status_code=200,
    exception_handlers=REFUSALS,
    operation_id="answer_address_change",
    tags=["Public"],
)
async def answer_address_change(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens], token: FromPath[str]
) -> Response[Any]:
    """Confirm the change, or stop it, whichever the token is for; once more is the same."""
    return await _answer(request, db, _read(tokens, token), token)


@post(
    "/a",
    media_type=MediaType.HTML,
    status_code=200,
    exception_handlers=REFUSALS,
    operation_id="answer_address_change_by_form",
    tags=["Public"],
    include_in_schema=False,
)
async def answer_by_form(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens]
) -> Response[Any]:
    """Take the button of our own page."""
    token = await posted(request)
    return await _answer(request, db, _read(tokens, token), token)


async def _answer(request: AnyRequest, db: Connection, asked: tuple[int, Role], token: str) -> Response[Any]:
    number, role = asked
    desk = desk_of(request)
    if role == "confirm":
        change = await address_change.confirm(db, desk, number, witness(request))
    else:
        change = await address_change.stop(db, desk, number)
    return await _show(request, db, change, role, token)


async def _show(request: AnyRequest, db: Connection, change: Change, role: Role, token: str) -> Response[Any]:
    if wants_json(request):
        return Response({"status": change.state}, media_type="application/json", headers={"Cache-Control": "no-store"})
    language = language_of(request, change.locale, default=(await account.get(db)).locale)
    said = words(language).preferences
    about = {"old": change.old, "new": change.new}
    if change.state == "stopped":
        return message(language, said.stopped_title, said.stopped_text.format(**about), icon="done")
    if change.state == "confirmed" and role == "confirm":
        return message(language, said.changed_title, said.changed_text.format(**about), icon="done")
    if change.state == "confirmed":
        return message(language, said.late_title, said.late_text.format(**about), icon="note")
    asked = "change" if role == "confirm" else "stop"
    return page(
        "address",
        language,
        token=token,
        title=getattr(said, f"{asked}_title"),
        brand="",
        text=getattr(said, f"{asked}_text").format(**about),
        button=getattr(said, f"{asked}_button"),
        ignore=getattr(said, f"{asked}_ignore"),
    )


ROUTES: Final = [show_address_change, answer_address_change, answer_by_form]
