"""``/f/{key}/challenge`` and ``/f/{key}/check``: the sum a browser does unseen while a form is attacked, and "did you mean gmail.com?"."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from litestar import HttpMethod, Response, get, post, route
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from mailbase.audience import addresses
from mailbase.audience.addresses import Address
from mailbase.db import Connection
from mailbase.errors import Forbidden, MailbaseError
from mailbase.http import work_of
from mailbase.optin import address_hints, limits, proof
from mailbase.optin.protection import Guard
from mailbase.web import bodies
from mailbase.web.common import REFUSALS, AnyRequest, answers, refuse
from mailbase.web.form_access import count, form_of, origin_headers, text, with_origin

NEVER: Final = {"Cache-Control": "no-store"}


@get(
    "/f/{key:str}/challenge",
    status_code=200,
    responses=answers(204),
    exception_handlers=REFUSALS,
    operation_id="get_form_challenge",
    tags=["Public"],
)
async def get_challenge(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[Any]:
    """Return a challenge of ALTCHA's protocol (version 2), to be posted solved as `altcha`; 204: none is wanted just now."""
    guard: Guard = request.app.state.guard
    form = await form_of(db, request, key)
    await work_of(request.scope).finish(commit=True)
    await guard.refresh(request.app.state.pool)
    if not guard.wants_proof(form):
        return with_origin(Response(None, status_code=204, headers=NEVER), form, request)
    try:
        await count(request, limits.CHECKS_PER_IP, form)
    except MailbaseError as error:
        return with_origin(refuse(request, error), form, request)
    made = proof.challenge(guard.secrets, form.id, now=datetime.now(UTC))
    answer = Response(json.dumps(made).encode(), media_type="application/json", headers=NEVER)
    return with_origin(answer, form, request)


@post(
    "/f/{key:str}/check",
    status_code=200,
    exception_handlers=REFUSALS,
    operation_id="check_form_address",
    tags=["Public"],
)
async def check_address(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[Any]:
    """Return `{hint}`: the address that was probably meant, or null. It looks at the spelling alone and tells nothing about anybody."""
    form = await form_of(db, request, key)
    try:
        await count(request, limits.CHECKS_PER_IP, form)
        body = await request.body()
        # Text is what a page may send across origins without asking first.
        is_text = request.content_type[0].lower() in {"text/plain", ""}
        values = bodies.json_values(body) if is_text and body else await bodies.read(request)
    except (MailbaseError, HTTPException) as error:
        return with_origin(refuse(request, error), form, request)
    address = addresses.read(text(values, "email") or "")
    wanted = form.definition.protection.typo_hint and isinstance(address, Address)
    hint = address_hints.hint(address.email) if wanted and isinstance(address, Address) else None
    answer = Response(json.dumps({"hint": hint}).encode(), media_type="application/json", headers=NEVER)
    return with_origin(answer, form, request)


@route(
    ["/f/{key:str}/challenge", "/f/{key:str}/check"],
    http_method=[HttpMethod.OPTIONS],
    status_code=204,
    exception_handlers=REFUSALS,
    operation_id="ask_protection_origin",
    include_in_schema=False,
)
async def ask_origin(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[None]:
    """Tell a browser whether a page of another origin may ask."""
    headers = {"Allow": "GET, HEAD, OPTIONS, POST"}
    try:
        form = await form_of(db, request, key)
    except Forbidden:
        return Response(None, status_code=204, headers=headers)
    headers |= origin_headers(form, request) | {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "Content-Type, Accept",
        "Access-Control-Max-Age": "86400",
    }
    return Response(None, status_code=204, headers=headers)


# First the preflight: Litestar gives a path an OPTIONS of its own once another method comes before it.
ROUTES: Final = [ask_origin, get_challenge, check_address]
