"""Opens and clicks as rows, counters and revised verdicts."""

import asyncio
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.signals import age, batches, clicks, tally, verdicts
from mailbase.signals.tally import Seen
from mailbase.signals.verdicts import CLICKED, FLOOD, HUMAN, PROXIED, Click, Visit
from signals.signals_kit import MACHINE, NOON, counted, hit, make_campaign, recounted


async def write(db, batch, *, now=NOON, clock=0.0, slot=0, early=verdicts.EARLY):
    """Record a batch as the recorder would: its opens in a transaction of their own, and its clicks."""
    places = [None] * len(batch)
    for sort in (False, True):
        numbers = [n for n, one in enumerate(batch) if bool(one.link) is sort]
        if numbers:
            async with db.transaction():
                written = await batches.write(
                    db, [batch[n] for n in numbers], now=now, clock=lambda: clock, slot=slot, early=early
                )
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
    """After a scanner has been there, a later click from elsewhere is a person's, and the letter counts as both."""
    campaign_id, (letter, *_) = await make_campaign(db)
    await write(db, [hit(letter, n, at=-30.0) for n in (1, 2, 3)])
    await write(db, [hit(letter, 2)])
    assert (await counted(db, campaign_id)).get("click.human") is None
    await write(db, [hit(letter, 2, address="192.0.2.8")])
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


async def test_crowd(db):
    """Five readers' letters clicked from one address within a minute are one machine's, in any campaign, the earlier too."""
    first, letters = await make_campaign(db, letters=4)
    second, others = await make_campaign(db, letters=4)
    for n, letter in enumerate([*letters[:2], *others[:2]]):
        await write(db, [hit(letter, 1, at=-50.0 + n)])
    assert (await counted(db, first))["click.human"] == (await counted(db, second))["click.human"] == 2
    await write(db, [hit(letters[2], 1), hit(letters[3], 1, address="192.0.2.8")])
    rows = await db.fetch("SELECT verdict, reason, host(ip) AS ip FROM signals ORDER BY id")
    assert [tuple(row) for row in rows] == [("machine", "crowd", "192.0.2.7")] * 5 + [("human", None, "192.0.2.8")]
    for campaign_id in (first, second):
        assert await counted(db, campaign_id) == await recounted(db, campaign_id)
    assert await db.fetchval("SELECT count(*) FROM engaged WHERE at IS NOT NULL OR clicked_at IS NOT NULL") == 1


async def test_crowd_behind_a_proxy(db):
    """Clicks that all seem to come from a private address tell nothing of each other: a proxy stands before us."""
    campaign_id, letters = await make_campaign(db, letters=6)
    await write(db, [hit(letter, 1, address="127.0.0.1") for letter in letters])
    assert (await counted(db, campaign_id))["click.human"] == 6


async def test_sweep(db):
    """Four links of five within ten seconds are a machine's, across batches."""
    links = [f"https://shop.example/{n}" for n in range(5)]
    campaign_id, (letter, *_) = await make_campaign(db, links=links)
    for n in range(4):
        await write(db, [hit(letter, n + 1, at=-9.0 + 3 * n)])
    assert [row[1] for row in await verdicts_of(db, letter)] == ["machine"] * 4
    assert await counted(db, campaign_id) == await recounted(db, campaign_id)


async def test_early(db):
    """Within five seconds of its delivery nobody has read a letter: a proxy's open is a machine's, a click is anybody's."""
    campaign_id, (fresh, read, leaving) = await make_campaign(db)
    await db.execute("UPDATE deliveries SET sent_at = $2 WHERE id = $1", fresh, NOON - timedelta(seconds=4.9))
    await db.execute("UPDATE deliveries SET sent_at = $2 WHERE id = $1", read, NOON - timedelta(seconds=5))
    await db.execute("UPDATE deliveries SET state = 'queued', sent_at = NULL WHERE id = $1", leaving)
    batch = [hit(letter, judgement=PROXIED) for letter in (fresh, read, leaving)]
    batch += [
        hit(letter, 1, judgement=CLICKED, address=f"192.0.2.{n}") for n, letter in enumerate((fresh, read, leaving))
    ]
    await write(db, batch)
    rows = await db.fetch("SELECT kind, delivery_id, verdict, reason FROM signals ORDER BY kind DESC, delivery_id")
    assert [tuple(row) for row in rows] == [
        ("open", fresh, "machine", "early"),
        ("open", read, "human", None),
        ("open", leaving, "machine", "early"),
        ("click", fresh, "unknown", "early"),
        ("click", read, "human", None),
        ("click", leaving, "unknown", "early"),
    ]
    numbers = await counted(db, campaign_id)
    assert (numbers["click.unique"], numbers["click.human"], numbers.get("click.machine")) == (3, 1, None)
    await write(db, [hit(fresh, 2, judgement=CLICKED, address="192.0.2.99")], now=NOON + timedelta(minutes=1))
    numbers = await counted(db, campaign_id)
    assert (numbers["click.unique"], numbers["click.human"]) == (3, 2)
    assert numbers == await recounted(db, campaign_id)


async def test_early_where_letters_do_not_travel(db):
    """With the outbox a letter may be read the moment it is written."""
    campaign_id, (letter, *_) = await make_campaign(db)
    await db.execute("UPDATE deliveries SET sent_at = $2 WHERE id = $1", letter, NOON)
    await write(db, [hit(letter, judgement=PROXIED), hit(letter, 1, judgement=CLICKED)], early=timedelta(0))
    numbers = await counted(db, campaign_id)
    assert (numbers["open.human"], numbers["click.human"]) == (1, 1)


async def test_engaged_by_clicks(db):
    """When a person last clicked is kept apart from when the person last did anything; a machine's clicks are neither."""
    _, (letter, *_) = await make_campaign(db)
    await write(db, [hit(letter, 1, at=-30.0), hit(letter)])
    await write(db, [hit(letter, 2, at=60.0, judgement=MACHINE)], clock=60.0, now=NOON + timedelta(minutes=1))
    row = await db.fetchrow("SELECT at, clicked_at FROM engaged")
    assert tuple(row) == (NOON, NOON - timedelta(seconds=30))


ADDRESSES = ["192.0.2.1", "192.0.2.2", "198.51.100.3", "127.0.0.1"]
PROGRAMS = ["Firefox", "Chrome"]


@pytest.mark.parametrize("seed", range(4))
async def test_random_day(pool, seed):
    """After a day of hits from several processes at once, every counter and verdict is what the rows say."""
    chance = Random(seed)
    links = [f"https://shop.example/{n}" for n in range(6)]
    async with pool.acquire() as db:
        campaigns = [await make_campaign(db, letters=12, links=links[: 4 + 2 * n]) for n in range(2)]
        await db.execute("UPDATE deliveries SET sent_at = $1", NOON + timedelta(seconds=600))
    letters = [letter for _, found in campaigns for letter in found]

    async def process(slot):
        for _ in range(40):
            now = NOON + timedelta(seconds=chance.choice([chance.random() * 86_400, 600 + chance.random() * 15]))
            batch = []
            for _ in range(chance.randint(1, 6)):
                letter = chance.choice(letters[:6] if chance.random() < 0.5 else letters)
                kind = chance.choice([CLICKED, CLICKED, CLICKED, MACHINE])
                batch += [
                    hit(
                        letter,
                        link,
                        at=-3 * chance.random(),
                        judgement=kind if link else chance.choice([HUMAN, PROXIED, MACHINE]),
                        address=chance.choice(ADDRESSES),
                        user_agent=chance.choice(PROGRAMS),
                    )
                    for link in (chance.randint(0, 6) for _ in range(chance.choice([1, 1, 1, 4])))
                ]
            async with pool.acquire() as db:
                await write(db, batch, now=now, slot=slot)

    await asyncio.gather(*(process(slot) for slot in range(4)))
    async with pool.acquire() as db:
        machines = {"burst": set(), "crowd": set()}
        for number, (campaign_id, found) in enumerate(campaigns):
            numbers = await counted(db, campaign_id)
            assert numbers == await recounted(db, campaign_id)
            for letter in found:
                rows = await db.fetch(
                    "SELECT id, at, link, host(ip) AS ip, user_agent FROM signals WHERE delivery_id = $1 AND kind = 'click'",
                    letter,
                )
                around = [
                    Click(row["at"], row["link"], None if row["ip"] == "127.0.0.1" else (row["ip"], row["user_agent"]))
                    for row in rows
                ]
                flagged = verdicts.letter(around, 4 + 2 * number)
                machines["burst"] |= {row["id"] for row, one in zip(rows, flagged, strict=True) if one}
        for address in ADDRESSES[:3]:
            rows = await db.fetch(
                "SELECT id, at, subscriber_id FROM signals WHERE host(ip) = $1 AND kind = 'click'", address
            )
            flagged = verdicts.crowd([Visit(row["at"], row["subscriber_id"]) for row in rows])
            machines["crowd"] |= {row["id"] for row, one in zip(rows, flagged, strict=True) if one}
        both = machines["burst"] | machines["crowd"]
        rows = await db.fetch("SELECT id, verdict, reason FROM signals WHERE kind = 'click'")
        for row in rows:
            assert (row["verdict"] == "machine") == (row["id"] in both or row["reason"] == "scanner")
            assert row["reason"] not in machines or row["id"] in machines[row["reason"]]
        assert {"burst", "crowd", "early", None} <= {row["reason"] for row in rows}
        wrong = await db.fetch(
            "SELECT id FROM subscribers LEFT JOIN engaged ON subscriber_id = id"
            " WHERE engaged.at IS DISTINCT FROM (SELECT max(at) FROM signals WHERE subscriber_id = subscribers.id AND verdict = 'human')"
            " OR clicked_at IS DISTINCT FROM (SELECT max(at) FROM signals WHERE subscriber_id = subscribers.id AND verdict = 'human' AND kind = 'click')"
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
    await write(db, [hit(letter, 1, at=12.0, address="192.0.2.8")])
    assert [row[1] for row in (await verdicts_of(db, letter))[-3:]] == ["machine", "machine", "human"]
    around = await db.fetch(clicks.AROUND_LETTERS, [letter], [NOON], [NOON], clicks.REACH, clicks.MOST)
    assert FLOOD < len(around) <= 2 * clicks.MOST
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
