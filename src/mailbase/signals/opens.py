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


Found = list[tuple[int, int, int | None]]
"""The numbers of the opens that have a letter, with its campaign and reader."""


# JSON, because arrays are encoded element by element. People, letters and counters are sorted, and go in this order as they do
# for clicks (the count of the people makes PostgreSQL take them first): the order of rows is the order of locks. Of an erased
# person only the number is kept. One of a batch's signals bears its mark, which is unique: a batch is stored once, however often
# it is sent.
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
        SELECT $4::interval > '0' AND (delivery.state IN ('queued', 'deferred')
               OR asked.now - new.age * interval '1 second' < delivery.sent_at + $4) AS machine
    ) AS soon
), signal AS (
    INSERT INTO signals (delivery_id, campaign_id, subscriber_id, kind, verdict, reason, ip, user_agent, at, batch)
    SELECT delivery_id, campaign_id, subscriber_id, 'open', verdict, reason, ip, user_agent, at,
           CASE WHEN n = (SELECT min(n) FROM hit) THEN $5::bigint END FROM hit
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
SELECT array_agg(n), array_agg(campaign_id), array_agg(subscriber_id) FROM hit
"""


async def store(
    db: Connection, opens: list[Open], *, slot: int, early: timedelta, now: datetime | None, mark: int | None = None
) -> Found:
    """Record a batch in one statement; ages count from ``now``, which is PostgreSQL's time unless given.

    Raises:
        asyncpg.UniqueViolationError: a batch of this ``mark`` is stored already.

    """
    numbers, campaigns, subscribers = await db.fetchrow(STORE, opens, now, slot, early, mark) or ((), (), ())
    return list(zip(numbers or (), campaigns or (), subscribers or (), strict=True))


FIND = """
SELECT new.n - 1 AS n, delivery.campaign_id, delivery.subscriber_id
FROM unnest($1::bigint[]) WITH ORDINALITY AS new (delivery_id, n)
JOIN deliveries AS delivery ON delivery.id = new.delivery_id
JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id AND campaign.track_opens
"""


async def find(db: Connection, delivery_ids: list[int]) -> Found:
    """Return what a batch that is stored already, but whose answer was lost, has found."""
    return [(n, campaign, subscriber) for n, campaign, subscriber in await db.fetch(FIND, delivery_ids)]
