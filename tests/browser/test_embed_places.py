"""Where a form may stand: wherever and whenever an owner or a framework puts it, and as a form the owner drew."""

import pytest
from playwright.async_api import expect

from browser.embedding import CSS, form_with, page_of, place, policy, until, visit

pytestmark = pytest.mark.browser

PUT = """(keys) => {
    const put = (parent, key) => { const place = document.createElement("div"); place.dataset.mailbaseForm = key; parent.append(place); return place; };
    const later = document.querySelector("#later");
    put(later, keys.late);
    const host = document.createElement("div");
    later.append(host);
    const root = host.attachShadow({ mode: "open" });
    put(root, keys.made);
    const inner = document.createElement("div");
    root.append(inner);
    put(inner.attachShadow({ mode: "open" }), keys.nested);
    const closed = document.createElement("div");
    const hidden = closed.attachShadow({ mode: "closed" });
    later.append(closed);
    put(hidden, keys.mounted);
    mailbase.mount(hidden);
    window.changing = put(later, keys.first);
}"""
LOOK = """() => [...document.querySelectorAll("form, form *:not(.mailbase-fault, [data-mailbase-message])")].map((element) => {
    const { color, backgroundColor, font, padding, border, display, width } = getComputedStyle(element);
    return [element.tagName, color, backgroundColor, font, padding, border, display, width].join();
}).join("\\n")"""


async def test_a_form_appears_wherever_its_element_is_put(browser, shop, house, keeper):
    """Before and after the script, named twice; later; in shadow roots old and new; and again when a framework changes the key."""
    names = ["before", "after", "late", "declared", "made", "nested", "mounted", "first", "second"]
    forms = {name: await form_with(keeper, name=name, texts={"button": f"Join {name}"}) for name in names}
    keys = {name: form["key"] for name, form in forms.items()}
    twice = f'<script src="{house}/embed/v1.js"></script>' * 2
    declared = (
        f'<section id="declared"><template shadowrootmode="open"><p>{place(forms["declared"])}</p></template></section>'
    )
    shop.html = page_of(
        house, place(forms["before"]), twice, place(forms["after"]), declared, '<section id="later"></section>'
    )
    page, said = await visit(await browser.new_context(), shop.url)
    for name in ("before", "after", "declared"):
        await expect(page.get_by_role("button", name=f"Join {name}")).to_have_count(1)
    # A closed root can be mounted, but not be looked into.
    async with page.expect_response(lambda answer: f"/f/{keys['mounted']}/config.json" in answer.url):
        await page.evaluate(PUT, keys)
    for name in ("late", "made", "nested", "first"):
        await expect(page.get_by_role("button", name=f"Join {name}")).to_have_count(1)
    async with page.expect_response(lambda answer: f"/f/{keys['second']}/config.json" in answer.url):
        await page.evaluate("(key) => { changing.dataset.mailbaseForm = key; }", keys["second"])
    await expect(page.get_by_role("button", name="Join second")).to_have_count(1)
    await expect(page.get_by_role("button", name="Join first")).to_have_count(0)
    assert said == []


async def test_a_framework_renders_around_a_form(browser, shop, house, keeper):
    """As React and Vue do: the element is made by a script, kept while everything around it changes, taken out and put in again."""
    form = await form_with(keeper)
    shop.html = '<!doctype html><title>App</title><div id="app"></div>'
    page, said = await visit(await browser.new_context(), shop.url)
    await page.evaluate(
        """([house, key]) => {
            const app = document.querySelector("#app");
            window.element = Object.assign(document.createElement("div"), { id: "kept" });
            element.setAttribute("data-mailbase-form", key);
            app.append(element);
            for (let n = 0; n < 2; n++) document.head.append(Object.assign(document.createElement("script"), { src: `${house}/embed/v1.js`, async: true }));
        }""",
        [house, form["key"]],
    )
    email = page.get_by_label("E-mail address")
    await email.fill("cora@example.org")
    await page.evaluate(
        "for (let n = 0; n < 3; n++) { app.prepend(document.createElement('p')); element.className = `turn-${n}`; }"
    )
    await page.evaluate("element.remove(); app.append(element)")
    await expect(email).to_have_value("cora@example.org")
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_focused()
    assert said == []


async def test_an_old_browser_gets_its_style_by_nonce(browser, shop, house, keeper):
    """Where sheets cannot be adopted, a style element with the script's nonce does it, under a policy that asks for one."""
    form = await form_with(keeper)
    shop.html = page_of(house, place(form)).replace('v1.js" async', 'v1.js" async data-nonce="cafe"')
    shop.csp = f"default-src 'none'; script-src {house}; connect-src {house}; style-src 'nonce-cafe'"
    context = await browser.new_context()
    await context.add_init_script("delete window.CSSStyleSheet; window.CSSStyleSheet = undefined;")
    page, said = await visit(context, shop.url)
    button = page.get_by_role("button", name="Subscribe")
    assert await button.evaluate("(button) => getComputedStyle(button).backgroundColor") == "rgb(42, 103, 212)"
    assert [text for text in said if "shop.css" not in text] == []


async def test_a_page_from_right_to_left(browser, shop, house, keeper):
    """Nothing scrolls sideways, and what stands at the start stands at the right."""
    form = await form_with(keeper, fields=[{"name": "gift", "label": "هدية", "type": "checkbox"}])
    bar = await form_with(keeper, display={"mode": "slide_in", "trigger": {"delay": 1}})
    shop.html, shop.css = page_of(house, place(form), place(bar), lang="ar", more='dir="rtl"'), CSS
    page, _ = await visit(await browser.new_context(viewport={"width": 360, "height": 740}), shop.url)
    box = await page.get_by_label("هدية").bounding_box()
    assert box
    assert box["x"] > 300
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_a_page_zoomed_to_twice_its_size(browser, shop, house, keeper):
    """At 200 % every mode can be read and used: nothing is cut off, nothing scrolls sideways."""
    for mode in ("inline", "popup", "bar"):
        form = await form_with(keeper, display={"mode": mode, "trigger": {"click": "h1"}} if mode != "inline" else {})
        shop.html, shop.css = page_of(house, place(form)), CSS
        # what 1280 × 800 is at 200 %
        page, _ = await visit(
            await browser.new_context(viewport={"width": 640, "height": 400}, device_scale_factor=2), shop.url
        )
        await until(page, "() => !!window.mailbase")
        await page.evaluate("(key) => mailbase.open(key)", form["key"])
        button = page.get_by_role("button", name="Subscribe")
        await button.scroll_into_view_if_needed()
        await expect(button).to_be_in_viewport(ratio=1)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 640


async def test_the_owners_own_form_keeps_its_look(browser, shop, house, keeper, records):
    """Names are matched whatever their case; faults stand beside, states are said by event, attribute and text; not a style changes."""
    consent = {"purpose": "newsletter", "text": "Yes, write to me.", "required": True}
    form = await form_with(
        keeper, fields=[{"name": "city", "label": "City"}, {"name": "phone", "type": "phone"}], consents=[consent]
    )
    own = f"""<form data-mailbase-enhance="{form["key"]}" action="{form["hosted_url"]}" method="post" novalidate>
        <p><input name="EMAIL" type="email" aria-label="Address"></p><p><input name="City" aria-label="City"></p>
        <p><input name="input_17" data-mailbase-name="phone" aria-label="Phone"></p>
        <p><label><input type="checkbox" name="consent_newsletter"> Yes, write to me.</label></p><button>Go</button></form>"""
    shop.html, shop.css, shop.csp = page_of(house, own), CSS, policy(house)
    page, said = await visit(await browser.new_context(), f"{shop.url}/offer?utm_source=flyer")
    before = await page.evaluate(LOOK)
    await until(page, "() => heard.length")
    await page.get_by_label("Phone").fill("tomorrow")
    await page.get_by_role("button", name="Go").click()
    await expect(page.get_by_label("Address")).to_be_focused()
    await expect(page.get_by_label("Address")).to_have_accessible_description("Please fill this in.")
    await expect(page.get_by_label("Phone")).to_have_accessible_description("This is not a telephone number.")
    await expect(page.get_by_label("Yes, write to me.")).to_have_accessible_description(
        "We need your consent for this."
    )
    await page.get_by_label("Address").fill("dora@example.org")
    await page.get_by_label("City").fill("Riga")
    await page.get_by_label("Phone").fill("+371 2000 0000")
    await page.get_by_label("Yes, write to me.").check()
    await page.get_by_role("button", name="Go").click()
    await expect(page.get_by_role("status")).to_contain_text("We have sent you a letter.")
    await expect(page.locator("form")).to_have_attribute("data-mailbase-state", "pending")
    await expect(page.get_by_label("City")).to_have_value("")
    assert await page.locator(".mailbase-fault").count() == 0
    await page.get_by_role("heading", name="The shop").click()
    assert await page.evaluate(LOOK) == before
    row = await records.fetchrow(
        "SELECT s.attributes, x.whence->>'source' AS source FROM subscribers s JOIN submissions x ON x.subscriber_id = s.id WHERE s.email = 'dora@example.org'"
    )
    assert row["attributes"] == {"city": "Riga", "phone": "+37120000000"}
    assert row["source"] == "flyer"
    told = [name for name, *_ in await page.evaluate("heard")]
    assert told == ["view", "submit", "error", "submit", "pending"]
    assert said == []


async def test_a_form_is_opened_by_a_program(browser, shop, house, keeper):
    """``mailbase.open(key)``: an inline form takes the focus, one that is on no page comes as a popup, events say what happens."""
    here, absent = await form_with(keeper), await form_with(keeper, texts={"title": "From nowhere"})
    shop.html, shop.css = page_of(house, "<p>Words</p>" * 100, place(here)), CSS
    page, _ = await visit(await browser.new_context(), shop.url)
    await until(page, "() => !!window.mailbase")
    await page.evaluate("(key) => mailbase.open(key)", here["key"])
    email = page.get_by_label("E-mail address")
    await expect(email).to_be_focused()
    await expect(email).to_be_in_viewport()
    await page.evaluate("(key) => mailbase.open(key)", absent["key"])
    dialog = page.get_by_role("dialog", name="From nowhere")
    await expect(dialog.get_by_label("E-mail address")).to_be_focused()
    await until(page, "() => heard.length === 2")
    assert await page.evaluate("heard") == [["view", here["key"], "DIV"], ["view", absent["key"], "DIV"]]
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await page.evaluate("(key) => mailbase.open(key)", absent["key"])
    await expect(dialog).to_be_visible()
    assert await page.evaluate("localStorage.length") == 0


async def test_without_its_other_half_the_browser_sends_the_form(browser, shop, house, keeper):
    """Should a part of the script not load, the form is posted as any form is, and the page that answers is mailbase's."""
    form = await form_with(keeper, protection={"min_seconds": 0})
    shop.html, shop.css, shop.csp = page_of(house, place(form)), CSS, policy(house)
    context = await browser.new_context()
    await context.route("**/embed/v1-send.js", lambda route: route.abort())
    page, _ = await visit(context, shop.url)
    await page.get_by_label("E-mail address").fill("kira@example.org")
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
    assert page.url.startswith(house)
