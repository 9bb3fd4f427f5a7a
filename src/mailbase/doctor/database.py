"""The database: does it keep what it is given, is it of this version, and is there room for everybody; and Redis, which may be gone."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.doctor.findings import About, Finding
from mailbase.errors import ConfigError
from mailbase.vault import CANARY, Vault

OLDEST: Final = 150_000
TESTED: Final = 180_000
MUST: Final = {
    "fsync": ("on", "after a power failure the database may be damaged beyond repair"),
    "full_page_writes": ("on", "after a power failure the database may be damaged beyond repair"),
    "synchronous_commit": (
        "on local remote_write remote_apply",
        "a crash forgets what was answered: letters may go out twice",
    ),
    "autovacuum": ("on", "tables only grow, and everything becomes slower by the day"),
    "track_counts": ("on", "autovacuum does not know what to do, and tables only grow"),
}
"""Settings without which promises do not hold: what they must be, and what happens else."""
WORKER: Final = 13
API: Final = 12
"""Connections one process may open."""
LONG: Final = timedelta(hours=1)

_DATABASE: Final = About("database")
_REDIS: Final = About("redis")


def settings_of(values: Mapping[str, str]) -> list[Finding]:
    """Judge PostgreSQL's settings, by name."""
    found = [
        _DATABASE.wrong(name, f"{name} is {values[name]}: {harm}.", f"Set {name} = on in postgresql.conf and restart.")
        for name, (right, harm) in MUST.items()
        if values.get(name, "on") not in right.split()
    ]
    version = int(values["server_version_num"])
    shown = values["server_version"].partition(" ")[0]
    if version < OLDEST:
        found.append(_DATABASE.wrong("version", f"PostgreSQL {shown} is too old.", "Use PostgreSQL 18."))
    elif version < TESTED:
        text = f"PostgreSQL {shown} answers; mailbase is tested with 18."
        found.append(_DATABASE.warning("version", text, "Plan an upgrade of PostgreSQL."))
    else:
        found.append(_DATABASE.ok("version", f"PostgreSQL {shown} answers."))
    if not any(one.level == "wrong" for one in found):
        found.append(_DATABASE.ok("settings", "It writes to disk before it answers, and cleans up after itself."))
    return found


def connections(used: int, most: int, settings: Settings) -> Finding:
    """Judge how many connections are open, and how many this installation may open."""
    needed = settings.workers * WORKER + settings.api_workers * API
    text = f"{used} of {most} connections are in use."
    advice = "Raise max_connections, or run fewer workers (MAILBASE_WORKERS, MAILBASE_API_WORKERS)."
    if used >= most * 0.95:
        return _DATABASE.wrong("connections", text, advice)
    if used >= most * 0.8:
        return _DATABASE.warning("connections", text, advice)
    if needed > most:
        return _DATABASE.warning("connections", f"{text} mailbase on this machine may open {needed}.", advice)
    return _DATABASE.ok("connections", text)


def schema(applied: Mapping[str, str], folder: Path) -> Finding:
    """Judge which migrations have been applied, by name with their checksums."""
    files = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    }
    if newer := applied.keys() - files.keys():
        text = f"The database belongs to a newer mailbase: it has {max(newer)}."
        return _DATABASE.wrong("schema", text, "Install that version; going back is not possible.")
    if changed := [name for name, checksum in applied.items() if files[name] != checksum]:
        text = f"{min(changed)} was changed after it was applied."
        return _DATABASE.wrong("schema", text, "Install mailbase again: its files are not those of the release.")
    if missing := files.keys() - applied.keys():
        text = f"{len(missing)} steps are missing, from {min(missing)} on."
        return _DATABASE.wrong("schema", text, "Run `mailbase migrate`, or start `mailbase up`.")
    return _DATABASE.ok("schema", "Its tables are of this version.")


VALUES = """
SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])
"""

ACTIVITY = """
SELECT count(*) AS used, count(*) FILTER (WHERE application_name LIKE 'mailbase worker%') AS workers,
       max(clock_timestamp() - xact_start) FILTER (WHERE state <> 'idle') AS longest
FROM pg_stat_activity WHERE backend_type = 'client backend'
"""

APPLIED = """
SELECT name, checksum FROM schema_migrations
"""

CANARY_BLOB = """
SELECT wrapped FROM secrets WHERE name = $1
"""

KNOWN = """
SELECT to_regclass($1) IS NOT NULL
"""


async def examine(db: Connection, settings: Settings, folder: Path) -> list[Finding]:
    """Look at the database; ``folder`` holds the migrations."""
    names = [*MUST, "server_version", "server_version_num", "max_connections", "superuser_reserved_connections"]
    values = {row["name"]: row["setting"] for row in await db.fetch(VALUES, names)}
    found = settings_of(values)
    activity = (await db.fetch(ACTIVITY))[0]
    most = int(values["max_connections"]) - int(values["superuser_reserved_connections"])
    found.append(connections(activity["used"], most, settings))
    if (activity["longest"] or timedelta()) > LONG:
        text = f"A transaction has been open for {activity['longest']}."
        advice = "Find it in pg_stat_activity and end it: nothing can be cleaned up behind it."
        found.append(_DATABASE.warning("transactions", text, advice))
    if not activity["workers"]:
        advice = "Start `mailbase up`, or a `mailbase worker`, and look at what it says."
        found.append(_DATABASE.wrong("workers", "No worker is connected: nothing is sent.", advice))
    applied: dict[str, str] = {}
    if await db.fetchval(KNOWN, "schema_migrations"):
        applied = {row["name"]: row["checksum"] for row in await db.fetch(APPLIED)}
    found.append(schema(applied, folder))
    if await db.fetchval(KNOWN, "secrets"):
        found.append(secret_key(settings, await db.fetchval(CANARY_BLOB, CANARY)))
    return found


def secret_key(settings: Settings, canary: bytes | None) -> Finding:
    """Judge whether the secret key opens what is stored."""
    about = About("secret key")
    if canary is None:
        return about.ok("secret_key", "Nothing has been encrypted yet.")
    try:
        Vault(settings.secret_keys).decrypt(canary, f"secret:{CANARY}")
    except ConfigError as error:
        advice = "Set MAILBASE_SECRET_KEY to the key this database was made with; several may be listed, by commas."
        return about.wrong("secret_key", error.message, advice)
    return about.ok("secret_key", "It opens what is stored. Keep a copy of it elsewhere.")


async def offset(db: Connection, now: Callable[[], datetime]) -> timedelta:
    """Return how far PostgreSQL's clock is ahead of ``now``."""
    before = now()
    there: datetime = await db.fetchval("SELECT clock_timestamp()")
    return there - (before + (now() - before) / 2)


async def redis(url: str) -> Finding:
    """Say whether Redis answers: without it everything still finishes, later."""
    client = Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2)
    try:
        await client.ping()
    except (OSError, RedisError) as error:
        text = f"It does not answer ({str(error)[:200]}). Everything still finishes, later."
        return _REDIS.warning("redis", text, "Start it, or look at MAILBASE_REDIS_URL.")
    finally:
        await client.aclose()
    return _REDIS.ok("redis", "It answers.")
