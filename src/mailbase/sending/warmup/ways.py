"""The ways out a domain's campaigns take, each warmed by itself: our own, and beside them the named relays."""

from typing import Final

from mailbase.db import Connection
from mailbase.errors import Invalid

OUTBOX: Final = "outbox"
RELAY: Final = "relay"

# Our own ways are those the workers have. Where no worker ever said which: those this domain took, and as long as it sent nothing,
# those that any domain takes. A named relay that is disabled or gone takes no letters any more, one of weight 0 only while no other does.
WAYS = """
WITH own AS (
    SELECT name AS egress FROM egress WHERE name <> 'outbox' AND seen_at > (SELECT max(seen_at) FROM egress) - interval '35 seconds'
), seen AS (
    SELECT key.domain_id = $1 AS mine, key.egress FROM warmup_keys AS key
    WHERE key.egress <> 'outbox' AND NOT EXISTS (SELECT FROM relays WHERE relays.name = key.egress)
      AND (key.egress = 'relay' OR key.egress = 'mx' OR key.egress LIKE 'mx:%')
    GROUP BY 1, 2
)
SELECT egress, 1 AS weight FROM own
UNION ALL SELECT egress, 1 FROM seen WHERE mine = (SELECT bool_or(mine) FROM seen) AND NOT EXISTS (SELECT FROM own)
UNION ALL SELECT name, weight FROM relays WHERE enabled AND weight > 0
"""


async def ways(db: Connection, domain_id: int, *, to_outbox: bool) -> dict[str, int]:
    """Return each way out that takes a domain's campaign letters now, with its weight."""
    if to_outbox:
        return {OUTBOX: 1}
    found = {row["egress"]: row["weight"] for row in await db.fetch(WAYS, domain_id)}
    own = any(name == RELAY or name.split(":")[0] == "mx" for name in found)
    return dict(sorted((found if own else {RELAY: 1} | found).items()))


TAKEN = """
SELECT DISTINCT egress FROM warmup_keys WHERE domain_id = $1 ORDER BY egress
"""


async def taken(db: Connection, domain_id: int) -> list[str]:
    """Return the ways out that a domain's campaign letters took so far."""
    return [row["egress"] for row in await db.fetch(TAKEN, domain_id)]


# Where no worker ever said which it has, every one.
STILL_TAKEN = """
SELECT DISTINCT key.egress FROM warmup_keys AS key
WHERE key.domain_id = $1 AND (
    key.egress IN (SELECT name FROM egress WHERE seen_at > (SELECT max(seen_at) FROM egress) - interval '35 seconds')
    OR key.egress IN (SELECT name FROM relays WHERE enabled AND weight > 0)
    OR NOT EXISTS (SELECT FROM egress WHERE seen_at IS NOT NULL)
)
ORDER BY key.egress
"""


async def still_taken(db: Connection, domain_id: int) -> list[str]:
    """Return the ways out that a domain's campaign letters took and that are there still: not a relay that is gone, or the outbox of the first days."""
    return [row["egress"] for row in await db.fetch(STILL_TAKEN, domain_id)]


NAMED = """
SELECT name FROM relays
"""


async def check(db: Connection, domain_id: int, egress: str, *, to_outbox: bool, field: str) -> None:
    """Refuse a way out that nobody has: neither taken so far nor open now, nor a relay's name.

    Raises:
        Invalid: ``unknown_egress``, with the names there are.

    """
    relays = [row["name"] for row in await db.fetch(NAMED)]
    known = sorted({*await taken(db, domain_id), *await ways(db, domain_id, to_outbox=to_outbox), *relays})
    if egress not in known:
        raise Invalid.field(
            field, "unknown_egress", f"There is no way out {egress[:40]}. There are {', '.join(known)}."
        )
