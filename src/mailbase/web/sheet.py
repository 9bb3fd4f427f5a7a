"""``/f/{key}/sheet``: the sign for the till, to print: a headline, the QR code, what the guest gets.

A6 (``paper=a6``), or four of them on A4 with lines to cut along (``paper=a4``). The code is drawn, not rasterised, so it is sharp on every
printer; the sheet is black on white with the owner's logo, because that is what cameras and ink like.
"""

from typing import Final
from urllib.parse import urlencode

from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from minijinja import Markup
from msgspec import Struct

from mailbase.audience import account, forms
from mailbase.audience.forms import Form
from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.optin import magnets
from mailbase.pages.engine import address, asset
from mailbase.pages.words import Language, words
from mailbase.web.common import REFUSALS, AnyRequest, desk_of, page
from mailbase.web.form_access import language_for
from mailbase.web.form_words import title_of
from mailbase.web.qr import QUIET, code_of, source_of, svg

LONGEST_HEADLINE: Final = 120
LONGEST_LINE: Final = 120
MOST_LINES: Final = 3
COPIES: Final = {"a6": 1, "a4": 4}
SHORT: Final = 34
MIDDLE: Final = 70
"""Up to so many characters a headline is set large, or less large."""


class Sheet(Struct, frozen=True):
    """What stands on it."""

    headline: str
    lines: list[str]
    gift: str


@get("/assets/sheet.css", operation_id="get_sheet_stylesheet", tags=["Public"], include_in_schema=False)
async def get_stylesheet() -> Response[bytes]:
    """Return the stylesheet of the printed sheet."""
    return Response(
        asset("sheet.css"),
        media_type="text/css",
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )


@get(
    "/f/{key:str}/sheet",
    media_type=MediaType.HTML,
    exception_handlers=REFUSALS,
    operation_id="show_form_sheet",
    tags=["Public"],
)
async def show_sheet(request: AnyRequest, db: NamedDependency[Connection], key: FromPath[str]) -> Response[str]:
    """Show the sign for the counter, to print: `?paper=a6|a4`, `?headline=`, `?lines=` with `|` between them, `?source=`."""
    form = await forms.by_key(db, key)
    language = language_for(request, form, (await account.get(db)).locale)
    paper = request.query_params.get("paper", "a6").lower()
    if paper not in COPIES:
        raise Invalid.field("paper", "invalid_value", "paper is a6 or a4")
    magnet = await magnets.find(db, form.id)
    sheet = _sheet(request, form, language, magnet.title if magnet else "")
    public = desk_of(request).public_url
    code = code_of(form, public, source_of(request))
    other = next(name for name in COPIES if name != paper)
    return page(
        "sheet",
        language,
        title=title_of(form),
        stylesheet=address("sheet.css"),
        paper=paper,
        other=other,
        other_query=urlencode({**dict(request.query_params), "paper": other}),
        copies=list(range(COPIES[paper])),
        headline=sheet.headline,
        size="large" if len(sheet.headline) <= SHORT else "middle" if len(sheet.headline) <= MIDDLE else "small",
        lines=sheet.lines,
        gift=sheet.gift,
        code=Markup(svg(code, name=title_of(form))),
        side=code.symbol_size(border=QUIET)[0],
        shown_url=f"{public}/f/{form.key}".partition("://")[2],
    )


def _sheet(request: AnyRequest, form: Form, language: Language, gift: str) -> Sheet:
    query = request.query_params
    said = words(language).till
    headline = " ".join(query.get("headline", "").split()) or title_of(form)
    given = [" ".join(line.split()) for line in query.get("lines", "").split("|")]
    lines = [line for line in given if line]
    if len(headline) > LONGEST_HEADLINE and "headline" in query:
        raise Invalid.field("headline", "too_long", f"A headline has at most {LONGEST_HEADLINE} characters.")
    if len(lines) > MOST_LINES or any(len(line) > LONGEST_LINE or not line.isprintable() for line in lines):
        raise Invalid.field("lines", "too_long", f"At most {MOST_LINES} lines of {LONGEST_LINE} characters.")
    return Sheet(
        headline,
        lines or [form.definition.texts.intro or said.sheet_lines],
        said.sheet_gift.format(title=gift) if gift and not lines else "",
    )


ROUTES: Final = [get_stylesheet, show_sheet]
