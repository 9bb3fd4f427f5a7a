"""``/v1/forms/{id}/till``: links that let a device at the counter show a form in till mode."""

from datetime import datetime
from typing import Annotated, Final

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct

from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.audience import forms
from mailbase.audience.forms import Form
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.optin import tills
from mailbase.optin.tills import LONGEST_NAME, MOST_DAYS, Till
from mailbase.tokens import Tokens


class TillIn(Body, kw_only=True):
    """A new till: what statistics call it, and for how many days its link is valid."""

    name: Annotated[str, Meta(examples=["Front desk"])]
    days: int = 365


class TillOut(Struct, kw_only=True):
    """A till and its link. Whoever has the link can hand addresses in there: it belongs on that device and nowhere else."""

    id: int
    name: str
    source: str
    url: str
    created_at: datetime
    expires_at: datetime


def _shown(till: Till, form: Form, tokens: Tokens, settings: Settings) -> TillOut:
    return TillOut(
        id=till.id,
        name=till.name,
        source=till.source,
        url=f"{settings.public_url}/f/{form.key}/till/{tokens.sign('till', till.id)}",
        created_at=till.created_at,
        expires_at=till.expires_at,
    )


@post("/forms/{form_id:int}/till", guards=[scope("forms:write")], operation_id="create_till", tags=["Forms"])
async def create_till(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    tokens: NamedDependency[Tokens],
    form_id: FromPath[int],
    data: JSONBody[TillIn],
) -> TillOut:
    """Make a link for a till. It lifts the limit per network to one per till, and counts as the source `till:` and the name."""
    form = await forms.get(db, form_id)
    name = " ".join(data.name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise Invalid.field("name", "invalid_name", f"A name of 1 to {LONGEST_NAME} characters is needed.")
    if not 1 <= data.days <= MOST_DAYS:
        raise Invalid.field("days", "out_of_range", f"From 1 to {MOST_DAYS} days.")
    return _shown(await tills.create(db, form_id, name, days=data.days), form, tokens, settings)


@get("/forms/{form_id:int}/tills", guards=[scope("forms:write")], operation_id="list_tills", tags=["Forms"])
async def list_tills(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    tokens: NamedDependency[Tokens],
    form_id: FromPath[int],
    page: NamedDependency[Page],
) -> Listing[TillOut]:
    """List a form's tills, newest first, with their links."""
    form = await forms.get(db, form_id)
    found = [
        _shown(till, form, tokens, settings)
        for till in await tills.page(db, form_id, before=page.before, limit=page.take)
    ]
    return paged(page, found, total=await tills.count(db, form_id) if page.include_total else None)


@delete(
    "/forms/{form_id:int}/tills/{till_id:int}",
    guards=[scope("forms:write")],
    operation_id="delete_till",
    tags=["Forms"],
)
async def delete_till(db: NamedDependency[Connection], form_id: FromPath[int], till_id: FromPath[int]) -> None:
    """Take a till's link back, because the device was lost or is used for something else."""
    await tills.delete(db, form_id, till_id)


ROUTES: Final = [create_till, list_tills, delete_till]
