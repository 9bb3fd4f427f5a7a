"""Popup, slide-in and bar: when they come, how they go, and that they never press themselves upon anybody."""

import pytest
from playwright.async_api import expect

from browser.embedding import CSS, SHIFT, form_with, page_of, place, shown, until, visit

pytestmark = pytest.mark.browser

LONG = "<p>A word of the shop.</p>" * 120
READY = "() => window.mailbase && [...document.querySelectorAll('[data-mailbase-form]')].every(({ shadowRoot }) => shadowRoot?.adoptedStyleSheets.length === 2)"


def dialog(page):
    """Return the popup."""
    return page.get_by_role("dialog", name="Notes from the workshop")


async def quiet(page, seconds=30):
    """Put the clock forward a long way, and hold that nothing came."""
    for _ in range(10):
        await page.clock.fast_forward(int(seconds * 100))
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_each_trigger_opens_in_its_moment_and_not_before(browser, shop, house, keeper):
    """After seconds, after a share of the page, when the pointer leaves at the top, at a click; none in the first second."""
    shop.css = CSS

    async def fresh(**trigger):
        form = await form_with(keeper, display={"mode": "popup", "trigger": trigger})
        shop.html = page_of(house, '<button id="join" type="button">Join us</button>', place(form), LONG)
        context = await browser.new_context(viewport={"width": 1280, "height": 800})
        page, _ = await visit(context, shop.url)
        await until(page, READY)
        return page

    page = await fresh(delay=5)
    await page.clock.fast_forward(3000)
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.clock.fast_forward(2500)
    await expect(dialog(page)).to_be_visible()

    page = await fresh(scroll=0.5)
    await quiet(page)
    await page.evaluate("scrollTo(0, document.documentElement.scrollHeight * 0.3)")
    await quiet(page)
    await page.evaluate("scrollTo(0, document.documentElement.scrollHeight * 0.6)")
    await expect(dialog(page)).to_be_visible()

    page = await fresh(exit=True)
    await quiet(page)
    await page.mouse.move(300, 300)
    await page.mouse.move(300, 2)
    await quiet(page)
    await page.dispatch_event("html", "mouseout", {"clientY": -1, "bubbles": True})
    await expect(dialog(page)).to_be_visible()

    page = await fresh(click="#join")
    await quiet(page)
    for _ in range(2):  # whoever asks gets it, quiet period or not
        await page.get_by_role("button", name="Join us").click()
        await expect(dialog(page)).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Join us")).to_be_focused()


async def test_nothing_comes_in_the_first_second_or_while_somebody_types(browser, shop, house, keeper):
    """A trigger that is met at once waits; so does one that is met while a field of the page has the focus."""
    form = await form_with(keeper, display={"mode": "slide_in", "trigger": {"scroll": 0}})
    shop.html, shop.css = page_of(house, '<input aria-label="Search">', place(form), LONG), CSS
    context = await browser.new_context()
    page = await context.new_page()
    await page.clock.install()
    await page.clock.pause_at(2_000_000_000)
    await page.goto(shop.url)
    await until(page, READY)
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.get_by_label("Search").focus()
    await page.clock.run_for(5000)
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.get_by_label("Search").blur()
    await page.clock.run_for(1000)
    await expect(dialog(page)).to_be_visible()
    assert await page.evaluate("document.activeElement.tagName") == "BODY"


async def test_a_popup_is_a_dialog_for_the_keyboard_and_keeps_the_page_still(browser, shop, house, keeper):
    """Focus goes in, stays in, follows the pointer, and comes back; Escape and the cross close it; the page behind neither scrolls nor moves."""
    form = await form_with(
        keeper, display={"mode": "popup", "trigger": {"delay": 1}}, fields=[{"name": "city", "label": "City"}]
    )
    shop.html, shop.css = page_of(house, '<a href="#x">A link</a>', place(form), LONG), CSS
    page, _ = await visit(await browser.new_context(viewport={"width": 1280, "height": 800}), shop.url)
    await page.get_by_role("link", name="A link").focus()
    email = await shown(page, by_itself=True)
    await expect(dialog(page)).to_have_attribute("aria-modal", "true")
    await expect(email).to_be_focused()
    city = page.get_by_label("City")
    stops = [email, city, page.get_by_role("button", name="Subscribe"), page.get_by_role("button", name="Close")]
    for key, order in (("Tab", [1, 2, 3, 0, 1]), ("Shift+Tab", [0, 3, 2])):
        for stop in order:
            await page.keyboard.press(key)
            await expect(stops[stop]).to_be_focused()
    await city.click()
    await expect(city).to_be_focused()
    await page.mouse.move(600, 400)
    await page.mouse.wheel(0, 500)
    assert await page.evaluate("scrollY") == 0
    assert await page.evaluate(SHIFT) == 0
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("link", name="A link")).to_be_focused()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert await page.evaluate("document.documentElement.style.cssText") == ""
    assert await page.evaluate(SHIFT) == 0
    await page.evaluate("(key) => mailbase.open(key)", form["key"])
    await expect(dialog(page)).to_be_visible()
    await page.evaluate(
        "document.querySelector('[data-mailbase-form]').remove()"
    )  # as a framework does when it shows another page
    await until(page, "() => document.documentElement.style.cssText === ''")


async def test_it_rests_after_being_seen_and_ends_with_a_subscription(browser, shop, house, keeper):
    """Seen once, it comes again only after the quiet period; who subscribed never sees it again; nothing else is stored."""
    form = await form_with(
        keeper, display={"mode": "bar", "trigger": {"delay": 1}, "every": "2h"}, protection={"min_seconds": 0}
    )
    key = f"mailbase:{form['key']}"
    shop.html, shop.css = page_of(house, place(form), LONG), CSS
    context = await browser.new_context()
    page, _ = await visit(context, shop.url)
    await shown(page, by_itself=True)
    await page.get_by_role("button", name="Close").click()
    rest = await page.evaluate("(key) => localStorage[key] - Date.now()", key)
    assert 7_000_000 < rest <= 7_200_000
    await page.reload()
    await until(page, READY)
    await quiet(page)
    await page.evaluate("(key) => { localStorage[key] = Date.now() - 1; }", key)
    await page.reload()
    email = await shown(page, by_itself=True)
    await email.fill("emma@example.org")
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
    await page.get_by_role("button", name="Close").click()
    assert await page.evaluate("JSON.stringify(localStorage)") == f'{{"{key}":"done"}}'
    await page.reload()
    await until(page, READY)
    await quiet(page)
    assert await context.cookies() == []


async def test_one_comes_and_no_second_one(browser, shop, house, keeper):
    """Of several on a page the first comes; the others leave the visitor alone, even after it was closed."""
    forms = [
        await form_with(keeper, display={"mode": mode, "trigger": {"delay": 1}})
        for mode in ("popup", "slide_in", "bar")
    ]
    shop.html, shop.css = page_of(house, *map(place, forms), LONG), CSS
    page, _ = await visit(await browser.new_context(), shop.url)
    await until(page, READY)
    await shown(page, by_itself=True)
    await expect(page.get_by_role("dialog")).to_have_count(1)
    await page.keyboard.press("Escape")
    await quiet(page)


async def test_a_phone_is_left_in_peace(browser, shop, house, keeper):
    """Only after a touch, as a sheet that leaves half the screen and the page behind usable, until it has a mistake to show; without focus."""
    form = await form_with(
        keeper, display={"mode": "popup", "trigger": {"delay": 1}}, fields=[{"name": "a"}, {"name": "b"}, {"name": "c"}]
    )
    shop.html, shop.css = page_of(house, place(form), LONG), CSS
    context = await browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page, _ = await visit(context, shop.url)
    await until(page, READY)
    await quiet(page)
    await page.touchscreen.tap(100, 100)
    await shown(page, by_itself=True)
    box = await page.get_by_role("dialog").bounding_box()
    assert box
    assert box["height"] <= 740 * 0.55 + 1
    assert await page.get_by_role("dialog").get_attribute("aria-modal") is None
    assert await page.evaluate("document.activeElement.tagName") == "BODY"
    await page.evaluate("scrollTo(0, 400)")
    assert await page.evaluate("scrollY") == 400
    assert await page.evaluate("document.elementFromPoint(100, 100).closest('main') !== null")
    await page.get_by_role("button", name="Subscribe").tap()
    await expect(page.get_by_label("E-mail address")).to_be_focused()  # its mistake is shown
    await expect(page.get_by_role("button", name="Subscribe")).to_be_in_viewport(ratio=1)


async def test_movement_is_spared_to_those_who_ask(browser, shop, house, keeper):
    """With reduced motion nothing slides or fades."""
    form = await form_with(keeper, display={"mode": "popup", "trigger": {"delay": 1}})
    shop.html, shop.css = page_of(house, place(form)), CSS
    for wish, moves in (("reduce", "none"), ("no-preference", "rise")):
        page, _ = await visit(await browser.new_context(reduced_motion=wish), shop.url)
        await shown(page, by_itself=True)
        assert await dialog(page).evaluate("(panel) => getComputedStyle(panel).animationName") == moves
