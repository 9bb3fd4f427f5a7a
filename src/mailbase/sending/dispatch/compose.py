"""Composing: a leased letter becomes the bytes that go out: filled in, with its headers, signed.

Everything that is the same for a whole campaign is prepared once a process (:class:`Stream`); a letter then costs one
filling, its own headers and one signature.
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec
from asyncpg import Record
from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import MailbaseError
from mailbase.letters import mime, plaintext
from mailbase.letters.compile import Compiled, Filler
from mailbase.letters.content import Attachment, Person, Sender, Tokens
from mailbase.letters.mime import HeaderPlan
from mailbase.sending.deliveries.leases import CampaignLetter, MessageLetter
from mailbase.sending.domains import verp
from mailbase.sending.labels import Label
from mailbase.sending.outcomes import Envelope
from mailbase.sending.signing.dkim import Signer, finished
from mailbase.tokens import Tokens as Signing

log = logging.getLogger(__name__)

KEPT: Final = 32
FRESH: Final = 60.0
"""Seconds for which a worker believes what it last read of a domain's bounce address."""

STREAM = """
SELECT campaign.from_name, campaign.from_email, campaign.reply_to, campaign.headers, campaign.compiled, domain.name AS domain, domain.verp
FROM campaigns AS campaign JOIN domains AS domain ON domain.id = campaign.domain_id
WHERE campaign.id = $1 AND campaign.compiled IS NOT NULL
"""


class Draft(Struct, gc=False):
    """A composed letter that lacks its signature: the text to sign, and the header's beginning."""

    envelope: Envelope
    signer: Signer
    text: bytes
    start: bytes


class Stream:
    """One campaign, ready to be filled in."""

    def __init__(self, campaign_id: int, row: Record, *, public_url: str, tokens: Signing) -> None:
        domain: str = row["domain"]
        sender = Sender(row["from_name"], row["from_email"])
        self._mail_from = sender.email
        self._domain = sender.email.rpartition("@")[2]
        self._returns = domain
        self._tokens = tokens
        self._unsubscribe = f"{public_url}/u/"
        compiled = msgspec.msgpack.decode(row["compiled"], type=Compiled)
        self._filler = Filler(compiled)
        self._shows_view = any("view_url" in part for part in (compiled.subject, compiled.text, compiled.html or ""))
        extra: dict[str, str] = row["headers"]
        plain, with_returns = (
            HeaderPlan(
                sender,
                reply_to=row["reply_to"],
                list_id=(sender.name, f"newsletter.{domain}"),
                feedback_id=f"c{campaign_id}:{domain}:newsletter:{sender_id(domain)}",
                msgtype=f"campaign{campaign_id}",
                bulk=True,
                extra=headers,
            )
            for headers in (extra, {**extra, "CFBL-Address": f"{verp.complaints_address(domain)}; report=arf"})
        )
        self._plans = {False: plain, True: with_returns}
        self.verp: bool = row["verp"]
        """Whether letters come back to an address of our own; may change while the campaign runs."""
        self._clean = sender.email.isascii() and (row["reply_to"] or "").isascii()

    def compose(  # noqa: PLR0917  (the letter, then what it is made with)
        self,
        letter: CampaignLetter,
        email: str,
        interests: Mapping[int, str],
        signer: Signer | None,
        now: datetime,
        labels: Sequence[Label] = (),
    ) -> Envelope | Draft:
        """Return the letter to ``email``, as a draft for :func:`seal` where it is to be signed; ``labels`` are never signed.

        Raises:
            Invalid: the template fails on this person's values.

        """
        subscriber_id = letter.subscriber_id or 0
        sign = self._tokens.sign
        tokens = Tokens(
            letter=sign("letter", letter.id),
            unsubscribe=sign("unsubscribe", subscriber_id, letter.id),
            preferences=sign("preferences", subscriber_id, letter.id),
            view=sign("view", letter.id) if self._shows_view else "",
        )
        person = Person(
            id=subscriber_id,
            email=email,
            attributes=letter.attributes or {},
            interests=[interests[id] for id in letter.interests or () if id in interests],
            tags=letter.tags or [],
            locale=letter.locale,
            timezone=letter.timezone,
        )
        filled = self._filler.fill(person, tokens)
        mail_from, mailto, ref = self._mail_from, None, None
        if self.verp:
            ref = verp.ref(self._tokens, letter.id)
            mail_from = verp.envelope_sender(ref, self._returns)
            mailto = verp.unsubscribe_address(ref, self._returns)
        message_id = mime.message_id(letter.id, letter.created_at, self._domain)
        headers = self._plans[self.verp].fill(
            email,
            message_id,
            now,
            unsubscribe_url=self._unsubscribe + tokens.unsubscribe,
            unsubscribe_mailto=mailto,
            ref=ref,
        )
        headers += filled.headers
        headers += [label.fill(message_id) for label in labels]
        clean = self._clean and email.isascii()
        envelope = Envelope(
            letter.id, mail_from, email, _lines(headers), clean, provider=letter.provider, pieces=filled.pieces
        )
        if signer is None:
            return envelope
        return Draft(envelope, signer, *signer.draft(headers, filled.pieces, now=int(now.timestamp())))


def sender_id(domain: str) -> str:
    """Return the last field of Feedback-ID: 12 characters, the same for everything a domain sends."""
    return "mb" + hashlib.sha256(domain.encode()).hexdigest()[:10]


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"\r\n".join([*[b"%b: %b" % header for header in headers], b"", b""])


def seal(drafts: Iterable[Draft]) -> None:
    """Sign letters: all signatures together, since they leave little of anything else in the caches."""
    for signer, group in groupby(drafts, key=attrgetter("signer")):
        row = list(group)
        for draft, signature in zip(row, signer.raw_all([draft.text for draft in row]), strict=True):
            draft.envelope.data = b"%b\r\n%b" % (finished(draft.start, signature), draft.envelope.data)


VERP = """
SELECT domain.verp FROM campaigns AS campaign JOIN domains AS domain ON domain.id = campaign.domain_id WHERE campaign.id = $1
"""


class Streams:
    """The campaigns this process is sending."""

    def __init__(self, *, public_url: str, tokens: Signing) -> None:
        self._public_url = public_url
        self._tokens = tokens
        self._known: dict[int, Stream] = {}
        self._read: dict[int, float] = {}
        self._unreadable: set[int] = set()

    async def get(self, db: Connection, campaign_id: int) -> Stream | None:
        """Return a campaign's stream; None when it has no frozen content, or content this version cannot read."""
        stream = self._known.get(campaign_id)
        if stream is None:
            rows = await db.fetch(STREAM, campaign_id)
            if not rows:
                return None
            if len(self._known) >= KEPT:
                self._known.clear()
            try:
                stream = Stream(campaign_id, rows[0], public_url=self._public_url, tokens=self._tokens)
            except (msgspec.DecodeError, MailbaseError):
                # The other campaigns' letters must not wait for it.
                if campaign_id not in self._unreadable:
                    log.exception("campaign %d cannot be sent: its frozen content cannot be read", campaign_id)
                    self._unreadable.add(campaign_id)
                return None
            self._known[campaign_id] = stream
            self._read[campaign_id] = time.monotonic()
        elif self._read[campaign_id] < time.monotonic() - FRESH:
            stream.verp = await db.fetchval(VERP, campaign_id)
            self._read[campaign_id] = time.monotonic()
        return stream


ATTACHMENTS = """
SELECT filename, content_type, content FROM message_attachments WHERE message_id = $1 ORDER BY seq
"""


async def attachments(db: Connection, message_id: int) -> list[Attachment]:
    """Return a message's files."""
    return [Attachment(**row) for row in await db.fetch(ATTACHMENTS, message_id)]


def message(
    letter: MessageLetter,
    files: list[Attachment],
    signer: Signer | None,
    now: datetime,
    *,
    tokens: Signing | None = None,
    labels: Sequence[Label] = (),
) -> Envelope:
    """Return a finished message. Confirmations say that no person wrote them (RFC 3834).

    With ``tokens`` it carries its reference, and comes back to an address of our own where the domain has one.

    Raises:
        Invalid: something in it fits no header.

    """
    sender = Sender(letter.from_name, letter.from_email)
    text = letter.text
    if text is None:
        text = plaintext.from_rendered(letter.html) if letter.html else ""
    filled = mime.assemble(letter.subject, text, letter.html, files)
    plan = HeaderPlan(
        sender, reply_to=letter.reply_to, auto_submitted=letter.kind == "confirmation", extra=letter.headers
    )
    ref = verp.ref(tokens, letter.id) if tokens else None
    message_id = mime.message_id(letter.id, letter.created_at, letter.from_email.rpartition("@")[2])
    headers = plan.fill(letter.email, message_id, now, ref=ref)
    headers += filled.headers
    headers += [label.fill(message_id) for label in labels]
    mail_from = verp.envelope_sender(ref, letter.returns) if ref and letter.returns else letter.from_email
    body = filled.body
    if signer is not None:
        # A file's name may hold what relaxed canonicalisation would change.
        signature = signer.sign(headers, body, now=int(now.timestamp()), canonical=not files)
        headers.insert(0, (b"DKIM-Signature", signature.removeprefix(b"DKIM-Signature: ")))
    head = _lines(headers)
    return Envelope(
        letter.id,
        mail_from,
        letter.email,
        head,
        head.isascii() and body.isascii(),
        provider=letter.provider,
        pieces=filled.pieces,
    )
