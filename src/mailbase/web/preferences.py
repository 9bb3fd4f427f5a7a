"""``/p/{token}``: the preference centre. Looking changes nothing; every change is a POST whose ``action`` says which.

The token of the letter is the authority: no session, no cookie. Browsers get a page that says what is so now, programs JSON.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from mailbase.audience import account
from mailbase.db import Connection
from mailbase.errors import Gone, Invalid, NotFound
from mailbase.optin import address_change, leaving_reasons, own_data, preferences, withdrawal
from mailbase.optin.confirmation import Desk
from mailbase.optin.leave import leave
from mailbase.optin.preferences import HERE, Frequency, Preferences, masked
from mailbase.pages.words import Words, words
from mailbase.tokens import Tokens
from mailbase.web import bodies, own_data_page
from mailbase.web.common import REFUSALS, AnyRequest, desk_of, language_of, message, page, wants_json, witness
from mailbase.web.form_tokens import token_of
from mailbase.web.left import left, local

FREQUENCIES: Final[Mapping[str, Frequency]] = {"all": "all", "weekly": "weekly", "monthly": "monthly"}
PAUSES: Final = (2, 4, 12)
WEEKS_WANTED: Final = f"A number of weeks is needed: {PAUSES[0]}, {PAUSES[1]} or {PAUSES[2]}; 0 ends the pause."


class Visit(NamedTuple):
    """Who came by which letter, and what they sent."""

    request: AnyRequest
    db: Connection
    desk: Desk
    subscriber_id: int
    delivery_id: int
    token: str
    values: bodies.Values

    def one(self, name: str, wanted: str = "This has to be text.") -> str:
        """Return a field that is sent once; empty if it is not.

        Raises:
            Invalid: it is not text; says what is ``wanted``.

        """
        value: Any = next(iter(self.values.get(name, ())), "")
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise Invalid.field(name, "invalid_value", wanted)
        return value or ""


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
    """Show what a person chose, and what they may do."""
    return await _show(Visit(request, db, desk_of(request), *_read(tokens, token), token, {}))


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
    """Do what `action` says.

    `save` (`interests` repeated, `frequency` all, weekly or monthly; with `frequency` alone the topics stay) · `pause` (`pause_weeks`, 0
    ends it) · `address` (`email`: the new one is asked by letter) · `withdraw` (`purpose`) · `export` (`format` json or html) · `erase` ·
    `leave` · `reason` (`reason`, `comment`, after leaving) · `erase_ask` (a page that asks before erasing; changes nothing).
    """
    numbers = _read(tokens, token)
    return await _act(Visit(request, db, desk_of(request), *numbers, token, await bodies.read(request)))


@post(
    "/p",
    media_type=MediaType.HTML,
    status_code=200,
    exception_handlers=REFUSALS,
    operation_id="change_preferences_by_form",
    tags=["Public"],
    include_in_schema=False,
)
async def change_by_form(
    request: AnyRequest, db: NamedDependency[Connection], tokens: NamedDependency[Tokens]
) -> Response[Any]:
    """Take the buttons of our own pages."""
    values = await bodies.read(request)
    token = token_of(values)
    return await _act(Visit(request, db, desk_of(request), *_read(tokens, token), token, values))


async def _act(visit: Visit) -> Response[Any]:
    act = ACTIONS.get(visit.one("action"))
    if act is None:
        raise Invalid.field("action", "not_available", f"The actions are {', '.join(ACTIONS)}.")
    return await act(visit)


async def _save(visit: Visit) -> Response[Any]:
    frequency = visit.one("frequency")
    if frequency and frequency not in FREQUENCIES:
        raise Invalid.field("frequency", "invalid_option", f"One of {', '.join(FREQUENCIES)}.")
    slugs = [slug for slug in visit.values.get("interests", ()) if slug not in ("", None)]
    if not all(isinstance(slug, str) for slug in slugs):
        raise Invalid.field("interests", "unknown_interest", "There is no such interest.")
    if slugs and not wants_json(visit.request):
        # The page may lie open while the owner takes a topic away; what else it says holds all the same.
        offered = {topic.slug for topic in (await preferences.read(visit.db, visit.subscriber_id)).topics}
        slugs = [slug for slug in slugs if slug in offered]
    done = await preferences.save(
        visit.db,
        visit.desk,
        visit.subscriber_id,
        witness(visit.request),
        slugs=None if frequency and "interests" not in visit.values else slugs,
        frequency=FREQUENCIES[frequency] if frequency else None,
        delivery_id=visit.delivery_id,
    )
    return await _show(visit, done)


async def _pause(visit: Visit) -> Response[Any]:
    weeks = visit.one("pause_weeks", WEEKS_WANTED)
    if not weeks.isascii() or not weeks.isdigit() or len(weeks) > 3:
        raise Invalid.field("pause_weeks", "invalid_value", WEEKS_WANTED)
    done = await preferences.pause(
        visit.db,
        visit.desk,
        visit.subscriber_id,
        int(weeks),
        witness(visit.request),
        delivery_id=visit.delivery_id,
    )
    return await _show(visit, done)


async def _address(visit: Visit) -> Response[Any]:
    email = visit.one("email")
    try:
        await own_data.authorise(visit.db, visit.subscriber_id, visit.delivery_id)
        await address_change.ask(visit.db, visit.desk, visit.subscriber_id, email, delivery_id=visit.delivery_id)
    except Invalid as error:
        if error.code != "invalid_email" or wants_json(visit.request):
            raise
        return await _show(visit, wrong_email=email.strip()[:254] or " ")
    except Gone as error:
        return await _newer_letter(visit, error)
    return await _show(visit, "address_asked")


async def _withdraw(visit: Visit) -> Response[Any]:
    gone = await withdrawal.withdraw(
        visit.db, visit.subscriber_id, visit.one("purpose"), witness(visit.request), delivery_id=visit.delivery_id
    )
    return await (_left(visit) if gone else _show(visit, "withdrawn"))


async def _export(visit: Visit) -> Response[Any]:
    kind = visit.one("format") or "json"
    if kind not in {"json", "html"}:
        raise Invalid.field("format", "invalid_option", "json or html.")
    try:
        found = await own_data.export(visit.db, visit.desk, visit.subscriber_id, delivery_id=visit.delivery_id)
    except Gone as error:
        return await _newer_letter(visit, error)
    if kind == "json":
        return own_data_page.as_json(found)
    language = language_of(visit.request, found.subscriber.locale, default=(await account.get(visit.db)).locale)
    return own_data_page.as_page(found, language, await visit.db.fetchval("SELECT now()"))


async def _erase_ask(visit: Visit) -> Response[Any]:
    person = await preferences.read(visit.db, visit.subscriber_id)
    try:
        await own_data.authorise(visit.db, visit.subscriber_id, visit.delivery_id)
    except Gone as error:
        return await _newer_letter(visit, error)
    language = await _language(visit, person)
    return page(
        "erase",
        language,
        title=words(language).preferences.erase_title,
        brand="",
        who=masked(person.email),
        token=visit.token,
        back=f"/p/{visit.token}",
    )


async def _erase(visit: Visit) -> Response[Any]:
    person = await preferences.read(visit.db, visit.subscriber_id)
    language = await _language(visit, person)
    try:
        await own_data.erase(visit.db, visit.desk, visit.subscriber_id, delivery_id=visit.delivery_id)
    except Gone as error:
        return await _newer_letter(visit, error)
    if wants_json(visit.request):
        return _json({"status": "erased"})
    said = words(language).preferences
    return message(language, said.erased_title, said.erased_text, icon="done")


async def _leave(visit: Visit) -> Response[Any]:
    await leave(visit.db, visit.subscriber_id, delivery_id=visit.delivery_id, source="preferences")
    return await _left(visit)


async def _reason(visit: Visit) -> Response[Any]:
    await leaving_reasons.give(
        visit.db, visit.subscriber_id, visit.one("reason"), visit.one("comment"), delivery_id=visit.delivery_id
    )
    return await _left(visit, thanks=True)


Action = Callable[[Visit], Awaitable[Response[Any]]]
ACTIONS: Final[Mapping[str, Action]] = {
    "save": _save,
    "pause": _pause,
    "address": _address,
    "withdraw": _withdraw,
    "export": _export,
    "erase_ask": _erase_ask,
    "erase": _erase,
    "leave": _leave,
    "reason": _reason,
}


async def _language(visit: Visit, person: Preferences) -> str:
    return language_of(visit.request, person.locale, default=(await account.get(visit.db)).locale)


async def _newer_letter(visit: Visit, error: Gone) -> Response[Any]:
    if error.code != "newer_letter_needed" or wants_json(visit.request):
        raise error
    language = await _language(visit, await preferences.read(visit.db, visit.subscriber_id))
    said = words(language).preferences
    return message(language, said.newer_title, said.newer_text, icon="note", status=410)


async def _left(visit: Visit, *, thanks: bool = False) -> Response[Any]:
    person = await preferences.read(visit.db, visit.subscriber_id)
    if wants_json(visit.request):
        return _json(_told(person, "left"))
    return left(await _language(visit, person), person.email, visit.token, thanks=thanks)


async def _show(visit: Visit, done: str = "", *, wrong_email: str = "") -> Response[Any]:
    person = await preferences.read(visit.db, visit.subscriber_id)
    if wants_json(visit.request):
        return _json(_told(person, done))
    language = await _language(visit, person)
    said = words(language)
    away = person.status not in HERE
    return page(
        "preferences",
        language,
        status=422 if wrong_email else 200,
        token=visit.token,
        title=said.preferences.page_title,
        brand="",
        who=said.preferences.who.format(email=masked(person.email)),
        topics=[
            {"slug": t.slug, "name": t.name, "description": t.description or "", "chosen": t.chosen}
            for t in person.topics
        ],
        often=[
            {"value": value, "text": getattr(said.preferences, f"often_{value}"), "chosen": person.frequency == value}
            for value in FREQUENCIES
        ],
        pauses=PAUSES,
        paused=_paused(said, person) if not away else "",
        consents=[
            {
                "purpose": consent.purpose,
                "text": consent.text,
                "policy_url": consent.policy_url or "",
                "since": said.preferences.consents_since.format(date=said.date(local(consent.at, person.timezone))),
                "leaving": consent.leaving,
            }
            for consent in person.consents
        ],
        notice=_notice(said, done) or (said.preferences.left if away else ""),
        good=bool(done),
        away=away,
        wrong_email=wrong_email,
    )


def _notice(said: Words, done: str) -> str:
    notices = {
        "saved": said.preferences.saved,
        "asked": said.preferences.asked,
        "resumed": said.preferences.resumed,
        "withdrawn": said.preferences.withdrawn,
        "address_asked": said.preferences.address_asked,
    }
    return notices.get(done, "")


def _paused(said: Words, person: Preferences) -> str:
    if person.paused_until is None:
        return ""
    return said.preferences.paused.format(date=said.date(local(person.paused_until, person.timezone)))


def _told(person: Preferences, done: str) -> dict[str, Any]:
    return {
        "result": done or None,
        "status": person.status,
        "interests": [topic.slug for topic in person.topics if topic.chosen],
        "frequency": person.frequency,
        "paused_until": f"{person.paused_until:%Y-%m-%dT%H:%M:%SZ}" if person.paused_until else None,
        "consents": [
            {"purpose": one.purpose, "text": one.text, "since": f"{one.at:%Y-%m-%dT%H:%M:%SZ}"}
            for one in person.consents
        ],
    }


def _json(told: dict[str, Any]) -> Response[bytes]:
    return Response(msgspec.json.encode(told), media_type="application/json", headers={"Cache-Control": "no-store"})


ROUTES: Final = [show_preferences, change_preferences, change_by_form]
