"""The letter in the browser."""

from typing import Final

from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from mailbase.campaigns import in_browser
from mailbase.db import Connection
from mailbase.errors import NotFound
from mailbase.tokens import Tokens

HEADERS: Final = {
    # The sender's HTML, shown from our origin: it may look like anything and run nothing.
    "Content-Security-Policy": (
        "default-src 'none'; img-src * data:; style-src * 'unsafe-inline'; font-src * data:; media-src *; form-action 'none'; "
        "base-uri 'none'; frame-ancestors 'none'; sandbox allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation"
    ),
    "Cache-Control": "no-store, private",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


@get(
    "/v/{token:str}",
    media_type=MediaType.HTML,
    operation_id="view_letter",
    tags=["Public"],
    summary="The letter in the browser",
)
async def view(token: FromPath[str], db: NamedDependency[Connection], tokens: NamedDependency[Tokens]) -> Response[str]:
    """Show one reader's letter."""
    numbers = tokens.read("view", token, 1)
    if numbers is None:
        raise NotFound
    return Response(await in_browser.page(db, numbers[0], tokens), media_type=MediaType.HTML, headers=HEADERS)


ROUTES: Final = [view]
