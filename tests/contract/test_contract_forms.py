"""The contract's forms, called exactly as it is written."""

import re

import pytest

pytestmark = pytest.mark.usefixtures("news")

FORM = {"name": "Field notes", "from": {"name": "Notes", "email": "hello@notes.example"}}
FULL = {
    **FORM,
    "fields": [
        {
            "name": kind,
            "label": kind,
            "type": kind,
            "required": False,
            **({"options": ["a"]} if kind == "select" else {}),
        }
        for kind in ("text", "email", "phone", "date", "number", "select", "checkbox")
    ],
    "interests": ["news"],
    "interest_choice": True,
    "consents": [{"purpose": "newsletter", "text": "Yes.", "policy_url": "https://notes.example/p", "required": True}],
    "double_opt_in": True,
    "confirmation": {"subject": "Please confirm"},
    "redirects": {"pending": "https://notes.example/a", "confirmed": "https://notes.example/b"},
    "display": {"mode": "inline"},
    "allowed_origins": ["https://notes.example"],
    "locale": "en",
    "texts": {"button": "Go"},
    "protection": {"min_seconds": 0},
}


@pytest.fixture
async def news(client):
    await client.post("/v1/interests", json={"slug": "news", "name": "News"})


@pytest.mark.parametrize(
    "more", [{"interests": ["news"]}, {"fields": [{"name": "city", "label": "City", "type": "text"}]}]
)
async def test_name_from_and_interests_or_fields_suffice(client, more):
    """The rest has defaults: double opt-in, inline, any origin; the answer says how to embed it."""
    made = await client.post("/v1/forms", json={**FORM, **more})
    assert made.status_code == 201, made.text
    form = made.json()
    assert (form["double_opt_in"], form["display"]["mode"], form["allowed_origins"]) == (True, "inline", [])
    assert re.fullmatch(r"[a-z0-9]{16,}", form["key"])
    assert f'data-mailbase-form="{form["key"]}"' in form["embed_html"]
    assert form["hosted_url"].endswith(f"/f/{form['key']}")


async def test_every_field_comes_back(client):
    """What is written is answered under the same names."""
    made = await client.post("/v1/forms", json=FULL)
    assert made.status_code == 201, made.text
    form = made.json()
    assert set(FULL) <= set(form)
    assert form["from"] == FORM["from"]
    assert form["redirects"] == FULL["redirects"]


async def test_every_way_to_show_a_form_comes_back(client):
    """Popups, slide-ins and bars with each trigger, the quiet period, a lead magnet."""
    for more in (
        {"display": {"mode": "popup", "trigger": {"delay": 5}, "every": "15d"}},
        {"display": {"mode": "slide_in", "trigger": {"scroll": 0.5}, "every": "12h"}},
        {"display": {"mode": "bar", "trigger": {"exit": True}, "every": "30m"}},
        {"display": {"mode": "popup", "trigger": {"click": "#join"}, "every": "1d"}},
        {"lead_magnet": {"title": "The map", "url": "https://notes.example/x.pdf"}},
    ):
        answer = await client.post("/v1/forms", json={**FORM, "interests": ["news"], **more})
        assert answer.status_code == 201, answer.text
        assert {name: answer.json()[name] for name in more} == more


async def test_everything_wrong_with_a_form_is_said_at_once(client):
    """The name, the sender, an unknown interest and the letter's template are one 422."""
    bad = {
        "name": " ",
        "from": {"name": "x", "email": "nobody"},
        "interests": ["nope"],
        "confirmation": {"subject": "{{ nonsense }}"},
    }
    answer = await client.post("/v1/forms", json=bad)
    assert answer.status_code == 422, answer.text
    assert {error["field"] for error in answer.json()["errors"]} == {
        "name",
        "from.email",
        "interests.0",
        "confirmation.subject",
    }


async def test_a_link_survives_what_stands_behind_it(client, anonymous, db):
    """A mail program that takes the closing bracket of a plain-text letter along still opens the page, and the button works."""
    form = (await client.post("/v1/forms", json={**FORM, "interests": ["news"]})).json()
    await anonymous.post(f"/f/{form['key']}", json={"email": "ann@example.com"})
    text = await db.fetchval("SELECT text FROM messages")
    path = re.search(r"/c/[\w-]+", text)[0]
    assert (await anonymous.get(f"{path}).")).status_code == 200
    assert (await anonymous.get(f"{path}x")).status_code == 404
    assert (await anonymous.post(f"{path})")).status_code == 200
    assert await db.fetchval("SELECT status FROM subscribers") == "active"


async def test_bytes_that_are_no_text_are_no_address(client, anonymous, db):
    """An urlencoded body that is not UTF-8 is malformed, in its escapes as well."""
    form = (await client.post("/v1/forms", json={**FORM, "interests": ["news"]})).json()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    for body in (b"email=%ff%fe@example.com", b"email=\xff@example.com"):
        assert (await anonymous.post(f"/f/{form['key']}", content=body, headers=kind)).status_code == 400
    assert await db.fetchval("SELECT count(*) FROM subscribers") == 0
