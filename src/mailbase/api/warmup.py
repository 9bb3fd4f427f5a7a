"""``/v1/domains/{id}/warmup``: how far a domain has come with each provider, why, and the owner's word about it."""

from collections.abc import AsyncGenerator
from typing import Annotated, Final, Literal

import msgspec
from litestar import get, patch
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.response import Stream
from msgspec import UNSET, Meta, UnsetType

from mailbase.api.common import LARGEST, Body, Listing, Page, paged, scope
from mailbase.api.exports import as_csv
from mailbase.config import Settings
from mailbase.db import Connection, Pool
from mailbase.sending.domains import domains
from mailbase.sending.warmup import history as warmup_history
from mailbase.sending.warmup import overrides as warmup_overrides
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import warmup
from mailbase.sending.warmup.history import Decision
from mailbase.sending.warmup.overrides import Override
from mailbase.sending.warmup.rules import Rules
from mailbase.sending.warmup.warmup import Preset, WarmupDetail

TAGS: Final = ["Domains"]
BATCH: Final = 1000

Schedule = Annotated[list[Annotated[int, Meta(ge=1, le=1_000_000_000)]], Meta(min_length=1, max_length=365)]
Provider = Annotated[str, Meta(min_length=1, max_length=260)]
Ceilings = Annotated[dict[Provider, Annotated[int, Meta(ge=0, le=1_000_000_000)]], Meta(max_length=200)]


class ProviderChange(Body):
    """Another level for one provider (``*``: the total), a pause, or going on. ``egress``: one way out; else every one."""

    provider: Provider
    egress: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    level: Annotated[int, Meta(ge=1, le=1000)] | None = None
    state: Literal["warming", "paused"] | None = None


class WarmupChange(Body):
    """What shall be different. ``rules`` replaces all of the domain's own numbers, ``provider_caps`` all ceilings."""

    preset: Preset | UnsetType = UNSET
    schedule: Schedule | UnsetType | None = UNSET
    state: Literal["warming", "paused"] | UnsetType = UNSET
    hold: bool | UnsetType = UNSET
    """Levels stay where they are."""
    messages_held: bool | UnsetType = UNSET
    """Whether confirmations and transactional messages wait, too; they always count."""
    rules: Rules | UnsetType = UNSET
    provider_caps: Ceilings | UnsetType = UNSET
    providers: Annotated[list[ProviderChange], Meta(max_length=100)] | UnsetType = UNSET


@get("/domains/{domain_id:int}/warmup", guards=[scope("domains:read")], operation_id="get_domain_warmup", tags=TAGS)
async def get_domain_warmup(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], domain_id: FromPath[int]
) -> WarmupDetail:
    """Return how far the warm-up has come: in short, and for each provider with the reason in words."""
    await domains.exists(db, domain_id)
    return await warmup.detail(db, domain_id, to_outbox=settings.to_outbox)


@patch(
    "/domains/{domain_id:int}/warmup", guards=[scope("domains:write")], operation_id="update_domain_warmup", tags=TAGS
)
async def update_domain_warmup(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    domain_id: FromPath[int],
    data: JSONBody[WarmupChange],
) -> WarmupDetail:
    """Choose another preset, hold or set levels, pause or resume all of it or one provider, set ceilings."""
    await domains.exists(db, domain_id)
    held = await warmup_take.hold(db, domain_id, to_outbox=settings.to_outbox)
    if data.preset is not UNSET or data.schedule is not UNSET:
        preset = held.preset if data.preset is UNSET else data.preset
        schedule = (held.schedule if preset == held.preset else None) if data.schedule is UNSET else data.schedule
        warmup.check(preset, schedule, field="schedule")
        await warmup.set_preset(db, domain_id, preset, schedule)
    if data.provider_caps is not UNSET:
        await warmup.set_ceilings(db, domain_id, data.provider_caps)
    if data.rules is not UNSET or data.hold is not UNSET or data.messages_held is not UNSET:
        await warmup.set_rules(
            db,
            domain_id,
            held.rules if data.rules is UNSET else data.rules,
            hold=held.hold if data.hold is UNSET else data.hold,
            exempt=held.exempt if data.messages_held is UNSET else not data.messages_held,
        )
    if data.state is not UNSET:
        await warmup.set_state(db, domain_id, data.state, "paused by hand" if data.state == "paused" else None)
    for change in data.providers or ():
        ways = [change.egress] if change.egress else await warmup.egresses(db, domain_id, to_outbox=settings.to_outbox)
        for egress in ways:
            override = Override(egress=egress, provider=change.provider, level=change.level, state=change.state)
            await warmup_overrides.apply(db, domain_id, override, to_outbox=settings.to_outbox)
    return await warmup.detail(db, domain_id, to_outbox=settings.to_outbox)


@get(
    "/domains/{domain_id:int}/warmup/history",
    guards=[scope("domains:read")],
    operation_id="list_domain_warmup_history",
    tags=TAGS,
)
async def list_domain_warmup_history(
    db: NamedDependency[Connection], page: NamedDependency[Page], domain_id: FromPath[int]
) -> Listing[Decision]:
    """List every decision about the warm-up, newest first, with the numbers it was taken on."""
    await domains.exists(db, domain_id)
    found = await warmup_history.page(db, domain_id, before=page.before, limit=page.take)
    return paged(page, found, total=await warmup_history.count(db, domain_id) if page.include_total else None)


@get(
    "/domains/{domain_id:int}/warmup/history.csv",
    guards=[scope("domains:read")],
    operation_id="export_domain_warmup_history",
    tags=TAGS,
    media_type="text/csv",
)
async def export_domain_warmup_history(
    db: NamedDependency[Connection], pool: NamedDependency[Pool], domain_id: FromPath[int]
) -> Stream:
    """Export every decision about the warm-up as CSV, newest first."""
    await domains.exists(db, domain_id)
    return Stream(
        _stream(pool, domain_id),
        media_type="text/csv",
        headers={"content-disposition": 'attachment; filename="warmup-history.csv"'},
    )


async def _stream(pool: Pool, domain_id: int) -> AsyncGenerator[bytes]:
    yield as_csv([Decision.__struct_fields__])
    before = LARGEST
    while True:
        async with pool.acquire() as db:
            found = await warmup_history.page(db, domain_id, before=before, limit=BATCH)
        if not found:
            return
        before = found[-1].id
        yield as_csv(_line(one) for one in found)


def _line(one: Decision) -> list[object]:
    return [
        one.id, one.at.strftime("%Y-%m-%dT%H:%M:%SZ"), one.egress or "", one.provider or "", one.decision,
        one.level_before or "", one.level_after or "", one.reason, msgspec.json.encode(one.numbers).decode(),
    ]  # fmt: skip


ROUTES: Final = [
    get_domain_warmup,
    update_domain_warmup,
    list_domain_warmup_history,
    export_domain_warmup_history,
]
