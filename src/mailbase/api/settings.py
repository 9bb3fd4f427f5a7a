"""``/v1/settings``: what an owner changes while everything runs, and the logo of the public pages."""

from typing import Any, Final

import msgspec
from litestar import Request, delete, get, patch, put
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import JSONBody
from msgspec import UNSET

from mailbase.api.common import scope
from mailbase.audience import account
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import FieldError, Invalid
from mailbase.http import work_of
from mailbase.pages import logos, words

MOST_TEXTS: Final = 64 * 1024


class SettingsOut(account.Account, kw_only=True):
    """The settings, and where the logo is."""

    logo: str | None
    """Its address; ``PUT /v1/settings/logo`` sets it."""


async def _shown(db: Connection, settings: Settings, found: account.Account) -> SettingsOut:
    logo = await logos.get(db)
    return SettingsOut(**msgspec.structs.asdict(found), logo=f"{settings.public_url}{logo.path}" if logo else None)


def changed(request: Request[Any, Any, Any]) -> None:
    """Let the next page of this process be dressed anew, once the change can be seen."""

    async def forget() -> None:
        request.app.state.look = None

    work_of(request.scope).after_commit(forget)


@get("/settings", guards=[scope("admin")], operation_id="get_settings", tags=["Settings"])
async def get_settings(db: NamedDependency[Connection], settings: NamedDependency[Settings]) -> SettingsOut:
    """Return the settings."""
    return await _shown(db, settings, await account.get(db))


@patch("/settings", guards=[scope("admin")], operation_id="update_settings", tags=["Settings"])
async def update_settings(
    request: Request[Any, Any, Any],
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    data: JSONBody[account.Changes],
) -> SettingsOut:
    """Change settings; what is not named stays. `texts` are replaced as a whole, by language: `{"en": {"confirm.title": "Nearly there"}}`.

    From `accent` and `background` the pages take shades that can be read: whatever stands on or beside them has a contrast of at
    least 4.5 to 1.
    """
    if data.texts is not UNSET:
        _check_texts(data.texts, request.app.state.tables)
    changed(request)
    return await _shown(db, settings, await account.update(db, data, strict=settings.sending_checks == "strict"))


def _check_texts(texts: dict[str, dict[str, account.Sentence]], spoken: dict[str, words.Table]) -> None:
    errors = []
    for language, flat in texts.items():
        if language not in spoken:
            known = ", ".join(sorted(spoken))
            errors.append(FieldError(f"texts.{language}", "unknown_language", f"The pages speak {known}."))
        elif wrong := words.mistake(language, words.sections(flat)):
            errors.append(FieldError(f"texts.{language}", "invalid_text", f"The text {wrong}."))
    if not errors and len(msgspec.json.encode(texts)) > MOST_TEXTS:
        errors.append(FieldError("texts", "too_large", f"All texts have at most {MOST_TEXTS // 1024} kB."))
    if errors:
        raise Invalid(errors=errors, code=errors[0].code)


@put("/settings/logo", guards=[scope("admin")], operation_id="put_logo", tags=["Settings"])
async def put_logo(
    request: Request[Any, Any, Any], db: NamedDependency[Connection], settings: NamedDependency[Settings]
) -> SettingsOut:
    """Set the logo on top of the public pages: the picture itself as the body, PNG, JPEG or WebP, at most 256 kB. SVG is not taken."""
    if request.content_type[0].lower() not in {*logos.ENDINGS, "application/octet-stream"}:
        raise HTTPException(status_code=415, detail="The body is a picture: image/png, image/jpeg or image/webp.")
    await logos.put(db, await request.body())
    changed(request)
    return await _shown(db, settings, await account.get(db))


@delete("/settings/logo", guards=[scope("admin")], operation_id="delete_logo", tags=["Settings"])
async def delete_logo(request: Request[Any, Any, Any], db: NamedDependency[Connection]) -> None:
    """Take the logo away; the pages show the name again."""
    await logos.delete(db)
    changed(request)


ROUTES: Final = [get_settings, update_settings, put_logo, delete_logo]
