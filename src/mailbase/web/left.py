"""The page after leaving: what is so now and from when, why (if they like), and fewer letters instead of none."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from litestar import Response

from mailbase.optin.leaving_reasons import REASONS
from mailbase.optin.preferences import masked
from mailbase.pages.words import Language, words
from mailbase.web.common import page


def left(language: Language, email: str, token: str, *, thanks: bool = False) -> Response[str]:
    """Return the page. ``token`` opens the person's preference centre, where its forms lead."""
    said = words(language).unsubscribe
    return page(
        "left",
        language,
        title=said.left_title,
        brand="",
        text=said.left_text.format(email=masked(email)),
        preferences=f"/p/{token}",
        token=token,
        reasons=[{"value": reason, "text": getattr(said, f"reason_{reason}")} for reason in REASONS],
        thanks=thanks,
        icon="done",
    )


def local(at: datetime, timezone: str | None) -> datetime:
    """Return a moment in a person's time zone, in UTC where none is known."""
    try:
        return at.astimezone(ZoneInfo(timezone) if timezone else UTC)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return at.astimezone(UTC)
