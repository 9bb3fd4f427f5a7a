"""Opens: a batch of pixels becomes rows and counters in one statement.

Most signals are opens, and an open is what it is: no other one can revise its verdict. So PostgreSQL does all of it at once, what
:mod:`tally` says of clicks included: a letter's first open of a sort makes it unique in that sort.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from mailbase.db import Connection


class Open(Struct):
    """One request for a pixel: the ``n``-th of its batch, ``age`` seconds ago.

    The verdict ``proxied`` is a person's, unless the letter had only just left: then it is a machine's, ``early``.
    """

    n: int
    delivery_id: int
    verdict: str
    reason: str | None
    ip: str | None
    user_agent: str
    age: float


class Stored(Struct):
    """What was stored: the numbers of the opens that have a letter, with its campaign and reader; and the transaction."""

    found: list[tuple[int, int, int | None]]
    xid: str | None


# JSON, because arrays are encoded element by element. People, letters and counters are sorted, and go in this order as they do
# for clicks (the count of the people makes PostgreSQL take them first): the order of rows is the order of locks. Of an erased
# person only the number is kept.
STORE = """
WITH hit AS MATERIALIZED (
    SELECT new.n, new.delivery_id, delivery.campaign_id, delivery.subscriber_id,
           CASE WHEN new.verdict <> 'proxied' THEN new.verdict WHEN soon.machine THEN 'machine' ELSE 'human' END AS verdict,
           CASE WHEN new.verdict = 'proxied' AND soon.machine THEN 'early' ELSE new.reason END AS reason,
           CASE WHEN delivery.subscriber_id IS NOT NULL THEN new.ip END AS ip,
           CASE WHEN delivery.subscriber_id IS NOT NULL THEN new.user_agent END AS user_agent,
           asked.now - new.age * interval '1 second' AS at
    FROM jsonb_to_recordset($1) AS new (n integer, delivery_id bigint, verdict text, reason text, ip inet, user_agent text, age float8)
    CROSS JOIN (SELECT coalesce($2, clock_timestamp()) AS now) AS asked
    JOIN deliveries AS delivery ON delivery.id = new.delivery_id
    JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id AND campaign.track_opens
    CROSS JOIN LATERAL (
        SELECT $4::interval > '0' AND (delivery.state = 'handing_over'
               OR asked.now - new.age * interval '1 second' < delivery.sent_at + $4) AS machine
    ) AS soon
), signal AS (
    INSERT INTO signals (delivery_id, campaign_id, subscriber_id, kind, verdict, reason, ip, user_agent, at)
    SELECT delivery_id, campaign_id, subscriber_id, 'open', verdict, reason, ip, user_agent, at FROM hit
), engaged AS (
    INSERT INTO engaged AS reader (subscriber_id, at)
    SELECT subscriber_id, max(at) FROM hit
    WHERE verdict = 'human' AND subscriber_id IS NOT NULL GROUP BY subscriber_id ORDER BY subscriber_id
    ON CONFLICT (subscriber_id) DO UPDATE SET at = excluded.at WHERE reader.at IS NULL OR reader.at < excluded.at
    RETURNING 1
), gain AS MATERIALIZED (
    SELECT delivery_id, campaign_id, count(*)::integer AS total, (count(*) FILTER (WHERE verdict = 'human'))::integer AS human,
           (count(*) FILTER (WHERE verdict = 'machine'))::integer AS machine
    FROM hit GROUP BY delivery_id, campaign_id
), engagement AS (
    INSERT INTO engagements AS engagement (delivery_id, what, total, human, machine)
    SELECT delivery_id, 0, total, human, machine FROM gain WHERE (SELECT count(*) FROM engaged) >= 0 ORDER BY delivery_id
    ON CONFLICT (delivery_id, what) DO UPDATE SET
        total = engagement.total + excluded.total,
        human = engagement.human + excluded.human,
        machine = engagement.machine + excluded.machine
    RETURNING delivery_id, total, human, machine
), moved AS MATERIALIZED (
    SELECT gain.campaign_id, sum(gain.total)::bigint AS total,
           count(*) FILTER (WHERE gain.total = engagement.total) AS letters,
           count(*) FILTER (WHERE gain.human > 0 AND gain.human = engagement.human) AS human,
           count(*) FILTER (WHERE gain.machine > 0 AND gain.machine = engagement.machine) AS machine
    FROM gain JOIN engagement USING (delivery_id) GROUP BY gain.campaign_id
), counted AS (
    INSERT INTO counters (campaign_id, key, slot, n)
    SELECT campaign_id, key, $3, n FROM (
        SELECT campaign_id, 'open.total' AS key, total AS n FROM moved
        UNION ALL SELECT campaign_id, 'open.unique', letters FROM moved
        UNION ALL SELECT campaign_id, 'open.human', human FROM moved
        UNION ALL SELECT campaign_id, 'open.machine', machine FROM moved
        UNION ALL
        SELECT campaign_id, format('hour.%s.opens', extract(epoch FROM hour)::bigint), n
        FROM (SELECT campaign_id, date_trunc('hour', at, 'UTC') AS hour, count(*) AS n FROM hit GROUP BY 1, 2) AS hourly
    ) AS change
    WHERE n <> 0 ORDER BY campaign_id, key COLLATE "C"
    ON CONFLICT (campaign_id, key, slot) DO UPDATE SET n = counters.n + excluded.n
)
SELECT array_agg(n), array_agg(campaign_id), array_agg(subscriber_id), CASE WHEN count(*) > 0 THEN pg_current_xact_id()::text END AS xid
FROM hit
"""


async def store(db: Connection, opens: list[Open], *, slot: int, early: timedelta, now: datetime | None) -> Stored:
    """Record a batch inside the caller's transaction; ages count from ``now``, which is PostgreSQL's time unless given."""
    row = await db.fetchrow(STORE, opens, now, slot, early)
    if row is None or row["xid"] is None:
        return Stored([], None)
    numbers, campaigns, subscribers, xid = row
    return Stored(list(zip(numbers, campaigns, subscribers, strict=True)), xid)
