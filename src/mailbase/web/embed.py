"""The embed script, its demo page, and the pages' stylesheet: files, served as written, and compressed on their way."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from litestar import Response, get
from litestar.params import FromPath, FromQuery

from mailbase import resources
from mailbase.errors import NotFound
from mailbase.http import header
from mailbase.web.common import REFUSALS, AnyRequest, answers, asset

_KEY: Final = re.compile(r"[a-z0-9]{1,64}")


@cache
def _file(name: str) -> tuple[bytes, str]:
    content = (resources.embed() / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:20]}"'


_GZIP: Final = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[^,]*)?(?:,|$)", re.IGNORECASE)


@cache
def _packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _travelling(request: AnyRequest, content: bytes, media_type: str, headers: Mapping[str, str]) -> Response[bytes]:
    """Answer with a file of ours, compressed for whoever takes that; pages are not, because they hold tokens (BREACH)."""
    packed = _GZIP.search(header(request.scope, b"accept-encoding")) is not None
    return Response(
        _packed(content) if packed else content,
        media_type=media_type,
        headers={**headers, "Vary": "Accept-Encoding", **({"Content-Encoding": "gzip"} if packed else {})},
    )


SCRIPTS: Final = {
    "v1.js": "mailbase.js",
    "v1-send.js": "send.js",
    "v1-date.js": "date.js",
    "v1-popup.js": "popup.js",
    "v1-own.js": "own.js",
    "v1-work.js": "work.js",
    "till.js": "till.js",
}
"""What is served under ``/embed/``, by the names pages know: the first is the one they name, it brings the others when they are needed."""


@get(
    "/embed/v1.js",
    media_type="text/javascript",
    responses=answers(304),
    operation_id="get_embed_script",
    tags=["Public"],
)
async def get_script(request: AnyRequest) -> Response[bytes]:
    """Return the script a page needs beside `<div data-mailbase-form="KEY"></div>`."""
    return _script(request, "v1.js")


@get(
    "/embed/{name:str}",
    media_type="text/javascript",
    exception_handlers=REFUSALS,
    operation_id="get_embed_part",
    include_in_schema=False,
)
async def get_part(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
    """Return what the script brings when it is needed."""
    return _script(request, name)


def _script(request: AnyRequest, name: str) -> Response[bytes]:
    if name not in SCRIPTS:
        raise NotFound("There is no such script.")
    content, tag = _file(SCRIPTS[name])
    headers = {
        "Cache-Control": "public, max-age=3600",
        "ETag": f"W/{tag}",
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
    }
    if header(request.scope, b"if-none-match").removeprefix("W/") == tag:
        return Response(b"", status_code=304, headers={**headers, "Vary": "Accept-Encoding"})
    return _travelling(request, content, "text/javascript", headers)


@get("/embed/demo", operation_id="get_embed_demo", tags=["Public"], include_in_schema=False)
async def get_demo(form: FromQuery[str] = "") -> Response[bytes]:
    """Show a form inside a page that is not ours."""
    key = form if _KEY.fullmatch(form) else "KEY"
    content = _file("demo.html")[0].replace(b'"KEY"', f'"{key}"'.encode())
    policy = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    return Response(
        content,
        media_type="text/html",
        headers={"Content-Security-Policy": policy, "X-Robots-Tag": "noindex, nofollow"},
    )


@get("/assets/pages.css", operation_id="get_stylesheet", tags=["Public"], include_in_schema=False)
async def get_stylesheet(request: AnyRequest) -> Response[bytes]:
    """Return the stylesheet of the public pages."""
    return _travelling(
        request, asset("pages.css"), "text/css", {"Cache-Control": "public, max-age=31536000, immutable"}
    )


ROUTES: Final = [get_script, get_part, get_demo, get_stylesheet]
