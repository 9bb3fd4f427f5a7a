"""``/p/{token}``: the preference centre. Shows topics and the way out; changes on POST only."""

from typing import Any, Final

from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from mailbase.audience import account
from mailbase.db import Connection
from mailbase.errors import Invalid, NotFound
from mailbase.optin import preferences
from mailbase.optin.leave import leave
from mailbase.optin.preferences import masked
from mailbase.tokens import Tokens
from mailbase.web import bodies
from mailbase.web.common import REFUSALS, AnyRequest, desk_of, language_of, message, page, wants_json, witness
from mailbase.web.words import words


def _read(tokens: Tokens, token: str) -> tuple[int, int]:
    numbers = tokens.read("preferences", token, 2)
    if numbers is None:
        raise NotFound
    return numbers[0], numbers[1]


@get(
    "/p/{token:str}",
    media_type=MediaType.HTML,
    exception_handlers=REFUSALS,
    operation_id="show_preferences",
    tags=["Public"],
)
async def show_preferences(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens], token: FromPath[str]
) -> Response[Any]:
    """Show what a person chose."""
    return await _show(request, db, _read(tokens, token)[0], "")


@post(
    "/p/{token:str}",
    media_type=MediaType.HTML,
    status_code=200,
    exception_handlers=REFUSALS,
    operation_id="change_preferences",
    tags=["Public"],
)
async def change_preferences(
    request: AnyRequest,
    db: NamedDependency[Connection],
    tokens: NamedDependency[Tokens],
    token: FromPath[str],
) -> Response[Any]:
    """Save the topics (`action=save`, `interests` repeated) or leave everything (`action=leave`)."""
    subscriber_id, delivery_id = _read(tokens, token)
    values = await bodies.read(request)
    action = _one(values, "action")
    if action == "leave":
        await leave(db, subscriber_id, delivery_id=delivery_id, source="preferences")
        return await _show(request, db, subscriber_id, "left")
    if action != "save" or any(
        _one(values, name) not in {None, "", "all"} for name in ("frequency", "pause_weeks", "email")
    ):
        raise Invalid.field("action", "not_available", "The actions available are save (interests) and leave.")
    slugs = [slug for slug in values.get("interests", ()) if slug != ""]
    if not all(isinstance(slug, str) for slug in slugs):
        raise Invalid.field("interests", "unknown_interest", "There is no such interest.")
    saved = await preferences.save(
        db, desk_of(request), subscriber_id, slugs, witness(request), delivery_id=delivery_id
    )
    return await _show(request, db, subscriber_id, saved)


def _one(values: bodies.Values, name: str) -> Any:
    return next(iter(values.get(name, ())), None)


async def _show(request: AnyRequest, db: Connection, subscriber_id: int, done: str) -> Response[Any]:
    person = await preferences.read(db, subscriber_id)
    if wants_json(request):
        return Response(
            {"status": person.status, "interests": [topic.slug for topic in person.topics if topic.chosen]},
            media_type=MediaType.JSON,
            headers={"Cache-Control": "no-store"},
        )
    language = language_of(request, person.locale, default=(await account.get(db)).locale)
    said = words(language)
    email = masked(person.email)
    if done == "left":
        link = request.url.path
        return message(
            language,
            said.unsubscribe.left_title,
            said.unsubscribe.left_text.format(email=email),
            icon="done",
            link=link,
            link_text=said.unsubscribe.left_back,
        )
    away = person.status not in {"active", "archived"}
    notices = {"saved": said.preferences.saved, "asked": said.preferences.asked}
    return page(
        "preferences",
        language,
        title=said.preferences.title,
        brand="",
        who=said.preferences.who.format(email=email),
        topics=[
            {"slug": t.slug, "name": t.name, "description": t.description or "", "chosen": t.chosen}
            for t in person.topics
        ],
        notice=notices.get(done) or (said.preferences.left if away else ""),
        away=away,
    )


ROUTES: Final = [show_preferences, change_preferences]
