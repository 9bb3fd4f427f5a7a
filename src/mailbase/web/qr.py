"""``/f/{key}/qr.svg``, ``qr.png``: the hosted page's address as a QR code for the counter, the window, the parcel.

Its level of correction (Q: a quarter of it may be dirty or torn) and its quiet zone of four modules are made for print. The code says
where it was seen: ``?source=`` reaches the statistics. Words under it are drawn in SVG only; PNG has no letters without a font.
"""

import io
import textwrap
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import escape

import segno
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Struct

from mailbase.audience import forms
from mailbase.audience.forms import Form
from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.web.common import REFUSALS, AnyRequest, desk_of
from mailbase.web.form_words import title_of

QUIET: Final = 4
LONGEST_LABEL: Final = 80
LONGEST_SOURCE: Final = 50
SMALLEST: Final = 64
LARGEST: Final = 4096
PER_MODULE: Final = 8
"""Pixels a module where no size is asked for."""
HEADERS: Final = {
    "Cache-Control": "public, max-age=3600",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


class Asked(Struct, frozen=True):
    """What the address of a code may say: ``?label=&size=&source=``; ``size`` in pixels, of its width."""

    label: str
    size: int | None
    source: str


def asked(request: AnyRequest) -> Asked:
    """Read the query.

    Raises:
        Invalid: a size out of range, a label or a source that is too long.

    """
    query = request.query_params
    size, label = query.get("size", ""), " ".join(query.get("label", "").split())
    if size and not (size.isascii() and size.isdecimal() and len(size) < 6 and SMALLEST <= int(size) <= LARGEST):
        raise Invalid.field("size", "out_of_range", f"A width of {SMALLEST} to {LARGEST} pixels is needed.")
    if len(label) > LONGEST_LABEL or not label.isprintable():
        raise Invalid.field("label", "too_long", f"A label has at most {LONGEST_LABEL} characters.")
    return Asked(label, int(size) if size else None, source_of(request))


def source_of(request: AnyRequest) -> str:
    """Return what the statistics shall call whoever comes by the code.

    Raises:
        Invalid: it is too long.

    """
    source = " ".join(request.query_params.get("source", "qr").split()) or "qr"
    if len(source) > LONGEST_SOURCE or not source.isprintable():
        raise Invalid.field("source", "too_long", f"A source has at most {LONGEST_SOURCE} characters.")
    return source


def code_of(form: Form, public_url: str, source: str) -> segno.QRCode:
    """Return the code of a form's hosted page."""
    return segno.make(f"{public_url}/f/{form.key}?source={quote(source, safe='')}", error="q", micro=False)


def svg(code: segno.QRCode, *, name: str, label: str = "", size: int | None = None) -> str:
    """Return the code as SVG, one path; the label stands under it, ``name`` is what those hear who do not see it."""
    width = code.symbol_size(border=QUIET)[0]
    lines = textwrap.wrap(label, 25)
    em = width / 16
    height = width + (len(lines) * em * 1.25 + em * 0.5 if lines else 0)
    pixels = size or width * PER_MODULE
    runs = [_runs(y, row) for y, row in enumerate(map(tuple, code.matrix_iter(border=QUIET)))]
    texts = [
        f'<text x="{width / 2:g}" y="{width + em * (0.6 + 1.25 * n):g}" font-size="{em:g}" font-weight="600" text-anchor="middle"'
        f' font-family="system-ui, Helvetica, Arial, sans-serif" fill="#000">{escape(line)}</text>'
        for n, line in enumerate(lines)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{pixels}" height="{pixels * height / width:g}"'
        f' viewBox="0 0 {width} {height:g}"><title>{escape(name)}</title><path fill="#fff" d="M0 0h{width}v{height:g}H0z"/>'
        f'<path id="code" fill="#000" shape-rendering="crispEdges" d="{"".join(runs)}"/>{"".join(texts)}</svg>'
    )


def _runs(y: int, row: Sequence[int]) -> str:
    """Return the dark modules of a line as rectangles, as few as there can be."""
    drawn: list[str] = []
    x = 0
    while x < len(row):
        end = x
        while end < len(row) and row[end]:
            end += 1
        if end > x:
            drawn.append(f"M{x} {y}h{end - x}v1h-{end - x}z")
        x = max(end, x + 1)
    return "".join(drawn)


@get(
    "/f/{key:str}/qr.svg",
    media_type="image/svg+xml",
    exception_handlers=REFUSALS,
    operation_id="get_form_qr",
    tags=["Public"],
)
async def get_svg(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[bytes]:
    """Return the hosted page's address as a QR code: `?label=` under it, `?size=` pixels wide, `?source=` for the statistics."""
    form = await forms.by_key(db, key)
    want = asked(request)
    code = code_of(form, desk_of(request).public_url, want.source)
    picture = svg(code, name=want.label or title_of(form), label=want.label, size=want.size)
    return Response(picture.encode(), media_type="image/svg+xml", headers=HEADERS)


@get(
    "/f/{key:str}/qr.png",
    media_type="image/png",
    exception_handlers=REFUSALS,
    operation_id="get_form_qr_png",
    tags=["Public"],
)
async def get_png(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[bytes]:
    """Return the same as a PNG without words: at most `?size=` pixels wide, each module the same whole number of them."""
    form = await forms.by_key(db, key)
    want = asked(request)
    if want.label:
        raise Invalid.field("label", "not_available", "Words are drawn in qr.svg only.")
    code = code_of(form, desk_of(request).public_url, want.source)
    scale = max(1, want.size // code.symbol_size(border=QUIET)[0]) if want.size else PER_MODULE
    out = io.BytesIO()
    code.save(out, kind="png", scale=scale, border=QUIET)
    return Response(out.getvalue(), media_type="image/png", headers=HEADERS)


ROUTES: Final = [get_svg, get_png]
