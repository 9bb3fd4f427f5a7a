"""Colours that can be read whatever they are, and logos known by their bytes."""

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.errors import Invalid
from mailbase.pages import colors, logos, look

COLOR = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


def png(width: int = 120, height: int = 40) -> bytes:
    """Return a small picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x1f\x4f\x8f" * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@given(COLOR, COLOR)
def test_whatever_colours_an_owner_likes_can_be_read(accent: str, background: str):
    """The button's words, the links on the card and what stands around it have a contrast of 4.5 at least, by day and by night."""
    for card in (colors.CARD, colors.CARD_DARK):
        shades = colors.shades(accent, card)
        assert colors.contrast(shades.on_accent, shades.accent) >= 4.5
        assert colors.contrast(shades.link, card) >= 4.5
        assert colors.contrast(shades.on_accent, shades.strong) >= 4.5
    assert colors.contrast(colors.ink_on(background), background) >= 4.5


def test_contrast_is_as_the_standard_says():
    """Black on white is 21 to 1, a colour on itself 1, and #767676 the lightest grey that reads on white."""
    assert colors.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert colors.contrast("#1f4f8f", "#1f4f8f") == 1
    assert colors.contrast("#767676", "#ffffff") >= 4.5 > colors.contrast("#777777", "#ffffff")


def test_an_accent_makes_rules_for_day_and_night():
    """Without colours there are no rules at all."""
    assert look.style(None, None) == ""
    both = look.style("#c2410c", "#fff7ed")
    assert both.count("--accent:") == 2
    assert both.count("--paper:") == 2


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (png(), ("image/png", 120, 40)),
        (
            b"\xff\xd8\xff\xe0\x00\x10" + b"\0" * 14 + b"\xff\xc0\x00\x11\x08\x00\x28\x00\x78" + b"\0" * 9,
            ("image/jpeg", 120, 40),
        ),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x77\0\0\x27\0\0", ("image/webp", 120, 40)),
        (b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x78\x00\x28\x00", ("image/webp", 120, 40)),
        (b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + (119 | 39 << 14).to_bytes(4, "little"), ("image/webp", 120, 40)),
    ],
)
def test_a_logo_is_known_by_its_bytes(content: bytes, kind: tuple):
    """PNG, JPEG and the three kinds of WebP tell their size."""
    found = logos.examine(content)
    assert (found.type, found.width, found.height) == kind


@given(
    st.binary(max_size=64)
    | st.binary(max_size=40).map(lambda rest: png()[:24] + rest)
    | st.binary(max_size=40).map(lambda rest: b"\xff\xd8\xff" + rest)
    | st.binary(max_size=40).map(lambda rest: b"RIFF\0\0\0\0WEBPVP8 " + rest)
)
def test_no_bytes_break_the_look_at_a_logo(content: bytes):
    """What is no picture is refused, whatever it is."""
    with contextlib.suppress(Invalid):
        assert logos.examine(content).width >= 1
