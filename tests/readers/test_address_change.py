"""Change of address: asked at the preference centre, answered from the new mailbox, announced to the old one."""

import re

import pytest
import pytest_asyncio

from mailbase.optin import address_change
from mailbase.signals import feedback
from mailbase.signals.feedback import Feedback
from optin.optin_kit import JSON, cool, make_form, person, submit

NEW = "ada@elsewhere.example.com"


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _sender(client):
    await client.patch("/v1/settings", json={"default_from": {"name": "Shop", "email": "shop@news.example.com"}})


async def ask(anonymous, reader, email=NEW):
    """Ask for the change as a program does."""
    return await anonymous.post(reader["p"], data={"action": "address", "email": email}, headers=JSON)


async def written(db, email):
    """Return the letters about the change to an address, oldest first: (kind, link)."""
    rows = await db.fetch("SELECT kind, text FROM messages WHERE email_key = $1 ORDER BY id", email)
    found = [(row["kind"], re.search(r"http://mailbase\.test(/a/[\w-]+)", row["text"])) for row in rows]
    return [(kind, link[1]) for kind, link in found if link]


async def status(anonymous, path):
    """Return how a change stands."""
    return (await anonymous.get(path, headers=JSON)).json().get("status")


async def test_nothing_changes_before_the_new_mailbox_answers(client, anonymous, reader, db):
    """It is asked by letter, the old one told; looking changes nothing; the button does, once and for all."""
    asked = await ask(anonymous, reader)
    assert (asked.status_code, asked.json()["result"]) == (200, "address_asked")
    ((kind, link),) = await written(db, NEW)
    assert kind == "confirmation"
    ((_, stop),) = await written(db, "ada@example.org")
    for method in ("GET", "HEAD"):
        assert (await anonymous.request(method, link)).status_code == 200
        assert (await anonymous.request(method, stop)).status_code == 200
    assert (await person(client))["email"] == "Ada@example.org"
    for _ in range(2):
        answer = await anonymous.post(link)
        assert (answer.status_code, "We write to a•••@elsewhere" in answer.text) == (200, True)
    moved = await person(client, NEW)
    assert (moved["id"], moved["status"], moved["interests"]) == (reader["id"], "active", ["news"])
    assert (await client.get("/v1/subscribers/by-email/ada@example.org")).status_code == 404
    told = await db.fetchval(
        "SELECT subject FROM messages WHERE email_key = 'ada@example.org' ORDER BY id DESC LIMIT 1"
    )
    assert told == "Your letters go to another address now"
    (event,) = [
        event
        for event in (await client.get(f"/v1/subscribers/{reader['id']}/events")).json()["data"]
        if event["kind"] == "address_changed"
    ]
    assert event["data"] == {"from": "Ada@example.org", "to": NEW}
    consents = (await client.get(f"/v1/subscribers/{reader['id']}/consents")).json()["data"]
    assert [line["act"] for line in consents] == ["confirmed", "given"]


async def test_the_old_mailbox_stops_it(client, anonymous, reader, db):
    """After that the new one's answer changes nothing."""
    await ask(anonymous, reader)
    ((_, stop),) = await written(db, "ada@example.org")
    assert "Nothing has changed" in (await anonymous.post(stop)).text
    ((_, link),) = await written(db, NEW)
    assert "Nothing has changed" in (await anonymous.post(link)).text
    assert (await person(client))["email"] == "Ada@example.org"


async def test_the_old_mailbox_comes_too_late(anonymous, reader, db):
    """What is done is done, and the page says so."""
    await ask(anonymous, reader)
    ((_, stop),) = await written(db, "ada@example.org")
    await anonymous.post((await written(db, NEW))[0][1])
    assert "It is done already" in (await anonymous.post(stop)).text
    assert await status(anonymous, stop) == "confirmed"


async def test_tokens_open_their_own_doors_only(app, anonymous, reader, db):
    """One of another purpose is a 404, and so is one with a third role."""
    await ask(anonymous, reader)
    ((_, link),) = await written(db, NEW)
    for path in (link.replace("/a/", "/p/"), link.replace("/a/", "/c/"), reader["p"].replace("/p/", "/a/")):
        assert (await anonymous.post(path)).status_code == 404
    assert (await anonymous.post(f"/a/{app.state.tokens.sign('address', 1, 2)}")).status_code == 404


@pytest.mark.parametrize("why", ["known", "suppressed", "domain", "erased", "cooling", "same"])
async def test_the_visitor_is_told_the_same_whatever_is_known(client, anonymous, reader, db, why):
    """No answer tells whether an address is subscribed, suppressed, erased or was just written to; only a free one gets a letter."""
    fresh = (await ask(anonymous, reader)).json()
    await db.execute("DELETE FROM address_changes")
    await cool(db)
    email = "bob@elsewhere.example.com"
    given = {"double_opt_in": False, "consent": {"purpose": "newsletter", "text": "x"}}
    if why in {"known", "erased"}:
        bob = (await client.post("/v1/subscribers", json={"email": email, **given})).json()
    if why == "erased":
        await client.delete(f"/v1/subscribers/{bob['id']}")
    if why in {"suppressed", "domain"}:
        what = {"email": email} if why == "suppressed" else {"domain": "elsewhere.example.com"}
        await client.post("/v1/suppressions", json={**what, "reason": "asked us not to"})
    if why == "cooling":
        await submit(anonymous, await make_form(client), email=email)
    if why == "same":
        email = "Ada@example.org"
    answer = await ask(anonymous, reader, email)
    assert (answer.status_code, answer.json()) == (200, fresh)
    letters = await written(db, email.lower())
    assert len(letters) == (why == "known")


async def test_a_change_to_somebody_subscribed_joins_the_two(client, anonymous, reader, db):
    """They keep what is theirs and gain interests and consents; the one that moves leaves; nobody's data is overwritten."""
    given = {"double_opt_in": False, "consent": {"purpose": "newsletter", "text": "Bob's own words"}}
    bob = await client.post(
        "/v1/subscribers", json={"email": NEW, "attributes": {"city": "Bath"}, "interests": ["sale"], **given}
    )
    await ask(anonymous, reader)
    assert (await client.get(f"/v1/subscribers/{bob.json()['id']}")).json()["interests"] == ["sale"]
    await anonymous.post((await written(db, NEW))[0][1])
    joined = await person(client, NEW)
    assert (joined["id"], joined["attributes"]) == (bob.json()["id"], {"city": "Bath"})
    assert (joined["status"], joined["interests"]) == ("active", ["news", "sale"])
    assert (await person(client))["status"] == "unsubscribed"
    ledger = (await client.get(f"/v1/subscribers/{joined['id']}/consents")).json()["data"]
    assert {(line["text"], line["source"]) for line in ledger} >= {("Send me the letters I chose.", "address_change")}


async def test_who_had_left_at_the_new_address_comes_back_by_their_own_answer(client, anonymous, reader, db):
    """The mailbox itself says yes; what they read before they left is not asked for again."""
    given = {"double_opt_in": False, "consent": {"purpose": "newsletter", "text": "x"}}
    bob = (await client.post("/v1/subscribers", json={"email": NEW, "interests": ["sale"], **given})).json()
    await client.post(f"/v1/subscribers/{bob['id']}/unsubscribe")
    await ask(anonymous, reader)
    assert (await person(client, NEW))["status"] == "unsubscribed"
    await anonymous.post((await written(db, NEW))[0][1])
    back = await person(client, NEW)
    assert (back["status"], back["interests"], back["unsubscribed_at"]) == ("active", ["news"], None)


async def test_a_change_does_not_outlive_leaving_expiry_or_suppression(client, anonymous, reader, db):
    """410 each: the person left, seven days are over, the address may not be written to any more, a newer one was asked."""
    await ask(anonymous, reader)
    ((_, link),) = await written(db, NEW)
    await db.execute("UPDATE address_changes SET expires_at = now() - interval '1 second'")
    assert (await anonymous.post(link)).status_code == 410
    await db.execute("UPDATE address_changes SET expires_at = now() + interval '1 day'")
    entry = (await client.post("/v1/suppressions", json={"email": NEW, "reason": "manual"})).json()
    assert (await anonymous.get(link)).status_code == 410
    await client.delete(f"/v1/suppressions/{entry['id']}")
    assert (await anonymous.get(link)).status_code == 200
    await anonymous.post(reader["u"])
    assert (await anonymous.post(link)).status_code == 410
    assert (
        await anonymous.post(reader["p"], data={"action": "address", "email": NEW}, headers=JSON)
    ).status_code == 422


async def test_nobody_is_bombed_by_changes(anonymous, reader, db):
    """Three a day from one person, whatever they are; one letter a cooldown to an address; only the newest one counts."""
    await ask(anonymous, reader)
    await ask(anonymous, reader)
    assert len(await written(db, NEW)) == 1
    await cool(db)
    await ask(anonymous, reader)
    first, second = await written(db, NEW)
    assert (await ask(anonymous, reader)).status_code == 429
    assert await status(anonymous, first[1]) == "stopped"
    assert await status(anonymous, second[1]) == "open"


async def test_a_wrong_address_is_said_beside_the_field(anonymous, reader):
    """For people as a page that keeps what they typed; for programs as a problem."""
    page = await anonymous.post(reader["p"], data={"action": "address", "email": "ada@nowhere"})
    assert (page.status_code, 'value="ada@nowhere"' in page.text, "<details open" in page.text) == (422, True, True)
    assert (await ask(anonymous, reader, "ada@nowhere")).json()["code"] == "invalid_email"


async def test_letters_of_before_lose_their_power_over_the_data(anonymous, reader, app, db):
    """Whoever reads the old mailbox now may leave or pause for them, and neither copy, erase nor move; a newer letter may."""
    await ask(anonymous, reader)
    await anonymous.post((await written(db, NEW))[0][1])
    for action in ({"action": "export"}, {"action": "erase"}, {"action": "address", "email": "eve@example.com"}):
        assert (await anonymous.post(reader["p"], data=action, headers=JSON)).status_code == 410, action
        assert "newer letter" in (await anonymous.post(reader["p"], data=action)).text
    assert (await anonymous.post(reader["p"], data={"action": "erase_ask"})).status_code == 410
    assert (await anonymous.post(reader["p"], data={"action": "pause", "pause_weeks": "2"})).status_code == 200
    newer = await db.fetchval(
        """
        WITH copy AS (
            INSERT INTO campaigns (name, domain_id, from_email, subject, audience)
            SELECT name, domain_id, from_email, subject, audience FROM campaigns LIMIT 1 RETURNING id
        )
        INSERT INTO deliveries (campaign_id, subscriber_id, state, created_at)
        SELECT id, $1, 'sent', now() + interval '1 second' FROM copy RETURNING id
        """,
        reader["id"],
    )
    link = f"/p/{app.state.tokens.sign('preferences', reader['id'], newer)}"
    assert (await anonymous.post(link, data={"action": "export"}, headers=JSON)).status_code == 200


async def test_erasing_takes_the_letters_of_the_change_along(client, anonymous, reader, db):
    """Those to the new address, confirmed or not, and those to an address that was theirs; neither is written to again."""
    await ask(anonymous, reader, "other@elsewhere.example.com")
    await ask(anonymous, reader)
    await anonymous.post((await written(db, NEW))[0][1])
    await client.delete(f"/v1/subscribers/{reader['id']}")
    assert await db.fetchval("SELECT count(*) FROM messages") == 0
    assert await db.fetchval("SELECT count(*) FROM address_changes") == 0
    for email in (NEW, "ada@example.org"):  # an old list of the owner's may hold the address of before
        back = await client.post("/v1/subscribers", json={"email": email})
        assert (back.status_code, back.json()["code"]) == (422, "suppressed")


async def test_bounces_from_the_other_address_end_nobody(client, anonymous, reader, db):
    """Neither a slip of the pen costs the subscription, nor the old mailbox that closes after the move."""
    await ask(anonymous, reader)
    delivery = await db.fetchval(
        "SELECT deliveries.id FROM deliveries JOIN messages ON messages.id = message_id WHERE email_key = $1", NEW
    )
    hard = {"kind": "bounce", "cls": "hard", "reason": "mailbox_unavailable"}
    assert await feedback.apply(db, Feedback(source="smtp", delivery_id=delivery, **hard), slot=0)
    assert (await person(client))["status"] == "active"
    await db.execute("DELETE FROM suppressions")
    await anonymous.post((await written(db, NEW))[0][1])
    assert await feedback.apply(db, Feedback(source="smtp", delivery_id=reader["delivery"], **hard), slot=0)
    assert (await person(client, NEW))["status"] == "active"
    assert await db.fetchval("SELECT value FROM suppressions") == "ada@example.org"


async def test_what_nobody_confirmed_is_forgotten(anonymous, reader, db):
    """A month after it expired, with its letters: the address may be a stranger's. What was confirmed is kept as proof."""
    await ask(anonymous, reader)
    await db.execute("UPDATE address_changes SET expires_at = now() - interval '31 days'")
    await address_change.forget_old(db)
    assert await written(db, NEW) == []
    assert await db.fetchval("SELECT count(*) FROM address_changes") == 0
