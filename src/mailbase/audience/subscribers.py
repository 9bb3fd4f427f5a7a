"""Subscribers: a person's address and what they told us.

::

    pending ──confirms──▶ active ◀──PATCH──▶ archived
       └───────┬────────────┴────────────────┘
               ├──▶ unsubscribed     (own wish or the owner's)
               ├──▶ bounced          (refused for good)
               └──▶ complained       (reported as spam; wins over the other two)

Nothing here leads back from the three at the bottom: only the person's own double opt-in does (``optin``).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from mailbase.audience import consents, suppressions, timeline
from mailbase.audience.addresses import Address
from mailbase.db import Connection
from mailbase.errors import Conflict, NotFound

Status = Literal["pending", "active", "unsubscribed", "bounced", "complained", "archived"]
LEFT = frozenset({"unsubscribed", "bounced", "complained"})


class Subscriber(msgspec.Struct, kw_only=True):
    """A subscriber as the API shows it; ``interests`` are slugs."""

    id: int
    email: str
    status: str
    attributes: dict[str, Any]
    tags: list[str]
    interests: list[str]
    locale: str | None
    timezone: str | None
    source: str | None
    created_at: datetime
    confirmed_at: datetime | None
    unsubscribed_at: datetime | None
    engaged_at: datetime | None


class Details(msgspec.Struct, kw_only=True):
    """What is known of a person beside the address; a None is not given, and changes nothing."""

    attributes: Mapping[str, Any] | None = None
    tags: Sequence[str] | None = None
    interests: Sequence[int] | None = None
    """Ids, see ``interests.resolve``."""
    locale: str | None = None
    timezone: str | None = None


GET = """
SELECT id, email, status, attributes, tags,
       ARRAY(SELECT slug FROM interests WHERE interests.id = ANY (subscribers.interests) ORDER BY slug) AS interests,
       locale, timezone, source, created_at, confirmed_at, unsubscribed_at,
       (SELECT at FROM engaged WHERE subscriber_id = subscribers.id) AS engaged_at
  FROM subscribers WHERE id = $1
"""


async def get(db: Connection, subscriber_id: int) -> Subscriber:
    """Return one person.

    Raises:
        NotFound: there is none of this id.

    """
    row = await db.fetchrow(GET, subscriber_id)
    if row is None:
        raise NotFound("There is no such subscriber.")
    return Subscriber(**row)


FIND = """
SELECT id, status FROM subscribers WHERE email_key = $1
"""


async def by_key(db: Connection, key: str) -> Subscriber:
    """Return the person of an address's key.

    Raises:
        NotFound: nobody has this address.

    """
    row = await db.fetchrow(FIND, key)
    if row is None:
        raise NotFound("There is no subscriber with this address.")
    return await get(db, row["id"])


PAGE = """
SELECT id, email, status, attributes, tags,
       ARRAY(SELECT slug FROM interests WHERE interests.id = ANY (subscribers.interests) ORDER BY slug) AS interests,
       locale, timezone, source, created_at, confirmed_at, unsubscribed_at,
       (SELECT at FROM engaged WHERE subscriber_id = subscribers.id) AS engaged_at
  FROM subscribers
 WHERE ($1::bigint IS NULL OR id < $1)
   AND ($3::text IS NULL OR status = $3)
   AND ($4::text[] IS NULL OR tags @> $4)
   AND ($5::bigint[] IS NULL OR interests @> $5)
   AND ($6::text IS NULL OR email_key LIKE $6)
 ORDER BY id DESC LIMIT $2
"""

COUNT = """
SELECT count(*) FROM subscribers
 WHERE ($1::text IS NULL OR status = $1)
   AND ($2::text[] IS NULL OR tags @> $2)
   AND ($3::bigint[] IS NULL OR interests @> $3)
   AND ($4::text IS NULL OR email_key LIKE $4)
"""


class Filter(msgspec.Struct, kw_only=True):
    """Which subscribers; every part that is given must hold."""

    status: str | None = None
    tag: str | None = None
    interest: int | None = None
    email_prefix: str | None = None

    def arguments(self) -> tuple[str | None, list[str] | None, list[int] | None, str | None]:
        """Return the parts as the queries of this module take them."""
        return (
            self.status,
            None if self.tag is None else [self.tag],
            None if self.interest is None else [self.interest],
            None if self.email_prefix is None else starts_with(self.email_prefix),
        )


def starts_with(prefix: str) -> str:
    """Return the LIKE pattern of a key that starts so."""
    return prefix.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


async def page(db: Connection, which: Filter, *, limit: int, before: int | None = None) -> list[Subscriber]:
    """Return people, newest first."""
    return [Subscriber(**row) for row in await db.fetch(PAGE, before, limit, *which.arguments())]


async def count(db: Connection, which: Filter) -> int:
    """Return how many there are."""
    total: int = await db.fetchval(COUNT, *which.arguments())
    return total


CREATE = """
WITH made AS (
    INSERT INTO subscribers (email, email_key, domain, status, attributes, tags, interests, locale, timezone, source, confirmed_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL)
    ON CONFLICT (email_key) DO NOTHING
    RETURNING id
), noted AS (
    INSERT INTO subscriber_events (subscriber_id, kind, data) SELECT id, 'created', jsonb_build_object('source', $10::text) FROM made
)
SELECT id FROM made
"""


async def create(
    db: Connection, address: Address, details: Details, *, status: Literal["pending", "active"], source: str
) -> int | None:
    """Add a person and return the id; None: the address has a row already (which is now visible to this transaction)."""
    made: int | None = await db.fetchval(
        CREATE, address.email, address.key, address.domain, status, dict(details.attributes or {}), unique(details.tags or ()),
        sorted(set(details.interests or ())), details.locale, details.timezone, source,
    )  # fmt: skip
    return made


LOCK = """
SELECT id, status FROM subscribers WHERE email_key = $1 FOR UPDATE
"""


async def lock(db: Connection, key: str) -> tuple[int, str] | None:
    """Return id and status of the person of this key and hold the row until the transaction ends."""
    row = await db.fetchrow(LOCK, key)
    return (row["id"], row["status"]) if row else None


MERGE = """
UPDATE subscribers
   SET attributes = attributes || coalesce($2, '{}'::jsonb),
       tags = ARRAY(SELECT DISTINCT tag FROM unnest(tags || coalesce($3, '{}'::text[])) AS tag ORDER BY tag),
       interests = ARRAY(SELECT DISTINCT i FROM unnest(interests || coalesce($4, '{}'::bigint[])) AS i ORDER BY i),
       locale = coalesce($5, locale), timezone = coalesce($6, timezone), updated_at = now()
 WHERE id = $1
RETURNING attributes, cardinality(tags) AS tags
"""

REPLACE = """
UPDATE subscribers
   SET attributes = coalesce($2, '{}'::jsonb), tags = coalesce($3, '{}'::text[]), interests = coalesce($4, '{}'::bigint[]), locale = $5, timezone = $6, updated_at = now()
 WHERE id = $1
RETURNING attributes, cardinality(tags) AS tags
"""

PATCH = """
UPDATE subscribers
   SET attributes = CASE WHEN $2::jsonb IS NULL THEN attributes ELSE (attributes || $2) - $7::text[] END,
       tags = coalesce($3, tags), interests = coalesce($4, interests),
       locale = CASE WHEN 'locale' = ANY ($8::text[]) THEN $5 ELSE locale END,
       timezone = CASE WHEN 'timezone' = ANY ($8::text[]) THEN $6 ELSE timezone END,
       updated_at = now()
 WHERE id = $1
RETURNING attributes, cardinality(tags) AS tags
"""


def _arguments(details: Details) -> tuple[Any, ...]:
    return (
        None if details.attributes is None else dict(details.attributes),
        None if details.tags is None else unique(details.tags),
        None if details.interests is None else sorted(set(details.interests)),
        details.locale,
        details.timezone,
    )


async def merge(db: Connection, subscriber_id: int, details: Details) -> tuple[dict[str, Any], int]:
    """Add what is given to what is there; return the attributes and the number of tags for the limits to be looked at."""
    row = await db.fetchrow(MERGE, subscriber_id, *_arguments(details))
    return (row["attributes"], row["tags"]) if row else ({}, 0)


async def replace(db: Connection, subscriber_id: int, details: Details) -> None:
    """Put what is given in the place of what was there."""
    await db.execute(REPLACE, subscriber_id, *_arguments(details))


async def patch(
    db: Connection, subscriber_id: int, details: Details, *, clear: Sequence[str] = ()
) -> tuple[dict[str, Any], int]:
    """Change what is given: attributes key by key (one set to null goes), lists as a whole; ``clear`` names locale or timezone to set anyway.

    Raises:
        NotFound: there is none of this id.

    """
    gone = [name for name, value in (details.attributes or {}).items() if value is None]
    row = await db.fetchrow(PATCH, subscriber_id, *_arguments(details), gone, list(clear))
    if row is None:
        raise NotFound("There is no such subscriber.")
    return row["attributes"], row["tags"]


SET_STATUS = """
UPDATE subscribers SET status = $2, updated_at = now() WHERE id = $1 AND status = ANY ($3::text[]) RETURNING id
"""


async def activate(db: Connection, subscriber_id: int) -> bool:
    """Make a pending person active, on the consent the caller records; False: the person was not pending."""
    return await db.fetchval(SET_STATUS, subscriber_id, "active", ["pending"]) is not None


async def set_status(db: Connection, subscriber_id: int, status: str) -> None:
    """Set the status as the owner may: ``active`` ↔ ``archived``, and ``unsubscribed`` on the person's behalf.

    Raises:
        NotFound: there is none of this id.
        Conflict: ``status_not_allowed``, every other step.

    """
    current = (await get(db, subscriber_id)).status
    if current == status:
        return
    if status == "unsubscribed" and current not in LEFT:
        await unsubscribe(db, subscriber_id, source="api")
    elif status == "archived" and await db.fetchval(SET_STATUS, subscriber_id, "archived", ["active"]):
        await timeline.note(db, subscriber_id, "archived")
    elif status == "active" and await db.fetchval(SET_STATUS, subscriber_id, "active", ["archived"]):
        await timeline.note(db, subscriber_id, "unarchived")
    else:
        raise Conflict(f"A subscriber who is {current} cannot be made {status}.", code="status_not_allowed")


UNSUBSCRIBE = """
UPDATE subscribers SET status = 'unsubscribed', unsubscribed_at = now(), updated_at = now()
 WHERE id = $1 AND status IN ('pending', 'active', 'archived') RETURNING id
"""


async def unsubscribe(
    db: Connection, subscriber_id: int, *, campaign_id: int | None = None, delivery_id: int | None = None, source: str
) -> bool:
    """Let a person leave everything; True if that changed something. Consents are withdrawn in the ledger."""
    if await db.fetchval(UNSUBSCRIBE, subscriber_id) is None:
        return False
    await timeline.note(
        db, subscriber_id, "unsubscribed", campaign_id=campaign_id, delivery_id=delivery_id, data={"source": source}
    )
    await consents.withdraw(db, subscriber_id, source=source)
    return True


KEY = """
SELECT email_key FROM subscribers WHERE id = $1 FOR UPDATE
"""


async def mark_bounced(
    db: Connection,
    subscriber_id: int,
    *,
    delivery_id: int | None = None,
    campaign_id: int | None = None,
    reason: Literal["hard_bounce", "soft_bounces"] = "hard_bounce",
) -> bool:
    """Note that nothing reaches the address and suppress it; True if that was news. Who left or complained stays so."""
    key = await db.fetchval(KEY, subscriber_id)
    if key is None:
        return False
    changed = await db.fetchval(SET_STATUS, subscriber_id, "bounced", ["pending", "active", "archived"])
    added = await suppressions.add(db, "email", key, reason=reason)
    if changed is None and added is None:
        return False
    await timeline.note(db, subscriber_id, "bounced", campaign_id=campaign_id, delivery_id=delivery_id)
    return True


COMPLAINED = """
UPDATE subscribers SET status = 'complained', unsubscribed_at = coalesce(unsubscribed_at, now()), updated_at = now()
 WHERE id = $1 AND status <> 'complained' RETURNING email_key
"""


async def mark_complained(
    db: Connection, subscriber_id: int, *, delivery_id: int | None = None, campaign_id: int | None = None
) -> bool:
    """Note that the person reported a letter as spam and suppress the address; True if that was news."""
    key = await db.fetchval(COMPLAINED, subscriber_id)
    if key is None:
        return False
    await suppressions.add(db, "email", key, reason="complaint")
    await timeline.note(db, subscriber_id, "complained", campaign_id=campaign_id, delivery_id=delivery_id)
    await consents.withdraw(db, subscriber_id, source="complaint")
    return True


def unique(tags: Sequence[str]) -> list[str]:
    """Return the tags once each, in order."""
    return sorted(set(tags))
