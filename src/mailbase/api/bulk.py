"""``/v1/subscribers/bulk``: one change for many people, as a job."""

from typing import Annotated, Final

from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, field

from mailbase.api.common import LARGEST, Body, scope
from mailbase.api.subscribers import Slugs, Tags
from mailbase.audience import bulk, interests, limits, subscribers
from mailbase.audience.subscribers import Filter
from mailbase.db import Connection
from mailbase.errors import FieldError, Invalid, gathered
from mailbase.queue import Job, Wake

Ids = Annotated[list[Annotated[int, Meta(ge=1, le=LARGEST)]], Meta(max_length=10_000)]


class BulkFilter(Body):
    """Whom a bulk change is about; every part given must hold, and at least one is needed."""

    status: subscribers.Status | None = None
    tag: Annotated[str, Meta(max_length=64)] | None = None
    interest: Annotated[str, Meta(max_length=64)] | None = None
    email_prefix: Annotated[str, Meta(min_length=1, max_length=254)] | None = None
    ids: Ids | None = None


class BulkIn(Body, kw_only=True):
    """A change for many people at once."""

    filter: BulkFilter
    add_tags: Tags = field(default_factory=list)
    remove_tags: Tags = field(default_factory=list)
    add_interests: Slugs = field(default_factory=list)
    remove_interests: Slugs = field(default_factory=list)
    delete: bool = False


@post(
    "/subscribers/bulk",
    guards=[scope("subscribers:write")],
    operation_id="change_subscribers",
    tags=["Subscribers"],
    status_code=202,
)
async def change_subscribers(
    db: NamedDependency[Connection], wake: NamedDependency[Wake], data: JSONBody[BulkIn]
) -> Job:
    """Change the tags and interests of everybody the filter finds, or erase them, as a job."""
    part = data.filter
    if (part.status, part.tag, part.interest, part.email_prefix, part.ids) == (None,) * 5:
        raise Invalid.field("filter", "empty_filter", "At least one part is needed.")
    if not (data.add_tags or data.remove_tags or data.add_interests or data.remove_interests or data.delete):
        raise Invalid("Nothing shall change.", code="nothing_to_do")
    errors = limits.check_tags(data.add_tags, "add_tags")
    interest = None if part.interest is None else (await interests.ids(db, [part.interest])).get(part.interest, 0)
    if interest == 0:
        errors.append(FieldError("filter.interest", "unknown_interest", f"There is no interest {part.interest!r}."))
    add: list[int] = []
    remove: list[int] = []
    with gathered(errors):
        add = await interests.resolve(db, data.add_interests, field="add_interests")
    with gathered(errors):
        remove = await interests.resolve(db, data.remove_interests, field="remove_interests")
    if errors:
        raise Invalid(errors=errors, code=errors[0].code)
    change = bulk.Change(
        which=Filter(status=part.status, tag=part.tag, interest=interest, email_prefix=part.email_prefix),
        ids=part.ids,
        add_tags=data.add_tags,
        remove_tags=data.remove_tags,
        add_interests=add,
        remove_interests=remove,
        delete=data.delete,
    )
    job = await bulk.ask(db, change)
    await wake.job(job.id)
    return job


ROUTES: Final = [change_subscribers]
