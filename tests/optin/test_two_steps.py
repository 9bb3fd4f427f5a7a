"""Forms that ask for the address first and for the rest afterwards, and one more thing once the address is confirmed."""

import re

from optin.optin_kit import JSON, cool, last_link, letters, make_form, person, submit

FIELDS = [
    {"name": "city", "label": "City"},
    {"name": "born", "label": "Birthday", "type": "date", "year": "optional", "step": 2},
    {"name": "size", "label": "Size", "type": "select", "options": ["S", "M"], "required": True, "step": 2},
    {"name": "pet", "label": "Pet", "step": 3},
]
HTML = {"Accept": "text/html"}


async def two_steps(client, **changes):
    """Make a form of two steps and one more thing."""
    return await make_form(client, fields=FIELDS, **changes)


async def begin(visitor, form, **entry):
    """Leave an address and return the token of the second step."""
    answer = await submit(visitor, form, **entry)
    assert (answer.status_code, set(answer.json())) == (202, {"status", "more"})
    return answer.json()["more"]


async def go_on(visitor, form, token, **answers):
    """Answer the second step as the script does."""
    return await visitor.post(f"/f/{form['key']}/more", data={"_more": token, **answers}, headers=JSON)


async def test_the_second_step_is_confirmed_with_the_first(client, anonymous, db):
    """One letter; confirming it writes the answers of both steps, a birthday without its year among them."""
    form = await two_steps(client)
    token = await begin(anonymous, form)
    answer = await go_on(anonymous, form, token, size="M", **{"born.day": "14", "born.month": "3", "born.year": ""})
    assert (answer.status_code, answer.json()) == (202, {"status": "pending"})
    await anonymous.post(await last_link(db))
    assert (await person(client))["attributes"] == {"city": "London", "size": "M", "born": "--03-14"}
    assert len(await letters(db)) == 1


async def test_nothing_of_the_first_step_is_lost(client, anonymous, db):
    """Whoever never answers the second step is asked to confirm and becomes a subscriber all the same."""
    form = await two_steps(client)
    await begin(anonymous, form)
    await anonymous.post(await last_link(db))
    found = await person(client)
    assert (found["status"], found["attributes"]) == ("active", {"city": "London"})


async def test_it_works_without_a_script(client, anonymous, db):
    """The hosted page shows the second step after the first, keeps what was entered on a mistake, and ends at the form's own page."""
    form = await two_steps(client, redirects={"pending": "https://shop.example/thanks"})
    page = await anonymous.get(f"/f/{form['key']}")
    assert ('name="city"' in page.text, 'name="size"' in page.text, 'name="pet"' in page.text) == (True, False, False)
    entered = {"email": "ada@example.org", "city": "London", "consent_newsletter": "on"}
    second = await anonymous.post(f"/f/{form['key']}", data=entered, headers=HTML)
    assert second.status_code == 200
    assert 'name="born.day"' in second.text
    assert "<script" not in second.text
    token = re.search(r'name="_more" value="([^"]+)"', second.text)[1]
    wrong = {"_more": token, "size": "", "born.day": "31", "born.month": "2", "born.year": "1990"}
    again = await anonymous.post(f"/f/{form['key']}/more", data=wrong, headers=HTML)
    assert again.status_code == 422
    assert all(part in again.text for part in ('id="fault-size"', 'id="fault-born"', 'value="31"', token))
    right = {**wrong, "size": "S", "born.day": "28"}
    done = await anonymous.post(f"/f/{form['key']}/more", data=right, headers=HTML)
    assert (done.status_code, done.headers["location"]) == (303, "https://shop.example/thanks")
    await anonymous.post(await last_link(db))
    assert (await person(client))["attributes"] == {"city": "London", "size": "S", "born": "1990-02-28"}


async def test_a_second_step_may_be_skipped(client, anonymous, db):
    """Its own button asks for nothing, not even for what is required."""
    form = await two_steps(client)
    token = await begin(anonymous, form)
    assert (await go_on(anonymous, form, token, _skip="1")).status_code == 202
    assert len(await letters(db)) == 1


async def test_the_token_tells_nothing(client, anonymous, db):
    """New, active, left, suppressed, held or cooling down: the same kind of token, and the same answer to the second step."""
    form = await two_steps(client)
    for status in ("active", "unsubscribed", "bounced"):
        await db.execute(
            "INSERT INTO subscribers (email, email_key, domain, status) VALUES ($1, $1, 'example.org', $2)",
            f"{status}@example.org",
            status,
        )
    await db.execute("INSERT INTO suppressions (kind, value, reason) VALUES ('email', 'manual@example.org', 'manual')")
    seen = set()
    for name in ("new", "new", "active", "unsubscribed", "bounced", "manual"):
        token = await begin(anonymous, form, email=f"{name}@example.org")
        answer = await go_on(anonymous, form, token, size="M")
        headers = tuple(pair for pair in answer.headers.items() if pair[0] not in {"x-request-id", "date"})
        seen.add((len(token), answer.status_code, headers, answer.content))
    token = await begin(anonymous, form, email="bot@example.org", _hp="spam")
    answer = await go_on(anonymous, form, token, size="M")
    assert len(seen) == 1
    assert (len(token), answer.status_code, answer.content) == (*next(iter(seen))[:2], next(iter(seen))[3])


async def test_answers_add_and_never_overwrite(client, anonymous, db):
    """Who types another's address changes nothing of theirs: neither what waits to be confirmed nor what is confirmed already."""
    form = await two_steps(client)
    token = await begin(anonymous, form)
    await go_on(anonymous, form, token, size="M")
    stranger = await begin(anonymous, form)  # the address cools down: this joins the open confirmation
    await go_on(anonymous, form, stranger, size="S", **{"born.day": "1", "born.month": "1"})
    await go_on(anonymous, form, token, size="M", **{"born.day": "14", "born.month": "3"})
    await anonymous.post(await last_link(db))
    assert (await person(client))["attributes"] == {"city": "London", "size": "M", "born": "--01-01"}
    await go_on(anonymous, form, stranger, size="S", **{"born.day": "2", "born.month": "2"})
    assert (await person(client))["attributes"]["size"] == "M"
    assert (await person(client))["attributes"]["born"] == "--01-01"


async def test_who_confirms_first_loses_no_answer(client, anonymous, db):
    """The second step after the confirmation fills what is still empty, even if somebody has typed the address again meanwhile."""
    form = await two_steps(client)
    token = await begin(anonymous, form)
    await anonymous.post(await last_link(db))
    await cool(db)
    await begin(anonymous, form, city="Elsewhere")
    await go_on(anonymous, form, token, size="M")
    assert (await person(client))["attributes"] == {"city": "London", "size": "M"}


async def test_who_is_on_the_list_already_answers_for_nobody(client, anonymous, db):
    """A second step for an active person waits for the letter like the first, and is written by it."""
    form = await two_steps(client)
    await db.execute(
        "INSERT INTO subscribers (email, email_key, domain, status) VALUES ('ada@example.org', 'ada@example.org', 'example.org', 'active')"
    )
    token = await begin(anonymous, form)
    await go_on(anonymous, form, token, size="M")
    assert (await person(client))["attributes"] == {}
    await anonymous.post(await last_link(db))
    assert (await person(client))["attributes"] == {"city": "London", "size": "M"}


async def test_a_held_submission_keeps_both_steps(client, anonymous, db):
    """Released, it asks for all of it to be confirmed."""
    form = await two_steps(client)
    token = await begin(anonymous, form, _hp="x")
    await go_on(anonymous, form, token, size="M")
    held = (await client.get("/v1/submissions", params={"outcome": "held"})).json()["data"][0]
    assert held["fields"] == {"city": "London", "size": "M"}
    assert (await client.post(f"/v1/submissions/{held['id']}/release")).status_code == 200
    await anonymous.post(await last_link(db))
    assert (await person(client))["attributes"] == {"city": "London", "size": "M"}


async def test_tokens_open_their_own_step_for_a_day(client, anonymous, app, db):
    """Another purpose's, another form's and an invented token are unknown (404); yesterday's is over (410), and nothing is lost."""
    form, other = await two_steps(client), await two_steps(client)
    token = await begin(anonymous, form)
    number = await db.fetchval("SELECT max(id) FROM submissions")
    sign = app.state.tokens.sign
    for path, given, status in (
        (f"/f/{other['key']}/more", token, 404),
        (f"/f/{form['key']}/profile", token, 404),
        (f"/f/{form['key']}/more", sign("profile", number, form["id"], 4102444800), 404),
        (f"/f/{form['key']}/more", "AAAA", 404),
        (f"/f/{form['key']}/more", "", 404),
        (f"/f/{form['key']}/more", sign("more", number, form["id"], 1), 410),
    ):
        for accept in (JSON, HTML):
            answer = await anonymous.post(path, data={"_more": given, "size": "M"}, headers=accept)
            assert answer.status_code == status, (path, given, answer.text)
    assert await db.fetchval("SELECT fields FROM submissions WHERE id = $1", number) == {"city": "London"}


async def test_a_program_may_send_everything_at_once(client, anonymous, db):
    """Answers to the second step that come with the address need no second step."""
    form = await two_steps(client)
    answer = await submit(anonymous, form, size="M")
    assert answer.json() == {"status": "pending"}
    assert (await submit(anonymous, form, email="b@example.org", size="XXL")).status_code == 422
    await anonymous.post(await last_link(db))
    assert (await person(client))["attributes"] == {"city": "London", "size": "M"}


async def test_one_more_thing_is_asked_after_confirming(client, anonymous, db):
    """The thank-you page asks it; the answer is written to the person at once, because the mailbox has answered."""
    form = await two_steps(client)
    await begin(anonymous, form)
    before = await anonymous.get(await last_link(db))
    assert 'name="pet"' not in before.text
    done = await anonymous.post(await last_link(db))
    token = re.search(r'name="_more" value="([^"]+)"', done.text)[1]
    assert 'name="pet"' in done.text
    saved = await anonymous.post(f"/f/{form['key']}/profile", data={"_more": token, "pet": "Cat"}, headers=HTML)
    assert saved.status_code == 200
    assert "noted" in saved.text
    assert (await person(client))["attributes"] == {"city": "London", "pet": "Cat"}
    await anonymous.post(f"/f/{form['key']}/profile", data={"_more": token, "pet": "Dog"})
    assert (await person(client))["attributes"]["pet"] == "Dog"


async def test_a_step_sent_again_is_noted_once(client, anonymous, db):
    """Whoever holds a token cannot make a person's timeline grow."""
    form = await two_steps(client)
    token = await begin(anonymous, form)
    for size in ("S", "M", "S"):
        await go_on(anonymous, form, token, size=size)
    assert await db.fetchval("SELECT count(*) FROM subscriber_events WHERE data ->> 'step' = '2'") == 1
    await anonymous.post(await last_link(db))
    assert (await person(client))["attributes"]["size"] == "S"


async def test_a_step_answered_in_two_goes_keeps_both(client, anonymous, db):
    """What the second step said first stays when it is sent again with something else."""
    form = await two_steps(client)
    token = await begin(anonymous, form)
    await go_on(anonymous, form, token, size="S", **{"born.day": "14", "born.month": "3"})
    await go_on(anonymous, form, token, size="M")
    await anonymous.post(await last_link(db))
    assert (await person(client))["attributes"] == {"city": "London", "size": "M", "born": "--03-14"}


async def test_who_has_left_is_not_written_to(client, anonymous, db):
    """One more thing of somebody who left meanwhile is over (410)."""
    form = await two_steps(client)
    await begin(anonymous, form)
    done = await anonymous.post(await last_link(db))
    token = re.search(r'name="_more" value="([^"]+)"', done.text)[1]
    found = await person(client)
    await client.post(f"/v1/subscribers/{found['id']}/unsubscribe")
    assert (await anonymous.post(f"/f/{form['key']}/profile", data={"_more": token, "pet": "Cat"})).status_code == 410
    assert "pet" not in (await person(client))["attributes"]


async def test_without_double_opt_in_a_second_step_fills_what_is_empty(client, anonymous, db):
    """The person is active at once; what is known already stays."""
    form = await make_form(client, fields=FIELDS[:3], double_opt_in=False)
    token = await begin(anonymous, form)
    await go_on(anonymous, form, token, size="M")
    assert (await person(client))["attributes"] == {"city": "London", "size": "M"}
    await cool(db)
    token = await begin(anonymous, form)
    await go_on(anonymous, form, token, size="S")
    assert (await person(client))["attributes"]["size"] == "M"
