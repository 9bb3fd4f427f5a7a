"""``/v1/suppressions``: whom never to write to."""

from typing import Annotated, Final

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta

from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.audience import addresses, suppressions
from mailbase.audience.suppressions import Suppression
from mailbase.db import Connection
from mailbase.errors import Conflict, Invalid


class SuppressionIn(Body):
    """An address or a whole domain."""

    email: Annotated[str, Meta(max_length=1000, examples=["someone@example.com"])] | None = None
    domain: Annotated[str, Meta(max_length=1000, examples=["example.com"])] | None = None
    reason: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=suppressions.OWN_WORDS,
            description="`hard_bounce`, `soft_bounces`, `complaint`, `manual`, or words of your own, which count as `manual`.",
            examples=["manual"],
        ),
    ] = "manual"


@post("/suppressions", guards=[scope("subscribers:write")], operation_id="create_suppression", tags=["Suppressions"])
async def create_suppression(db: NamedDependency[Connection], data: JSONBody[SuppressionIn]) -> Suppression:
    """Never write to this address, or to anybody at this domain, from now on."""
    if (data.email is None) == (data.domain is None):
        raise Invalid.field("email", "email_or_domain", "Either `email` or `domain` is needed, not both.")
    if data.reason == "erased":
        raise Invalid.field("reason", "erased", "Erasing is an act of its own: DELETE the subscriber.")
    if data.email is not None:
        made = await suppressions.add(db, "email", addresses.parse(data.email).key, reason=data.reason)
    else:
        domain = addresses.canonical_domain(data.domain or "")
        made = await suppressions.add(db, "domain", domain, reason=data.reason)
    if made is None:
        raise Conflict("This is on the list already.", code="suppression_exists")
    return await suppressions.get(db, made)


@get("/suppressions", guards=[scope("subscribers:read")], operation_id="list_suppressions", tags=["Suppressions"])
async def list_suppressions(
    db: NamedDependency[Connection],
    page: NamedDependency[Page],
    email: Annotated[str | None, QueryParameter(max_length=1000, description="The entry of one address.")] = None,
    domain: Annotated[str | None, QueryParameter(max_length=1000, description="The entry of one domain.")] = None,
    reason: Annotated[
        str | None, QueryParameter(max_length=suppressions.OWN_WORDS, description="Of one reason.")
    ] = None,
) -> Listing[Suppression]:
    """List the entries; of an erased person only the fact is known."""
    value = (
        addresses.parse(email).key
        if email is not None
        else addresses.canonical_domain(domain)
        if domain is not None
        else None
    )
    found = await suppressions.page(db, before=page.before, limit=page.take, value=value, reason=reason)
    return paged(
        page, found, total=await suppressions.count(db, value=value, reason=reason) if page.include_total else None
    )


@get(
    "/suppressions/{suppression_id:int}",
    guards=[scope("subscribers:read")],
    operation_id="get_suppression",
    tags=["Suppressions"],
)
async def get_suppression(db: NamedDependency[Connection], suppression_id: FromPath[int]) -> Suppression:
    """Return one entry."""
    return await suppressions.get(db, suppression_id)


@delete(
    "/suppressions/{suppression_id:int}",
    guards=[scope("subscribers:write")],
    operation_id="delete_suppression",
    tags=["Suppressions"],
)
async def delete_suppression(db: NamedDependency[Connection], suppression_id: FromPath[int]) -> None:
    """Lift an entry; 409 for an erased person's, which only that person lifts."""
    await suppressions.delete(db, suppression_id)


ROUTES: Final = [create_suppression, list_suppressions, get_suppression, delete_suppression]
