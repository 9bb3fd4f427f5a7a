"""What the tests of forms and opt-in share: a form, a visitor's submission, the letters that went out."""

import re
from typing import Any

import httpx

from mailbase.db import Connection

FORM: dict[str, Any] = {
    "name": "Field notes",
    "fields": [{"name": "city", "label": "City", "type": "text"}],
    "interests": ["news", "sale"],
    "interest_choice": True,
    "consents": [
        {
            "purpose": "newsletter",
            "text": "Send me the letters I chose.",
            "policy_url": "https://shop.example/privacy",
            "required": True,
        }
    ],
    "from": {"name": "Field notes", "email": "hello@news.example.com"},
    "protection": {"min_seconds": 0},
}
ENTRY = {"email": "Ada@Example.org", "city": "London", "interests": ["news"], "consent_newsletter": "on"}
JSON = {"Accept": "application/json"}


async def make_form(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    """Create the interests and a form, and return the form."""
    for slug, name in (("news", "News"), ("sale", "Sales & offers"), ("inner", "Inner circle")):
        await client.post("/v1/interests", json={"slug": slug, "name": name, "public": slug != "inner"})
    answer = await client.post("/v1/forms", json={**FORM, **changes})
    assert answer.status_code == 201, answer.text
    form: dict[str, Any] = answer.json()
    return form


async def submit(visitor: httpx.AsyncClient, form: dict[str, Any], **entry: Any) -> httpx.Response:
    """Submit the form as a program does."""
    return await visitor.post(f"/f/{form['key']}", data={**ENTRY, **entry}, headers=JSON)


async def letters(db: Connection, email: str = "ada@example.org") -> list[Any]:
    """Return the confirmation letters to an address, oldest first."""
    return await db.fetch("SELECT * FROM messages WHERE kind = 'confirmation' AND email_key = $1 ORDER BY id", email)


def link(letter: Any) -> str:
    """Return the path of the confirmation link in a letter."""
    found = re.search(r"http://mailbase\.test(/c/[\w-]+)", letter["text"])
    assert found
    return found[1]


async def last_link(db: Connection, email: str = "ada@example.org") -> str:
    """Return the path of the newest confirmation link."""
    return link((await letters(db, email))[-1])


async def person(client: httpx.AsyncClient, email: str = "ada@example.org") -> Any:
    """Return a subscriber as the API shows it."""
    return (await client.get(f"/v1/subscribers/by-email/{email}")).json()


async def cool(db: Connection) -> None:
    """Let the cooldowns of all addresses be over."""
    await db.execute("UPDATE confirmation_cooldowns SET next_at = now() - interval '1 second'")
