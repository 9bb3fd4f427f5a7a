"""Every state of every mode, on a page of another origin under the strictest policy: seen, said, and without a finding of axe."""

import asyncio

import pytest
from playwright.async_api import expect

from browser import axe, screens
from browser.embedding import CSS, SHIFT, form_with, page_of, place, policy, shown, visit

pytestmark = [pytest.mark.browser, pytest.mark.axe]

CONSENT = {
    "purpose": "newsletter",
    "text": "Send me the letters.",
    "policy_url": "https://shop.example/privacy",
    "required": True,
}
MODES = ["inline", "popup", "slide_in", "bar"]
QUIET = ("Failed to load resource", "net::ERR")


async def clean(page, mode, state):
    """Hold the page against axe in light and dark, and take its pictures: all of a form at rest, small ones of the other states."""
    for scheme in screens.SCHEMES:
        await page.emulate_media(color_scheme=scheme)
        assert [f"{state} {scheme} {found}" for found in await axe.findings(page, colors=scheme == "dark")] == []
    if state == "ready":
        await screens.keep(page, f"{mode}-{state}", full=False, widths=[360, 1280])
        await screens.keep(page, f"{mode}-{state}", full=False, widths=[768], schemes=["light"])
    elif mode in {"inline", "popup"}:
        await screens.keep(
            page, f"{mode}-{state}", full=False, widths=[360], schemes=["light" if mode == "inline" else "dark"]
        )


@pytest.mark.parametrize("mode", MODES)
async def test_every_state_is_seen_and_said(browser, shop, house, keeper, mode):
    """Ready, refused fields, sending, slow, offline, too many tries, failed, thanks: no finding, no shift, nothing a policy forbids."""
    display = {"mode": mode, **({} if mode == "inline" else {"trigger": {"delay": 1}})}
    form = await form_with(keeper, display=display, consents=[CONSENT])
    shop.html, shop.css, shop.csp = page_of(house, place(form), "<p>A word of the shop.</p>" * 30), CSS, policy(house)
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page, said = await visit(context, f"{shop.url}/")
    email = await shown(page, by_itself=mode != "inline")
    shift = await page.evaluate(SHIFT)
    alert, send = page.get_by_role("alert"), page.get_by_role("button", name="Subscribe")
    await clean(page, mode, "ready")

    await send.click()
    await expect(email).to_be_focused()
    await expect(email).to_have_accessible_description("Please fill this in.")
    await clean(page, mode, "errors")

    await email.fill("ada@example.org")
    await page.get_by_label("Send me the letters.").check()
    hold, answer = asyncio.Event(), {"status": 500, "json": {}}

    async def reply(route):
        await hold.wait()
        await route.fulfill(**answer, headers={"Access-Control-Allow-Origin": "*"})

    await page.route(f"{house}/f/{form['key']}", reply)
    await send.click()
    busy = page.get_by_role("button", name="One moment…")
    await expect(busy).to_be_visible()
    await clean(page, mode, "sending")
    for _ in range(8):
        await page.clock.fast_forward(1000)
    await expect(alert).to_contain_text("longer than usual")
    await clean(page, mode, "slow")
    hold.set()
    await expect(alert).to_have_text("That did not work. Please try again.")
    await clean(page, mode, "failed")

    answer["status"] = 429
    await send.click()
    await expect(alert).to_contain_text("Too many tries")
    await clean(page, mode, "limited")

    await page.unroute_all()
    await context.set_offline(True)
    await send.click()
    await expect(alert).to_contain_text("offline")
    await clean(page, mode, "offline")
    await context.set_offline(False)
    await expect(email).to_have_value("ada@example.org")

    await send.click()
    await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_focused()
    await clean(page, mode, "pending")

    assert mode == "inline" or shift == 0
    assert [text for text in said if not any(quiet in text for quiet in QUIET)] == []
    await context.close()


async def test_without_scripts_there_is_a_link_to_the_page(browser, shop, house, keeper):
    """Whatever the mode: the link the owner put into the element leads to the same form as a page, which refuses and takes as the script does."""
    forms = {mode: await form_with(keeper, display={"mode": mode}, consents=[CONSENT]) for mode in MODES}
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    for mode, form in forms.items():
        shop.html, shop.css, shop.csp = page_of(house, place(form)), CSS, policy(house)
        await page.goto(shop.url)
        await page.get_by_role("link", name="Subscribe by page").click()
        await page.get_by_role("button", name="Subscribe").click()
        await expect(page.get_by_label("E-mail address")).to_have_accessible_description("Please fill this in.")
        await page.get_by_label("E-mail address").fill(f"{mode}@example.org")
        await page.get_by_label("Send me the letters.").check()
        await page.get_by_role("button", name="Subscribe").click()
        await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
    await context.close()
