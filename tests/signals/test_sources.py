"""Signal sources: setting them up, and what holds for every provider's webhook."""

import asyncio
import json

from redis.asyncio import Redis

from api_routes import assert_problem
from mailbase.audience import erasure
from mailbase.optin import limits
from mailbase.signals import source_events, sources
from signals.signals_kit import counted
from signals.webhooks_kit import SendGridKey, add_source, events_of, fate, path_of, send_letters

BREVO = {"Authorization": "Bearer s3cret-of-brevo"}


def brevo(letter, event="hard_bounce", **more):
    """Return an event as documented: https://developers.brevo.com/docs/transactional-webhooks"""
    return {
        "event": event,
        "email": letter.email,
        "id": 26224,
        "date": "2026-03-11 16:32:49",
        "message-id": "<202603111632.1234@smtp-relay.mailin.fr>",
        "X-Mailin-custom": letter.message_id,
        "ts_epoch": 1773246769000,
        "subject": "Fresh bread",
        "reason": "550 5.1.1 <reader@reader.example> User doesn't exist",
        **more,
    }


UNUSABLE = [
    ({"provider": "mailgun"}, 422, "secret_missing"),
    ({"provider": "mailgun", "secret": "  "}, 422, "secret_missing"),
    ({"provider": "mailgun", "secret": "a", "token": "b"}, 422, "secret_twice"),
    ({"provider": "mailgun", "secret": "a", "topic_arn": "arn:aws:sns:us-east-1:123456789012:t"}, 422, "not_used"),
    ({"provider": "ses"}, 422, "invalid_topic"),
    ({"provider": "ses", "topic_arn": "arn:aws:sqs:us-east-1:123456789012:t"}, 422, "invalid_topic"),
    ({"provider": "ses", "secret": "a", "topic_arn": "arn:aws:sns:us-east-1:123456789012:t"}, 422, "not_used"),
    ({"provider": "sendgrid", "secret": "bm90IGEga2V5"}, 422, "invalid_key"),
    ({"provider": "sparkpost", "secret": "a"}, 422, None),
    ({"provider": "mailgun", "secret": "a", "url": "x"}, 400, "malformed"),
]


async def test_what_cannot_verify_anything_is_refused(client):
    """A source needs what its provider's requests are verified by, and takes nothing else."""
    for body, status, code in UNUSABLE:
        problem = assert_problem(await client.post("/v1/signal-sources", json=body), status)
        assert code in {None, problem["code"]}, body


async def test_a_source_is_shown_without_its_secret(client, db):
    """Creating, listing and reading show the address for the provider, never the secret, which is stored encrypted."""
    made = await add_source(client, "postmark", token="never-shown-again")
    listed = (await client.get("/v1/signal-sources", params={"include_total": "true"})).json()
    one = (await client.get(f"/v1/signal-sources/{made['id']}")).json()

    assert made.keys() == {"id", "provider", "url", "topic_arn", "created_at", "last_event_at"}
    assert made["url"].startswith("http://mailbase.test/in/postmark/")
    assert listed["data"] == [one] == [made]
    assert listed["total"] == 1
    assert "never-shown-again" not in str((made, listed))
    assert b"never-shown-again" not in await db.fetchval("SELECT secret FROM signal_sources")

    assert (await client.delete(f"/v1/signal-sources/{made['id']}")).status_code == 204
    assert_problem(await client.get(f"/v1/signal-sources/{made['id']}"), 404)
    assert_problem(await client.get(f"/v1/signal-sources/{made['id']}/events"), 404)


async def test_a_secret_is_changed_where_it_is(client, anonymous, db):
    """Another secret holds at once at the same address, the old one no more; it is checked, encrypted and not shown, as at first."""
    made = await add_source(client, "postmark", token="the-first-one")
    path = f"/v1/signal-sources/{made['id']}"
    changed = await client.patch(path, json={"secret": " the-next-one "})
    assert (changed.status_code, changed.json()) == (200, made)
    assert b"the-next-one" not in await db.fetchval("SELECT secret FROM signal_sources")
    for secret, status in (("the-first-one", 401), ("the-next-one", 200)):
        headers = {"Authorization": f"Bearer {secret}"}
        assert (await anonymous.post(path_of(made), json={"RecordType": "Open"}, headers=headers)).status_code == status
    heard = (await client.patch(path, json={})).json()
    assert heard["last_event_at"] is not None
    for body, code in (
        ({"token": "a", "secret": "b"}, "secret_twice"), ({"secret": " "}, "secret_missing"), ({"topic_arn": "x"}, "not_used"),
    ):  # fmt: skip
        assert_problem(await client.patch(path, json=body), 422, code)
    assert_problem(await client.patch(path, json={"secret": None}), 400)
    assert_problem(await client.patch("/v1/signal-sources/999", json={"secret": "a"}), 404)

    amazon = await add_source(client, "ses", topic_arn="arn:aws:sns:us-east-1:123456789012:t")
    other = "arn:aws:sns:us-east-1:123456789012:u"
    moved = await client.patch(f"/v1/signal-sources/{amazon['id']}", json={"topic_arn": other})
    assert (moved.json()["topic_arn"], moved.json()["url"]) == (other, amazon["url"])


async def test_unknown_sources_are_nobody(client, anonymous):
    """A source that does not exist, another provider's address and odd paths are 404."""
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")

    for path in (
        "/in/brevo/unknown",
        path_of(made).replace("brevo", "mailgun"),
        path_of(made).replace("brevo", "nobody"),
        "/in/brevo/%00",
    ):
        assert_problem(await anonymous.post(path, json={}, headers=BREVO), 404, "not_found")
    assert_problem(await anonymous.get(path_of(made)), 405)


WAYS = [
    (BREVO, {}, None, True),
    ({"X-Mailbase-Token": "s3cret-of-brevo"}, {}, None, True),
    ({}, {"token": "s3cret-of-brevo"}, None, True),
    ({}, {}, ("mailbase", "s3cret-of-brevo"), True),
    ({}, {}, None, False),
    ({"X-Mailbase-Token": ""}, {}, None, False),
    ({}, {"token": "s3cret-of-brev"}, None, False),
    ({"Authorization": "Basic !!!"}, {}, None, False),
    ({"Authorization": "Bearer"}, {}, None, False),
    ({}, {}, ("s3cret-of-brevo", ""), False),
    ({}, {}, ("mailbase", "wrong"), False),
]


async def test_a_shared_secret_comes_in_four_ways(client, anonymous, db):
    """Password, bearer token, header or parameter let a request in; without the secret it is 401 and nothing is stored."""
    _, letters = await send_letters(db, letters=len(WAYS))
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")

    for letter, (headers, params, auth, welcome) in zip(letters, WAYS, strict=True):
        before = await db.fetchval("SELECT count(*) FROM signal_events")
        answer = await anonymous.post(path_of(made), json=brevo(letter), headers=headers, params=params, auth=auth)
        if welcome:
            assert (answer.status_code, answer.json()) == (200, {"events": 1, "new": 1})
            assert await fate(db, letter) == ("bounced", "hard", "bounced")
        else:
            assert_problem(answer, 401, "unauthorized")
            assert await db.fetchval("SELECT count(*) FROM signal_events") == before
            assert await fate(db, letter) == ("sent", None, "active")


async def test_a_refusal_tells_nothing(client, anonymous):
    """Without a secret, with a wrong one, and with a body that is no JSON: the same words."""
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")
    answers = [
        await anonymous.post(path_of(made), content=body, headers=headers)
        for body in (b"{}", b"{", b"")
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"})
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert_problem(await anonymous.post(path_of(made), content=b"{", headers=BREVO), 400, "malformed")


async def test_the_same_event_counts_once(client, anonymous, db):
    """An event that comes again, alone, in a batch or at the same moment, changes nothing a second time."""
    campaign_id, (letter, other, _) = await send_letters(db)
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")
    once, twice = brevo(letter), brevo(other)

    answers = await asyncio.gather(
        *(
            anonymous.post(path_of(made), json=body, headers=BREVO)
            for body in (once, [once, twice], [twice, once], [once, once])
        )
    )

    assert [answer.status_code for answer in answers] == [200] * 4
    assert sum(answer.json()["new"] for answer in answers) == 2
    assert await fate(db, letter) == await fate(db, other) == ("bounced", "hard", "bounced")
    assert await db.fetchval("SELECT count(*) FROM bounces") == 2
    assert await counted(db, campaign_id) == {"delivery.sent": 1, "delivery.bounced": 2, "bounce.hard": 2} | {
        key: n for key, n in (await counted(db, campaign_id)).items() if key.startswith("provider.")
    }


async def test_everything_is_kept_newest_first(client, anonymous, db):
    """What means nothing to us is kept as it came, too; an owner pages through it."""
    _, (letter, *_) = await send_letters(db)
    made = await add_source(client, "brevo", secret=" s3cret-of-brevo\n")
    odd = [
        brevo(letter, "unique_proxy_open"),
        {"event": "of tomorrow", "x": "\u0000"},
        7,
        None,
        "text",
        [1],
        brevo(letter, "soft_bounce", reason="full \0 up"),
    ]
    for one in odd:
        assert (await anonymous.post(path_of(made), json=[one], headers=BREVO)).status_code == 200

    first = (
        await client.get(f"/v1/signal-sources/{made['id']}/events", params={"limit": 4, "include_total": "true"})
    ).json()
    rest = await events_of(client, made, cursor=first["next_cursor"])
    seen = [*first["data"], *rest]

    assert [event["raw"] for event in seen] == odd[::-1]
    assert [event["kind"] for event in seen] == ["soft_bounce", *["unknown"] * 4, "of tomorrow", "unique_proxy_open"]
    assert [event["state"] for event in seen] == ["applied", *["kept"] * 6]
    assert (seen[0]["email"], seen[0]["delivery_id"]) == (letter.email, letter.id)
    assert first["total"] == 7
    assert (await client.get(f"/v1/signal-sources/{made['id']}")).json()["last_event_at"] == seen[0]["received_at"]


async def test_a_letter_is_found_by_its_message_id_or_else_by_its_address(client, anonymous, db):
    """Our Message-ID names the letter even when the address was forwarded; a made-up one does not count, the address does."""
    _, (letter, other, third) = await send_letters(db)
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")
    invented = f"<{other.id}.5f3759df86abc@shop.example>"

    for body in (
        brevo(letter, email="forwarded@elsewhere.example"),
        brevo(third, **{"X-Mailin-custom": invented, "ts_epoch": 4102444800000}),
    ):
        assert (await anonymous.post(path_of(made), json=body, headers=BREVO)).status_code == 200

    assert await fate(db, letter) == ("bounced", "hard", "bounced")
    assert await fate(db, other) == ("sent", None, "active")
    assert await fate(db, third) == ("bounced", "hard", "bounced")


async def test_a_body_has_a_limit(client, anonymous):
    """More than four megabytes are not read."""
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")

    assert_problem(
        await anonymous.post(path_of(made), content=b" " * (4 * 1024 * 1024 + 1), headers=BREVO), 413, "too_large"
    )


async def test_a_long_event_is_kept_in_part(client, anonymous):
    """An event of more than 64 kB is cut; what it means is not."""
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")
    long = {"event": "click", "link": "x" * 200_000}

    assert (await anonymous.post(path_of(made), json=long, headers=BREVO)).status_code == 200
    (event,) = await events_of(client, made)
    assert event["kind"] == "click"
    assert len(event["raw"]["cut"]) == source_events.LONGEST


async def test_who_guesses_is_slowed_down_and_who_knows_is_not(client, anonymous):
    """Sixty refused requests a minute from one address, then 429; requests with the secret are never counted."""
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")
    for _ in range(80):
        assert (await anonymous.post(path_of(made), json=[], headers=BREVO)).status_code == 200
    statuses = [(await anonymous.post(path_of(made), json=[])).status_code for _ in range(140)]

    assert set(statuses) == {401, 429}
    assert statuses.count(401) in range(60, 121)  # a minute may end meanwhile


async def test_without_redis_nobody_is_slowed_down():
    """A Redis that is gone lets everybody through."""
    gone = Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=0.5)
    assert await limits.spent(gone, (limits.Limit("in", 1, 60),), "x") == 0
    await gone.aclose()


async def test_what_a_crash_left_is_taken_up(client, db):
    """Events that were stored and not applied are applied by the timer, once."""
    _, (letter, *_) = await send_letters(db)
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")
    trust = sources.Trust(secret="s3cret-of-brevo")
    incoming = sources.Incoming({"x-mailbase-token": "s3cret-of-brevo"}, {}, json.dumps(brevo(letter)).encode())
    reading = await sources.READERS["brevo"][1](incoming, trust, None)
    async with db.transaction():
        taken = await source_events.store(db, made["id"], reading, incoming.body)
    assert len(taken.waiting) == 1
    assert await fate(db, letter) == ("sent", None, "active")

    assert await source_events.catch_up(db) == 0  # whoever stored it may be at it still
    await db.execute("UPDATE signal_events SET received_at = received_at - interval '2 minutes'")
    assert [await source_events.catch_up(db), await source_events.catch_up(db)] == [1, 0]
    assert await fate(db, letter) == ("bounced", "hard", "bounced")
    assert (await events_of(client, made))[0]["state"] == "applied"


async def test_a_long_batch_goes_on_after_the_answer(client, db, pool):
    """Nobody waits for the last of many events to be applied; all of them are in the end."""
    _, letters = await send_letters(db, letters=30)
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")
    body = json.dumps([brevo(letter) for letter in letters]).encode()
    incoming = sources.Incoming({"x-mailbase-token": "s3cret-of-brevo"}, {}, body)
    reading = await sources.READERS["brevo"][1](incoming, sources.Trust(secret="s3cret-of-brevo"), None)

    taken = await source_events.take(pool, made["id"], reading, body, patience=0)
    assert len(taken.waiting) == 30
    assert await db.fetchval("SELECT count(*) FROM signal_events WHERE state = 'waiting'") > 0

    await asyncio.wait(source_events._going_on, timeout=30)
    assert await db.fetchval("SELECT count(*) FROM bounces") == 30


async def test_an_event_that_cannot_be_applied_stops_no_other(client, db):
    """What the database refuses for ever is left unchanged by the timer; those behind it are applied."""
    _, (letter, other, _) = await send_letters(db)
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")
    body = json.dumps([brevo(letter), brevo(other)]).encode()
    incoming = sources.Incoming({"x-mailbase-token": "s3cret-of-brevo"}, {}, body)
    reading = await sources.READERS["brevo"][1](incoming, sources.Trust(secret="s3cret-of-brevo"), None)
    async with db.transaction():
        await source_events.store(db, made["id"], reading, body)
    await db.execute(f"ALTER TABLE bounces ADD CHECK (delivery_id <> {letter.id})")
    await db.execute("UPDATE signal_events SET received_at = received_at - interval '2 minutes'")

    async with db.transaction():
        assert await source_events.catch_up(db) == 2

    states = {event["delivery_id"]: event["state"] for event in await events_of(client, made)}
    assert states == {letter.id: "unchanged", other.id: "applied"}


async def test_events_are_forgotten(client, anonymous, db):
    """After thirty days nothing of an event is left, after two nothing of a token."""
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")
    await anonymous.post(path_of(made), json=[{"event": "click", "link": str(n)} for n in range(3)], headers=BREVO)
    await db.execute(
        "INSERT INTO signal_tokens (source_id, token, body, at) VALUES ($1, 'a', '', now() - interval '3 days'), ($1, 'b', '', now())",
        made["id"],
    )
    await db.execute(
        "UPDATE signal_events SET received_at = now() - interval '31 days' WHERE id IN (SELECT id FROM signal_events LIMIT 2)"
    )

    await source_events.forget_old(db)

    assert len(await events_of(client, made)) == 1
    assert [row["token"] for row in await db.fetch("SELECT token FROM signal_tokens")] == [b"b"]


async def test_erasure_reaches_the_events(client, anonymous, db, app):
    """Of a person who was erased no event names the address, and a report that comes again is still known."""
    _, (letter, other, _) = await send_letters(db)
    made = await add_source(client, "brevo", secret="s3cret-of-brevo")
    bodies = [brevo(letter, "opened"), brevo(other, "opened")]
    await anonymous.post(path_of(made), json=bodies, headers=BREVO)

    async with db.transaction():
        await erasure.erase(db, letter.subscriber_id, app.state.erasure_key)

    kept = await events_of(client, made)
    assert letter.email not in str(kept)
    assert other.email in str(kept)
    assert (await anonymous.post(path_of(made), json=bodies, headers=BREVO)).json() == {"events": 2, "new": 0}


async def test_a_batch_is_stored_whole(client, anonymous, db):
    """A thousand events of one request, most of which mean nothing to us, are all there."""
    _, letters = await send_letters(db, letters=10)
    key = SendGridKey()
    made = await add_source(client, "sendgrid", secret=key.public)
    batch = [
        {
            "email": letters[n % 10].email,
            "event": "delivered",
            "sg_event_id": f"e{n}",
            "smtp-id": letters[n % 10].message_id,
            "timestamp": 1700000000,
        }
        for n in range(1000)
    ]

    answer = await key.post(anonymous, made, batch)

    assert answer.json() == {"events": 1000, "new": 1000}
    assert dict(await db.fetch("SELECT state, count(*) FROM signal_events GROUP BY state")) == {"kept": 1000}
