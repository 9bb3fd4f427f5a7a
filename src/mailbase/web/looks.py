"""What the public pages load, all of it from here: the owner's colours, icon and logo, and the script of a page that may have one."""

from typing import Final

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from mailbase.db import Connection
from mailbase.errors import NotFound
from mailbase.http import preferred
from mailbase.pages import logos
from mailbase.pages.logos import Logo
from mailbase.pages.look import LOOK, icon
from mailbase.web.common import REFUSALS, AnyRequest, asset

FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
"""For what has its content's hash in its address."""
AN_HOUR: Final = {"Cache-Control": "public, max-age=3600"}


@get("/", operation_id="home", tags=["Public"], include_in_schema=False)
async def home(request: AnyRequest) -> Response[bytes]:
    """Lead a browser on to the owner's website, or to the reference; programs find nothing here."""
    if preferred(request.scope) != "html":
        raise NotFound
    worn = LOOK.get()
    target = (worn.account.website if worn else None) or "/docs"
    headers = {"Location": target, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return Response(b"", status_code=302, media_type="text/html", headers=headers)


@get("/assets/look.css", operation_id="get_look", tags=["Public"], include_in_schema=False)
async def get_look() -> Response[bytes]:
    """Return the owner's colours and rules."""
    worn = LOOK.get()
    return Response((worn.css if worn else "").encode(), media_type="text/css", headers=FOREVER)


@get(["/assets/icon.svg", "/favicon.ico"], operation_id="get_icon", tags=["Public"], include_in_schema=False)
async def get_icon() -> Response[bytes]:
    """Return what stands in the browser's tab: a letter in the owner's colour, or their logo where it is about square."""
    worn = LOOK.get()
    if worn and worn.logo and is_square(worn.logo):
        return Response(b"", status_code=302, media_type="text/plain", headers={"Location": worn.logo.path, **AN_HOUR})
    drawn = icon(worn.account.accent if worn else None)
    headers = {**AN_HOUR, "Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"}
    return Response(drawn.encode(), media_type="image/svg+xml", headers=headers)


def is_square(logo: Logo) -> bool:
    """Tell whether a logo is still seen in a square of 16 pixels."""
    return max(logo.width, logo.height) <= 1.4 * min(logo.width, logo.height)


@get("/assets/confirm.js", operation_id="get_confirm_script", tags=["Public"], include_in_schema=False)
async def get_confirm_script() -> Response[bytes]:
    """Return what presses the confirmation's button, for owners who want that."""
    return Response(asset("confirm.js"), media_type="text/javascript", headers=FOREVER)


@get(
    "/assets/{file:str}",
    operation_id="get_logo",
    tags=["Public"],
    include_in_schema=False,
    exception_handlers=REFUSALS,
)
async def get_logo(db: NamedDependency[Connection], file: FromPath[str]) -> Response[bytes]:
    """Return the owner's logo."""
    name, _, _ = file.partition(".")
    found = await logos.content(db, name.removeprefix("logo-")) if name.startswith("logo-") else None
    if found is None:
        raise NotFound
    headers = {
        **FOREVER,
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    return Response(found[0], media_type=found[1], headers=headers)


ROUTES: Final = [home, get_look, get_icon, get_confirm_script, get_logo]
