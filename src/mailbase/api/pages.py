"""``/v1/pages``: the public pages in the owner's own templates."""

from typing import Annotated, Any, Final

import msgspec
from litestar import MediaType, Request, Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from mailbase.api.common import Body, Listing, scope
from mailbase.api.settings import changed
from mailbase.audience.account import LOCALE
from mailbase.db import Connection
from mailbase.errors import NotFound
from mailbase.pages import engine, look, overrides
from mailbase.pages.look import Look
from mailbase.pages.overrides import Name, Page
from mailbase.pages.samples import PAGES, samples

Template = Annotated[
    str,
    Meta(min_length=1, max_length=overrides.LARGEST, examples=["<html>{{ head }}<body>{{ content }}</body></html>"]),
]


class NewPage(Body, kw_only=True):
    """An owner's page."""

    template: Template


class Trial(Body, kw_only=True):
    """What to show."""

    template: Template | None = None
    """None: the one that is kept, or ours."""
    locale: Annotated[str, Meta(pattern=LOCALE, max_length=35, examples=["en"])] | None = None


def _name(name: str) -> Name:
    found = next((one for one in overrides.NAMES if one == name), None)
    if found is None:
        raise NotFound(f"The pages are {', '.join(overrides.NAMES)}.")
    return found


async def _check(template: str, name: Name, worn: Look) -> None:
    said = worn.languages.words("en")
    engine.check(template, {page: samples(page, said) for page in (PAGES if name == "every" else [name])}, worn)


@get("/pages", guards=[scope("admin")], operation_id="list_pages", tags=["Settings"])
async def list_pages(db: NamedDependency[Connection]) -> Listing[Page]:
    """List the pages that have a template of the owner's; every other one is mailbase's."""
    return Listing(data=await overrides.every(db), next_cursor=None)


@get("/pages/{name:str}", guards=[scope("admin")], operation_id="get_page", tags=["Settings"])
async def get_page(db: NamedDependency[Connection], name: FromPath[str]) -> Page:
    """Return a page's own template."""
    return await overrides.get(db, _name(name))


@put("/pages/{name:str}", guards=[scope("admin")], operation_id="put_page", tags=["Settings"])
async def put_page(
    request: Request[Any, Any, Any], db: NamedDependency[Connection], name: FromPath[str], data: JSONBody[NewPage]
) -> Page:
    """Show a page inside a template of your own; `every` is for all that have none.

    A template is MiniJinja around pieces: `head`, `content` (all that belongs into the page) or `form` (its forms alone), `logo`,
    `name`, `website`, `address`, `title`, `words`. One that does not compile, names anything else or leaves out a form is refused.
    """
    known = _name(name)
    await _check(data.template, known, await look.read(db, request.app.state.tables))
    changed(request)
    return await overrides.put(db, known, data.template)


@delete("/pages/{name:str}", guards=[scope("admin")], operation_id="delete_page", tags=["Settings"])
async def delete_page(request: Request[Any, Any, Any], db: NamedDependency[Connection], name: FromPath[str]) -> None:
    """Show mailbase's own page again."""
    await overrides.delete(db, _name(name))
    changed(request)


@post(
    "/pages/{name:str}/preview",
    guards=[scope("admin")],
    operation_id="preview_page",
    tags=["Settings"],
    status_code=200,
    media_type=MediaType.HTML,
)
async def preview_page(
    request: Request[Any, Any, Any], db: NamedDependency[Connection], name: FromPath[str], data: JSONBody[Trial]
) -> Response[str]:
    """Return a page as HTML, with somebody's values, in the template given here, the one kept, or mailbase's."""
    known = _name(name)
    worn = await look.read(db, request.app.state.tables)
    if data.template is not None:
        await _check(data.template, known, worn)
        worn = msgspec.structs.replace(worn, overrides={**worn.overrides, known: data.template})
    page = "confirm" if known == "every" else known
    language = worn.languages.choose(data.locale, default=worn.account.locale)
    values = samples(page, worn.languages.words(language))[-1]
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; sandbox"}
    html = engine.render(page, language, values, worn, worn.languages)
    return Response(html, media_type=MediaType.HTML, headers=headers)


ROUTES: Final = [list_pages, get_page, put_page, delete_page, preview_page]
