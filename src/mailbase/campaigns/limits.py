"""Which providers hold a campaign's letters back, read from the letters that wait and from what is in force against a provider.

========  ====================================================================================================
closed    nothing leaves: a rule or the owner suspended it, or it turned us away and the next try is still to come
narrow    letters leave, but fewer at a time than there are: its connections or its pace are used up
========  ====================================================================================================

Only a refusal that is about us is the provider's: it costs a letter no attempt. A letter refused for itself waits for its own next
try, and holds nobody else.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from mailbase.db import Connection

MOST: Final = 100
"""So many of a campaign's lanes are looked into, the largest first."""
NAMED: Final = 10


class Lane(Struct, frozen=True):
    """A provider a campaign has letters for, those that wait."""

    provider: str
    due: bool
    """Some of them may be tried now, as far as they themselves go."""
    suspended: bool
    lowered: bool
    """Something less than a suspension is in force against it."""
    refusing: bool
    """It turned letters away that are to come again."""
    crowded: bool
    """It had no room for letters that are to come again."""
    words: str | None
    """Why, in its own words or in the owner's."""

    @property
    def closed(self) -> bool:
        """Whether nothing leaves for it."""
        return self.suspended or (self.refusing and not self.lowered)

    @property
    def narrow(self) -> bool:
        """Whether it keeps letters waiting, one way or another."""
        return self.closed or self.refusing or self.crowded


# A few ordered looks into the queue's indexes a provider. Of those that come again the first ones tell: a provider's trouble is short.
LANES = """
SELECT lane.provider, COALESCE(fresh.there OR again.there, false) AS due,
    held.suspended, held.lowered, COALESCE(later.refusing, false) AS refusing, COALESCE(later.crowded, false) AS crowded,
    CASE WHEN held.suspended THEN held.reason ELSE later.words END AS words
FROM (SELECT provider, letters FROM campaign_lanes WHERE campaign_id = $1 ORDER BY letters DESC, provider LIMIT $3) AS lane
LEFT JOIN LATERAL (
    SELECT true AS there FROM deliveries WHERE campaign_id = $1 AND provider = lane.provider AND state = 'queued' ORDER BY rank LIMIT 1
) AS fresh ON true
LEFT JOIN LATERAL (
    SELECT true AS there FROM deliveries WHERE campaign_id = $1 AND provider = lane.provider AND state = 'deferred' AND due_at <= now()
    ORDER BY due_at LIMIT 1
) AS again ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS n, bool_or(attempts = 0 AND refused_since IS NOT NULL) AS refusing,
        bool_or(attempts = 0 AND refused_since IS NULL AND last_reply IS NOT NULL AND due_at < now() + interval '2 minutes') AS crowded,
        (array_agg(last_reply ORDER BY refused_since IS NULL, due_at) FILTER (WHERE attempts = 0))[1] AS words
    FROM (
        SELECT attempts, refused_since, last_reply, due_at FROM deliveries
        WHERE campaign_id = $1 AND provider = lane.provider AND state = 'deferred' AND due_at > now() ORDER BY due_at LIMIT 20
    ) AS first
) AS later
CROSS JOIN LATERAL (
    SELECT COALESCE(bool_or(suspend), false) AS suspended, COALESCE(bool_or(NOT suspend), false) AS lowered,
        (array_agg(reason ORDER BY expires_at DESC) FILTER (WHERE suspend))[1] AS reason
    FROM provider_overrides WHERE provider = lane.provider AND egress = ANY ($2::text[]) AND expires_at > now()
) AS held
WHERE fresh.there OR again.there OR later.n > 0
ORDER BY lane.letters DESC, lane.provider
"""


async def lanes(db: Connection, campaign_id: int, egresses: Sequence[str]) -> list[Lane]:
    """Return the largest of a campaign's lanes in which letters wait, over any of these ways out."""
    return [Lane(**row) for row in await db.fetch(LANES, campaign_id, ["*", *egresses], MOST)]


# For the many small ones that were not looked into.
ELSEWHERE = """
SELECT EXISTS (
    SELECT FROM (SELECT provider FROM campaign_lanes WHERE campaign_id = $1 ORDER BY letters DESC, provider OFFSET $2) AS lane
    WHERE COALESCE(
        (SELECT true FROM deliveries WHERE campaign_id = $1 AND provider = lane.provider AND state = 'queued' ORDER BY rank LIMIT 1),
        (SELECT true FROM deliveries WHERE campaign_id = $1 AND provider = lane.provider AND state = 'deferred' AND due_at <= now()
         ORDER BY due_at LIMIT 1)
    )
)
"""


async def anything_moves(db: Connection, campaign_id: int, found: Sequence[Lane]) -> bool:
    """Return whether letters may leave for any provider just now, as far as the providers go."""
    if any(lane.due and not lane.closed for lane in found):
        return True
    small: bool = await db.fetchval(ELSEWHERE, campaign_id, MOST)
    return small
