"""``/v1/signal-sources``: relay providers whose webhooks are believed, and what they said."""

from typing import Annotated, Final

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType

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


class SourceChange(Body):
    """What its requests are verified by instead: a `secret` (or `token`), for `ses` a `topic_arn`."""

    secret: Secret | UnsetType = UNSET
    token: Secret | UnsetType = UNSET
    topic_arn: Annotated[str, Meta(max_length=400)] | UnsetType = UNSET


def _secret(data: SourceIn | SourceChange) -> str | None:
    given = [one for one in (data.secret, data.token) if isinstance(one, str)]
    if len(given) > 1:
        raise Invalid.field("token", "secret_twice", "`token` is another name for `secret`; give one of them.")
    return given[0] if given else None


@post("/signal-sources", guards=[scope("admin")], operation_id="create_signal_source", tags=["Signals"])
async def create_source(
    db: NamedDependency[Connection],
    vault: NamedDependency[Vault],
    settings: NamedDependency[Settings],
    data: JSONBody[SourceIn],
) -> sources.Source:
    """Believe a provider's webhooks; `url` is the address to enter there."""
    made = await sources.create(db, vault, provider=data.provider, secret=_secret(data), topic_arn=data.topic_arn)
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


@patch(
    "/signal-sources/{source_id:int}", guards=[scope("admin")], operation_id="update_signal_source", tags=["Signals"]
)
async def update_source(
    db: NamedDependency[Connection],
    vault: NamedDependency[Vault],
    settings: NamedDependency[Settings],
    source_id: FromPath[int],
    data: JSONBody[SourceChange],
) -> sources.Source:
    """Verify its requests by another secret, or listen to another topic, at the same address. The old one is believed no more."""
    secret, topic_arn = _secret(data), None if data.topic_arn is UNSET else data.topic_arn
    if secret is not None or topic_arn is not None:
        await sources.change(db, vault, source_id, secret=secret, topic_arn=topic_arn)
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


ROUTES: Final = [create_source, list_sources, get_source, update_source, delete_source, list_events]
"""The handlers of this resource."""
