"""Source events: what providers reported, each kept once, and applied when it means something.

    waiting ── applied to letter and person ──▶ applied | unchanged (it was known)
    kept    means nothing to us: an open, a click, a word we do not know

A request's events are stored in one transaction, all or none; then each is applied in one of its own, because two in one would lock
letters and people in the wrong order. Providers wait three seconds at most: what takes longer goes on after the answer, and what
a crash leaves waiting is taken up by a timer.
"""

import asyncio
import hashlib
import logging
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec
from msgspec import Struct

from mailbase.audience import addresses
from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.sending.deliveries import counters
from mailbase.signals import feedback
from mailbase.signals.feedback import Feedback
from mailbase.signals.providers_in.event import Event, Reading, own_ids, refuse

logger = logging.getLogger(__name__)

LONGEST: Final = 64 * 1024
"""Characters of an event that are kept."""
LONGEST_KIND: Final = 100
LEFT_OVER: Final = 50
PATIENCE: Final = 2.0
IDLE: Final = frozenset({"deferred", "not_spam"})


class Stored(Struct, kw_only=True):
    """An event as an owner reads it. ``raw``: as it came, unless it was too long or its person was erased."""

    id: int
    kind: str
    state: str
    email: str | None
    delivery_id: int | None
    at: datetime | None
    received_at: datetime
    raw: Any


class Taken(Struct):
    """What became of a request: events in it, those that were new, and the new ones that wait to be applied."""

    events: int
    new: int
    waiting: list[int]


REMEMBER = """
INSERT INTO signal_tokens (source_id, token, body) VALUES ($1, $2, $3) ON CONFLICT (source_id, token) DO NOTHING
"""

BODY_OF = """
SELECT body FROM signal_tokens WHERE source_id = $1 AND token = $2
"""


async def _claim_token(db: Connection, source_id: int, token: str, body: bytes) -> None:
    name, digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest(), hashlib.sha256(body).digest()
    await db.execute(REMEMBER, source_id, name, digest)
    if await db.fetchval(BODY_OF, source_id, name) != digest:
        raise refuse()


LETTERS = """
SELECT delivery.id, (extract(epoch FROM delivery.created_at) * 1000000)::bigint AS made, delivery.state::text
FROM deliveries AS delivery WHERE delivery.id = ANY($1::bigint[])
"""


async def _find_letters(db: Connection, events: list[Event]) -> dict[tuple[int, int], str]:
    """Return the states of the letters whose Message-IDs the events name; the moment of making must agree, too."""
    wanted = {pair for event in events for pair in own_ids(event.refs)}
    if not wanted:
        return {}
    rows = await db.fetch(LETTERS, sorted({number for number, _ in wanted}))
    return {(row["id"], row["made"]): row["state"] for row in rows if (row["id"], row["made"]) in wanted}


STORE = """
INSERT INTO signal_events (source_id, digest, kind, email, email_key, delivery_id, state, feedback, at, raw)
SELECT $1, digest, kind, email, email_key, delivery_id, state, feedback, at, raw
FROM unnest($2::bytea[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[], $9::timestamptz[], $10::text[])
     AS event (digest, kind, email, email_key, delivery_id, state, feedback, at, raw)
ON CONFLICT (source_id, digest) DO NOTHING
RETURNING id, state
"""


async def store(db: Connection, source_id: int, reading: Reading, body: bytes) -> Taken:
    """Keep a request's events in the caller's transaction; those that are known already are left out.

    Raises:
        Unauthorized: the request's token came with another body before.

    """
    if reading.token is not None:
        await _claim_token(db, source_id, reading.token, body)
    letters = await _find_letters(db, reading.events)
    # In one order for everybody: two requests with the same events wait for each other once, not in a circle.
    rows = sorted({row[0]: row for row in (_row(event, letters) for event in reading.events)}.values())
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(9)]
    stored = await db.fetch(STORE, source_id, *columns)
    return Taken(len(reading.events), len(stored), sorted(row["id"] for row in stored if row["state"] == "waiting"))


def _row(event: Event, letters: dict[tuple[int, int], str]) -> tuple[Any, ...]:
    found = next((pair for pair in own_ids(event.refs) if pair in letters), None)
    report = event.feedback
    if report is not None and found is not None:
        report = msgspec.structs.replace(report, delivery_id=found[0])
    # A success says something of the one letter it names, and only where that one is in doubt.
    idle = report is None or report.kind in IDLE
    idle = idle or (report is not None and report.kind == "delivered" and (not found or letters[found] != "unknown"))
    address = addresses.read(event.email) if event.email else None
    key = address.key if isinstance(address, addresses.Address) else event.email.lower() if event.email else None
    return (
        hashlib.sha256(event.key.encode("utf-8", "surrogatepass")).digest(),
        event.kind.replace("\0", "")[:LONGEST_KIND] or "unknown",
        event.email,
        key,
        found[0] if found else None,
        "kept" if idle else "waiting",
        None if idle else msgspec.to_builtins(report),
        event.at,
        _raw(event.raw),
    )


def _raw(raw: Any) -> str:
    text = msgspec.json.encode(raw).decode()
    return text if len(text) <= LONGEST else msgspec.json.encode({"cut": text[:LONGEST]}).decode()


CLAIM = """
UPDATE signal_events SET state = 'unchanged', feedback = NULL FROM (
    SELECT id, feedback FROM signal_events WHERE id = $1 AND state = 'waiting' FOR UPDATE SKIP LOCKED
) AS claimed WHERE signal_events.id = claimed.id RETURNING claimed.feedback
"""

APPLIED = """
UPDATE signal_events SET state = 'applied' WHERE id = $1
"""


async def apply(db: Connection, event_id: int, *, now: datetime | None = None) -> bool:
    """Apply one waiting event in the caller's transaction, which applies no other; True if it changed something."""
    report = await db.fetchval(CLAIM, event_id)
    if report is None:
        return False
    changed = await feedback.apply(db, msgspec.convert(report, Feedback), slot=counters.own_slot(), now=now)
    if changed:
        await db.execute(APPLIED, event_id)
    return changed


_going_on: set[asyncio.Task[None]] = set()
"""What is applied after its request was answered; the event loop itself holds tasks weakly."""


async def take(
    pool: Pool,
    source_id: int,
    reading: Reading,
    body: bytes,
    *,
    now: datetime | None = None,
    patience: float = PATIENCE,
) -> Taken:
    """Store a verified request's events, then apply those that mean something, as long as ``patience`` (seconds) lasts.

    Raises:
        Unauthorized: the request's token came with another body before.

    """
    async with pool.acquire() as db, db.transaction():
        taken = await store(db, source_id, reading, body)
    if taken.waiting:
        task = asyncio.create_task(_apply_all(pool, taken.waiting, now))
        _going_on.add(task)
        task.add_done_callback(_going_on.discard)
        await asyncio.wait({task}, timeout=patience)
    return taken


async def _apply_all(pool: Pool, event_ids: list[int], now: datetime | None) -> None:
    for event_id in event_ids:
        try:
            async with pool.acquire() as db, db.transaction():
                await apply(db, event_id, now=now)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError, TimeoutError) as error:
            logger.warning("event %d waits: %s", event_id, error)


WAITING = """
SELECT id FROM signal_events WHERE state = 'waiting' AND received_at < now() - interval '1 minute' ORDER BY id LIMIT $1
"""

GIVE_UP = """
UPDATE signal_events SET state = 'unchanged', feedback = NULL WHERE id = $1 AND state = 'waiting'
"""


async def catch_up(db: Connection) -> int:
    """Apply a few of the events that were stored and not applied; return how many there were."""
    left = [row["id"] for row in await db.fetch(WAITING, LEFT_OVER)]
    for event_id in left:
        try:
            async with db.transaction():
                await apply(db, event_id)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            # It would fail for ever, and in front of all the others.
            logger.warning("event %d cannot be applied: %s", event_id, error)
            await db.execute(GIVE_UP, event_id)
    return len(left)


FORGET = """
DELETE FROM signal_events WHERE id IN (SELECT id FROM signal_events WHERE received_at < now() - interval '30 days' ORDER BY received_at LIMIT 50000)
"""

FORGET_USED = """
DELETE FROM signal_tokens WHERE at < now() - interval '2 days'
"""


async def forget_old(db: Connection) -> None:
    """Forget events after thirty days, and tokens once their timestamps are not believed any more."""
    await db.execute(FORGET)
    await db.execute(FORGET_USED)


PAGE = """
SELECT id, kind, state, email, delivery_id, at, received_at, raw FROM signal_events
WHERE source_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3
"""


async def page(db: Connection, source_id: int, *, before: int, limit: int) -> list[Stored]:
    """Return a source's events with smaller ids, newest first."""
    rows = await db.fetch(PAGE, source_id, before, limit)
    return [Stored(**{**dict(row), "raw": msgspec.json.decode(row["raw"])}) for row in rows]


COUNT = """
SELECT count(*) FROM signal_events WHERE source_id = $1
"""


async def count(db: Connection, source_id: int) -> int:
    """Return how many there are."""
    total: int = await db.fetchval(COUNT, source_id)
    return total
