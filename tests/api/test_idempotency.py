"""``Idempotency-Key``: asked twice, done once."""

import asyncio

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_routes import assert_problem
from mailbase.api.idempotency import Fingerprint
from mailbase.audience import answers, keys
from mailbase.db import Connection, Pool

BODY = {"name": "website", "scopes": ["stats:read"]}


async def count(db: Connection) -> int:
    return await db.fetchval("SELECT count(*) FROM api_keys WHERE name = 'website'")


async def test_the_same_request_is_done_once(client: httpx.AsyncClient, db: Connection):
    """The second answer is the first one, byte for byte and with its status, and says so."""
    first = await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "one"})
    again = await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "one"})

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert await count(db) == 1


async def test_answers_are_kept_encrypted(client: httpx.AsyncClient, db: Connection):
    """The secret of a new key stands nowhere in the database, though it is told again; what an older version kept plainly is told, too."""
    made = (await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "one"})).json()
    kept = await db.fetchval("SELECT body FROM idempotency WHERE key = 'one'")
    assert made["secret"].encode() not in kept
    assert b"website" not in kept
    await db.execute("UPDATE idempotency SET body = $1 WHERE key = 'one'", b'{"plain":true}')
    again = await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "one"})
    assert again.content == b'{"plain":true}'


async def test_another_body_or_path_is_refused(client: httpx.AsyncClient, db: Connection):
    """The key of another request is a 409, and nothing is done."""
    await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "one"})
    assert_problem(
        await client.post("/v1/keys", json={**BODY, "scopes": ["admin"]}, headers={"Idempotency-Key": "one"}),
        409,
        "idempotency_key_reused",
    )
    assert_problem(
        await client.post("/v1/jobs/1/cancel", headers={"Idempotency-Key": "one"}), 409, "idempotency_key_reused"
    )
    assert await count(db) == 1


async def test_refusals_are_stored_too(client: httpx.AsyncClient, db: Connection):
    """A 4xx is an answer like any other: it is replayed, and what led to it left no trace."""
    first = await client.post("/v1/keys", json={"name": ""}, headers={"Idempotency-Key": "bad"})
    again = await client.post("/v1/keys", json={"name": ""}, headers={"Idempotency-Key": "bad"})
    assert (first.status_code, again.status_code) == (400, 400)
    assert again.content == first.content
    assert again.headers["content-type"] == "application/problem+json"
    assert again.headers["idempotent-replayed"] == "true"
    missing = await client.post("/v1/jobs/7/cancel", headers={"Idempotency-Key": "missing"})
    assert missing.status_code == 404
    assert await db.fetchval("SELECT status FROM idempotency WHERE key = 'missing'") == 404


async def test_errors_of_ours_are_not_stored(client: httpx.AsyncClient, db: Connection):
    """After a 5xx the same key runs again."""
    await db.execute("ALTER TABLE api_keys ADD CONSTRAINT never CHECK (name <> 'website') NOT VALID")
    assert_problem(await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "one"}), 500, "internal")
    await db.execute("ALTER TABLE api_keys DROP CONSTRAINT never")
    done = await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "one"})
    assert done.status_code == 201
    assert "idempotent-replayed" not in done.headers


async def test_a_missing_key_is_not_stored(anonymous: httpx.AsyncClient, db: Connection):
    """A 401 leaves nothing behind."""
    assert_problem(await anonymous.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "one"}), 401)
    assert await db.fetchval("SELECT count(*) FROM idempotency") == 0


async def test_each_api_key_has_its_own(client: httpx.AsyncClient, anonymous: httpx.AsyncClient, db: Connection):
    """Two API keys may use the same Idempotency-Key for different things."""
    other = await keys.create(db, "other", ["admin"])
    first = await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "one"})
    second = await anonymous.post(
        "/v1/keys", json=BODY, headers={"Idempotency-Key": "one", "Authorization": f"Bearer {other.secret}"}
    )
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]


async def test_twins_do_the_work_once(client: httpx.AsyncClient, db: Connection):
    """Of twenty requests at the same moment one does the work; the others get its answer or 409, and none waits."""
    answers = await asyncio.gather(
        *(client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "twin"}) for _ in range(20))
    )
    assert await count(db) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency_key_in_use"}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1


async def test_a_running_twin_is_told(client: httpx.AsyncClient, pool: Pool, db: Connection):
    """While one request holds the key, another is answered 409 at once."""
    key_id = await db.fetchval("SELECT id FROM api_keys WHERE system")
    async with pool.acquire() as held, held.transaction():
        assert await answers.lock(held, key_id, "slow")
        assert_problem(
            await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "slow"}), 409, "idempotency_key_in_use"
        )
    assert (await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "slow"})).status_code == 201


async def test_after_a_day_it_is_forgotten(client: httpx.AsyncClient, db: Connection):
    """An answer older than 24 hours is neither replayed nor in the way."""
    await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": "one"})
    await db.execute("UPDATE idempotency SET created_at = now() - interval '24 hours 1 second'")
    assert (
        await client.post("/v1/keys", json={**BODY, "scopes": ["forms:read"]}, headers={"Idempotency-Key": "one"})
    ).status_code == 201
    assert await count(db) == 2
    await db.execute("UPDATE idempotency SET created_at = now() - interval '24 hours 1 second'")
    assert await answers.forget_old(db) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "ümlaut"])
async def test_a_bad_key_is_refused(client: httpx.AsyncClient, key: str):
    """A key has 1 to 255 printable characters."""
    answer = await client.post("/v1/keys", json=BODY, headers=[(b"Idempotency-Key", key.encode())])
    assert_problem(answer, 400, "bad_idempotency_key")


async def test_other_methods_ignore_it(client: httpx.AsyncClient):
    """PATCH and DELETE are idempotent by themselves; the header does nothing there."""
    for _ in range(2):
        answer = await client.patch("/v1/settings", json={"pending_days": 10}, headers={"Idempotency-Key": "one"})
        assert answer.status_code == 200
        assert "idempotent-replayed" not in answer.headers


async def test_a_streamed_file_counts_as_a_body(client: httpx.AsyncClient, db: Connection):
    """A multipart upload sent again, with another boundary, is the same request; with another file it is not."""
    options = '{"consent": {"purpose": "newsletter", "text": "Yes."}}'
    sent = []
    for boundary, rows in (("first", "a@example.com"), ("second", "a@example.com"), ("third", "b@example.com")):
        body = f'--{boundary}\r\nContent-Disposition: form-data; name="options"\r\n\r\n{options}\r\n--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nemail\n{rows}\n\r\n--{boundary}--\r\n'
        headers = {"Idempotency-Key": "import", "Content-Type": f"multipart/form-data; boundary={boundary}"}
        sent.append(await client.post("/v1/imports", content=body.encode(), headers=headers))
    assert [answer.status_code for answer in sent] == [202, 202, 409]
    assert sent[0].content == sent[1].content
    assert await db.fetchval("SELECT count(*) FROM jobs") == 1


def scope(kind: bytes) -> dict:
    return {"method": "POST", "path": "/v1/imports", "query_string": b"", "headers": [(b"content-type", kind)]}


@given(st.lists(st.binary(max_size=30)), st.integers(1, 12), st.integers(1, 12))
def test_a_boundary_does_not_count(parts: list[bytes], one: int, other: int):
    """A multipart body has the same fingerprint whatever its boundary and however it is cut into pieces."""
    prints = []
    for boundary, size in ((b"----first-boundary", one), (b"0123456789abcdef0123", other)):
        body = (
            b"".join(
                b"--" + boundary + b"\r\n\r\n" + part.replace(b"-", b"").replace(b"0", b"") + b"\r\n" for part in parts
            )
            + b"--"
            + boundary
            + b"--\r\n"
        )
        fingerprint = Fingerprint(scope(b"multipart/form-data; boundary=" + boundary))
        for start in range(0, len(body), size):
            fingerprint.update(body[start : start + size])
        prints.append(fingerprint.finish())
    assert prints[0] == prints[1]


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_the_body_does_count(one: bytes, other: bytes):
    """Different bodies have different fingerprints, equal ones the same."""
    prints = []
    for body in (one, other):
        fingerprint = Fingerprint(scope(b"application/json"))
        fingerprint.update(body)
        prints.append(fingerprint.finish())
    assert (prints[0] == prints[1]) == (one == other)
