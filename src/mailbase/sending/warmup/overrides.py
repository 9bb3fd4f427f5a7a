"""The owner's word about one key of the warm-up: another level, a pause, going on. Each is written down like any decision."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.warmup import history as warmup_history
from mailbase.sending.warmup import names as warmup_names
from mailbase.sending.warmup import rules as warmup_rules
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import ways
from mailbase.sending.warmup.history import Entry

SET = """
INSERT INTO warmup_keys (domain_id, egress, provider, level, state, reason, changed_at)
VALUES ($1, $2, $3, COALESCE($4, 1), COALESCE($5, 'warming'), $6, COALESCE($7, now()))
ON CONFLICT (domain_id, egress, provider) DO UPDATE SET
    level = COALESCE($4, warmup_keys.level), state = COALESCE($5, warmup_keys.state), reason = excluded.reason,
    blamed_at = CASE WHEN $5 = 'warming' THEN excluded.changed_at ELSE warmup_keys.blamed_at END,
    resumed_at = CASE WHEN $5 = 'warming' THEN excluded.changed_at ELSE warmup_keys.resumed_at END,
    until = CASE WHEN $5 IS NULL THEN warmup_keys.until END, next_at = NULL, probes = 0, changed_at = excluded.changed_at
RETURNING level, (SELECT level FROM warmup_keys AS old WHERE old.domain_id = $1 AND old.egress = $2 AND old.provider = $3) AS before
"""

TOUCH = """
UPDATE warmups SET version = version + 1 WHERE domain_id = $1 RETURNING pg_notify('mailbase_sending', '')
"""


class Override(Struct, kw_only=True):
    """What shall be with one key. ``level`` as shown, from 1."""

    egress: str
    provider: str
    level: int | None = None
    state: Literal["warming", "paused"] | None = None


async def apply(
    db: Connection, domain_id: int, override: Override, *, to_outbox: bool, now: datetime | None = None
) -> None:
    """Set a key's level, pause it, or let it go on, whatever stopped it: only what happens from now on counts against it.

    Raises:
        Invalid: ``unknown_provider``, ``unknown_egress``.

    """
    await ways.check(db, domain_id, override.egress, to_outbox=to_outbox, field="providers.egress")
    provider = warmup_names.called(override.provider)
    await warmup_names.check(db, domain_id, [provider], field="providers.provider")
    chosen = await warmup_take.hold(db, domain_id, to_outbox=to_outbox)
    day = None
    if override.level is not None:
        day = warmup_rules.day_of(chosen.preset, chosen.schedule, override.level)
    said = [f"level {override.level}" if override.level is not None else "", override.state or ""]
    reason = f"By hand: {', '.join(filter(None, said))}."
    row = (await db.fetch(SET, domain_id, override.egress, provider, day, override.state, reason, now))[0]
    decision = {"paused": "pause", "warming": "resume"}.get(override.state or "", "level")
    entry = Entry(
        decision=decision, reason=reason, egress=override.egress, provider=provider,
        level_before=row["before"], level_after=row["level"],
    )  # fmt: skip
    await warmup_history.write(db, domain_id, [entry], now=now)
    await db.execute(TOUCH, domain_id)
