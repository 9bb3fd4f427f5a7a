"""Where a finished letter goes: a relay over SMTP, or the outbox."""

import ssl
from collections.abc import Sequence
from typing import Literal, Protocol

from mailbase.config import Settings
from mailbase.sending.connections import SmtpTransport
from mailbase.sending.outbox import OutboxTransport
from mailbase.sending.outcomes import Envelope, OnOutcome, Outcome

__all__ = ["Envelope", "OnOutcome", "Outcome", "Transport", "from_settings"]


class Transport(Protocol):
    """A way out."""

    @property
    def name(self) -> Literal["relay", "outbox"]:
        """The row of ``egress`` this way out answers for."""

    @property
    def capacity(self) -> int:
        """How many letters it can have in hand at once without any of them waiting long."""

    async def hand_over(self, batch: Sequence[Envelope], on_outcome: OnOutcome) -> None:
        """Send the batch; return once every letter has had its outcome. May run several times at once."""

    async def close(self) -> None:
        """Let go of every connection; letters still in hand get their outcome first."""


def from_settings(settings: Settings, *, context: ssl.SSLContext | None = None) -> Transport:
    """Return the way out that the settings name. ``context`` replaces the system's certificate authorities."""
    if settings.smtp is None:
        return OutboxTransport(settings.outbox_dir)
    return SmtpTransport(settings.smtp, hostname=settings.hostname, context=context)
