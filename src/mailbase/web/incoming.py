"""``POST /in/{provider}/{source}``: where relay providers report what became of letters.

Verified first, outside any transaction; then stored, then applied. Whatever is wrong with a signature or a secret gets the same 401,
and nothing of it is kept. Only refused requests are counted, by visitor and source, so that a provider that signs is never slowed down.
"""

from typing import Any, Final

from litestar import Request, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from msgspec import Struct

from mailbase.db import Pool
from mailbase.errors import RateLimited, Unauthorized
from mailbase.http import PROBLEM, Problem, client_ip
from mailbase.optin import limits
from mailbase.signals import source_events, sources
from mailbase.signals.providers_in.event import Desk, Incoming

LARGEST: Final = 4 * 1024 * 1024
REFUSED: Final = (limits.Limit("in", 60, 60),)


class Thanks(Struct):
    """How many events a request held, and how many of them were new."""

    events: int
    new: int


@post(
    "/in/{provider:str}/{source:str}",
    status_code=200,
    request_max_body_size=LARGEST,
    responses={401: ResponseSpec(Problem, description="Not signed by the source.", media_type=PROBLEM)},
    operation_id="take_provider_report",
    tags=["Public"],
)
async def take_report(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    provider: FromPath[str],
    source: FromPath[str],
) -> Thanks:
    """Take a relay provider's webhook: `ses`, `sendgrid`, `mailgun`, `postmark`, `brevo`."""
    state = request.app.state
    visitor = f"{limits.whose(client_ip(request.scope, state.settings.trusted_proxies))}:{source[:64]}"
    if seconds := await limits.spent(state.redis, REFUSED, visitor):
        raise RateLimited("Too many requests that the source did not sign; try again later.", retry_after=seconds)
    async with pool.acquire(timeout=30) as db:
        opened = await sources.find(db, state.vault, provider, source)
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = {name: values[0] for name, values in request.query_params.dict().items()}
    incoming = Incoming(headers, query, await request.body())
    try:
        reading = await sources.READERS[provider][1](incoming, opened.trust, Desk(state.outgoing, opened.now))
        taken = await source_events.take(pool, opened.id, reading, incoming.body)
    except Unauthorized:
        await limits.wait(state.redis, REFUSED, visitor)
        raise
    return Thanks(taken.events, taken.new)


ROUTES: Final = [take_report]
"""The handlers of this door."""
