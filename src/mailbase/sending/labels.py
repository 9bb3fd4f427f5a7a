"""Labels: headers by which a mail service says in its webhooks which letter an event is about.

Some services give letters a Message-ID of their own; each reports one thing back as it was given. What they get is our Message-ID,
which ``signals.providers_in`` looks for. Amazon needs none: it reports the letter's own headers.

Sources: developers.brevo.com/docs/custom-headers, postmarkapp.com/support/article/1125-custom-metadata-faq,
docs.sendgrid.com/for-developers/sending-email/unique-arguments, documentation.mailgun.com/docs/mailgun/user-manual/sending-messages.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct


class Label(Struct, frozen=True):
    """A header; the letter's Message-ID, without its brackets, stands between ``before`` and ``after``."""

    name: bytes
    before: bytes = b""
    after: bytes = b""

    def fill(self, message_id: str) -> tuple[bytes, bytes]:
        """Return the header of one letter."""
        return self.name, b"%b%b%b" % (self.before, message_id.strip("<>").encode(), self.after)


POSTMARK: Final = (Label(b"X-PM-Metadata-mailbase-ref"),)
SENDGRID: Final = (Label(b"X-SMTPAPI", b'{"unique_args": {"mailbase_ref": "', b'"}}'),)
MAILGUN: Final = (Label(b"X-Mailgun-Variables", b'{"mailbase_ref": "', b'"}'),)
BREVO: Final = (Label(b"X-Mailin-custom"),)

BY_HOST: Final = {
    "brevo.com": BREVO,
    "sendinblue.com": BREVO,
    "postmarkapp.com": POSTMARK,
    "mtasv.net": POSTMARK,
    "sendgrid.net": SENDGRID,
    "mailgun.org": MAILGUN,
}
"""Labels by the domain a relay's host is in."""


def labels_for(host: str | None) -> Sequence[Label]:
    """Return the labels letters carry over a relay; none where the host is nobody's we know."""
    name = (host or "").lower().rstrip(".")
    return next((labels for domain, labels in BY_HOST.items() if f".{name}".endswith(f".{domain}")), ())
