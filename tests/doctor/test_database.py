"""The database and Redis, as the doctor sees them."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from doctor.doctor_kit import VAULT, levels, of, settings_for
from mailbase import db as database_module
from mailbase import resources
from mailbase.doctor import database
from mailbase.vault import CANARY, open_secret

GOOD = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "autovacuum": "on",
    "track_counts": "on",
    "server_version": "18.3 (Debian 18.3-1)",
    "server_version_num": "180003",
}


def test_good_settings():
    """A PostgreSQL as it comes is well."""
    assert set(levels(database.settings_of(GOOD)).values()) == {"ok"}


@pytest.mark.parametrize("name", list(database.MUST))
def test_bad_settings(name):
    """A setting that would lose data or let the tables grow is wrong, with the word to change."""
    found = of(database.settings_of({**GOOD, name: "off"}), name)
    assert found.level == "wrong"
    assert f"{name} = on" in found.advice


@pytest.mark.parametrize(("number", "level"), [("140012", "wrong"), ("170002", "warning"), ("190000", "ok")])
def test_version(number, level):
    """An old PostgreSQL is said to be old."""
    assert of(database.settings_of({**GOOD, "server_version_num": number}), "version").level == level


@pytest.mark.parametrize(("used", "most", "level"), [(10, 117, "ok"), (94, 117, "warning"), (112, 117, "wrong")])
def test_connections(tmp_path, used, most, level):
    """Connections that run out are said before they have."""
    settings = settings_for(tmp_path, WORKERS=2)
    assert database.connections(used, most, settings).level == level


def test_more_processes_than_connections(tmp_path):
    """Processes that may open more connections than there are get a warning though few are open now."""
    found = database.connections(5, 50, settings_for(tmp_path, WORKERS=4))
    assert found.level == "warning"
    assert "64" in found.text


async def test_a_real_one(db, tmp_path):
    """The tests' own PostgreSQL has its tables and a clock that agrees; that it forgets, and that nobody works, is found."""
    await open_secret(db, VAULT, CANARY)
    found = await database.examine(db, settings_for(tmp_path), resources.migrations())
    assert levels(found) == {
        "fsync": "wrong",
        "full_page_writes": "wrong",
        "version": "ok",
        "connections": "ok",
        "workers": "wrong",
        "schema": "ok",
        "secret_key": "ok",
    }
    assert abs(await database.offset(db, lambda: datetime.now(UTC))) < timedelta(seconds=5)


async def test_a_worker_that_is_connected(db, database_url, tmp_path):
    """A connected worker is seen by its name."""
    worker = await database_module.connect(database_url)
    try:
        await worker.execute("SET application_name = 'mailbase worker'")
        found = await database.examine(db, settings_for(tmp_path), resources.migrations())
    finally:
        await worker.close()
    assert "workers" not in levels(found)


async def test_another_secret_key(db, tmp_path):
    """A secret key that does not open what is stored is found before anything is encrypted under it."""
    await open_secret(db, VAULT, CANARY)
    found = await database.examine(
        db, settings_for(tmp_path, SECRET_KEY="quite-another-secret-key"), resources.migrations()
    )
    assert of(found, "secret_key").level == "wrong"
    nothing = msgspec.structs.replace(settings_for(tmp_path), secret_keys=())
    assert database.secret_key(nothing, b"x" * 40).level == "wrong"
    assert database.secret_key(nothing, None).level == "ok"


def test_schema(tmp_path):
    """A database that is behind, ahead, or made by other files is told apart."""
    (tmp_path / "0001_a.sql").write_text("SELECT 1")
    (tmp_path / "0002_b.sql").write_text("SELECT 2")
    one = "e004ebd5b5532a4b85984a62f8ad48a81aa3460c1ca07701f386135d72cdecf5"
    assert "0001_a.sql" in database.schema({}, tmp_path).text
    behind = database.schema({"0001_a.sql": one}, tmp_path)
    assert (behind.level, "mailbase migrate" in behind.advice, "0002_b.sql" in behind.text) == ("wrong", True, True)
    assert "changed" in database.schema({"0001_a.sql": "0"}, tmp_path).text
    assert "newer" in database.schema({"0001_a.sql": one, "0003_c.sql": "0"}, tmp_path).text


async def test_an_empty_database(db, tmp_path):
    """A database nobody has migrated is said to be just that."""
    await db.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    found = await database.examine(db, settings_for(tmp_path), resources.migrations())
    assert of(found, "schema").level == "wrong"


async def test_redis(redis_url):
    """Redis answers; one that does not is a warning, because nothing is lost without it."""
    assert (await database.redis(redis_url)).level == "ok"
    assert (await database.redis("redis://127.0.0.1:1")).level == "warning"
