"""``/v1/complaint-senders``: whose complaints are believed when they name only an address."""

from typing import Annotated, Final

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.audience.limits import ONE_LINE
from mailbase.db import Connection
from mailbase.signals import complaint_senders
from mailbase.signals.complaint_senders import ComplaintSender

TAGS: Final = ["Bounces and complaints"]

Address = Annotated[
    str, Meta(pattern=r"\A[^@\s]{0,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z", max_length=320,
              examples=["feedback@arf.mail.yahoo.com", "@feedback.senderscore.net"])
]  # fmt: skip


class ComplaintSenderIn(Body):
    """An address feedback reports come from; ``@domain`` is any address there. Its DKIM signature is asked for besides."""

    address: Address
    note: Annotated[str, Meta(max_length=200, pattern=ONE_LINE)] = ""


@get("/complaint-senders", guards=[scope("domains:read")], operation_id="list_complaint_senders", tags=TAGS)
async def list_complaint_senders(
    db: NamedDependency[Connection], page: NamedDependency[Page]
) -> Listing[ComplaintSender]:
    """List whose complaints are believed when they name only an address."""
    found = await complaint_senders.page(db, before=page.before, limit=page.take)
    return paged(page, found, total=await complaint_senders.count(db) if page.include_total else None)


@post("/complaint-senders", guards=[scope("domains:write")], operation_id="create_complaint_sender", tags=TAGS)
async def create_complaint_sender(
    db: NamedDependency[Connection], data: JSONBody[ComplaintSenderIn]
) -> ComplaintSender:
    """Believe one more; what it signs ends subscriptions."""
    return await complaint_senders.add(db, data.address, data.note)


@delete(
    "/complaint-senders/{sender_id:int}", guards=[scope("domains:write")], operation_id="delete_complaint_sender", tags=TAGS
)  # fmt: skip
async def delete_complaint_sender(db: NamedDependency[Connection], sender_id: FromPath[int]) -> None:
    """Believe one no longer: its complaints still count where they carry a reference of ours."""
    await complaint_senders.remove(db, sender_id)


ROUTES: Final = [list_complaint_senders, create_complaint_sender, delete_complaint_sender]
