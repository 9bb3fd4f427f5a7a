"""Migrations: numbered ``.sql`` files, forward only, each in one transaction, under one advisory lock.

A file that has been applied may not change: its checksum is kept, and a difference stops the start.
"""

import hashlib
from pathlib import Path

from mailbase.db import Connection
from mailbase.errors import ConfigError

LOCK = """
SELECT pg_advisory_lock(7236523)
"""

UNLOCK = """
SELECT pg_advisory_unlock(7236523)
"""

TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""

APPLIED = """
SELECT name, checksum FROM schema_migrations
"""

RECORD = """
INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)
"""

# With so little in its log, PostgreSQL forgets in a crash what a sequence gave out after the transaction that made it and first
# used it, until there was a checkpoint: ids would come twice.
MINIMAL = """
SELECT current_setting('wal_level') = 'minimal' AND pg_has_role('pg_checkpoint', 'USAGE')
"""


async def migrate(db: Connection, folder: Path) -> list[str]:
    """Apply what is missing, in order, and return the names applied.

    Raises:
        ConfigError: an applied file was changed, or the database is newer than this program.

    """
    files = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    if not files:
        raise ConfigError(f"no migrations in {folder}")
    await db.execute(LOCK)
    try:
        await db.execute(TABLE)
        applied = {row["name"]: row["checksum"] for row in await db.fetch(APPLIED)}
        unknown = applied.keys() - {file.name for file in files}
        if unknown:
            raise ConfigError(f"the database is newer than this mailbase: it has {max(unknown)}")
        done = []
        for file in files:
            script = file.read_text("utf-8")
            checksum = hashlib.sha256(script.encode()).hexdigest()
            if file.name in applied:
                if applied[file.name] != checksum:
                    raise ConfigError(f"migration {file.name} was changed after it was applied")
                continue
            async with db.transaction():
                await db.execute(script)
                await db.execute(RECORD, file.name, checksum)
            done.append(file.name)
        if done and await db.fetchval(MINIMAL):
            await db.execute("CHECKPOINT")
        return done
    finally:
        await db.execute(UNLOCK)
