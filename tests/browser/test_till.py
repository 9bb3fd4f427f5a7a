"""The till in a real browser: guest after guest, nothing of the one before, and the line may break."""

import asyncio
import re
import signal

import httpx
import pytest
from playwright.async_api import expect

from api_process import KEY, free_port, ready, until
from browser import axe, screens
from optin.optin_kit import make_form

pytestmark = pytest.mark.browser

TEXTS = {"title": "Fresh bread by mail", "intro": "What comes out of the oven, every Friday morning."}


async def make_till(owner, **changes):
    """Return a new form and the address of its till."""
    form = await make_form(owner, **{"texts": TEXTS, "interest_choice": False, **changes})
    answer = await owner.post(f"/v1/forms/{form['id']}/till", json={"name": "Front desk"})
    return form, answer.json()["url"]


async def fill(page, email):
    """Enter a guest."""
    await page.get_by_label("E-mail address").fill(email)
    await page.get_by_label(re.compile("Send me the letters")).check()


async def enter(page, email):
    """Enter a guest and hand the entry in."""
    await fill(page, email)
    await page.get_by_role("button", name="Subscribe").click()


async def is_empty(page):
    """Hold the form to be as the first guest found it."""
    await expect(page.get_by_label("E-mail address")).to_have_value("")
    await expect(page.get_by_label("City")).to_have_value("")
    await expect(page.get_by_label(re.compile("Send me the letters"))).not_to_be_checked()


async def test_guest_after_guest(browser, keeper, records):
    """Each gets thanks, then an empty form; whoever walks away is forgotten after a minute; nothing is left in the browser."""
    form, url = await make_till(keeper)
    context = await browser.new_context()
    page = await context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.clock.install()
    await page.goto(url)
    await screens.keep(page, "till")
    assert await axe.findings(page) == []
    await page.get_by_label("City").fill("Bath")
    await enter(page, "ada@example.org")
    await expect(page.get_by_role("heading", name="Thank you")).to_be_focused()
    await screens.keep(page, "till-thanks")
    assert await axe.findings(page) == []
    await page.clock.fast_forward(6_100)
    await is_empty(page)
    await enter(page, "bob@example.org")
    await page.get_by_role("button", name="Next guest").click()
    await is_empty(page)
    await expect(page.get_by_label("E-mail address")).to_be_focused()
    await fill(page, "eve@example.org")
    await page.clock.fast_forward(30_000)
    await page.get_by_label("City").fill("York")
    await page.clock.fast_forward(45_000)
    await expect(page.get_by_label("City")).to_have_value("York")
    await page.clock.fast_forward(20_000)
    await is_empty(page)
    await fill(page, "eve@example.org")
    await page.get_by_role("button", name="Clear").click()
    await is_empty(page)
    entered = await records.fetch("SELECT whence FROM submissions WHERE form_id = $1", form["id"])
    assert [row["whence"] for row in entered] == [{"source": "till:Front desk", "mode": "till"}] * 2
    assert await context.cookies() == []
    assert await page.evaluate("localStorage.length + sessionStorage.length") == 0
    for box in await page.locator("form, form input:not([type=hidden], [type=checkbox])").all():
        assert await box.get_attribute("autocomplete") == "off"
    assert said == []
    await context.close()


async def test_a_guests_mistakes_are_said_at_the_till(browser, keeper):
    """By the page where it can, by the server where it must; and gone when they are mended or the guest is."""
    _, url = await make_till(keeper)
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(url)
    await page.get_by_role("button", name="Subscribe").click()
    email = page.get_by_label("E-mail address")
    await expect(email).to_be_focused()
    await expect(email).to_have_accessible_description("Please fill this in.")
    await enter(page, "ada@example.org.")
    await expect(email).to_have_accessible_description(re.compile("address we can write to"))
    await screens.keep(page, "till-mistake")
    assert await axe.findings(page) == []
    await page.get_by_role("button", name="Clear").click()
    await expect(email).not_to_have_attribute("aria-invalid", "true")
    await enter(page, "ada@example.org")
    await expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    await context.close()


async def test_the_till_goes_on_while_the_line_is_down(browser, start, db):
    """Guests are thanked, the page says how many wait and asks before it is closed; when the server is back each is stored once."""
    port = free_port()
    process = start(port)
    await asyncio.to_thread(until, lambda: ready(port), "the API is ready", 60)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}
    ) as owner:
        _, url = await make_till(owner)
    context = await browser.new_context()
    page = await context.new_page()
    await page.clock.install()
    await page.goto(url)
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait, 20)
    waiting = page.locator("#till-waiting")
    for n, email in enumerate(("ada@example.org", "bob@example.org", "eve@example.org"), 1):
        await enter(page, email)
        await expect(page.get_by_text("It will be sent as soon as the connection is back.")).to_be_visible()
        await expect(waiting).to_contain_text(f"{n} address{'es' if n > 1 else ''} wait")
        if n == 2:
            await screens.keep(page, "till-offline")
            assert await axe.findings(page) == []
        await page.clock.fast_forward(6_100)  # the page goes on by itself
        await is_empty(page)
    asked = asyncio.Event()

    async def stay(dialog):
        asked.set()
        await dialog.dismiss()

    page.on("dialog", stay)
    await page.evaluate("setTimeout(() => location.reload())")
    await asyncio.wait_for(asked.wait(), 10)
    assert "ada" not in await page.content()
    assert await page.evaluate("localStorage.length + sessionStorage.length") == 0
    start(port)
    await asyncio.to_thread(until, lambda: ready(port), "the API is back", 60)
    await page.clock.fast_forward(90_000)
    await expect(waiting).to_be_hidden(timeout=20_000)
    found = await db.fetch("SELECT email FROM subscribers ORDER BY id")
    assert [row["email"] for row in found] == ["ada@example.org", "bob@example.org", "eve@example.org"]
    assert await db.fetchval("SELECT count(*) FROM submissions") == 3
    await enter(page, "may@example.org")
    await expect(page.get_by_text("Please look into your mailbox later")).to_be_visible()
    await context.close()


async def test_an_answer_that_got_lost_makes_no_second_guest(browser, keeper, records):
    """The entry is stored, its answer does not arrive, it is sent again: one submission. What is not our answer is no answer."""
    form, url = await make_till(keeper)
    context = await browser.new_context()
    page = await context.new_page()
    await page.clock.install()
    lost = []

    async def lose(route):
        if route.request.method != "POST" or not route.request.url.endswith("/till") or len(lost) == 2:
            await route.continue_()
            return
        lost.append(await route.fetch())
        if len(lost) == 1:
            await route.abort()
        else:
            await route.fulfill(status=200, body="<h1>Welcome to the hotel's network</h1>", content_type="text/html")

    await page.route("**/*", lose)
    await page.goto(url)
    await enter(page, "ada@example.org")
    for _ in range(2):
        await expect(page.locator("#till-waiting")).to_contain_text("1 address waits")
        await page.clock.fast_forward(30_000)
    await expect(page.locator("#till-waiting")).to_be_hidden()
    assert [answer.status for answer in lost] == [202, 202]
    assert await records.fetchval("SELECT count(*) FROM submissions WHERE form_id = $1", form["id"]) == 1
    await context.close()


async def test_a_link_taken_back_loses_no_guest(browser, keeper):
    """The page says that the till's link is no longer valid, and keeps what waits."""
    form, url = await make_till(keeper)
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(url)
    tills = (await keeper.get(f"/v1/forms/{form['id']}/tills")).json()["data"]
    await keeper.delete(f"/v1/forms/{form['id']}/tills/{tills[0]['id']}")
    await enter(page, "ada@example.org")
    await expect(page.locator("#till-waiting")).to_contain_text("1 address waits")
    await expect(page.locator("#till-waiting")).to_contain_text("no longer valid")
    await context.close()


async def test_the_sign_fits_its_paper(browser, keeper, tmp_path):
    """One page of A6, or one of A4 with four; nothing is cut off, whatever the words, and the code is as large as a hand."""
    form, _ = await make_till(keeper, lead_magnet={"title": "Twelve recipes", "url": "https://shop.example/r"})
    context = await browser.new_context()
    page = await context.new_page()
    long = "lines=" + "|".join(
        "Leave your address at the till and get the receipt by mail, with ten per cent off your next loaf of rye"
        for _ in range(3)
    )
    for name, query in (
        ("sign", ""),
        ("sign-a4", "paper=a4&headline=10 % off your next loaf"),
        ("sign-long", f"headline={'Very much to read ' * 6}&{long}"),
    ):
        await page.goto(f"{form['hosted_url']}/sheet?{query}")
        for sheet in await page.locator(".sheet").all():
            assert await sheet.evaluate(
                "sheet => sheet.scrollHeight <= sheet.clientHeight + 1 && sheet.scrollWidth <= sheet.clientWidth"
            ), name
            drawn = await sheet.locator("svg").bounding_box()
            assert drawn["width"] * 25.4 / 96 >= 34, name
        printed = await page.pdf(prefer_css_page_size=True, print_background=True)
        boxes = re.findall(rb"/MediaBox\s*\[([^\]]+)\]", printed)
        sides = [round(float(number) / 72 * 25.4) for number in boxes[0].split()[2:]]
        assert (len(boxes), sides) == (1, [210, 297] if "a4" in name else [105, 148]), name
        (tmp_path / f"{name}.pdf").write_bytes(printed)
        await screens.keep(page, name, widths=(1280,), schemes=("light",))
    assert await axe.findings(page) == []
    await context.close()
