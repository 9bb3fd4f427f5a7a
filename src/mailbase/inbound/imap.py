"""A mailbox that is read over IMAP, for those whose bounces arrive at somebody else's server.

Whatever is new is fetched and stored as soon as the server says so (IDLE, RFC 2177), and every half minute where it cannot; how far it was read is a row beside what was read, so nothing is
skipped and nothing is read twice. The mailbox itself stays as it is, flags and all, unless the setting says ``done=delete``.
"""

import asyncio
import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Final

import asyncpg
from imap_tools import BaseMailBox, MailBox, MailBoxStartTls, MailBoxUnencrypted
from imap_tools.errors import ImapToolsError
from msgspec import Struct

from mailbase.config import Imap
from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.signals import incoming
from mailbase.signals.incoming import Mail

log = logging.getLogger(__name__)

EVERY: Final = 30.0
BATCH: Final = 50
PATIENCE: Final = 10.0
IDLE: Final = 540.0
"""Seconds for which the server is listened to at a time: fewer than routers keep a silent connection."""
GLANCE: Final = 1.0
"""Seconds between looks at whether we shall stop."""


class Unreadable(Exception):
    """The mailbox cannot be read, in one line without the password."""


class Fetched(Struct):
    """What was new: mails by their UID, ascending; None: larger than is taken."""

    uidvalidity: int
    mails: list[tuple[int, bytes | None]]


FAR = """
SELECT uidvalidity, uid FROM mailboxes WHERE name = $1
"""

NOTE = """
INSERT INTO mailboxes (name, uidvalidity, uid) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET uidvalidity = excluded.uidvalidity, uid = excluded.uid, at = now()
"""


async def run(pool: Pool, imap: Imap, *, stop: asyncio.Event, every: float = EVERY) -> None:
    """Read the mailbox until ``stop``; what fails is logged and tried again."""
    failed = ""
    idles = True
    while not stop.is_set():
        more = 0
        try:
            more = await step(pool, imap)
            failed = ""
            if more < BATCH and idles:
                idles = await _listen(pool, imap, stop)
                more = BATCH if idles else 0
        except (*CONNECTION_ERRORS, Unreadable, TimeoutError, asyncpg.PostgresError) as error:
            if str(error) != failed:
                failed = str(error)
                log.warning("the mailbox %s cannot be read: %s", imap.name, failed)
        if more < BATCH:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every)


async def step(pool: Pool, imap: Imap) -> int:
    """Store what is new, up to a batch; return how many mails there were.

    Raises:
        Unreadable: the mailbox cannot be reached, or refuses.

    """
    async with pool.acquire() as db:
        far = await db.fetchrow(FAR, imap.name)
    uidvalidity, uid = (far["uidvalidity"], far["uid"]) if far else (0, 0)
    fetched = await asyncio.to_thread(_fetch, imap, uidvalidity, uid)
    if not fetched.mails:
        return 0
    async with pool.acquire() as db, db.transaction():
        for _, data in fetched.mails:
            if data is not None:
                await _store(db, data)
        await db.execute(NOTE, imap.name, fetched.uidvalidity, fetched.mails[-1][0])
    if imap.done == "delete":
        await asyncio.to_thread(_delete, imap, [str(uid) for uid, data in fetched.mails if data is not None])
    return len(fetched.mails)


async def _listen(pool: Pool, imap: Imap, stop: asyncio.Event) -> bool:
    """Wait until the server has something new, at most ``IDLE``; False: it cannot say so."""
    async with pool.acquire() as db:
        far = await db.fetchrow(FAR, imap.name)
    over = threading.Event()
    listening = asyncio.create_task(asyncio.to_thread(_idle, imap, far["uid"] if far else 0, over))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        over.set()
    return await listening


async def _store(db: Connection, data: bytes) -> None:
    await incoming.store(db, Mail(source="imap", data=data))


@contextlib.contextmanager
def _opened(imap: Imap) -> Iterator[BaseMailBox]:
    """Log in and open the folder. What the server says is passed on, what we said to it is not."""
    try:
        box: BaseMailBox
        if imap.tls == "none":
            box = MailBoxUnencrypted(imap.host, imap.port, timeout=PATIENCE)
        elif imap.tls == "starttls":
            box = MailBoxStartTls(imap.host, imap.port, timeout=PATIENCE, ssl_context=ssl.create_default_context())
        else:
            box = MailBox(imap.host, imap.port, timeout=PATIENCE, ssl_context=ssl.create_default_context())
        try:
            box.login(imap.user, imap.password, initial_folder=imap.folder)
            yield box
        finally:
            with contextlib.suppress(OSError, box.client.error, ImapToolsError):
                box.logout()
    except (OSError, ImapToolsError) as error:
        raise Unreadable(_said(error, imap)) from None
    except Exception as error:
        # imaplib's errors are attributes of its classes.
        if type(error).__module__ != "imaplib":
            raise
        raise Unreadable(_said(error, imap)) from None


def _said(error: Exception, imap: Imap) -> str:
    return (str(error) or type(error).__name__).replace(imap.password, "…")[:300]


def _fetch(imap: Imap, uidvalidity: int, last: int) -> Fetched:
    with _opened(imap) as box:
        status = box.folder.status(imap.folder, ["UIDVALIDITY"])
        current = status["UIDVALIDITY"]
        start = last + 1 if current == uidvalidity else 1
        # A range that ends in * always holds the last mail, even one below its start.
        uids = sorted(uid for text in box.uids(f"UID {start}:*") if (uid := int(text)) >= start)[:BATCH]
        return Fetched(current, [(uid, _one(box, uid)) for uid in uids])


def _idle(imap: Imap, last: int, over: threading.Event) -> bool:
    with _opened(imap) as box:
        _, said = box.client.capability()
        if b"IDLE" not in b" ".join(said).upper().split():
            return False
        if any(int(uid) > last for uid in box.uids(f"UID {last + 1}:*")):
            return True
        box.idle.start()  # type: ignore[no-untyped-call]
        until = time.monotonic() + IDLE
        while not over.is_set() and (now := time.monotonic()) < until:
            # What comes back at once with nothing is a connection that has ended.
            if box.idle.poll(timeout=GLANCE) or time.monotonic() - now < GLANCE / 2:
                break
        box.idle.stop()  # type: ignore[no-untyped-call]
        return True


def _one(box: BaseMailBox, uid: int) -> bytes | None:
    """Return one mail, or as much of it as is kept. PEEK: nobody has read it."""
    _, parts = box.client.uid("FETCH", str(uid), f"(BODY.PEEK[]<0.{incoming.KEPT_BYTES}>)")
    return next((bytes(part[1]) for part in parts if isinstance(part, tuple)), None)


def _delete(imap: Imap, uids: list[str]) -> None:
    with _opened(imap) as box:
        box.delete(uids)
