"""What a form refuses, as people read it."""

import re

from optin.optin_kit import make_form

HTML = {"Accept": "text/html"}
KIND = "application/x-www-form-urlencoded"


async def test_what_a_form_refuses_is_a_page_too(client, anonymous):
    """Too much, from a page it is not for, or too often: each is said in the house's words, the last with how long to wait."""
    form = await make_form(client, allowed_origins=["https://bakery.example"])
    path = f"/f/{form['key']}"
    large = await anonymous.post(path, content=b"x" * 1_100_000, headers={**HTML, "Content-Type": KIND})
    assert (large.status_code, "That was too much</h1>" in large.text) == (413, True)
    foreign = await anonymous.get(f"{path}/config.json", headers={**HTML, "Origin": "https://elsewhere.example"})
    assert (foreign.status_code, "Not from this page</h1>" in foreign.text) == (403, True)
    for _ in range(200):
        slow = await anonymous.post(path, data={"email": "x"}, headers=HTML)
        if slow.status_code == 429:
            break
    assert re.search(rf"try again in {slow.headers['retry-after']} seconds?\.", slow.text)
