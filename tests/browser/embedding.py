"""A shop's page with forms on it, as owners write it: two lines of HTML, a look of its own, and a policy as strict as can be."""

import asyncio
import time
from typing import Any

from playwright.async_api import BrowserContext, Locator, Page, expect

from optin.optin_kit import make_form

CSS = """
:root { color-scheme: light dark; }
body { margin: 2rem auto; max-width: 46rem; padding: 0 1rem; font: 17px/1.6 Georgia, serif; color: #23211d; background: #faf7f0; }
@media (prefers-color-scheme: dark) { body { color: #e9e7e2; background: #16171a; } }
"""
SHIFT = """() => new Promise((done) => {
    let sum = 0;
    new PerformanceObserver((list) => list.getEntries().forEach(({ value }) => (sum += value))).observe({ type: "layout-shift", buffered: true });
    requestAnimationFrame(() => requestAnimationFrame(() => done(sum)));
})"""

TYPED: list[dict[str, Any]] = [
    {"name": "name", "label": "Name"},
    {"name": "phone", "label": "Telephone", "type": "phone"},
    {"name": "birthday", "label": "Birthday", "type": "date", "year": "optional"},
    {"name": "since", "label": "With us since", "type": "date"},
    {"name": "shoe", "label": "Shoe size", "type": "number"},
    {"name": "coffee", "label": "How do you drink your coffee?", "type": "select", "options": ["Black", "With milk"]},
    {"name": "gift", "label": "It is a gift", "type": "checkbox"},
    {"name": "origin", "type": "hidden", "value": "web"},
]
TEXTS = {
    "title": "Notes from the workshop",
    "intro": "Once a month: what we made, what we learned, and what is on the table.",
}


def policy(house: str) -> str:
    """Return the strictest policy a page can have that loads our script: nothing inline, nothing from elsewhere."""
    return (
        f"default-src 'none'; script-src {house}; connect-src {house}; style-src 'self'; base-uri 'none'; "
        f"form-action {house}; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )


def place(form: dict[str, Any], more: str = "data-mailbase-title") -> str:
    """Return the line of HTML a form stands in; without scripts the link in it is what is seen."""
    return f'<div data-mailbase-form="{form["key"]}" {more}><noscript><a href="{form["hosted_url"]}">Subscribe by page</a></noscript></div>'


def page_of(house: str, *parts: str, lang: str = "en", more: str = "") -> str:
    """Return a page of the shop."""
    return (
        f'<!doctype html><html lang="{lang}" {more}><meta name="viewport" content="width=device-width"><title>Shop</title>'
        f'<link rel="stylesheet" href="/shop.css"><script src="{house}/embed/v1.js" async></script>'
        f"<main><h1>The shop</h1>{''.join(parts)}</main>"
    )


async def form_with(keeper: Any, **changes: Any) -> dict[str, Any]:
    """Create a form with a title and an address; the rest as told."""
    plain = {"fields": [], "interests": ["news"], "interest_choice": False, "consents": [], "texts": TEXTS}
    return await make_form(keeper, **{**plain, **changes})


HEAR = """
    window.heard = [];
    for (const name of ["view", "submit", "error", "pending"]) {
        addEventListener(`mailbase:${name}`, ({ detail, target }) => heard.push([name, detail.key, detail.state || target.tagName]));
    }
"""


async def visit(context: BrowserContext, url: str) -> tuple[Page, list[str]]:
    """Open a page whose clock can be put forward, and which notes the events of its forms; also returns what it complains about."""
    page = await context.new_page()
    await page.add_init_script(HEAR)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.clock.install()
    await page.goto(url)
    return page, said


async def shown(page: Page, *, by_itself: bool = False) -> Locator:
    """Wait for a form's address field; what comes by itself comes when the page's clock is put forward."""
    email = page.get_by_label("E-mail address")
    for _ in range(100 if by_itself else 0):
        if await email.count():
            break
        await page.clock.fast_forward(400)
    await expect(email).to_be_visible()
    return email


async def until(page: Page, condition: str, value: Any = None) -> Any:
    """Wait until a function of the page returns something true (the page's policy forbids Playwright's own way of waiting)."""
    deadline = time.monotonic() + 10
    while not (found := await page.evaluate(condition, value)):
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(0.02)
    return found
