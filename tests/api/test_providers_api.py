"""``/v1/providers`` and ``/v1/relays`` as a program sees them."""

import msgspec
import pytest

from mailbase.config import Relay
from mailbase.sending.providers import domain_stops
from mailbase.sending.relays import egress
from sending.sending_kit import add_domain

PROVIDER = {
    "name", "mx_suffixes", "connections", "letters_per_connection", "letters_per_minute", "connections_per_minute", "tls",
    "verify_tls", "warmup_multiplier", "warmup_least", "id", "created_at", "updated_at",
}  # fmt: skip


async def everything(client, path):
    """Return all rows of a list, page by page."""
    rows, cursor = [], None
    while True:
        answer = await client.get(path, params={"limit": 20, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        rows += answer.json()["data"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return rows


async def key_with(client, *scopes):
    """Return headers of a key with these scopes alone."""
    made = await client.post("/v1/keys", json={"name": "k", "scopes": list(scopes)})
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['secret']}"}


async def test_the_table_is_shown_and_changed(client):
    """All providers are listed; a limit may be changed, given back to `other`, and a provider added and removed."""
    rows = {row["name"]: row for row in await everything(client, "/v1/providers")}
    assert {
        "google",
        "microsoft",
        "microsoft365",
        "yahoo",
        "apple",
        "gmx",
        "mailru",
        "yandex",
        "qq",
        "other",
    } <= rows.keys()
    assert rows["google"].keys() == PROVIDER
    google = f"/v1/providers/{rows['google']['id']}"
    changed = await client.patch(google, json={"connections": 2, "letters_per_minute": None, "warmup_multiplier": 0.9})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["connections"], changed.json()["warmup_multiplier"]) == (2, 0.9)
    assert (await client.get(google)).json() == changed.json()

    made = await client.post(
        "/v1/providers", json={"name": "hoster", "mx_suffixes": ["MX.Hoster.example."], "connections": 1}
    )
    assert made.status_code == 201, made.text
    assert made.json()["mx_suffixes"] == [".mx.hoster.example"]
    assert (await client.post("/v1/providers", json={"name": "hoster", "mx_suffixes": [".x.example"]})).json()[
        "code"
    ] == "provider_exists"
    mine = f"/v1/providers/{made.json()['id']}"
    assert (await client.delete(mine)).status_code == 204
    assert (await client.get(mine)).status_code == 404
    assert (await client.delete(f"/v1/providers/{rows['other']['id']}")).status_code == 409


async def test_rules_are_shown_and_changed(client):
    """Every rule shows its sample and advice; one may be switched off, added, and a pattern that misses its sample is refused."""
    rules = await everything(client, "/v1/providers/rules")
    assert len(rules) > 40
    assert all(rule["sample"] and rule["advice"] for rule in rules)
    off = await client.patch(f"/v1/providers/rules/{rules[0]['id']}", json={"enabled": False})
    assert off.json()["enabled"] is False
    rule = {
        "providers": ["gmx"],
        "pattern": "slow down",
        "sample": "421 slow down",
        "advice": "Slow down.",
        "letters_per_minute": 5,
    }
    made = await client.post("/v1/providers/rules", json=rule)
    assert made.status_code == 201, made.text
    assert (made.json()["threshold"], made.json()["suspend"]) == (5, False)
    gmx = (await client.get("/v1/providers/rules", params={"provider": "gmx", "include_total": "true"})).json()
    assert gmx["data"][0] == made.json()
    assert gmx["total"] == len(gmx["data"])
    refused = await client.patch(f"/v1/providers/rules/{made.json()['id']}", json={"sample": "421 faster"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "sample")
    assert (await client.post("/v1/providers/rules", json={**rule, "letters_per_minute": None})).json()[
        "code"
    ] == "no_action"
    for pattern in (
        "(",
        r"(slow)* down\1",
        r"(slow)* down|\\\1",
    ):  # a reference back takes hours on a reply made for it
        bad = await client.post("/v1/providers/rules", json={**rule, "pattern": pattern})
        assert (bad.status_code, bad.json()["code"]) == (422, "invalid_pattern")
    fine = await client.patch(f"/v1/providers/rules/{made.json()['id']}", json={"pattern": r"slow\s+down|\\1"})
    assert fine.status_code == 200, fine.text
    assert (await client.delete(f"/v1/providers/rules/{made.json()['id']}")).status_code == 204
    assert (await client.get(f"/v1/providers/rules/{made.json()['id']}")).status_code == 404


async def test_overrides_are_shown_set_and_taken_back(client):
    """What is in force shows until when and why; an owner sets one by hand and takes one back."""
    assert (await client.get("/v1/providers/overrides")).json()["data"] == []
    made = await client.post(
        "/v1/providers/overrides",
        json={"provider": "google", "suspend": True, "reason": "They called.", "duration_seconds": 600},
    )
    assert made.status_code == 201, made.text
    shown = (await client.get("/v1/providers/overrides", params={"provider": "google"})).json()["data"]
    assert shown == [made.json()]
    assert (shown[0]["egress"], shown[0]["rule_id"], shown[0]["reason"]) == ("*", None, "They called.")
    assert shown[0]["expires_at"] > shown[0]["created_at"]
    unknown = await client.post("/v1/providers/overrides", json={"provider": "gogle", "reason": "x", "suspend": True})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_provider")
    nothing = await client.post("/v1/providers/overrides", json={"provider": "google", "reason": "x"})
    assert (nothing.status_code, nothing.json()["code"]) == (422, "no_action")
    assert (await client.delete(f"/v1/providers/overrides/{made.json()['id']}")).status_code == 204
    assert (await client.get("/v1/providers/overrides")).json()["data"] == []


async def test_a_stopped_domain_is_shown_and_resumed(client, pool):
    """A domain a provider refused to authenticate says so and since when, until it is resumed."""
    async with pool.acquire() as db:
        domain_id = await add_domain(db)
        assert (await client.get(f"/v1/domains/{domain_id}")).json()["stopped"] is None
        await domain_stops.stop(db, {domain_id: "google said: 550 5.7.26 no"})
    stopped = (await client.get(f"/v1/domains/{domain_id}")).json()["stopped"]
    assert stopped["reason"] == "google said: 550 5.7.26 no"
    resumed = await client.post(f"/v1/domains/{domain_id}/resume")
    assert (resumed.status_code, resumed.json()["stopped"]) == (200, None)
    assert (await client.post("/v1/domains/999999/resume")).status_code == 404


async def test_relays_never_show_a_password(client):
    """A relay is added, listed, changed and removed; its password is in no answer, not even of a refusal."""
    answers = []
    made = await client.post(
        "/v1/relays", json={"name": "second", "url": "smtp://me:hunter2@relay.example:2525?tls=none", "weight": 3}
    )
    assert made.status_code == 201, made.text
    assert made.json()["url"] == "smtp://me@relay.example:2525?tls=none"
    assert (made.json()["weight"], made.json()["connections"], made.json()["enabled"]) == (3, 100, True)
    path = f"/v1/relays/{made.json()['id']}"
    answers += [made, await client.get("/v1/relays"), await client.get(path)]
    answers.append(await client.patch(path, json={"weight": 0, "enabled": False, "connections": 4}))
    assert (answers[-1].json()["weight"], answers[-1].json()["enabled"], answers[-1].json()["connections"]) == (
        0,
        False,
        4,
    )
    answers.append(await client.patch(path, json={"url": "smtp://you:hunter2@other.example?tls=never"}))
    assert (answers[-1].status_code, answers[-1].json()["errors"][0]["field"]) == (422, "url")
    answers.append(await client.post("/v1/relays", json={"name": "second", "url": "smtp://me:hunter2@relay.example"}))
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (409, "relay_exists")
    assert not any("hunter2" in answer.text for answer in answers)
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("name", ["relay", "outbox", "mx", "mx:192.0.2.1", "Two", ""])
async def test_a_relay_takes_no_egress_name_of_ours(client, name):
    """The names of the other ways out are no relay's."""
    refused = await client.post("/v1/relays", json={"name": name, "url": "smtp://relay.example"})
    assert refused.status_code in {400, 422}


async def test_every_way_out_is_seen_and_what_it_said(client, pool):
    """What the settings name is there before any worker was; a stop shows its words; relays with names rest beside the outbox."""
    assert (await client.post("/v1/relays", json={"name": "second", "url": "smtp://relay.example"})).status_code == 201
    outbox = {"name": "outbox", "kind": "outbox", "relay_id": None, "stopped_until": None, "stopped_reason": None}
    assert (await client.get("/v1/egress")).json() == {"data": [outbox], "next_cursor": None}
    counted = await client.get("/v1/egress", params={"limit": 1, "include_total": "true"})
    assert counted.json() == {"data": [outbox], "next_cursor": None, "total": 1}
    async with pool.acquire() as db:
        await egress.see(db, ["outbox"])
        await egress.stop(db, "outbox", "connect: No space left on device")
    stopped = (await client.get("/v1/egress")).json()["data"]
    assert stopped[0]["stopped_reason"] == "connect: No space left on device"
    assert stopped[0]["stopped_until"].endswith("Z")
    async with pool.acquire() as db:
        await egress.see(db, ["mx:192.0.2.1"])
        await egress.stop(db, "second", "auth: 535 5.7.8 no")
        found = await egress.ways_out(db, to_outbox=False)
    assert [(way.name, way.kind, way.relay_id is not None, way.stopped_reason) for way in found] == [
        ("mx:192.0.2.1", "mx", False, None),
        ("second", "relay", True, "auth: 535 5.7.8 no"),
    ]


class TestBesideARelay:
    """Where the settings name a relay, and others with names are beside it."""

    @pytest.fixture
    def settings(self, settings):
        return msgspec.structs.replace(settings, smtp=Relay("relay.example", 25, None, None, "none", 1))

    async def test_ways_out_page_like_every_list(self, client):
        """A page holds as many as asked for, and its cursor leads to the rest."""
        for name in ("ra", "rb"):
            await client.post("/v1/relays", json={"name": name, "url": "smtp://a.example"})
        whole = (await client.get("/v1/egress")).json()["data"]
        assert [way["name"] for way in whole] == ["relay", "ra", "rb"]
        first = (await client.get("/v1/egress", params={"limit": 2})).json()
        rest = (await client.get("/v1/egress", params={"limit": 2, "cursor": first["next_cursor"]})).json()
        assert (first["data"] + rest["data"], rest["next_cursor"]) == (whole, None)


async def test_reading_is_not_writing(client):
    """A key that may read domains sees all of it and changes nothing."""
    headers = await key_with(client, "domains:read")
    for path in ("/v1/providers", "/v1/providers/rules", "/v1/providers/overrides", "/v1/relays"):
        assert (await client.get(path, headers=headers)).status_code == 200
        assert (await client.post(path, headers=headers, json={})).status_code in {400, 403}
    assert (await client.get("/v1/egress", headers=headers)).status_code == 200
    assert (
        await client.post("/v1/relays", headers=headers, json={"name": "a", "url": "smtp://a.example"})
    ).status_code == 403
    other = await key_with(client, "subscribers:read")
    assert (await client.get("/v1/providers", headers=other)).status_code == 403
