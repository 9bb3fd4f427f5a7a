"""Subscribers, interests, suppressions and consents through the API: what an owner may do with people, and what nobody may."""

import asyncio

import asyncpg
import pytest

from mailbase.audience import addresses, subscribers

CONSENT = {
    "purpose": "newsletter",
    "text": "Yes, write to me.",
    "policy_url": "https://shop.example/privacy",
    "ip": "192.0.2.7",
    "source": "till",
}


async def add(client, email="Ann@Example.com", **more):
    body = {"email": email, "double_opt_in": False, "consent": CONSENT, **more}
    answer = await client.post("/v1/subscribers", json=body)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


async def interest(client, slug="news", **more):
    answer = await client.post("/v1/interests", json={"slug": slug, "name": slug.title(), **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code, answer.text
    return answer.json()


async def test_interest_crud(client):
    """An interest is made, listed, renamed and deleted; its slug is unique and well-formed."""
    made = await interest(client, "news", description="All of it")
    assert made["public"] is True
    problem(await client.post("/v1/interests", json={"slug": "news", "name": "x"}), 409, "interest_exists")
    assert (await client.post("/v1/interests", json={"slug": "No Slug", "name": "x"})).status_code == 422
    other = await interest(client, "sales")
    problem(await client.patch(f"/v1/interests/{other['id']}", json={"slug": "news"}), 409, "interest_exists")
    changed = await client.patch(
        f"/v1/interests/{made['id']}", json={"slug": "stories", "public": False, "description": None}
    )
    assert {"slug": "stories", "public": False, "description": None}.items() <= changed.json().items()
    listed = (await client.get("/v1/interests?include_total=true")).json()
    assert [one["slug"] for one in listed["data"]] == ["sales", "stories"]
    assert listed["total"] == 2
    assert (await client.delete(f"/v1/interests/{made['id']}")).status_code == 204
    assert (await client.get(f"/v1/interests/{made['id']}")).status_code == 404


async def test_a_deleted_interest_is_taken_from_everybody(client):
    """Who had chosen an interest no longer has it once it is deleted."""
    made = await interest(client)
    person = await add(client, interests=["news"])
    assert person["interests"] == ["news"]
    await client.delete(f"/v1/interests/{made['id']}")
    assert (await client.get(f"/v1/subscribers/{person['id']}")).json()["interests"] == []


async def test_adding_with_consent_makes_active_at_once(client):
    """Without double opt-in a person with consent is active, and the ledger holds the words, where and when."""
    await interest(client)
    person = await add(
        client,
        attributes={"city": "Porto", "age": 41, "vip": True, "likes": ["tea"]},
        tags=["b", "a", "b"],
        interests=["news"],
        locale="pt-PT",
        timezone="Europe/Lisbon",
    )
    assert person["status"] == "active"
    assert person["email"] == "Ann@example.com"
    assert person["tags"] == ["a", "b"]
    assert person["attributes"] == {"city": "Porto", "age": 41, "vip": True, "likes": ["tea"]}
    assert person["source"] == "api"
    [consent] = (await client.get(f"/v1/subscribers/{person['id']}/consents")).json()["data"]
    assert {
        "purpose": "newsletter",
        "text": "Yes, write to me.",
        "ip": "192.0.2.7",
        "act": "given",
        "source": "till",
    }.items() <= consent.items()
    assert len(consent["version"]) == 64
    events = (await client.get(f"/v1/subscribers/{person['id']}/events")).json()["data"]
    assert [event["kind"] for event in events] == ["created"]


async def test_adding_without_double_opt_in_needs_consent(client):
    """`double_opt_in: false` without consent is refused, naming the field."""
    refused = problem(
        await client.post("/v1/subscribers", json={"email": "a@example.com", "double_opt_in": False}),
        422,
        "consent_required",
    )
    assert refused["errors"][0]["field"] == "consent"


async def test_double_opt_in_needs_a_sender(client):
    """With neither a form nor a default sender nobody can be asked, and nobody is added."""
    problem(await client.post("/v1/subscribers", json={"email": "a@example.com"}), 422, "sender_missing")
    assert (await client.get("/v1/subscribers/by-email/a@example.com")).status_code == 404


async def test_double_opt_in_sends_one_letter(client, db):
    """With a default sender a new person is pending and gets one confirmation; asking again at once is a 429 that says when."""
    assert (
        await client.patch("/v1/settings", json={"default_from": {"name": "Shop", "email": "hello@shop.example"}})
    ).status_code == 200
    answer = await client.post("/v1/subscribers", json={"email": "a@example.com"})
    assert answer.status_code == 201
    assert answer.json()["status"] == "pending"
    assert await db.fetchval("SELECT count(*) FROM messages WHERE kind = 'confirmation'") == 1
    again = await client.post(f"/v1/subscribers/{answer.json()['id']}/confirmation")
    assert again.status_code == 429
    assert 1 <= int(again.headers["Retry-After"]) <= 600
    await db.execute("UPDATE confirmation_cooldowns SET next_at = now()")
    assert (await client.post(f"/v1/subscribers/{answer.json()['id']}/confirmation")).status_code == 202
    assert await db.fetchval("SELECT count(*) FROM messages WHERE kind = 'confirmation'") == 2


async def test_only_pending_people_are_asked_again(client):
    """The confirmation of somebody who is active is a 409."""
    person = await add(client)
    problem(await client.post(f"/v1/subscribers/{person['id']}/confirmation"), 409, "not_pending")


async def test_one_address_is_one_person(client):
    """The case of an address does not make a second person; an existing one is a 409 unless said otherwise."""
    await add(client, "Ann@Example.com")
    problem(
        await client.post(
            "/v1/subscribers", json={"email": "ANN@example.COM", "double_opt_in": False, "consent": CONSENT}
        ),
        409,
        "subscriber_exists",
    )
    assert (await client.get("/v1/subscribers/by-email/aNN@EXAMPLE.com")).json()["email"] == "Ann@example.com"


async def test_merge_replace_and_skip(client):
    """`merge` adds to what is there, `replace` puts itself in its place, `skip` changes nothing; all answer 200."""
    first = await add(client, attributes={"a": 1, "b": 2}, tags=["x"], locale="en")
    merged = await add(client, on_conflict="merge", attributes={"b": 3, "c": 4}, tags=["y"])
    assert (merged["id"], merged["attributes"], merged["tags"], merged["locale"]) == (
        first["id"],
        {"a": 1, "b": 3, "c": 4},
        ["x", "y"],
        "en",
    )
    skipped = await add(client, on_conflict="skip", attributes={"z": 1})
    assert skipped["attributes"] == merged["attributes"]
    replaced = await add(client, on_conflict="replace", attributes={"n": 1})
    assert (replaced["attributes"], replaced["tags"], replaced["locale"]) == ({"n": 1}, [], None)


async def test_put_by_email_upserts(client):
    """PUT adds (201) or merges (200), also for addresses with `+`, `/` and an encoded `@`."""
    body = {"double_opt_in": False, "consent": CONSENT, "attributes": {"a": 1}}
    made = await client.put("/v1/subscribers/by-email/a%2Fb+c%40example.com", json=body)
    assert (made.status_code, made.json()["email"]) == (201, "a/b+c@example.com")
    again = await client.put("/v1/subscribers/by-email/A%2Fb%2Bc@example.com", json={**body, "attributes": {"b": 2}})
    assert (again.status_code, again.json()["attributes"]) == (200, {"a": 1, "b": 2})
    assert again.json()["id"] == made.json()["id"]


async def test_lists_filter(client):
    """The list is narrowed by status, tag, interest and the beginning of the address, newest first."""
    await interest(client)
    await add(client, "ann@example.com", tags=["x"])
    await add(client, "anna@example.com", interests=["news"])
    bob = await add(client, "bob_1@example.com", tags=["x"])
    await client.post(f"/v1/subscribers/{bob['id']}/unsubscribe")

    async def found(query):
        return [one["email"] for one in (await client.get(f"/v1/subscribers?{query}")).json()["data"]]

    assert await found("") == ["bob_1@example.com", "anna@example.com", "ann@example.com"]
    assert await found("tag=x") == ["bob_1@example.com", "ann@example.com"]
    assert await found("tag=x&status=active") == ["ann@example.com"]
    assert await found("interest=news") == ["anna@example.com"]
    assert await found("interest=nobody") == []
    assert await found("email_prefix=Ann") == ["anna@example.com", "ann@example.com"]
    assert await found("email_prefix=bob_") == ["bob_1@example.com"]
    assert await found("email_prefix=b%25") == []
    assert (await client.get("/v1/subscribers?status=gone")).status_code in {400, 422}


async def test_patch(client):
    """PATCH merges attributes key by key (null removes), replaces lists, and clears locale and time zone by null."""
    person = await add(client, attributes={"a": 1, "b": 2}, tags=["x"], locale="en", timezone="UTC")
    changed = (
        await client.patch(
            f"/v1/subscribers/{person['id']}", json={"attributes": {"a": None, "c": 3}, "tags": ["y"], "timezone": None}
        )
    ).json()
    assert (changed["attributes"], changed["tags"], changed["locale"], changed["timezone"]) == (
        {"b": 2, "c": 3},
        ["y"],
        "en",
        None,
    )
    assert (await client.patch(f"/v1/subscribers/{person['id']}", json={"email": "b@example.com"})).status_code == 400
    assert (await client.patch("/v1/subscribers/999999", json={"tags": []})).status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attributes", {"with space": 1}),
        ("attributes", {"nested": {"a": 1}}),
        ("attributes", {"numbers": [1, 2]}),
        ("attributes", {f"k{n}": n for n in range(65)}),
        ("attributes", {"long": "x" * 17_000}),
        ("attributes", {"huge": 2**64}),
        ("tags", ["x" * 65]),
        ("tags", [""]),
        ("tags", [str(n) for n in range(65)]),
        ("interests", ["nobody-knows"]),
        ("locale", "not a locale"),
        ("timezone", "Mars/Olympus"),
        ("email", "no-at-sign"),
        ("email", "a@nodot"),
        ("email", "x" * 65 + "@example.com"),
        ("consent", {**CONSENT, "ip": "not an ip"}),
        ("consent", {**CONSENT, "policy_url": "javascript:alert(1)"}),
        ("consent", {**CONSENT, "at": "2999-01-01T00:00:00Z"}),
        ("form_id", 12345),
    ],
)
async def test_unacceptable_values_name_their_field(client, field, value):
    """What cannot be kept is a 422 that names the field."""
    body = {"email": "a@example.com", "double_opt_in": False, "consent": CONSENT, field: value}
    answer = await client.post("/v1/subscribers", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"].startswith(field)


async def test_merging_cannot_pass_the_limits(client):
    """Two writes within the limits that together exceed them are refused, and nothing changes."""
    person = await add(client, attributes={f"a{n}": 1 for n in range(40)})
    refused = await client.put(
        "/v1/subscribers/by-email/ann@example.com", json={"attributes": {f"b{n}": 1 for n in range(40)}}
    )
    assert refused.status_code == 422
    assert len((await client.get(f"/v1/subscribers/{person['id']}")).json()["attributes"]) == 40


@pytest.mark.parametrize("how", ["unsubscribe", "bounce", "complaint"])
async def test_nothing_an_owner_writes_brings_back(client, db, how):
    """Who left, bounced or complained stays so under POST, PUT and PATCH."""
    person = await add(client)
    if how == "unsubscribe":
        await client.post(f"/v1/subscribers/{person['id']}/unsubscribe")
    else:
        async with db.transaction():
            await (subscribers.mark_bounced if how == "bounce" else subscribers.mark_complained)(db, person["id"])
    status = {"unsubscribe": "unsubscribed", "bounce": "bounced", "complaint": "complained"}[how]
    for conflict in ("merge", "replace", "skip"):
        assert (await add(client, on_conflict=conflict))["status"] == status
    put = await client.put(
        "/v1/subscribers/by-email/ann@example.com", json={"double_opt_in": False, "consent": CONSENT}
    )
    assert put.json()["status"] == status
    for step in ("active", "archived", "pending"):
        problem(await client.patch(f"/v1/subscribers/{person['id']}", json={"status": step}), 409, "status_not_allowed")


async def test_archiving_and_back(client):
    """`archived` is set and lifted by PATCH, from and to `active` only; an upsert does not lift it."""
    person = await add(client)
    path = f"/v1/subscribers/{person['id']}"
    assert (await client.patch(path, json={"status": "archived"})).json()["status"] == "archived"
    assert (await add(client, on_conflict="merge"))["status"] == "archived"
    assert (await client.patch(path, json={"status": "active"})).json()["status"] == "active"
    assert (await client.patch(path, json={"status": "unsubscribed"})).json()["status"] == "unsubscribed"


async def test_unsubscribing_withdraws_in_the_ledger_once(client):
    """Leaving is noted in timeline and ledger, and a second time changes nothing."""
    person = await add(client)
    for _ in range(2):
        left = await client.post(f"/v1/subscribers/{person['id']}/unsubscribe")
        assert (left.status_code, left.json()["status"]) == (200, "unsubscribed")
    acts = [one["act"] for one in (await client.get(f"/v1/subscribers/{person['id']}/consents")).json()["data"]]
    assert acts == ["withdrawn", "given"]
    kinds = [one["kind"] for one in (await client.get(f"/v1/subscribers/{person['id']}/events")).json()["data"]]
    assert kinds == ["unsubscribed", "created"]


async def test_the_ledger_cannot_be_rewritten(client, db):
    """Not even SQL changes a consent."""
    await add(client)
    with pytest.raises(asyncpg.RaiseError):
        await db.execute("UPDATE consents SET text = 'other words'")


async def test_the_timeline_merges_opens_and_clicks_and_pages(client, db):
    """Opens and clicks stand between the other events, and a walk over pages of one sees each line once, newest first."""
    person = await add(client)
    await db.execute(
        "INSERT INTO signals (delivery_id, campaign_id, subscriber_id, kind, verdict) VALUES (1, 1, $1, 'open', 'human')",
        person["id"],
    )
    await client.post(f"/v1/subscribers/{person['id']}/unsubscribe")
    seen, cursor = [], ""
    while True:
        answer = (await client.get(f"/v1/subscribers/{person['id']}/events?limit=1{cursor}")).json()
        seen += [event["kind"] for event in answer["data"]]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert seen == ["unsubscribed", "opened", "created"]


async def test_export_of_a_person_holds_every_room(client):
    """The export names the person, the consents, the events, letters and signals."""
    person = await add(client, attributes={"city": "Porto"})
    held = (await client.get(f"/v1/subscribers/{person['id']}/export")).json()
    assert held["subscriber"]["attributes"] == {"city": "Porto"}
    assert held["consents"][0]["text"] == CONSENT["text"]
    assert set(held) >= {
        "events",
        "submissions",
        "confirmations",
        "messages",
        "deliveries",
        "opens_and_clicks",
        "bounces",
    }


async def test_erasure_leaves_a_hash_and_nothing_else(client, db):
    """After DELETE no table holds the address in any form but a keyed hash, and the address is refused for good."""
    await client.patch("/v1/settings", json={"default_from": {"name": "Shop", "email": "hello@shop.example"}})
    email = "very-peculiar-name@example.com"
    posted = await client.post(
        "/v1/subscribers",
        json={"email": email, "attributes": {"city": "Peculiartown"}},
        headers={"Idempotency-Key": "one"},
    )
    person = posted.json()
    await db.execute(
        "INSERT INTO bounces (delivery_id, subscriber_id, email, class, reason, reply) VALUES (1, $1, $2, 'soft', 'mailbox_full', $3)",
        person["id"],
        email,
        f"452 {email} full",
    )
    await db.execute(
        "INSERT INTO signals (delivery_id, campaign_id, subscriber_id, kind, verdict, ip) VALUES (1, 1, $1, 'open', 'human', '192.0.2.9')",
        person["id"],
    )
    assert (await client.delete(f"/v1/subscribers/{person['id']}")).status_code == 204
    tables = [
        row["name"]
        for row in await db.fetch(
            "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"
        )
    ]
    for table in tables:
        for row in await db.fetch(f'SELECT t::text AS line FROM "{table}" AS t'):
            assert "peculiar" not in row["line"].lower(), table
            assert email.encode().hex() not in row["line"], table
    assert await db.fetchval("SELECT count(*) FROM signals WHERE subscriber_id IS NULL AND ip IS NULL") == 1
    for body in ({"double_opt_in": True}, {"double_opt_in": False, "consent": CONSENT}):
        problem(await client.post("/v1/subscribers", json={"email": email.upper(), **body}), 422, "suppressed")
    problem(await client.put(f"/v1/subscribers/by-email/{email}", json={}), 422, "suppressed")
    [entry] = (await client.get("/v1/suppressions?reason=erased")).json()["data"]
    assert (entry["email"], entry["domain"], entry["kind"]) == (None, None, "erased")
    problem(await client.delete(f"/v1/suppressions/{entry['id']}"), 409, "erased")
    assert (await client.delete(f"/v1/subscribers/{person['id']}")).status_code == 404


@pytest.mark.parametrize("how", ["merge", "replace", "skip", "put"])
async def test_an_erased_address_typed_into_a_form_is_no_way_back_for_the_owner(client, db, how):
    """Until the mailbox has confirmed, an erased person who is pending again cannot be made active or described."""
    email = "erased-then-typed@example.com"
    await client.delete(f"/v1/subscribers/{(await add(client, email=email))['id']}")
    await subscribers.create(db, addresses.parse(email), subscribers.Details(), status="pending", source="form")
    body = {"double_opt_in": False, "consent": CONSENT, "attributes": {"city": "Bath"}}
    if how == "put":
        answer = await client.put(f"/v1/subscribers/by-email/{email}", json=body)
    else:
        answer = await client.post("/v1/subscribers", json={"email": email, "on_conflict": how, **body})
    problem(answer, 422, "suppressed")
    assert (await client.get(f"/v1/subscribers/by-email/{email}")).json()["status"] == "pending"


async def test_suppressions(client):
    """Addresses and domains are suppressed in their canonical form, once, and lifted by DELETE."""
    made = (await client.post("/v1/suppressions", json={"email": "Ann@BÜCHER.example", "reason": "manual"})).json()
    assert (made["email"], made["reason"], made["kind"]) == ("ann@xn--bcher-kva.example", "manual", "email")
    problem(
        await client.post("/v1/suppressions", json={"email": "ann@xn--bcher-kva.example"}), 409, "suppression_exists"
    )
    domain = (await client.post("/v1/suppressions", json={"domain": "Blocked.Example."})).json()
    assert domain["domain"] == "blocked.example"
    problem(await client.post("/v1/subscribers", json={"email": "x@blocked.example"}), 422, "suppressed")
    assert (
        await client.post("/v1/suppressions", json={"domain": "x.example", "email": "x@x.example"})
    ).status_code == 422
    assert (await client.post("/v1/suppressions", json={"reason": "manual"})).status_code == 422
    told = await client.post("/v1/suppressions", json={"email": "phone@example.com", "reason": "asked us by phone"})
    assert (told.status_code, told.json()["reason"]) == (201, "asked us by phone")
    assert len((await client.get("/v1/suppressions?reason=asked us by phone")).json()["data"]) == 1
    assert (await client.post("/v1/suppressions", json={"domain": "x.example", "reason": "erased"})).status_code in {
        400,
        422,
    }
    assert [one["id"] for one in (await client.get("/v1/suppressions?domain=BLOCKED.example")).json()["data"]] == [
        domain["id"]
    ]
    assert (await client.delete(f"/v1/suppressions/{domain['id']}")).status_code == 204
    await add(client, "x@blocked.example")


async def test_many_upserts_of_one_address_at_once_make_one_person(client, db):
    """Twenty concurrent PUTs of one address end without an error in one row that has all tags."""
    answers = await asyncio.gather(
        *(
            client.put(
                "/v1/subscribers/by-email/ann@example.com",
                json={"double_opt_in": False, "consent": CONSENT, "tags": [f"t{n}"]},
            )
            for n in range(20)
        )
    )
    assert {answer.status_code for answer in answers} == {200, 201}
    assert [answer.status_code for answer in answers].count(201) == 1
    assert await db.fetchval("SELECT cardinality(tags) FROM subscribers") == 20


async def test_scopes(anonymous, client):
    """Reading and writing people are two scopes."""
    made = (await client.post("/v1/keys", json={"name": "reader", "scopes": ["subscribers:read"]})).json()
    headers = {"Authorization": f"Bearer {made['secret']}"}
    assert (await anonymous.get("/v1/subscribers", headers=headers)).status_code == 200
    assert (
        await anonymous.post("/v1/subscribers", json={"email": "a@example.com"}, headers=headers)
    ).status_code == 403
