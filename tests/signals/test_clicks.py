"""Clicks in any batches and any order come to the verdicts that all of them together tell."""

import itertools
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from mailbase.signals import batches, verdicts
from mailbase.signals.verdicts import CLICKED, Click, Visit
from signals.signals_kit import MACHINE, NOON, counted, hit, make_campaign, recounted

LINKS = [f"https://shop.example/{n}" for n in range(5)]
EARLY = 60.0
"""Seconds after noon when the letters leave, so that some clicks are early."""

one = st.fixed_dictionaries(
    {
        "letter": st.integers(0, 5),
        "link": st.integers(1, 5),
        "at": st.one_of(st.integers(0, 8_000), st.integers(55_000, 70_000), st.integers(0, 1_500_000)),
        "source": st.integers(0, 2),
        "program": st.sampled_from(["Firefox", "Chrome"]),
        "machine": st.booleans() | st.just(False) | st.just(False),
    }
)
days = st.lists(st.lists(one, min_size=1, max_size=8), min_size=1, max_size=8)
_runs = itertools.count(1)


@given(day=days)
@settings(max_examples=40)
async def test_any_batches(db, day):
    """Whatever is clicked in whatever batches: rows, verdicts, counters and people agree with the whole day at once."""
    run = next(_runs)
    addresses = [f"198.18.{run}.1", f"2001:db8:{run:x}::1", "10.0.0.1"]
    campaign_id, letters = await make_campaign(db, letters=6, links=LINKS)
    sent_at = NOON + timedelta(seconds=EARLY)
    await db.execute("UPDATE deliveries SET sent_at = $2 WHERE id = ANY($1)", letters, sent_at)
    for batch in day:
        made = [
            hit(
                letters[one["letter"]],
                one["link"],
                at=one["at"] / 1000,
                judgement=MACHINE if one["machine"] else CLICKED,
                address=addresses[one["source"]],
                user_agent=one["program"],
            )
            for one in batch
        ]
        async with db.transaction():
            await batches.write(db, made, now=NOON + timedelta(seconds=2000), clock=lambda: 2000.0, slot=0)

    rows = await db.fetch("SELECT *, host(ip) AS address FROM signals WHERE campaign_id = $1", campaign_id)
    assert len(rows) == sum(map(len, day))
    machines = set()
    for letter in letters:
        ours = [row for row in rows if row["delivery_id"] == letter]
        seen = [
            Click(row["at"], row["link"], (row["address"], row["user_agent"]) if row["address"] != "10.0.0.1" else None)
            for row in ours
        ]
        machines |= {row["id"] for row, found in zip(ours, verdicts.letter(seen, 5), strict=True) if found}
    for address in addresses[:2]:
        ours = [row for row in rows if row["address"] == address]
        found = verdicts.crowd([Visit(row["at"], row["subscriber_id"]) for row in ours])
        machines |= {row["id"] for row, crowded in zip(ours, found, strict=True) if crowded}
    for row in rows:
        early = row["at"] < sent_at + verdicts.EARLY
        expected = "machine" if row["id"] in machines or row["reason"] == "scanner" else "unknown" if early else "human"
        assert row["verdict"] == expected
    assert await counted(db, campaign_id) == await recounted(db, campaign_id)
    people = await db.fetch("SELECT subscriber_id, at, clicked_at FROM engaged")
    known = {row["subscriber_id"]: (row["at"], row["clicked_at"]) for row in people}
    for reader in {row["subscriber_id"] for row in rows}:
        clicked = [row["at"] for row in rows if row["subscriber_id"] == reader and row["verdict"] == "human"]
        assert known.get(reader, (None, None)) == (max(clicked, default=None),) * 2
