"""``/v1/interests``: the topics people choose."""

from typing import Annotated, Final

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType

from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.audience import interests
from mailbase.audience.interests import Interest
from mailbase.audience.limits import ONE_LINE
from mailbase.db import Connection

Slug = Annotated[str, Meta(pattern=r"\A[a-z0-9]+(?:[-_][a-z0-9]+)*\Z", max_length=64, examples=["news"])]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=ONE_LINE, examples=["News of the shop"])]
Description = Annotated[str, Meta(max_length=2000)]


class InterestIn(Body):
    """A topic as it is made."""

    slug: Slug
    name: Name
    description: Description | None = None
    public: bool = True


class InterestPatch(Body):
    """What shall change."""

    slug: Slug | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    public: bool | UnsetType = UNSET


@post("/interests", guards=[scope("subscribers:write")], operation_id="create_interest", tags=["Interests"])
async def create_interest(db: NamedDependency[Connection], data: JSONBody[InterestIn]) -> Interest:
    """Add a topic. One that is not public appears on no page; only the owner gives it."""
    return await interests.create(db, slug=data.slug, name=data.name, description=data.description, public=data.public)


@get("/interests", guards=[scope("subscribers:read")], operation_id="list_interests", tags=["Interests"])
async def list_interests(db: NamedDependency[Connection], page: NamedDependency[Page]) -> Listing[Interest]:
    """List the topics."""
    found = await interests.page(db, before=page.before, limit=page.take)
    return paged(page, found, total=await interests.count(db) if page.include_total else None)


@get(
    "/interests/{interest_id:int}", guards=[scope("subscribers:read")], operation_id="get_interest", tags=["Interests"]
)
async def get_interest(db: NamedDependency[Connection], interest_id: FromPath[int]) -> Interest:
    """Return one topic."""
    return await interests.get(db, interest_id)


@patch(
    "/interests/{interest_id:int}",
    guards=[scope("subscribers:write")],
    operation_id="update_interest",
    tags=["Interests"],
)
async def update_interest(
    db: NamedDependency[Connection], interest_id: FromPath[int], data: JSONBody[InterestPatch]
) -> Interest:
    """Change a topic; a new slug costs nobody the choice."""
    return await interests.update(
        db,
        interest_id,
        slug=data.slug or None,
        name=data.name or None,
        description=data.description or None,
        public=None if data.public is UNSET else data.public,
        set_description=data.description is not UNSET,
    )


@delete(
    "/interests/{interest_id:int}",
    guards=[scope("subscribers:write")],
    operation_id="delete_interest",
    tags=["Interests"],
)
async def delete_interest(db: NamedDependency[Connection], interest_id: FromPath[int]) -> None:
    """Delete a topic; it is taken from everybody who chose it."""
    await interests.delete(db, interest_id)


ROUTES: Final = [create_interest, list_interests, get_interest, update_interest, delete_interest]
