"""Unsubscribing (RFC 8058) and the preference centre."""

import itertools

import pytest

from optin.optin_kit import JSON, last_link, letters, person

LIST_UNSUBSCRIBE = {"List-Unsubscribe": "One-Click"}


async def counted(db, reader):
    """Return how many unsubscribes the campaign counts."""
    return await db.fetchval(
        "SELECT COALESCE(sum(n), 0)::int FROM counters WHERE campaign_id = $1 AND key = 'unsubscribes'",
        reader["campaign"],
    )


@pytest.mark.parametrize("body", ["urlencoded", "multipart", "nothing", "nonsense"])
async def test_one_click_leaves_at_once(client, anonymous, db, reader, body):
    """Either encoding, no body or any: 200 without redirect or cookie, the person has left, the campaign counts one."""
    send = {
        "urlencoded": {"data": LIST_UNSUBSCRIBE},
        "multipart": {"files": [("List-Unsubscribe", (None, "One-Click"))]},
        "nothing": {},
        "nonsense": {
            "content": b"\xff\0{",
            "headers": {"Content-Type": "text/strange", "Origin": "https://evil.example"},
        },
    }[body]
    answer = await anonymous.post(reader["u"], **send)
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    left = await person(client)
    assert left["status"] == "unsubscribed"
    assert left["unsubscribed_at"]
    assert await counted(db, reader) == 1


async def test_leaving_twice_is_leaving_once(anonymous, db, reader):
    """200 again, counted once."""
    for _ in range(3):
        assert (await anonymous.post(reader["u"], data=LIST_UNSUBSCRIBE)).status_code == 200
    assert await counted(db, reader) == 1


async def test_looking_at_the_link_leaves_nobody_out(client, anonymous, reader):
    """Scanners follow every link: GET, HEAD and OPTIONS change nothing."""
    for method in ("GET", "HEAD", "OPTIONS"):
        for way in ("u", "p"):
            assert (await anonymous.request(method, reader[way])).status_code in {200, 204}
    assert (await person(client))["status"] == "active"


async def test_the_page_offers_a_button_and_topics(anonymous, reader):
    """One button, the way to the preferences, and never the whole address."""
    page = await anonymous.get(reader["u"])
    assert page.text.count("<button") == 1
    assert "/p/" in page.text
    assert "A•••@example.org" in page.text
    assert "Ada@" not in page.text
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"


async def test_pages_speak_the_browsers_language(anonymous, db, reader):
    """Where the person's own is not known."""
    await db.execute("UPDATE subscribers SET locale = NULL")
    for way, (accept, word) in itertools.product("up", [("ru", "Отписаться"), ("en", "Unsubscribe")]):
        assert word in (await anonymous.get(reader[way], headers={"Accept-Language": accept})).text


async def test_an_erased_person_has_left_already(client, anonymous, reader):
    """Their links answer as if it were done, and tell nothing."""
    await client.delete(f"/v1/subscribers/{reader['id']}")
    assert (await anonymous.post(reader["u"])).status_code == 200
    assert (await anonymous.get(reader["u"])).status_code == 200
    assert (await anonymous.get(reader["p"])).status_code == 404


async def test_a_reader_chooses_topics(client, anonymous, reader):
    """Saving sets the public interests; those that are not public are neither shown nor lost."""
    await client.patch(f"/v1/subscribers/{reader['id']}", json={"interests": ["news", "inner"]})
    page = (await anonymous.get(reader["p"])).text
    assert 'value="news" checked' in page
    assert "Inner circle" not in page
    answer = await anonymous.post(reader["p"], data={"action": "save", "interests": ["sale"]})
    assert answer.status_code == 200
    assert 'value="sale" checked' in answer.text
    assert (await person(client))["interests"] == ["inner", "sale"]
    await anonymous.post(reader["p"], data={"action": "save"})
    assert (await person(client))["interests"] == ["inner"]
    assert (await person(client))["status"] == "active"


async def test_a_reader_leaves_everything_from_the_preferences(client, anonymous, reader, db):
    """It counts for the letter's campaign."""
    assert (await anonymous.post(reader["p"], data={"action": "leave"})).status_code == 200
    assert (await person(client))["status"] == "unsubscribed"
    assert await counted(db, reader) == 1


async def test_who_left_is_asked_by_letter_before_coming_back(client, anonymous, reader, db):
    """Saving topics after leaving sends one confirmation; only that brings them back."""
    await client.patch("/v1/settings", json={"default_from": {"name": "S", "email": "s@news.example.com"}})
    await anonymous.post(reader["u"])
    assert (await anonymous.get(reader["p"])).status_code == 200
    assert (await anonymous.post(reader["p"], data={"action": "save", "interests": ["sale"]})).status_code == 200
    assert (await person(client))["status"] == "unsubscribed"
    assert len(await letters(db)) == 2
    await anonymous.post(await last_link(db))
    back = await person(client)
    assert (back["status"], back["interests"]) == ("active", ["sale"])


async def test_who_left_is_asked_by_the_letters_sender_where_the_settings_name_nobody(client, anonymous, reader, db):
    """The page offers to come back, so it must work as the product is delivered."""
    await anonymous.post(reader["u"])
    answer = await anonymous.post(reader["p"], data={"action": "save", "interests": ["sale"]})
    assert answer.status_code == 200, answer.text
    assert (await letters(db))[-1]["from_email"] == "a@news.example.com"
    await anonymous.post(await last_link(db))
    assert (await person(client))["status"] == "active"


async def test_a_program_reads_and_saves_preferences_as_json(anonymous, reader):
    """`Accept: application/json` is answered in JSON: status, topics, how often, the pause, the consents in force."""
    for answer, result in (
        (await anonymous.get(reader["p"], headers=JSON), None),
        (await anonymous.post(reader["p"], data={"action": "save", "interests": ["news"]}, headers=JSON), "saved"),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        told = answer.json()
        (consent,) = told.pop("consents")
        assert (consent["purpose"], consent["text"]) == ("newsletter", "Send me the letters I chose.")
        assert told == {
            "result": result,
            "status": "active",
            "interests": ["news"],
            "frequency": "all",
            "paused_until": None,
        }
    left = await anonymous.post(reader["p"], data={"action": "leave"}, headers=JSON)
    assert (left.status_code, left.json()["status"]) == (200, "unsubscribed")


NOT_ON_OFFER = [
    {"action": "pause"},
    {"action": "pause", "pause_weeks": "-1"},
    {"action": "pause", "pause_weeks": "53"},
    {"action": "pause", "pause_weeks": "two"},
    {"action": "address"},
    {"action": "address", "email": "nobody"},
    {"action": "withdraw", "purpose": "nothing"},
    {"action": "export", "format": "pdf"},
    {"action": "reason", "reason": "too_many"},
    {"action": "burn"},
    {},
    {"action": "save", "frequency": "hourly"},
    {"action": "save", "interests": "inner"},
    {"action": "save", "interests": "nowhere"},
]


async def test_what_is_not_on_offer_is_refused(client, anonymous, reader):
    """422, and nothing changed."""
    before = await person(client)
    for data in NOT_ON_OFFER:
        assert (await anonymous.post(reader["p"], data=data, headers=JSON)).status_code == 422, data
    assert await person(client) == before
    for weeks in (2.5, True, {"weeks": 2}, "two"):
        refused = await anonymous.post(reader["p"], json={"action": "pause", "pause_weeks": weeks}, headers=JSON)
        assert refused.status_code == 422
        assert "2, 4 or 12" in refused.json()["errors"][0]["message"], weeks
