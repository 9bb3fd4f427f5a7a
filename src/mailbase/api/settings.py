"""``/v1/settings``: what an owner changes while everything runs."""

from typing import Final

from litestar import get, patch
from litestar.di import NamedDependency
from litestar.params import JSONBody

from mailbase.api.common import scope
from mailbase.audience import account
from mailbase.config import Settings
from mailbase.db import Connection


@get("/settings", guards=[scope("admin")], operation_id="get_settings", tags=["Settings"])
async def get_settings(db: NamedDependency[Connection]) -> account.Account:
    """Return the settings."""
    return await account.get(db)


@patch("/settings", guards=[scope("admin")], operation_id="update_settings", tags=["Settings"])
async def update_settings(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], data: JSONBody[account.Changes]
) -> account.Account:
    """Change settings; what is not named stays."""
    return await account.update(db, data, strict=settings.sending_checks == "strict")


ROUTES: Final = [get_settings, update_settings]
