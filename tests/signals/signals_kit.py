"""A campaign with letters, and hits on them."""

from datetime import UTC, datetime
from ipaddress import ip_address

from mailbase.campaigns.recount import recount
from mailbase.signals.hits import Hit
from mailbase.signals.verdicts import HUMAN, Judgement

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
MACHINE = Judgement("machine", "scanner")
LINKS = [
    "https://shop.example/one",
    "https://shop.example/two?a=1&b=2",
    "https://shop.example/three",
    "https://shop.example/{{ subscriber.attributes.city }}",
]


async def make_campaign(db, *, letters=3, links=LINKS, opens=True, state="sent"):
    """Store a campaign with one letter each to that many subscribers; return its id and the letters' ids."""
    domain_id = await db.fetchval(
        "INSERT INTO domains (name) VALUES ('shop.example') ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id"
    )
    campaign_id = await db.fetchval(
        "INSERT INTO campaigns (name, status, domain_id, from_email, subject, audience, track_opens) "
        "VALUES ('n', 'sending', $1, 'news@shop.example', 's', '{}', $2) RETURNING id",
        domain_id,
        opens,
    )
    await db.execute(
        "INSERT INTO campaign_links SELECT $1, n, url FROM unnest($2::text[]) WITH ORDINALITY AS link (url, n)",
        campaign_id,
        links,
    )
    rows = await db.fetch(
        "WITH person AS (INSERT INTO subscribers (email, email_key, domain, status, attributes) "
        "  SELECT key, key, 'reader.example', 'active', '{\"city\": \"Köln & Bonn\"}' "
        "  FROM (SELECT format('r%s-%s@reader.example', $1::bigint, n) AS key FROM generate_series(1, $2::int) AS n) AS keys RETURNING id) "
        "INSERT INTO deliveries (campaign_id, subscriber_id, domain_id, state) "
        "SELECT $1, id, $3, $4::delivery_state FROM person ORDER BY id RETURNING id",
        campaign_id,
        letters,
        domain_id,
        state,
    )
    return campaign_id, [row["id"] for row in rows]


def hit(delivery_id, link=0, *, at=0.0, judgement=HUMAN, address="192.0.2.7", user_agent=BROWSER):
    """Return a hit that arrived when the caller's clock showed ``at``."""
    return Hit(delivery_id, link, judgement, ip_address(address), user_agent, at)


async def counted(db, campaign_id):
    """Return the counters that are not zero."""
    rows = await db.fetch(
        "SELECT key, sum(n)::bigint AS n FROM counters WHERE campaign_id = $1 GROUP BY key HAVING sum(n) <> 0",
        campaign_id,
    )
    return {row["key"]: row["n"] for row in rows}


async def recounted(db, campaign_id):
    """Return the same from the rows, without what only the sending moves."""
    return {
        key: n for key, n in (await recount(db, campaign_id)).items() if not key.startswith(("delivery.", "provider."))
    }
