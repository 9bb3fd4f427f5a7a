"""The record: what became of letters that were handed over, in batches, once for each, with everything that follows from it.

``sent`` · ``bounced`` (and the bounce; a hard one, or soft ones of five days, also end the subscriber) · ``deferred`` until its next attempt
(and that is also what a refusal for good makes of it when a rule on replies, or a relay, says that it was about us, up to the two days) ·
``failed`` after the last · back to ``queued`` when the refusal was ours, or of our sender · ``unknown`` when nobody can tell, unless its campaign (or
a message) promises *at least once*: that goes out again, up to three times.

Only while the lease holds. An answer that arrives after it was ended still counts, as long as no other lease was lost with the
letter since. Locks are taken in this order: counts of replies, domains, claims, deliveries, allowances, subscribers, counters.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random
from typing import Final

from msgspec import Struct

from mailbase.audience import subscribers, suppressions
from mailbase.db import Connection
from mailbase.sending.deliveries import counters, refusals, retries, soft_bounces
from mailbase.sending.deliveries.deliveries import State, moved
from mailbase.sending.deliveries.refusals import FRESH, Standing
from mailbase.sending.outcomes import Outcome
from mailbase.sending.providers.reply_rules import Refusal
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import tally as warmup_tally
from mailbase.sending.warmup import turns
from mailbase.sending.warmup.rules import TOTAL
from mailbase.sending.warmup.tally import Result

LONGEST_REPLY: Final = 500
BEFORE_DATA: Final = frozenset({"connect", "greeting", "ehlo", "starttls", "auth", "mail", "rcpt"})
WAITING: Final = frozenset({"queued", "deferred"})
REFUSED: Final = frozenset({"deferred", "refused", "not_sent"})
FREE_DROPS: Final = 3
"""So often a connection may go once a letter's recipient was named, before that counts as a refusal for now: it may be the letter's doing."""


IN_DOUBT: Final[dict[str | None, str | None]] = {None: "no_reply", "no_reply": "no_reply_again", "no_reply_again": None}
"""Why a letter that must arrive waits after an answer that never came, by why it has waited so far; three times are enough."""


class Handed(Struct, gc=False):
    """A marked letter: what must be known of it when its outcome arrives."""

    id: int
    fence: int
    campaign_id: int | None
    domain_id: int | None
    subscriber_id: int | None
    provider: str
    email: str
    email_key: str | None
    """Of messages without a subscriber: what a hard bounce suppresses."""
    attempts: int
    """The mark's included."""
    bucket: datetime | None
    """Where a cap counted it."""
    failure: str | None = None
    """Why it could not be composed, where that is what happened."""
    egress: str = "relay"
    """The way out it was marked for."""
    cold: bool = False
    """Whether the cap counted it as one to a person of a cold tier."""
    settled: Callable[[], None] | None = None
    """To be called once its outcome is committed."""


class Fate(Struct):
    """What a letter becomes."""

    state: State
    reason: str | None = None
    wait: float | None = None
    """Seconds until it is due again."""
    burnt: bool = True
    """Whether the attempt counts."""
    refused: bool = False
    """Whether it was refused for now: what is refused for two days is given up."""
    counts: bool = True
    """Whether the warm-up counts the refusal (``Standing.counts``)."""


def fate(
    letter: Handed, outcome: Outcome, random: Random, standing: Standing = FRESH, *, again: str | None = None
) -> Fate:
    """Return what an outcome makes of a letter. ``again``: one in doubt goes out again, under the same Message-ID, and for this."""
    if letter.failure is not None:
        return Fate("failed", reason="content")
    if _ours(letter, outcome, standing):
        return Fate("queued", wait=0, burnt=False, refused=standing.verdict.stopped, counts=standing.counts)
    # What a relay will not pass on says nothing to anybody about our name.
    counts = standing.counts and not outcome.denied
    match outcome.kind:
        case "sent":
            return Fate("sent")
        case "refused" if (standing.verdict.rate or outcome.denied) and standing.since < retries.LIFETIME:
            pass
        case "refused" | "sender":
            return Fate("bounced", reason=outcome.reason or "uncategorized", counts=counts)
        case "unknown" if again is None:
            return Fate("unknown", reason="no_reply")
        case "not_sent" if outcome.free or outcome.phase in retries.BEFORE_RECIPIENT:
            return Fate("queued", wait=0 if outcome.free else 1, burnt=False)
        case "not_sent" if letter.attempts <= FREE_DROPS:
            return Fate("queued", wait=5)
    retry = retries.after(
        outcome, attempts=letter.attempts, since=standing.since, random=random, rate=standing.verdict.rate, held=standing.verdict.held
    )  # fmt: skip
    if retry.wait is None:
        return Fate("unknown", reason="no_reply") if outcome.kind == "unknown" else Fate("failed", reason="expired")
    # Without a word of theirs it only had to wait for its turn.
    refused = not outcome.free or outcome.code > 0
    return Fate(
        "deferred",
        reason=again if outcome.kind == "unknown" else None,
        wait=retry.wait.total_seconds(),
        burnt=retry.burnt,
        refused=refused,
        counts=counts,
    )


def _ours(letter: Handed, outcome: Outcome, standing: Standing) -> bool:
    """Tell a refusal of us, or of our domain, which is stopped for it: no letter is to blame, and none leaves until that is over."""
    of_domain = outcome.kind == "sender" or standing.verdict.stopped
    return outcome.kind == "relay" or (of_domain and letter.campaign_id is not None)


# `state::text` keeps the planner from the indexes of the queue: each of these is found by its id. What is late has no claim any more.
RECORD = """
UPDATE deliveries AS delivery SET
    state = outcome.state::delivery_state, reason = outcome.reason, bounce_class = outcome.class, last_reply = outcome.reply,
    due_at = CASE WHEN outcome.wait IS NULL THEN delivery.due_at ELSE COALESCE($9, now()) + make_interval(secs => outcome.wait) END,
    attempts = outcome.attempts, egress = $11,
    refused_since = CASE WHEN outcome.refused THEN COALESCE(delivery.refused_since, $9, now()) ELSE delivery.refused_since END,
    sent_at = CASE WHEN outcome.state = 'sent' THEN COALESCE($9, now()) END
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::smallint[], $10::boolean[])
    AS outcome (id, fence, state, reason, class, reply, wait, attempts, refused)
WHERE delivery.id = outcome.id AND delivery.state::text IN ('queued', 'deferred')
  AND ($12 OR EXISTS (SELECT FROM claims WHERE claims.fence = outcome.fence))
RETURNING delivery.id, old.state::text
"""

# The usual batch; the columns that say why not take a third of the time.
RECORD_SENT = """
UPDATE deliveries AS delivery SET
    state = 'sent', reason = NULL, bounce_class = NULL, last_reply = outcome.reply, sent_at = COALESCE($4, now()),
    attempts = outcome.attempts, egress = $6
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $5::smallint[]) AS outcome (id, fence, reply, attempts)
WHERE delivery.id = outcome.id AND delivery.state::text IN ('queued', 'deferred')
  AND EXISTS (SELECT FROM claims WHERE claims.fence = outcome.fence)
RETURNING delivery.id, old.state::text
"""

# What goes back to the queue is nobody's any more. Before the letters: that is the order of locks.
ASIDE = """
WITH held AS MATERIALIZED (
    SELECT fence FROM claims WHERE fence = ANY ($2::bigint[]) ORDER BY fence FOR UPDATE
)
UPDATE claims SET aside = aside || back.ids
FROM held, (SELECT fence, array_agg(id) AS ids FROM unnest($1::bigint[], $2::bigint[]) AS letter (id, fence) GROUP BY fence) AS back
WHERE claims.fence = held.fence AND back.fence = held.fence
"""

LATE = """
SELECT delivery.id, delivery.state::text, delivery.campaign_id
FROM unnest($1::bigint[], $2::bigint[]) AS letter (id, fence)
JOIN deliveries AS delivery ON delivery.id = letter.id AND delivery.fence = letter.fence
WHERE delivery.state::text IN ('unknown', 'queued')
  AND NOT EXISTS (SELECT FROM claims WHERE delivery.id = ANY (ids) AND delivery.id <> ALL (aside))
ORDER BY delivery.id
FOR UPDATE OF delivery
"""

# Open, and kept so until this transaction ends. One that somebody is closing just now is not waited for: that is the order of locks.
OPEN = """
SELECT id FROM campaigns WHERE id = ANY($1::bigint[]) AND finished_at IS NULL ORDER BY id FOR SHARE SKIP LOCKED
"""

AT_LEAST_ONCE = """
SELECT delivery.id, delivery.reason FROM deliveries AS delivery LEFT JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id
WHERE delivery.id = ANY($1::bigint[]) AND (campaign.id IS NULL OR campaign.on_crash = 'at_least_once')
"""

TO_OPEN = """
UPDATE deliveries SET state = 'queued' WHERE id = ANY($1::bigint[])
"""


async def record(
    db: Connection,
    results: Sequence[tuple[Handed, Outcome]],
    *,
    slot: int,
    random: Random,
    uncapped: Counter[tuple[int, str]] | None = None,
    now: datetime | None = None,
) -> int:
    """Write outcomes of one way out, at most one for each letter; commits by itself. Return how many were still ours to write.

    ``uncapped``: where to add what went out of a domain without caps, by (domain id, way out), once it is committed; the caller
    counts it with ``warmup_take.note``. Without it that is done here, and workers wait for one another at the same row.
    """
    in_doubt = [letter.id for letter, outcome in results if outcome.kind == "unknown"]
    async with db.transaction():
        doubted = await db.fetch(AT_LEAST_ONCE, in_doubt) if in_doubt else []
        again = {row["id"]: IN_DOUBT.get(row["reason"], IN_DOUBT[None]) for row in doubted}
        refused = {
            letter.id: Refusal(outcome.provider or letter.provider, letter.domain_id, outcome)
            for letter, outcome in results
            if (outcome.kind in REFUSED or again.get(letter.id)) and letter.failure is None
        }
        standings = await refusals.look(db, results[0][0].egress, refused, now=now) if refused else {}
        rows = {
            letter.id: (letter, outcome, fate(letter, outcome, random, standings.get(letter.id, FRESH), again=again.get(letter.id)))
            for letter, outcome in results
        }  # fmt: skip
        back = [letter for letter, _, end in rows.values() if end.state in WAITING]
        if back:
            await db.execute(ASIDE, [letter.id for letter in back], [letter.fence for letter in back])
        was = await _write(db, rows, now)
        missing = [(id, row[0].fence) for id, row in rows.items() if id not in was]
        if missing:
            late = await db.fetch(LATE, [id for id, _ in missing], [fence for _, fence in missing])
            before: dict[int, str] = {row["id"]: row["state"] for row in late}
            # What is in the queue already stays as it is; nothing comes back to the queue of a campaign that is over.
            again_of = {row["campaign_id"] for row in late if rows[row["id"]][2].state in WAITING} - {None}
            open_ones = {None, *(row["id"] for row in await db.fetch(OPEN, sorted(again_of)))} if again_of else {None}
            closed = {row["id"] for row in late if row["campaign_id"] not in open_ones}
            change = {
                id: rows[id]
                for id, state in before.items()
                if not (state == "queued" == rows[id][2].state) and not (id in closed and rows[id][2].state in WAITING)
            }
            await db.execute(TO_OPEN, list(change))
            was |= {id: before[id] for id in await _write(db, change, now, late=True)}
        written = [rows[id] for id in sorted(was)]
        out = await _allowances(db, written)
        if uncapped is None:
            for (domain_id, egress), n in sorted(out.items()):
                await warmup_take.note(db, domain_id, egress, {TOTAL: n}, now=now)
        await _bounces(db, written, now)
        changes: list[tuple[int, str, int]] = []
        for letter, outcome, end in written:
            if letter.campaign_id is not None:
                changes += moved(letter.campaign_id, letter.provider, was[letter.id], end.state)
                if end.state == "bounced":
                    changes.append((letter.campaign_id, f"bounce.{outcome.bounce_class or 'soft'}", 1))
        await counters.add(db, changes, slot=slot)
    if uncapped is not None:
        uncapped.update(out)
    return len(was)


DOUBT = """
UPDATE deliveries SET state = 'unknown', reason = 'not_recorded'
WHERE id = $1 AND state::text IN ('queued', 'deferred') AND EXISTS (SELECT FROM claims WHERE claims.fence = $2)
RETURNING old.state::text
"""


async def doubt(db: Connection, letter: Handed, *, slot: int) -> None:
    """Close a letter whose outcome cannot be written, whatever its campaign promises: it would be sent again and again."""
    async with db.transaction():
        was = await db.fetchval(DOUBT, letter.id, letter.fence)
        if was is not None and letter.campaign_id is not None:
            await counters.add(db, moved(letter.campaign_id, letter.provider, was, "unknown"), slot=slot)


Row = tuple[Handed, Outcome, Fate]


async def _write(db: Connection, rows: dict[int, Row], now: datetime | None, *, late: bool = False) -> dict[int, str]:
    """Write what was still open; return what each was before."""
    if not rows:
        return {}
    # The order of rows is the order of locks.
    ordered = [rows[id] for id in sorted(rows)]
    ids, fences = [letter.id for letter, _, _ in ordered], [letter.fence for letter, _, _ in ordered]
    attempts = [letter.attempts if end.burnt else letter.attempts - 1 for letter, _, end in ordered]
    egress = ordered[0][0].egress
    if not late and all(end.state == "sent" for _, _, end in ordered):
        replies = [_reply(outcome) for _, outcome, _ in ordered]
        written = await db.fetch(RECORD_SENT, ids, fences, replies, now, attempts, egress)
    else:
        written = await db.fetch(
            RECORD,
            ids,
            fences,
            [end.state for _, _, end in ordered],
            [end.reason for _, _, end in ordered],
            [outcome.bounce_class if end.state == "bounced" else None for _, outcome, end in ordered],
            [letter.failure or _reply(outcome) for letter, outcome, _ in ordered],
            [end.wait for _, _, end in ordered],
            attempts,
            now,
            [end.refused for _, _, end in ordered],
            egress,
            late,
        )
    return {row[0]: row[1] for row in written}


def _reply(outcome: Outcome) -> str:
    text = f"{outcome.code} {outcome.reply}" if outcome.code else outcome.reply
    return text.replace("\0", "").encode(errors="replace").decode()[:LONGEST_REPLY]


async def _allowances(db: Connection, written: Sequence[Row]) -> Counter[tuple[int, str]]:
    """Give back what was counted and refused before DATA, and what waits again; count what capped domains are judged by; return what nothing held."""
    back: Counter[tuple[int, str, str, datetime]] = Counter()
    cold: Counter[tuple[int, str, str, datetime]] = Counter()
    again: Counter[tuple[int, str]] = Counter()
    out: Counter[tuple[int, str]] = Counter()
    results: list[Result] = []
    for letter, outcome, end in written:
        if letter.domain_id is None or letter.campaign_id is None:
            continue
        if letter.bucket is None:
            if end.state == "sent":
                out[letter.domain_id, letter.egress] += 1
            continue
        if end.state in WAITING:
            again[letter.campaign_id, letter.provider] += 1
        if end.state != "sent" and outcome.phase in BEFORE_DATA:
            key = (letter.domain_id, letter.egress, letter.provider, letter.bucket)
            back[key] += 1
            cold[key] += letter.cold
        if (what := warmup_tally.said(outcome, first=end.counts)) is not None:
            results.append(Result(letter.domain_id, letter.egress, letter.provider, letter.bucket, what))
    for key, n in sorted(back.items()):
        await warmup_take.give_back(db, *key, n, cold=cold[key])
    await warmup_tally.note(db, results)
    await turns.came_back(db, again)
    return out


BOUNCE = """
INSERT INTO bounces (delivery_id, campaign_id, subscriber_id, email, class, reason, status, reply, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, COALESCE($9, now()))
"""


async def _bounces(db: Connection, written: Sequence[Row], now: datetime | None) -> None:
    refused = [row for row in written if row[2].state == "bounced"]
    if not refused:
        return
    await db.executemany(
        BOUNCE,
        [
            (letter.id, letter.campaign_id, letter.subscriber_id, letter.email, outcome.bounce_class or "soft", end.reason, outcome.enhanced, _reply(outcome), now)
            for letter, outcome, end in refused
        ],
    )  # fmt: skip
    for letter, outcome, _ in sorted(refused, key=lambda row: row[0].subscriber_id or 0):
        if outcome.bounce_class == "hard":
            known = letter.subscriber_id is not None and await subscribers.mark_bounced(
                db, letter.subscriber_id, delivery_id=letter.id, campaign_id=letter.campaign_id
            )
            if not known and letter.email_key is not None:
                await suppressions.add(db, "email", letter.email_key, reason="hard_bounce")
        elif outcome.bounce_class != "block" and letter.subscriber_id is not None:
            await soft_bounces.judge(db, letter.subscriber_id, delivery_id=letter.id, campaign_id=letter.campaign_id)
