"""What axe-core, the accessibility engine, finds on a page as it stands."""

from pathlib import Path

from playwright.async_api import Page

SOURCE = next((Path(__file__).parents[2] / ".venv").glob("axe-core-*/axe.min.js"), None)
RUN = """async (rules) => (await axe.run(document, { resultTypes: ["violations"], ...(rules && { runOnly: rules }) }))
    .violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target.flat().join(" ")}: ${failureSummary}`))"""


async def findings(page: Page, *, colors: bool = False) -> list[str]:
    """Return everything axe objects to: rule, element and reason. ``colors`` asks for the contrast alone, as in a page's other scheme."""
    assert SOURCE
    if not await page.evaluate("!!window.axe"):
        await page.evaluate(SOURCE.read_text("utf-8"))
    return await page.evaluate(RUN, ["color-contrast"] if colors else None)
