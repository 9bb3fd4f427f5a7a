"""Opens and clicks as rows, counters and revised verdicts."""

import asyncio
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.signals import age, hits, tally
from mailbase.signals.tally import Seen
from mailbase.signals.verdicts import FLOOD, HUMAN, Click, Judgement, burst
from signals.signals_kit import MACHINE, NOON, counted, hit, make_campaign, recounted


async def write(db, batch, *, now=NOON, clock=0.0, slot=0):
    """Record a batch as the recorder would: its opens in a transaction of their own, and its clicks."""
    places = [None] * len(batch)
    for sort in (False, True):
        numbers = [n for n, one in enumerate(batch) if bool(one.link) is sort]
        if numbers:
            async with db.transaction():
                written = await hits.write(db, [batch[n] for n in numbers], now=now, clock=lambda: clock, slot=slot)
            for n, place in zip(numbers, written.places, strict=True):
                places[n] = place
    return places


async def verdicts_of(db, delivery_id):
    """Return the stored clicks of a letter, oldest first."""
    rows = await db.fetch(
        "SELECT link, verdict FROM signals WHERE delivery_id = $1 AND kind = 'click' ORDER BY at, id", delivery_id
    )
    return [tuple(row) for row in rows]


async def test_open_and_click(db):
    """An open and a click are rows with everything known, counted once as unique, and the reader is engaged."""
    campaign_id, (letter, *_) = await make_campaign(db)
    places = await write(db, [hit(letter), hit(letter), hit(letter, 2, at=1.0)], clock=3.0)
    assert [place.url for place in places] == [None, None, "https://shop.example/two?a=1&b=2"]
    row = await db.fetchrow("SELECT * FROM signals WHERE kind = 'click'")
    assert (row["link"], row["verdict"], row["at"], str(row["ip"])) == (
        2,
        "human",
        NOON - timedelta(seconds=2),
        "192.0.2.7",
    )
    hour = int(NOON.timestamp()) - 3600
    assert await counted(db, campaign_id) == {
        "open.total": 2, "open.unique": 1, "open.human": 1,
        "click.total": 1, "click.unique": 1, "click.human": 1,
        "link.2.clicks": 1, "link.2.unique": 1, "link.2.human": 1,
        f"hour.{hour}.opens": 2, f"hour.{hour}.clicks": 1,
    }  # fmt: skip
    assert await db.fetchval(
        "SELECT at FROM engaged WHERE subscriber_id = $1", places[0].subscriber_id
    ) == NOON - timedelta(seconds=2)


async def test_nowhere(db):
    """A hit on a letter, link or tracking that does not exist leaves no trace."""
    quiet, (untracked,) = await make_campaign(db, letters=1, opens=False, links=[])
    campaign_id, (letter,) = await make_campaign(db, letters=1)
    message = await db.fetchval(
        "INSERT INTO messages (kind, from_email, email, email_key, subject) VALUES ('test', 'a@b.c', 'a@b.c', 'a@b.c', 's') RETURNING id"
    )
    of_message = await db.fetchval("INSERT INTO deliveries (message_id) VALUES ($1) RETURNING id", message)
    wrong = [hit(untracked), hit(untracked, 1), hit(10**12), hit(letter, 9), hit(of_message), hit(of_message, 1)]
    assert await write(db, wrong) == [None] * 6
    assert await db.fetchval("SELECT count(*) FROM signals") == 0
    assert await counted(db, campaign_id) == await counted(db, quiet) == {}


async def test_fold_back(db):
    """Three links within a second are a machine's, the earlier ones too, and everything they counted is taken back."""
    campaign_id, (letter, other, _) = await make_campaign(db)
    await write(db, [hit(letter, 1, at=-0.9), hit(letter, 2, at=-0.5), hit(other, 1, at=-0.5)])
    assert (await counted(db, campaign_id))["click.human"] == 2
    await write(db, [hit(letter, 3)])
    assert await verdicts_of(db, letter) == [(1, "machine"), (2, "machine"), (3, "machine")]
    assert await verdicts_of(db, other) == [(1, "human")]
    numbers = await counted(db, campaign_id)
    assert (numbers["click.unique"], numbers["click.human"], numbers["click.machine"]) == (2, 1, 1)
    assert numbers == await recounted(db, campaign_id)
    engaged = await db.fetch(
        "SELECT at AS engaged_at FROM subscribers LEFT JOIN engaged ON subscriber_id = id ORDER BY id"
    )
    assert [row["engaged_at"] for row in engaged] == [None, NOON - timedelta(seconds=0.5), None]


async def test_person_after_machine(db):
    """After a scanner has been there, a later click is a person's, and the letter counts as both."""
    campaign_id, (letter, *_) = await make_campaign(db)
    await write(db, [hit(letter, n, at=-30.0) for n in (1, 2, 3)])
    await write(db, [hit(letter, 2)])
    numbers = await counted(db, campaign_id)
    assert (numbers["click.unique"], numbers["click.human"], numbers["click.machine"], numbers["link.2.human"]) == (
        1,
        1,
        1,
        1,
    )


async def test_engagement_survives_a_fold_back(db):
    """When a burst is taken back, the reader stays engaged as of the last open that was a person's."""
    _, (letter, *_) = await make_campaign(db)
    await write(db, [hit(letter, at=-60.0), hit(letter, 1, at=-0.2), hit(letter, 2, at=-0.1)])
    await write(db, [hit(letter, 3)])
    assert await db.fetchval("SELECT at FROM engaged ORDER BY subscriber_id LIMIT 1") == NOON - timedelta(seconds=60)


async def test_erased(db):
    """Of an erased reader a hit is counted, and neither address nor program is kept."""
    campaign_id, (letter, *_) = await make_campaign(db)
    await db.execute("UPDATE deliveries SET subscriber_id = NULL WHERE id = $1", letter)
    await write(db, [hit(letter)])
    assert tuple(await db.fetchrow("SELECT subscriber_id, ip, user_agent FROM signals")) == (None, None, None)
    assert (await counted(db, campaign_id))["open.total"] == 1


@pytest.mark.parametrize("seed", range(4))
async def test_random_day(pool, seed):
    """After a day of hits from several processes at once, every counter and verdict is what the rows say."""
    chance = Random(seed)
    async with pool.acquire() as db:
        campaigns = [await make_campaign(db, letters=12) for _ in range(2)]
    letters = [letter for _, found in campaigns for letter in found]

    async def process(slot):
        for _ in range(40):
            now = NOON + timedelta(seconds=chance.choice([chance.random() * 86_400, 600 + chance.random() * 6]))
            batch = []
            for _ in range(chance.randint(1, 12)):
                batch += [
                    hit(
                        chance.choice(letters[:6] if chance.random() < 0.8 else letters),
                        chance.randint(0, 4),
                        at=-3 * chance.random(),
                        judgement=chance.choice([HUMAN, HUMAN, MACHINE, Judgement("unknown", None)]),
                    )
                    for _ in range(chance.choice([1, 1, 4]))
                ]
            async with pool.acquire() as db:
                await write(db, batch, now=now, slot=slot)

    await asyncio.gather(*(process(slot) for slot in range(4)))
    async with pool.acquire() as db:
        for campaign_id, found in campaigns:
            numbers = await counted(db, campaign_id)
            assert numbers == await recounted(db, campaign_id)
            for letter in found:
                rows = await db.fetch(
                    "SELECT at, link, verdict, reason FROM signals WHERE delivery_id = $1 AND kind = 'click'", letter
                )
                flagged = burst([Click(row["at"], row["link"]) for row in rows])
                for row, in_burst in zip(rows, flagged, strict=True):
                    assert (row["reason"] == "burst") == (in_burst and row["reason"] != "scanner")
        assert await db.fetchval("SELECT count(*) FROM signals WHERE reason = 'burst'") > 10
        wrong = await db.fetch(
            "SELECT id FROM subscribers LEFT JOIN engaged ON subscriber_id = id WHERE engaged.at IS DISTINCT FROM (SELECT max(at) FROM signals WHERE subscriber_id = subscribers.id AND verdict = 'human')"
        )
        assert len(wrong) == 0


async def test_many_clicks_stay_cheap_and_right(db):
    """A letter with thousands of clicks is judged as exactly as one with ten, from the few clicks around a new one."""
    campaign_id, (letter, *_) = await make_campaign(db)
    for n in range(30):
        await write(db, [hit(letter, 1, at=-0.001 * (n * 100 + m)) for m in range(100)])
    assert await db.fetchval("SELECT count(*) FROM signals WHERE verdict <> 'machine'") == 0
    await write(db, [hit(letter, 1, at=0.5)])
    await write(db, [hit(letter, 1, at=5.0)])
    assert [row[1] for row in (await verdicts_of(db, letter))[-2:]] == ["machine", "human"]
    around = await db.fetch(hits.AROUND, [letter], [NOON], timedelta(seconds=1), FLOOD)
    assert len(around) <= 2 * FLOOD
    numbers = await counted(db, campaign_id)
    assert numbers == await recounted(db, campaign_id)


async def test_age(db):
    """After thirty days an address is cut to its /24 or /48; younger ones and a second run change nothing."""
    _, (letter, *_) = await make_campaign(db)
    await write(db, [hit(letter)])
    await db.execute(
        "INSERT INTO signals (delivery_id, campaign_id, kind, verdict, ip, at) SELECT delivery_id, campaign_id, kind, verdict, '2001:db8:1:2::3', at FROM signals"
    )
    assert await age.shorten(db, NOON + timedelta(days=29)) == 0
    assert await age.shorten(db, NOON + timedelta(days=31)) == 2
    assert [str(row["ip"]) for row in await db.fetch("SELECT ip FROM signals ORDER BY id")] == [
        "192.0.2.0/24",
        "2001:db8:1::/48",
    ]
    assert await age.shorten(db, NOON + timedelta(days=31)) == 0


seen = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)).map(lambda n: Seen(sum(n), n[0], n[1]))


@given(st.sampled_from([-1, 3]), seen, seen, seen)
def test_changes_add_up(what, first, second, third):
    """Two steps move the counters as far as one step over both."""

    def total(*steps):
        sums = {}
        for before, after in steps:
            for key, n in tally.changes(what, before, after):
                sums[key] = sums.get(key, 0) + n
        return sums

    assert total((first, second), (second, third)) == total((first, third))
