"""What waits to be sent: the campaigns that have letters due, their lanes (one a provider), and how warm those who wait are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.warmup.rules import TIER_BITS, Preset

TIERS_END: Final = 15


class Due(Struct, kw_only=True):
    """A campaign with letters that are due, and what the dispatcher must know of its domain."""

    campaign_id: int
    domain_id: int
    key_id: int | None
    """The active DKIM key; None: the domain leaves signing to the relay."""
    preset: Preset | None
    restricted: bool
    version: int
    """Rises whenever something about the domain's warm-up changes."""

    def capped(self, *, to_outbox: bool) -> bool:
        """Whether the warm-up may hold letters."""
        return self.restricted or (self.preset or ("none" if to_outbox else "cautious")) != "none"


class Lane(Struct, frozen=True):
    """How many letters to lease for a provider, of tiers from ``low`` to below ``high``; what comes again counts as the lowest."""

    provider: str
    most: int
    low: int = 0
    high: int = TIERS_END


# One ordered look into each of the queue's indexes a campaign: an EXISTS may become a join that walks through everybody's queue.
DUE = """
SELECT campaign.id AS campaign_id, campaign.domain_id, CASE WHEN domain.signing THEN key.id END AS key_id,
    warmups.preset, COALESCE(warmups.restricted, false) AS restricted, COALESCE(warmups.version, 0) AS version
FROM campaigns AS campaign
JOIN domains AS domain ON domain.id = campaign.domain_id
LEFT JOIN dkim_keys AS key ON key.domain_id = domain.id AND key.state = 'active'
LEFT JOIN warmups ON warmups.domain_id = domain.id
WHERE campaign.status = 'sending' AND campaign.finished_at IS NULL AND domain.stopped_at IS NULL AND (
    (SELECT true FROM deliveries WHERE campaign_id = campaign.id AND state = 'queued' ORDER BY provider, rank LIMIT 1)
    OR (SELECT true FROM deliveries WHERE campaign_id = campaign.id AND state = 'deferred' AND due_at <= COALESCE($1, now()) LIMIT 1)
)
ORDER BY campaign.id
"""


async def due(db: Connection, *, now: datetime | None = None) -> list[Due]:
    """Return the campaigns that have something to send now, but for what the warm-up holds."""
    return [Due(**row) for row in await db.fetch(DUE, now)]


LANES = """
SELECT provider, letters FROM campaign_lanes WHERE campaign_id = $1 ORDER BY provider
"""


async def lanes(db: Connection, campaign_id: int) -> dict[str, int]:
    """Return the providers of a campaign, each with how many letters were made for it so far."""
    return {row["provider"]: row["letters"] for row in await db.fetch(LANES, campaign_id)}


WARMEST = """
SELECT lane.provider, min(first.rank) AS rank
FROM unnest($1::bigint[]) AS campaign (id) CROSS JOIN unnest($2::text[]) AS lane (provider)
CROSS JOIN LATERAL (
    SELECT rank FROM deliveries
    WHERE campaign_id = campaign.id AND provider = lane.provider AND state = 'queued' ORDER BY rank LIMIT 1
) AS first
GROUP BY lane.provider
"""


async def warmest(db: Connection, campaign_ids: Sequence[int], providers: Sequence[str]) -> dict[str, int]:
    """Return the tier of the warmest fresh letter that waits in these campaigns, by provider."""
    rows = await db.fetch(WARMEST, campaign_ids, providers)
    return {row["provider"]: row["rank"] >> TIER_BITS for row in rows}


async def all_lanes(db: Connection, campaign_id: int, limit: int) -> list[Lane]:
    """Return a share of ``limit`` for each lane, at least one letter, so many lanes as that makes."""
    found = await lanes(db, campaign_id)
    whole = sum(found.values())
    chosen: list[Lane] = []
    for provider, letters in sorted(found.items(), key=lambda lane: -lane[1]):
        most = min(max(limit * letters // max(whole, 1), 1), limit)
        limit, whole = limit - most, whole - letters
        if most:
            chosen.append(Lane(provider, most))
    return chosen
