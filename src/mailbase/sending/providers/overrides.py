"""Overrides: what holds for a provider instead of the table, for a while: set by a rule on replies, or by hand.

    in force ──▶ over, by itself at ``expires_at``, or taken back

All workers lay what is in force over the table (:class:`~mailbase.sending.providers.providers.Providers`); the strictest of several wins.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import Invalid, NotFound


class Restriction(Struct, kw_only=True):
    """What may be lowered; None leaves it as it is."""

    suspend: bool = False
    """Nothing is sent at all."""
    connections: int | None = None
    letters_per_connection: int | None = None
    letters_per_minute: float | None = None
    connections_per_minute: float | None = None


class Override(Restriction, kw_only=True):
    """One of those in force. ``egress``: one way out, or ``*``: all; ``rule_id``: whose doing, None: by hand."""

    id: int
    provider: str
    egress: str
    rule_id: int | None
    reason: str
    reply: str | None
    """The reply that tipped it."""
    created_at: datetime
    expires_at: datetime


PAGE = """
SELECT id, provider, egress, rule_id, suspend, connections, letters_per_connection, letters_per_minute, connections_per_minute,
    reason, reply, created_at, expires_at
FROM provider_overrides
WHERE id < $1 AND expires_at > COALESCE($3, now()) AND ($4::text IS NULL OR provider = $4)
ORDER BY id DESC LIMIT $2
"""


async def page(
    db: Connection, *, before: int, limit: int, provider: str | None = None, now: datetime | None = None
) -> list[Override]:
    """Return those in force with an id below ``before``, newest first."""
    return [Override(**row) for row in await db.fetch(PAGE, before, limit, now, provider)]


COUNT = """
SELECT count(*) FROM provider_overrides WHERE expires_at > now() AND ($1::text IS NULL OR provider = $1)
"""


async def count(db: Connection, *, provider: str | None = None) -> int:
    """Return how many are in force."""
    total: int = await db.fetchval(COUNT, provider)
    return total


KNOWN = """
SELECT $1 LIKE 'site:%' OR EXISTS (SELECT FROM providers WHERE name = $1)
"""

CREATE = """
INSERT INTO provider_overrides (provider, egress, suspend, connections, letters_per_connection, letters_per_minute,
    connections_per_minute, reason, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9)
RETURNING id, provider, egress, rule_id, suspend, connections, letters_per_connection, letters_per_minute, connections_per_minute,
    reason, reply, created_at, expires_at
"""


async def create(
    db: Connection, provider: str, restriction: Restriction, *, reason: str, duration: timedelta, egress: str = "*"
) -> Override:
    """Lower by hand what a provider is sent, for a while.

    Raises:
        Invalid: the provider is neither in the table nor a site.

    """
    if not await db.fetchval(KNOWN, provider):
        raise Invalid.field("provider", "unknown_provider", f"There is no provider {provider!r}.")
    row = await db.fetchrow(
        CREATE, provider, egress, restriction.suspend, restriction.connections, restriction.letters_per_connection,
        restriction.letters_per_minute, restriction.connections_per_minute, reason, duration,
    )  # fmt: skip
    assert row is not None  # noqa: S101  (an INSERT … RETURNING of one row)
    return Override(**row)


DELETE = """
DELETE FROM provider_overrides WHERE id = $1
"""


async def delete(db: Connection, override_id: int) -> None:
    """Take one back at once.

    Raises:
        NotFound: there is none of this id.

    """
    if await db.execute(DELETE, override_id) == "DELETE 0":
        raise NotFound("There is no such override.")


UNTIL = """
SELECT provider, max(expires_at) AS until, max(expires_at) - COALESCE($3, now()) AS left FROM provider_overrides
WHERE provider = ANY ($1::text[]) AND egress IN ('*', $2) AND expires_at > COALESCE($3, now()) GROUP BY provider
"""


async def until(
    db: Connection, providers: list[str], egress: str, *, now: datetime | None = None
) -> dict[str, tuple[datetime, timedelta]]:
    """Return when the last override of each of these providers ends, and how long that is still, where one is in force."""
    return {row["provider"]: (row["until"], row["left"]) for row in await db.fetch(UNTIL, providers, egress, now)}


SUSPENDED = """
SELECT DISTINCT provider FROM provider_overrides WHERE suspend AND egress IN ('*', $1) AND expires_at > COALESCE($2, now())
"""


async def suspended(db: Connection, egress: str, *, now: datetime | None = None) -> list[str]:
    """Return the providers that nothing is sent to over this way out now."""
    return [row["provider"] for row in await db.fetch(SUSPENDED, egress, now)]


FORGET = """
WITH old AS (DELETE FROM reply_counts WHERE minute < COALESCE($1, now()) - interval '25 hours')
DELETE FROM provider_overrides WHERE expires_at < COALESCE($1, now()) - interval '7 days'
"""


async def forget(db: Connection, *, now: datetime | None = None) -> None:
    """Delete what was over a week ago, and counts no rule looks at any more."""
    await db.execute(FORGET, now)
