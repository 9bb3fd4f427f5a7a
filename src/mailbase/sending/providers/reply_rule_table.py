"""The table of rules on replies: rows the owner may change; :mod:`~mailbase.sending.providers.reply_rules` applies them."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg
import msgspec
from msgspec import UNSET, Struct, UnsetType

from mailbase.db import Connection
from mailbase.errors import Invalid, NotFound
from mailbase.sending.providers.overrides import Restriction


class Rule(Restriction, kw_only=True):
    """A rule as the table holds it."""

    id: int
    providers: list[str]
    """Whose replies; none: anybody's, unless a rule of their own matches."""
    pattern: str
    threshold: int
    window_seconds: int
    stop_domain: bool
    duration_seconds: int
    advice: str
    """What it means and what to do about it, in words."""
    sample: str
    enabled: bool
    created_at: datetime


class Change(Struct, kw_only=True):
    """What a new rule is, or what shall change in one."""

    providers: Sequence[str] | UnsetType = UNSET
    pattern: str | UnsetType = UNSET
    threshold: int | UnsetType = UNSET
    window_seconds: int | UnsetType = UNSET
    suspend: bool | UnsetType = UNSET
    connections: int | UnsetType | None = UNSET
    letters_per_connection: int | UnsetType | None = UNSET
    letters_per_minute: float | UnsetType | None = UNSET
    connections_per_minute: float | UnsetType | None = UNSET
    stop_domain: bool | UnsetType = UNSET
    duration_seconds: int | UnsetType = UNSET
    advice: str | UnsetType = UNSET
    sample: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


PAGE = """
SELECT id, providers, pattern, threshold, window_seconds, suspend, connections, letters_per_connection, letters_per_minute,
    connections_per_minute, stop_domain, duration_seconds, advice, sample, enabled, created_at
FROM reply_rules WHERE id < $1 AND ($3::text IS NULL OR $3 = ANY (providers)) ORDER BY id DESC LIMIT $2
"""


async def page(db: Connection, *, before: int, limit: int, provider: str | None = None) -> list[Rule]:
    """Return rules with an id below ``before``, newest first."""
    return [Rule(**row) for row in await db.fetch(PAGE, before, limit, provider)]


COUNT = """
SELECT count(*) FROM reply_rules WHERE $1::text IS NULL OR $1 = ANY (providers)
"""


async def count(db: Connection, *, provider: str | None = None) -> int:
    """Return how many there are."""
    total: int = await db.fetchval(COUNT, provider)
    return total


GET = """
SELECT id, providers, pattern, threshold, window_seconds, suspend, connections, letters_per_connection, letters_per_minute,
    connections_per_minute, stop_domain, duration_seconds, advice, sample, enabled, created_at
FROM reply_rules WHERE id = $1 FOR UPDATE
"""


async def get(db: Connection, rule_id: int) -> Rule:
    """Return one rule, held until the transaction ends.

    Raises:
        NotFound: there is none of this id.

    """
    row = await db.fetchrow(GET, rule_id)
    if row is None:
        raise NotFound("There is no such rule.")
    return Rule(**row)


CREATE = """
INSERT INTO reply_rules (pattern, threshold, window_seconds, suspend, duration_seconds, advice, sample)
VALUES ('.', 5, 3600, true, 3600, '', '') RETURNING id
"""


async def create(db: Connection, change: Change) -> Rule:
    """Add a rule.

    Raises:
        Invalid: see :func:`update`.

    """
    rule_id: int = await db.fetchval(CREATE)
    if change.suspend is UNSET:
        change = msgspec.structs.replace(change, suspend=False)
    return await update(db, rule_id, change)


UPDATE = """
UPDATE reply_rules SET providers = $2, pattern = $3, threshold = $4, window_seconds = $5, suspend = $6, connections = $7,
    letters_per_connection = $8, letters_per_minute = $9, connections_per_minute = $10, stop_domain = $11, duration_seconds = $12,
    advice = $13, sample = $14, enabled = $15
WHERE id = $1
"""

BACK_REFERENCE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[1-9]")
"""The one thing PostgreSQL's regular expressions cannot do without trying everything; each refusal is matched by every rule."""

TRY = """
SELECT $2::text ~* $1::text
"""

UNKNOWN = """
SELECT name FROM unnest($1::text[]) AS name WHERE name NOT LIKE 'site:%' AND name NOT IN (SELECT name FROM providers)
"""


async def update(db: Connection, rule_id: int, change: Change) -> Rule:
    """Change what is given.

    Raises:
        NotFound: there is none of this id.
        Invalid: the pattern is none or does not match its sample, the rule would do nothing, or a provider is not in the table.

    """
    held = await get(db, rule_id)
    given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    new = msgspec.structs.replace(held, **given)
    lowered = (new.connections, new.letters_per_connection, new.letters_per_minute, new.connections_per_minute)
    if not new.suspend and not new.stop_domain and all(value is None for value in lowered):
        raise Invalid("The rule would do nothing: name a limit, `suspend` or `stop_domain`.", code="no_action")
    unknown = await db.fetch(UNKNOWN, list(new.providers))
    if unknown:
        raise Invalid.field("providers", "unknown_provider", f"There is no provider {unknown[0]['name']!r}.")
    if BACK_REFERENCE.search(new.pattern):
        raise Invalid.field(
            "pattern", "invalid_pattern", "A pattern may not refer back to a group (\\1): it could take minutes."
        )
    try:
        async with db.transaction():
            matches = await db.fetchval(TRY, new.pattern, new.sample)
    except asyncpg.DataError as error:
        raise Invalid.field("pattern", "invalid_pattern", f"This is not a pattern: {error}.") from None
    if not matches:
        raise Invalid.field("sample", "no_match", "The pattern does not match the sample.")
    await db.execute(
        UPDATE, rule_id, list(new.providers), new.pattern, new.threshold, new.window_seconds, new.suspend, *lowered,
        new.stop_domain, new.duration_seconds, new.advice, new.sample, new.enabled,
    )  # fmt: skip
    return await get(db, rule_id)


DELETE = """
DELETE FROM reply_rules WHERE id = $1
"""


async def delete(db: Connection, rule_id: int) -> None:
    """Delete a rule, and the overrides it has set.

    Raises:
        NotFound: there is none of this id.

    """
    if await db.execute(DELETE, rule_id) == "DELETE 0":
        raise NotFound("There is no such rule.")
