"""Whom never to write to: addresses, whole domains, and the keyed hashes of the erased.

Looked at when a letter is accepted and again in the mark before it is handed over. An erased person's entry is lifted by that
person's own confirmation alone; the others by deleting them.
"""

from datetime import datetime
from typing import Final, Literal, get_args

import msgspec

from mailbase.audience.addresses import Address
from mailbase.db import Connection
from mailbase.errors import Conflict, Invalid, NotFound
from mailbase.vault import keyed_hash

Kind = Literal["email", "domain", "erased"]
Reason = Literal["hard_bounce", "soft_bounces", "complaint", "manual", "erased"]
OWN_WORDS: Final = 200
"""The longest reason an owner may give in words of their own; such an entry counts as ``manual``."""


class Suppression(msgspec.Struct):
    """One entry; of an erased person neither address nor domain is known."""

    id: int
    kind: str
    email: str | None
    domain: str | None
    reason: str
    created_at: datetime


def erased_value(key: str, erasure_key: bytes) -> str:
    """Return what stands in the list for an erased address."""
    return keyed_hash(erasure_key, key).hex()


REASON = """
SELECT reason FROM suppressions WHERE value = ANY($1::text[]) ORDER BY kind = 'erased' DESC, id LIMIT 1
"""


async def reason_for(db: Connection, address: Address, erasure_key: bytes) -> str | None:
    """Return why this address must not be written to, or None."""
    reason: str | None = await db.fetchval(
        REASON, [address.key, address.domain, erased_value(address.key, erasure_key)]
    )
    return reason


async def refuse(db: Connection, address: Address, erasure_key: bytes, *, field: str = "email") -> None:
    """Raise the 422 ``suppressed`` where the address is on the list."""
    reason = await reason_for(db, address, erasure_key)
    if reason is not None:
        raise Invalid.field(field, "suppressed", f"This address is on the suppression list ({reason}).")


ADD = """
INSERT INTO suppressions (kind, value, reason, note) VALUES ($1, $2, $3, $4) ON CONFLICT (value) DO NOTHING RETURNING id
"""


async def add(db: Connection, kind: Kind, value: str, *, reason: str = "manual") -> int | None:
    """Put an address's key, a domain or an erased address's hash on the list; return its id, None if it was there already."""
    known = reason in get_args(Reason)
    entry: int | None = await db.fetchval(ADD, kind, value, reason if known else "manual", None if known else reason)
    return entry


LIFT = """
DELETE FROM suppressions WHERE value = ANY($1::text[]) AND reason <> 'manual' AND kind <> 'domain'
"""


async def lift_for_confirmed(db: Connection, address: Address, erasure_key: bytes) -> None:
    """Lift what a person's own confirmation lifts: bounces, complaint, erasure; never a manual entry or a domain's."""
    await db.execute(LIFT, [address.key, erased_value(address.key, erasure_key)])


PAGE = """
SELECT id, kind, CASE kind WHEN 'email' THEN value END AS email, CASE kind WHEN 'domain' THEN value END AS domain, COALESCE(note, reason) AS reason, created_at
  FROM suppressions
 WHERE ($1::bigint IS NULL OR id < $1) AND ($2::text IS NULL OR value = $2 AND kind <> 'erased') AND ($3::text IS NULL OR COALESCE(note, reason) = $3)
 ORDER BY id DESC LIMIT $4
"""


async def page(
    db: Connection, *, limit: int, before: int | None = None, value: str | None = None, reason: str | None = None
) -> list[Suppression]:
    """Return entries, newest first; ``value`` is an address's key or a domain."""
    return [Suppression(**row) for row in await db.fetch(PAGE, before, value, reason, limit)]


COUNT = """
SELECT count(*) FROM suppressions WHERE ($1::text IS NULL OR value = $1 AND kind <> 'erased') AND ($2::text IS NULL OR COALESCE(note, reason) = $2)
"""


async def count(db: Connection, *, value: str | None = None, reason: str | None = None) -> int:
    """Return how many entries there are."""
    total: int = await db.fetchval(COUNT, value, reason)
    return total


GET = """
SELECT id, kind, CASE kind WHEN 'email' THEN value END AS email, CASE kind WHEN 'domain' THEN value END AS domain, COALESCE(note, reason) AS reason, created_at
  FROM suppressions WHERE id = $1
"""


async def get(db: Connection, suppression_id: int) -> Suppression:
    """Return one entry.

    Raises:
        NotFound: there is none of this id.

    """
    row = await db.fetchrow(GET, suppression_id)
    if row is None:
        raise NotFound("There is no such suppression.")
    return Suppression(**row)


DELETE = """
DELETE FROM suppressions WHERE id = $1
"""


async def delete(db: Connection, suppression_id: int) -> None:
    """Lift an entry; an erased person's stays, because nobody but that person may lift it.

    Raises:
        NotFound: there is none of this id.
        Conflict: ``erased``.

    """
    entry = await get(db, suppression_id)
    if entry.kind == "erased":
        raise Conflict("Only the erased person can lift this, by subscribing again.", code="erased")
    await db.execute(DELETE, suppression_id)
