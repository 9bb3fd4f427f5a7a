"""From the form to the confirmed subscriber, over HTTP, on real servers."""

import asyncio
import itertools
import re

import pytest

from mailbase.optin import pending
from optin.optin_kit import JSON, cool, last_link, letters, link, make_form, person, submit


async def test_a_visitor_subscribes_and_confirms(client, anonymous, db):
    """A submission makes a pending subscriber and one letter; the button in its page makes the person active with evidence."""
    form = await make_form(client)
    answer = await submit(anonymous, form)
    assert (answer.status_code, answer.json()) == (202, {"status": "pending"})
    pending = await person(client)
    assert pending["status"] == "pending"
    assert pending["attributes"] == {"city": "London"}
    (letter,) = await letters(db)
    assert letter["email"] == "Ada@example.org"
    assert "Field notes" in letter["subject"]
    assert "News" in letter["html"]
    assert "News" in letter["text"]
    assert "Send me the letters I chose." in letter["text"]
    looked = await anonymous.get(link(letter))
    assert looked.status_code == 200
    assert "News" in looked.text
    assert "Send me the letters I chose." in looked.text
    assert (await person(client))["status"] == "pending"
    confirmed = await anonymous.post(link(letter))
    assert confirmed.status_code == 200
    active = await person(client)
    assert (active["status"], active["interests"], active["attributes"]) == ("active", ["news"], {"city": "London"})
    assert active["confirmed_at"]
    ledger = (await client.get(f"/v1/subscribers/{active['id']}/consents")).json()["data"]
    assert [line["act"] for line in ledger] == ["confirmed", "given"]
    assert all(
        line["text"] == "Send me the letters I chose." and line["purpose"] == "newsletter" and line["confirmation_id"]
        for line in ledger
    )
    assert all(
        line["policy_url"] == "https://shop.example/privacy" and line["ip"] == "127.0.0.1" and line["user_agent"]
        for line in ledger
    )
    kinds = [event["kind"] for event in (await client.get(f"/v1/subscribers/{active['id']}/events")).json()["data"]]
    assert kinds == ["confirmed", "submitted", "confirmation_sent", "created"]


async def test_the_button_confirms_what_its_page_showed(client, anonymous, db):
    """What somebody adds for the address while its page lies open is shown first; no ledger says that unseen words were confirmed."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    fields = dict(re.findall(r'name="(\w+)" value="([^"]+)"', (await anonymous.get(path)).text))
    more = [{"purpose": "partners", "text": "Sell my address.", "required": False}]
    other = await make_form(client, consents=more)
    await submit(anonymous, other, consent_partners="on")
    again = await anonymous.post("/c", data=fields)
    assert (again.status_code, "Sell my address." in again.text) == (200, True)
    assert (await person(client))["status"] == "pending"
    fields = dict(re.findall(r'name="(\w+)" value="([^"]+)"', again.text))
    await anonymous.post("/c", data=fields)
    assert (await person(client))["status"] == "active"


async def test_confirming_twice_is_confirming_once(client, anonymous, db):
    """The second POST answers as the first and writes nothing more."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    first, second = [await anonymous.post(path) for _ in range(2)]
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert await db.fetchval("SELECT count(*) FROM consents") == 2
    assert (await client.get(f"/v1/forms/{form['id']}/stats")).json()["confirmed"] == 1


async def test_confirming_at_once_from_two_places_is_confirming_once(client, anonymous, db):
    """Two buttons pressed in the same moment leave one confirmation in the ledger."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    answers = await asyncio.gather(*(anonymous.post(path) for _ in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert await db.fetchval("SELECT count(*) FROM consents") == 2


async def test_looking_changes_nothing(client, anonymous, db):
    """GET and HEAD of every link in the letter leave the person pending."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    for _ in range(3):
        assert (await anonymous.get(path)).status_code == 200
        head = await anonymous.head(path)
        assert (head.status_code, head.content) == (200, b"")
    assert (await person(client))["status"] == "pending"
    assert await db.fetchval("SELECT count(*) FROM consents") == 0


async def test_an_expired_confirmation_is_gone(client, anonymous, db):
    """After thirty days the link answers 410, to look and to press."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    assert await db.fetchval("SELECT expires_at - created_at = interval '30 days' FROM confirmations")
    await db.execute("UPDATE confirmations SET expires_at = now() - interval '1 second'")
    for answer in (await anonymous.get(path), await anonymous.post(path)):
        assert answer.status_code == 410
    assert (await person(client))["status"] == "pending"


async def test_a_confirmed_link_still_says_so_after_it_expired(client, anonymous, db):
    """Who confirmed sees that they did, at any time."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    await anonymous.post(path)
    await db.execute("UPDATE confirmations SET expires_at = now() - interval '1 second'")
    assert (await anonymous.post(path)).status_code == 200


async def test_an_unknown_token_is_not_found(anonymous):
    """What we never signed is 404, whatever it looks like."""
    for way, token in itertools.product("cup", ["", "x", "AAAA", "é", "a" * 300, "%00", "../f"]):
        assert (await anonymous.get(f"/{way}/{token}")).status_code == 404
        assert (await anonymous.post(f"/{way}/{token}")).status_code in {404, 405}


async def test_a_token_opens_its_own_door_only(client, anonymous, db, app):
    """A confirmation's token does not unsubscribe, and an unsubscribe token does not confirm."""
    form = await make_form(client)
    await submit(anonymous, form)
    token = (await last_link(db)).removeprefix("/c/")
    assert (await anonymous.post(f"/u/{token}")).status_code == 404
    assert (await anonymous.post(f"/p/{token}", data={"action": "leave"})).status_code == 404
    subscriber = (await person(client))["id"]
    assert (await anonymous.post(f"/c/{app.state.tokens.sign('unsubscribe', subscriber, 0)}")).status_code == 404


async def test_an_address_gets_one_letter_in_ten_minutes(client, anonymous, db):
    """Across forms a second submission sends nothing while the address cools down, the wait doubles, and after three letters it is a day."""
    one = await make_form(client)
    other = (
        await client.post(
            "/v1/forms",
            json={"name": "Other", "interests": ["news"], "from": {"name": "", "email": "x@news.example.com"}},
        )
    ).json()
    for form in (one, other, one):
        assert (await submit(anonymous, form)).status_code == 202
    assert len(await letters(db)) == 1
    waits = []
    for _ in range(4):
        row = await db.fetchrow("SELECT extract(epoch FROM next_at - last_at)::int AS wait FROM confirmation_cooldowns")
        waits.append(row["wait"])
        await cool(db)
        await submit(anonymous, one)
    assert waits[:2] == [600, 1200]
    assert all(86_000 < wait <= 86_400 for wait in waits[2:])
    assert len(await letters(db)) == 5


async def test_simultaneous_submissions_send_one_letter(client, anonymous, db):
    """Ten submissions of one address at once make one person and one letter."""
    form = await make_form(client)
    answers = await asyncio.gather(*(submit(anonymous, form) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {202}
    assert len(await letters(db)) == 1
    assert await db.fetchval("SELECT count(*) FROM subscribers") == 1


async def test_choices_made_meanwhile_join_the_open_confirmation(client, anonymous, db):
    """One confirmation covers the interests chosen in two submissions."""
    form = await make_form(client)
    await submit(anonymous, form, interests=["news"])
    await submit(anonymous, form, interests=["sale"], city="Paris")
    path = await last_link(db)
    page = (await anonymous.get(path)).text
    assert "News" in page
    assert "Sales &amp; offers" in page
    await anonymous.post(path)
    active = await person(client)
    assert (active["interests"], active["attributes"]) == (["news", "sale"], {"city": "Paris"})


async def test_a_later_letter_asks_for_everything_not_yet_confirmed(client, anonymous, db):
    """The second letter names both choices."""
    form = await make_form(client)
    await submit(anonymous, form, interests=["news"])
    await cool(db)
    await submit(anonymous, form, interests=["sale"])
    second = (await letters(db))[1]
    assert "News" in second["text"]
    assert "Sales & offers" in second["text"]


async def test_an_active_person_changes_nothing_without_confirming(client, anonymous, db):
    """Somebody else typing the address alters neither interests nor attributes; the owner's button does."""
    form = await make_form(client)
    await submit(anonymous, form)
    await anonymous.post(await last_link(db))
    before = await person(client)
    await submit(anonymous, form, interests=["sale"], city="Elsewhere")
    assert await person(client) == before
    await anonymous.post(await last_link(db))
    after = await person(client)
    assert (after["status"], after["interests"], after["attributes"]) == (
        "active",
        ["news", "sale"],
        {"city": "Elsewhere"},
    )


@pytest.mark.parametrize("double", [True, False])
async def test_who_left_comes_back_by_their_own_confirmation_only(client, anonymous, db, double):
    """A form brings nobody back, with double opt-in or without; the letter it sends does."""
    form = await make_form(client)
    await submit(anonymous, form)
    old = await last_link(db)
    await anonymous.post(old)
    subscriber = await person(client)
    await client.post(f"/v1/subscribers/{subscriber['id']}/unsubscribe")
    again = await make_form(client, name="Again", double_opt_in=double)
    await submit(anonymous, again, interests=["sale"])
    assert (await person(client))["status"] == "unsubscribed"
    assert (await anonymous.post(old)).status_code == 200
    assert (await person(client))["status"] == "unsubscribed"
    assert len(await letters(db)) == 2
    await anonymous.post(await last_link(db))
    back = await person(client)
    assert (back["status"], back["interests"], back["unsubscribed_at"]) == ("active", ["sale"], None)


async def test_a_letter_asked_before_leaving_brings_nobody_back(client, anonymous, db):
    """Leaving makes void what was still open."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    subscriber = await person(client)
    await client.post(f"/v1/subscribers/{subscriber['id']}/unsubscribe")
    assert (await anonymous.post(path)).status_code == 410
    assert (await person(client))["status"] == "unsubscribed"


@pytest.mark.parametrize(("status", "reason"), [("complained", "complaint"), ("bounced", "hard_bounce")])
async def test_confirming_lifts_what_a_complaint_or_bounce_left(client, anonymous, db, status, reason):
    """Their own submission sends one letter; confirming it makes them active and lifts the suppression."""
    form = await make_form(client)
    await submit(anonymous, form)
    await anonymous.post(await last_link(db))
    await db.execute("UPDATE subscribers SET status = $1", status)
    await db.execute("INSERT INTO suppressions (kind, value, reason) VALUES ('email', 'ada@example.org', $1)", reason)
    await submit(anonymous, form)
    assert (await person(client))["status"] == status
    await anonymous.post(await last_link(db))
    assert (await person(client))["status"] == "active"
    assert await db.fetchval("SELECT count(*) FROM suppressions") == 0


async def test_an_erased_person_comes_back_by_confirming(client, anonymous, db):
    """Of an erased person nothing but a letter comes of a submission; confirming lifts the hash."""
    form = await make_form(client)
    await submit(anonymous, form)
    await anonymous.post(await last_link(db))
    subscriber = await person(client)
    assert (await client.delete(f"/v1/subscribers/{subscriber['id']}")).status_code == 204
    assert await db.fetchval("SELECT kind FROM suppressions") == "erased"
    await submit(anonymous, form)
    assert await db.fetchval("SELECT attributes FROM subscribers") == {}
    assert await db.fetchval("SELECT kind FROM suppressions") == "erased"
    await anonymous.post(await last_link(db))
    back = await person(client)
    assert (back["status"], back["attributes"], back["interests"]) == ("active", {"city": "London"}, ["news"])
    assert await db.fetchval("SELECT count(*) FROM suppressions") == 0


@pytest.mark.parametrize("what", [{"email": "ada@example.org"}, {"domain": "example.org"}])
async def test_the_owners_own_suppression_stays(client, anonymous, db, what):
    """An address or domain the owner put on the list gets no letter and no row, and the visitor is told the same."""
    form = await make_form(client)
    await client.post("/v1/suppressions", json={**what, "reason": "manual"})
    assert (await submit(anonymous, form)).json() == {"status": "pending"}
    assert await letters(db) == []
    assert await db.fetchval("SELECT count(*) FROM subscribers") == 0
    assert await db.fetchval("SELECT outcome FROM submissions") == "suppressed"


async def test_without_double_opt_in_a_new_person_is_active_at_once(client, anonymous, db):
    """No letter, an active subscriber, and the consent in the ledger; the visitor is told the same."""
    form = await make_form(client, double_opt_in=False)
    assert (await submit(anonymous, form)).json() == {"status": "pending"}
    active = await person(client)
    assert (active["status"], active["interests"], active["confirmed_at"]) == ("active", ["news"], None)
    assert await letters(db) == []
    assert await db.fetchval("SELECT act || text FROM consents") == "givenSend me the letters I chose."


async def test_a_form_without_consents_keeps_the_words_beside_its_button(client, anonymous, db):
    """The ledger is never without words."""
    form = await make_form(client, consents=[])
    await submit(anonymous, form)
    await anonymous.post(await last_link(db))
    texts = {row["text"] for row in await db.fetch("SELECT text FROM consents")}
    assert len(texts) == 1
    assert "Subscribe" in texts.pop()


async def test_the_owners_own_confirmation_letter(client, anonymous, db):
    """MJML with the link in it replaces the standard letter."""
    mjml = "<mjml><mj-body><mj-section><mj-column><mj-text>Moin! {{ interests | join(', ') }}</mj-text><mj-button href='{{ confirm_url }}'>Klar</mj-button></mj-column></mj-section></mj-body></mjml>"
    form = await make_form(client, confirmation={"subject": "Moin von {{ form_name }}", "mjml": mjml})
    await submit(anonymous, form)
    (letter,) = await letters(db)
    assert letter["subject"] == "Moin von Field notes"
    assert "Moin! News" in letter["html"]
    assert (await anonymous.post(link(letter))).status_code == 200


async def test_pending_people_are_forgotten(client, anonymous, db):
    """Who never confirms is deleted after the settings' days, with submission and letter; who did stays."""
    form = await make_form(client)
    await submit(anonymous, form)
    await submit(anonymous, form, email="grace@example.org")
    await anonymous.post(await last_link(db, "grace@example.org"))
    assert await pending.expire(db) == 0
    await db.execute("UPDATE subscribers SET created_at = created_at - interval '31 days'")
    await db.execute(
        "UPDATE confirmations SET created_at = created_at - interval '31 days', expires_at = expires_at - interval '31 days'"
    )
    assert await pending.expire(db) == 1
    assert [row["email_key"] for row in await db.fetch("SELECT email_key FROM subscribers")] == ["grace@example.org"]
    assert await letters(db) == []
    assert await db.fetchval("SELECT count(*) FROM submissions") == 1


async def test_a_confirmation_speaks_the_visitors_language(client, anonymous, db):
    """A Russian browser gets a Russian letter and page."""
    form = await make_form(client)
    await anonymous.post(
        f"/f/{form['key']}",
        data={"email": "ada@example.org", "consent_newsletter": "on"},
        headers={**JSON, "Accept-Language": "ru-RU,ru;q=0.9,en;q=0.5"},
    )
    (letter,) = await letters(db)
    assert letter["subject"].startswith("Подтвердите")
    assert "Да, подписаться" in (await anonymous.get(link(letter))).text
    await anonymous.post(link(letter))
    assert (await person(client))["locale"] == "ru"
