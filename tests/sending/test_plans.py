"""What the hot statements read: a few rows by an index each, however many letters lie behind them.

One database with some hundred thousand rows in every state a table holds after months; each statement is explained there twice, for
its arguments and for any (PostgreSQL may choose either), with the planner's own settings.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from conftest import with_database
from mailbase import db as database
from mailbase import servers
from mailbase.audience import selection
from mailbase.campaigns import fan_out, lifecycle, limits, progress, statistics
from mailbase.campaigns import plan as letters_plan
from mailbase.sending.deliveries import counters, deliveries, leases, marks, records, refusals, settle, soft_bounces
from mailbase.sending.dispatch import messages
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import tally as warmup_tally
from mailbase.sending.warmup import turns, waiting
from mailbase.sending.warmup.rules import TIER_BITS
from mailbase.signals import clicks, feedback, opens, resolve

PEOPLE = 20_000
PAST = 12
LARGE = {
    "deliveries", "subscribers", "suppressions", "messages", "signals", "engagements", "engaged", "bounces", "allowances",
    "recipient_domains",
}  # fmt: skip
NOW = datetime.now(UTC)
TENTH = datetime(2026, 1, 10, 12, tzinfo=UTC)
LEASE = timedelta(seconds=15)

FILL = [
    """
    INSERT INTO domains (name, status) SELECT format('news%s.example', n), 'verified' FROM generate_series(1, 3) AS n
    """,
    """
    INSERT INTO warmups (domain_id, preset) SELECT id, CASE WHEN id = 1 THEN 'none' ELSE 'standard' END FROM domains
    """,
    """
    INSERT INTO warmup_keys (domain_id, egress, provider) SELECT domains.id, 'relay', provider
    FROM domains, unnest('{*,google,microsoft,yahoo,gmx,other}'::text[]) AS provider
    """,
    """
    INSERT INTO allowances (domain_id, egress, provider, bucket, taken)
    SELECT domains.id, 'relay', provider, date_bin('10 minutes', now() - n * interval '10 minutes', '2000-01-01 00:00:00+00'), 10
    FROM domains, unnest('{*,google,microsoft,yahoo,gmx,other}'::text[]) AS provider, generate_series(0, 40 * 144 - 1) AS n
    """,
    """
    INSERT INTO recipient_domains (domain, provider, looked_up_at, due_at)
    SELECT format('d%s.example', n), (ARRAY['google', 'microsoft', 'yahoo', 'gmx', 'other'])[1 + n % 5], now(), now() + n * interval '1 minute'
    FROM generate_series(0, 1999) AS n
    """,
    """
    INSERT INTO subscribers (email, email_key, domain, status, attributes, created_at)
    SELECT address, address, domain, CASE WHEN i % 20 = 0 THEN 'unsubscribed' ELSE 'active' END, '{"name": "Ann"}', now() - interval '1 year'
    FROM (SELECT i, format('p%s@d%s.example', i, i % 2000) AS address, format('d%s.example', i % 2000) AS domain
          FROM generate_series(1, $PEOPLE) AS i) AS people
    """,
    """
    INSERT INTO engaged (subscriber_id, at) SELECT id, now() - id % 90 * interval '1 day' FROM subscribers WHERE id % 3 = 0
    """,
    """
    INSERT INTO suppressions (kind, value, reason) SELECT 'email', format('s%s@d%s.example', i, i % 2000), 'hard_bounce' FROM generate_series(1, 10000) AS i
    """,
    # The past, then four that are going on: fresh, refused for now, one being fanned out, one cancelled.
    """
    INSERT INTO campaigns (name, status, domain_id, from_email, subject, audience, compiled, audience_upper_id, audience_at, started_at, fanned_out, finished_at, send_until)
    SELECT 'n', CASE WHEN n <= $PAST THEN 'sent' WHEN n = $PAST + 4 THEN 'cancelled' ELSE 'sending' END, 1 + n % 3, 'a@news1.example', 's', '{"all": true}', '\\x00',
        $PEOPLE, now(), now() - ($PAST - n) * interval '1 day', n <> $PAST + 3, CASE WHEN n <= $PAST THEN now() END,
        CASE WHEN n = $PAST + 2 THEN now() + interval '1 day' END
    FROM generate_series(1, $PAST + 4) AS n
    """,
    """
    INSERT INTO campaign_links (campaign_id, n, url) SELECT campaigns.id, n, 'https://shop.example/' FROM campaigns, generate_series(1, 18) AS n
    """,
    """
    INSERT INTO deliveries (campaign_id, subscriber_id, domain_id, provider, state, rank, sent_at, created_at, attempts, fence, egress)
    SELECT campaigns.id, i, campaigns.domain_id, (ARRAY['google', 'microsoft', 'yahoo', 'gmx', 'other'])[1 + i % 5],
        (CASE WHEN i % 100 = 0 THEN 'bounced' WHEN i % 101 = 0 THEN 'failed' WHEN i % 103 = 0 THEN 'skipped' WHEN i % 1009 = 0 THEN 'unknown' ELSE 'sent' END)::delivery_state,
        (i % 7) << 27, now() - interval '1 day', now() - interval '1 day', 1, i / 40, 'relay'
    FROM campaigns, generate_series(1, $PEOPLE) AS i WHERE campaigns.id <= $PAST
    """,
    """
    INSERT INTO deliveries (campaign_id, subscriber_id, domain_id, provider, state, rank, due_at)
    SELECT campaigns.id, i, campaigns.domain_id, (ARRAY['google', 'microsoft', 'yahoo', 'gmx', 'other'])[1 + i % 5],
        (CASE WHEN i <= 6000 THEN 'sent' WHEN i > 6600 AND i % 10 = 0 THEN 'deferred' ELSE 'queued' END)::delivery_state,
        (i % 7) << 27, now() + (i % 1000 - 500) * interval '1 minute'
    FROM campaigns, generate_series(1, $PEOPLE) AS i WHERE campaigns.id > $PAST AND (campaigns.id <> $PAST + 3 OR i < 10000)
    """,
    """
    INSERT INTO claims (fence, campaign_id, ids, marked, until)
    SELECT 100000 + campaign_id, campaign_id, array_agg(deliveries.id ORDER BY deliveries.id), 64, now() + interval '15 seconds'
    FROM deliveries WHERE campaign_id > $PAST AND subscriber_id BETWEEN 6001 AND 6600 GROUP BY campaign_id
    """,
    """
    INSERT INTO campaign_lanes (campaign_id, provider, letters) SELECT campaign_id, provider, count(*) FROM deliveries WHERE campaign_id > $PAST GROUP BY 1, 2
    """,
    """
    INSERT INTO messages (kind, domain_id, from_email, email, email_key, subject, text, subscriber_id)
    SELECT 'transactional', 1, 'a@news1.example', format('p%s@d%s.example', i, i % 2000), format('p%s@d%s.example', i, i % 2000), 's', 't', i
    FROM generate_series(1, $PEOPLE) AS i
    """,
    """
    INSERT INTO deliveries (message_id, subscriber_id, domain_id, state, sent_at, due_at, created_at)
    SELECT id, subscriber_id, 1, (CASE WHEN id <= $PEOPLE - 50 THEN 'sent' WHEN id % 10 = 0 THEN 'deferred' ELSE 'queued' END)::delivery_state, now(), now(), now()
    FROM messages
    """,
    """
    INSERT INTO signals (delivery_id, campaign_id, subscriber_id, kind, link, verdict, ip, at)
    SELECT id, campaign_id, subscriber_id, CASE WHEN id % 5 = 0 THEN 'click' ELSE 'open' END, CASE WHEN id % 5 = 0 THEN 1 + id % 18 END, 'human',
        '10.0.0.0'::inet + id % 50000, now() - id % 1000 * interval '1 minute'
    FROM deliveries WHERE campaign_id <= $PAST AND id % 3 = 0
    """,
    """
    INSERT INTO engagements (delivery_id, what, total, human, machine) SELECT delivery_id, 0, 1, 1, 0 FROM signals
    """,
    """
    INSERT INTO bounces (delivery_id, campaign_id, subscriber_id, email, class, reason)
    SELECT id, campaign_id, subscriber_id, 'p@d.example', CASE WHEN id % 2 = 0 THEN 'soft' ELSE 'hard' END, 'r' FROM deliveries WHERE state = 'bounced'
    """,
    """
    INSERT INTO counters (campaign_id, key, slot, n)
    SELECT campaigns.id, format('hour.%s.opens', hour), slot, 1 FROM campaigns, generate_series(1, 340) AS hour, generate_series(0, 3) AS slot
    """,
    "VACUUM ANALYZE",
]  # fmt: skip


@pytest.fixture(scope="module")
def full(postgres_server: servers.Server, template_database: str) -> Iterator[str]:
    """A database that has been in use for long."""
    name = f"plans_{os.getpid()}"

    async def make() -> None:
        admin = await database.connect(postgres_server.url)
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template_database}" STRATEGY FILE_COPY')
        await admin.close()
        db = await database.connect(with_database(postgres_server.url, name))
        for statement in FILL:
            await db.execute(statement.replace("$PEOPLE", str(PEOPLE)).replace("$PAST", str(PAST)))
        await db.close()

    async def drop() -> None:
        admin = await database.connect(postgres_server.url)
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()

    asyncio.run(make())
    yield with_database(postgres_server.url, name)
    asyncio.run(drop())


BATCH = list(range(PAST * PEOPLE + 6001, PAST * PEOPLE + 6065))
"""Letters of the campaign that is going on."""
CURRENT = PAST + 1
FENCE = 100_000 + CURRENT
EVERYBODY = (True, None, None, False, None, None, NOW)
LANES = (["google", "other"], [50, 50], [0, 0], [15 << TIER_BITS] * 2, None, None, None)
KEY = {"deliveries_pkey"}
PERSONAL = KEY | {"deliveries_campaign_id_subscriber_id_key"}
"""And of those who asked for fewer letters, what they had."""
QUEUE = {"deliveries_queue", "deliveries_again"}

CASES = {
    "due": (waiting.DUE, [None], QUEUE),
    "warmest": (waiting.WARMEST, [[CURRENT, CURRENT + 1], ["google", "other"]], {"deliveries_queue"}),
    "lease": (leases.LEASE_CAMPAIGN, [CURRENT, *LANES], QUEUE),
    "lease of messages": (leases.LEASE_MESSAGES, [64, None, ["google"]], {"deliveries_due_messages"}),
    "expire": (leases.EXPIRE, [None, 20, 2 * LEASE], KEY),
    "mark": (marks.MARK_ALL, [BATCH, ["p@d.example"] * 64, CURRENT, None, FENCE, "none"], KEY | {"deliveries_subscriber"}),
    "look": (marks.FINE, [BATCH, ["p@d.example"] * 64, CURRENT, None], PERSONAL),
    "judge": (marks.JUDGE_CAMPAIGN, [BATCH, CURRENT, None], PERSONAL),
    "postpone": (marks.POSTPONE, [BATCH[0], None], KEY),
    "skip by name": (marks.SKIP, [BATCH, ["expired"] * 64], KEY),
    "look at messages": (marks.FINE_MESSAGES, [BATCH, [""] * 64], KEY),
    "judge messages": (marks.JUDGE_MESSAGES, [BATCH], KEY),
    "record sent": (records.RECORD_SENT, [BATCH, [FENCE] * 64, ["ok"] * 64, None, [1] * 64, "relay"], KEY),
    "record": (
        records.RECORD,
        [BATCH, [FENCE] * 64, ["deferred"] * 64, *[[None] * 64] * 3, [1.0] * 64, [1] * 64, None, [True] * 64, "relay", False],
        KEY,
    ),
    "cannot be recorded": (records.DOUBT, [BATCH[0], FENCE], KEY),
    "campaigns of the doubted": (settle.OPEN, [[FENCE]], {"deliveries_doubted"}),
    "doubted": (settle.DOUBTED, [[FENCE]], {"deliveries_doubted"}),
    "taken after all": (settle.LATE_ONES, [BATCH, [FENCE] * 64], KEY),
    "late": (records.LATE, [BATCH, [FENCE] * 64], KEY),
    "refused since": (refusals.SINCE, [BATCH, None], KEY),
    "soft bounces": (soft_bounces.COUNT, [17, 200_000], KEY | {"deliveries_subscriber"}),
    "start": (fan_out.START_DUE, [None], set()),
    "fanning": (fan_out.FANNING, [], set()),
    "slice of people": (selection.SLICE, [*EVERYBODY, 5000, PEOPLE, 1000], {"deliveries_subscriber"}),
    "slice": (
        deliveries.CREATE_SLICE,
        [CURRENT + 2, 2, list(range(10_001, 11_001)), None, 30, 30, 90, 180],
        {"deliveries_subscriber"},
    ),
    "overdue": (fan_out.OVERDUE, [None], QUEUE),
    "clearing": (fan_out.CLEARING, [], QUEUE),
    "skip": (deliveries.SKIP_WAITING, [CURRENT + 3, "cancelled", 1000, None], QUEUE | KEY),
    "finishing": (fan_out.FINISHING, [], QUEUE),
    "finish": (lifecycle.FINISH, [[CURRENT]], QUEUE),
    "count": (counters.ADD, [[CURRENT], ["delivery.sent"], [64], 3], set()),
    "statistics": (statistics.READ, [CURRENT], set()),
    "progress": (progress.COUNT, [CURRENT], set()),
    "progress by provider": (limits.LANES, [CURRENT, ["*", "relay"], 100], QUEUE),
    "what moves": (limits.ELSEWHERE, [CURRENT, 100], QUEUE),
    "last try": (progress.LAST_TRY, [CURRENT], {"deliveries_again"}),
    "taken by provider": (letters_plan.TAKEN_THERE, [2, ["google", "yahoo"], timedelta(hours=24)], set()),
    "message": (messages.GET, [100], {"deliveries_message"}),
    "room": (warmup_take.KEYS, [2, "relay", ["*", "google", "other"], None], set()),
    "take": (warmup_take.COUNT, [2, "relay", None, ["*", "google"], [9, 9], [0, 0], None], set()),
    "turns": (turns.LOOK, [CURRENT, ["google", "other"], None], QUEUE),
    "turn taken": (turns.MOVE, [[CURRENT], ["google"], [1], [0]], set()),
    "give back": (warmup_take.GIVE_BACK, [2, "relay", "google", TENTH, 1, 0], set()),
    "told later": (warmup_tally.LATER, [BATCH[0], None, ["complained"]], KEY),
    "letter of a report": (feedback.LETTER, [BATCH[0]], KEY),
    "newest letter": (
        feedback.NEWEST,
        ["p7@d7.example", NOW, timedelta(hours=1), ["sent", "unknown"]],
        {"deliveries_subscriber", "deliveries_message"},
    ),
    "letter of an address": (resolve.OF_CAMPAIGN, [CURRENT, "p7@d7.example"], {"deliveries_campaign_id_subscriber_id_key"}),
    "opens": (
        opens.STORE,
        [[{"n": 0, "delivery_id": 9, "verdict": "human", "reason": None, "ip": None, "user_agent": "", "age": 0.1}], None, 3, timedelta(0), 7],
        KEY,
    ),
    "clicks": (clicks.LOCATE, [BATCH, [1] * 64, None], KEY),
    "clicks around a letter": (clicks.AROUND_LETTERS, [[9], [NOW], [NOW], timedelta(hours=1), 100], set()),
    "clicks around an address": (clicks.AROUND_ADDRESSES, [["10.0.0.9"], [NOW], [NOW], timedelta(hours=1), 100], set()),
}  # fmt: skip


IN_ANY_ORDER = {"allowances_pkey"}
"""What may be read by a bitmap: some hundred buckets of one provider."""


def nodes(plan, above=""):
    """Return every node of a plan; each knows what stands above it."""
    below = [node for child in plan.get("Plans", ()) for node in nodes(child, plan["Node Type"])]
    return [plan | {"Above": above}, *below]


def narrow(node):
    """Whether a node reads little of its index: what a condition or a limit bounds."""
    return "Index Cond" in node or (node["Above"] == "Limit" and "Filter" not in node)


async def explained(db, statement, arguments):
    """Return the nodes of the plan for these arguments, and of the plan for any."""
    for_these = await db.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)
    await db.execute(f"PREPARE any_arguments AS {statement}")
    nulls = f"({', '.join(['NULL'] * len(arguments))})" if arguments else ""
    await db.execute("SET plan_cache_mode = force_generic_plan")
    for_any = await db.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE any_arguments{nulls}")
    return [nodes(json.loads(plan)[0]["Plan"]) for plan in (for_these, for_any)]


@pytest.mark.parametrize("name", CASES)
async def test_a_hot_statement_walks_through_no_table(full, name):
    """It finds what it needs by indexes, and letters by those of the queue, of a person, or by their id."""
    statement, arguments, indexes = CASES[name]
    db = await database.connect(full)
    try:
        for plan in await explained(db, statement, arguments):
            reads = [node for node in plan if node.get("Relation Name") in LARGE and "Scan" in node["Node Type"]]
            bitmaps = {node["Index Name"] for node in plan if node["Node Type"] == "Bitmap Index Scan"}
            if bitmaps <= IN_ANY_ORDER:
                reads = [node for node in reads if node["Node Type"] != "Bitmap Heap Scan"]
            letters = {node["Index Name"] for node in plan if node.get("Index Name", "").startswith("deliveries_")}
            shown = [(node["Node Type"], node["Relation Name"], node.get("Index Name")) for node in reads]
            assert {node["Node Type"] for node in reads} <= {"Index Scan", "Index Only Scan"}, shown
            assert letters == indexes, shown
            assert all(narrow(node) for node in reads), shown
    finally:
        await db.close()
