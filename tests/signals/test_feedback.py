"""Feedback: what came back about a letter is applied once, and the counters agree with the rows."""

import asyncio
from datetime import timedelta

import pytest

from mailbase.campaigns.recount import recount
from mailbase.sending.deliveries import counters
from mailbase.sending.deliveries.deliveries import moved
from mailbase.signals.feedback import Feedback, apply
from signals.signals_kit import NOON, counted, make_campaign

KINDS = ["hard", "soft", "block"]


async def campaign(db, *, letters=1, state="sent", at=NOON):
    """Store a campaign whose letters were sent at ``at``, counted as the engine counts them."""
    campaign_id, ids = await make_campaign(db, letters=letters, state=state)
    await db.execute("UPDATE deliveries SET sent_at = $2 WHERE campaign_id = $1 AND state = 'sent'", campaign_id, at)
    await counters.add(db, moved(campaign_id, "other", None, state, letters), slot=0)
    return campaign_id, ids


async def take(db, *, now=NOON, **fields):
    """Apply one report in a transaction of its own."""
    async with db.transaction():
        return await apply(db, Feedback(source="inbound", **fields), slot=1, now=now)


async def person(db, delivery_id):
    """Return the status of the letter's reader and why the address is suppressed."""
    return tuple(
        await db.fetchrow(
            "SELECT person.status, suppression.reason FROM deliveries JOIN subscribers AS person ON person.id = subscriber_id "
            "LEFT JOIN suppressions AS suppression ON suppression.value = person.email_key WHERE deliveries.id = $1",
            delivery_id,
        )
    )


async def letter(db, delivery_id):
    """Return a letter's state and class."""
    return tuple(await db.fetchrow("SELECT state::text, bounce_class FROM deliveries WHERE id = $1", delivery_id))


@pytest.mark.parametrize("cls", KINDS)
async def test_a_later_bounce(db, cls):
    """A letter that was sent and comes back is bounced, in its row, its campaign's counters and the list, once however often it is said."""
    campaign_id, (one,) = await campaign(db)
    assert await take(
        db, kind="bounce", delivery_id=one, cls=cls, reason="r", status="5.0.0", reply="no\0", reporting_mta="mx"
    )
    assert not await take(db, kind="bounce", delivery_id=one, cls=cls, reason="r")
    assert await letter(db, one) == ("bounced", cls)
    assert await counted(db, campaign_id) == await recount(db, campaign_id)
    assert (await counted(db, campaign_id))["delivery.bounced"] == 1
    rows = await db.fetch("SELECT class, reason, status, reply, reporting_mta, email FROM bounces")
    assert [tuple(row)[:5] for row in rows] == [(cls, "r", "5.0.0", "no", "mx")]
    assert rows[0]["email"].endswith("@reader.example")


@pytest.mark.parametrize(
    ("cls", "after"), [("hard", ("bounced", "hard_bounce")), ("soft", ("active", None)), ("block", ("active", None))]
)
async def test_who_is_touched(db, cls, after):
    """A hard bounce ends the reader and suppresses the address; a soft one and a block leave both as they are."""
    _, (one,) = await campaign(db)
    await take(db, kind="bounce", delivery_id=one, cls=cls)
    assert await person(db, one) == after


async def test_hard_after_soft(db):
    """A second report that says hard makes a soft bounce hard, in letter, counters and reader."""
    campaign_id, (one,) = await campaign(db)
    await take(db, kind="bounce", delivery_id=one, cls="soft")
    assert await take(db, kind="bounce", delivery_id=one, cls="hard")
    assert not await take(db, kind="bounce", delivery_id=one, cls="soft")
    assert await letter(db, one) == ("bounced", "hard")
    assert await counted(db, campaign_id) == await recount(db, campaign_id)
    assert await person(db, one) == ("bounced", "hard_bounce")


async def soft_on(db, *days, sent=()):
    """Send one person a letter on each day; those of ``days`` come back soft, those of ``sent`` do not. Return the last one."""
    _, (first,) = await campaign(db, at=NOON)
    reader = await db.fetchval("SELECT subscriber_id FROM deliveries WHERE id = $1", first)
    await db.execute("DELETE FROM deliveries WHERE id = $1", first)
    last = 0
    for day in sorted({*days, *sent}):
        other, _ = await make_campaign(db, letters=0)
        at = NOON + timedelta(days=day)
        last = await db.fetchval(
            "INSERT INTO deliveries (campaign_id, subscriber_id, state, sent_at) VALUES ($1, $2, 'sent', $3) RETURNING id",
            other,
            reader,
            at,
        )
        if day in days:
            await take(db, kind="bounce", delivery_id=last, cls="soft", now=at)
    return last


async def test_five_days_of_soft_bounces(db):
    """Five soft bounces on five days without a success in between suppress the address, as soft_bounces; four do not."""
    assert await person(db, await soft_on(db, 0, 1, 2, 3)) == ("active", None)
    assert await person(db, await soft_on(db, 0, 1, 2, 3, 9)) == ("bounced", "soft_bounces")


async def test_five_bounces_of_one_day(db):
    """Any number of soft bounces on one day counts as one."""
    assert await person(db, await soft_on(db, 0, 0.01, 0.02, 0.03, 0.04, 0.05)) == ("active", None)


async def test_a_success_starts_anew(db):
    """A letter that stayed where it was sent starts the count of soft bounces anew."""
    assert await person(db, await soft_on(db, 0, 1, 2, 4, 5, sent=[3])) == ("active", None)


async def test_late_reports_of_earlier_days(db):
    """Reports of five days read on the sixth count as five days; the letters after the one reported are no success yet."""
    _, (first,) = await campaign(db)
    reader = await db.fetchval("SELECT subscriber_id FROM deliveries WHERE id = $1", first)
    letters = [first]
    for day in range(1, 6):
        other, _ = await make_campaign(db, letters=0)
        letters.append(
            await db.fetchval(
                "INSERT INTO deliveries (campaign_id, subscriber_id, state, sent_at) VALUES ($1, $2, 'sent', $3) RETURNING id",
                other,
                reader,
                NOON + timedelta(days=day),
            )
        )
    for one in letters[:5]:
        assert (await person(db, one))[0] == "active"
        await take(db, kind="bounce", delivery_id=one, cls="soft", now=NOON + timedelta(days=6))
    assert await person(db, first) == ("bounced", "soft_bounces")


async def test_a_complaint(db):
    """A complaint ends the reader everywhere and suppresses the address at once, is counted once, and leaves the letter sent."""
    campaign_id, (one,) = await campaign(db)
    assert await take(db, kind="complaint", delivery_id=one)
    assert not await take(db, kind="complaint", delivery_id=one)
    assert await person(db, one) == ("complained", "complaint")
    assert await letter(db, one) == ("sent", None)
    assert (
        await counted(db, campaign_id)
        == await recount(db, campaign_id)
        == {"delivery.sent": 1, "provider.other.sent": 1, "complaints": 1}
    )


async def test_an_unsubscription(db):
    """A wish to leave is counted once for the letter's campaign and suppresses nothing."""
    campaign_id, (one,) = await campaign(db)
    assert await take(db, kind="unsubscribe", delivery_id=one)
    assert not await take(db, kind="unsubscribe", delivery_id=one)
    assert await person(db, one) == ("unsubscribed", None)
    assert (await counted(db, campaign_id))["unsubscribes"] == 1
    assert await counted(db, campaign_id) == await recount(db, campaign_id)


@pytest.mark.parametrize("kind", ["not_spam", "deferred"])
async def test_what_changes_nothing(db, kind):
    """A letter taken out of the spam folder and a delay change nothing."""
    campaign_id, (one,) = await campaign(db)
    before = await counted(db, campaign_id)
    assert not await take(db, kind=kind, delivery_id=one)
    assert await person(db, one) == ("active", None)
    assert await letter(db, one) == ("sent", None)
    assert await counted(db, campaign_id) == before


async def test_delivered_after_all(db):
    """A letter in doubt is sent once somebody says it was delivered."""
    campaign_id, (one,) = await campaign(db, state="unknown")
    assert await take(db, kind="delivered", delivery_id=one)
    assert not await take(db, kind="delivered", delivery_id=one)
    assert await letter(db, one) == ("sent", None)
    assert await counted(db, campaign_id) == await recount(db, campaign_id)


async def test_by_address(db):
    """A report that names only an address is about the newest letter to it that had left by then."""
    _, (old,) = await campaign(db, at=NOON - timedelta(days=3))
    email, reader = await db.fetchrow(
        "SELECT email, subscriber_id FROM deliveries JOIN subscribers ON subscribers.id = subscriber_id WHERE deliveries.id = $1",
        old,
    )
    other, _ = await make_campaign(db, letters=0)
    new = await db.fetchval(
        "INSERT INTO deliveries (campaign_id, subscriber_id, state, sent_at) VALUES ($1, $2, 'sent', $3) RETURNING id",
        other,
        reader,
        NOON,
    )
    assert await take(db, kind="bounce", email=email.upper(), cls="block", at=NOON - timedelta(days=2))
    assert (await letter(db, old), await letter(db, new)) == (("bounced", "block"), ("sent", None))
    assert await take(db, kind="bounce", email=email, cls="hard", at=NOON)
    assert await letter(db, new) == ("bounced", "hard")


async def test_a_time_nobody_can_mean(db):
    """A report dated years back, as samples are, is about the newest letter: its time is not believed."""
    campaign_id, (one,) = await campaign(db)
    email = await db.fetchval("SELECT email FROM subscribers")
    assert await take(db, kind="bounce", email=email, cls="soft", at=NOON - timedelta(days=3000))
    assert await letter(db, one) == ("bounced", "soft")
    assert await counted(db, campaign_id) == await recount(db, campaign_id)


async def test_a_complaint_without_a_letter(db):
    """A complaint of somebody who was never written to still ends the subscriber."""
    await db.execute(
        "INSERT INTO subscribers (email, email_key, domain, status) VALUES ('A@x.example', 'a@x.example', 'x.example', 'active')"
    )
    assert await take(db, kind="complaint", email="a@X.example")
    assert await db.fetchval("SELECT status FROM subscribers") == "complained"
    assert not await take(db, kind="complaint", email="nobody@x.example")
    assert await db.fetchval("SELECT count(*) FROM suppressions") == 1


async def test_a_message_to_somebody_unknown(db):
    """A hard bounce or a complaint about a message suppresses its address, though nobody has subscribed with it."""
    for n, (kind, cls) in enumerate([("bounce", "hard"), ("complaint", None)]):
        message_id = await db.fetchval(
            "INSERT INTO messages (kind, from_email, email, email_key, subject) VALUES ('transactional', 'a@b.example', $1, $1, 's') RETURNING id",
            f"m{n}@reader.example",
        )
        one = await db.fetchval(
            "INSERT INTO deliveries (message_id, state) VALUES ($1, 'sent') RETURNING id", message_id
        )
        assert await take(db, kind=kind, cls=cls, delivery_id=one)
        assert not await take(db, kind=kind, cls=cls, delivery_id=one)
    rows = await db.fetch("SELECT value, reason FROM suppressions ORDER BY value")
    assert [tuple(row) for row in rows] == [("m0@reader.example", "hard_bounce"), ("m1@reader.example", "complaint")]


async def test_what_never_left(db):
    """A report about a letter that still waits does not move it."""
    campaign_id, (one,) = await campaign(db, state="queued")
    await take(db, kind="bounce", delivery_id=one, cls="soft")
    assert await letter(db, one) == ("queued", None)
    assert await counted(db, campaign_id) == await recount(db, campaign_id)


async def test_a_letter_that_does_not_exist(db):
    """A report about no letter changes nothing."""
    assert not await take(db, kind="bounce", delivery_id=999_999, cls="hard")
    assert not await take(db, kind="complaint", delivery_id=999_999)


async def test_all_at_once(pool, db):
    """Many reports about the same letters at the same time neither deadlock nor count anything twice."""
    campaign_id, letters = await campaign(db, letters=10)

    async def one(n):
        async with pool.acquire() as other, other.transaction():
            kind = ["bounce", "complaint", "unsubscribe"][n % 3]
            cls = KINDS[n % 2] if kind == "bounce" else None
            await apply(other, Feedback(kind=kind, source="t", delivery_id=letters[n % 10], cls=cls), slot=n % 3)

    await asyncio.gather(*(one(n) for n in range(120)))
    assert await counted(db, campaign_id) == await recount(db, campaign_id)


async def test_a_bounce_that_is_quicker_than_our_own_record(db):
    """A letter on its way that bounces before its answer is written down is bounced; one that only waits is not, nor one put back."""
    campaign_id, (out, back, waiting) = await campaign(db, letters=3, state="queued")
    await db.execute(
        "INSERT INTO claims (fence, campaign_id, ids, marked, aside, until) VALUES (nextval('fences'), $1, $2, 2, $3, now() + interval '15 seconds')",
        campaign_id,
        [out, back, waiting],
        [back],
    )
    for one in (out, back, waiting):
        await take(db, kind="bounce", delivery_id=one, cls="block", reason="spam")
    assert [(await letter(db, one))[0] for one in (out, back, waiting)] == ["bounced", "queued", "queued"]
    assert await counted(db, campaign_id) == await recount(db, campaign_id)
