"""``/v1/unsubscribes``: why people left, as far as they said; counted, and one by one."""

from collections.abc import Sequence
from typing import Annotated, Final

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import Struct

from mailbase.api.common import LARGEST, Listing, Page, paged, scope
from mailbase.db import Connection
from mailbase.optin import leaving_reasons
from mailbase.optin.leaving_reasons import Count, Given, Reason

TAGS: Final = ["Statistics"]


class Reasons(Struct):
    """How many people said why they left, and why."""

    total: int
    reasons: Sequence[Count]


@get(
    "/unsubscribes/reasons",
    guards=[scope("stats:read")],
    operation_id="count_leaving_reasons",
    tags=TAGS,
)
async def count_reasons(
    db: NamedDependency[Connection],
    campaign_id: Annotated[int | None, QueryParameter(ge=1, le=LARGEST, description="Of one campaign.")] = None,
) -> Reasons:
    """Count the reasons people gave after leaving, the most frequent first."""
    found = await leaving_reasons.counts(db, campaign_id=campaign_id)
    return Reasons(sum(one.count for one in found), found)


@get(
    "/unsubscribes/comments",
    guards=[scope("stats:read")],
    operation_id="list_leaving_reasons",
    tags=TAGS,
)
async def list_reasons(
    db: NamedDependency[Connection],
    page: NamedDependency[Page],
    campaign_id: Annotated[int | None, QueryParameter(ge=1, le=LARGEST, description="Of one campaign.")] = None,
    reason: Annotated[Reason | None, QueryParameter(description="Of one reason.")] = None,
) -> Listing[Given]:
    """List what people said after leaving, newest first; of those who were erased only the reason is left."""
    found = await leaving_reasons.page(db, before=page.before, limit=page.take, campaign_id=campaign_id, reason=reason)
    total = await leaving_reasons.count(db, campaign_id=campaign_id, reason=reason) if page.include_total else None
    return paged(page, found, total=total)


ROUTES: Final = [count_reasons, list_reasons]
