"""Relays with names: several ways out side by side, each with a weight, each an egress of its own for warm-up and failover.

    enabled ── its row of ``egress`` ──▶ takes letters ⇄ stopped    and by hand: disabled

Credentials are encrypted in the vault; nothing here shows a password, not even a representation of the object. Whose a letter is:
:mod:`~mailbase.sending.relays.shares`.
"""

import re
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec
from asyncpg import Record
from msgspec import UNSET, Struct, UnsetType

from mailbase import config
from mailbase.config import Tls
from mailbase.db import Connection
from mailbase.errors import Conflict, Invalid, NotFound
from mailbase.vault import Vault

CHANNEL: Final = "mailbase_relays"
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9a-fA-F:]{2,45}")


class Relay(Struct, kw_only=True):
    """A relay as it is shown: the address without its password."""

    id: int
    name: str
    url: str
    weight: int
    """Its share of the letters, beside the others'; 0: only while no other takes any."""
    connections: int
    enabled: bool
    stopped_until: datetime | None
    """It refused us, and is left alone so long."""
    stopped_reason: str | None
    created_at: datetime
    updated_at: datetime


class NamedRelay(Struct, frozen=True):
    """A relay ready for use. ``name`` is its egress."""

    name: str
    weight: int
    smtp: config.Relay

    def __repr__(self) -> str:
        """Show no credentials."""
        return f"NamedRelay({self.name!r}, weight={self.weight}, {self.smtp.host}:{self.smtp.port})"


def read_url(url: str) -> config.Relay:
    """Read ``smtp://user:password@host:port?tls=starttls|implicit|none&connections=100``.

    Raises:
        Invalid: ``invalid_url``; what was given is not repeated, for it may hold a password.

    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise _refuse("This is not an address.") from None
    tls = query.pop("tls", "implicit" if port == 465 else "starttls")
    connections = query.pop("connections", "100")
    if parts.scheme != "smtp" or not parts.hostname or parts.path not in {"", "/"} or parts.fragment:
        raise _refuse("An address such as smtp://user:password@smtp.example.com:587?tls=starttls is needed.")
    if not _HOST.fullmatch(parts.hostname):
        raise _refuse("The host's name cannot be one.")
    if query:
        raise _refuse("Only the options tls and connections are known.")
    if tls not in {"starttls", "implicit", "none"}:
        raise _refuse("tls is starttls, implicit or none.")
    if not re.fullmatch(r"[0-9]{1,4}", connections) or not 1 <= int(connections) <= 1000:
        raise _refuse("connections is a number from 1 to 1000.")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if any(ord(letter) < 32 for letter in user + password):
        raise _refuse("User and password may not contain control characters.")
    return config.Relay(
        host=parts.hostname,
        port=port or (465 if tls == "implicit" else 587),
        user=user or None,
        password=password or None,
        tls=msgspec.convert(tls, Tls),
        connections=int(connections),
    )


def _refuse(message: str) -> Invalid:
    return Invalid.field("url", "invalid_url", message)


PAGE = """
SELECT relays.id, relays.name, host, port, username, password IS NOT NULL AS secret, tls, weight, connections, enabled,
    CASE WHEN egress.stopped_until > now() THEN egress.stopped_until END AS stopped_until,
    CASE WHEN egress.failures > 0 THEN egress.reason END AS stopped_reason, created_at, updated_at
FROM relays LEFT JOIN egress ON egress.name = relays.name
WHERE relays.id < $1 ORDER BY relays.id DESC LIMIT $2
"""


async def page(db: Connection, *, before: int, limit: int) -> list[Relay]:
    """Return relays with an id below ``before``, newest first."""
    return [_shown(row) for row in await db.fetch(PAGE, before, limit)]


COUNT = """
SELECT count(*) FROM relays
"""


async def count(db: Connection) -> int:
    """Return how many there are."""
    total: int = await db.fetchval(COUNT)
    return total


async def get(db: Connection, relay_id: int) -> Relay:
    """Return one relay.

    Raises:
        NotFound: there is none of this id.

    """
    rows = await db.fetch(PAGE, relay_id + 1, 1)
    if not rows or rows[0]["id"] != relay_id:
        raise NotFound("There is no such relay.")
    return _shown(rows[0])


def _shown(row: Record) -> Relay:
    host = f"[{row['host']}]" if ":" in row["host"] else row["host"]
    user = f"{quote(row['username'], safe='')}@" if row["username"] else ""
    return Relay(
        id=row["id"],
        name=row["name"],
        url=f"smtp://{user}{host}:{row['port']}?tls={row['tls']}",
        weight=row["weight"],
        connections=row["connections"],
        enabled=row["enabled"],
        stopped_until=row["stopped_until"],
        stopped_reason=row["stopped_reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


CREATE = """
INSERT INTO relays (name, host, port, username, tls, connections, weight, enabled) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (name) DO NOTHING RETURNING id
"""

SEAL = """
UPDATE relays SET password = $2 WHERE id = $1
"""


async def create(
    db: Connection,
    vault: Vault,
    *,
    name: str,
    url: str,
    weight: int = 1,
    enabled: bool = True,
    connections: int | None = None,
) -> Relay:
    """Add a relay; ``connections`` given beside the address counts.

    Raises:
        Invalid: ``invalid_url``.
        Conflict: ``relay_exists``.

    """
    smtp = read_url(url)
    relay_id: int | None = await db.fetchval(
        CREATE, name, smtp.host, smtp.port, smtp.user, smtp.tls, connections or smtp.connections, weight, enabled
    )
    if relay_id is None:
        raise Conflict(f"There is a relay {name!r} already.", code="relay_exists")
    await _keep_password(db, vault, relay_id, smtp.password)
    return await get(db, relay_id)


async def _keep_password(db: Connection, vault: Vault, relay_id: int, password: str | None) -> None:
    blob = vault.encrypt(password.encode(), f"relay:{relay_id}") if password is not None else None
    await db.execute(SEAL, relay_id, blob)


UPDATE = """
UPDATE relays SET weight = COALESCE($2, weight), enabled = COALESCE($3, enabled), connections = COALESCE($4, connections), updated_at = now()
WHERE id = $1 RETURNING id
"""

MOVE = """
WITH moved AS (UPDATE relays SET host = $2, port = $3, username = $4, tls = $5 WHERE id = $1 RETURNING name)
DELETE FROM egress USING moved WHERE egress.name = moved.name
"""


class Change(Struct, kw_only=True):
    """What shall change; another address comes with its password, or has none."""

    url: str | UnsetType = UNSET
    weight: int | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    connections: int | UnsetType = UNSET


async def update(db: Connection, vault: Vault, relay_id: int, change: Change) -> Relay:
    """Change what is given.

    Raises:
        NotFound: there is none of this id.
        Invalid: ``invalid_url``.

    """
    given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    smtp = read_url(given["url"]) if "url" in given else None
    connections = given.get("connections")
    if smtp is not None and connections is None and "connections" in dict(parse_qsl(urlsplit(given["url"]).query)):
        connections = smtp.connections
    if not await db.fetch(UPDATE, relay_id, given.get("weight"), given.get("enabled"), connections):
        raise NotFound("There is no such relay.")
    if smtp is not None:
        await db.execute(MOVE, relay_id, smtp.host, smtp.port, smtp.user, smtp.tls)
        await _keep_password(db, vault, relay_id, smtp.password)
    return await get(db, relay_id)


# What it said goes with it: another one of its name has said nothing yet.
DELETE = """
WITH gone AS (DELETE FROM relays WHERE id = $1 RETURNING name), said AS (DELETE FROM egress USING gone WHERE egress.name = gone.name)
SELECT name FROM gone
"""


async def delete(db: Connection, relay_id: int) -> None:
    """Take a relay away; its letters belong to the others from then on.

    Raises:
        NotFound: there is none of this id.

    """
    if not await db.fetch(DELETE, relay_id):
        raise NotFound("There is no such relay.")


ENABLED = """
SELECT id, name, host, port, username, password, tls, connections, weight FROM relays WHERE enabled ORDER BY name
"""


async def list_enabled(db: Connection, vault: Vault) -> list[NamedRelay]:
    """Return the relays in use, with their credentials, by name.

    Raises:
        ConfigError: the secret key is not the one a password was encrypted under.

    """
    return [
        NamedRelay(
            row["name"],
            row["weight"],
            config.Relay(
                host=row["host"],
                port=row["port"],
                user=row["username"],
                password=vault.decrypt(row["password"], f"relay:{row['id']}").decode() if row["password"] else None,
                tls=row["tls"],
                connections=row["connections"],
            ),
        )
        for row in await db.fetch(ENABLED)
    ]
