"""What is handed over and what becomes of it: the shapes every way out shares.

A transport is handed a batch and reports exactly one :class:`Outcome` for each letter, at the moment it is known:

=============  =======================================================================================
``sent``       the other side took responsibility (2xx after the content)
``refused``    refused for good, this letter alone (5xx at RCPT or later); ``bounce_class`` says which way
``deferred``   refused for now, this letter alone (4xx at RCPT or later)
``relay``      refused before a recipient was named, or nobody there: ours, not the letter's; try later
``sender``     refused for good at MAIL for who it is from: its domain's matter, not the way out's
``not_sent``   the connection went before the content's end was written; the letter may be sent again
``unknown``    the content's end was written and no reply came: nobody can tell
=============  =======================================================================================
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

Kind = Literal["sent", "refused", "deferred", "relay", "sender", "not_sent", "unknown"]
BounceClass = Literal["hard", "soft", "block"]
Phase = Literal["connect", "greeting", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "content", "outbox"]


class Envelope(msgspec.Struct, gc=False):
    """One letter to hand over, with CRLF line ends: ``data`` and ``pieces`` are the whole message, signature included."""

    delivery_id: int
    mail_from: str
    """The envelope sender; empty for the null sender."""
    rcpt_to: str
    data: bytes
    """The message, or its headers alone."""
    clean: bool = False
    """True promises: ASCII only, CRLF line ends only and at the end, no line starts with a dot."""
    holds: Callable[[], bool] | None = None
    """Asked at the last moment before content goes out; False: the letter is no longer ours to send (``not_sent``)."""
    provider: str = "other"
    """Who stands behind the recipient's domain; a way out that goes there itself keeps each one's limits."""
    pieces: tuple[bytes, ...] = ()
    """What follows: most of it the same bytes for every letter of a campaign, so it is not joined (and copied) before it leaves."""
    revoked: bool = False
    """Set when a second look found that it may not go out any more."""
    begins: Callable[[], None] | None = None
    """To be called just before the other side may have the whole letter: from then on a crash leaves it in doubt."""

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        return sum(map(len, self.pieces), len(self.data))

    @property
    def message(self) -> bytes:
        """The whole message."""
        return b"".join((self.data, *self.pieces))

    def ours(self) -> bool:
        """Whether it may still be sent."""
        return not self.revoked and (self.holds is None or self.holds())

    def begin(self) -> None:
        """Note that the end of the content leaves now. Every way out calls this before that."""
        if self.begins is not None:
            self.begins()


class Outcome(msgspec.Struct, gc=False):
    """What became of one letter, in the other side's words."""

    delivery_id: int
    kind: Kind
    code: int
    """The SMTP reply code; 0 when there was none."""
    enhanced: str | None
    """RFC 3463 status, such as ``5.1.1``."""
    reply: str
    """The reply's text, or our own sentence when there was none."""
    phase: Phase
    bounce_class: BounceClass | None = None
    """Set when ``kind`` is ``refused`` or ``sender``."""
    retry_after: int | None = None
    """Seconds, when the other side said when to come back."""
    reason: str | None = None
    """Why, in one word, when ``kind`` is ``refused``, ``deferred`` or ``sender``."""
    free: bool = False
    """True with ``deferred``: nothing was asked about this letter (its provider turned us away, or has no room), so the
    attempt does not count; ``retry_after`` says when to come back. True with ``not_sent``: we held it back ourselves."""
    provider: str | None = None
    """Who it was that said so, where the envelope did not know it yet."""
    denied: bool = False
    """True with ``refused`` or ``deferred``: a relay would not pass this letter on, for our sake as it says (we may not relay there,
    or not any more). The reader has nothing to do with it."""
    stops: bool = False
    """True: with this, a relay has denied so many letters in a row that its way out is to be stopped."""


OnOutcome = Callable[[Outcome], None]

STALE: Final = "it was no longer ours to send"


def stale(envelope: Envelope, phase: Phase = "data") -> Outcome:
    """Return the outcome of a letter that is no longer ours, or may not go out any more; nothing of it went out."""
    return Outcome(envelope.delivery_id, "not_sent", 0, None, STALE, phase, free=True)
