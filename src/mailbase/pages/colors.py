"""Colours that can be read: from an owner's two, every shade the pages need, each with enough contrast (WCAG 2.2, 1.4.3).

Nothing is refused. What stands *on* a colour becomes black or white, whichever reads better; where a colour itself is text, as in
links, it is mixed with black or white until it reads.
"""

from typing import Final

from msgspec import Struct

Color = tuple[float, float, float]
"""Red, green and blue, from 0 to 1."""

ENOUGH: Final = 4.5
CARD: Final = "#fffefb"
OURS: Final = "#1f4f8f"
"""The accent where the owner chose none."""
CARD_DARK: Final = "#1c1f25"
_BLACK: Final = (0.0, 0.0, 0.0)
_WHITE: Final = (1.0, 1.0, 1.0)
_STEPS: Final = 40


class Shades(Struct, frozen=True):
    """An accent on one card."""

    accent: str
    strong: str
    """Under the pointer."""
    on_accent: str
    link: str


def _read(text: str) -> Color:
    red, green, blue = (int(text[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _write(color: Color) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in color)


def _luminance(color: Color) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG's relative luminance)."""
    light, dark = sorted((_luminance(_read(one)), _luminance(_read(other))), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _mixed(color: Color, other: Color, share: float) -> Color:
    red, green, blue = (a + (b - a) * share for a, b in zip(color, other, strict=True))
    return red, green, blue


def readable(text: str, ground: str) -> str:
    """Return the colour itself, or the nearest of its shades that can be read on ``ground``."""
    toward = _BLACK if _luminance(_read(ground)) > 0.18 else _WHITE
    for step in range(_STEPS + 1):
        shade = _write(_mixed(_read(text), toward, step / _STEPS))
        if contrast(shade, ground) >= ENOUGH:
            return shade
    return _write(toward)


def ink_on(ground: str, *, dark: str = "#16181c", light: str = "#ffffff") -> str:
    """Return what to write with on a colour: nearly black or white, black itself where only that reads."""
    if contrast(light, ground) >= ENOUGH:
        return light
    return dark if contrast(dark, ground) >= ENOUGH else "#000000"


def shades(accent: str, card: str) -> Shades:
    """Return an accent as a card needs it. On a dark card the button's colour is one that stands out from it."""
    ground = accent if card == CARD else readable(accent, card)
    on = ink_on(ground)
    strong = _write(_mixed(_read(ground), _WHITE if on != "#ffffff" else _BLACK, 0.14))
    return Shades(ground, strong, on, readable(accent, card))
