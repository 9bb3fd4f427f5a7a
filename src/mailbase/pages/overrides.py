"""Pages in the owner's own template: ours inside theirs, or not at all.

A template is a page around pieces we make: ``{{ content }}`` is all that belongs into it, ``{{ form }}`` only its forms. Whoever
leaves the forms out is refused; should a template fail later, readers get our page, and the owner a line in the log.
"""

import re
from datetime import datetime
from html.parser import HTMLParser
from typing import Final, Literal, get_args

from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import NotFound

Name = Literal[
    "every",
    "form",
    "more",
    "confirm",
    "confirmed",
    "preferences",
    "address",
    "erase",
    "own_data",
    "unsubscribe",
    "left",
    "download",
    "message",
    "error",
]
"""``every``: each page that has no template of its own."""
NAMES: Final[tuple[Name, ...]] = get_args(Name)
BARE: Final = frozenset({"till", "sheet"})
"""What stands on the counter or is printed is never dressed."""
PIECES: Final = frozenset(
    {"page", "title", "lang", "direction", "head", "content", "form", "logo", "name", "website", "address", "words"}
)
"""What a template may name."""
LARGEST: Final = 64 * 1024

FORM: Final = re.compile(r"<form\b.*?</form>", re.DOTALL)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_BURIES: Final = re.compile(
    "a|audio|button|canvas|datalist|form|iframe|math|noembed|noframes|noscript|object|option|plaintext|script|select|style"
    "|svg|template|textarea|title|video|xmp"
)
"""Elements in which a browser makes no form, or one that cannot be sent."""
_NEVER_CLOSED: Final = re.compile("area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr")


class Page(Struct, kw_only=True):
    """An owner's page."""

    name: Name
    template: str
    updated_at: datetime


def forms_of(content: str) -> list[str]:
    """Return a page's forms as they stand in its HTML."""
    return FORM.findall(content)


def keeps(html: str, content: str) -> bool:
    """Tell whether a finished page still holds what it is there for: its forms, or all of it where it has none."""
    shown = _COMMENT.sub("", html)
    return all(piece in shown for piece in forms_of(content) or [content])


class _Around(HTMLParser):
    """The elements that are open where a piece of HTML ends."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, frozenset[str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if _NEVER_CLOSED.fullmatch(tag) is None:
            self.open.append((tag, frozenset(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        for at in range(len(self.open) - 1, -1, -1):
            if self.open[at][0] == tag:
                del self.open[at:]
                return

    def buries(self) -> bool:
        """Tell whether what comes next is no form to a browser, or one nobody sees or can send."""
        return "<" in self.rawdata or any(  # in the middle of a tag
            _BURIES.fullmatch(tag)
            or not names.isdisjoint({"hidden", "inert"})
            or (tag == "fieldset" and "disabled" in names)
            or (tag == "dialog" and "open" not in names)
            for tag, names in self.open
        )


def buries(html: str, content: str) -> bool:
    """Tell whether a finished page that holds its forms has put one of them where nobody can use it."""
    shown = _COMMENT.sub("", html)
    for piece in forms_of(content) or [content]:
        places = [match.start() for match in re.finditer(re.escape(piece), shown)]
        if all(_Around(shown[:at]).buries() for at in places[:10]):
            return True
    return False


def leads_away(html: str) -> bool:
    """Tell whether a page would leave by itself: what a ``<meta http-equiv>`` asks for no policy of ours stops."""
    return re.search(r"<meta[^>]*\shttp-equiv\b", html, re.IGNORECASE) is not None


GET: Final = """
SELECT name, template, updated_at FROM page_templates WHERE name = $1
"""


async def get(db: Connection, name: Name) -> Page:
    """Return an owner's page.

    Raises:
        NotFound: there is none; ours is shown.

    """
    row = await db.fetchrow(GET, name)
    if row is None:
        raise NotFound(f"The page {name} has no template of its own.")
    return Page(**dict(row))


ALL: Final = """
SELECT name, template, updated_at FROM page_templates ORDER BY name
"""


async def every(db: Connection) -> list[Page]:
    """Return the owner's pages."""
    return [Page(**dict(row)) for row in await db.fetch(ALL)]


async def sources(db: Connection) -> dict[str, str]:
    """Return the owner's templates by name."""
    return {page.name: page.template for page in await every(db)}


PUT: Final = """
INSERT INTO page_templates (name, template) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET template = EXCLUDED.template, updated_at = now()
RETURNING name, template, updated_at
"""


async def put(db: Connection, name: Name, template: str) -> Page:
    """Keep an owner's page, which has been checked."""
    row = await db.fetchrow(PUT, name, template)
    assert row is not None  # noqa: S101  (RETURNING)
    return Page(**dict(row))


DELETE: Final = """
DELETE FROM page_templates WHERE name = $1 RETURNING name
"""


async def delete(db: Connection, name: Name) -> None:
    """Go back to ours.

    Raises:
        NotFound: there was none.

    """
    if await db.fetchval(DELETE, name) is None:
        raise NotFound(f"The page {name} has no template of its own.")
