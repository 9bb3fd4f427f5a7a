"""Transactional messages: what is accepted, what is refused, and what is told about them afterwards."""

import base64

LETTER = {
    "from": {"name": "Shop", "email": "orders@shop.example.com"},
    "to": "Ann@Example.com",
    "subject": "Order {{ number }}",
    "html": "<p>Hello {{ name }}, {{ number }} is on its way.</p>",
    "variables": {"number": 7, "name": "<Ann>"},
}


async def test_a_message_is_stored_before_it_is_acknowledged(client, db):
    """The answer is 202, and by then the rendered letter and its delivery are rows."""
    answer = await client.post("/v1/messages", json=LETTER)
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "queued"
    row = await db.fetchrow("SELECT * FROM messages WHERE id = $1", answer.json()["id"])
    assert row["subject"] == "Order 7"
    assert "&lt;Ann&gt;" in row["html"]
    assert "<Ann>" in row["text"]
    assert row["email"] == "Ann@example.com"
    assert await db.fetchval("SELECT state FROM deliveries WHERE message_id = $1", row["id"]) == "queued"


async def test_attachments_are_stored_as_bytes(client, db):
    """Base64 in, bytes stored, in order."""
    files = [
        {"filename": f"{n}.pdf", "content_type": "application/pdf", "content": base64.b64encode(bytes([n])).decode()}
        for n in range(3)
    ]
    answer = await client.post("/v1/messages", json={**LETTER, "attachments": files})
    assert answer.status_code == 202, answer.text
    rows = await db.fetch("SELECT filename, content FROM message_attachments ORDER BY seq")
    assert [(row["filename"], row["content"]) for row in rows] == [("0.pdf", b"\0"), ("1.pdf", b"\1"), ("2.pdf", b"\2")]


async def test_attachments_may_fill_the_body_and_no_more(client):
    """A file that a body of 15 MB just holds is accepted; a body beyond that is a 413."""
    full = (15 * 1024 * 1024 - 1024) // 4 * 3
    for size, status in ((full, 202), (full + 1024, 413)):
        file = {
            "filename": "a.bin",
            "content_type": "application/zip",
            "content": base64.b64encode(bytes(size)).decode(),
        }
        answer = await client.post("/v1/messages", json={**LETTER, "attachments": [file]})
        assert answer.status_code == status, answer.text[:300]


async def test_suppressed_addresses_are_refused(client):
    """An address on the suppression list gets no message, and the refusal says so."""
    assert (
        await client.post("/v1/suppressions", json={"email": "ann@example.com", "reason": "manual"})
    ).status_code == 201
    answer = await client.post("/v1/messages", json=LETTER)
    assert (answer.status_code, answer.json()["code"]) == (422, "suppressed")


async def test_unsubscribed_people_still_get_messages(client, db):
    """Leaving the newsletter is not suppression."""
    await db.execute(
        "INSERT INTO subscribers (email, email_key, domain, status) VALUES ('ann@example.com', 'ann@example.com', 'example.com', 'unsubscribed')"
    )
    answer = await client.post("/v1/messages", json=LETTER)
    assert answer.status_code == 202
    assert await db.fetchval("SELECT subscriber_id IS NOT NULL FROM messages WHERE id = $1", answer.json()["id"])


async def test_every_bad_field_is_named_at_once(client):
    """Sender, recipient, a header of ours and an unknown variable are all in one 422."""
    bad = {**LETTER, "from": {"email": "no"}, "to": "nobody", "headers": {"Subject": "x"}, "variables": {"number": 7}}
    answer = await client.post("/v1/messages", json=bad)
    assert answer.status_code == 422
    assert {error["field"] for error in answer.json()["errors"]} >= {"from.email", "to", "headers.Subject", "html"}


async def test_a_message_tells_what_became_of_it(client, db):
    """GET shows the delivery's state."""
    message_id = (await client.post("/v1/messages", json=LETTER)).json()["id"]
    for state in ("queued", "sent", "bounced"):
        await db.execute("UPDATE deliveries SET state = $1 WHERE message_id = $2", state, message_id)
        answer = await client.get(f"/v1/messages/{message_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, state)
    assert answer.json()["from"] == {"name": "Shop", "email": "orders@shop.example.com"}
    listed = (await client.get("/v1/messages?include_total=true")).json()
    assert (listed["total"], listed["data"][0]["id"]) == (1, message_id)
    assert (await client.get("/v1/messages/999999")).status_code == 404
