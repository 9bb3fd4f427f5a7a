"""``/v1/subscribers/{id}/…``: one person's timeline, consents, and everything held about them."""

from typing import Final

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath

from mailbase.api.common import Listing, Page, paged, scope
from mailbase.audience import consents, dossier, subscribers, timeline
from mailbase.audience.consents import Consent
from mailbase.audience.dossier import Dossier
from mailbase.audience.timeline import Event
from mailbase.db import Connection

TAGS: Final = ["Subscribers"]


@get(
    "/subscribers/{subscriber_id:int}/events",
    guards=[scope("subscribers:read")],
    operation_id="list_subscriber_events",
    tags=TAGS,
)
async def list_events(
    db: NamedDependency[Connection], page: NamedDependency[Page], subscriber_id: FromPath[int]
) -> Listing[Event]:
    """List what happened with a person, opens and clicks included."""
    await subscribers.get(db, subscriber_id)
    found = await timeline.page(db, subscriber_id, before=page.before, limit=page.take)
    return paged(page, found, total=await timeline.count(db, subscriber_id) if page.include_total else None)


@get(
    "/subscribers/{subscriber_id:int}/consents",
    guards=[scope("subscribers:read")],
    operation_id="list_subscriber_consents",
    tags=TAGS,
)
async def list_consents(
    db: NamedDependency[Connection], page: NamedDependency[Page], subscriber_id: FromPath[int]
) -> Listing[Consent]:
    """List a person's consents, confirmations and withdrawals."""
    await subscribers.get(db, subscriber_id)
    found = await consents.page(db, subscriber_id, before=page.before, limit=page.take)
    return paged(page, found, total=await consents.count(db, subscriber_id) if page.include_total else None)


@get(
    "/subscribers/{subscriber_id:int}/export",
    guards=[scope("subscribers:read")],
    operation_id="export_subscriber",
    tags=TAGS,
)
async def export_subscriber(
    db: NamedDependency[Connection], erasure_key: NamedDependency[bytes], subscriber_id: FromPath[int]
) -> Dossier:
    """Return everything held about a person."""
    return await dossier.read(db, subscriber_id, erasure_key)


ROUTES: Final = [list_events, list_consents, export_subscriber]
