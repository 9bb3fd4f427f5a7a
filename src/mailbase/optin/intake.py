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

import logging
import secrets
from collections.abc import Sequence
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
from mailbase.audience.gathering import AWAY, GATHER, Gathering, Waiting
from mailbase.audience.known_forms import Known
from mailbase.db import Connection, Pool
from mailbase.letters.content import Rendered
from mailbase.optin import letter, mailboxes
from mailbase.optin.confirmation import Act, Desk, title_of
from mailbase.optin.entry import Entry
from mailbase.optin.submit import Taken, Visitor, evidence_of
from mailbase.optin.words import Words, words
from mailbase.vault import keyed_hash

logger = logging.getLogger(__name__)

Other = Literal["other", "stale"]

_MARK: Final = secrets.token_hex(12)
"""Stands for the confirmation's token in letters that are the same otherwise."""


class Candidate(Struct, kw_only=True):
    """A submission of somebody who may be new; nothing speaks against it."""

    known: Known
    entry: Entry
    visitor: Visitor
    words: str
    """What a form without consents of its own says beside its button."""


class _Ready(Struct):
    desk: Desk
    candidate: Candidate
    sender: Sender
    locale: str
    framed: Rendered
    erased: str
    mailbox: bytes


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


# Not EXISTS: it may be planned as a hash of the whole table.
LOOK = """
SELECT n, now() AS at, nextval('confirmations_id_seq') AS confirmation_id,
    (SELECT concat_ws(' ', form.xmin, (SELECT xmin FROM settings), (
        SELECT string_agg(interest.xmin::text, ' ' ORDER BY interest.id)
        FROM jsonb_array_elements(form.definition -> 'interests') AS asked (id) JOIN interests AS interest ON interest.id = asked.id::bigint))
     FROM forms AS form WHERE form.id = form_id) AS version,
    COALESCE((SELECT true FROM suppressions WHERE value IN (key, given.domain, erased) LIMIT 1),
        (SELECT true FROM subscribers WHERE email_key = key), (SELECT true FROM confirmation_cooldowns WHERE address = mailbox), false) AS known
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
    SELECT form_id, key AS dimension, value, count(*) AS n, row_number() OVER (PARTITION BY form_id, key ORDER BY value) AS nth
    FROM taken CROSS JOIN LATERAL jsonb_each_text(counted) WHERE asked GROUP BY 1, 2, 3
), kept AS (
    SELECT form_id, dimension, CASE
        WHEN value = '' OR (SELECT true FROM form_counts AS count
            WHERE count.form_id = named.form_id AND day = current_date AND count.dimension = named.dimension AND count.value = named.value LIMIT 1) THEN value
        WHEN (SELECT true FROM form_counts AS count
            WHERE count.form_id = named.form_id AND day = current_date AND count.dimension = named.dimension AND count.value = $4 LIMIT 1) THEN $4
        WHEN nth + (SELECT count(DISTINCT count.value) FROM form_counts AS count
            WHERE count.form_id = named.form_id AND day = current_date AND count.dimension = named.dimension AND count.value <> '')
            <= ($5::json ->> dimension)::integer THEN value
        ELSE $4 END AS value, n
    FROM named
), moved AS (
    INSERT INTO form_counts (form_id, day, dimension, value, what, slot, n)
    SELECT form_id, current_date, dimension, value, 'submit', pg_backend_pid() % 64, sum(n) FROM kept GROUP BY 1, 3, 4 ORDER BY 1, 3, 4
    ON CONFLICT (form_id, day, dimension, value, what, slot) DO UPDATE SET n = form_counts.n + excluded.n
)
SELECT n, submission.id, submission.outcome FROM taken JOIN submission USING (subscriber_id)
"""


class Intake(Gathering[_Ready, Taken | Other]):
    """Stores submissions."""

    def __init__(self, pool: Pool, *, gather: float = GATHER) -> None:
        super().__init__(pool, gather=gather)
        self._seen: list[asyncpg.Record] = []

    async def take(self, desk: Desk, candidate: Candidate) -> Taken | Other:
        """Store a submission with everything that follows from it; return once that is committed.

        ``other``: nothing was done, it has to go the ordinary way. ``stale``: nothing was done, the form is not that any more.

        Raises:
            Unavailable: the database does not answer, or too many wait.

        """
        ready = _prepare(desk, candidate)
        return "other" if ready is None else await self.ask(ready)

    async def look(self, db: Connection, batch: Sequence[Waiting[_Ready, Taken | Other]]) -> None:
        """Look up who is known, and which forms are others by now."""
        self._seen = await db.fetch(
            LOOK,
            [one.item.candidate.known.form.id for one in batch],
            [one.item.candidate.entry.address.key for one in batch],
            [one.item.candidate.entry.address.domain for one in batch],
            [one.item.erased for one in batch],
            [one.item.mailbox for one in batch],
        )

    async def write(self, db: Connection, batch: Sequence[Waiting[_Ready, Taken | Other]]) -> None:
        """Store those of the batch that are new."""
        written: list[tuple[Waiting[_Ready, Taken | Other], tuple[_Row, str, str]]] = []
        boxes: set[bytes] = set()
        for one, seen in zip(batch, self._seen, strict=True):
            if seen["version"] != one.item.candidate.known.version:
                one.tell("stale")
            elif seen["known"] or one.item.mailbox in boxes:
                one.tell("other")
            elif not one.answer.done():  # who has gone meanwhile is told nothing, and stored nothing of
                boxes.add(one.item.mailbox)
                written.append((one, _row(len(written), one.item, seen)))
        if not written:
            return
        try:
            stored = await db.fetch(
                STORE,
                msgspec.json.encode([row for _, (row, _, _) in written]).decode(),
                [html for _, (_, html, _) in written],
                [text for _, (_, _, text) in written],
                OTHERS,
                _MOST,
            )
        except AWAY:
            raise
        except asyncpg.PostgresError as error:  # whatever one of them has wrong, it is found out where each goes alone
            logger.warning("submissions cannot be stored together: %s", error)
            stored = []
        for row in stored:
            written[row["n"]][0].tell(Taken(row["id"], row["outcome"]))
        for one, _ in written:
            one.tell("other")  # somebody was faster


_MOST: Final = msgspec.json.encode(MOST).decode()


def _prepare(desk: Desk, candidate: Candidate) -> _Ready | None:
    """Return what is stored, or None: this cannot go together with others."""
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
        settings.accent,
        locale,
        words(locale),
        own,
    )
    return _Ready(
        desk=desk,
        candidate=candidate,
        sender=sender,
        locale=locale,
        framed=framed,
        erased=suppressions.erased_value(address.key, desk.erasure_key),
        mailbox=keyed_hash(desk.erasure_key, mailbox.key),
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
    accent: str | None,
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
        accent=accent,
        locale=locale,
    )
    return letter.compose(asked, own)


def _row(n: int, one: _Ready, seen: asyncpg.Record) -> tuple[_Row, str, str]:
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
