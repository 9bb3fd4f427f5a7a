"""Migrations."""

import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from mailbase import db as database
from mailbase import resources, servers
from mailbase.errors import ConfigError
from mailbase.migrate import migrate


async def test_second_run_applies_nothing(db):
    """Migrating a migrated database does nothing."""
    assert await migrate(db, resources.migrations()) == []


async def test_changed_file_stops_the_start(db, tmp_path):
    """An applied migration that was edited afterwards is refused by name."""
    for file in resources.migrations().glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text() + "-- edited\n")

    with pytest.raises(ConfigError, match=r"0001_schema\.sql was changed"):
        await migrate(db, tmp_path)


USED = """
SELECT replace(sequencename, '_id_seq', '') AS name, last_value AS last FROM pg_sequences WHERE last_value IS NOT NULL AND sequencename LIKE '%\\_id\\_seq'
"""


async def test_no_id_is_given_out_twice_after_a_crash_of_the_embedded_server():
    """PostgreSQL is killed right after the migrations: every sequence goes on behind the rows that are there."""
    folder = Path(tempfile.mkdtemp(prefix="mailbase-test-"))
    folder.chmod(0o755)
    server = servers.postgres(folder)
    process = server.start()
    try:
        server.wait(process)
        connection = await database.connect(server.url)
        await migrate(connection, resources.migrations())
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        connection.terminate()
        server = servers.postgres(folder)
        process = server.start()
        server.wait(process)
        connection = await database.connect(server.url)
        used = await connection.fetch(USED)
        assert {"reply_rules", "providers"} <= {row["name"] for row in used}
        for row in used:
            assert row["last"] >= await connection.fetchval(f"SELECT max(id) FROM {row['name']}"), row["name"]
        await connection.close()
    finally:
        process.send_signal(server.stop_signal)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
