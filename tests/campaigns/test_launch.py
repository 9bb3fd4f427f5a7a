"""Launching: what is refused, what is frozen, and that neither is undone by what happens afterwards."""

from datetime import timedelta

import msgspec
import pytest

from mailbase.audience import interests
from mailbase.audience.selection import Audience, Exclude
from mailbase.campaigns import campaigns, launch
from mailbase.errors import Conflict, Invalid
from mailbase.letters.content import Compiled


async def refusal(db, campaign, settings, at=None):
    """Launch in vain and return what was said."""
    with pytest.raises(Invalid) as refused:
        await launch.send(db, campaign.id, at=at, settings=settings)
    assert (await campaigns.get(db, campaign.id)).status == "draft"
    return [(error.field, error.code) for error in refused.value.errors]


@pytest.mark.parametrize(
    "audience",
    [
        Audience(),
        Audience(tags=[]),
        Audience(tags=["nobody"]),
        Audience(exclude=Exclude(tags=["nobody"])),
        Audience(all=True, exclude=Exclude(all=True)),
    ],
)
async def test_an_audience_of_nobody_is_refused(db, settings, people, written, audience):
    """Nobody to write to: 422 at send; a rule that names nobody never means everybody."""
    await people(2)
    assert await refusal(db, await written(audience=audience), settings) == [("audience", "empty_audience")]


async def test_only_active_people_are_an_audience(db, settings, people, written):
    """Whoever is pending, gone or archived is no audience."""
    for status in ("pending", "unsubscribed", "bounced", "complained", "archived"):
        await people(1, status=status)
    assert await refusal(db, await written(), settings) == [("audience", "empty_audience")]


@pytest.mark.parametrize("status", ["pending", "failing"])
async def test_strict_checks_ask_for_a_verified_domain(db, settings, people, written, status):
    """With strict checks an unverified domain is a 409; with warnings the campaign goes out."""
    await people(1)
    await db.execute("UPDATE domains SET status = $1", status)
    campaign = await written()
    strict = msgspec.structs.replace(settings, sending_checks="strict")
    with pytest.raises(Conflict) as refused:
        await launch.send(db, campaign.id, at=None, settings=strict)
    assert refused.value.code == "domain_not_verified"
    assert (await launch.send(db, campaign.id, at=None, settings=settings)).status == "sending"


async def test_a_deleted_interest_lets_nobody_in_again(db, settings, people, written):
    """Who was to be left out by an interest that is gone: the launch asks again, and a launched campaign keeps the interest."""
    await people(2)
    topic = await interests.create(db, slug="cake", name="Cake")
    campaign = await written(audience=Audience(all=True, exclude=Exclude(interests=["cake"])))
    later = await written(audience=Audience(all=True, exclude=Exclude(interests=["cake"])))
    tomorrow = await db.fetchval("SELECT now() + interval '1 day'")
    await launch.send(db, later.id, at=tomorrow, settings=settings)
    with pytest.raises(Conflict) as kept:
        await interests.delete(db, topic.id)
    assert kept.value.code == "interest_in_use"
    await db.execute("DELETE FROM campaigns WHERE id = $1", later.id)
    await interests.delete(db, topic.id)
    assert await refusal(db, campaign, settings) == [("audience.exclude.interests", "unknown_interest")]


async def test_a_deadline_before_the_first_letter_is_refused(db, settings, people, written):
    """`send_until` must lie after the time the campaign is due."""
    await people(1)
    now = await db.fetchval("SELECT now()")
    campaign = await written(send_until=now + timedelta(hours=1))
    assert await refusal(db, campaign, settings, at=now + timedelta(hours=2)) == [("send_until", "send_until_passed")]
    await launch.send(db, campaign.id, at=None, settings=settings)


async def test_a_past_time_is_now(db, settings, people, written):
    """A campaign that was due yesterday is sent at once."""
    await people(1)
    yesterday = await db.fetchval("SELECT now()") - timedelta(days=1)
    campaign = await launch.send(db, (await written()).id, at=yesterday, settings=settings)
    assert (campaign.status, campaign.scheduled_at) == ("sending", None)
    assert campaign.started_at is not None


async def test_content_is_frozen_at_launch(db, settings, people, written):
    """What will be sent is compiled now, with its links numbered and the footer of today's settings."""
    await people(1)
    await db.execute("UPDATE settings SET postal_address = '1 Mill Lane'")
    soon = await db.fetchval("SELECT now()") + timedelta(hours=1)
    campaign = await written(utm={"source": "news"})
    await launch.send(db, campaign.id, at=soon, settings=settings)
    row = await db.fetchrow("SELECT compiled, expected FROM campaigns")
    compiled = msgspec.msgpack.decode(row["compiled"], type=Compiled)
    assert row["expected"] == 1
    assert "1 Mill Lane" in compiled.text
    assert f"{settings.public_url}/l/1/" in compiled.html
    assert f"{settings.public_url}/o/" in compiled.html
    links = await db.fetch("SELECT n, url FROM campaign_links ORDER BY n")
    assert [(link["n"], link["url"]) for link in links] == [(1, "https://shop.example.com/a?utm_source=news")]


async def test_what_went_wrong_since_the_draft_is_found_at_launch(db, settings, people, written):
    """An interest deleted after the draft was written leaves an empty audience, not everybody."""
    news = await db.fetchval("INSERT INTO interests (slug, name) VALUES ('news', 'News') RETURNING id")
    await people(1, interests=[news])
    campaign = await written(audience=Audience(interests=["news"]))
    await db.execute("DELETE FROM interests")
    await db.execute("UPDATE subscribers SET interests = '{}'")
    assert await refusal(db, campaign, settings) == [("audience", "empty_audience")]
