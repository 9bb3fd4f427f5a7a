"""``/v1/relays``: ways out with names, their weights, and whether they take letters just now; ``/v1/egress``: all ways out."""

from typing import Annotated, Final

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType

from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.sending.relays import egress, relays
from mailbase.sending.relays.egress import WayOut
from mailbase.sending.relays.relays import Relay
from mailbase.vault import Vault

TAGS: Final = ["Relays"]

Name = Annotated[str, Meta(pattern=r"\A(?!(relay|outbox|mx)\Z)[a-z0-9][a-z0-9_-]{0,39}\Z", examples=["second"])]
Url = Annotated[
    str, Meta(min_length=1, max_length=2000, examples=["smtp://user:password@smtp.example.com:587?tls=starttls"])
]
Weight = Annotated[int, Meta(ge=0, le=1000)]
Connections = Annotated[int, Meta(ge=1, le=1000)]


class RelayIn(Body):
    """A relay as it is added; the password is kept encrypted and never shown again."""

    name: Name
    url: Url
    weight: Weight = 1
    enabled: bool = True
    connections: Connections | None = None


class RelayPatch(Body):
    """What shall change; another address comes with its password, or has none."""

    url: Url | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    connections: Connections | UnsetType = UNSET


@get("/relays", guards=[scope("domains:read")], operation_id="list_relays", tags=TAGS)
async def list_relays(db: NamedDependency[Connection], page: NamedDependency[Page]) -> Listing[Relay]:
    """List the relays."""
    found = await relays.page(db, before=page.before, limit=page.take)
    return paged(page, found, total=await relays.count(db) if page.include_total else None)


@post("/relays", guards=[scope("domains:write")], operation_id="create_relay", tags=TAGS)
async def create_relay(
    db: NamedDependency[Connection], vault: NamedDependency[Vault], data: JSONBody[RelayIn]
) -> Relay:
    """Add a relay: each has a warm-up of its own, and its share of the letters by its weight."""
    return await relays.create(
        db,
        vault,
        name=data.name,
        url=data.url,
        weight=data.weight,
        enabled=data.enabled,
        connections=data.connections,
    )


@get("/relays/{relay_id:int}", guards=[scope("domains:read")], operation_id="get_relay", tags=TAGS)
async def get_relay(db: NamedDependency[Connection], relay_id: FromPath[int]) -> Relay:
    """Return one relay, without its password."""
    return await relays.get(db, relay_id)


@patch("/relays/{relay_id:int}", guards=[scope("domains:write")], operation_id="update_relay", tags=TAGS)
async def update_relay(
    db: NamedDependency[Connection], vault: NamedDependency[Vault], relay_id: FromPath[int], data: JSONBody[RelayPatch]
) -> Relay:
    """Change a relay."""
    given = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
    return await relays.update(db, vault, relay_id, relays.Change(**given))


@delete("/relays/{relay_id:int}", guards=[scope("domains:write")], operation_id="delete_relay", tags=TAGS)
async def delete_relay(db: NamedDependency[Connection], relay_id: FromPath[int]) -> None:
    """Take a relay away; the others get its letters."""
    await relays.delete(db, relay_id)


@get("/egress", guards=[scope("domains:read")], operation_id="list_ways_out", tags=TAGS)
async def list_ways_out(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], page: NamedDependency[Page]
) -> Listing[WayOut]:
    """List every way out that letters take now: what the settings name, then the relays with names that are enabled."""
    found = await egress.ways_out(db, to_outbox=settings.to_outbox, otherwise=egress.named_by(settings))
    places = {one.name: place for place, one in enumerate(reversed(found), 1)}
    rest = [one for one in found if places[one.name] < page.before][: page.take]
    return paged(page, rest, total=len(found) if page.include_total else None, key=lambda one: places[one.name])


ROUTES: Final = [list_relays, create_relay, get_relay, update_relay, delete_relay, list_ways_out]
