"""Migrations."""

import pytest

from mailbase import resources
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
