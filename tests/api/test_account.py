"""Keys, settings, jobs, health, metrics and the reference: the doors that belong to the service itself."""

import hashlib

import httpx
import msgspec
import pytest

from api_routes import assert_problem, routes
from mailbase.app import Mailbase, create_app
from mailbase.config import Settings
from mailbase.db import Connection


async def test_a_secret_is_shown_once(client: httpx.AsyncClient, anonymous: httpx.AsyncClient, db: Connection):
    """A new key works at once, is stored as SHA-256 only, and its secret is in no later answer."""
    made = (await client.post("/v1/keys", json={"name": "website", "scopes": ["stats:read", "stats:read"]})).json()
    assert made["secret"].startswith("mb_")
    assert len(made["secret"]) >= 35
    assert made["scopes"] == ["stats:read"]
    assert (
        await db.fetchval("SELECT hash FROM api_keys WHERE id = $1", made["id"])
        == hashlib.sha256(made["secret"].encode()).digest()
    )
    for url in ("/v1/keys", f"/v1/keys/{made['id']}"):
        assert made["secret"] not in (await client.get(url)).text
    used = await anonymous.get("/v1/keys", headers={"Authorization": f"bearer {made['secret']}"})
    assert_problem(used, 403, "forbidden")
    assert (await client.get(f"/v1/keys/{made['id']}")).json()["last_used_at"] is not None


async def test_a_key_ends(client: httpx.AsyncClient, anonymous: httpx.AsyncClient, db: Connection):
    """A deleted key and an expired one are unknown from then on."""
    made = (
        await client.post("/v1/keys", json={"name": "x", "scopes": ["admin"], "expires_at": "2100-01-01T00:00:00Z"})
    ).json()
    headers = {"Authorization": f"Bearer {made['secret']}"}
    assert made["expires_at"] == "2100-01-01T00:00:00Z"
    assert (await anonymous.get("/v1/keys", headers=headers)).status_code == 200
    await db.execute("UPDATE api_keys SET expires_at = now() WHERE id = $1", made["id"])
    assert_problem(await anonymous.get("/v1/keys", headers=headers), 401)
    assert (await client.delete(f"/v1/keys/{made['id']}")).status_code == 204
    assert_problem(await client.delete(f"/v1/keys/{made['id']}"), 404)


async def test_keys_refuse_nonsense(client: httpx.AsyncClient):
    """Scopes are a closed list, a key needs one, and it cannot have expired before it began."""
    for body in ({"name": "x", "scopes": ["root"]}, {"name": "x", "scopes": []}, {"name": "", "scopes": ["admin"]}):
        assert_problem(await client.post("/v1/keys", json=body), 422)
    for expires_at in ("2020-01-01T00:00:00Z", "tomorrow", "2100-01-01T00:00:00"):
        problem = assert_problem(
            await client.post("/v1/keys", json={"name": "x", "scopes": ["admin"], "expires_at": expires_at}), 422
        )
        assert problem["errors"][0]["field"] == "expires_at"


async def test_the_configured_key_stays(client: httpx.AsyncClient, settings: Settings, db: Connection):
    """The admin key of the configuration cannot be deleted; when the configuration names another, the old one ends."""
    own = next(key for key in (await client.get("/v1/keys")).json()["data"] if key["system"])
    assert_problem(await client.delete(f"/v1/keys/{own['id']}"), 409, "system_key")
    another = create_app(msgspec.structs.replace(settings, admin_key="mb_another-admin-key-here"))
    async with another.lifespan():
        assert_problem(await client.get("/v1/keys"), 401)
        assert await db.fetchval("SELECT count(*) FROM api_keys WHERE system") == 1


async def test_pages_hold_everything_once(client: httpx.AsyncClient):
    """Following the cursors shows every row once, newest first, also while rows are added."""
    made = [
        (await client.post("/v1/keys", json={"name": f"k{n}", "scopes": ["stats:read"]})).json()["id"] for n in range(7)
    ]
    seen: list[int] = []
    cursor = None
    while True:
        page = (await client.get("/v1/keys", params={"limit": 3, **({"cursor": cursor} if cursor else {})})).json()
        seen += [key["id"] for key in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await client.post("/v1/keys", json={"name": "late", "scopes": ["stats:read"]})
    assert seen == sorted(seen, reverse=True)
    assert set(made) <= set(seen)
    page = (await client.get("/v1/keys", params={"limit": 1, "include_total": "true"})).json()
    assert page["total"] == 10
    assert_problem(await client.get("/v1/jobs", params={"cursor": page["next_cursor"]}), 400, "bad_cursor")


async def test_settings_change_one_by_one(client: httpx.AsyncClient):
    """PATCH changes what it names and nothing else; null empties what may be empty."""
    fresh = (await client.get("/v1/settings")).json()
    assert fresh == {
        "default_from": None,
        "postal_address": None,
        "locale": "en",
        "pending_days": 30,
        "name": None,
        "website": None,
        "accent": None,
        "background": None,
        "css": None,
        "texts": {},
        "confirm_auto_post": False,
        "logo": None,
    }
    sender = {"name": "Bäckerei", "email": "news@Example.COM"}
    changed = (
        await client.patch("/v1/settings", json={"default_from": sender, "postal_address": "1 Mill Lane\nBath"})
    ).json()
    assert changed == {
        **fresh,
        "default_from": {"name": "Bäckerei", "email": "news@example.com"},
        "postal_address": "1 Mill Lane\nBath",
    }
    assert (await client.patch("/v1/settings", json={"pending_days": 7, "locale": "ru"})).json() == {
        **changed,
        "pending_days": 7,
        "locale": "ru",
    }
    assert (await client.patch("/v1/settings", json={"default_from": None})).json()["default_from"] is None
    assert (await client.patch("/v1/settings", json={})).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"pending_days": 0}, 422, "pending_days"),
        ({"pending_days": "7"}, 400, "pending_days"),
        ({"locale": "not a locale"}, 422, "locale"),
        ({"locale": None}, 400, "locale"),
        ({"default_from": {"name": "x", "email": "nobody"}}, 422, "default_from.email"),
        ({"default_from": {"name": "x\r\nBcc: y@z.com", "email": "a@example.com"}}, 422, "default_from.name"),
        ({"default_from": {"name": "x"}}, 400, "default_from.email"),
        ({"theme": "dark"}, 400, "theme"),
    ],
)
async def test_settings_refuse_nonsense(client: httpx.AsyncClient, body: dict, status: int, field: str):
    """Each bad setting is named."""
    problem = assert_problem(await client.patch("/v1/settings", json=body), status)
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_a_strict_instance_knows_its_senders(settings: Settings, db: Connection):
    """With strict sending checks the default sender's domain must be set up; otherwise it need not be."""
    body = {"default_from": {"name": "x", "email": "news@example.com"}}
    app = create_app(msgspec.structs.replace(settings, sending_checks="strict"))
    async with (
        app.lifespan(),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://mailbase.test",
            headers={"Authorization": f"Bearer {settings.admin_key}"},
        ) as owner,
    ):
        assert_problem(await owner.patch("/v1/settings", json=body), 422, "unknown_domain")
        await db.execute("INSERT INTO domains (name) VALUES ('example.com')")
        assert (await owner.patch("/v1/settings", json=body)).status_code == 200


async def test_jobs_are_shown_and_cancelled(client: httpx.AsyncClient, db: Connection):
    """A waiting job is listed, found, cancelled at once, and cancelling twice is the same; a finished one is a conflict."""
    first = await db.fetchval("INSERT INTO jobs (kind, total) VALUES ('import', 10) RETURNING id")
    done = await db.fetchval("INSERT INTO jobs (kind, status) VALUES ('bulk', 'done') RETURNING id")
    assert [job["id"] for job in (await client.get("/v1/jobs")).json()["data"]] == [done, first]
    assert [job["id"] for job in (await client.get("/v1/jobs?status=done&kind=bulk")).json()["data"]] == [done]
    job = (await client.get(f"/v1/jobs/{first}")).json()
    assert {
        "id": first,
        "kind": "import",
        "status": "queued",
        "done": 0,
        "total": 10,
        "result": None,
        "error": None,
    }.items() <= job.items()
    for _ in range(2):
        assert (await client.post(f"/v1/jobs/{first}/cancel")).json()["status"] == "cancelled"
    assert_problem(await client.post(f"/v1/jobs/{done}/cancel"), 409, "job_finished")
    assert_problem(await client.get("/v1/jobs?status=lost"), 422)
    assert_problem(await client.get("/v1/jobs/999"), 404)


async def test_health(anonymous: httpx.AsyncClient):
    """The process and what it needs are well."""
    assert (await anonymous.get("/healthz")).json() == {"status": "ok"}
    assert (await anonymous.get("/readyz")).json() == {"status": "ok"}


async def test_without_redis_it_is_degraded(settings: Settings):
    """Without Redis everything is answered, and /readyz says what is amiss."""
    app = create_app(msgspec.structs.replace(settings, redis_url="redis://127.0.0.1:1/0"))
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mailbase.test") as visitor,
    ):
        answer = await visitor.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "degraded"})


async def test_without_the_database_it_is_not_ready(
    app: Mailbase, anonymous: httpx.AsyncClient, client: httpx.AsyncClient
):
    """Without PostgreSQL the process lives, is not ready, and keyed requests are 503."""
    await app.state.pool.close()
    assert (await anonymous.get("/healthz")).status_code == 200
    assert_problem(await anonymous.get("/readyz"), 503, "unavailable")
    assert_problem(await client.get("/v1/keys"), 503, "unavailable")


async def test_metrics(app: Mailbase, client: httpx.AsyncClient, db: Connection):
    """Metrics are for this machine, or for a key; they name routes, not addresses."""
    await db.execute("INSERT INTO jobs (kind) VALUES ('import')")
    await client.get("/v1/jobs/4711")
    text = (await client.get("/metrics")).text
    assert 'mailbase_jobs{kind="import",status="queued"} 1.0' in text
    assert 'route="/v1/jobs/{job_id}",status="404"' in text
    assert "4711" not in text
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=("203.0.113.1", 1)), base_url="http://localhost"
    ) as stranger:
        assert_problem(await stranger.get("/metrics"), 401)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as neighbour:
        assert (await neighbour.get("/metrics")).status_code == 200
        assert_problem(await neighbour.get("/metrics", headers={"X-Forwarded-For": "203.0.113.1"}), 401)


async def test_the_document_knows_every_route(app: Mailbase, anonymous: httpx.AsyncClient):
    """OpenAPI 3.1 names each operation, its scope, its errors as problems, and an example of each JSON body."""
    schema = (await anonymous.get("/schema/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    operations = {
        operation["operationId"]: (path, operation)
        for path, item in schema["paths"].items()
        for operation in item.values()
        if isinstance(operation, dict)
    }
    for route in routes(app):
        _, operation = operations[route.handler.operation_id]
        assert operation["summary"]
        assert operation["tags"]
        if route.keyed:
            assert operation["x-scope"] == route.scope
            assert operation["security"] == [{"key": []}]
            assert {"400", "401", "403", "503"} <= operation["responses"].keys()
        for holder in [operation.get("requestBody", {}), *operation["responses"].values()]:
            media = holder.get("content", {})
            if "application/json" in media:
                assert "example" in media["application/json"] or "examples" in media["application/json"], route
            if "application/problem+json" in media:
                assert media["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


async def test_the_reference_is_our_own(app: Mailbase, anonymous: httpx.AsyncClient):
    """/docs is one page that names every operation, runs no script and loads nothing."""
    answer = await anonymous.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert "http://" not in answer.text.replace("http://mailbase.test", "") or "src=" not in answer.text
    for route in routes(app):
        assert f'id="{route.handler.operation_id}"' in answer.text
