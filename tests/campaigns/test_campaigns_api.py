"""The campaign routes, as the contract writes them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mailbase.campaigns import fan_out
from mailbase.sending.providers import domain_stops
from mailbase.sending.relays import egress

DRAFT = {
    "name": "Spring",
    "from": {"name": "Bäckerei", "email": "news@shop.example.com"},
    "subject": "Hello {{ subscriber.attributes.name | default('you') }}",
    "html": "<html><body><p>Hi {{ subscriber.attributes.name }}</p><a href='https://shop.example.com/x'>x</a></body></html>",
    "audience": {"all": True},
}


@pytest.fixture(autouse=True)
async def _domain(domain):
    assert domain


async def create(client, **fields):
    """Write a campaign."""
    answer = await client.post("/v1/campaigns", json=DRAFT | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def problem(answer, status):
    """Return the refused fields with their codes."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    return [(error["field"], error["code"]) for error in answer.json().get("errors", [])]


async def test_a_campaign_is_written_read_changed_and_deleted(client):
    """POST 201, GET, PATCH 200 while a draft, DELETE 204, then 404."""
    made = await create(client, utm={"source": "a"}, headers={"X-Shop": "1"}, send_until="2099-01-01T00:00:00Z")
    assert made["status"] == "draft"
    assert made["track"] == {"opens": True, "clicks": True}
    assert made["on_crash"] == "at_most_once"
    assert made["audience"] == {"all": True}
    assert made["send_until"] == "2099-01-01T00:00:00Z"
    assert made["progress"] is None
    at = f"/v1/campaigns/{made['id']}"
    assert (await client.get(at)).json() == made
    changed = await client.patch(
        at, json={"name": "Summer", "track": {"opens": False}, "mjml": "<mjml><mj-body></mj-body></mjml>"}
    )
    assert changed.status_code == 200, changed.text
    now = changed.json()
    assert (now["name"], now["html"], now["mjml"] is None, now["track"]) == (
        "Summer",
        None,
        False,
        {"opens": False, "clicks": True},
    )
    listed = (await client.get("/v1/campaigns?status=draft&include_total=true")).json()
    assert [one["id"] for one in listed["data"]] == [made["id"]]
    assert listed["total"] == 1
    assert (await client.delete(at)).status_code == 204
    assert problem(await client.get(at), 404) == []


async def test_a_copy_is_a_draft_of_its_own(client, people):
    """Any campaign can be duplicated, also one that is being sent."""
    await people(1)
    made = await create(client)
    await client.post(f"/v1/campaigns/{made['id']}/send")
    copy = await client.post(f"/v1/campaigns/{made['id']}/duplicate")
    assert copy.status_code == 201
    assert copy.json()["id"] != made["id"]
    assert copy.json()["status"] == "draft"
    assert {name: copy.json()[name] for name in ("subject", "html", "audience", "from")} == {
        name: made[name] for name in ("subject", "html", "audience", "from")
    }


BAD = [
    ({"from": {"name": "X", "email": "a@elsewhere.example.com"}}, 422, ("from.email", "unknown_domain")),
    ({"from": {"name": "X", "email": "nonsense"}}, 422, ("from.email", "invalid_email")),
    ({"from": {"name": "X\r\nBcc: a@b.c", "email": "news@shop.example.com"}}, 422, ("from.name", "invalid_text")),
    ({"reply_to": "nonsense"}, 422, ("reply_to", "invalid_email")),
    ({"subject": "a\r\nBcc: b@example.com"}, 422, ("subject", "invalid_text")),
    ({"subject": "{{ nonsense }}"}, 422, ("subject", "unknown_variable")),
    ({"html": "<p>{% if %}</p>"}, 422, ("html", "template_error")),
    ({"html": "<p>{{ subscriber.nonsense }}</p>"}, 422, ("html", "unknown_variable")),
    ({"mjml": "<mjml></mjml>", "html": "<p>x</p>"}, 422, ("html", "invalid")),
    ({"html": None}, 422, ("html", "missing_body")),
    ({"headers": {"List-Unsubscribe": "<x>"}}, 422, ("headers.List-Unsubscribe", "reserved_header")),
    ({"headers": {"X-A": "b\r\nBcc: c"}}, 422, ("headers.X-A", "invalid_header")),
    ({"audience": {"interests": ["nonsense"]}}, 422, ("audience.interests", "unknown_interest")),
    ({"utm": {"colour": "red"}}, 422, ("utm.colour", "invalid_utm")),
    ({"send_until": "9999-12-31T23:59:59-12:00"}, 422, ("send_until", "invalid_time")),
    ({"send_until": "soon"}, 422, ("send_until", "invalid_value")),
    ({"audience": {"segment_id": 1}}, 400, ("audience.segment_id", "unknown_field")),
    ({"audience": {"all": True, "exclude": {"exclude": {}}}}, 400, ("audience.exclude.exclude", "unknown_field")),
    ({"colour": "red"}, 400, ("colour", "unknown_field")),
    ({"subject": 7}, 400, ("subject", "wrong_type")),
    ({"on_crash": "maybe"}, 422, ("on_crash", "unknown_value")),
    ({"name": ""}, 422, ("name", "invalid_value")),
]
"""What cannot be sent: the fields, the status, and what is said about which field."""


async def test_what_cannot_be_sent_is_refused_when_it_is_written(client):
    """Each unacceptable value is refused by its field's name, at POST and at PATCH, and changes nothing."""
    made = await create(client)
    at = f"/v1/campaigns/{made['id']}"
    for fields, status, expected in BAD:
        assert expected in problem(await client.post("/v1/campaigns", json=DRAFT | fields), status), fields
        assert expected in problem(await client.patch(at, json=fields), status), fields
    assert (await client.get(at)).json() == made
    assert len((await client.get("/v1/campaigns")).json()["data"]) == 1


async def test_everything_wrong_is_said_at_once(client):
    """Several bad values make one problem that names them all."""
    bad = DRAFT | {
        "from": {"name": "X", "email": "a@b"},
        "subject": "{{ x }}",
        "html": "{{ y }}",
        "audience": {"interests": ["z"]},
    }
    answer = await client.post("/v1/campaigns", json=bad)
    assert {field for field, _ in problem(answer, 422)} == {"from.email", "subject", "html", "audience.interests"}
    named = next(error for error in answer.json()["errors"] if error["field"] == "html")
    assert "line 1" in named["message"]
    assert "y" in named["message"]


async def test_text_alone_is_a_letter(client):
    """Of the bodies one is enough, also the text."""
    made = await create(client, html=None, text="Hello")
    assert (made["html"], made["text"]) == (None, "Hello")


async def test_send_takes_no_body_an_empty_one_and_a_time(client, people):
    """`send` without a body is now, `{}` too, `{at}` later: 202 and the campaign."""
    await people(1)
    for body, status in (
        (None, "sending"),
        ({}, "sending"),
        ({"at": "1970-01-01T00:00:00Z"}, "sending"),
        ({"at": "2099-01-01T00:00:00Z"}, "scheduled"),
    ):
        at = f"/v1/campaigns/{(await create(client))['id']}"
        answer = await (client.post(f"{at}/send") if body is None else client.post(f"{at}/send", json=body))
        assert answer.status_code == 202, answer.text
        assert answer.json()["status"] == status
        assert (await client.patch(at, json={"name": "x"})).json()["code"] == "campaign_not_draft"
    assert problem(await client.post(f"{at}/send", json={"when": "now"}), 400) == [("when", "unknown_field")]


async def test_two_launches_at_once_are_one(client, people):
    """Of simultaneous `send`s one launches the campaign and the others are conflicts."""
    await people(1)
    at = f"/v1/campaigns/{(await create(client))['id']}/send"
    answers = await asyncio.gather(*(client.post(at) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]


async def test_a_key_without_the_scope_may_write_but_not_send(client, anonymous, people):
    """`campaigns:write` writes drafts; sending, and sending tests, needs `campaigns:send`."""
    await people(1)
    key = (await client.post("/v1/keys", json={"name": "editor", "scopes": ["campaigns:write"]})).json()["secret"]
    editor = {"Authorization": f"Bearer {key}"}
    made = await anonymous.post("/v1/campaigns", json=DRAFT, headers=editor)
    assert made.status_code == 201, made.text
    at = f"/v1/campaigns/{made.json()['id']}"
    for act in ("send", "pause", "resume", "cancel", "test"):
        answer = await anonymous.post(
            f"{at}/{act}", headers=editor, json={"to": ["a@example.com"]} if act == "test" else None
        )
        assert answer.status_code == 403, act


async def test_preview_shows_one_persons_letter(client, db, people):
    """The letter as a subscriber gets it, untracked, with warnings; without a subscriber, defaults."""
    (who,) = await people(1)
    await db.execute("UPDATE subscribers SET attributes = $1", {"name": "Zoë <3"})
    made = await create(client, html=DRAFT["html"].replace("</p>", "{{ subscriber.attributes.nonsense }}</p>"))
    at = f"/v1/campaigns/{made['id']}/preview"
    seen = (await client.post(at, json={"subscriber_id": who})).json()
    assert seen["subject"] == "Hello Zoë <3"
    assert "Zoë &lt;3" in seen["html"]
    assert "https://shop.example.com/x" in seen["html"]
    assert "/u/" in seen["html"]
    assert "/o/" not in seen["html"]
    assert seen["size"] > 100
    assert {"no_preheader", "unknown_attribute"} <= {warning["code"] for warning in seen["warnings"]}
    assert "“name”" not in str(seen["warnings"])
    assert (await client.post(at)).json()["subject"] == "Hello you"
    assert problem(await client.post(at, json={"subscriber_id": 10**12}), 422) == [
        ("subscriber_id", "unknown_subscriber")
    ]


async def test_a_test_letter_goes_to_ones_own_addresses(client, db, people):
    """`test` queues one message an address, with the subscriber's own data where there is one; suppressed ones are refused."""
    (who,) = await people(1)
    email = await db.fetchval(
        "UPDATE subscribers SET attributes = $2 WHERE id = $1 RETURNING email", who, {"name": "Ann"}
    )
    made = await create(client)
    at = f"/v1/campaigns/{made['id']}/test"
    answer = await client.post(at, json={"to": [email, "me@example.com", "ME@example.com"]})
    assert answer.status_code == 202, answer.text
    assert len(answer.json()["messages"]) == 2
    rows = await db.fetch("SELECT kind, subject, html, from_name, domain_id FROM messages ORDER BY id")
    assert [(row["kind"], row["subject"], row["from_name"]) for row in rows] == [
        ("test", "Hello Ann", "Bäckerei"),
        ("test", "Hello you", "Bäckerei"),
    ]
    assert all(row["domain_id"] and "https://shop.example.com/x" in row["html"] for row in rows)
    await db.execute("INSERT INTO suppressions (kind, value, reason) VALUES ('email', 'no@example.com', 'manual')")
    refused = problem(await client.post(at, json={"to": ["me@example.com", "no@example.com", "nonsense"]}), 422)
    assert refused == [("to.1", "suppressed"), ("to.2", "invalid_email")]
    assert await db.fetchval("SELECT count(*) FROM messages") == 2
    assert problem(await client.post(at, json={"to": []}), 422) == [("to", "invalid_value")]


async def test_forecast_tells_the_days_at_todays_caps(client, db, people, domain):
    """Recipients, days and end: without a cap today, with fifty a day over several."""
    await people(120)
    made = await create(client)
    at = f"/v1/campaigns/{made['id']}/forecast"
    free = (await client.get(at)).json()
    assert (free["recipients"], [day["count"] for day in free["by_day"]], free["limited_by"]) == (120, [120], [])
    await db.execute("INSERT INTO warmups (domain_id, preset, schedule) VALUES ($1, 'custom', '{50}')", domain)
    held = (await client.get(at)).json()
    assert [day["count"] for day in held["by_day"]] == [50, 50, 20]
    assert len(held["by_day"][0]["date"]) == 10
    assert held["finishes_at"].endswith("Z")
    assert held["limited_by"] == ["warmup"]
    soon = await db.fetchval("UPDATE campaigns SET send_until = now() + interval '1 day' RETURNING send_until")
    assert soon
    assert (await client.get(at)).json()["limited_by"] == ["warmup", "send_until"]


async def test_progress_is_shown_while_sending(client, db, pool, people, domain):
    """Done of total, from launch on; what holds the rest is named; none once it is over."""
    await people(4)
    await db.execute("INSERT INTO warmups (domain_id, preset, schedule) VALUES ($1, 'custom', '{2}')", domain)
    at = f"/v1/campaigns/{(await create(client))['id']}"
    launched = (await client.post(f"{at}/send")).json()
    assert (launched["progress"]["done"], launched["progress"]["total"]) == (0, 4)
    while await fan_out.step(pool):
        pass
    await db.execute(
        "INSERT INTO allowances (domain_id, egress, bucket, taken) VALUES ($1, 'outbox', date_bin('10 minutes', now(), '2000-01-01'), 2)",
        domain,
    )
    await db.execute("UPDATE deliveries SET state = 'sent' WHERE id IN (SELECT id FROM deliveries ORDER BY id LIMIT 2)")
    await db.execute("UPDATE counters SET n = 2 WHERE key = 'delivery.queued'")
    await db.execute("INSERT INTO counters SELECT id, 'delivery.sent', 0, 2 FROM campaigns")
    shown = (await client.get(at)).json()["progress"]
    assert (shown["done"], shown["total"], shown["limited_by"]) == (2, 4, ["warmup"])
    assert shown["finishes_at"].endswith("Z")
    # Whoever is to have another try has it later than everybody else.
    await db.execute(
        "UPDATE deliveries SET state = 'deferred', due_at = now() + interval '3 days' WHERE state = 'queued'"
    )
    later = datetime.fromisoformat((await client.get(at)).json()["progress"]["finishes_at"])
    assert later > datetime.now(UTC) + timedelta(days=2)
    await egress.stop(db, "outbox", "535 5.7.8 no")
    refused = (await client.get(at)).json()["progress"]
    assert (refused["finishes_at"], "relay" in refused["limited_by"]) == (None, True)
    await egress.clear(db, "outbox")
    await domain_stops.stop(db, {domain: "550 5.7.26 unauthenticated"})
    stopped = (await client.get(at)).json()["progress"]
    assert (stopped["finishes_at"], "domain" in stopped["limited_by"]) == (None, True)
    assert "5.7.26" in stopped["reason"]
    await domain_stops.resume(db, domain)
    paused = (await client.post(f"{at}/pause")).json()
    assert paused["progress"]["limited_by"] == ["paused", "warmup"]
    assert paused["progress"]["finishes_at"] is None
    cancelled = (await client.post(f"{at}/cancel")).json()
    assert (cancelled["status"], cancelled["progress"]) == ("cancelled", None)
    assert cancelled["finished_at"] is not None


async def test_deliveries_are_listed_one_by_one(client, db, pool, people):
    """Newest first, paged, by status; an erased person is not named."""
    ids = await people(3)
    at = f"/v1/campaigns/{(await create(client))['id']}"
    await client.post(f"{at}/send")
    while await fan_out.step(pool):
        pass
    await db.execute(
        "UPDATE deliveries SET state = 'bounced', reason = 'user_unknown', last_reply = '550 5.1.1 no', attempts = 1 WHERE subscriber_id = $1",
        ids[1],
    )
    queued = (await client.get(f"{at}/deliveries?status=queued&include_total=true")).json()
    assert ([one["subscriber_id"] for one in queued["data"]], queued["total"]) == ([ids[2], ids[0]], 2)
    assert queued["data"][0]["next_attempt_at"] is not None
    (bounced,) = (await client.get(f"{at}/deliveries?status=bounced")).json()["data"]
    assert bounced["reason"] == "user_unknown"
    assert bounced["last_reply"] == "550 5.1.1 no"
    assert bounced["email"].endswith("@mail.example.org")
    assert bounced["next_attempt_at"] is None
    first = (await client.get(f"{at}/deliveries?limit=2")).json()
    rest = (await client.get(f"{at}/deliveries?limit=2&cursor={first['next_cursor']}")).json()
    assert [one["subscriber_id"] for one in first["data"] + rest["data"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert (await client.get(f"{at}/deliveries?status=leased")).status_code in {400, 422}
    assert (await client.get("/v1/campaigns/999/deliveries")).status_code == 404
