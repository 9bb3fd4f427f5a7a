"""What one letter says to a server: MAIL, RCPT and the content, by what the server offers (RFC 5321, 1870, 6152, 6531)."""

import re

from mailbase.sending.outcomes import Envelope, Outcome, stale
from mailbase.sending.smtp.session import Extensions

_ADDRESS = re.compile(r"[^\x00-\x20\x7f<>]{1,64}@[^\x00-\x20\x7f<>@]{1,255}")
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")


def unfit(envelope: Envelope, offers: Extensions) -> Outcome | None:
    """Return the refusal of a letter that this server, or any, cannot take; nothing is sent for it."""
    if not envelope.ours():
        return stale(envelope, "connect")
    ascii_only = envelope.rcpt_to.isascii() and envelope.mail_from.isascii()
    if not _ADDRESS.fullmatch(envelope.rcpt_to) or (envelope.mail_from and not _ADDRESS.fullmatch(envelope.mail_from)):
        return _hard(envelope, "5.1.3", "invalid_recipient", "this is not an address mail can be sent to")
    if not ascii_only and not offers.smtputf8:
        return _hard(
            envelope, "5.6.7", "smtputf8_unsupported", "smtputf8_unsupported: the server takes ASCII addresses only"
        )
    if offers.size and envelope.size > offers.size:
        text = f"the letter has {envelope.size} bytes, the server takes {offers.size}"
        return _soft(envelope, 552, "5.3.4", "message_too_large", text)
    if not envelope.clean and _BARE.search(envelope.message):
        # A lone LF before a dot could end the letter early for one server and not for the next ("smuggling").
        return _soft(envelope, 554, "5.6.0", "protocol_errors", "the letter has a line end that is not CRLF")
    if not envelope.clean and not offers.eightbitmime and not envelope.message.isascii():
        return _soft(
            envelope, 554, "5.6.3", "protocol_errors", "the letter has 8-bit content, the server takes 7 bits only"
        )
    return None


def _hard(envelope: Envelope, enhanced: str, reason: str, text: str) -> Outcome:
    return Outcome(envelope.delivery_id, "refused", 553, enhanced, text, "rcpt", "hard", reason=reason)


def _soft(envelope: Envelope, code: int, enhanced: str, reason: str, text: str) -> Outcome:
    return Outcome(envelope.delivery_id, "refused", code, enhanced, text, "data", "soft", reason=reason)


def mail(envelope: Envelope, offers: Extensions) -> bytes:
    """Return the MAIL command with the parameters this letter needs."""
    command = f"MAIL FROM:<{envelope.mail_from}>"
    if offers.size_known:
        command += f" SIZE={envelope.size}"
    if offers.eightbitmime and not envelope.clean and not envelope.message.isascii():
        command += " BODY=8BITMIME"
    if not (envelope.rcpt_to.isascii() and envelope.mail_from.isascii()):
        command += " SMTPUTF8"
    return command.encode() + b"\r\n"


def rcpt(envelope: Envelope) -> bytes:
    """Return the RCPT command."""
    return f"RCPT TO:<{envelope.rcpt_to}>\r\n".encode()


def flight(envelope: Envelope, offers: Extensions) -> bytes:
    """Return MAIL, RCPT and DATA for a server that takes them together."""
    return mail(envelope, offers) + rcpt(envelope) + b"DATA\r\n"


def stuffed(envelope: Envelope) -> tuple[bytes, ...]:
    """Return the content as it goes over the wire, in pieces, without the final dot (RFC 5321 § 4.5.2)."""
    if envelope.clean:
        return (envelope.data, *envelope.pieces)
    data = envelope.message
    if b"\r\n." in data:
        data = data.replace(b"\r\n.", b"\r\n..")
    if data.startswith(b"."):
        data = b"." + data
    return (data if data.endswith(b"\r\n") else data + b"\r\n",)
