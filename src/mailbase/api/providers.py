"""``/v1/providers``: what each mailbox provider is sent, the rules on its replies, and what is in force just now."""

from datetime import timedelta
from typing import Annotated, Final, Literal

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import UNSET, Meta, UnsetType, field

from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.sending.domains import domains
from mailbase.sending.domains.domains import Domain
from mailbase.sending.providers import domain_stops, overrides, reply_rule_table
from mailbase.sending.providers import table as provider_table
from mailbase.sending.providers.overrides import Override, Restriction
from mailbase.sending.providers.reply_rule_table import Rule
from mailbase.sending.providers.table import Provider

TAGS: Final = ["Providers"]

Name = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9_-]{0,39}\Z", examples=["example_mail"])]
Lane = Annotated[str, Meta(pattern=r"\A(site:[a-z0-9._-]{1,115}|[a-z0-9][a-z0-9_-]{0,39})\Z", examples=["google"])]
Suffix = Annotated[
    str, Meta(pattern=r"\A\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+\.?\Z", max_length=253, examples=[".example.net"])
]
Suffixes = Annotated[list[Suffix], Meta(max_length=50)]
Few = Annotated[int, Meta(ge=1, le=100_000)]
Rate = Annotated[float, Meta(gt=0, le=1_000_000)]
Part = Annotated[float, Meta(gt=0, le=1)]
Least = Annotated[int, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[int, Meta(ge=60, le=86_400)]
Duration = Annotated[int, Meta(ge=60, le=604_800)]
Threshold = Annotated[int, Meta(ge=1, le=1_000_000)]
Text = Annotated[str, Meta(min_length=1, max_length=1000)]
Pattern = Annotated[str, Meta(min_length=1, max_length=500, examples=["too many connections"])]
Egress = Annotated[str, Meta(pattern=r"\A(\*|[a-z0-9][a-z0-9_.:-]{0,79})\Z", examples=["mx"])]
Tls = Literal["required", "opportunistic"]


class ProviderPatch(Body):
    """What shall change; null takes a limit from the row `other`."""

    mx_suffixes: Suffixes | UnsetType = UNSET
    connections: Few | UnsetType | None = UNSET
    letters_per_connection: Few | UnsetType | None = UNSET
    letters_per_minute: Rate | UnsetType | None = UNSET
    connections_per_minute: Rate | UnsetType | None = UNSET
    tls: Tls | UnsetType | None = UNSET
    verify_tls: bool | UnsetType | None = UNSET
    warmup_multiplier: Part | UnsetType | None = UNSET
    warmup_least: Least | UnsetType | None = UNSET


class ProviderIn(Body):
    """A provider as it is added."""

    name: Name
    mx_suffixes: Annotated[list[Suffix], Meta(min_length=1, max_length=50)]
    connections: Few | None = None
    letters_per_connection: Few | None = None
    letters_per_minute: Rate | None = None
    connections_per_minute: Rate | None = None
    tls: Tls | None = None
    verify_tls: bool | None = None
    warmup_multiplier: Part | None = None
    warmup_least: Least | None = None


class RulePatch(Body):
    """What shall change in a rule."""

    providers: Annotated[list[Lane], Meta(max_length=50)] | UnsetType = UNSET
    pattern: Pattern | UnsetType = UNSET
    threshold: Threshold | UnsetType = UNSET
    window_seconds: Seconds | UnsetType = UNSET
    suspend: bool | UnsetType = UNSET
    connections: Few | UnsetType | None = UNSET
    letters_per_connection: Few | UnsetType | None = UNSET
    letters_per_minute: Rate | UnsetType | None = UNSET
    connections_per_minute: Rate | UnsetType | None = UNSET
    stop_domain: bool | UnsetType = UNSET
    duration_seconds: Duration | UnsetType = UNSET
    advice: Text | UnsetType = UNSET
    sample: Text | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class RuleIn(Body):
    """A rule: so many replies that match, within so long, and a provider is held back for a while."""

    pattern: Pattern
    sample: Text
    advice: Text
    providers: Annotated[list[Lane], Meta(max_length=50)] = field(default_factory=list)
    threshold: Threshold = 5
    window_seconds: Seconds = 3600
    suspend: bool = False
    connections: Few | None = None
    letters_per_connection: Few | None = None
    letters_per_minute: Rate | None = None
    connections_per_minute: Rate | None = None
    stop_domain: bool = False
    duration_seconds: Duration = 3600
    enabled: bool = True


class OverrideIn(Body):
    """What shall hold for a provider for a while, stricter than its row."""

    provider: Lane
    reason: Text
    egress: Egress = "*"
    suspend: bool = False
    connections: Few | None = None
    letters_per_connection: Few | None = None
    letters_per_minute: Rate | None = None
    connections_per_minute: Rate | None = None
    duration_seconds: Duration = 3600


@get("/providers", guards=[scope("domains:read")], operation_id="list_providers", tags=TAGS)
async def list_providers(db: NamedDependency[Connection], page: NamedDependency[Page]) -> Listing[Provider]:
    """List the providers and what each one takes."""
    found = await provider_table.page(db, before=page.before, limit=page.take)
    return paged(page, found, total=await provider_table.count(db) if page.include_total else None)


@post("/providers", guards=[scope("domains:write")], operation_id="create_provider", tags=TAGS)
async def create_provider(db: NamedDependency[Connection], data: JSONBody[ProviderIn]) -> Provider:
    """Add a provider by the names of its mail hosts."""
    return await provider_table.create(db, data.name, msgspec.convert(_given(data, "name"), provider_table.Change))


@get("/providers/{provider_id:int}", guards=[scope("domains:read")], operation_id="get_provider", tags=TAGS)
async def get_provider(db: NamedDependency[Connection], provider_id: FromPath[int]) -> Provider:
    """Return one provider."""
    return await provider_table.get(db, provider_id)


@patch("/providers/{provider_id:int}", guards=[scope("domains:write")], operation_id="update_provider", tags=TAGS)
async def update_provider(
    db: NamedDependency[Connection], provider_id: FromPath[int], data: JSONBody[ProviderPatch]
) -> Provider:
    """Change what a provider is sent; all workers follow within seconds."""
    return await provider_table.update(db, provider_id, msgspec.convert(_given(data), provider_table.Change))


@delete("/providers/{provider_id:int}", guards=[scope("domains:write")], operation_id="delete_provider", tags=TAGS)
async def delete_provider(db: NamedDependency[Connection], provider_id: FromPath[int]) -> None:
    """Take a provider off the table; its domains fall to `other` or to lanes of their own."""
    await provider_table.delete(db, provider_id)


@get("/providers/rules", guards=[scope("domains:read")], operation_id="list_reply_rules", tags=TAGS)
async def list_reply_rules(
    db: NamedDependency[Connection], page: NamedDependency[Page], provider: FromQuery[str | None] = None
) -> Listing[Rule]:
    """List the rules on replies, each with a sample."""
    found = await reply_rule_table.page(db, before=page.before, limit=page.take, provider=provider)
    return paged(page, found, total=await reply_rule_table.count(db, provider=provider) if page.include_total else None)


@post("/providers/rules", guards=[scope("domains:write")], operation_id="create_reply_rule", tags=TAGS)
async def create_reply_rule(db: NamedDependency[Connection], data: JSONBody[RuleIn]) -> Rule:
    """Add a rule; its pattern must match its sample."""
    return await reply_rule_table.create(db, msgspec.convert(_given(data), reply_rule_table.Change))


@get("/providers/rules/{rule_id:int}", guards=[scope("domains:read")], operation_id="get_reply_rule", tags=TAGS)
async def get_reply_rule(db: NamedDependency[Connection], rule_id: FromPath[int]) -> Rule:
    """Return one rule."""
    return await reply_rule_table.get(db, rule_id)


@patch("/providers/rules/{rule_id:int}", guards=[scope("domains:write")], operation_id="update_reply_rule", tags=TAGS)
async def update_reply_rule(db: NamedDependency[Connection], rule_id: FromPath[int], data: JSONBody[RulePatch]) -> Rule:
    """Change a rule, or switch it off; what it has set already stays until its end."""
    return await reply_rule_table.update(db, rule_id, msgspec.convert(_given(data), reply_rule_table.Change))


@delete("/providers/rules/{rule_id:int}", guards=[scope("domains:write")], operation_id="delete_reply_rule", tags=TAGS)
async def delete_reply_rule(db: NamedDependency[Connection], rule_id: FromPath[int]) -> None:
    """Delete a rule and what it has set."""
    await reply_rule_table.delete(db, rule_id)


@get("/providers/overrides", guards=[scope("domains:read")], operation_id="list_provider_overrides", tags=TAGS)
async def list_provider_overrides(
    db: NamedDependency[Connection], page: NamedDependency[Page], provider: FromQuery[str | None] = None
) -> Listing[Override]:
    """List what is in force beside the table: until when, and why."""
    found = await overrides.page(db, before=page.before, limit=page.take, provider=provider)
    return paged(page, found, total=await overrides.count(db, provider=provider) if page.include_total else None)


@post("/providers/overrides", guards=[scope("domains:write")], operation_id="create_provider_override", tags=TAGS)
async def create_provider_override(db: NamedDependency[Connection], data: JSONBody[OverrideIn]) -> Override:
    """Hold a provider back by hand, for a while."""
    limits = (data.connections, data.letters_per_connection, data.letters_per_minute, data.connections_per_minute)
    if not data.suspend and all(limit is None for limit in limits):
        raise Invalid("The override would do nothing: name a limit, or `suspend`.", code="no_action")
    restriction = Restriction(
        suspend=data.suspend, connections=data.connections, letters_per_connection=data.letters_per_connection,
        letters_per_minute=data.letters_per_minute, connections_per_minute=data.connections_per_minute,
    )  # fmt: skip
    duration = timedelta(seconds=data.duration_seconds)
    return await overrides.create(
        db, data.provider, restriction, reason=data.reason, duration=duration, egress=data.egress
    )


@delete(
    "/providers/overrides/{override_id:int}",
    guards=[scope("domains:write")],
    operation_id="delete_provider_override",
    tags=TAGS,
)
async def delete_provider_override(db: NamedDependency[Connection], override_id: FromPath[int]) -> None:
    """Take an override back at once."""
    await overrides.delete(db, override_id)


@post(
    "/domains/{domain_id:int}/resume",
    status_code=200,
    guards=[scope("domains:write")],
    operation_id="resume_domain",
    tags=["Domains"],
)
async def resume_domain(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], domain_id: FromPath[int]
) -> Domain:
    """Let the campaigns of a domain go on that a provider's refusal of its authentication had stopped."""
    await domain_stops.resume(db, domain_id)
    return await domains.get(db, domain_id, settings)


def _given(body: Body, *without: str) -> dict[str, object]:
    return {
        name: value
        for name, value in msgspec.structs.asdict(body).items()
        if value is not UNSET and name not in without
    }


ROUTES: Final = [
    list_providers,
    create_provider,
    get_provider,
    update_provider,
    delete_provider,
    list_reply_rules,
    create_reply_rule,
    get_reply_rule,
    update_reply_rule,
    delete_reply_rule,
    list_provider_overrides,
    create_provider_override,
    delete_provider_override,
    resume_domain,
]
