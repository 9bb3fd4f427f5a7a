"""The preference centre as a reader meets it on a telephone: every state, every way out. No page of it holds a script."""

import re

import pytest
from playwright.async_api import expect

from api_process import SECRET
from browser import axe, screens
from mailbase.tokens import Tokens
from optin.optin_kit import make_form

pytestmark = pytest.mark.browser

EMAIL = "grace@readers.example.org"
NEW = "grace@elsewhere.example.com"
SMALL = {"widths": (360,), "schemes": ("light",)}
DARK = {"widths": (360,)}
WIDE = {"widths": (360, 1280)}


async def reader(keeper, records, email=EMAIL):
    """Subscribe somebody and return their id."""
    form = await make_form(keeper, name="Notes from the bakery")
    await keeper.post(f"/f/{form['key']}", json={"email": email, "interests": ["news"], "consent_newsletter": "on"})
    await keeper.post(await newest(records, email, "c"))
    return await records.fetchval("SELECT id FROM subscribers WHERE email_key = $1", email)


async def newest(records, email, kind):
    """Return the path of the newest link of a kind in the letters to an address."""
    texts = await records.fetch("SELECT text FROM messages WHERE email_key = $1 ORDER BY id DESC", email)
    return next(found[0] for row in texts if (found := re.search(rf"/{kind}/[\w-]+", row["text"])))


async def test_a_reader_arranges_everything(browser, house, keeper, records):
    """Topics, frequency, pause, address, consents, data, leaving with a reason, coming back with fewer letters, erasure."""
    await keeper.patch("/v1/settings", json={"default_from": {"name": "Bakery", "email": "hello@bakery.example.com"}})
    number = await reader(keeper, records)
    tokens = Tokens([SECRET])
    centre = f"{house}/p/{tokens.sign('preferences', number, 0)}"
    context = await browser.new_context(viewport={"width": 360, "height": 740}, locale="en")
    page = await context.new_page()

    async def seen(name, heading, **how):
        await expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        assert await axe.findings(page) == []
        await screens.keep(page, f"preferences-{name}", **(how or SMALL))

    await page.goto(centre)
    await seen("open", "Your letters", **WIDE)
    await page.get_by_label("Sales & offers").check()
    await page.get_by_label("One a week at most").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status")).to_have_text("Saved.")
    await expect(page.get_by_label("One a week at most")).to_be_checked()
    await page.get_by_role("button", name="4 weeks").click()
    await expect(page.get_by_text(re.compile(r"We write to you again from \d+ \w+ \d{4}"))).to_be_visible()
    await seen("paused", "Your letters")
    await page.get_by_role("button", name="Write to me again now").click()
    await expect(page.get_by_role("status")).to_have_text(re.compile("The pause is over"))

    await page.get_by_text("Use another address").click()
    await page.get_by_label("New e-mail address").fill("grace@nowhere")
    await page.get_by_role("button", name="Change the address").click()
    await expect(page.get_by_label("New e-mail address")).to_have_accessible_description(re.compile("cannot|not an"))
    await seen("wrong-address", "Your letters")
    await page.get_by_label("New e-mail address").fill(NEW)
    await page.get_by_role("button", name="Change the address").click()
    await expect(page.get_by_role("status")).to_have_text(re.compile("a letter is on its way there"))
    await page.goto(house + await newest(records, NEW, "a"))
    await seen("new-address", "Is this your new address?")
    await page.goto(house + await newest(records, EMAIL, "a"))
    await seen("stop-address", "Stop the change of address?")
    await page.get_by_role("button", name="Stop it").click()
    await seen("address-stopped", "Stopped")

    await page.goto(centre)
    await page.get_by_text("What you agreed to").click()
    await page.get_by_text("Your data").click()
    await seen("unfolded", "Your letters", **DARK)
    async with page.expect_download() as download:
        await page.get_by_role("button", name="To read").click()
    assert (await download.value).suggested_filename == "my-data.html"
    copy = await context.new_page()
    await copy.set_content(
        await (await context.request.post(centre, form={"action": "export", "format": "html"})).text()
    )
    await expect(copy.get_by_role("heading", name=re.compile("Everything we hold about"))).to_be_visible()
    assert await copy.evaluate("document.documentElement.scrollWidth") <= 360
    await screens.keep(copy, "preferences-own-data", full=False, **SMALL)
    await copy.close()

    await page.goto(f"{house}/u/{tokens.sign('unsubscribe', number, 0)}")
    await page.get_by_role("button", name="Unsubscribe").click()
    await seen("left", "You have left", **DARK)
    await page.get_by_label("Too many letters").check()
    await page.get_by_label("In your own words").fill("One a month would do.")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("status")).to_be_visible()
    await seen("thanked", "You have left")
    await page.get_by_role("button", name="One a month at most").click()
    await expect(page.get_by_role("status")).to_have_text(re.compile("We have sent you a letter"))
    await seen("asked-back", "Your letters")
    await keeper.post(await newest(records, EMAIL, "c"))

    await page.goto(centre)
    await expect(page.get_by_label("One a month at most")).to_be_checked()
    await page.get_by_text("Your data").click()
    await page.get_by_role("button", name="Erase my data").click()
    await seen("erase", "Erase everything?")
    await page.get_by_role("button", name="Yes, erase everything now").click()
    await seen("erased", "Everything is erased")
    assert (await keeper.get(f"/v1/subscribers/{number}")).status_code == 404
    await context.close()


async def test_it_speaks_russian(browser, house, keeper, records):
    """The same page with longer words, their plural forms, and a date as it is written there."""
    number = await reader(keeper, records, "vera@readers.example.org")
    await records.execute(
        "UPDATE subscribers SET locale = 'ru', paused_until = '2031-02-03T12:00:00Z' WHERE id = $1", number
    )
    page = await browser.new_page(viewport={"width": 360, "height": 740})
    await page.goto(f"{house}/p/{Tokens([SECRET]).sign('preferences', number, 0)}")
    for text in ("2 недели", "12 недель", "с 3 февраля 2031"):
        await expect(page.get_by_text(text).first).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await screens.keep(page, "preferences-russian", **SMALL)
    await page.get_by_role("button", name="Отписаться от всех писем").click()
    await screens.keep(page, "preferences-russian-left", **SMALL)
    await page.close()
