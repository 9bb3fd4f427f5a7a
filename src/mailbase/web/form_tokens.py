"""The token of a page's own forms: a hidden field, so that the address they are sent to says nothing about anybody.

``POST /u`` with ``token=…`` is ``POST /u/{token}``, and so for ``/c``, ``/p``, ``/a``, ``/d`` and a till. The addresses with the token in
them stay for programs (RFC 8058 posts to the very address in the letter).
"""

from typing import Any, Final

from litestar import MediaType, Response, get

from mailbase.errors import NotFound
from mailbase.web import bodies
from mailbase.web.common import REFUSALS, AnyRequest

FIELD: Final = "token"


def token_of(values: bodies.Values) -> str:
    """Return the token a form brought; empty where there is none, which no purpose knows."""
    found = next(iter(values.get(FIELD, ())), "")
    return found if isinstance(found, str) else ""


async def posted(request: AnyRequest) -> str:
    """Return the token a page's own form brought.

    Raises:
        HTTPException, Malformed, TooLarge: as ``bodies.read``.

    """
    return token_of(await bodies.read(request))


@get(
    ["/c", "/u", "/p", "/a", "/d"],
    media_type=MediaType.HTML,
    exception_handlers=REFUSALS,
    operation_id="show_door_without_token",
    tags=["Public"],
    include_in_schema=False,
)
async def show_nothing() -> Response[Any]:
    """Say that the address is incomplete: so stands in the browser what a form was sent to, and somebody opened it anew."""
    raise NotFound


ROUTES: Final = [show_nothing]
