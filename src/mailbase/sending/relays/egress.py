"""Egress: whether the way out takes letters, and what it said when it did not.

A refusal at greeting, EHLO, AUTH or MAIL is ours, not a letter's: every worker stops, waits (2, 4, 8 … 120 seconds), and one
letter is tried first. The first answer about a letter clears the row.

    open ─▶ stopped until … ─▶ probing (failures > 0) ─▶ open

The ways that the settings name are ours: each worker says every few seconds which it has, so that whoever looks sees them all,
whatever machine they are on. Beside them there are the relays with names.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from mailbase.config import Settings
from mailbase.db import Connection

log = logging.getLogger(__name__)

LONGEST: Final = 120
OUTBOX: Final = "outbox"
RELAY: Final = "relay"
SEE_EVERY: Final = 10.0
"""Seconds after which a worker says again which ways out it has."""


class Egress(Struct, kw_only=True):
    """``stopped``: nothing may be handed over now. ``failures`` > 0: only a probe may."""

    stopped: bool = False
    failures: int = 0
    reason: str | None = None
    stopped_until: datetime | None = None


# A stop that ends so late was made before the server's clock was put back.
GET = """
SELECT stopped_until > COALESCE($2, now()) AND stopped_until <= COALESCE($2, now()) + make_interval(secs => $3) AS stopped, failures, reason, stopped_until FROM egress WHERE name = $1
"""


async def get(db: Connection, name: str, *, now: datetime | None = None) -> Egress:
    """Return how the way out called ``name`` (``relay`` or ``outbox``) stands."""
    rows = await db.fetch(GET, name, now, float(LONGEST))
    if not rows:
        return Egress()
    row = rows[0]
    return Egress(
        stopped=bool(row["stopped"]), failures=row["failures"], reason=row["reason"], stopped_until=row["stopped_until"]
    )


STOP = """
INSERT INTO egress (name, stopped_until, failures, reason, at)
VALUES ($1, COALESCE($4, now()) + interval '2 seconds', 1, $2, COALESCE($4, now()))
ON CONFLICT (name) DO UPDATE SET
    failures = egress.failures + 1,
    stopped_until = COALESCE($4, now()) + make_interval(secs => LEAST(2 * 2.0 ^ LEAST(egress.failures, 20), $3)),
    reason = excluded.reason,
    at = excluded.at
WHERE egress.stopped_until IS NULL OR egress.stopped_until <= COALESCE($4, now())
RETURNING extract(epoch FROM stopped_until - COALESCE($4, now()))::float8
"""


async def stop(db: Connection, name: str, reason: str, *, now: datetime | None = None) -> None:
    """Stop the way out for a while that doubles. Several workers that fail together count as one failure."""
    seconds: float | None = await db.fetchval(STOP, name, reason, float(LONGEST), now)
    if seconds is not None:
        log.warning("the way out %r takes no letters (%s); tried again in %d seconds", name, reason, round(seconds))


CLEAR = """
UPDATE egress SET stopped_until = NULL, failures = 0, reason = NULL, at = now() WHERE name = $1 AND failures > 0
"""


async def clear(db: Connection, name: str) -> None:
    """Note that it takes letters again."""
    await db.execute(CLEAR, name)


# A time to come is from before the server's clock was put back.
SEE = """
INSERT INTO egress (name, seen_at) SELECT name, now() FROM unnest($1::text[]) AS name ORDER BY name
ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at
WHERE egress.seen_at IS NULL OR egress.seen_at < now() - interval '5 seconds' OR egress.seen_at > now()
"""


async def see(db: Connection, names: Sequence[str]) -> None:
    """Note that a worker has these ways out of its settings."""
    await db.execute(SEE, names)


# What nobody spoke of for a while, though others were: the settings are different now.
OWN = """
SELECT name FROM egress WHERE seen_at > (SELECT max(seen_at) FROM egress) - interval '35 seconds' ORDER BY name
"""


def named_by(settings: Settings) -> list[str]:
    """Return the names of the ways out that these settings make."""
    if settings.mx is not None:
        return [f"mx:{source}" for source in settings.mx.sources] or ["mx"]
    return [OUTBOX if settings.to_outbox else RELAY]


async def own(db: Connection, *, to_outbox: bool, otherwise: Sequence[str] = ()) -> list[str]:
    """Return the ways out that the settings name: those the workers have, or had when one was last there.

    ``otherwise``: what to go by as long as no worker was there.
    """
    found = [row["name"] for row in await db.fetch(OWN) if (row["name"] == OUTBOX) == to_outbox]
    return found or list(otherwise) or [OUTBOX if to_outbox else RELAY]


class WayOut(Struct, kw_only=True):
    """A way out that letters take, and whether it takes them."""

    name: str
    """As in the warm-up and in overrides."""
    kind: Literal["outbox", "relay", "mx"]
    relay_id: int | None
    """Of a relay with a name."""
    stopped_until: datetime | None
    """It refused us, and is left alone so long."""
    stopped_reason: str | None
    """What it said; None: it takes letters."""


LIST = """
SELECT way.name, way.relay_id, CASE WHEN egress.stopped_until > now() THEN egress.stopped_until END AS stopped_until,
    CASE WHEN egress.failures > 0 THEN COALESCE(egress.reason, '') END AS stopped_reason
FROM (
    SELECT name, NULL AS relay_id FROM unnest($1::text[]) AS name
    UNION ALL SELECT name, id FROM relays WHERE enabled AND $2
) AS way LEFT JOIN egress ON egress.name = way.name
ORDER BY way.relay_id NULLS FIRST, way.name
"""


async def ways_out(db: Connection, *, to_outbox: bool, otherwise: Sequence[str] = ()) -> list[WayOut]:
    """Return all ways out that letters take: our own, then the relays with names that are enabled; those rest beside the outbox."""
    names = await own(db, to_outbox=to_outbox, otherwise=otherwise)
    return [
        WayOut(
            name=row["name"],
            kind="relay" if row["relay_id"] is not None else _kind(row["name"]),
            relay_id=row["relay_id"],
            stopped_until=row["stopped_until"],
            stopped_reason=row["stopped_reason"],
        )
        for row in await db.fetch(LIST, names, not to_outbox)
    ]


def _kind(name: str) -> Literal["outbox", "relay", "mx"]:
    if name == OUTBOX:
        return "outbox"
    return "mx" if name.partition(":")[0] == "mx" else "relay"
