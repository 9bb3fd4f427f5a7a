"""The pipe: another mail server hands a mail to a command, which stores it and ends.

The exit code is the whole answer (sysexits.h): 0 stored, 65 not a mail that is taken, 75 try again later.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final

import asyncpg

from mailbase import db
from mailbase.config import Settings
from mailbase.errors import MailbaseError
from mailbase.signals import incoming
from mailbase.signals.incoming import Mail

STORED: Final = 0
NOT_TAKEN: Final = 65
LATER: Final = 75


def pipe(
    settings: Callable[[], Settings], mail: BinaryIO, *, mail_from: str | None = None, recipients: Sequence[str] = ()
) -> int:
    """Store one mail and return the exit code. ``settings`` is asked here, so that a database that is away is no bounce."""
    data = mail.read(incoming.LARGEST + 1)
    if not data.strip():
        return _said(NOT_TAKEN, "no mail on standard input")
    if len(data) > incoming.LARGEST:
        return _said(NOT_TAKEN, f"a mail of more than {incoming.LARGEST >> 20} MB")
    one = Mail(source="pipe", data=data, mail_from=mail_from, recipients=recipients)
    try:
        asyncio.run(_store(settings(), one))
    except MailbaseError as error:
        return _said(LATER, error.message)
    except (*db.CONNECTION_ERRORS, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        return _said(LATER, str(error).partition("\n")[0] or type(error).__name__)
    return STORED


async def _store(settings: Settings, mail: Mail) -> None:
    connection = await db.connect(settings.database_url or "")
    try:
        await incoming.store(connection, mail)
    finally:
        await connection.close(timeout=5)


def _said(code: int, words: str) -> int:
    sys.stderr.write(f"mailbase: {words}\n")
    return code
