"""The public pages: can readers reach them, and can their mail programs unsubscribe them with one request (RFC 8058)."""

import asyncio
import ssl
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

from mailbase.doctor.findings import About, Finding, is_local
from mailbase.doctor.way_out import ends, expiry

PATIENCE: Final = 10.0
_ABOUT: Final = About("public address")
_RUNS: Final = (
    "Start `mailbase up`, and look at what it says; behind a proxy, look at where the proxy sends requests to."
)


async def examine(url: str, *, real: bool, context: ssl.SSLContext, now: datetime) -> list[Finding]:
    """Ask the public address as a mailbox provider would; ``real``: letters really leave."""
    found = address(url, real=real)
    parts = urlsplit(url)
    if parts.scheme == "https":
        found += await _certificate(parts.hostname or "", parts.port or 443, context, now)
        if any(one.level == "wrong" and one.check == "certificate" for one in found):
            return found
    return found + await _pages(url, context)


def address(url: str, *, real: bool) -> list[Finding]:
    """Judge the address itself."""
    parts = urlsplit(url)
    if is_local(parts.hostname or ""):
        text = f"{url} is this machine's own: nobody else can open the links in the letters, or leave."
        advice = "Set MAILBASE_PUBLIC_URL to the https address readers shall see."
    elif parts.scheme != "https":
        text = f"{url} is not https: Gmail and Yahoo ask for one-click unsubscribing over https."
        advice = "Put a proxy with a certificate before mailbase, and set MAILBASE_PUBLIC_URL to the https address."
    else:
        return []
    return [_ABOUT.if_real("public_url", text, advice, real=real)]


async def _certificate(host: str, port: int, context: ssl.SSLContext, now: datetime) -> list[Finding]:
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
        ends_at = ends(writer.get_extra_info("peercert"))
    except ssl.SSLCertVerificationError as error:
        text = f"The certificate of {host} cannot be trusted: {error.verify_message}."
        return [_ABOUT.wrong("certificate", text, "Have one issued for this very name, for example by Let's Encrypt.")]
    except (OSError, TimeoutError):
        return []
    finally:
        if writer is not None:
            writer.transport.abort()
    return expiry(_ABOUT, ends_at, now) or [_ABOUT.ok("certificate", f"The certificate of {host} is valid.")]


async def _pages(url: str, context: ssl.SSLContext) -> list[Finding]:
    try:
        async with httpx.AsyncClient(verify=context, timeout=PATIENCE, trust_env=False) as client:
            health = await client.get(f"{url}/healthz")
            ours = health.status_code == 200 and '"status"' in health.text
            if not ours:
                return [
                    _ABOUT.wrong(
                        "reachable", f"{url}/healthz answers {health.status_code}, not as mailbase does.", _RUNS
                    )
                ]
            # A token nobody has: whoever gets as far as mailbase is told that there is no such thing.
            answer = await client.post(f"{url}/u/doctor", data={"List-Unsubscribe": "One-Click"})
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        return [_ABOUT.wrong("reachable", f"{url} cannot be reached from here ({reason}).", _RUNS)]
    found = [_ABOUT.ok("reachable", f"mailbase answers at {url}.")]
    if answer.status_code == 404:
        return [*found, _ABOUT.ok("unsubscribe", "One-click unsubscribing gets through.")]
    if answer.is_redirect:
        text = f"One-click unsubscribing is redirected to {answer.headers.get('location', 'elsewhere')}; that is not allowed."
        advice = "Set MAILBASE_PUBLIC_URL to where the redirect leads, so that letters name it at once."
    else:
        text = f"One-click unsubscribing is answered {answer.status_code} before it reaches mailbase."
        advice = "Let POST requests to /u/… through, without a login, a cookie or a challenge."
    return [*found, _ABOUT.wrong("unsubscribe", text, advice)]
