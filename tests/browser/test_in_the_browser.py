"""What a visitor meets: the embedded form on somebody else's page, and the pages without any script."""

import re

import pytest
from playwright.async_api import expect

from api_process import SECRET
from mailbase.tokens import Tokens
from optin.optin_kit import make_form, person

pytestmark = pytest.mark.browser


def embedding(host, *keys):
    """Return a page with the two lines of HTML for each form."""
    places = "".join(f'<div data-mailbase-form="{key}" id="form-{n}"></div>' for n, key in enumerate(keys))
    return f'<!doctype html><html lang="en"><title>Shop</title><body style="font-family:serif"><script src="{host}/embed/v1.js" async></script>{places}'


async def test_a_visitor_subscribes_on_another_origin(browser, shop, host, owner, db):
    """The script shows the form, sends it, and says what comes next; it leaves nothing in the browser and breaks no policy."""
    form = await make_form(owner, allowed_origins=[shop.url])
    shop.html = embedding(host, form["key"])
    context = await browser.new_context()
    page = await context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.goto(f"{shop.url}/offers?utm=x")
    await page.get_by_label("E-mail address").fill("ada@example.org")
    await page.get_by_label("City").fill("London")
    await page.get_by_label("Sales & offers").check()
    await page.get_by_label(re.compile("Send me the letters")).check()
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_focused()
    row = await db.fetchrow("SELECT attributes, (SELECT page FROM submissions) AS page FROM subscribers")
    assert (row["attributes"], row["page"]) == ({"city": "London"}, f"{shop.url}/offers")
    stats = (await owner.get(f"/v1/forms/{form['id']}/stats")).json()
    assert (stats["views"], stats["starts"], stats["submits"]) == (1, 1, 1)
    assert await context.cookies() == []
    assert await page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert said == []
    await context.close()


async def test_mistakes_are_said_beside_their_fields(browser, shop, host, owner):
    """The field knows it is wrong, names the sentence that says so, and has the focus; it is right again after mending."""
    form = await make_form(owner)
    shop.html = embedding(host, form["key"])
    page = await browser.new_page()
    await page.goto(shop.url)
    await page.get_by_role("button", name="Subscribe").click()
    email = page.get_by_label("E-mail address")
    await expect(email).to_be_focused()
    await expect(email).to_have_attribute("aria-invalid", "true")
    await expect(email).to_have_accessible_description("Please fill this in.")
    await expect(page.get_by_label(re.compile("Send me the letters"))).to_have_accessible_description(
        "We need your consent for this."
    )
    await email.fill("ada@example.org")
    await page.get_by_label(re.compile("Send me the letters")).check()
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()


async def test_several_forms_and_one_that_comes_later(browser, shop, host, owner):
    """Each stands alone, takes the page's font, and one put in later appears, too."""
    forms = [await make_form(owner, name=f"Form {n}", fields=[], texts={"button": f"Join {n}"}) for n in range(3)]
    shop.html = embedding(host, forms[0]["key"], forms[1]["key"])
    page = await browser.new_page()
    await page.goto(shop.url)
    for n in range(2):
        await expect(page.get_by_role("button", name=f"Join {n}")).to_be_visible()
    await page.evaluate(
        "key => { const place = document.createElement('div'); place.dataset.mailbaseForm = key; document.body.append(place); }",
        forms[2]["key"],
    )
    await expect(page.get_by_role("button", name="Join 2")).to_be_visible()
    assert (
        await page.get_by_role("button", name="Join 0").evaluate("button => getComputedStyle(button).fontFamily")
        == "serif"
    )


async def test_a_page_that_is_not_allowed_gets_no_form(browser, shop, host, owner):
    """The browser itself keeps the definition from a foreign page."""
    form = await make_form(owner, allowed_origins=["https://shop.example"])
    shop.html = embedding(host, form["key"])
    page = await browser.new_page()
    async with page.expect_console_message(
        lambda message: "mailbase" in message.text or "Failed to fetch" in message.text
    ):
        await page.goto(shop.url)
    assert await page.locator("form").count() == 0


async def test_everything_works_without_javascript(browser, shop, host, owner, db):
    """Subscribing, confirming with a redirect to the shop, choosing topics and leaving, all by plain pages."""
    shop.html = "<h1>Welcome to the shop</h1>"
    form = await make_form(owner, redirects={"confirmed": f"{shop.url}/welcome"}, allowed_origins=[shop.url])
    context = await browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 740})
    page = await context.new_page()
    await page.goto(form["hosted_url"])
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_label("E-mail address")).to_have_accessible_description("Please fill this in.")
    await page.get_by_label("E-mail address").fill("ada@example.org")
    await page.get_by_label("News").check()
    await page.get_by_label(re.compile("Send me the letters")).check()
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
    link = re.search(r"http\S+/c/[\w-]+", await db.fetchval("SELECT text FROM messages"))
    await page.goto(link[0])
    await page.get_by_role("button", name="Yes, subscribe me").click()
    await expect(page.get_by_role("heading", name="Welcome to the shop")).to_be_visible()
    subscriber = await person(owner)
    assert (subscriber["status"], subscriber["interests"]) == ("active", ["news"])
    await page.goto(f"{host}/u/{Tokens([SECRET]).sign('unsubscribe', subscriber['id'], 0)}")
    await page.get_by_role("link", name="Choose topics instead").click()
    await page.get_by_label("Sales & offers").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Saved.")).to_be_visible()
    await page.get_by_role("button", name="Unsubscribe from everything").click()
    await expect(page.get_by_role("heading", name="You have left")).to_be_visible()
    assert (await person(owner))["status"] == "unsubscribed"
    await context.close()


async def test_pages_fit_small_screens_in_both_schemes(browser, host, owner):
    """Nothing scrolls sideways at 320 pixels, the stylesheet applies under its policy, and dark is dark."""
    form = await make_form(owner, name="Ein-Name-ohne-jede-Trennstelle-der-sehr-lang-ist-und-länger")
    papers = []
    for scheme in ("light", "dark"):
        context = await browser.new_context(viewport={"width": 320, "height": 640}, color_scheme=scheme)
        page = await context.new_page()
        said = []
        page.on("console", lambda message, said=said: said.append(message.text))
        for path in (form["hosted_url"], f"{host}/embed/demo?form={form['key']}"):
            await page.goto(path, wait_until="networkidle")
            assert await page.evaluate("document.documentElement.scrollWidth") <= 320, path
        await page.goto(form["hosted_url"])
        papers.append(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert said == []
        await context.close()
    assert papers[0] != papers[1]
