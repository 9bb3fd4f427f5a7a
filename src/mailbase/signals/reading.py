"""Reading: what waits in ``incoming`` is examined, resolved and applied, one mail after the other.

Any number of workers may read. One that dies in the middle leaves the mail to the next, and doing it twice changes nothing.
"""

import asyncio
import contextlib
import logging
from typing import Final

import asyncpg

from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.reports.examine import examine
from mailbase.sending.dns import Resolver
from mailbase.signals import complaint_senders, feedback, incoming, resolve, trust
from mailbase.signals.incoming import End, Waiting
from mailbase.signals.resolve import Resolved
from mailbase.tokens import Tokens

log = logging.getLogger(__name__)

EVERY: Final = 1.0
BATCH: Final = 20
TRIES: Final = 5


async def run(pool: Pool, tokens: Tokens, resolver: Resolver, *, slot: int, stop: asyncio.Event) -> None:
    """Read what comes in until ``stop``."""
    while not stop.is_set():
        more = 0
        try:
            more = await step(pool, tokens, resolver, slot=slot)
        except (*CONNECTION_ERRORS, TimeoutError, asyncpg.PostgresError) as error:
            log.warning("incoming mail waits for the database: %s", error)
        if more < BATCH:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), EVERY)


async def step(pool: Pool, tokens: Tokens, resolver: Resolver, *, slot: int) -> int:
    """Read up to a batch of mails; return how many there were."""
    async with pool.acquire() as db:
        mails = await incoming.take(db, BATCH)
    for mail in mails:
        try:
            await _read(pool, mail, tokens, resolver, slot)
        except (*CONNECTION_ERRORS, asyncpg.TransactionRollbackError):
            raise
        except Exception:
            # One mail nobody can read must not keep the others waiting.
            log.exception("mail %d could not be read", mail.id)
            if mail.attempts >= TRIES:
                async with pool.acquire() as db:
                    await incoming.finish(db, mail.id, "unresolved", "it could not be read")
        await asyncio.sleep(0)
    return len(mails)


async def _is_provider(pool: Pool, raw: bytes, resolver: Resolver) -> bool:
    async with pool.acquire() as db:
        senders = await complaint_senders.addresses(db)
    return await trust.is_provider(raw, resolver, senders)


async def _read(pool: Pool, mail: Waiting, tokens: Tokens, resolver: Resolver, slot: int) -> None:
    # In a thread: letters go out from this loop meanwhile, however long a mail takes to read.
    report = await asyncio.to_thread(examine, mail.raw)
    resolved = resolve.resolve(mail, report, tokens)
    if resolved.needs_trust and resolved.feedback and not await _is_provider(pool, mail.raw, resolver):
        resolved = Resolved([], f"{resolved.outcome} of nobody that can be proven", "unresolved")
    changed = 0
    async with pool.acquire() as db:
        if resolved.needs_trust and (campaign_id := resolve.campaign_of(report)) is not None:
            await resolve.narrow(db, resolved.feedback, campaign_id)
        for one in resolved.feedback:
            async with db.transaction():
                changed += await feedback.apply(db, one, slot=slot)
        state: End = "applied" if resolved.feedback else resolved.otherwise
        said = resolved.outcome if changed or not resolved.feedback else f"{resolved.outcome}; known already"
        await incoming.finish(db, mail.id, state, said)
