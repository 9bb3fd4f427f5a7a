"""``/v1/bounces``: what was refused for good, by whom and in which words."""

from typing import Annotated, Final

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from mailbase.api.common import LARGEST, Listing, Page, paged, scope
from mailbase.db import Connection
from mailbase.signals import bounces


@get("/bounces", guards=[scope("stats:read")], operation_id="list_bounces", tags=["Statistics"])
async def list_bounces(
    db: NamedDependency[Connection],
    page: NamedDependency[Page],
    campaign_id: Annotated[int | None, QueryParameter(ge=1, le=LARGEST, description="Of one campaign.")] = None,
    class_: Annotated[bounces.Class | None, QueryParameter(name="class", description="Of one class.")] = None,
) -> Listing[bounces.Bounce]:
    """List bounces."""
    found = await bounces.page(db, before=page.before, limit=page.take, campaign_id=campaign_id, class_=class_)
    total = await bounces.count(db, campaign_id=campaign_id, class_=class_) if page.include_total else None
    return paged(page, found, total=total)


ROUTES: Final = [list_bounces]
