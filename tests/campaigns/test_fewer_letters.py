"""Who asked for fewer letters gets fewer, and who paused gets none: at the fan-out, in the forecast, and at the mark."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mailbase.audience import selection
from mailbase.audience.selection import Rule
from mailbase.campaigns import fan_out, forecast, launch
from mailbase.errors import Invalid
from mailbase.sending.deliveries import counters, deliveries, marks
from mailbase.sending.deliveries.marks import Pair

NOW = datetime(2026, 6, 1, 9, tzinfo=UTC)
EVERYBODY = Rule(all=True)
LEAST = {"all": timedelta(0), "weekly": timedelta(days=6, hours=12), "monthly": timedelta(days=27)}


async def prefer(db, who, frequency, paused_until=None):
    """Set what a person asked for."""
    await db.execute(
        "UPDATE subscribers SET frequency = $2, paused_until = $3 WHERE id = $1", who, frequency, paused_until
    )


async def had(db, campaign, who, *, state="sent", at=None):
    """Give a person a letter of an earlier campaign."""
    await db.execute(
        "UPDATE campaigns SET status = 'sending', fanned_out = true WHERE id = $1 AND status = 'draft'", campaign.id
    )
    await db.execute(
        "INSERT INTO deliveries (campaign_id, subscriber_id, domain_id, state, sent_at) SELECT $1, $2, domain_id, $3::text::delivery_state, $4 FROM campaigns WHERE id = $1",
        campaign.id,
        who,
        state,
        at,
    )


async def chosen(db, at=None):
    """Return whom a campaign to everybody would be for, after holding the count against it."""
    at = at or await db.fetchval("SELECT now()")
    ids = await selection.slice_of(db, EVERYBODY, at=at, after=0, upper=2**62, limit=1000)
    assert await selection.count(db, EVERYBODY, at=at) == len(ids)
    return ids


async def run(pool):
    """Fan out to the end."""
    for _ in range(100):
        if not await fan_out.step(pool, size=7):
            return
    raise AssertionError("the fan-out does not come to rest")


@pytest.mark.parametrize(("frequency", "days"), [("weekly", 6.5), ("monthly", 27)])
async def test_the_window_is_a_little_shorter_than_its_name(db, people, written, frequency, days):
    """A newsletter that goes out at about the same hour each week reaches those on weekly each week; within it, it does not."""
    (who,) = await people(1)
    await prefer(db, who, frequency)
    earlier = await written()
    await had(db, earlier, who, at=NOW - timedelta(days=days) + timedelta(minutes=1))
    await db.execute("UPDATE subscribers SET created_at = $1", NOW - timedelta(days=90))
    assert await chosen(db, NOW) == []
    assert await chosen(db, NOW + timedelta(minutes=2)) == [who]


LETTERS = [
    ("sent", "sent", True),
    ("unknown", "sent", True),
    ("bounced", "sent", False),
    ("failed", "sent", False),
    ("skipped", "sent", False),
    ("queued", "sending", True),
    ("deferred", "sending", True),
    ("queued", "paused", False),
    ("queued", "cancelled", False),
]


async def test_what_counts_as_a_letter(db, people, written):
    """One that arrived or may have, or is on its way; not one that failed, was skipped, or whose campaign stands still."""
    at = await db.fetchval("SELECT now()")
    crowd = await people(len(LETTERS))
    holds = []
    for who, (state, status, held) in zip(crowd, LETTERS, strict=True):
        await prefer(db, who, "weekly")
        earlier = await written()
        await db.execute(
            "UPDATE campaigns SET status = $2, paused_from = CASE WHEN $2 = 'paused' THEN 'sending' END WHERE id = $1",
            earlier.id,
            status,
        )
        await had(db, earlier, who, state=state, at=at if state in {"sent", "bounced"} else None)
        holds += [who] * held
    assert await chosen(db) == [who for who in crowd if who not in holds]


async def test_transactional_letters_hold_nobody_back(db, people):
    """A receipt is not a newsletter."""
    (who,) = await people(1)
    await prefer(db, who, "weekly")
    message = await db.fetchval(
        "INSERT INTO messages (kind, from_email, email, email_key, subject) VALUES ('transactional', 'a@b.example', 'x', 'x', 's') RETURNING id"
    )
    await db.execute(
        "INSERT INTO deliveries (message_id, subscriber_id, state, sent_at) VALUES ($1, $2, 'sent', now())",
        message,
        who,
    )
    assert await chosen(db) == [who]


async def test_forecast_expectation_and_deliveries_agree(pool, db, settings, people, written):
    """Who is held back is in none of them; nobody left to write to is an empty audience."""
    ids = await people(30)
    earlier = await written()
    for who in ids[:10]:
        await prefer(db, who, "weekly" if who % 2 else "monthly")
        await had(db, earlier, who, at=await db.fetchval("SELECT now()"))
    for who in ids[10:15]:
        await prefer(db, who, "all", await db.fetchval("SELECT now() + interval '2 weeks'"))
    draft = await written()
    assert (await forecast.forecast(db, draft.id, to_outbox=True)).recipients == 15
    campaign = await launch.send(db, draft.id, at=None, settings=settings)
    await run(pool)
    rows = await db.fetch("SELECT subscriber_id FROM deliveries WHERE campaign_id = $1 ORDER BY 1", campaign.id)
    assert [row["subscriber_id"] for row in rows] == ids[15:]
    assert await db.fetchval("SELECT expected FROM campaigns WHERE id = $1", campaign.id) == 15
    await db.execute("UPDATE subscribers SET paused_until = now() + interval '1 day'")
    with pytest.raises(Invalid) as refused:
        await launch.send(db, (await written()).id, at=None, settings=settings)
    assert refused.value.code == "empty_audience"


async def test_campaigns_fanned_out_at_once_give_a_choosy_reader_one(pool, db, settings, people, written):
    """Eight workers, four campaigns, everybody on weekly: one letter each, whoever comes first."""
    await people(40)
    await db.execute("UPDATE subscribers SET frequency = 'weekly'")
    for _ in range(4):
        await launch.send(db, (await written()).id, at=None, settings=settings)
    await asyncio.gather(*(run(pool) for _ in range(8)))
    counted = await db.fetch("SELECT count(*) AS n FROM deliveries GROUP BY subscriber_id")
    assert [row["n"] for row in counted] == [1] * 40


CLAIM = """
INSERT INTO claims (fence, campaign_id, ids, until) VALUES ($1, $1, ARRAY[$2::bigint], now() + interval '1 hour')
ON CONFLICT (fence) DO UPDATE SET ids = claims.ids || excluded.ids
"""


async def leased(db, campaign, who):
    """Let a worker hold the person's letter, and return it as the mark wants it."""
    await db.execute("UPDATE campaigns SET status = 'sending' WHERE id = $1", campaign.id)
    await had(db, campaign, who, state="queued")
    row = await db.fetchrow(
        "SELECT deliveries.id, email FROM deliveries JOIN subscribers ON subscribers.id = subscriber_id WHERE campaign_id = $1 AND subscriber_id = $2",
        campaign.id,
        who,
    )
    await db.execute(CLAIM, campaign.id, row["id"])
    await counters.add(db, deliveries.moved(campaign.id, "other", None, "queued", 1), slot=0)
    return Pair(row["id"], row["email"])


async def mark(db, domain, campaign, pairs, *, capped):
    """Mark letters as a worker does."""
    found = await marks.mark_campaign(
        db, campaign.id, domain, campaign.id, pairs, egress="outbox", to_outbox=True, slot=0, capped=capped
    )
    return found.ids


async def fate(db, pair):
    """Return state and reason of a letter."""
    return tuple(await db.fetchrow("SELECT state::text, reason FROM deliveries WHERE id = $1", pair.id))


@pytest.mark.parametrize("capped", [False, True])
async def test_a_pause_holds_from_that_moment_for_letters_in_the_queue_too(db, domain, people, written, capped):
    """Skipped with the reason ``paused`` at the mark, counted as skipped; others go out; the end of a pause ends it by itself."""
    paused, over, other = await people(3)
    campaign = await written()
    pairs = [await leased(db, campaign, who) for who in (paused, over, other)]
    await prefer(db, paused, "all", await db.fetchval("SELECT now() + interval '1 week'"))
    await prefer(db, over, "all", await db.fetchval("SELECT now() - interval '1 second'"))
    assert await mark(db, domain, campaign, pairs, capped=capped) == {pairs[1].id, pairs[2].id}
    assert await fate(db, pairs[0]) == ("skipped", "paused")
    skipped = await db.fetchval(
        "SELECT sum(n) FROM counters WHERE campaign_id = $1 AND key = 'delivery.skipped'", campaign.id
    )
    assert skipped == 1


async def test_the_mark_looks_once_more_how_often(db, domain, people, written):
    """Two letters that wait, because the wish came later or a pause of the campaign lay between: one goes, the other is skipped."""
    (who,) = await people(1)
    first, second = await written(), await written()
    letters = [await leased(db, campaign, who) for campaign in (first, second)]
    await prefer(db, who, "weekly")
    assert await mark(db, domain, first, letters[:1], capped=False) == {letters[0].id}
    assert await mark(db, domain, second, letters[1:], capped=False) == set()
    assert await fate(db, letters[1]) == ("skipped", "frequency")


async def test_a_letter_tried_again_is_the_same_letter(db, domain, people, written):
    """A deferral of the one letter of the week does not count against itself."""
    (who,) = await people(1)
    await prefer(db, who, "monthly")
    campaign = await written()
    letter = await leased(db, campaign, who)
    await db.execute("UPDATE deliveries SET attempts = 2, sent_at = NULL")
    assert await mark(db, domain, campaign, [letter], capped=False) == {letter.id}


@examples(max_examples=15)
@given(
    st.lists(st.sampled_from(["all", "weekly", "monthly"]), min_size=1, max_size=4),
    st.lists(st.integers(1, 24 * 12), min_size=1, max_size=8),
)
async def test_nobody_gets_two_within_their_window(db, crowd, gaps):
    """Whatever wishes and whatever rhythm of campaigns: letters to one person keep their distance, and everybody else gets all."""
    await db.execute("TRUNCATE subscribers, deliveries, campaigns, domains CASCADE")
    domain = await db.fetchval(
        "INSERT INTO domains (name, status) VALUES ('shop.example.com', 'verified') RETURNING id"
    )
    for number, frequency in enumerate(crowd):
        await db.execute(
            "INSERT INTO subscribers (email, email_key, domain, status, frequency, created_at) VALUES ($1, $1, 'x', 'active', $2, $3)",
            f"p{number}@x",
            frequency,
            NOW - timedelta(days=1),
        )
    wishes = {row["id"]: row["frequency"] for row in await db.fetch("SELECT id, frequency FROM subscribers")}
    got: dict[int, list[datetime]] = {who: [] for who in wishes}
    at = NOW
    for gap in gaps:
        at += timedelta(hours=gap)
        ids = await chosen(db, at)
        campaign = await db.fetchval(
            "INSERT INTO campaigns (name, domain_id, from_email, subject, audience, status) VALUES ('c', $1, 'a@b.c', 's', '{}', 'sent') RETURNING id",
            domain,
        )
        await db.execute(
            "INSERT INTO deliveries (campaign_id, subscriber_id, state, sent_at) SELECT $1, id, 'sent', $3 FROM unnest($2::bigint[]) AS id",
            campaign,
            ids,
            at,
        )
        for who, wish in wishes.items():
            due = not got[who] or at - got[who][-1] >= LEAST[wish]
            assert (who in ids) is due
            if due:
                got[who].append(at)


async def test_a_letter_that_was_put_back_holds_no_other(db, domain, people, written):
    """The letter of a paused campaign did not go out: the next campaign's is not skipped for it, though the lease is open still."""
    (who,) = await people(1)
    await prefer(db, who, "weekly")
    first, second = await written(), await written()
    one, other = [await leased(db, campaign, who) for campaign in (first, second)]
    await db.execute("UPDATE campaigns SET status = 'paused', paused_from = 'sending' WHERE id = $1", first.id)
    assert await mark(db, domain, first, [one], capped=False) == set()
    assert await mark(db, domain, second, [other], capped=False) == {other.id}


async def test_two_workers_at_once_mark_one_letter_a_choosy_reader(pool, db, domain, people, written):
    """Both letters waited out a pause, both are marked in the same moment: each reader gets one, and the other is skipped."""
    crowd = await people(20)
    await db.execute("UPDATE subscribers SET frequency = 'weekly'")
    campaigns = [await written(), await written()]
    letters = [[await leased(db, campaign, who) for who in crowd] for campaign in campaigns]

    async def worker(number, few):
        async with pool.acquire() as own:
            return await mark(own, domain, campaigns[number], few, capped=False)

    went: set[int] = set()
    for at in range(0, len(crowd), 2):
        for found in await asyncio.gather(*(worker(number, letters[number][at : at + 2]) for number in (0, 1))):
            went |= found
    counted = await db.fetch(
        "SELECT count(*) AS n FROM deliveries WHERE id = ANY($1::bigint[]) GROUP BY subscriber_id", list(went)
    )
    assert [row["n"] for row in counted] == [1] * len(crowd)
