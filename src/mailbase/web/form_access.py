"""What every door of a form shares: which form, whether this page may use it, how often, and what the page says of itself."""

import re
from collections.abc import Mapping
from typing import Any, Final

from litestar import Response

from mailbase.audience import forms
from mailbase.audience.form_counts import Whence
from mailbase.audience.form_definition import origin_of
from mailbase.audience.forms import Form
from mailbase.audience.known_forms import Known
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import Forbidden, RateLimited
from mailbase.http import client_ip, header
from mailbase.optin import limits
from mailbase.pages.words import Language
from mailbase.web import bodies
from mailbase.web.common import AnyRequest, language_of

MOST_TEXT: Final = 500
WEB: Final = re.compile(r"https?://", re.IGNORECASE)
UTM: Final = re.compile(r"_?(utm_(?:source|medium|campaign|term|content))")


async def form_of(db: Connection, request: AnyRequest, key: str) -> Form:
    """Return the form, if the asking page may hold it."""
    form = await forms.by_key(db, key)
    admit(request, form)
    return form


async def latest(request: AnyRequest, key: str) -> Known:
    """Return the form and the settings as they are now: one small statement, where they are what was remembered.

    Raises:
        NotFound: there is no such form.

    """
    state = request.app.state
    async with state.pool.acquire(timeout=30) as db:
        known: Known = await state.forms.read(db, key)
    return known


async def known(request: AnyRequest, key: str, *, sure: bool) -> tuple[Known, bool]:
    """Return the form as it is remembered, or as it is now if that is wanted or has to be; and whether that is sure."""
    found: Known | None = None if sure else request.app.state.forms.at_hand(key)
    return (found, False) if found else (await latest(request, key), True)


def admit(request: AnyRequest, form: Form, *, sure: bool = True) -> None:
    """Let pages of the form's origins through. ``sure`` False: the form may be another by now, so nothing is counted.

    Raises:
        Forbidden: ``origin_not_allowed``.

    """
    origin = header(request.scope, b"origin").lower()
    if origin and origin != "null" and not form.allows(origin) and not _is_own(request, origin):
        if sure:
            request.app.state.guard.refused(form.id, "foreign_origin")
        raise Forbidden("This form may not be used from this origin.", code="origin_not_allowed")


def _is_own(request: AnyRequest, origin: str) -> bool:
    """Tell whether the hosted page asks, under the public name or the one it was reached by."""
    settings: Settings = request.app.state.settings
    return (
        origin == origin_of(settings.public_url) or origin.partition("://")[2] == header(request.scope, b"host").lower()
    )


def language_for(request: AnyRequest, form: Form, default: str | None) -> Language:
    return language_of(request, form.definition.locale, request.query_params.get("lang"), default=default)


async def count(request: AnyRequest, rules: tuple[limits.Limit, ...], form: Form) -> None:
    """Count this use of a form.

    Raises:
        RateLimited: by this visitor's network, or of this form by everybody.

    """
    settings: Settings = request.app.state.settings
    redis = request.app.state.redis
    if not settings.form_limits:
        return
    seconds = await limits.wait(redis, rules, limits.whose(client_ip(request.scope, settings.trusted_proxies)))
    if rules is limits.PER_IP and not seconds:
        seconds = await limits.wait(redis, limits.PER_FORM, str(form.id))
    if seconds:
        raise RateLimited("Too many submissions; try again later.", retry_after=seconds)


def with_origin(response: Response[Any], form: Form, request: AnyRequest) -> Response[Any]:
    """Let a page of an allowed origin read the answer."""
    response.headers.update(origin_headers(form, request))
    return response


def origin_headers(form: Form, request: AnyRequest) -> dict[str, str]:
    """Return what lets a page of an allowed origin read the answer (Fetch standard, CORS protocol)."""
    origin = header(request.scope, b"origin")
    if not form.definition.allowed_origins:
        return {"Access-Control-Allow-Origin": "*", "Vary": "Accept, Accept-Language"}
    allowed = {"Access-Control-Allow-Origin": origin} if origin and form.allows(origin) else {}
    return {**allowed, "Vary": "Origin, Accept, Accept-Language"}


def text(values: bodies.Values, name: str) -> str | None:
    """Return one value as a short text without NUL."""
    given = next(iter(values.get(name, [])), None)
    return given[:MOST_TEXT].replace("\0", "") or None if isinstance(given, str) else None


def whence(request: AnyRequest, values: bodies.Values, mark: str = "_") -> Whence:
    """Return from where somebody came, as their page says (``_page``, ``_source``, ``_mode``, ``_trigger``), else the ``Referer``."""
    referer = header(request.scope, b"referer")[:MOST_TEXT].replace("\0", "")
    said = text(values, f"{mark}page") or referer
    return Whence(
        # Owners see it, in proofs and statistics, where it may be made a link of.
        page=said if WEB.match(said) else None,
        source=text(values, f"{mark}source") or text(values, f"{mark}utm_source"),
        mode=text(values, f"{mark}mode"),
        trigger=text(values, f"{mark}trigger"),
    )


def utm(values: bodies.Values) -> dict[str, str]:
    """Return what the page's address said about the campaign that led there (``_utm_source`` …)."""
    found = {match[1]: text(values, name) for name in values if (match := UTM.fullmatch(name))}
    return {name: value[:200] for name, value in found.items() if value}


def asked_for(form: Form, query: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what a link to the hosted page carries: ``?source=flyer&utm_campaign=…`` and the values of hidden fields."""
    marks = {name: f"_{match[1]}" for name in query if (match := UTM.fullmatch(name))}
    marks |= {"source": "_source", "mode": "_mode"}
    marks |= {field.name: field.name for field in form.definition.fields if field.type == "hidden"}
    return {mark: [query[name][:MOST_TEXT].replace("\0", "")] for name, mark in marks.items() if query.get(name)}
