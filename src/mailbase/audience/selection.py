"""Whom a campaign is for: a rule over subscribers, as static SQL with nullable arrays.

Any of a list, AND between keys; any match of ``exclude`` excludes; only the active, and neither those who paused their letters nor
those who asked for fewer (weekly or monthly at most) and had one of a campaign lately, or have one on its way.
A rule that names nobody (``all`` false, no lists) is for nobody: writing to everyone has to be said. Interests are kept
by id, so that a renamed slug changes nothing and a deleted one matches nobody.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, convert, to_builtins

from mailbase.db import Connection
from mailbase.errors import FieldError, Invalid

Words = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=200)]


class Exclude(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who is left out: whoever matches any key."""

    all: bool = False
    interests: Words | None = None
    tags: Words | None = None


class Audience(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The rule as the contract writes it: interests by slug."""

    all: bool = False
    interests: Annotated[Words, Meta(examples=[["bread"]])] | None = None
    tags: Words | None = None
    exclude: Exclude | None = None


class Part(Struct, frozen=True, omit_defaults=True):
    """One half of a stored rule: interests by id."""

    all: bool = False
    interests: list[int] | None = None
    tags: list[str] | None = None


class Rule(Part, frozen=True, omit_defaults=True):
    """The rule as it is stored."""

    exclude: Part = Part()


SLUGS = """
SELECT id, slug FROM interests WHERE slug = ANY($1::text[])
"""


async def rule_of(db: Connection, audience: Audience) -> Rule:
    """Return the rule to store.

    Raises:
        Invalid: ``unknown_interest`` for each list that names one that does not exist.

    """
    exclude = audience.exclude or Exclude()
    named = [*(audience.interests or ()), *(exclude.interests or ())]
    ids: dict[str, int] = {row["slug"]: row["id"] for row in await db.fetch(SLUGS, named)} if named else {}
    errors = [
        FieldError(field, "unknown_interest", f"There is no interest {slug!r}.")
        for field, slugs in (
            ("audience.interests", audience.interests),
            ("audience.exclude.interests", exclude.interests),
        )
        for slug in slugs or ()
        if slug not in ids
    ]
    if errors:
        raise Invalid(code="unknown_interest", errors=errors)

    def by_id(slugs: Sequence[str] | None) -> list[int] | None:
        return None if slugs is None else [ids[slug] for slug in slugs]

    out = Part(all=exclude.all, interests=by_id(exclude.interests), tags=exclude.tags)
    return Rule(all=audience.all, interests=by_id(audience.interests), tags=audience.tags, exclude=out)


NAMES = """
SELECT id, slug FROM interests WHERE id = ANY($1::bigint[])
"""


async def shown(db: Connection, rules: Sequence[Rule]) -> list[Audience]:
    """Return stored rules as the contract writes them; interests that were deleted since are no longer named."""
    ids = {interest for rule in rules for part in (rule, rule.exclude) for interest in part.interests or ()}
    slugs: dict[int, str] = {row["id"]: row["slug"] for row in await db.fetch(NAMES, ids)} if ids else {}

    def by_slug(interests: list[int] | None) -> list[str] | None:
        return None if interests is None else [slugs[interest] for interest in interests if interest in slugs]

    def out(part: Part) -> Exclude | None:
        return None if part == Part() else Exclude(part.all, by_slug(part.interests), part.tags)

    return [Audience(rule.all, by_slug(rule.interests), rule.tags, out(rule.exclude)) for rule in rules]


def load(stored: Any) -> Rule:
    """Read a rule from its column."""
    return convert(stored, Rule)


def dump(rule: Rule) -> Any:
    """Write a rule for its column."""
    return to_builtins(rule)


_ANYBODY: Final = """
WHERE s.status = 'active'
    AND (s.paused_until IS NULL OR s.paused_until <= $7)
    AND s.created_at <= $7 AND (s.confirmed_at IS NULL OR s.confirmed_at <= $7)
    AND ($1::boolean OR $2::bigint[] IS NOT NULL OR $3::text[] IS NOT NULL)
    AND ($2::bigint[] IS NULL OR s.interests && $2)
    AND ($3::text[] IS NULL OR s.tags && $3)
    AND NOT ($4::boolean OR s.interests && COALESCE($5::bigint[], '{}') OR s.tags && COALESCE($6::text[], '{}'))
"""
_LATELY: Final = """
        SELECT FROM deliveries AS earlier
        WHERE earlier.subscriber_id = s.id AND earlier.campaign_id = ANY (ARRAY(
            SELECT id FROM campaigns WHERE status <> 'draft' AND (finished_at IS NULL OR finished_at > $7 - interval '28 days'))
        ) AND (
            earlier.state::text IN ('sent', 'unknown') AND COALESCE(earlier.sent_at, earlier.due_at) > $7
                - CASE s.frequency WHEN 'weekly' THEN interval '6 days 12 hours' ELSE interval '27 days' END
            OR earlier.state::text IN ('queued', 'deferred')
                AND earlier.campaign_id = ANY (ARRAY(SELECT id FROM campaigns WHERE status = 'sending')))
"""
WHO: Final = f"{_ANYBODY} AND (s.frequency = 'all' OR NOT EXISTS ({_LATELY}))"
"""$1–$3 who, $4–$6 who not, $7 as of when: whoever joined later is not in it.

A week is six days and a half, a month 27 days: a newsletter that goes out each Thursday reaches everybody on weekly each Thursday,
whatever the hour the last one arrived at. Only campaigns of the last weeks are looked at, so a long past costs nothing. A paused campaign's letters hold nobody back; the mark looks once more when they go on.
"""


def _arguments(rule: Rule, at: datetime) -> tuple[Any, ...]:
    out = rule.exclude
    return rule.all, rule.interests, rule.tags, out.all, out.interests, out.tags, at


# All at once: those who asked for fewer stand by themselves, so that their letters of the last weeks may be read once, not person by person.
_EVERYBODY: Final = f"""(
    SELECT s.domain FROM subscribers AS s {_ANYBODY} AND s.frequency = 'all'
    UNION ALL
    SELECT s.domain FROM subscribers AS s {_ANYBODY} AND s.frequency <> 'all' AND NOT EXISTS ({_LATELY})
) AS who"""  # noqa: S608  (constants)

COUNT: Final = "SELECT count(*) FROM " + _EVERYBODY  # noqa: S608  (two constants)


async def count(db: Connection, rule: Rule, *, at: datetime) -> int:
    """Return how many people the rule is for."""
    number: int = await db.fetchval(COUNT, *_arguments(rule, at))
    return number


BY_PROVIDER: Final = (
    "SELECT COALESCE(r.provider, 'other') AS provider, sum(who.n)::bigint AS count"  # noqa: S608  (constants)
    f" FROM (SELECT domain, count(*) AS n FROM {_EVERYBODY} GROUP BY 1) AS who LEFT JOIN recipient_domains AS r ON r.domain = who.domain GROUP BY 1"
)


async def count_by_provider(db: Connection, rule: Rule, *, at: datetime) -> dict[str, int]:
    """Return how many people the rule is for, by the mailbox provider of their address."""
    return {row["provider"]: row["count"] for row in await db.fetch(BY_PROVIDER, *_arguments(rule, at))}


UPPER: Final = "SELECT COALESCE(max(id), 0) FROM subscribers"


async def upper(db: Connection) -> int:
    """Return the last subscriber's id: the end of an audience that is frozen now."""
    last: int = await db.fetchval(UPPER)
    return last


SLICE: Final = "SELECT s.id FROM subscribers AS s" + WHO + "AND s.id > $8 AND s.id <= $9 ORDER BY s.id LIMIT $10"  # noqa: S608  (two constants)


async def slice_of(db: Connection, rule: Rule, *, at: datetime, after: int, upper: int, limit: int) -> list[int]:
    """Return the next ids of the audience, ascending, above ``after`` and up to ``upper``."""
    return [row["id"] for row in await db.fetch(SLICE, *_arguments(rule, at), after, upper, limit)]


CHOOSY: Final = """
SELECT pg_advisory_xact_lock(7236524) FROM (SELECT FROM subscribers WHERE frequency <> 'all' AND id > $1 AND id <= $2 LIMIT 1) AS anybody
"""


async def take_turns(db: Connection, *, after: int, upper: int) -> None:
    """Wait for the slices of other campaigns where anybody asked for fewer letters, until this transaction ends.

    Two slices at once would not see each other's letters, and each give the same person one. To be called before ``slice_of``.
    """
    await db.execute(CHOOSY, after, upper)
