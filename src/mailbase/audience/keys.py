"""API keys: who may speak to the keyed API, and what they may do.

A secret is ``mb_`` and 43 random characters. It is shown once; the database holds its SHA-256 only, which suffices because the
secret cannot be guessed. The configuration's admin key is a row like any other, marked ``system``: it is written at every start.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from mailbase.db import Connection
from mailbase.errors import Conflict, NotFound, Unauthorized

Scope = Literal[
    "subscribers:read",
    "subscribers:write",
    "forms:read",
    "forms:write",
    "campaigns:read",
    "campaigns:write",
    "campaigns:send",
    "messages:send",
    "stats:read",
    "domains:read",
    "domains:write",
    "admin",
]
"""The closed list; ``admin`` is everything, and keys and settings."""

PREFIX: Final = 9  # mb_ and six characters tell keys apart and nothing about the rest
LONGEST: Final = 256


class Key(msgspec.Struct, kw_only=True):
    """An API key without its secret."""

    id: int
    name: str
    prefix: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    system: bool


class NewKey(Key, kw_only=True):
    """A key just made, with the secret that is never shown again."""

    secret: str


class Bearer(msgspec.Struct, frozen=True):
    """Who is asking."""

    id: int
    scopes: frozenset[str]

    def may(self, scope: Scope) -> bool:
        """Tell whether the key carries the scope."""
        return scope in self.scopes or "admin" in self.scopes


def digest(secret: str) -> bytes:
    """Return what the database knows of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


CREATE = """
INSERT INTO api_keys (name, prefix, hash, scopes, expires_at) VALUES ($1, $2, $3, $4, $5)
RETURNING id, name, prefix, scopes, created_at, expires_at, last_used_at, system
"""


async def create(db: Connection, name: str, scopes: Sequence[Scope], *, expires_at: datetime | None = None) -> NewKey:
    """Make a key; the answer alone holds the secret."""
    secret = f"mb_{secrets.token_urlsafe(32)}"
    row = await db.fetchrow(CREATE, name, secret[:PREFIX], digest(secret), list(dict.fromkeys(scopes)), expires_at)
    return msgspec.convert({**dict(row or {}), "secret": secret}, NewKey)


ENSURE = """
INSERT INTO api_keys (name, prefix, hash, scopes, system) VALUES ('admin', $1, $2, '{admin}', true)
ON CONFLICT (hash) DO UPDATE SET scopes = '{admin}', system = true, expires_at = NULL
WHERE NOT (api_keys.system AND api_keys.scopes = '{admin}' AND api_keys.expires_at IS NULL)
"""

RETIRE = """
DELETE FROM api_keys WHERE system AND hash <> $1
"""


async def ensure_admin_key(db: Connection, secret: str) -> None:
    """Make the configured admin key the only one of its kind: an earlier one, replaced in the configuration, ends here."""
    await db.execute(ENSURE, secret[:PREFIX], digest(secret))
    await db.execute(RETIRE, digest(secret))


AUTHENTICATE = """
SELECT id, scopes, last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS stale
FROM api_keys WHERE hash = $1 AND (expires_at IS NULL OR expires_at > now())
"""

TOUCH = """
UPDATE api_keys SET last_used_at = now() WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""


async def authenticate(db: Connection, secret: str) -> Bearer:
    """Return whose secret this is; the same single look-up whether it is known or not.

    Raises:
        Unauthorized: not a key of ours, or no longer.

    """
    row = await db.fetchrow(AUTHENTICATE, digest(secret[:LONGEST]))
    if row is None:
        raise Unauthorized
    if row["stale"]:
        await db.execute(TOUCH, row["id"])
    return Bearer(row["id"], frozenset(row["scopes"]))


GET = """
SELECT id, name, prefix, scopes, created_at, expires_at, last_used_at, system FROM api_keys WHERE id = $1
"""


async def get(db: Connection, key_id: int) -> Key:
    """Return one key.

    Raises:
        NotFound: there is none.

    """
    row = await db.fetchrow(GET, key_id)
    if row is None:
        raise NotFound("There is no such key.")
    return msgspec.convert(dict(row), Key)


LIST = """
SELECT id, name, prefix, scopes, created_at, expires_at, last_used_at, system FROM api_keys WHERE id < $1 ORDER BY id DESC LIMIT $2
"""


async def page(db: Connection, *, before: int, limit: int) -> list[Key]:
    """Return keys, newest first."""
    return [msgspec.convert(dict(row), Key) for row in await db.fetch(LIST, before, limit)]


COUNT = """
SELECT count(*) FROM api_keys
"""


async def count(db: Connection) -> int:
    """Return how many keys there are."""
    total: int = await db.fetchval(COUNT)
    return total


DELETE = """
DELETE FROM api_keys WHERE id = $1 AND NOT system RETURNING id
"""


async def delete(db: Connection, key_id: int) -> None:
    """End a key at once.

    Raises:
        NotFound: there is none.
        Conflict: it is the configuration's; it ends when the configuration names another.

    """
    if await db.fetchval(DELETE, key_id) is None:
        await get(db, key_id)
        raise Conflict(
            "The configured admin key cannot be deleted; change MAILBASE_ADMIN_KEY instead.", code="system_key"
        )
