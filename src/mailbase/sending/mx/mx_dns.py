"""DNS for sending straight to the recipients' servers: answers with their time to live, kept in the process and for all workers.

    memory ─ not there ─▶ mx_answers ─ not there, or too old ─▶ DNS ─▶ mx_answers, memory

An answer is kept for its time to live, between a minute and a day; "there is nothing" for five minutes, together with since
when that has been the answer. No answer (time-out, SERVFAIL) is no answer: it is remembered for half a minute, in the process.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Literal, Protocol

import asyncpg
import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
from msgspec import Struct

from mailbase.db import CONNECTION_ERRORS, Connection, Pool
from mailbase.sending.dns import Unanswered, resolver

log = logging.getLogger(__name__)

Kind = Literal["MX", "ADDRESS", "STS"]
"""MX: ``10 mx.example.com``, best first; ADDRESS: IPv4 and then IPv6 addresses; STS: texts at ``_mta-sts.`` before the name."""

SHORTEST: Final = 60.0
LONGEST: Final = 86_400.0
NOTHING: Final = 300.0
SILENCE: Final = 30.0
MOST: Final = 50_000
"""Answers kept in a process."""


class Told(Struct, frozen=True):
    """What DNS said just now. No ``answers``: there are none of this kind."""

    answers: tuple[str, ...]
    ttl: float


class Answer(Struct, frozen=True):
    """What is known. ``expires`` is the loop's time; ``missing_for`` seconds ago the answer first was that there is nothing."""

    answers: tuple[str, ...]
    expires: float
    missing_for: float | None = None


class MxResolver(Protocol):
    """What is asked of DNS."""

    async def ask(self, name: str, kind: Kind) -> Told:
        """Look a name up.

        Raises:
            Unanswered: nobody said anything about it.

        """


class DnsMxResolver:
    """Ask over dnspython; ``servers`` are (host, port), none: the system's."""

    def __init__(self, servers: Sequence[tuple[str, int]] = ()) -> None:
        self._resolver = resolver(servers)

    async def ask(self, name: str, kind: Kind) -> Told:
        """Look a name up."""
        match kind:
            case "MX":
                found = await self._ask(name, "MX")
                records = [text.lower().split(" ", 1) for text in found.answers]
                hosts = sorted((int(preference), host) for preference, host in records)
                return Told(tuple(f"{preference} {host}" for preference, host in hosts), found.ttl)
            case "STS":
                return await self._ask(f"_mta-sts.{name}", "TXT")
            case "ADDRESS":
                return await self._addresses(name)

    async def _addresses(self, name: str) -> Told:
        four, six = await asyncio.gather(self._ask(name, "A"), self._ask(name, "AAAA"), return_exceptions=True)
        told = [one for one in (four, six) if isinstance(one, Told)]
        answers = tuple(address for one in told for address in one.answers)
        for one in (four, six):
            if isinstance(one, BaseException) and (not answers or not isinstance(one, Unanswered)):
                raise one
        return Told(answers, min(one.ttl for one in told if one.answers or not answers))

    async def _ask(self, name: str, kind: str) -> Told:
        try:
            answer = await self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return Told((), NOTHING)
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise Unanswered(f"{name} {kind}: {error}") from None
        if answer.rrset is None:
            return Told((), NOTHING)
        if kind == "TXT":
            texts = [b"".join(item.strings).decode("utf-8", "replace") for item in answer]
        else:
            texts = [item.to_text() for item in answer]
        return Told(tuple(texts), min(max(float(answer.rrset.ttl), SHORTEST), LONGEST))


LOAD = """
SELECT answers, extract(epoch FROM expires_at - now())::float8 AS left, extract(epoch FROM now() - missing_since)::float8 AS missing_for
FROM mx_answers WHERE name = $1 AND kind = $2 AND expires_at > now()
"""

SAVE = """
INSERT INTO mx_answers AS known (name, kind, found, answers, expires_at, missing_since)
VALUES ($1, $2, cardinality($3::text[]) > 0, $3, now() + make_interval(secs => $4), CASE WHEN cardinality($3::text[]) = 0 THEN now() END)
ON CONFLICT (name, kind) DO UPDATE SET found = excluded.found, answers = excluded.answers, expires_at = excluded.expires_at,
    missing_since = CASE WHEN NOT excluded.found THEN COALESCE(known.missing_since, now()) END
RETURNING extract(epoch FROM now() - missing_since)::float8 AS missing_for
"""

FORGET = """
WITH policies AS (DELETE FROM mx_policies WHERE expires_at < now()), broken AS (DELETE FROM mx_broken_tls WHERE until < now())
DELETE FROM mx_answers WHERE expires_at < now() - interval '7 days'
"""


async def forget_old(db: Connection) -> None:
    """Forget domains nobody has written to for a week, and what no longer holds."""
    await db.execute(FORGET)


class Answers:
    """The look-ups of one process. ``pool`` None: known to this process alone."""

    def __init__(self, resolver: MxResolver, pool: Pool | None = None) -> None:
        self._resolver = resolver
        self._pool = pool
        self._known: dict[tuple[str, Kind], Answer | Unanswered] = {}
        self._silent: dict[tuple[str, Kind], float] = {}
        self._asking: dict[tuple[str, Kind], asyncio.Task[Answer]] = {}

    async def get(self, name: str, kind: Kind) -> Answer:
        """Return what is known of a name, asking if need be; the same question is asked once at a time.

        Raises:
            Unanswered: nobody said anything about it.

        """
        key = (name, kind)
        now = asyncio.get_running_loop().time()
        known = self._known.get(key)
        if isinstance(known, Answer) and known.expires > now:
            return known
        if isinstance(known, Unanswered) and self._silent[key] > now:
            raise Unanswered(str(known))
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._look(key))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def _done(self, key: tuple[str, Kind], task: asyncio.Task[Answer]) -> None:
        del self._asking[key]
        if task.cancelled():
            return
        if len(self._known) >= MOST:
            self._known.clear()
            self._silent.clear()
        error = task.exception()
        if error is None:
            self._known[key] = task.result()
        elif isinstance(error, Unanswered):
            self._known[key] = error
            self._silent[key] = asyncio.get_running_loop().time() + SILENCE

    async def _look(self, key: tuple[str, Kind]) -> Answer:
        name, kind = key
        now = asyncio.get_running_loop().time
        try:
            if (row := await self._load(name, kind)) is not None:
                return Answer(tuple(row["answers"]), now() + row["left"], row["missing_for"])
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            log.warning("known mail hosts wait for the database: %s", error)
        told = await self._resolver.ask(name, kind)
        missing_for = None if told.answers else 0.0
        try:
            missing_for = await self._save(name, kind, told, missing_for)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            log.warning("mail hosts cannot be kept: %s", error)
        return Answer(told.answers, now() + told.ttl, missing_for)

    async def _load(self, name: str, kind: Kind) -> asyncpg.Record | None:
        if self._pool is None:
            return None
        async with self._pool.acquire() as db:
            rows = await db.fetch(LOAD, name, kind)
        return rows[0] if rows else None

    async def _save(self, name: str, kind: Kind, told: Told, missing_for: float | None) -> float | None:
        if self._pool is None:
            return missing_for
        answers = [text.replace("\0", "") for text in told.answers]
        async with self._pool.acquire() as db:
            found: float | None = await db.fetchval(SAVE, name, kind, answers, told.ttl)
        return found
