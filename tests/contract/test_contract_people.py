"""The contract's people, called exactly as it is written: subscribers, interests, consents, suppressions, imports."""

import asyncio
import json

import pytest

CONSENT = {"purpose": "newsletter", "text": "Yes, write to me."}
ACTIVE = {"double_opt_in": False, "consent": CONSENT}
SENDER = {"name": "Shop", "email": "hello@shop.example"}


def fields(answer) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {error["field"] for error in answer.json()["errors"]}


async def test_a_subscriber_is_shown_with_these_fields(client):
    """A subscriber has exactly the fields of the contract, in whole seconds of UTC."""
    await client.post("/v1/interests", json={"slug": "news", "name": "News"})
    body = {"email": "Ann@Example.COM", "interests": ["news"], "tags": ["vip"], "attributes": {"age": 41}, **ACTIVE}
    made = await client.post("/v1/subscribers", json=body)
    assert made.status_code == 201, made.text
    person = made.json()
    assert set(person) == {
        "id", "email", "status", "attributes", "tags", "interests", "locale", "timezone", "source",
        "created_at", "confirmed_at", "unsubscribed_at", "engaged_at",
    }  # fmt: skip
    assert (person["email"], person["status"], person["interests"]) == ("Ann@example.com", "active", ["news"])
    assert len(person["created_at"]) == len("2026-01-31T12:00:00Z")
    assert person["created_at"].endswith("Z")


@pytest.mark.parametrize("method", ["post", "put"])
async def test_everything_wrong_with_a_person_is_said_at_once(client, method):
    """A 422 names each bad field: the address, the interest, the tag, the locale, the zone, the form, the consent's IP."""
    body = {
        "interests": ["nope"],
        "tags": [" x"],
        "attributes": {"1st": 1},
        "locale": "!",
        "timezone": "Mars/Olympus",
        "form_id": 99,
        "consent": {**CONSENT, "ip": "nowhere"},
    }
    answer = (
        await client.post("/v1/subscribers", json={"email": "no address", **body})
        if method == "post"
        else await client.put("/v1/subscribers/by-email/no%20address", json=body)
    )
    wanted = {"email", "interests.0", "tags.0", "attributes.1st", "locale", "timezone", "form_id", "consent.ip"}
    assert fields(answer) == wanted


async def test_a_patch_names_every_bad_field(client):
    """PATCH says everything at once, too."""
    made = (await client.post("/v1/subscribers", json={"email": "a@example.com", **ACTIVE})).json()
    answer = await client.patch(f"/v1/subscribers/{made['id']}", json={"interests": ["nope"], "locale": "!"})
    assert fields(answer) == {"interests.0", "locale"}


async def test_describing_somebody_writes_them_no_letter(client, db):
    """A PUT of attributes sends a letter to a new person only; who is pending or has left gets none unless it is asked for."""
    await client.patch("/v1/settings", json={"default_from": SENDER})
    path = "/v1/subscribers/by-email/ann@example.com"

    async def letters() -> int:
        await db.execute("DELETE FROM confirmation_cooldowns")
        return await db.fetchval("SELECT count(*) FROM messages WHERE kind = 'confirmation'")

    assert (await client.put(path, json={"attributes": {"a": 1}})).status_code == 201
    assert await letters() == 1
    assert (await client.put(path, json={"attributes": {"a": 2}})).status_code == 200
    assert await letters() == 1
    person = (await client.put(path, json={"double_opt_in": True})).json()
    assert await letters() == 2
    await client.post(f"/v1/subscribers/{person['id']}/unsubscribe")
    assert (await client.put(path, json={"attributes": {"a": 3}})).json()["status"] == "unsubscribed"
    assert await letters() == 2
    merged = await client.post("/v1/subscribers", json={"email": "ann@example.com", "on_conflict": "merge"})
    assert (merged.status_code, merged.json()["status"]) == (200, "unsubscribed")
    assert await letters() == 3


async def test_an_imports_options_are_refused_all_at_once(client):
    """Unknown interests, bad tags and the consent's IP are one 422."""
    options = {"on_conflict": "merge", "interests": ["nope"], "tags": [""], "consent": {**CONSENT, "ip": "x"}}
    answer = await client.post(
        "/v1/imports", files={"file": ("a.csv", b"email\na@example.com\n")}, data={"options": json.dumps(options)}
    )
    assert fields(answer) == {"tags.0", "interests.0", "consent.ip"}


async def test_erasing_gives_way_to_what_is_being_written(client, db, pool):
    """Where erasing a person and writing about them wait for each other, the client is told to try again, and can."""
    person = (await client.post("/v1/subscribers", json={"email": "a@example.com", **ACTIVE})).json()["id"]
    await db.execute(
        "INSERT INTO signals (delivery_id, campaign_id, subscriber_id, kind, verdict) VALUES (1, 1, $1, 'open', 'human')",
        person,
    )
    path = f"/v1/subscribers/{person}"
    async with pool.acquire() as other, other.transaction():
        await other.execute("SET LOCAL deadlock_timeout = '20s'")
        await other.execute("UPDATE signals SET reason = 'x'")
        erasing = asyncio.create_task(client.delete(path))
        for _ in range(500):
            if await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                break
            await asyncio.sleep(0.02)
        await other.execute("SELECT FROM subscribers WHERE id = $1 FOR UPDATE", person)
    refused = await erasing
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert (await client.delete(path)).status_code == 204


async def test_a_bulk_change_is_refused_all_at_once(client):
    """The filter's interest, the interests to add and to remove are one 422."""
    body = {"filter": {"interest": "a"}, "add_interests": ["b"], "remove_interests": ["c"]}
    answer = await client.post("/v1/subscribers/bulk", json=body)
    assert fields(answer) == {"filter.interest", "add_interests.0", "remove_interests.0"}
