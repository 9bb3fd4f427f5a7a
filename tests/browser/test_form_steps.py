"""Forms of several steps without a script, and the rules of fields, held in the browser and on the server to the same values."""

import re

import httpx
import pytest
from playwright.async_api import expect

from browser import axe, screens
from browser.test_pages import fits, watched
from mailbase.audience.form_definition import Field, NewForm
from mailbase.audience.forms import Form
from mailbase.errors import Invalid
from mailbase.optin import entry
from optin.optin_kit import make_form
from optin.test_entry import NOW

pytestmark = pytest.mark.browser

EMAIL = "grace@readers.example.org"
FIELDS = [
    {"name": "first_name", "label": "First name"},
    {"name": "birthday", "label": "Birthday", "type": "date", "year": "optional", "step": 2},
    {"name": "phone", "label": "Telephone", "type": "phone", "step": 2},
    {"name": "bread", "label": "Favourite", "type": "select", "options": ["Rye", "Wheat"], "required": True, "step": 2},
    {"name": "courses", "label": "Tell me about baking courses", "type": "checkbox", "step": 3},
    {"name": "since", "label": "Baking since", "type": "date", "step": 3},
]


async def test_a_form_of_three_steps_without_script(browser, house: str, keeper: httpx.AsyncClient, records):
    """Address, a little more, confirmation, one more thing: each page says what is wrong beside its field and keeps the rest."""
    form = await make_form(
        keeper,
        name="Notes from the bakery",
        locale="en-GB",
        fields=FIELDS,
        texts={"more_title": "What shall we bake for you?"},
    )
    context = await browser.new_context()  # scripts on for axe alone: the pages' own policy allows none
    page, wrong = await watched(context, house)

    async def seen(name: str, heading: str) -> None:
        await expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
        await fits(page)
        assert await page.locator("script").count() == 0
        assert await axe.findings(page) == []
        await screens.keep(page, f"page-{name}")

    await page.goto(f"{house}/f/{form['key']}?source=flyer")
    await page.get_by_label("E-mail address").fill(EMAIL)
    await page.get_by_label(re.compile("Send me the letters")).check()
    await page.get_by_role("button", name="Subscribe").click()
    await seen("more", "What shall we bake for you?")
    await page.get_by_label("Day").fill("30")
    await page.get_by_label("Month").fill("2")
    await page.get_by_label("Telephone").fill("call me")
    await page.get_by_role("button", name="Send").click()
    await seen("more-mistakes", "What shall we bake for you?")
    assert await page.get_by_label("Day").input_value() == "30"
    await page.get_by_label("Day").fill("29")
    await page.get_by_label("Telephone").fill("020 7946 0958")
    await page.get_by_label("Favourite").select_option("Rye")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("heading", level=1, name="Look into your mailbox")).to_be_visible()
    text = await records.fetchval("SELECT text FROM messages WHERE email_key = $1 ORDER BY id DESC LIMIT 1", EMAIL)
    await page.goto(house + re.search(r"/c/[\w-]+", text)[0])
    await page.get_by_role("button", name="Yes, subscribe me").click()
    await seen("one-more-thing", "You are subscribed")
    await page.get_by_label("Tell me about baking courses").check()
    await page.get_by_role("button", name="Save").click()
    await seen("one-more-thing-saved", "You are subscribed")
    person = await records.fetchrow("SELECT status, attributes FROM subscribers WHERE email_key = $1", EMAIL)
    assert person["status"] == "active"
    assert person["attributes"] == {"birthday": "--02-29", "phone": "+442079460958", "bread": "Rye", "courses": True}
    whence = await records.fetchval("SELECT whence FROM submissions ORDER BY id DESC LIMIT 1")
    assert whence == {"source": "flyer", "mode": "hosted"}
    assert [one for one in wrong if "422" not in one] == []
    await context.close()


FORM = Form(
    id=1,
    key="key",
    name="Rules",
    definition=NewForm(
        name="Rules",
        locale="de",
        fields=[
            Field("phone", type="phone", step=2),
            Field("born", type="date", step=2),
            Field("day", type="date", year="optional", step=2),
            Field("age", type="number", step=2),
            Field("friend", type="email", step=2),
            Field("must", required=True, step=2),
        ],
    ),
    interests=[],
    created_at=NOW,
    updated_at=NOW,
)
VALUES = {
    "phone": [
        "+49 30 123456", "030/12 34-56", "0049 (30) 123456", "+7 903 123-45-67", "+7 903 123-45-6", "+1 415 555 2671", "415 555 2671",
        "+999 12345678", "call me", "+", "030", "+49 30 123456 ext. 7", "\u202a+49 30 123456", "+49\u00a030\u2011123456",
    ],
    "born": ["1990-03-14", "1990-3-14", "14.03.1990", "--03-14", "1899-12-31", "1900-01-01", "2100-12-31", "2101-01-01", "1990-13-01", "1990-00-10"],
    "day": ["--03-14", "--02-29", "--13-01", "--3-1", "1990-03-14", "-03-14", "03-14", "1899-12-31"],
    "age": ["42", "-1.5", "+1,5", "1 000", "1,000", "1.000", "0,125", "1,0000", "1000,125", "1.000,5", "1,000.5", "1.000.000", "1,00,000", "1 000 00", "-12\u00a0000,5", "1e3", "٣", ".5", "5.", "999999999999999", "9999999999999999", "0x10"],
    "friend": ["a@example.org", "a b@example.org", "@example.org", "a@", "nobody"],
    "must": ["x", "", " ", "\u00a0"],
}  # fmt: skip
CHECK = """async ([host, config, field, value]) => {
    const { check } = await import(`${host}/embed/v1-send.js`);
    return check(config, new Map([[field, value]]), (name) => name === field).map(({ code }) => code);
}"""


def refusal(field: str, value: str) -> list[str]:
    """Return what the server says to a value."""
    try:
        entry.answers(FORM, {"must": ["x"], field: [value]}, step=2, locale="en")
    except Invalid as error:
        return [one.code for one in error.errors]
    return []


async def test_browser_and_server_hold_the_same_rules(browser, house: str, keeper: httpx.AsyncClient, shop):
    """Each value of the table is taken by both or refused by both, with the same word."""
    made = await make_form(
        keeper,
        locale="de",
        fields=[
            {"name": field.name, "type": field.type, "year": field.year, "required": field.required, "step": 2}
            for field in FORM.definition.fields
        ],
    )
    config = (await keeper.get(f"/f/{made['key']}/config.json")).json()
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(shop.url)
    for field, values in VALUES.items():
        for value in values:
            here = refusal(field, value)
            assert await page.evaluate(CHECK, [house, config, field, value]) == here, (field, value, here)
    await context.close()
