"""What is asked, what is sent along, and by which rules: the same in the browser and on the server."""

import json

import pytest
from playwright.async_api import expect

from browser import axe, screens
from browser.embedding import CSS, TYPED, form_with, page_of, place, policy, visit

pytestmark = pytest.mark.browser

STORED = "SELECT s.attributes, x.page, x.whence FROM subscribers s JOIN submissions x ON x.subscriber_id = s.id WHERE s.email_key = $1"


@pytest.mark.axe
async def test_every_kind_of_field_reaches_its_attribute(browser, shop, house, keeper, records):
    """Each has its label, keyboard and autofill; hidden ones take the element's data; page, source and campaign come along."""
    form = await form_with(keeper, fields=TYPED, interest_choice=True, interests=["news", "sale"])
    shop.html, shop.css, shop.csp = (
        page_of(house, place(form, 'data-origin="footer" data-shoe="43"')),
        CSS,
        policy(house),
    )
    page, said = await visit(await browser.new_context(), f"{shop.url}/offer?utm_source=flyer&utm_campaign=may&token=x")
    await page.get_by_label("E-mail address").fill("fred@example.org")
    for name, kind, mode in (
        ("E-mail address", "email", "email"),
        ("Telephone", "tel", "tel"),
        ("Shoe size", "text", "decimal"),
    ):
        field = page.get_by_label(name)
        assert (await field.get_attribute("type"), await field.get_attribute("inputmode")) == (kind, mode)
    assert await page.get_by_label("E-mail address").get_attribute("autocomplete") == "email"
    await expect(page.get_by_label("Shoe size")).to_have_value("43")
    await page.get_by_label("Telephone").fill("+49 30 1234567")
    await page.get_by_label("Day").fill("3")
    await page.get_by_label("Month").select_option("March")
    await page.get_by_label("With us since").fill("2019-05-01")
    await page.get_by_label("How do you drink").select_option("Black")
    await page.get_by_label("It is a gift").check()
    await page.get_by_label("News").check()
    assert await axe.findings(page) == []
    await screens.keep(page, "fields", widths=[360, 1280])
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_focused()
    row = await records.fetchrow(STORED, "fred@example.org")
    assert row["attributes"] == {
        "phone": "+49301234567", "birthday": "--03-03", "since": "2019-05-01", "shoe": 43, "coffee": "Black", "gift": True, "origin": "footer",
    }  # fmt: skip
    whence = row["whence"] if isinstance(row["whence"], dict) else json.loads(row["whence"])
    assert row["page"] == f"{shop.url}/offer"
    assert (whence["source"], whence["mode"], whence["utm_campaign"]) == ("flyer", "inline", "may")
    assert said == []


async def test_the_browser_says_what_the_server_would(browser, shop, house, keeper):
    """The same mistakes in the same words, before anything is sent; mended ones are forgotten at the next try."""
    form = await form_with(keeper, fields=TYPED, consents=[{"purpose": "a", "text": "Agreed.", "required": True}])
    shop.html, shop.css = page_of(house, place(form)), CSS
    page, _ = await visit(await browser.new_context(), shop.url)
    sent = []
    page.on(
        "request",
        lambda request: (
            sent.append(request.url) if request.method == "POST" and request.url.endswith(form["key"]) else None
        ),
    )
    wrong = {"E-mail address": "ada", "Telephone": "tomorrow", "Shoe size": "large", "Day": "31"}
    for label, value in wrong.items():
        await page.get_by_label(label).fill(value)
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_label("E-mail address")).to_be_focused()
    here = await page.evaluate(
        "Object.fromEntries([...document.querySelector('[data-mailbase-form]').shadowRoot.querySelectorAll('.fault')].map(({ id, textContent }) => [id.slice(6), textContent]).filter(([, text]) => text))"
    )
    assert sent == []
    answer = await keeper.post(
        f"/f/{form['key']}",
        data={"email": "ada", "phone": "tomorrow", "shoe": "large", "birthday": "--" + "-31"},
        headers={"Accept": "application/json"},
    )
    assert here == {error["field"]: error["message"] for error in answer.json()["errors"]}
    await page.get_by_label("E-mail address").fill("gina@gmial.com")
    await page.get_by_label("Telephone").focus()
    await page.get_by_role("button", name="Did you mean gina@gmail.com?").click()
    await expect(page.get_by_label("E-mail address")).to_have_value("gina@gmail.com")
    await page.get_by_label("Agreed.").check()
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_label("Telephone")).to_be_focused()
    await expect(page.get_by_label("E-mail address")).to_have_accessible_description("")


@pytest.mark.axe
async def test_a_second_step_asks_more_and_loses_nothing(browser, shop, house, keeper, records):
    """The address is taken first; what follows is added to it, refused beside its field, or skipped."""
    form = await form_with(
        keeper,
        fields=[
            {"name": "city", "label": "City", "step": 2},
            {"name": "phone", "label": "Phone", "type": "phone", "step": 2},
        ],
    )
    shop.html, shop.css, shop.csp = page_of(house, place(form)), CSS, policy(house)
    for who, city in (("hugo", "Turku"), ("ida", None)):
        page, _ = await visit(await browser.new_context(), shop.url)
        await page.get_by_label("E-mail address").fill(f"{who}@example.org")
        await expect(page.get_by_label("City")).to_have_count(0)
        await page.get_by_role("button", name="Subscribe").click()
        await expect(page.get_by_role("heading", name="May we ask a little more?")).to_be_focused()
        assert await records.fetchval("SELECT count(*) FROM messages WHERE email_key = $1", f"{who}@example.org") == 1
        if city:
            assert await axe.findings(page) == []
            await screens.keep(page, "second-step", widths=[360])
            await page.get_by_label("City").fill(city)
            await page.get_by_label("Phone").fill("tomorrow")
            await page.get_by_role("button", name="Send").click()
            await expect(page.get_by_label("Phone")).to_be_focused()
            await page.get_by_label("Phone").fill("+358 9 1234567")
            await page.get_by_role("button", name="Send").click()
        else:
            await page.get_by_role("button", name="Skip this").click()
        await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_focused()
    row = await records.fetchrow(
        "SELECT s.attributes, x.fields FROM subscribers s JOIN submissions x ON x.subscriber_id = s.id WHERE s.email_key = 'hugo@example.org'"
    )
    assert "Turku" in f"{row['attributes']} {row['fields']}"


async def test_a_sum_is_done_unseen(browser, shop, house, keeper, records):
    """A form that always wants proof of work gets it from the page: in a worker, or without where a policy allows none. It passes."""
    for csp, expected in (("", 1), (policy(house), 0)):
        form = await form_with(keeper, protection={"proof_of_work": "always", "min_seconds": 0, "mx": False})
        shop.html, shop.css, shop.csp = page_of(house, place(form)), CSS, csp
        page, _ = await visit(await browser.new_context(), shop.url)
        workers = []
        page.on("worker", lambda worker, workers=workers: workers.append(worker))
        await page.get_by_label("E-mail address").fill(f"jana-{expected}@example.org")
        async with page.expect_request(
            lambda request, form=form: request.method == "POST" and request.url.endswith(form["key"]), timeout=60_000
        ) as sent:
            await page.get_by_role("button", name="Subscribe").click()
        assert "altcha=" in ((await sent.value).post_data or "")
        await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_focused()
        assert len(workers) == expected
        assert await records.fetchval("SELECT verdict FROM submissions WHERE form_id = $1", form["id"]) == "pass"
