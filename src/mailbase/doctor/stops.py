"""Stops: which way out takes no letters just now, and which domain's campaigns wait for their owner."""

from typing import Final

from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.doctor.findings import About, Finding

_ROOM: Final = "No space left"

WAYS = """
SELECT name, reason FROM egress
WHERE failures > 0 AND (name = $1 OR name LIKE $1 || ':%' OR name IN (SELECT name FROM relays WHERE enabled)) ORDER BY name
"""

DOMAINS = """
SELECT id, name, stopped_reason, stopped_at FROM domains WHERE stopped_at IS NOT NULL AND ($1::text IS NULL OR name = $1) ORDER BY name LIMIT 200
"""


async def examine(db: Connection, settings: Settings, only: str | None = None) -> list[Finding]:
    """Say what is stopped, in the words it was stopped with; nothing, when nothing is. ``only``: of the domains, this one."""
    own = "outbox" if settings.to_outbox else "mx" if settings.mx is not None else "relay"
    found = []
    for row in await db.fetch(WAYS, own):
        words = row["reason"] or "it did not say why"
        advice = (
            "Make room there; it goes on by itself within two minutes."
            if _ROOM in words
            else "Put right what it says; it is tried again by itself within two minutes."
        )
        found.append(About(f"way out {row['name']}").wrong("stopped", f"It takes no letters: {words}.", advice))
    for row in await db.fetch(DOMAINS, only):
        text = f"Its campaigns are stopped since {row['stopped_at']:%Y-%m-%d %H:%M} UTC: {row['stopped_reason']}"
        advice = f"Put it right, then POST /v1/domains/{row['id']}/verify and POST /v1/domains/{row['id']}/resume."
        found.append(About(row["name"]).wrong("stopped", text, advice))
    return found
