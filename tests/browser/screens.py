"""Pictures of what a visitor sees, kept in ``docs/screens`` by ``make screens``; an ordinary run of the tests takes none.

``await screens.keep(page, "popup-ready")`` writes ``popup-ready-360-light.webp`` and its five sisters: three widths, light and dark.
"""

import asyncio
import base64
import os
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import Page

WIDTHS = {360: 700, 768: 800, 1280: 720}
SCHEMES = ("light", "dark")
LARGEST = 16_000
QUALITIES = (30, 15)
"""A picture for a look, not for print."""


async def keep(
    page: Page, name: str, *, widths: Sequence[int] = tuple(WIDTHS), schemes: Sequence[str] = SCHEMES, full: bool = True
) -> None:
    """Keep the page as it stands. ``full`` shows all of it; without, what fits the window (popups)."""
    folder = os.environ.get("MAILBASE_SCREENS")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    before = page.viewport_size
    session = await page.context.new_cdp_session(page)
    for width in widths:
        await page.set_viewport_size({"width": width, "height": WIDTHS[width]})
        height = await page.evaluate("document.documentElement.scrollHeight") if full else WIDTHS[width]
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        for scheme in schemes:
            await page.emulate_media(color_scheme=scheme)
            await asyncio.sleep(0.05)  # a script hears of it a frame later
            how = {"format": "webp", "captureBeyondViewport": full} | ({"clip": clip} if full else {})
            for quality in QUALITIES:
                taken = await session.send("Page.captureScreenshot", {**how, "quality": quality})
                picture = base64.b64decode(taken["data"])
                if len(picture) <= LARGEST:
                    break
            Path(folder, f"{name}-{width}-{scheme}.webp").write_bytes(picture)
    await session.detach()
    await page.emulate_media(color_scheme=None)
    if before:
        await page.set_viewport_size(before)
