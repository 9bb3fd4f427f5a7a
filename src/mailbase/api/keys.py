"""``/v1/keys``: make, list and end API keys."""

from datetime import datetime
from typing import Annotated, Final

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.audience import keys
from mailbase.audience.limits import ONE_LINE
from mailbase.db import Connection
from mailbase.errors import Invalid


class KeyIn(Body):
    """What a new key shall be called and may do."""

    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=ONE_LINE, examples=["website"])]
    scopes: Annotated[list[keys.Scope], Meta(min_length=1, max_length=20, examples=[["subscribers:write"]])]
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


@post("/keys", guards=[scope("admin")], operation_id="create_key", tags=["Keys"])
async def create_key(db: NamedDependency[Connection], data: JSONBody[KeyIn]) -> keys.NewKey:
    """Make an API key. Its secret is in this answer and nowhere else."""
    if data.expires_at is not None and data.expires_at <= await db.fetchval("SELECT now()"):
        raise Invalid.field("expires_at", "in_the_past", "This time is past already.")
    return await keys.create(db, data.name, data.scopes, expires_at=data.expires_at)


@get("/keys", guards=[scope("admin")], operation_id="list_keys", tags=["Keys"])
async def list_keys(db: NamedDependency[Connection], page: NamedDependency[Page]) -> Listing[keys.Key]:
    """List the API keys, without their secrets."""
    found = await keys.page(db, before=page.before, limit=page.take)
    return paged(page, found, total=await keys.count(db) if page.include_total else None)


@get("/keys/{key_id:int}", guards=[scope("admin")], operation_id="get_key", tags=["Keys"])
async def get_key(db: NamedDependency[Connection], key_id: FromPath[int]) -> keys.Key:
    """Return one API key, without its secret."""
    return await keys.get(db, key_id)


@delete("/keys/{key_id:int}", guards=[scope("admin")], operation_id="delete_key", tags=["Keys"])
async def delete_key(db: NamedDependency[Connection], key_id: FromPath[int]) -> None:
    """End an API key at once."""
    await keys.delete(db, key_id)


ROUTES: Final = [create_key, list_keys, get_key, delete_key]
