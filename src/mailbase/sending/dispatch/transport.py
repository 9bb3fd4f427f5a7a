"""Where a finished letter goes: a relay over SMTP, the recipients' own servers, or the outbox."""

import ssl
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from mailbase.config import Relay, Settings
from mailbase.db import Pool
from mailbase.sending.mx.mx_dns import DnsMxResolver
from mailbase.sending.mx.parts import Parts
from mailbase.sending.mx.transport import Directory, MxTransport
from mailbase.sending.outcomes import Envelope, OnOutcome, Outcome
from mailbase.sending.providers.providers import Providers
from mailbase.sending.smtp.connections import SmtpTransport
from mailbase.sending.smtp.outbox import OutboxTransport

__all__ = ["Envelope", "OnOutcome", "Outcome", "Transport", "Ways", "from_settings", "parts_of", "ways"]


class Transport(Protocol):
    """A way out."""

    @property
    def name(self) -> str:
        """The row of ``egress`` this way out answers for, and what the warm-up counts by."""

    @property
    def capacity(self) -> int:
        """How many letters it can have in hand at once without any of them waiting long."""

    def full(self) -> frozenset[str]:
        """Return the providers it can take no more letters of just now."""

    async def hand_over(self, batch: Sequence[Envelope], on_outcome: OnOutcome) -> None:
        """Send the batch; return once every letter has had its outcome. May run several times at once."""

    async def close(self) -> None:
        """Let go of every connection; letters still in hand get their outcome first."""


class Ways(msgspec.Struct, frozen=True):
    """The ways out of one worker."""

    messages: Mapping[str, Transport]
    """For letters that wait for no campaign, by the way out's name."""
    campaigns: Sequence[Transport]
    """One or more; each is counted by the warm-up on its own."""


def from_settings(settings: Settings, *, context: ssl.SSLContext | None = None) -> Transport:
    """Return the one way out that the settings name. ``context`` replaces the system's certificate authorities."""
    if settings.mx is not None:
        return mx_transports(settings, None, Providers(), context=context)[0]
    if settings.smtp is None:
        return OutboxTransport(settings.outbox_dir)
    return SmtpTransport(settings.smtp, hostname=settings.hostname, context=context)


def mx_transports(
    settings: Settings,
    pool: Pool | None,
    providers: Providers,
    *,
    parts: Parts | None = None,
    context: ssl.SSLContext | None = None,
) -> list[MxTransport]:
    """Return a way out for each source address; they share what they know. ``pool``: shares it with all workers, too."""
    mx = settings.mx
    if mx is None:
        return []
    context = context or ssl.create_default_context()
    private = settings.outgoing_private or mx.port != 25
    directory = Directory(DnsMxResolver(settings.dns_servers), pool, allow_private=private, context=context)
    return [
        MxTransport(
            mx, directory, providers, hostname=settings.hostname, source=source, parts=parts or Parts(settings.workers),
            allow_private=private, context=context,
        )
        for source in mx.sources or (None,)
    ]  # fmt: skip


def ways(settings: Settings, pool: Pool, providers: Providers, *, parts: Parts | None = None) -> Ways:
    """Return this worker's ways out: its share of a relay's connections, a few of them for messages alone."""
    relay = settings.smtp
    if settings.mx is not None:
        found = mx_transports(settings, pool, providers, parts=parts)
        # Of each kind of address the first: a host may have no other.
        of_kind = {
            ":" in (source or ""): way
            for way, source in reversed(list(zip(found, settings.mx.sources or (None,), strict=True)))
        }
        return Ways({way.name: way.urgent() for way in of_kind.values()}, found)
    if relay is None:
        many = from_settings(settings)
        return Ways({many.name: from_settings(settings)}, [many])
    # The system's authorities take a third of a second to read: once, and only where there is TLS.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if relay.tls == "none" else ssl.create_default_context()

    few, many = (
        SmtpTransport(part, hostname=settings.hostname, context=context) for part in parts_of(relay, settings.workers)
    )
    return Ways({many.name: few}, [many])


def parts_of(relay: Relay, workers: int) -> tuple[Relay, Relay]:
    """Return one worker's share of a relay's connections: a few for messages, the others for campaigns."""
    share = max(relay.connections // workers, 2)
    few = max(share // 5, 1)
    return (
        msgspec.structs.replace(relay, connections=few),
        msgspec.structs.replace(relay, connections=share - few),
    )
