"""The way out: does the relay take us, is port 25 open, and do our addresses carry our name."""

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from mailbase import config
from mailbase.doctor.findings import About, Finding, is_local
from mailbase.sending.dns import DnsResolver, Unanswered
from mailbase.sending.smtp.replies import Reply
from mailbase.sending.smtp.session import SessionError, Timeouts, open_session
from mailbase.sending.smtp.wire import Wire

PATIENCE: Final = Timeouts(connect=10, greeting=20, ehlo=10, starttls=10, auth=20, quit=3)
SOON: Final = timedelta(days=14)
ANYBODY: Final = ("gmail.com", "outlook.com", "yahoo.com")
"""Domains whose mail hosts certainly listen on port 25: one that answers shows that the port is open."""
_ADVICE: Final = {
    "connect": "Look at the host and port in MAILBASE_SMTP_URL, and whether a firewall is in between.",
    "greeting": "The relay refuses this machine; ask its operator whether it may connect.",
    "ehlo": "The relay does not like our name; set MAILBASE_HOSTNAME to this machine's public name.",
    "starttls": "Look at tls= in MAILBASE_SMTP_URL, and at the relay's certificate: it must be valid for that very host name.",
    "auth": "Look at the user and password; some providers want an app password or an API key there.",
}


class _Line(Wire):
    """A connection that is only asked who it is."""

    def certificate_ends(self) -> datetime | None:
        """Return until when the server's certificate holds; None without TLS."""
        secured = self._transport.get_extra_info("ssl_object") if self._transport else None
        return ends(secured.getpeercert()) if isinstance(secured, ssl.SSLObject) else None

    def close(self) -> None:
        """Let go."""
        self._drop()

    def _on_reply(self, reply: Reply) -> None:
        pass

    def _on_lost(self, why: str) -> None:
        pass

    def _patience(self) -> float:
        return PATIENCE.quit

    def _on_silence(self) -> None:
        pass


def ends(certificate: object) -> datetime | None:
    """Return until when a certificate holds, as ``getpeercert`` tells it."""
    text = certificate.get("notAfter") if isinstance(certificate, dict) else None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC) if isinstance(text, str) else None


def expiry(about: About, ends_at: datetime | None, now: datetime) -> list[Finding]:
    """Say that a certificate ends soon."""
    if ends_at is None or ends_at - now > SOON:
        return []
    text = f"Its certificate ends on {ends_at:%Y-%m-%d}."
    return [about.warning("certificate", text, "Have it renewed; whoever renews it by hand forgets it once.")]


async def relay(
    name: str,
    to: config.Relay,
    *,
    hostname: str,
    context: ssl.SSLContext,
    now: datetime,
    timeouts: Timeouts = PATIENCE,
) -> list[Finding]:
    """Open a session with a relay as for a letter, log in, and leave."""
    about = About(name)
    where = f"{to.host}:{to.port}"
    implicit = to.tls == "implicit"
    line = _Line()
    try:
        async with asyncio.timeout(timeouts.connect):
            await asyncio.get_running_loop().create_connection(
                lambda: line,
                to.host,
                to.port,
                ssl=context if implicit else None,
                server_hostname=to.host if implicit else None,
            )
        await open_session(line, to, hostname=hostname, context=context, timeouts=timeouts)
        ends_at = line.certificate_ends()
        with contextlib.suppress(SessionError):
            await line.command(b"QUIT", "mail", timeouts.quit)
    except SessionError as error:
        return [about.wrong("relay", f"{where} refuses ({error.phase}): {error.text}", _ADVICE.get(error.phase, ""))]
    except ssl.SSLCertVerificationError as error:
        text = f"{where}: its certificate cannot be trusted: {error.verify_message}."
        return [about.wrong("relay", text, _ADVICE["starttls"])]
    except ssl.SSLError as error:
        return [about.wrong("relay", f"{where} does not speak TLS as expected ({error.reason}).", _ADVICE["starttls"])]
    except (OSError, TimeoutError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no answer"
        return [about.wrong("relay", f"{where} cannot be reached: {reason}.", _ADVICE["connect"])]
    finally:
        line.close()
    secured = "without TLS" if to.tls == "none" else "over TLS"
    found = [about.ok("relay", f"{where} takes us {secured}{', and the login' if to.user else ''}.")]
    if to.tls == "none" and not is_local(to.host):
        text = f"{where} is spoken to without TLS: anybody on the way reads the letters{' and the password' if to.user else ''}."
        found.append(
            about.warning("relay_tls", text, "Take tls=none out of MAILBASE_SMTP_URL if the relay offers TLS.")
        )
    return found + expiry(about, ends_at, now)


async def port_25(
    resolver: DnsResolver, domains: Sequence[str] = ANYBODY, *, port: int = 25, patience: float = 6
) -> Finding:
    """Say whether other mail servers can be reached from here: many providers close the port."""
    about = About("port 25")
    hosts = [host for domain in domains for host in (await _mx(resolver, domain))[:1]]
    if not hosts:
        return about.warning(
            "port_25", "No mail server to try could be found in DNS.", "Look at DNS first: MAILBASE_DNS_SERVERS."
        )
    answers = await asyncio.gather(*(_greets(host, port, patience) for host in hosts))
    if any(answers):
        return about.ok("port_25", "Other mail servers can be reached from here.")
    text = f"None of {', '.join(hosts)} answers: outgoing port {port} is closed."
    return about.wrong(
        "port_25", text, "Ask your provider to open it, or send through a relay (MAILBASE_SMTP_URL=smtp://…)."
    )


async def _mx(resolver: DnsResolver, domain: str) -> list[str]:
    try:
        return [host for host in await resolver.mx(domain) if host]
    except Unanswered:
        return []


async def _greets(host: str, port: int, patience: float) -> bool:
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(host, port)
            return (await reader.read(3))[:1] in {b"2", b"4", b"5"}
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.transport.abort()


async def own_addresses(resolver: DnsResolver, hostname: str, sources: Sequence[str]) -> list[str]:
    """Return the addresses letters leave from: those of the settings, else those of our name.

    Raises:
        Unanswered: DNS did not answer.

    """
    return list(sources) or await resolver.addresses(hostname)


async def names(resolver: DnsResolver, hostname: str, sources: Sequence[str]) -> list[Finding]:
    """Say whether each of our addresses is called by our name, and the name leads back (Gmail and Yahoo refuse letters else)."""
    about = About("our name")
    try:
        addresses = await own_addresses(resolver, hostname, sources)
        if not addresses:
            text = f"{hostname} has no address in DNS, and letters introduce themselves by it."
            advice = "Set MAILBASE_HOSTNAME to this machine's public name, and publish an A record for it."
            return [about.wrong("hostname", text, advice)]
        return [await _name(about, resolver, hostname, address) for address in addresses]
    except Unanswered as error:
        return [about.warning("ptr", f"DNS does not answer ({error}).", "Try again later.")]


async def _name(about: About, resolver: DnsResolver, hostname: str, address: str) -> Finding:
    called = await resolver.names(address)
    advice = f"Have the PTR record of {address} set to {hostname}, where you rent the address; it is called reverse DNS there."
    if not called:
        return about.wrong("ptr", f"{address} has no name in reverse DNS.", advice)
    if hostname not in called:
        text = f"{address} is called {called[0]}, and letters introduce themselves as {hostname}."
        return about.wrong("ptr", text, advice + f" Or set MAILBASE_HOSTNAME={called[0]}.")
    if address not in await resolver.addresses(hostname):
        text = f"{address} is called {hostname}, but {hostname} does not lead back to it."
        return about.wrong("ptr", text, f"Publish an A (or AAAA) record: {hostname} → {address}.")
    return about.ok("ptr", f"{address} is called {hostname}, and back.")


async def listens(host: str, port: int, *, patience: float = 5) -> Finding:
    """Say whether our own door for returned mail is open."""
    about = About("returned mail")
    shown = f"{'127.0.0.1' if host in {'0.0.0.0', ''} else '::1' if host == '::' else host}"
    if await _greets(shown, port, patience):
        return about.ok("inbound", f"Mail is taken in at {host}:{port}.")
    text = f"Nothing answers at {host}:{port}, where returned mail should come in."
    return about.wrong("inbound", text, "Start `mailbase up` (or `mailbase inbound`), and look at what it says.")
