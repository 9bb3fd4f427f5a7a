"""Pictures of what a visitor sees, kept in ``docs/screens`` by ``make screens``; an ordinary run of the tests takes none.

``await screens.keep(page, "popup-ready")`` writes ``popup-ready-360-light.jpg`` and its five sisters: three widths, light and dark.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import Page

WIDTHS = {360: 740, 768: 900, 1280: 800}
SCHEMES = ("light", "dark")
LARGEST = 40_000


async def keep(
    page: Page, name: str, *, widths: Sequence[int] = tuple(WIDTHS), schemes: Sequence[str] = SCHEMES, full: bool = True
) -> None:
    """Keep the page as it stands. ``full`` shows all of it; without, what fits the window (popups)."""
    folder = os.environ.get("MAILBASE_SCREENS")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    before = page.viewport_size
    for width in widths:
        await page.set_viewport_size({"width": width, "height": WIDTHS[width]})
        for scheme in schemes:
            await page.emulate_media(color_scheme=scheme)
            file = Path(folder, f"{name}-{width}-{scheme}.jpg")
            for quality in (55, 35):  # a picture for a look, not for print
                await page.screenshot(
                    path=file, type="jpeg", quality=quality, full_page=full, animations="disabled", caret="hide"
                )
                if file.stat().st_size <= LARGEST:
                    break
    await page.emulate_media(color_scheme=None)
    if before:
        await page.set_viewport_size(before)
