"""The table of mailbox providers: rows the owner may change; :mod:`~mailbase.sending.providers.providers` is how a process reads them.

A limit that a row leaves out is the row ``other``'s, which therefore has a value for each and cannot be deleted.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from mailbase.db import Connection
from mailbase.errors import Conflict, Invalid, NotFound

OTHER: Final = "other"

Tls = Literal["required", "opportunistic"]


class Provider(Struct, kw_only=True):
    """A row of the table. A limit that is None is taken from the row ``other``."""

    id: int
    name: str
    mx_suffixes: list[str]
    """Ends of mail hosts' names, with the dot in front; the longest one that fits wins."""
    connections: int | None
    letters_per_connection: int | None
    letters_per_minute: float | None
    connections_per_minute: float | None
    tls: Tls | None
    verify_tls: bool | None
    warmup_multiplier: float | None
    """Which part of a warming domain's total cap may go there."""
    warmup_least: int | None
    """And never fewer letters a day than this."""
    created_at: datetime
    updated_at: datetime


class Change(Struct, kw_only=True):
    """What shall change in a row; None clears a limit."""

    mx_suffixes: Sequence[str] | UnsetType = UNSET
    connections: int | UnsetType | None = UNSET
    letters_per_connection: int | UnsetType | None = UNSET
    letters_per_minute: float | UnsetType | None = UNSET
    connections_per_minute: float | UnsetType | None = UNSET
    tls: Tls | UnsetType | None = UNSET
    verify_tls: bool | UnsetType | None = UNSET
    warmup_multiplier: float | UnsetType | None = UNSET
    warmup_least: int | UnsetType | None = UNSET


def suffixes(given: Iterable[str]) -> list[str]:
    """Return suffixes in their one form: lower case, one dot in front, none behind."""
    return sorted({"." + suffix.strip().lower().strip(".") for suffix in given})


ALL = """
SELECT id, name, mx_suffixes, connections, letters_per_connection, letters_per_minute, connections_per_minute, tls, verify_tls,
    warmup_multiplier, warmup_least, created_at, updated_at
FROM providers ORDER BY id
"""


async def everything(db: Connection) -> list[Provider]:
    """Return the whole table, oldest first."""
    return [Provider(**row) for row in await db.fetch(ALL)]


PAGE = """
SELECT id, name, mx_suffixes, connections, letters_per_connection, letters_per_minute, connections_per_minute, tls, verify_tls,
    warmup_multiplier, warmup_least, created_at, updated_at
FROM providers WHERE id < $1 ORDER BY id DESC LIMIT $2
"""


async def page(db: Connection, *, before: int, limit: int) -> list[Provider]:
    """Return rows with an id below ``before``, newest first."""
    return [Provider(**row) for row in await db.fetch(PAGE, before, limit)]


COUNT = """
SELECT count(*) FROM providers
"""


async def count(db: Connection) -> int:
    """Return how many there are."""
    total: int = await db.fetchval(COUNT)
    return total


GET = """
SELECT id, name, mx_suffixes, connections, letters_per_connection, letters_per_minute, connections_per_minute, tls, verify_tls,
    warmup_multiplier, warmup_least, created_at, updated_at
FROM providers WHERE id = $1 FOR UPDATE
"""


async def get(db: Connection, provider_id: int) -> Provider:
    """Return one row, held until the transaction ends.

    Raises:
        NotFound: there is none of this id.

    """
    row = await db.fetchrow(GET, provider_id)
    if row is None:
        raise NotFound("There is no such provider.")
    return Provider(**row)


CREATE = """
INSERT INTO providers (name, mx_suffixes) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING id
"""


async def create(db: Connection, name: str, change: Change) -> Provider:
    """Add a provider; domains whose mail hosts it names are looked at again soon.

    Raises:
        Conflict: ``provider_exists``.
        Invalid: a suffix belongs to another provider.

    """
    provider_id: int | None = await db.fetchval(CREATE, name, [])
    if provider_id is None:
        raise Conflict(f"There is a provider {name!r} already.", code="provider_exists")
    return await update(db, provider_id, change)


UPDATE = """
UPDATE providers SET mx_suffixes = $2, connections = $3, letters_per_connection = $4, letters_per_minute = $5, connections_per_minute = $6,
    tls = $7, verify_tls = $8, warmup_multiplier = $9, warmup_least = $10, updated_at = now()
WHERE id = $1
"""

TAKEN = """
SELECT name, suffix FROM providers, unnest(mx_suffixes) AS suffix WHERE id <> $1 AND suffix = ANY ($2::text[]) LIMIT 1
"""

LOOK_AGAIN = """
UPDATE recipient_domains SET due_at = now()
WHERE due_at IS NOT NULL AND (provider = $1 OR EXISTS (
    SELECT FROM unnest(mx) AS host, unnest($2::text[]) AS suffix WHERE right('.' || host, length(suffix)) = suffix))
"""


async def update(db: Connection, provider_id: int, change: Change) -> Provider:
    """Change what is given.

    Raises:
        NotFound: there is none of this id.
        Invalid: ``suffix_taken``, or ``other`` would be left without a limit.

    """
    held = await get(db, provider_id)
    given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    if "mx_suffixes" in given:
        given["mx_suffixes"] = suffixes(given["mx_suffixes"])
        if held.name == OTHER and given["mx_suffixes"]:
            raise Invalid.field("mx_suffixes", "invalid_value", "`other` is whoever nobody's suffix fits.")
        if taken := await db.fetchrow(TAKEN, provider_id, given["mx_suffixes"]):
            raise Invalid.field("mx_suffixes", "suffix_taken", f"{taken['suffix']} is {taken['name']}'s already.")
    if held.name == OTHER and (empty := [name for name, value in given.items() if value is None]):
        raise Invalid.field(empty[0], "invalid_value", "`other` is what the others fall back to, and needs a value.")
    new = msgspec.structs.replace(held, **given)
    await db.execute(
        UPDATE, provider_id, new.mx_suffixes, new.connections, new.letters_per_connection, new.letters_per_minute,
        new.connections_per_minute, new.tls, new.verify_tls, new.warmup_multiplier, new.warmup_least,
    )  # fmt: skip
    if new.mx_suffixes != held.mx_suffixes:
        await db.execute(LOOK_AGAIN, held.name, new.mx_suffixes)
    return await get(db, provider_id)


DELETE = """
DELETE FROM providers WHERE id = $1
"""


async def delete(db: Connection, provider_id: int) -> None:
    """Take a provider off the table; its domains become lanes of their own at their next look.

    Raises:
        NotFound: there is none of this id.
        Conflict: ``provider_needed``, it is ``other``.

    """
    held = await get(db, provider_id)
    if held.name == OTHER:
        raise Conflict("`other` is what everybody else falls back to, and stays.", code="provider_needed")
    await db.execute(DELETE, provider_id)
    await db.execute(LOOK_AGAIN, held.name, [])
