"""What a reader does at the preference centre beside topics and leaving: how often, a pause, consents, their data, why they left."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from optin.optin_kit import JSON, last_link, letters, person


async def events(client, reader):
    """Return the kinds of the person's timeline, newest first."""
    return [event["kind"] for event in (await client.get(f"/v1/subscribers/{reader['id']}/events")).json()["data"]]


async def dossier(client, reader):
    """Return everything held about the person, as the owner sees it."""
    return (await client.get(f"/v1/subscribers/{reader['id']}/export")).json()


async def to(db, email):
    """Return the messages to an address, oldest first."""
    return await db.fetch("SELECT * FROM messages WHERE email_key = $1 ORDER BY id", email)


SAME_THING = {
    "urlencoded": lambda data: {"data": data},
    "multipart": lambda data: {"files": [(name, (None, value)) for name, value in data.items()]},
    "json": lambda data: {"json": data},
}


@pytest.mark.parametrize("how", SAME_THING)
async def test_every_encoding_says_the_same(client, anonymous, reader, how):
    """Urlencoded, multipart and JSON set the frequency alike; topics that are not named with it stay."""
    answer = await anonymous.post(
        reader["p"], **SAME_THING[how]({"action": "save", "frequency": "weekly"}), headers=JSON
    )
    assert (answer.status_code, answer.json()["frequency"], answer.json()["interests"]) == (200, "weekly", ["news"])
    held = await dossier(client, reader)
    assert (held["frequency"], held["paused_until"]) == ("weekly", None)
    assert (await events(client, reader))[0] == "preferences"


async def test_the_page_sets_topics_and_frequency_at_once(client, anonymous, reader):
    """Its form names both; unticking everything keeps the frequency chosen."""
    page = (await anonymous.get(reader["p"])).text
    assert 'value="all" checked' in page
    saved = await anonymous.post(reader["p"], data={"action": "save", "interests": [""], "frequency": "monthly"})
    assert "Saved." in saved.text
    assert 'value="monthly" checked' in saved.text
    assert (await person(client))["interests"] == []


async def test_a_topic_taken_away_meanwhile_keeps_nobody_from_saving(client, anonymous, reader):
    """The page lay open when the owner took the topic away; what else it says holds. A program is told of its mistake."""
    stale = {"action": "save", "interests": ["news", "gone"], "frequency": "weekly"}
    saved = await anonymous.post(reader["p"], data=stale)
    assert ("Saved." in saved.text, (await dossier(client, reader))["frequency"]) == (True, "weekly")
    assert (await anonymous.post(reader["p"], data=stale, headers=JSON)).json()["code"] == "unknown_interest"


async def test_a_pause_is_shown_with_its_date_and_can_be_ended(client, anonymous, reader, db):
    """Two, four or twelve weeks from now; the page says from when letters come again, in the person's zone and language."""
    await db.execute("UPDATE subscribers SET timezone = 'Asia/Tokyo', locale = 'en'")
    answer = await anonymous.post(reader["p"], json={"action": "pause", "pause_weeks": 4}, headers=JSON)
    until = datetime.fromisoformat(answer.json()["paused_until"])
    assert abs(until - datetime.now(UTC) - timedelta(weeks=4)) < timedelta(minutes=1)
    await db.execute("UPDATE subscribers SET paused_until = '2031-12-31T20:00:00Z'")
    assert "from 1 January 2032" in (await anonymous.get(reader["p"])).text
    await db.execute("UPDATE subscribers SET locale = 'ru'")
    assert "с 1 января 2032" in (await anonymous.get(reader["p"])).text
    ended = await anonymous.post(reader["p"], data={"action": "pause", "pause_weeks": "0"}, headers=JSON)
    assert (ended.json()["result"], ended.json()["paused_until"]) == ("resumed", None)
    assert (await events(client, reader))[:2] == ["resumed", "paused"]


async def test_a_pause_that_is_over_is_not_mentioned(anonymous, reader, db):
    """It ends by itself."""
    await db.execute("UPDATE subscribers SET paused_until = now() - interval '1 second'")
    assert (await anonymous.get(reader["p"], headers=JSON)).json()["paused_until"] is None
    assert "Paused" not in (await anonymous.get(reader["p"])).text


async def test_one_consent_is_withdrawn_alone(client, anonymous, reader, db):
    """The ledger gains a withdrawal of that purpose with the words; the others and the subscription stand."""
    await db.execute(
        "INSERT INTO consents (subscriber_id, act, purpose, text, text_hash, source) VALUES ($1, 'given', 'offers', 'Offers by post', '\\x00', 'form')",
        reader["id"],
    )
    page = (await anonymous.get(reader["p"])).text
    assert page.index("Send me the letters I chose.") < page.index("Offers by post")
    answer = await anonymous.post(reader["p"], data={"action": "withdraw", "purpose": "offers"}, headers=JSON)
    assert (answer.json()["status"], [one["purpose"] for one in answer.json()["consents"]]) == (
        "active",
        ["newsletter"],
    )
    ledger = (await client.get(f"/v1/subscribers/{reader['id']}/consents")).json()["data"]
    assert (ledger[0]["act"], ledger[0]["purpose"], ledger[0]["text"]) == ("withdrawn", "offers", "Offers by post")
    again = await anonymous.post(reader["p"], data={"action": "withdraw", "purpose": "offers"}, headers=JSON)
    assert again.status_code == 422


async def test_withdrawing_the_newsletter_is_leaving(client, anonymous, reader):
    """The page says so beside the button; one line is written, not two."""
    assert "unsubscribes you from everything" in (await anonymous.get(reader["p"])).text
    answer = await anonymous.post(reader["p"], data={"action": "withdraw", "purpose": "newsletter"})
    assert "You have left" in answer.text
    assert (await person(client))["status"] == "unsubscribed"
    ledger = (await client.get(f"/v1/subscribers/{reader['id']}/consents")).json()["data"]
    assert [line["act"] for line in ledger] == ["withdrawn", "confirmed", "given"]


async def test_the_last_consent_is_leaving_whatever_it_is_called(client, anonymous, app):
    """Nobody is written to without one."""
    consent = {"purpose": "marketing", "text": "Offers"}
    bob = await client.post(
        "/v1/subscribers", json={"email": "bob@example.org", "double_opt_in": False, "consent": consent}
    )
    link = f"/p/{app.state.tokens.sign('preferences', bob.json()['id'], 0)}"
    await anonymous.post(link, data={"action": "withdraw", "purpose": "marketing"})
    assert (await person(client, "bob@example.org"))["status"] == "unsubscribed"


async def test_everything_held_is_downloaded_as_json(client, anonymous, reader, db):
    """As an attachment, the same the owner sees but for links that would open anything; the person gets a note by letter."""
    answer = await anonymous.post(reader["p"], data={"action": "export"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="my-data.json"'
    assert answer.headers["cache-control"] == "no-store"
    held = answer.json()
    assert held["subscriber"]["email"] == "Ada@example.org"
    assert held["consents"][0]["text"] == "Send me the letters I chose."
    assert held["submissions"]
    assert "/c/…" in held["messages"][0]["text"]
    assert not re.search(r"/[acdopuv]/[\w-]{16,}", answer.text)
    notes = await to(db, "ada@example.org")
    assert notes[-1]["subject"] == "Your data was downloaded"
    assert notes[-1]["kind"] == "transactional"
    assert (await events(client, reader))[0] == "exported"


async def test_everything_held_is_downloaded_to_be_read(anonymous, reader, db):
    """A page of its own that needs nothing else, in the person's language, with dates as people write them."""
    await db.execute('UPDATE subscribers SET attributes = \'{"city": "<b>London</b>"}\'')
    answer = await anonymous.post(reader["p"], data={"action": "export", "format": "html"})
    assert answer.headers["content-disposition"] == 'attachment; filename="my-data.html"'
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "Everything we hold about Ada@example.org" in answer.text
    assert "<b>London" not in answer.text
    assert "&lt;b&gt;London" in answer.text
    assert str(datetime.now(UTC).year) in answer.text
    assert not re.search(r"(src|href)=", answer.text)


async def test_copies_are_few_and_the_note_is_one(anonymous, reader, db):
    """Five a day, 429 after that; one note a day, so that nobody's mailbox is filled."""
    before = len(await to(db, "ada@example.org"))
    codes = [(await anonymous.post(reader["p"], data={"action": "export"}, headers=JSON)).status_code for _ in range(6)]
    assert codes == [200] * 5 + [429]
    assert len(await to(db, "ada@example.org")) == before + 1


async def test_looking_downloads_nothing(anonymous, reader):
    """Only a POST does: `GET /p/…?action=export` is the page."""
    answer = await anonymous.get(reader["p"], params={"action": "export"})
    assert "attachment" not in answer.headers.get("content-disposition", "")
    assert "Ada@" not in answer.text


async def test_erasing_asks_once_in_plain_words_then_does_it(client, anonymous, reader, db):
    """The first page changes nothing and says what stays; the second press erases, and nobody but the person undoes it."""
    asking = await anonymous.post(reader["p"], data={"action": "erase_ask"})
    assert "keyed hash" in asking.text
    assert 'value="erase"' in asking.text
    assert (await person(client))["status"] == "active"
    done = await anonymous.post(reader["p"], data={"action": "erase"})
    assert (done.status_code, "Everything is erased" in done.text) == (200, True)
    assert (await client.get(f"/v1/subscribers/{reader['id']}")).status_code == 404
    assert (await anonymous.get(reader["p"])).status_code == 404
    assert await to(db, "ada@example.org") == []
    back = await client.post(
        "/v1/subscribers",
        json={"email": "ada@example.org", "double_opt_in": False, "consent": {"purpose": "newsletter", "text": "x"}},
    )
    assert (back.status_code, back.json()["code"]) == (422, "suppressed")


async def test_a_program_erases_at_once(anonymous, reader):
    """`action=erase` is the act; the asking is the page's."""
    answer = await anonymous.post(reader["p"], json={"action": "erase"}, headers=JSON)
    assert (answer.status_code, answer.json()) == (200, {"status": "erased"})


async def test_why_is_asked_after_leaving_and_counted(client, anonymous, reader):
    """One reason a leaving, free words with it; the last word counts, for the letter's campaign; erasing keeps the figure alone."""
    left = (await anonymous.post(reader["u"])).text
    assert 'name="reason" value="too_many"' in left
    assert f'action="/p"><input type="hidden" name="token" value="{reader["p"].removeprefix("/p/")}">' in left
    for reason, comment in (("not_relevant", ""), ("too_many", "Every day!")):
        answer = await anonymous.post(reader["p"], data={"action": "reason", "reason": reason, "comment": comment})
        assert "we have noted it" in answer.text
    counted = (await client.get("/v1/unsubscribes/reasons", params={"campaign_id": reader["campaign"]})).json()
    assert (counted["total"], counted["reasons"][0]) == (1, {"reason": "too_many", "count": 1})
    assert len(counted["reasons"]) == 6
    (said,) = (await client.get("/v1/unsubscribes/comments", params={"reason": "too_many"})).json()["data"]
    assert (said["comment"], said["subscriber_id"], said["campaign_id"]) == (
        "Every day!",
        reader["id"],
        reader["campaign"],
    )
    assert (await dossier(client, reader))["leaving_reasons"][0]["comment"] == "Every day!"
    await client.delete(f"/v1/subscribers/{reader['id']}")
    (said,) = (await client.get("/v1/unsubscribes/comments")).json()["data"]
    assert (said["reason"], said["comment"], said["subscriber_id"]) == ("too_many", None, None)


async def test_a_reason_is_one_of_ours_and_short(anonymous, reader):
    """Anything else is a 422, and 500 characters fit."""
    await anonymous.post(reader["u"])
    for wrong in ({"reason": "because"}, {"reason": "other", "comment": "x" * 501}, {}):
        assert (await anonymous.post(reader["p"], data={"action": "reason", **wrong}, headers=JSON)).status_code == 422
    right = {"action": "reason", "reason": "other", "comment": "ж" * 500}
    assert (await anonymous.post(reader["p"], data=right, headers=JSON)).status_code == 200


async def test_fewer_letters_after_leaving_need_the_mailbox(client, anonymous, reader, db):
    """One press keeps the wish and sends one letter; the person is back by answering it, with what they read before."""
    await anonymous.post(reader["u"])
    answer = await anonymous.post(reader["p"], data={"action": "save", "frequency": "monthly"})
    assert "We have sent you a letter" in answer.text
    assert (await person(client))["status"] == "unsubscribed"
    assert len(await letters(db)) == 2
    await anonymous.post(await last_link(db))
    back = await person(client)
    assert (back["status"], back["interests"]) == ("active", ["news"])
    assert (await dossier(client, reader))["frequency"] == "monthly"


async def test_a_pause_after_leaving_needs_the_mailbox_too(client, anonymous, reader, db):
    """Coming back starts with the pause."""
    await anonymous.post(reader["u"])
    await anonymous.post(reader["p"], data={"action": "pause", "pause_weeks": "4"})
    assert (await person(client))["status"] == "unsubscribed"
    await anonymous.post(await last_link(db))
    assert (await person(client))["status"] == "active"
    assert (await dossier(client, reader))["paused_until"]


async def test_pages_are_small_and_leak_nothing(anonymous, reader):
    """Under 14 kB each, no whole address, not to be framed, indexed, cached or named in a Referer, nothing inline."""
    pages = [
        await anonymous.get(reader["p"]),
        await anonymous.post(reader["p"], data={"action": "erase_ask"}),
        await anonymous.post(reader["u"]),
    ]
    for page in pages:
        assert len(page.content) < 14 * 1024
        assert "ada@" not in page.text.lower()
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert "noindex" in page.headers["x-robots-tag"]
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert "unsafe-inline" not in page.headers["content-security-policy"]
        assert "style=" not in page.text
        assert "<script" not in page.text


async def test_values_of_any_kind_are_answered(anonymous, reader):
    """A JSON body may hold anything: never a 500."""
    for value in (None, 7, True, 1.5, {"a": 1}, [[]], "\0", "ﬀ" * 400):
        for field in (
            "action",
            "interests",
            "frequency",
            "pause_weeks",
            "email",
            "purpose",
            "format",
            "reason",
            "comment",
        ):
            for action in ("save", "pause", "address", "withdraw", "reason", "export"):
                if (field, action) == ("action", "save") or (action == "export" and field != "format"):
                    continue
                body = json.dumps({"action": action, field: value})
                answer = await anonymous.post(
                    reader["p"], content=body, headers={**JSON, "Content-Type": "application/json"}
                )
                assert answer.status_code in {200, 422, 429}, (action, field, value, answer.text)
