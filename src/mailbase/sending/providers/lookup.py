"""The provider behind each domain that is written to, found by its mail hosts and looked up again when the answer grows old.

    address comes in ─▶ arrived_domains ─▶ recipient_domains, due now ─ MX ─▶ provider, due again later ─▶ …

Whoever adds an address only drops its domain there (a trigger on subscribers; messages do it themselves), once a statement and
without ever waiting for anybody. Letters that are queued already keep the provider they were queued with.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

import asyncpg
import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
from msgspec import Struct

from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.sending.dns import Unanswered, resolver
from mailbase.sending.providers.providers import Providers

log = logging.getLogger(__name__)

BATCH: Final = 200
ADMITTED: Final = 10_000
PARALLEL: Final = 32
PAUSE: Final = 2.0
CLAIM: Final = timedelta(minutes=3)
SOONEST: Final = timedelta(hours=6)
LATEST: Final = timedelta(days=7)
FIRST_RETRY: Final = timedelta(minutes=1)


class MailHosts(Struct, frozen=True):
    """Who takes a domain's mail, best first, and how long that may be believed. No hosts: nobody does."""

    hosts: tuple[str, ...]
    ttl: int


class HostResolver(Protocol):
    """What is asked of DNS here."""

    async def mail_hosts(self, domain: str) -> MailHosts:
        """Return the hosts by MX, or the domain itself where it has an address only (RFC 5321 § 5.1); none for a null MX.

        Raises:
            Unanswered: no server gave an answer.

        """


class DnsHosts:
    """A :class:`HostResolver` over dnspython; ``servers`` are (host, port), none: the system's."""

    def __init__(self, servers: Sequence[tuple[str, int]] = ()) -> None:
        self._resolver = resolver(servers)

    async def mail_hosts(self, domain: str) -> MailHosts:
        """Return who takes the domain's mail."""
        answer = await self._ask(domain, "MX")
        if answer is None:
            return MailHosts((), 0)
        if answer.rrset is None:
            for kind in ("A", "AAAA"):
                found = await self._ask(domain, kind)
                if found is not None and found.rrset is not None:
                    return MailHosts((domain,), found.rrset.ttl)
            return MailHosts((), 0)
        hosts = sorted((item.preference, item.exchange.to_text().rstrip(".").lower()) for item in answer)
        return MailHosts(tuple(host for _, host in hosts if host), answer.rrset.ttl)

    async def _ask(self, name: str, kind: str) -> dns.resolver.Answer | None:
        try:
            return await self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return None
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise Unanswered(f"{name} {kind}: {error}") from None


ADMIT = """
WITH arrived AS (
    DELETE FROM arrived_domains WHERE ctid = ANY (ARRAY(SELECT ctid FROM arrived_domains LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING domain
)
INSERT INTO recipient_domains (domain, provider, due_at)
SELECT domain, 'other', COALESCE($2, now()) FROM (SELECT DISTINCT domain FROM arrived) AS new ORDER BY domain
ON CONFLICT (domain) DO UPDATE SET due_at = excluded.due_at WHERE recipient_domains.due_at IS NULL
"""

CLAIM_DUE = """
UPDATE recipient_domains SET due_at = COALESCE($2, now()) + $3
FROM (
    SELECT domain FROM recipient_domains WHERE due_at <= COALESCE($2, now()) ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
) AS due
WHERE recipient_domains.domain = due.domain
RETURNING recipient_domains.domain, failures
"""

ANSWERED = """
UPDATE recipient_domains AS known SET
    provider = answer.provider, mx = string_to_array(answer.mx, ' '), failures = 0, looked_up_at = COALESCE($5, now()),
    due_at = COALESCE($5, now()) + make_interval(secs => answer.seconds)
FROM unnest($1::text[], $2::text[], $3::text[], $4::float8[]) AS answer (domain, provider, mx, seconds)
WHERE known.domain = answer.domain
"""

UNANSWERED = """
UPDATE recipient_domains SET failures = LEAST(failures + 1, 1000),
    due_at = COALESCE($2, now()) + LEAST($3::interval * 2.0 ^ LEAST(failures, 20), $4)
WHERE domain = ANY ($1::text[])
"""


async def step(
    pool: Pool, resolver: HostResolver, providers: Providers | None = None, *, now: datetime | None = None
) -> int:
    """Take in what arrived and look up what is due, one batch of it; return how many were looked up.

    ``providers`` is loaded here when it is not given. No connection is held while DNS is asked.
    """
    async with pool.acquire() as db:
        await db.execute(ADMIT, ADMITTED, now)
        due = [row["domain"] for row in await db.fetch(CLAIM_DUE, BATCH, now, CLAIM)]
        if not due:
            return 0
        if providers is None:
            providers = Providers()
            await providers.load(db, now=now)
    few = asyncio.Semaphore(PARALLEL)

    async def look(domain: str) -> MailHosts | None:
        async with few:
            try:
                return await resolver.mail_hosts(domain)
            except Unanswered as error:
                log.info("a domain's provider stays as it was: %s", error)
                return None

    found = dict(zip(due, await asyncio.gather(*map(look, due)), strict=True))
    answers = {domain: hosts for domain, hosts in found.items() if hosts is not None}
    async with pool.acquire() as db, db.transaction():
        names = sorted(answers)
        await db.execute(
            ANSWERED,
            names,
            [providers.group_of(answers[name].hosts, name) for name in names],
            [" ".join(answers[name].hosts) for name in names],
            [min(max(timedelta(seconds=answers[name].ttl), SOONEST), LATEST).total_seconds() for name in names],
            now,
        )
        await db.execute(UNANSWERED, sorted(found.keys() - answers.keys()), now, FIRST_RETRY, SOONEST)
    return len(due)


async def run(pool: Pool, resolver: HostResolver, *, stop: asyncio.Event) -> None:
    """Look up until ``stop``; any number of workers may."""
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            looking = asyncio.create_task(step(pool, resolver))
            await asyncio.wait({stopping, looking}, return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                # A server that is slow to answer holds up no stop; what was claimed is due again in a while.
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
                break
            try:
                more = looking.result() > 0
            except (*CONNECTION_ERRORS, asyncpg.PostgresError, TimeoutError) as error:
                log.warning("look-ups of domains wait for the database: %s", error)
                more = False
            if not more:
                await asyncio.wait({stopping}, timeout=PAUSE)
    finally:
        stopping.cancel()
