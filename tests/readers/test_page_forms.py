"""The forms on the pages behind a letter's link: the token is in the form, and nothing of it in the address the form is sent to."""

import re

import pytest

from optin.optin_kit import JSON, last_link, make_form, person, submit

FORM = re.compile(r'<form method="post" action="([^"]*)"[^>]*>(.*?)</form>', re.DOTALL)
HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


def forms(page: str) -> list[tuple[str, dict[str, str]]]:
    """Return where each form of a page is sent, and its hidden fields."""
    found = FORM.findall(page)
    assert page.count("<form") == len(found) > 0
    return [(action, dict(HIDDEN.findall(inside))) for action, inside in found]


async def test_each_form_carries_its_token_and_is_taken(app, client, anonymous, db):
    """Confirming, choosing and leaving by the forms as they stand: every one is sent to a bare address, which knows whom it is for."""
    form = await make_form(client)
    await submit(anonymous, form)
    path = await last_link(db)
    ((action, hidden),) = forms((await anonymous.get(path)).text)
    assert (action, hidden["token"]) == ("/c", path.removeprefix("/c/"))
    assert "You are subscribed" in (await anonymous.post(action, data=hidden)).text
    number = (await person(client))["id"]
    tokens = app.state.tokens
    centre = f"/p/{tokens.sign('preferences', number, 0)}"
    found = forms((await anonymous.get(centre)).text)
    assert {(action, hidden["token"]) for action, hidden in found} == {("/p", centre.removeprefix("/p/"))}
    save = {**found[0][1], "action": "save", "frequency": "weekly"}
    saved = await anonymous.post("/p", data=save)
    assert "Saved." in saved.text
    assert forms(saved.text)[0][1]["token"] == save["token"]
    asked = await anonymous.post("/p", data={"token": save["token"], "action": "erase_ask"})
    assert f'href="{centre}"' in asked.text
    ((action, hidden),) = forms((await anonymous.get(f"/u/{tokens.sign('unsubscribe', number, 0)}")).text)
    assert action == "/u"
    left = await anonymous.post(action, data=hidden)
    assert "You have left" in left.text
    assert {(action, hidden["token"]) for action, hidden in forms(left.text)} == {("/p", save["token"])}
    assert (await person(client))["status"] == "unsubscribed"


@pytest.mark.parametrize("door", ["c", "u", "p", "a", "d"])
async def test_without_a_token_there_is_nothing(anonymous, door):
    """No token, a strange one, one of another kind, another shape: 404 as a page and as a problem, and for whoever opens the address."""
    for body in ({}, {"token": "not-one-of-ours"}, {"token": ["a", "b"]}, {"token": 7}):
        answer = await anonymous.post(f"/{door}", json=body, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), body
    opened = await anonymous.get(f"/{door}", headers={"Accept": "text/html"})
    assert opened.status_code == 404
    assert "There is nothing here" in opened.text


async def test_the_icon_is_the_owners(client, anonymous):
    """A letter on the owner's colour, in black or white, from this origin."""
    plain = await anonymous.get("/favicon.ico")
    assert (plain.status_code, plain.headers["content-type"].partition(";")[0]) == (200, "image/svg+xml")
    await client.patch("/v1/settings", json={"accent": "#ffd400"})
    drawn = (await anonymous.get("/assets/icon.svg")).text
    assert 'fill="#ffd400"' in drawn
    assert 'stroke="#16181c"' in drawn
    await client.patch("/v1/settings", json={"accent": None})
