"""``/v1/signal-sources``: relay providers whose webhooks are believed, and what they said."""

from typing import Annotated, Final

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.signals import source_events, sources
from mailbase.vault import Vault

Secret = Annotated[str, Meta(min_length=1, max_length=4000)]


class SourceIn(Body):
    """A provider, and what its requests are verified by."""

    provider: Annotated[sources.Provider, Meta(examples=["mailgun"])]
    secret: (
        Annotated[
            Secret,
            Meta(
                description="`mailgun`: the webhook signing key. `sendgrid`: the verification key. `postmark`, `brevo`: a password of "
                "your making, which their requests carry. Never shown again.",
                examples=["a-long-random-password"],
            ),
        ]
        | None
    ) = None
    token: Annotated[Secret, Meta(description="Another name for `secret`.")] | None = None
    topic_arn: (
        Annotated[str, Meta(max_length=400, description="`ses`: the one SNS topic that is listened to.")] | None
    ) = None


@post("/signal-sources", guards=[scope("admin")], operation_id="create_signal_source", tags=["Signals"])
async def create_source(
    db: NamedDependency[Connection],
    vault: NamedDependency[Vault],
    settings: NamedDependency[Settings],
    data: JSONBody[SourceIn],
) -> sources.Source:
    """Believe a provider's webhooks; `url` is the address to enter there."""
    if data.secret is not None and data.token is not None:
        raise Invalid.field("token", "secret_twice", "`token` is another name for `secret`; give one of them.")
    made = await sources.create(
        db,
        vault,
        provider=data.provider,
        secret=data.secret if data.secret is not None else data.token,
        topic_arn=data.topic_arn,
    )
    return await sources.get(db, made, settings.public_url)


@get("/signal-sources", guards=[scope("admin")], operation_id="list_signal_sources", tags=["Signals"])
async def list_sources(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], page: NamedDependency[Page]
) -> Listing[sources.Source]:
    """List the sources, without their secrets."""
    found = await sources.page(db, before=page.before, limit=page.take, public_url=settings.public_url)
    return paged(page, found, total=await sources.count(db) if page.include_total else None)


@get("/signal-sources/{source_id:int}", guards=[scope("admin")], operation_id="get_signal_source", tags=["Signals"])
async def get_source(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], source_id: FromPath[int]
) -> sources.Source:
    """Return one source, without its secret."""
    return await sources.get(db, source_id, settings.public_url)


@delete(
    "/signal-sources/{source_id:int}", guards=[scope("admin")], operation_id="delete_signal_source", tags=["Signals"]
)
async def delete_source(db: NamedDependency[Connection], source_id: FromPath[int]) -> None:
    """Believe a source no more."""
    await sources.delete(db, source_id)


@get(
    "/signal-sources/{source_id:int}/events",
    guards=[scope("admin")],
    operation_id="list_signal_source_events",
    tags=["Signals"],
)
async def list_events(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    page: NamedDependency[Page],
    source_id: FromPath[int],
) -> Listing[source_events.Stored]:
    """List what a source reported in the last thirty days, as it came and what became of it."""
    await sources.get(db, source_id, settings.public_url)
    found = await source_events.page(db, source_id, before=page.before, limit=page.take)
    return paged(page, found, total=await source_events.count(db, source_id) if page.include_total else None)


ROUTES: Final = [create_source, list_sources, get_source, delete_source, list_events]
"""The handlers of this resource."""
