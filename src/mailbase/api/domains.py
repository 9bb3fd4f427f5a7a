"""``/v1/domains``: set a sending domain up, see its DNS records, verify them, rotate its key, pace its warm-up."""

from typing import Annotated, Final

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType

from mailbase.api import warmup
from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.api.warmup import Ceilings, Schedule
from mailbase.config import Settings
from mailbase.db import Connection, Pool
from mailbase.sending.dns import DnsResolver
from mailbase.sending.domains import checks as domain_checks
from mailbase.sending.domains import domains
from mailbase.sending.domains.domains import Domain
from mailbase.sending.warmup.warmup import Preset, set_ceilings
from mailbase.vault import Vault

TAGS: Final = ["Domains"]


class WarmupIn(Body):
    """How fast the domain may grow; ``schedule`` (letters a day) belongs to the preset ``custom``."""

    preset: Preset
    schedule: Schedule | None = None


class DomainIn(Body):
    """A new sending domain."""

    name: Annotated[str, Meta(min_length=1, max_length=253, examples=["news.example.com"])]
    selector: Annotated[str, Meta(min_length=1, max_length=63)] | None = None
    dkim_private_key: Annotated[str, Meta(max_length=20_000)] | None = None
    signing: bool = True
    warmup: WarmupIn | None = None
    provider_caps: Ceilings | None = None
    """Letters a day to a provider at most, whatever the warm-up allows."""


class DomainChange(Body):
    """What may change later."""

    signing: bool | UnsetType = UNSET
    provider_caps: Ceilings | UnsetType = UNSET


@post("/domains", guards=[scope("domains:write")], operation_id="create_domain", tags=TAGS)
async def create_domain(
    db: NamedDependency[Connection],
    vault: NamedDependency[Vault],
    settings: NamedDependency[Settings],
    data: JSONBody[DomainIn],
) -> Domain:
    """Set a sending domain up; the answer lists the DNS records to publish."""
    chosen = data.warmup
    made = await domains.create(
        db,
        vault,
        name=data.name,
        selector=data.selector,
        private_key=data.dkim_private_key,
        signing=data.signing,
        preset=chosen.preset if chosen else None,
        schedule=chosen.schedule if chosen else None,
    )
    if data.provider_caps:
        await set_ceilings(db, made, data.provider_caps)
    return await domains.get(db, made, settings)


@get("/domains", guards=[scope("domains:read")], operation_id="list_domains", tags=TAGS)
async def list_domains(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], page: NamedDependency[Page]
) -> Listing[Domain]:
    """List the sending domains."""
    found = await domains.page(db, settings, before=page.before, limit=page.take)
    return paged(page, found, total=await domains.count(db) if page.include_total else None)


@get("/domains/{domain_id:int}", guards=[scope("domains:read")], operation_id="get_domain", tags=TAGS)
async def get_domain(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], domain_id: FromPath[int]
) -> Domain:
    """Return one sending domain with its records as last seen."""
    return await domains.get(db, domain_id, settings)


@patch("/domains/{domain_id:int}", guards=[scope("domains:write")], operation_id="update_domain", tags=TAGS)
async def update_domain(
    db: NamedDependency[Connection],
    vault: NamedDependency[Vault],
    settings: NamedDependency[Settings],
    domain_id: FromPath[int],
    data: JSONBody[DomainChange],
) -> Domain:
    """Sign here, or leave signing to the relay; set ceilings."""
    await domains.exists(db, domain_id)
    if data.signing is not UNSET:
        await domains.set_signing(db, vault, domain_id, data.signing)
    if data.provider_caps is not UNSET:
        await set_ceilings(db, domain_id, data.provider_caps)
    return await domains.get(db, domain_id, settings)


@delete("/domains/{domain_id:int}", guards=[scope("domains:write")], operation_id="delete_domain", tags=TAGS)
async def delete_domain(db: NamedDependency[Connection], domain_id: FromPath[int]) -> None:
    """Remove a domain no letter belongs to."""
    await domains.delete(db, domain_id)


@post(
    "/domains/{domain_id:int}/verify",
    status_code=200,
    guards=[scope("domains:write")],
    operation_id="verify_domain",
    tags=TAGS,
)
async def verify_domain(
    pool: NamedDependency[Pool],
    vault: NamedDependency[Vault],
    settings: NamedDependency[Settings],
    domain_id: FromPath[int],
) -> Domain:
    """Look the records up and verify a really signed letter against the live key."""
    return await domain_checks.check(pool, vault, DnsResolver(settings.dns_servers), domain_id, settings)


@post(
    "/domains/{domain_id:int}/dkim/rotate",
    status_code=200,
    guards=[scope("domains:write")],
    operation_id="rotate_domain_key",
    tags=TAGS,
)
async def rotate_domain_key(
    db: NamedDependency[Connection],
    vault: NamedDependency[Vault],
    settings: NamedDependency[Settings],
    domain_id: FromPath[int],
) -> Domain:
    """Make the next key; it signs from the first verification that sees its record."""
    await domains.rotate(db, vault, domain_id)
    return await domains.get(db, domain_id, settings)


ROUTES: Final = [
    create_domain,
    list_domains,
    get_domain,
    update_domain,
    delete_domain,
    verify_domain,
    rotate_domain_key,
    *warmup.ROUTES,
]
