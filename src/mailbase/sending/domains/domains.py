"""Sending domains: whose name letters go out under, the key that signs them, and whether DNS agrees.

    pending ── every required record is right ──▶ verified ⇄ failing
    a key:  next ── DNS shows it ──▶ active ── the next one takes over ──▶ retiring ──▶ gone

What moves a domain or a key along these arrows is a verification: see ``domain_checks``.
"""

import asyncio
import re
from datetime import datetime
from typing import Any, Literal

import asyncpg
import idna
import msgspec
from msgspec import Struct

from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import Conflict, FieldError, Invalid, NotFound, gathered
from mailbase.sending.domains import dns_records
from mailbase.sending.domains.dns_records import Key, Record
from mailbase.sending.providers import domain_stops
from mailbase.sending.providers.domain_stops import Stop
from mailbase.sending.signing import keys
from mailbase.sending.warmup import warmup
from mailbase.sending.warmup.warmup import Preset, Warmup
from mailbase.vault import Vault

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

DomainStatus = Literal["pending", "verified", "failing"]


class Dkim(Struct):
    """The key that signs now, and the one that waits for DNS."""

    selector: str
    algorithm: str
    public_key: str
    next_selector: str | None = None


class Domain(Struct, kw_only=True):
    """A sending domain with everything an owner needs to see."""

    id: int
    name: str
    status: DomainStatus
    signing: bool
    dkim: Dkim | None
    dns: list[Record]
    warmup: Warmup
    provider_caps: dict[str, int]
    """Ceilings: letters a day to a provider at most."""
    stopped: Stop | None
    """Set where a provider refused the domain's authentication; its campaigns wait."""
    created_at: datetime
    verified_at: datetime | None
    checked_at: datetime | None


def normal_name(name: str) -> str:
    """Return a domain name as A-labels in lower case.

    Raises:
        Invalid: it is no name that mail can be sent from.

    """
    text = name.strip().rstrip(".")
    try:
        ascii_name = idna.encode(text, uts46=True).decode("ascii").lower()
    except idna.IDNAError:
        raise Invalid.field("name", "invalid_domain", f"{name[:100]!r} is not a domain name.") from None
    labels = ascii_name.split(".")
    if (
        len(ascii_name) > 200
        or len(labels) < 2
        or not all(_LABEL.fullmatch(label) for label in labels)
        or labels[-1].isdigit()
    ):
        raise Invalid.field("name", "invalid_domain", f"{name[:100]!r} is not a domain name.")
    return ascii_name


def normal_selector(selector: str) -> str:
    """Return a selector in lower case.

    Raises:
        Invalid: it cannot stand in a DNS name.

    """
    text = selector.strip().lower()
    if len(text) > 63 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise Invalid.field("selector", "invalid_selector", "A selector is made of letters, digits and hyphens.")
    return text


ADD = """
INSERT INTO domains (name, signing) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING id
"""


async def create(
    db: Connection,
    vault: Vault,
    *,
    name: str,
    selector: str | None = None,
    private_key: str | None = None,
    signing: bool = True,
    preset: Preset | None = None,
    schedule: list[int] | None = None,
) -> int:
    """Add a domain with its key (made here, or brought as PEM) and return its id.

    Raises:
        Invalid: the name, the selector or the key cannot be used.
        Conflict: ``domain_exists``.

    """
    ascii_name, chosen, key = "", None, None
    errors: list[FieldError] = []
    with gathered(errors):
        ascii_name = normal_name(name)
    with gathered(errors):
        chosen = normal_selector(selector) if selector is not None else None
    with gathered(errors):
        key = keys.bring(private_key) if private_key is not None else None
    with gathered(errors):
        if preset is not None:
            warmup.check(preset, schedule)
    if errors:
        raise Invalid(errors=errors, code=errors[0].code)
    domain_id: int | None = await db.fetchval(ADD, ascii_name, signing)
    if domain_id is None:
        raise Conflict(f"{ascii_name} is set up already.", code="domain_exists")
    if signing or key is not None:
        await _add_key(db, vault, domain_id, "active", selector=chosen, key=key)
    if preset is not None:
        await warmup.set_preset(db, domain_id, preset, schedule)
    return domain_id


ADD_KEY = """
INSERT INTO dkim_keys (id, domain_id, selector, state, private_key, public_key) OVERRIDING SYSTEM VALUE
VALUES ($1, $2, $3, $4, $5, $6)
"""

NEXT_KEY_ID = """
SELECT nextval(pg_get_serial_sequence('dkim_keys', 'id')), to_char(now() AT TIME ZONE 'UTC', 'YYYY')
"""

SELECTORS = """
SELECT selector FROM dkim_keys WHERE domain_id = $1
"""


async def _add_key(
    db: Connection,
    vault: Vault,
    domain_id: int,
    state: Literal["active", "next"],
    *,
    selector: str | None = None,
    key: keys.PrivateKey | None = None,
    used: frozenset[str] = frozenset(),
) -> None:
    made: keys.PrivateKey = key if key is not None else await asyncio.to_thread(keys.generate)
    row = (await db.fetch(NEXT_KEY_ID))[0]
    taken = used | {one["selector"] for one in await db.fetch(SELECTORS, domain_id)}
    chosen = selector or next(
        name for letter in "abcdefghijklmnopqrstuvwxyz" if (name := f"mb{row[1]}{letter}") not in taken
    )
    if chosen in taken:
        raise Invalid.field("selector", "selector_used", f"The selector {chosen} is in use already.")
    blob = vault.encrypt(keys.to_der(made), f"dkim:{row[0]}")
    await db.execute(ADD_KEY, row[0], domain_id, chosen, state, blob, keys.public_key(made))


GET = """
SELECT id, name, status, signing, findings, provider_caps, created_at, verified_at, checked_at FROM domains WHERE id = $1
"""

KEYS = """
SELECT id, selector, state, public_key FROM dkim_keys WHERE domain_id = $1
ORDER BY array_position(ARRAY['active', 'next', 'retiring'], state), id DESC
"""


async def get(db: Connection, domain_id: int, settings: Settings) -> Domain:
    """Return a domain.

    Raises:
        NotFound: there is none of that id.

    """
    rows = await db.fetch(GET, domain_id)
    if not rows:
        raise NotFound("There is no such domain.")
    return await _shown(db, rows[0], settings)


EXISTS = """
SELECT EXISTS (SELECT FROM domains WHERE id = $1)
"""


async def exists(db: Connection, domain_id: int) -> None:
    """Make sure that there is such a domain.

    Raises:
        NotFound: there is none of that id.

    """
    if not await db.fetchval(EXISTS, domain_id):
        raise NotFound("There is no such domain.")


async def stored_keys(db: Connection, domain_id: int) -> list[Key]:
    """Return a domain's keys: the active one, the next, the retiring."""
    return [Key(row["id"], row["selector"], row["state"], row["public_key"]) for row in await db.fetch(KEYS, domain_id)]


async def _shown(db: Connection, row: Any, settings: Settings) -> Domain:
    stored = await stored_keys(db, row["id"])
    seen = {(one.name, one.type, one.value): one for one in msgspec.convert(row["findings"], list[Record])}
    records = dns_records.proposed(row["name"], stored, signing=row["signing"], settings=settings)
    active = next((key for key in stored if key.state == "active"), None)
    waiting = next((key.selector for key in stored if key.state == "next"), None)
    return Domain(
        id=row["id"],
        name=row["name"],
        status=row["status"],
        signing=row["signing"],
        dkim=Dkim(active.selector, "rsa-sha256", active.public_key, waiting) if active and row["signing"] else None,
        dns=[seen.get((one.name, one.type, one.value), one) for one in records],
        warmup=await warmup.get(db, row["id"], to_outbox=settings.to_outbox),
        provider_caps=row["provider_caps"],
        stopped=await domain_stops.get(db, row["id"]),
        created_at=row["created_at"],
        verified_at=row["verified_at"],
        checked_at=row["checked_at"],
    )


PAGE = """
SELECT id, name, status, signing, findings, provider_caps, created_at, verified_at, checked_at FROM domains
WHERE id < $1 ORDER BY id DESC LIMIT $2
"""


async def page(db: Connection, settings: Settings, *, before: int, limit: int) -> list[Domain]:
    """Return domains, newest first."""
    return [await _shown(db, row, settings) for row in await db.fetch(PAGE, before, limit)]


COUNT = """
SELECT count(*) FROM domains
"""


async def count(db: Connection) -> int:
    """Return how many domains there are."""
    total: int = await db.fetchval(COUNT)
    return total


INBOUND = """
SELECT name FROM domains
"""


async def inbound_names(db: Connection) -> frozenset[str]:
    """Return every name mail to us may be addressed to: the sending domains, and what is returned to under each."""
    names = [row["name"] for row in await db.fetch(INBOUND)]
    return frozenset(names) | {dns_records.bounce_name(name) for name in names}


LOCK = """
SELECT signing FROM domains WHERE id = $1 FOR UPDATE
"""

SET_SIGNING = """
UPDATE domains SET signing = $2, status = CASE WHEN status = 'verified' THEN 'pending' ELSE status END WHERE id = $1
"""


async def lock(db: Connection, domain_id: int) -> bool:
    """Keep others from changing a domain until the transaction ends; return whether we sign for it."""
    rows = await db.fetch(LOCK, domain_id)
    if not rows:
        raise NotFound("There is no such domain.")
    signing: bool = rows[0]["signing"]
    return signing


async def set_signing(db: Connection, vault: Vault, domain_id: int, signing: bool) -> None:
    """Sign here, or leave it to the relay; DNS has to be looked at again after a change.

    Raises:
        NotFound: there is none of that id.

    """
    if await lock(db, domain_id) == signing:
        return
    await db.execute(SET_SIGNING, domain_id, signing)
    if signing and not await stored_keys(db, domain_id):
        await _add_key(db, vault, domain_id, "active")


DROP_OLD = """
DELETE FROM dkim_keys WHERE domain_id = $1 AND state = 'retiring' RETURNING selector
"""


async def rotate(db: Connection, vault: Vault, domain_id: int) -> None:
    """Make the next key. It signs once a verification has seen it in DNS; until then the present one does.

    Raises:
        NotFound: there is none of that id.
        Conflict: ``not_signing``, or ``rotation_pending``: a next key waits for DNS already.

    """
    if not await lock(db, domain_id):
        raise Conflict("The relay signs for this domain; there is no key here to rotate.", code="not_signing")
    if any(key.state == "next" for key in await stored_keys(db, domain_id)):
        raise Conflict("The next key is there already; publish its record and verify.", code="rotation_pending")
    dropped = frozenset(row["selector"] for row in await db.fetch(DROP_OLD, domain_id))
    await _add_key(db, vault, domain_id, "next", used=dropped)


DELETE = """
DELETE FROM domains WHERE id = $1 RETURNING id
"""


async def delete(db: Connection, domain_id: int) -> None:
    """Remove a domain and its keys.

    Raises:
        NotFound: there is none of that id.
        Conflict: ``domain_in_use``: campaigns or messages went out from it.

    """
    try:
        async with db.transaction():
            found = await db.fetchval(DELETE, domain_id)
    except asyncpg.ForeignKeyViolationError:
        raise Conflict("Campaigns or messages belong to this domain.", code="domain_in_use") from None
    if found is None:
        raise NotFound("There is no such domain.")
