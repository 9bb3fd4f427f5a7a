"""Every counter of a campaign derived anew from the rows it counts: what the counters mean, in one statement.

What left with an erased person (bounces of the address, the timeline) cannot be counted again; the counters keep it.
"""

from mailbase.db import Connection

RECOUNT = """
WITH letter AS (
    SELECT state::text, bounce_class,
        CASE WHEN provider LIKE 'site:%' THEN 'other' ELSE provider END AS provider
    FROM deliveries WHERE campaign_id = $1
), signal AS (
    SELECT delivery_id, kind, link, verdict, extract(epoch FROM date_trunc('hour', at, 'UTC'))::bigint AS hour
    FROM signals WHERE campaign_id = $1
), number AS (
    SELECT 'delivery.' || state AS key, count(*) AS n FROM letter GROUP BY 1
    UNION ALL
    SELECT 'bounce.' || bounce_class, count(*) FROM letter WHERE state = 'bounced' AND bounce_class IS NOT NULL GROUP BY 1
    UNION ALL
    SELECT format('provider.%s.%s', provider, state), count(*) FROM letter WHERE state IN ('sent', 'bounced', 'deferred') GROUP BY 1
    UNION ALL
    SELECT kind || '.total', count(*) FROM signal GROUP BY 1
    UNION ALL
    SELECT kind || '.unique', count(DISTINCT delivery_id) FROM signal GROUP BY 1
    UNION ALL
    SELECT format('%s.%s', kind, verdict), count(DISTINCT delivery_id) FROM signal WHERE verdict <> 'unknown' GROUP BY 1
    UNION ALL
    SELECT format('link.%s.clicks', link), count(*) FROM signal WHERE kind = 'click' GROUP BY 1
    UNION ALL
    SELECT format('link.%s.unique', link), count(DISTINCT delivery_id) FROM signal WHERE kind = 'click' GROUP BY 1
    UNION ALL
    SELECT format('link.%s.human', link), count(DISTINCT delivery_id) FROM signal WHERE kind = 'click' AND verdict = 'human' GROUP BY 1
    UNION ALL
    SELECT format('hour.%s.%ss', hour, kind), count(*) FROM signal GROUP BY 1
    UNION ALL
    SELECT CASE kind WHEN 'complained' THEN 'complaints' ELSE 'unsubscribes' END, count(*)
    FROM subscriber_events WHERE campaign_id = $1 AND kind IN ('unsubscribed', 'complained') GROUP BY 1
)
SELECT key, n FROM number WHERE n <> 0
"""


async def recount(db: Connection, campaign_id: int) -> dict[str, int]:
    """Return every counter that is not zero, counted from rows. Reads them all: for tests and repairs."""
    return {row["key"]: row["n"] for row in await db.fetch(RECOUNT, campaign_id)}
