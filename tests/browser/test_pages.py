"""The public pages in a real browser: each in its states, without script or pictures, in the owner's colours, and in print."""

import re

import httpx
import pytest
from playwright.async_api import Page, expect

from api_process import SECRET
from browser import axe, screens
from mailbase.tokens import Tokens
from optin.optin_kit import make_form
from web.test_colors_and_logos import png

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

SMALL = {"widths": (360,)}
EMAIL = "hedy@readers.example.org"
BAKERY = {
    "name": "Mill Lane Bakery",
    "website": "https://bakery.example/",
    "postal_address": "Mill Lane Bakery Ltd\n1 Mill Lane, Bath BA1 1AA, United Kingdom",
}


async def confirmation(db) -> str:
    """Return the path of the newest confirmation to our reader."""
    text = await db.fetchval(
        "SELECT text FROM messages WHERE kind = 'confirmation' AND email_key = $1 ORDER BY id DESC LIMIT 1", EMAIL
    )
    return re.search(r"/c/[\w-]+", text)[0]


async def watched(context, host: str) -> tuple[Page, list[str]]:
    """Return a page, and a list of what it does that it should not: other hosts, complaints of the browser."""
    page = await context.new_page()
    wrong: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(host) else wrong.append(request.url))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    return page, wrong


async def fits(page: Page) -> None:
    """Nothing stands out of a small phone's screen, and what can be pressed is large enough for a thumb."""
    before = page.viewport_size
    await page.set_viewport_size({"width": 320, "height": 640})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    heights = await page.locator("button:visible").evaluate_all("all => all.map(one => one.offsetHeight)")
    assert all(height >= 44 for height in heights)
    await page.set_viewport_size(before)


async def test_the_way_of_a_reader_without_script(browser, house: str, keeper: httpx.AsyncClient, records):
    """From the hosted form to the last page, with scripts off and pictures blocked, each page asks nobody but this origin and fits a phone."""
    form = await make_form(
        keeper, name="Notes from the bakery", texts={"intro": "Once a week, what comes out of the oven on Saturday."}
    )
    context = await browser.new_context()
    await context.route("**/*.{js,png,jpg,webp}*", lambda route: route.abort())
    page, wrong = await watched(context, house)

    async def seen(name: str, heading: str, **how) -> None:
        await expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
        await fits(page)
        assert await page.locator("script").count() == 0
        assert await axe.findings(page) == []
        await screens.keep(page, f"page-{name}", **how)

    await page.goto(f"{house}/f/{form['key']}")
    await seen("form", "Notes from the bakery")
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await seen("form-mistakes", "Notes from the bakery", **SMALL)
    await page.get_by_label("E-mail address").fill(EMAIL)
    await page.get_by_label("News", exact=True).check()
    await page.get_by_label(re.compile("Send me the letters")).check()
    await page.get_by_role("button", name="Subscribe").click()
    await seen("pending", "Look into your mailbox")
    path = await confirmation(records)
    await page.goto(f"{house}{path}")
    await seen("confirm", "One last click")
    await page.get_by_role("button", name="Yes, subscribe me").click()
    await seen("confirmed", "You are subscribed")
    number = await records.fetchval("SELECT id FROM subscribers WHERE email = $1", EMAIL)
    tokens = Tokens((SECRET,))
    await page.goto(f"{house}/p/{tokens.sign('preferences', number, 0)}")
    await expect(page.get_by_role("heading", level=1, name="Your letters")).to_be_visible()
    await page.goto(f"{house}/u/{tokens.sign('unsubscribe', number, 0)}")
    await seen("unsubscribe", "Leave us?", **SMALL)
    await page.get_by_role("button", name="Unsubscribe").click()
    await seen("left", "You have left", **SMALL)
    await page.goto(f"{house}{path}")
    await seen("used", "This link has done its work", **SMALL)
    wrong = [one for one in wrong if "422" not in one]
    assert wrong == []
    await page.goto(f"{house}/nothing/here")
    await seen("missing", "There is nothing here", **SMALL)
    await records.execute(
        "UPDATE confirmations SET confirmed_at = NULL, expires_at = now() - interval '1 day' WHERE subscriber_id = $1",
        number,
    )
    await page.goto(f"{house}{path}")
    await seen("expired", "This link is no longer valid")
    await context.close()


async def test_the_owners_look(browser, host: str, owner: httpx.AsyncClient, db):
    """Logo and colours come from this origin under the strict policy; nothing shifts while the logo loads; on paper the page is black on white."""
    await owner.patch(
        "/v1/settings", json={**BAKERY, "accent": "#c2410c", "background": "#fff1e2", "confirm_auto_post": True}
    )
    await owner.put("/v1/settings/logo", content=png(240, 80), headers={"Content-Type": "image/png"})
    form = await make_form(owner, name="Notes from the bakery")
    for _ in range(3):  # a busy machine may paint a page it has half read; what the logo moves, it moves each time
        context = await browser.new_context()
        page, wrong = await watched(context, host)
        await page.goto(f"{host}/f/{form['key']}")
        await expect(page.get_by_alt_text("Mill Lane Bakery")).to_have_js_property("naturalWidth", 240)
        button = page.get_by_role("button", name="Subscribe")
        await expect(button).to_have_css("background-color", "rgb(194, 65, 12)")
        await expect(page.locator("body")).to_have_css("background-color", "rgb(255, 241, 226)")
        shifts = await page.evaluate(
            "() => new Promise(done => { const seen = []; new PerformanceObserver(list => { for (const one of list.getEntries()) seen.push([one.startTime,"
            " ...one.sources.map(({ node, previousRect: was, currentRect: is }) => `${node?.nodeName}.${node?.className} ${was.y} ${was.height} ${is.y} ${is.height}`)]) })"
            ".observe({type: 'layout-shift', buffered: true}); requestAnimationFrame(() => setTimeout(() => done(seen), 50)) })"
        )
        if not shifts:
            break
    assert shifts == []
    await fits(page)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        assert await axe.findings(page) == []
    await screens.keep(page, "page-look")
    await page.emulate_media(media="print")
    await expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    await expect(button).to_be_hidden()
    await page.emulate_media(media="screen")
    await page.evaluate("document.documentElement.dir = 'rtl'")
    await fits(page)
    await screens.keep(page, "page-rtl", widths=(360,), schemes=("light",))
    await owner.post(f"/f/{form['key']}", json={"email": EMAIL, "consent_newsletter": "on"})
    await page.goto(f"{host}{await confirmation(db)}")
    await expect(page.get_by_role("heading", name="You are subscribed")).to_be_visible()
    assert wrong == []
    await context.close()
