"""Submissions of people nobody knows yet, stored many at a time: the common case, and the one that comes in floods.

::

    take ─▶ waiting ─▶ look: one statement ──somebody new──▶ store: one statement, one commit ─▶ accepted | cooldown
                          │                                      │
                          │ known, barred, cooling down          │ somebody was faster
                          ├──────────────────────────────────────┴──▶ OTHER: the ordinary way (``submit``), alone
                          └─ the form is another than was remembered ─▶ STALE: to be read and asked again

What is stored is what ``submit`` stores, to the letter. Nobody is answered before the commit that holds their submission; a commit of which
nothing is heard is answered as such, like any other. Submissions gather for a moment that their answers wait for anyway.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, Literal

import asyncpg
import msgspec
from msgspec import Struct

from mailbase.audience import suppressions
from mailbase.audience.form_counts import MOST, short_page, short_source, short_word
from mailbase.audience.form_counts import OTHER as OTHERS
from mailbase.audience.form_definition import Confirmation, Sender
from mailbase.audience.known_forms import Known
from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.errors import Unavailable
from mailbase.letters.content import Rendered
from mailbase.optin import letter, mailboxes
from mailbase.optin.confirmation import Act, Desk, title_of
from mailbase.optin.entry import Entry
from mailbase.optin.submit import Taken, Visitor, evidence_of
from mailbase.optin.words import Words, words
from mailbase.vault import keyed_hash

logger = logging.getLogger(__name__)

GATHER: Final = 0.008
"""Seconds for which submissions gather; answers leave at multiples of several times that."""
BATCH: Final = 64
WAITING: Final = 2_000

Other = Literal["other", "stale"]

_MARK: Final = secrets.token_hex(12)
"""Stands for the confirmation's token in letters that are the same otherwise."""
_AGAIN: Final = (*CONNECTION_ERRORS, TimeoutError)


class Candidate(Struct, kw_only=True):
    """A submission of somebody who may be new; nothing speaks against it."""

    known: Known
    entry: Entry
    visitor: Visitor
    words: str
    """What a form without consents of its own says beside its button."""


class _Waiting(Struct):
    desk: Desk
    candidate: Candidate
    sender: Sender
    locale: str
    framed: Rendered
    erased: str
    mailbox: bytes
    since: float
    answer: asyncio.Future[Taken | Other]


class _Row(Struct):
    """One submission as ``STORE`` reads it."""

    n: int
    email: str
    email_key: str
    domain: str
    mailbox: str
    form_id: int
    fields: dict[str, Any]
    interests: list[int]
    chosen: list[int]
    language: str | None
    locale: str
    page: str | None
    ip: str | None
    user_agent: str | None
    whence: dict[str, Any]
    evidence: dict[str, Any]
    confirmation_id: int
    from_name: str
    from_email: str
    from_domain: str
    subject: str
    counted: dict[str, str]


LOOK = """
SELECT n, now() AS at, nextval('confirmations_id_seq') AS confirmation_id,
    (SELECT concat_ws(' ', form.xmin, (SELECT xmin FROM settings), (
        SELECT string_agg(interest.xmin::text, ' ' ORDER BY interest.id)
        FROM jsonb_array_elements(form.definition -> 'interests') AS asked (id) JOIN interests AS interest ON interest.id = asked.id::bigint))
     FROM forms AS form WHERE form.id = form_id) AS version,
    EXISTS (SELECT FROM suppressions WHERE value IN (key, given.domain, erased))
        OR EXISTS (SELECT FROM subscribers WHERE email_key = key)
        OR EXISTS (SELECT FROM confirmation_cooldowns WHERE address = mailbox) AS known
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[]) WITH ORDINALITY AS given (form_id, key, domain, erased, mailbox, n)
ORDER BY n
"""

# As submit, subscribers.create, cooldowns.take, confirmation.ask, messages.create and form_counts.add do it one by one.
STORE = """
WITH given AS MATERIALIZED (
    SELECT * FROM ROWS FROM (
        json_to_recordset($1::json) AS (n bigint, email text, email_key text, domain text, mailbox text, form_id bigint, fields jsonb, interests bigint[],
            chosen bigint[], language text, locale text, page text, ip inet, user_agent text, whence jsonb, evidence jsonb, confirmation_id bigint,
            from_name text, from_email text, from_domain text, subject text, counted jsonb),
        unnest($2::text[]), unnest($3::text[])
    ) AS given (n, email, email_key, domain, mailbox, form_id, fields, interests, chosen, language, locale, page, ip, user_agent, whence, evidence,
        confirmation_id, from_name, from_email, from_domain, subject, counted, html, text)
), made AS (
    INSERT INTO subscribers (email, email_key, domain, status, attributes, interests, locale, source)
    SELECT email, email_key, domain, 'pending', fields, interests, language, 'form' FROM given ORDER BY email_key
    ON CONFLICT (email_key) DO NOTHING RETURNING id, email_key
), cooling AS (
    INSERT INTO confirmation_cooldowns (address, letters, last_at, next_at, sent)
    SELECT decode(mailbox, 'hex'), 1, now(), now() + interval '10 minutes', ARRAY[now()] FROM given JOIN made USING (email_key) ORDER BY 1
    ON CONFLICT (address) DO NOTHING RETURNING address
), taken AS MATERIALIZED (
    SELECT given.*, made.id AS subscriber_id, cooling.address IS NOT NULL AS asked, nextval('messages_id_seq') AS message_id
    FROM given JOIN made USING (email_key) LEFT JOIN cooling ON cooling.address = decode(mailbox, 'hex')
), message AS (
    INSERT INTO messages (id, kind, domain_id, subscriber_id, from_name, from_email, email, email_key, subject, html, text)
    OVERRIDING SYSTEM VALUE
    SELECT message_id, 'confirmation', (SELECT id FROM domains WHERE name = from_domain), subscriber_id, from_name, from_email, email, email_key,
        subject, html, text FROM taken WHERE asked
), delivery AS (
    INSERT INTO deliveries (message_id, subscriber_id, domain_id, provider)
    SELECT message_id, subscriber_id, (SELECT id FROM domains WHERE name = from_domain),
        COALESCE((SELECT provider FROM recipient_domains WHERE recipient_domains.domain = taken.domain), 'other') FROM taken WHERE asked
), confirmation AS (
    INSERT INTO confirmations (id, subscriber_id, form_id, interests, evidence, locale, message_id, expires_at)
    OVERRIDING SYSTEM VALUE
    SELECT confirmation_id, subscriber_id, form_id, chosen, evidence, locale, message_id, now() + interval '30 days' FROM taken WHERE asked
), submission AS (
    INSERT INTO submissions (form_id, subscriber_id, outcome, fields, interests, page, ip, user_agent, whence)
    SELECT form_id, subscriber_id, CASE WHEN asked THEN 'accepted' ELSE 'cooldown' END, fields, interests, page, ip, user_agent, whence FROM taken
    RETURNING id, subscriber_id, outcome
), told AS (
    INSERT INTO subscriber_events (subscriber_id, kind, form_id, data)
    SELECT subscriber_id, kind, event.form_id, data FROM taken CROSS JOIN LATERAL (VALUES
        (1, 'created', NULL, jsonb_build_object('source', 'form')),
        (2, 'confirmation_sent', taken.form_id, jsonb_build_object('confirmation_id', confirmation_id)),
        (3, 'submitted', taken.form_id, jsonb_build_object('outcome', CASE WHEN asked THEN 'accepted' ELSE 'cooldown' END))
    ) AS event (seq, kind, form_id, data) WHERE asked OR seq <> 2 ORDER BY subscriber_id, seq
), named AS (
    SELECT form_id, key AS dimension, value, count(*) AS n FROM taken CROSS JOIN LATERAL jsonb_each_text(counted) WHERE asked GROUP BY 1, 2, 3
), kept AS (
    SELECT form_id, dimension, CASE
        WHEN value = '' OR EXISTS (SELECT FROM form_counts AS count
            WHERE count.form_id = named.form_id AND day = current_date AND count.dimension = named.dimension AND count.value = named.value) THEN value
        WHEN EXISTS (SELECT FROM form_counts AS count
            WHERE count.form_id = named.form_id AND day = current_date AND count.dimension = named.dimension AND count.value = $4) THEN $4
        WHEN (SELECT count(DISTINCT count.value) FROM form_counts AS count
            WHERE count.form_id = named.form_id AND day = current_date AND count.dimension = named.dimension AND count.value <> '')
            < ($5::json ->> dimension)::integer THEN value
        ELSE $4 END AS value, n
    FROM named
), moved AS (
    INSERT INTO form_counts (form_id, day, dimension, value, what, slot, n)
    SELECT form_id, current_date, dimension, value, 'submit', pg_backend_pid() % 64, sum(n) FROM kept GROUP BY 1, 3, 4 ORDER BY 1, 3, 4
    ON CONFLICT (form_id, day, dimension, value, what, slot) DO UPDATE SET n = form_counts.n + excluded.n
)
SELECT n, submission.id, submission.outcome FROM taken JOIN submission USING (subscriber_id)
"""


class Intake:
    """Gathers submissions and stores them. Made by :func:`intake`; ``pool``'s statements look things up by index."""

    def __init__(self, pool: Pool, *, gather: float = GATHER) -> None:
        self._pool = pool
        self._gather = gather
        self._db: asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | None = None
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._closing = False

    async def take(self, desk: Desk, candidate: Candidate) -> Taken | Other:
        """Store a submission with everything that follows from it; return once that is committed.

        ``other``: nothing was done, it has to go the ordinary way. ``stale``: nothing was done, the form is not that any more.

        Raises:
            Unavailable: the database does not answer, or too many wait.

        """
        waiting = _prepare(desk, candidate)
        if waiting is None:
            return "other"
        if self._closing or len(self._waiting) >= WAITING:
            raise Unavailable("too many submissions wait for the database")
        self._waiting.append(waiting)
        self._wake.set()
        return await waiting.answer

    async def run(self) -> None:
        """Store batch after batch until :meth:`close` and nothing waits any more."""
        try:
            while self._waiting or not self._closing:
                if not self._waiting:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                # Never at once: many small batches cost what many submissions do.
                await asyncio.sleep(self._waiting[0].since + self._gather - time.monotonic())
                batch, twins = _apart([self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))])
                _answer(twins, "other")
                try:
                    await self._store(batch)
                except _AGAIN as error:
                    logger.warning("submissions cannot be stored: %s", error or type(error).__name__)
                    await self._release()
                    for one in batch:
                        if not one.answer.done():
                            one.answer.set_exception(Unavailable("the database does not answer"))
                except Exception:  # whatever one of them has wrong, it is found out where each goes alone
                    logger.exception("submissions cannot be stored together")
                    _answer(batch, "other")
        finally:
            await self._release()

    def close(self) -> None:
        """Take no more; :meth:`run` ends once those that wait are stored."""
        self._closing = True
        self._wake.set()

    async def _store(self, batch: Sequence[_Waiting]) -> None:
        looked = await self._look(batch)
        rows: list[tuple[_Waiting, asyncpg.Record]] = []
        for one, seen in zip(batch, looked, strict=True):
            if seen["version"] != one.candidate.known.version:
                _answer([one], "stale")
            elif seen["known"]:
                _answer([one], "other")
            elif not one.answer.done():  # who has gone meanwhile is told nothing, and stored nothing of
                rows.append((one, seen))
        if not rows:
            return
        assert self._db is not None  # noqa: S101  (what looked)
        written = [_row(n, one, seen) for n, (one, seen) in enumerate(rows)]
        stored = await self._db.fetch(
            STORE,
            msgspec.json.encode([row for row, _, _ in written]).decode(),
            [html for _, html, _ in written],
            [text for _, _, text in written],
            OTHERS,
            _MOST,
        )
        for row in stored:
            one, _ = rows[row["n"]]
            if not one.answer.done():
                one.answer.set_result(Taken(row["id"], row["outcome"]))
        _answer([one for one, _ in rows], "other")  # somebody was faster

    async def _look(self, batch: Sequence[_Waiting]) -> list[asyncpg.Record]:
        arguments = (
            [one.candidate.known.form.id for one in batch],
            [one.candidate.entry.address.key for one in batch],
            [one.candidate.entry.address.domain for one in batch],
            [one.erased for one in batch],
            [one.mailbox for one in batch],
        )
        for last in (False, True):
            try:
                if self._db is None:
                    self._db = await self._pool.acquire(timeout=30)
                return await self._db.fetch(LOOK, *arguments)
            except _AGAIN:  # a connection that ended while nobody used it says so now; looking changes nothing
                await self._release()
                if last:
                    raise
        raise AssertionError

    async def _release(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(*_AGAIN):
                await self._pool.release(db)


_MOST: Final = msgspec.json.encode(MOST).decode()


def _prepare(desk: Desk, candidate: Candidate) -> _Waiting | None:
    """Return what waits, or None: this cannot go together with others."""
    known, address = candidate.known, candidate.entry.address
    form, settings = known.form, known.settings
    sender = form.definition.from_ or settings.default_from
    own = form.definition.confirmation
    mailbox = mailboxes.of(address)
    # An owner's letter may do anything with its link, and a family of addresses has a wait of its own.
    if not form.definition.double_opt_in or sender is None or mailbox.family or (own and _uses_link(own)):
        return None
    locale = form.definition.locale or candidate.visitor.locale or settings.locale
    names = {interest.id: interest.name for interest in form.interests}
    chosen = set(candidate.entry.interests)
    framed = _framed(
        title_of(form, sender.name or sender.email),
        f"{desk.public_url}/c/{_MARK}",
        tuple(names[number] for number in known.by_name if number in chosen),
        tuple(dict.fromkeys(consent.text for consent in candidate.entry.consents)),
        settings.postal_address,
        locale,
        words(locale),
        own,
    )
    return _Waiting(
        desk=desk,
        candidate=candidate,
        sender=sender,
        locale=locale,
        framed=framed,
        erased=suppressions.erased_value(address.key, desk.erasure_key),
        mailbox=keyed_hash(desk.erasure_key, mailbox.key),
        since=time.monotonic(),
        answer=asyncio.get_running_loop().create_future(),
    )


def _uses_link(own: Confirmation) -> bool:
    return own.mjml is not None or "confirm_url" in (own.subject or "")


@lru_cache(maxsize=512)
def _framed(  # noqa: PLR0917  (what a letter depends on, its link apart)
    title: str,
    confirm_url: str,
    interests: tuple[str, ...],
    consents: tuple[str, ...],
    postal_address: str | None,
    locale: str,
    _said: Words,
    own: Confirmation | None,
) -> Rendered:
    asked = letter.Asked(
        title=title,
        confirm_url=confirm_url,
        interests=interests,
        consents=consents,
        postal_address=postal_address,
        locale=locale,
    )
    return letter.compose(asked, own)


def _row(n: int, one: _Waiting, seen: asyncpg.Record) -> tuple[_Row, str, str]:
    candidate, form = one.candidate, one.candidate.known.form
    entry, visitor, whence = candidate.entry, candidate.visitor, candidate.visitor.whence
    expires = int((seen["at"] + timedelta(days=30)).timestamp())
    token = one.desk.tokens.sign("confirm", seen["confirmation_id"], expires)
    act = Act(
        form_id=form.id,
        attributes=entry.attributes,
        consents=evidence_of(entry, visitor, candidate.words, seen["at"]),
        page=whence.page,
        source=whence.source,
        mode=whence.mode,
        trigger=whence.trigger,
    )
    row = _Row(
        n=n,
        email=entry.address.email,
        email_key=entry.address.key,
        domain=entry.address.domain,
        mailbox=one.mailbox.hex(),
        form_id=form.id,
        fields=entry.attributes,
        interests=entry.interests,
        chosen=sorted(set(entry.interests)),
        language=form.definition.locale or visitor.locale,
        locale=one.locale,
        page=visitor.page,
        ip=visitor.ip,
        user_agent=visitor.user_agent,
        whence=visitor.came(),
        evidence={"acts": [act]},
        confirmation_id=seen["confirmation_id"],
        from_name=one.sender.name,
        from_email=one.sender.email,
        from_domain=one.sender.email.rpartition("@")[2],
        subject=one.framed.subject,
        counted={
            "mode": short_word(whence.mode),
            "page": short_page(whence.page),
            "source": short_source(whence.source),
            "trigger": short_word(whence.trigger),
        },
    )
    html, text = one.framed.html or "", one.framed.text or ""
    return row, html.replace(_MARK, token), text.replace(_MARK, token)


def _apart(waiting: Sequence[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
    """Return those of different people, and those whose mailbox is another's in the batch."""
    first: dict[bytes, _Waiting] = {}
    twins = [one for one in waiting if first.setdefault(one.mailbox, one) is not one]
    return list(first.values()), twins


def _answer(batch: Sequence[_Waiting], answer: Other) -> None:
    for one in batch:
        if not one.answer.done():
            one.answer.set_result(answer)


@asynccontextmanager
async def intake(pool: Pool) -> AsyncGenerator[Intake]:
    """Take submissions for as long as the block; on the way out those that wait are stored."""
    made = Intake(pool)
    task = asyncio.create_task(made.run(), name="intake")
    try:
        yield made
    finally:
        made.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(task, 10)
