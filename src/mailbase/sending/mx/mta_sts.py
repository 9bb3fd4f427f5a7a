"""MTA-STS (RFC 8461): a domain says, over HTTPS, which mail hosts are its own and that they speak TLS with a right certificate.

    TXT _mta-sts.example.com  v=STSv1; id=2026a        says that there is a policy, and when it changes
    https://mta-sts.example.com/.well-known/mta-sts.txt  is the policy; kept for its max_age, whatever DNS says meanwhile

Only ``enforce`` binds us. A policy that was kept and is not too old holds even when it cannot be fetched anew: whoever could
hide it could otherwise switch it off.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Final, Literal

import asyncpg
import msgspec
from msgspec import Struct

from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.outgoing import Answer, Outgoing, Unreachable
from mailbase.sending.dns import Unanswered
from mailbase.sending.mx.mx_dns import Answers

log = logging.getLogger(__name__)

Mode = Literal["enforce", "testing", "none"]

LONGEST: Final = 31_557_600
"""Seconds a policy may be kept (§ 3.2)."""
LARGEST: Final = 65_536
"""Bytes of a policy that are read (§ 3.3)."""
MOST_HOSTS: Final = 100
AGAIN: Final = 300.0
"""Seconds until a policy that could not be fetched is asked for again (§ 3.3)."""
MOST: Final = 20_000

_RECORD = re.compile(r"v=STSv1\s*;(.*)", re.DOTALL)
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{1,63}")


class Policy(Struct, frozen=True):
    """``hosts`` are names, or ``*.`` and the rest of a name; ``expires`` is the loop's time."""

    id: str
    mode: Mode
    hosts: tuple[str, ...]
    expires: float

    def allows(self, host: str) -> bool:
        """Tell whether a mail host is one of the domain's; ``*`` stands for exactly one label (§ 4.1)."""
        return any(host == one or (one[0] == "*" and host.partition(".")[2] == one[2:]) for one in self.hosts)


def read_record(texts: Sequence[str]) -> str | None:
    """Return the policy's id; None when there is no record, more than one, or none that can be read (§ 3.1)."""
    records = [match[1] for text in texts if (match := _RECORD.fullmatch(text))]
    if len(records) != 1:
        return None
    fields = dict(part.strip().partition("=")[::2] for part in records[0].split(";") if part.strip())
    found = fields.get("id", "").strip()
    return found if _ID.fullmatch(found) else None


def read_policy(text: str, *, id: str, now: float) -> Policy:
    """Read a policy's text (§ 3.2); keys nobody knows are passed over.

    Raises:
        ValueError: it is not a policy.

    """
    fields: dict[str, str] = {}
    hosts: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        key, colon, rest = line.partition(":")
        key, value = key.strip(), rest.strip()
        if not colon:
            if line.strip():
                raise ValueError("a line without a colon")
        elif key == "mx":
            hosts.append(value.lower().rstrip("."))
        else:
            fields.setdefault(key, value)
    if fields.get("version") != "STSv1":
        raise ValueError("the version is not STSv1")
    mode = msgspec.convert(fields.get("mode"), Mode)
    if not re.fullmatch(r"[0-9]{1,10}", fields.get("max_age", "")):
        raise ValueError("max_age is not a number of seconds")
    if len(hosts) > MOST_HOSTS or not all(_HOST.fullmatch(host) for host in hosts) or (mode != "none" and not hosts):
        raise ValueError("mx names no hosts, or too many")
    return Policy(id, mode, tuple(hosts), now + min(int(fields["max_age"]), LONGEST))


def read_answer(answer: Answer, *, id: str, now: float) -> Policy:
    """Read what the policy's server answered (§ 3.3).

    Raises:
        ValueError: it is not a policy.

    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status != 200 or kind != "text/plain" or len(answer.body) > LARGEST:
        raise ValueError(f"the answer is {answer.status}, {kind or 'of no type'}, {len(answer.body)} bytes")
    return read_policy(answer.body.decode("utf-8"), id=id, now=now)


LOAD = """
SELECT id, mode, hosts, extract(epoch FROM expires_at - now())::float8 AS left FROM mx_policies WHERE domain = $1 AND expires_at > now()
"""

SAVE = """
INSERT INTO mx_policies (domain, id, mode, hosts, expires_at) VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
ON CONFLICT (domain) DO UPDATE SET id = excluded.id, mode = excluded.mode, hosts = excluded.hosts, expires_at = excluded.expires_at
"""


class Policies:
    """The policies one process knows. ``outgoing`` fetches them, from public addresses only."""

    def __init__(self, answers: Answers, outgoing: Outgoing, pool: Pool | None = None) -> None:
        self._answers = answers
        self._outgoing = outgoing
        self._pool = pool
        self._kept: dict[str, Policy] = {}
        self._failed: dict[str, float] = {}

    async def enforced(self, domain: str) -> Policy | None:
        """Return the policy that binds letters to a domain, or None."""
        now = asyncio.get_running_loop().time()
        try:
            id = read_record((await self._answers.get(domain, "STS")).answers)
        except Unanswered:
            id = None
        kept = await self._known(domain, now)
        if id is not None and (kept is None or kept.id != id) and self._failed.get(domain, 0.0) <= now:
            kept = await self._fetch(domain, id) or kept
        return kept if kept is not None and kept.mode == "enforce" else None

    async def _known(self, domain: str, now: float) -> Policy | None:
        kept = self._kept.get(domain)
        if kept is not None and kept.expires > now:
            return kept
        if self._pool is None:
            return None
        try:
            async with self._pool.acquire() as db:
                rows = await db.fetch(LOAD, domain)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            log.warning("MTA-STS policies wait for the database: %s", error)
            return None
        if not rows:
            return None
        row = rows[0]
        return self._keep(domain, Policy(row["id"], row["mode"], tuple(row["hosts"]), now + row["left"]))

    def _keep(self, domain: str, policy: Policy) -> Policy:
        if len(self._kept) >= MOST:
            self._kept.clear()
        self._kept[domain] = policy
        return policy

    async def _fetch(self, domain: str, id: str) -> Policy | None:
        loop = asyncio.get_running_loop()
        try:
            answer = await self._outgoing.get(f"https://mta-sts.{domain}/.well-known/mta-sts.txt")
            policy = read_answer(answer, id=id, now=loop.time())
        except (Unreachable, ValueError, msgspec.ValidationError) as error:
            log.info("the MTA-STS policy of %s cannot be used: %s", domain, error)
            if len(self._failed) >= MOST:
                self._failed.clear()
            self._failed[domain] = loop.time() + AGAIN
            return None
        self._keep(domain, policy)
        if self._pool is not None:
            try:
                async with self._pool.acquire() as db:
                    left = policy.expires - loop.time()
                    await db.execute(SAVE, domain, policy.id, policy.mode, list(policy.hosts), left)
            except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
                log.warning("an MTA-STS policy cannot be kept: %s", error)
        return policy
