"""One application for all tests of this folder, emptied before each: starting it is what such a test costs."""

import os
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from conftest import living
from mailbase import db as database
from mailbase.app import Mailbase, create_app
from mailbase.config import Settings
from optin.optin_kit import last_link, make_form, person, submit

SESSION = {"scope": "session", "loop_scope": "session"}
KEY = "mb_admin-key-of-the-readers"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder on the loop the application lives on."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(**SESSION)
async def app(postgres_server: Any, template_database: str, redis_url: str) -> AsyncGenerator[Mailbase]:
    """The application, started once, on a database of its own."""
    name = f"readers_{os.getpid()}"
    admin = await database.connect(postgres_server.url)
    await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template_database}" STRATEGY FILE_COPY')
    await admin.close()
    application = create_app(
        Settings(
            data_dir=Path(tempfile.mkdtemp(prefix="mailbase-readers-")),
            database_url=postgres_server.url.replace("@/postgres?", f"@/{name}?"),
            redis_url=redis_url,
            secret_keys=("the secret key of the readers",),
            admin_key=KEY,
            public_url="http://mailbase.test",
            form_limits=False,
        )
    )
    async with living(application):
        yield application


EMPTY = """
TRUNCATE subscribers, consents, subscriber_events, forms, interests, campaigns, domains, messages, deliveries, suppressions,
    confirmation_cooldowns, leaving_reasons, submissions RESTART IDENTITY CASCADE;
UPDATE settings SET default_from = NULL
"""


@pytest_asyncio.fixture(loop_scope="session")
async def db(app: Mailbase) -> AsyncGenerator[database.Connection]:
    """A connection to the application's database, emptied."""
    async with app.state.pool.acquire() as connection:
        await connection.execute(EMPTY)
        yield connection


@pytest_asyncio.fixture(loop_scope="session")
async def anonymous(app: Mailbase) -> AsyncGenerator[httpx.AsyncClient]:
    """A visitor."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mailbase.test") as visitor:
        yield visitor


@pytest_asyncio.fixture(loop_scope="session")
async def client(app: Mailbase, db: database.Connection) -> AsyncGenerator[httpx.AsyncClient]:
    """The owner's program."""
    assert db
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://mailbase.test",
        headers={"Authorization": f"Bearer {KEY}"},
    ) as owner:
        yield owner


@pytest_asyncio.fixture(loop_scope="session")
async def reader(
    app: Mailbase, client: httpx.AsyncClient, anonymous: httpx.AsyncClient, db: database.Connection
) -> dict[str, Any]:
    """An active subscriber with a campaign's letter, and the links of it."""
    form = await make_form(client)
    await submit(anonymous, form)
    await anonymous.post(await last_link(db))
    subscriber = (await person(client))["id"]
    campaign = await db.fetchval(
        """
        WITH domain AS (INSERT INTO domains (name) VALUES ('news.example.com') RETURNING id)
        INSERT INTO campaigns (name, domain_id, from_email, subject, audience, status)
        SELECT 'c', id, 'a@news.example.com', 's', '{}', 'sent' FROM domain RETURNING id
        """
    )
    delivery = await db.fetchval(
        "INSERT INTO deliveries (campaign_id, subscriber_id, state) VALUES ($1, $2, 'sent') RETURNING id",
        campaign,
        subscriber,
    )
    sign = app.state.tokens.sign
    return {
        "u": f"/u/{sign('unsubscribe', subscriber, delivery)}",
        "p": f"/p/{sign('preferences', subscriber, delivery)}",
        "campaign": campaign,
        "id": subscriber,
        "delivery": delivery,
    }
