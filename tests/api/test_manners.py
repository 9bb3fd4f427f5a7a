"""Every route keeps the same manners. The routes come from the application's own table, so a new one is held to them at once."""

import re

import httpx
import pytest

from api_routes import Route, assert_problem, routes
from mailbase.api.common import BODILESS
from mailbase.app import Mailbase
from mailbase.audience import keys
from mailbase.db import Connection


@pytest.fixture
def every(app: Mailbase) -> list[Route]:
    return routes(app)


@pytest.fixture
def keyed(every: list[Route]) -> list[Route]:
    return [route for route in every if route.keyed]


async def ask(client: httpx.AsyncClient, route: Route, **options) -> httpx.Response:
    return await client.request(route.method, route.url, **options)


async def test_every_route_says_what_it_is(every: list[Route]):
    """Each route has a name of its own, a tag, a sentence, and under /v1 a scope."""
    names = [route.handler.operation_id for route in every]
    assert all(names)
    assert len(set(names)) == len(names)
    for route in every:
        assert route.handler.tags, route
        assert route.handler.fn.__doc__, route
        assert route.scope or not route.keyed, route


async def test_without_a_key_nothing_is_told(anonymous: httpx.AsyncClient, keyed: list[Route]):
    """Every keyed route answers 401 to no key, an unknown key and another scheme, before it looks at anything else."""
    for route in keyed:
        for headers in (
            {},
            {"Authorization": "Bearer mb_unknown"},
            {"Authorization": "Basic bWI6eA=="},
            {"Authorization": "Bearer"},
        ):
            answer = await ask(anonymous, route, headers=headers)
            assert_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_opens_its_scopes_only(anonymous: httpx.AsyncClient, db: Connection, keyed: list[Route]):
    """A key with every scope but the route's (and not admin) is refused with 403."""
    every = [scope for scope in keys.Scope.__args__ if scope != "admin"]
    for scope in {route.scope for route in keyed}:
        made = await keys.create(db, "all but one", [one for one in every if one != scope])
        for route in keyed:
            if route.scope == scope:
                assert_problem(
                    await ask(anonymous, route, headers={"Authorization": f"Bearer {made.secret}"}), 403, "forbidden"
                )


async def test_unknown_parameters_are_refused(client: httpx.AsyncClient, keyed: list[Route]):
    """A query parameter that a keyed route does not have is a 400 that names it."""
    for route in keyed:
        problem = assert_problem(await ask(client, route, params={"surely_not": "1"}), 400, "malformed")
        assert problem["errors"][0]["field"] == "surely_not"


async def test_unknown_paths_and_methods(client: httpx.AsyncClient, anonymous: httpx.AsyncClient, every: list[Route]):
    """A path nobody knows is 404, a method a path does not have is 405 with the ones it has; both are problems."""
    assert_problem(await client.get("/"), 404, "not_found")
    for path in ("/nowhere", "/v1", "/v1/nowhere", "/v1/keys/1/nothing"):
        assert_problem(await client.get(path), 404, "not_found")
        assert_problem(await anonymous.post(path), 404, "not_found")
    assert_problem(await client.get("/v1/keys/one"), 404, "not_found")
    for template in {route.template for route in every}:
        mine = [route for route in every if route.template == template]
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - {route.method for route in mine}:
            answer = await anonymous.request(method, mine[0].url)
            assert_problem(answer, 405, "method_not_allowed")
            assert {route.method for route in mine} <= set(answer.headers["allow"].split(", "))
        options = await anonymous.options(mine[0].url)
        if "allow" in options.headers:
            assert {route.method for route in mine} <= set(options.headers["allow"].split(", ")), template


async def test_bodies_must_be_json(client: httpx.AsyncClient, keyed: list[Route]):
    """A body of another type is 415, one that is not JSON or no object is 400, and so is an unknown field, which is named."""
    for route in keyed:
        if not route.json_body:
            continue
        for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
            assert_problem(
                await ask(client, route, content=b"{}", headers={"Content-Type": kind}), 415, "unsupported_media_type"
            )
        for body in (b"{", b"\xff", b"[]", b'"text"', b"1", b'{"a": 1', b"[" * 2000):
            assert_problem(
                await ask(client, route, content=body, headers={"Content-Type": "application/json"}), 400, "malformed"
            )
        problem = assert_problem(await ask(client, route, json={"surely_not": 1}), 400, "malformed")
        assert {"field": "surely_not", "code": "unknown_field", "message": "There is no such field."} in problem[
            "errors"
        ]


async def test_a_field_is_never_taken_and_ignored(client: httpx.AsyncClient, keyed: list[Route]):
    """Where no body is taken a field is 400 and another type 415; nothing, `{}` and `null` are as good as none."""
    bodiless = [route for route in keyed if route.handler.opt[BODILESS]]
    assert {"pause_campaign", "cancel_campaign", "duplicate_campaign", "verify_domain", "rotate_domain_key"} <= {
        route.handler.operation_id for route in bodiless
    }
    for route in bodiless:
        problem = assert_problem(await ask(client, route, json={"until": "noon"}), 400, "malformed")
        assert [(one["field"], one["code"]) for one in problem["errors"]] == [("until", "unknown_field")]
        assert_problem(await ask(client, route, content=b"until=noon", headers={"Content-Type": "text/plain"}), 415)
        for body in (b"", b" ", b"{}", b"null"):
            answer = await ask(client, route, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code not in {400, 415}, (route, body, answer.text)


async def test_bodies_have_a_limit(client: httpx.AsyncClient, keyed: list[Route]):
    """A body announced beyond the route's limit is 413 before a byte of it is read, and the connection ends with it."""
    limits = {route.handler.resolve_request_max_body_size() for route in keyed}
    assert 1024 * 1024 in limits
    for route in keyed:
        if route.handler.parsed_data_field is not None:
            limit = route.handler.resolve_request_max_body_size()
            kind = "application/json" if route.json_body else "multipart/form-data; boundary=x"
            answer = await ask(
                client, route, content=b"{}", headers={"Content-Type": kind, "Content-Length": str(limit + 1)}
            )
            assert_problem(answer, 413, "too_large")
            assert answer.headers["Connection"] == "close"


async def test_a_body_longer_than_it_said(client: httpx.AsyncClient):
    """A body whose length is not announced is counted as it comes."""

    async def endless():
        for _ in range(40):
            yield b" " * 65536

    assert_problem(
        await client.post("/v1/keys", content=endless(), headers={"Content-Type": "application/json"}), 413, "too_large"
    )


async def test_ids_beyond_any_row(client: httpx.AsyncClient, keyed: list[Route]):
    """An id larger than PostgreSQL can hold is 404, not an error."""
    for route in keyed:
        if ":int}" in route.template:
            huge = Route(route.method, route.template, route.handler, big=True)
            assert_problem(await ask(client, huge, json={} if route.json_body else None), 404, "not_found")


async def test_lists_page_alike(client: httpx.AsyncClient, keyed: list[Route]):
    """Every list has limit, cursor and total in the same words, and refuses bad ones with 400."""
    for route in keyed:
        if not route.listing or "{" in route.template:
            continue
        plain = (await ask(client, route)).json()
        assert plain.keys() == {"data", "next_cursor"}, route
        assert (await ask(client, route, params={"include_total": "true", "limit": "200"})).json()["total"] >= len(
            plain["data"]
        )
        for name, bad in (
            ("limit", "0"),
            ("limit", "201"),
            ("limit", "-1"),
            ("limit", "ten"),
            ("limit", "1.5"),
            ("limit", ""),
            ("cursor", "x"),
            ("cursor", ""),
            ("cursor", "AAAAAAAAAAAAAAAA"),
            ("include_total", "maybe"),
        ):
            problem = assert_problem(await ask(client, route, params={name: bad}), 400, f"bad_{name}")
            assert problem["errors"][0]["field"] == name


async def test_head_is_get_without_its_body(client: httpx.AsyncClient, every: list[Route]):
    """HEAD answers what GET would, without the body, on every route that has GET."""
    for route in every:
        if route.method == "GET" and "{" not in route.template and route.template != "/metrics":
            plain, head = await client.get(route.url), await client.head(route.url)
            assert (head.status_code, head.content) == (plain.status_code, b""), route
            assert head.headers["content-type"] == plain.headers["content-type"]


async def test_keyed_answers_are_nobody_elses(client: httpx.AsyncClient, keyed: list[Route]):
    """No keyed answer is cached, sniffed, or readable by a page of another origin."""
    for route in keyed:
        answer = await ask(
            client, route, headers={"Origin": "https://elsewhere.example"}, json={} if route.json_body else None
        )
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        options = await client.options(
            route.url, headers={"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
        )
        assert not [name for name in options.headers if name.startswith("access-control-")]


async def test_public_refusals_read_well(anonymous: httpx.AsyncClient, every: list[Route]):
    """A browser gets a page for a public address that leads nowhere, a program a problem."""
    asked = [route for route in every if not route.keyed and route.method == "GET" and "{" in route.template]
    for route in asked:
        page = await ask(anonymous, route, headers={"Accept": "text/html,application/xhtml+xml"})
        if page.status_code == 404:
            assert page.headers["content-type"].startswith("text/html"), route
            assert_problem(await ask(anonymous, route, headers={"Accept": "application/json"}), 404)
    page = await anonymous.get("/<script>", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in page.text


async def test_text_no_database_holds(client: httpx.AsyncClient):
    """NUL characters are 422 wherever text goes, and 404 in a path."""
    problem = assert_problem(await client.post("/v1/keys", json={"name": "a\0b", "scopes": ["stats:read"]}), 422)
    assert problem["errors"] == [
        {"field": "name", "code": "invalid_value", "message": "Text may not contain the NUL character."}
    ]
    assert_problem(await client.get("/v1/jobs?kind=a%00b"), 422)
    assert_problem(await client.get("/v1/jobs?kind=a&kind=b"), 400, "malformed")
    assert (await client.get("/v1/jobs?kind=%ff%fe")).status_code in {200, 400, 422}


async def test_encoded_slashes_belong_to_their_segment(client: httpx.AsyncClient):
    """An address with a slash and a plus is found by its encoded form, whichever characters were encoded."""
    made = await client.put(
        "/v1/subscribers/by-email/a%2Fb%2Bc%40example.com",
        json={"double_opt_in": False, "consent": {"purpose": "newsletter", "text": "Yes."}},
    )
    assert made.status_code == 201, made.text
    assert made.json()["email"] == "a/b+c@example.com"
    for path in ("a%2Fb%2Bc%40example.com", "a%2fb+c@example.com"):
        assert (await client.get(f"/v1/subscribers/by-email/{path}")).json()["id"] == made.json()["id"]
    assert_problem(await client.get("/v1/subscribers/by-email/a/b+c@example.com"), 404)


async def test_times_are_whole_seconds(client: httpx.AsyncClient):
    """A time in an answer is UTC, without fractions."""
    made = (
        await client.post(
            "/v1/keys", json={"name": "x", "scopes": ["admin"], "expires_at": "2100-01-01T01:30:00.25+01:30"}
        )
    ).json()
    assert made["expires_at"] == "2100-01-01T00:00:00Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["created_at"])


LATE = """
CREATE FUNCTION too_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
CREATE CONSTRAINT TRIGGER too_late AFTER INSERT ON api_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION too_late();
"""


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "late"}])
async def test_no_success_before_the_commit(client: httpx.AsyncClient, db: Connection, headers: dict[str, str]):
    """When the commit itself fails the answer is a 500, not a success that did not happen."""
    await db.execute(LATE)
    assert_problem(
        await client.post("/v1/keys", json={"name": "x", "scopes": ["admin"]}, headers=headers), 500, "internal"
    )
    assert await db.fetchval("SELECT count(*) FROM api_keys WHERE name = 'x'") == 0
    await db.execute("DROP TRIGGER too_late ON api_keys")
    assert (await client.post("/v1/keys", json={"name": "x", "scopes": ["admin"]}, headers=headers)).status_code == 201


async def test_what_nobody_expected_is_told_to_the_log_only(
    client: httpx.AsyncClient, db: Connection, caplog: pytest.LogCaptureFixture
):
    """An unexpected error is a 500 without internals; the log has it once, under the request's id."""
    await db.execute("ALTER TABLE settings RENAME TO elsewhere")
    problem = assert_problem(await client.get("/v1/settings"), 500, "internal")
    assert "settings" not in problem["detail"].lower()
    told = [record for record in caplog.records if problem["request_id"] in record.getMessage()]
    assert len(told) == 1
    assert told[0].exc_info
