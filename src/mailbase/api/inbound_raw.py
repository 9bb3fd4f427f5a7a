"""``/v1/inbound``: mail that came in, handed over here by whoever runs the mail server, and what became of all of it."""

from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import FromPath, QueryParameter

from mailbase.api.common import Listing, Page, paged, scope
from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.signals import incoming
from mailbase.signals.incoming import Incoming, Mail, State

MAIL: Final = "message/rfc822"


@post(
    "/inbound/raw",
    guards=[scope("subscribers:write")],
    operation_id="create_inbound",
    tags=["Signals"],
    status_code=202,
    request_max_body_size=incoming.LARGEST,
)
async def create_inbound(
    db: NamedDependency[Connection],
    request: Request[Any, Any, Any],
    mail_from: Annotated[
        str | None,
        QueryParameter(max_length=incoming.LONGEST, description="The envelope's sender; empty for bounces."),
    ] = None,
    rcpt_to: Annotated[
        list[str] | None,
        QueryParameter(max_items=incoming.MOST, description="The envelope's recipients, where they are known."),
    ] = None,
) -> Incoming:
    """Take in one mail as it arrived: a bounce, a complaint or an unsubscribing mail (`message/rfc822`, at most 10 MB).

    It is stored when this answers and read within seconds. The same mail again is the one that is there.
    """
    if request.content_type[0].lower() != MAIL:
        raise HTTPException(status_code=415, detail=f"The body must be declared as {MAIL}.")
    data = await request.body()
    if not data.strip():
        raise Invalid.field("body", "empty_mail", "There is no mail in the body.")
    mail = Mail(source="api", data=data, mail_from=mail_from, recipients=rcpt_to or ())
    return await incoming.get(db, await incoming.store(db, mail))


@get("/inbound", guards=[scope("subscribers:read")], operation_id="list_inbound", tags=["Signals"])
async def list_inbound(
    db: NamedDependency[Connection],
    page: NamedDependency[Page],
    state_: Annotated[State | None, QueryParameter(name="state", description="Of one state.")] = None,
) -> Listing[Incoming]:
    """List the mails of the last thirty days and what became of each."""
    found = await incoming.page(db, before=page.before, limit=page.take, state=state_)
    return paged(page, found, total=await incoming.count(db, state=state_) if page.include_total else None)


@get("/inbound/{mail_id:int}", guards=[scope("subscribers:read")], operation_id="get_inbound", tags=["Signals"])
async def get_inbound(db: NamedDependency[Connection], mail_id: FromPath[int]) -> Incoming:
    """Return what became of one mail."""
    return await incoming.get(db, mail_id)


@get(
    "/inbound/{mail_id:int}/raw",
    guards=[scope("subscribers:read")],
    operation_id="get_inbound_raw",
    tags=["Signals"],
    media_type=MAIL,
)
async def get_inbound_raw(db: NamedDependency[Connection], mail_id: FromPath[int]) -> Response[bytes]:
    """Return a mail that waits or could not be understood, as it came (its first megabyte)."""
    return Response(
        await incoming.raw(db, mail_id),
        media_type=MAIL,
        headers={"content-disposition": f'attachment; filename="inbound-{mail_id}.eml"'},
    )


ROUTES: Final = [create_inbound, list_inbound, get_inbound, get_inbound_raw]
