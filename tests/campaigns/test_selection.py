"""Whom a campaign is for: the SQL against the sentence of the contract, spelled out in Python."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mailbase.audience import selection
from mailbase.audience.selection import Audience, Exclude, Part, Rule
from mailbase.errors import Invalid

TAGS = ["vip", "press", "new"]
INTERESTS = [1, 2, 3]
NOW = datetime.now(UTC) + timedelta(days=1)

person = st.fixed_dictionaries(
    {
        "status": st.sampled_from(
            ["active", "active", "active", "pending", "unsubscribed", "bounced", "complained", "archived"]
        ),
        "tags": st.lists(st.sampled_from(TAGS), unique=True),
        "interests": st.lists(st.sampled_from(INTERESTS), unique=True),
        "paused": st.sampled_from([None, None, -1, 1]),
    }
)
part = st.builds(
    Part,
    all=st.booleans(),
    interests=st.none() | st.lists(st.sampled_from(INTERESTS), max_size=2),
    tags=st.none() | st.lists(st.sampled_from(TAGS), max_size=2),
)
rule = st.builds(
    lambda who, out, everyone: Rule(
        all=who.all,
        interests=who.interests,
        tags=who.tags,
        exclude=Part(all=everyone, interests=out.interests, tags=out.tags),
    ),
    part,
    part,
    st.sampled_from([False] * 9 + [True]),
)


def wanted(one, rule):
    """The contract's sentence: any of a list, AND between keys; any match of ``exclude`` excludes; only active."""
    shared = {key: lambda names, key=key: bool(set(one[key]) & set(names)) for key in ("interests", "tags")}
    if one["status"] != "active" or one["paused"] == 1:
        return False
    keys = [("interests", rule.interests), ("tags", rule.tags)]
    if not rule.all and all(names is None for _, names in keys):
        return False
    if any(names is not None and not shared[key](names) for key, names in keys):
        return False
    out = rule.exclude
    return not (
        out.all
        or any(
            shared[key](names) for key, names in (("interests", out.interests), ("tags", out.tags)) if names is not None
        )
    )


@examples(max_examples=80)
@given(st.lists(person, max_size=12), rule)
async def test_the_sql_selects_whom_the_contract_says(db, crowd, rule):
    """Count and slices agree with the contract, for any people and any rule."""
    await db.execute("TRUNCATE subscribers CASCADE")
    expected = []
    for number, one in enumerate(crowd):
        paused = None if one["paused"] is None else NOW + timedelta(hours=one["paused"])
        who = await db.fetchval(
            "INSERT INTO subscribers (email, email_key, domain, status, tags, interests, paused_until) VALUES ($1, $1, 'example.org', $2, $3, $4, $5) RETURNING id",
            f"p{number}@example.org",
            one["status"],
            one["tags"],
            one["interests"],
            paused,
        )
        if wanted(one, rule):
            expected.append(who)
    assert await selection.count(db, rule, at=NOW) == len(expected)
    found, after = [], 0
    while ids := await selection.slice_of(db, rule, at=NOW, after=after, upper=2**62, limit=3):
        assert len(ids) <= 3
        found += ids
        after = ids[-1]
    assert found == expected


async def test_who_joins_after_the_moment_is_not_in_it(db, people):
    """An audience as of a moment leaves out people who came or confirmed later, and ids beyond its end."""
    early, confirmed_later, beyond = await people(3)
    at = await db.fetchval("SELECT now()")
    await db.execute(
        "UPDATE subscribers SET confirmed_at = $2 WHERE id = $1", confirmed_later, at + timedelta(seconds=5)
    )
    await db.execute(
        "INSERT INTO subscribers (email, email_key, domain, status, created_at) VALUES ('x', 'x', 'x', 'active', $1)",
        at + timedelta(seconds=5),
    )
    assert await selection.slice_of(db, Rule(all=True), at=at, after=0, upper=confirmed_later, limit=10) == [early]
    assert await selection.slice_of(db, Rule(all=True), at=at, after=0, upper=2**62, limit=10) == [early, beyond]


async def test_a_rule_survives_renaming_and_deleting_interests(db, people):
    """Interests are kept by id: a renamed slug is shown by its new name, a deleted one matches nobody rather than everybody."""
    news = await db.fetchval("INSERT INTO interests (slug, name) VALUES ('news', 'News') RETURNING id")
    await people(2, interests=[news])
    rule = await selection.rule_of(db, Audience(interests=["news"], exclude=Exclude(tags=["press"])))
    assert selection.load(selection.dump(rule)) == rule
    await db.execute("UPDATE interests SET slug = 'letters'")
    assert await selection.shown(db, [rule]) == [Audience(interests=["letters"], exclude=Exclude(tags=["press"]))]
    assert await selection.count(db, rule, at=NOW) == 2
    await db.execute("DELETE FROM interests")
    await db.execute("UPDATE subscribers SET interests = '{}'")
    assert await selection.shown(db, [rule]) == [Audience(interests=[], exclude=Exclude(tags=["press"]))]
    assert await selection.count(db, rule, at=NOW) == 0


async def test_every_unknown_interest_is_named(db):
    """An interest that does not exist is refused, in both halves of the rule."""
    with pytest.raises(Invalid) as refused:
        await selection.rule_of(db, Audience(interests=["a"], exclude=Exclude(interests=["b"])))
    assert [(error.field, error.code) for error in refused.value.errors] == [
        ("audience.interests", "unknown_interest"),
        ("audience.exclude.interests", "unknown_interest"),
    ]
