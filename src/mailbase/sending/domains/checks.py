"""Verifying a sending domain: what DNS shows decides its status, which key signs, and whose envelope senders go out.

DNS is looked up between two short transactions, never inside one.
"""

import asyncio
from typing import Final

import msgspec

from mailbase.config import Settings
from mailbase.db import Pool
from mailbase.sending.dns import Resolver
from mailbase.sending.domains import dns_records, domains, verify
from mailbase.sending.domains.dns_records import Record
from mailbase.sending.signing import keys
from mailbase.sending.signing.dkim import Signer
from mailbase.vault import Vault

REQUIRED: Final = frozenset({"dkim", "spf", "dmarc"})

PRIVATE = """
SELECT id, selector, private_key FROM dkim_keys WHERE domain_id = $1
"""

NOW = """
SELECT extract(epoch FROM now())::bigint
"""

SAVE = """
UPDATE domains SET
    findings = $2, status = $3, verp = $4, checked_at = now(),
    verified_at = CASE WHEN $3 = 'verified' THEN now() ELSE verified_at END
WHERE id = $1
"""

RETIRE = """
UPDATE dkim_keys SET state = 'retiring' WHERE domain_id = $1 AND state = 'active'
"""

ACTIVATE = """
UPDATE dkim_keys SET state = 'active' WHERE id = $1 AND state = 'next'
"""


async def check(pool: Pool, vault: Vault, resolver: Resolver, domain_id: int, settings: Settings) -> domains.Domain:
    """Look every record up, sign and verify a letter against the live key, switch to a next key DNS shows; return the domain.

    Raises:
        NotFound: there is none of that id.

    """
    async with pool.acquire() as db, db.transaction():
        before = await domains.get(db, domain_id, settings)
        stored = {key.selector: key for key in await domains.stored_keys(db, domain_id)}
        private = {
            row["selector"]: vault.decrypt(row["private_key"], f"dkim:{row['id']}")
            for row in await db.fetch(PRIVATE, domain_id)
        }
        now: int = await db.fetchval(NOW)
    signers = {
        selector: Signer(before.name, selector, await asyncio.to_thread(keys.from_der, der))
        for selector, der in private.items()
    }
    records = dns_records.proposed(before.name, list(stored.values()), signing=before.signing, settings=settings)
    term = dns_records.spf_term(settings) if dns_records.spf_is_certain(settings) else None
    findings = await verify.check(resolver, verify.Asked(before.name, records, signers, term, now))
    good = {record.name for record in findings if record.status == "ok"}
    async with pool.acquire() as db, db.transaction():
        await domains.lock(db, domain_id)
        current = await domains.stored_keys(db, domain_id)
        for key in current:
            if (
                key.state == "next"
                and dns_records.dkim_name(key.selector, before.name) in good
                and stored.get(key.selector) == key
            ):
                await db.execute(RETIRE, domain_id)
                await db.execute(ACTIVATE, key.id)
        active = {
            dns_records.dkim_name(key.selector, before.name)
            for key in await domains.stored_keys(db, domain_id)
            if key.state == "active"
        }
        status = _judge(before, findings, active)
        await db.execute(SAVE, domain_id, msgspec.to_builtins(findings), status, _bounces(before.name, findings))
        return await domains.get(db, domain_id, settings)


def _judge(before: domains.Domain, findings: list[Record], active: set[str]) -> domains.DomainStatus:
    bounce = dns_records.bounce_name(before.name)
    needed = [
        one
        for one in findings
        if one.purpose in REQUIRED and one.name != bounce and (one.purpose != "dkim" or one.name in active)
    ]
    if all(one.status == "ok" for one in needed):
        return "verified"
    if all(one.status in {"ok", "unknown"} for one in needed):
        return before.status  # DNS did not answer: nothing was learnt
    return "failing" if before.verified_at is not None or any(one.status == "wrong" for one in needed) else "pending"


def _bounces(name: str, findings: list[Record]) -> bool:
    """Tell whether returned mail reaches us, and our envelope senders pass SPF."""
    own = [one for one in findings if one.name == dns_records.bounce_name(name)]
    return len(own) == 2 and all(one.status == "ok" for one in own)
