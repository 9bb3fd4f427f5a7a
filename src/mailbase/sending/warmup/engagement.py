"""Whether people still open and click: a key's letters of last week against those before, tier by tier.

Tier by tier, because the most engaged are written to first: the rate over all of them falls by itself. A sample of each of the
last campaigns is enough, and letters count from a day after they went out.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

from mailbase.db import Connection
from mailbase.sending.warmup.rules import TIER_BITS, TOTAL, Signal

CAMPAIGNS: Final = 6
LETTERS: Final = 2000
LEAST: Final = 50
"""Letters of a tier before that make a baseline."""


class Group(NamedTuple):
    """Letters of one provider and tier, of last week or before, and how many of them a person opened or clicked."""

    provider: str
    tier: int
    recent: bool
    letters: int
    engaged: int


# Of a campaign that began today every letter would be read, to find none old enough.
SAMPLE = """
SELECT letter.provider, letter.rank >> $6 AS tier, letter.recent, count(*) AS letters, count(*) FILTER (WHERE letter.human) AS engaged
FROM (
    SELECT id FROM campaigns WHERE domain_id = $1 AND track_opens AND started_at < $2::timestamptz - interval '1 day' ORDER BY id DESC LIMIT $4
) AS campaign
CROSS JOIN LATERAL (
    SELECT provider, rank, sent_at > $2::timestamptz - make_interval(hours => 24 + $3) AS recent,
        EXISTS (SELECT FROM engagements WHERE engagements.delivery_id = deliveries.id AND human > 0) AS human
    FROM deliveries
    WHERE campaign_id = campaign.id AND state = 'sent' AND sent_at < $2::timestamptz - interval '1 day'
    LIMIT $5
) AS letter
GROUP BY 1, 2, 3
"""


async def fallen(db: Connection, domain_id: int, signal: Signal, now: datetime) -> dict[str, float]:
    """Return by which share engagement fell, by provider and in total; only where there are letters enough to say."""
    rows = await db.fetch(SAMPLE, domain_id, now, signal.window_hours, CAMPAIGNS, LETTERS, TIER_BITS)
    return compared([Group(**row) for row in rows], signal.sample)


def compared(groups: Iterable[Group], sample: int) -> dict[str, float]:
    """Compare last week's letters with what their tiers did before."""
    found = list(groups)
    fell = {}
    for provider in sorted({group.provider for group in found} | {TOTAL}):
        mine = [group for group in found if provider in {TOTAL, group.provider}]
        before: dict[int, tuple[int, int]] = {}
        for group in mine:
            if not group.recent:
                letters, engaged = before.get(group.tier, (0, 0))
                before[group.tier] = (letters + group.letters, engaged + group.engaged)
        judged = [group for group in mine if group.recent and before.get(group.tier, (0, 0))[0] >= LEAST]
        expected = sum(group.letters * before[group.tier][1] / before[group.tier][0] for group in judged)
        if sum(group.letters for group in judged) >= sample and expected > 0:
            fell[provider] = 1 - sum(group.engaged for group in judged) / expected
    return fell
