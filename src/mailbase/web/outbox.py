"""``/outbox``: the letters that would have gone out, to look at. With the admin key, or straight from this machine.

A letter's HTML is anybody's HTML: it is shown in a sandboxed frame, from a response whose own policy lets nothing run.
"""

import asyncio
import email.policy
import re
from email.message import EmailMessage
from email.parser import BytesParser
from html import escape
from typing import Any, Final

from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from mailbase.audience import keys
from mailbase.config import Settings
from mailbase.errors import Forbidden, NotFound, Unauthorized
from mailbase.http import header, is_local
from mailbase.sending.smtp import outbox

PAGE: Final = 50
MOST_SHOWN: Final = 512 * 1024
COMMON: Final = {
    "Cache-Control": "no-store, private",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
PAGE_HEADERS: Final = {
    **COMMON,
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
LETTER_HEADERS: Final = {
    **COMMON,
    "Content-Security-Policy": (
        "default-src 'none'; img-src * data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
        "sandbox allow-popups allow-popups-to-escape-sandbox"
    ),
}
RAW_HEADERS: Final = {**COMMON, "Content-Security-Policy": "default-src 'none'; sandbox"}
NO_PIXEL: Final = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
STYLE: Final = """
:root{color-scheme:light dark;--line:color-mix(in srgb,currentColor 16%,transparent);--soft:color-mix(in srgb,currentColor 62%,transparent)}
*{box-sizing:border-box}
body{margin:0;font:15px/1.5 system-ui,sans-serif;background:Canvas;color:CanvasText}
header,main{max-width:62rem;margin:auto;padding:1rem 1.25rem}
header{display:flex;gap:1rem;align-items:baseline;border-bottom:1px solid var(--line)}
h1{font-size:1.15rem;margin:0}a{color:LinkText}p.none,small,dt{color:var(--soft)}
ol{list-style:none;margin:0;padding:0}li{border-bottom:1px solid var(--line)}
li a{display:grid;grid-template-columns:minmax(0,1fr) auto;gap:0 1rem;padding:.7rem .25rem;text-decoration:none;color:inherit}
li a:hover,li a:focus-visible{background:color-mix(in srgb,currentColor 6%,transparent)}
li b{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15rem 1rem;margin:0 0 1rem}dd{margin:0;overflow-wrap:anywhere}
iframe{width:100%;height:70vh;border:1px solid var(--line);border-radius:6px;background:#fff}
pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid var(--line);border-radius:6px;padding:1rem;font-size:13px}
summary{cursor:pointer;padding:.5rem 0}
"""


async def _allowed(request: Request[Any, Any, Any]) -> None:
    scheme, _, secret = header(request.scope, b"authorization").strip().partition(" ")
    if scheme.lower() == "bearer" and secret:
        async with request.app.state.pool.acquire(timeout=30) as db:
            bearer = await keys.authenticate(db, secret.strip())
        if not bearer.may("admin"):
            raise Forbidden("The outbox needs a key with the scope admin.")
    elif not is_local(request.scope):
        raise Unauthorized("The outbox needs the admin key, or a browser on the same machine.")


def _page(title: str, content: str, *, up: bool) -> Response[str]:
    link = '<a href="/outbox">All letters</a>' if up else "<small>Letters that would have gone out</small>"
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><header><h1>{escape(title)}</h1>{link}</header><main>{content}</main></body></html>"
    )
    return Response(text, media_type=MediaType.HTML, headers=PAGE_HEADERS)


def _parse(kept: outbox.Kept) -> EmailMessage:
    return BytesParser(_class=EmailMessage, policy=email.policy.default).parsebytes(kept.message)


def _field(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name, ""))[:1000]
    except (ValueError, LookupError, AttributeError):  # a header nobody can decode is shown as it is
        return next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")[:1000]


def _text(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body(preferencelist=(kind,))
    if part is None:
        return None
    raw = part.get_payload(decode=True)
    return raw.decode(part.get_content_charset("utf-8"), "replace")[:MOST_SHOWN] if isinstance(raw, bytes) else None


def _read(settings: Settings, delivery_id: int) -> outbox.Kept:
    kept = outbox.read(settings.outbox_dir, delivery_id)
    if kept is None:
        raise NotFound("There is no such letter in the outbox.")
    return kept


def _row(kept: outbox.Kept) -> str:
    message = _parse(kept)
    subject = _field(message, "subject") or "(no subject)"
    return (
        f'<li><a href="/outbox/{kept.delivery_id}"><b>{escape(subject)}</b><small>{escape(_field(message, "date"))}</small>'
        f"<small>to {escape(kept.rcpt_to)} · from {escape(_field(message, 'from'))}</small><small>#{kept.delivery_id}</small></a></li>"
    )


def _list(settings: Settings, before: int | None) -> str:
    ids = outbox.newest(settings.outbox_dir, before=before, limit=PAGE + 1)
    rows = "".join(
        _row(kept) for number in ids[:PAGE] if (kept := outbox.read(settings.outbox_dir, number)) is not None
    )
    if not rows:
        return '<p class="none">Nothing here yet. Every letter lands here while no SMTP server is set.</p>'
    older = f'<p><a rel="next" href="/outbox?before={ids[PAGE - 1]}">Older letters</a></p>' if len(ids) > PAGE else ""
    return f"<ol>{rows}</ol>{older}"


def _letter(settings: Settings, delivery_id: int) -> tuple[str, str]:
    kept = _read(settings, delivery_id)
    message = _parse(kept)
    shown = "".join(
        f"<dt>{name}</dt><dd>{escape(value)}</dd>"
        for name in ("From", "To", "Reply-To", "Date", "List-Unsubscribe")
        if (value := _field(message, name))
    )
    head = kept.message.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    text = _text(message, "plain")
    frame = f'<iframe sandbox="allow-popups allow-popups-to-escape-sandbox" title="The letter" src="/outbox/{delivery_id}/html"></iframe>'
    return _field(message, "subject") or "(no subject)", (
        f"<dl>{shown}<dt>Envelope</dt><dd>{escape(kept.mail_from or '<>')} → {escape(kept.rcpt_to)}</dd></dl>"
        + (frame if _text(message, "html") is not None else "")
        + (
            f"<details{'' if _text(message, 'html') else ' open'}><summary>Text part</summary><pre>{escape(text)}</pre></details>"
            if text
            else ""
        )
        + f"<details><summary>Headers</summary><pre>{escape(head[:MOST_SHOWN])}</pre></details>"
        f'<p><a href="/outbox/{delivery_id}/raw" download="{delivery_id}.eml">Download the letter as sent</a></p>'
    )


@get("/outbox", media_type=MediaType.HTML, operation_id="show_outbox", tags=["Outbox"], summary="The outbox")
async def show_outbox(
    request: Request[Any, Any, Any], settings: NamedDependency[Settings], before: FromQuery[int | None] = None
) -> Response[str]:
    """List the letters in the outbox, newest first."""
    await _allowed(request)
    return _page("Outbox", await asyncio.to_thread(_list, settings, before), up=False)


@get(
    "/outbox/{delivery_id:int}",
    media_type=MediaType.HTML,
    operation_id="show_letter",
    tags=["Outbox"],
    summary="One letter",
)
async def show_letter(
    request: Request[Any, Any, Any], settings: NamedDependency[Settings], delivery_id: FromPath[int]
) -> Response[str]:
    """Show one letter: headers, HTML, text."""
    await _allowed(request)
    title, content = await asyncio.to_thread(_letter, settings, delivery_id)
    return _page(title, content, up=True)


@get(
    "/outbox/{delivery_id:int}/html",
    media_type=MediaType.HTML,
    operation_id="show_letter_html",
    tags=["Outbox"],
    summary="Its HTML",
)
async def show_letter_html(
    request: Request[Any, Any, Any], settings: NamedDependency[Settings], delivery_id: FromPath[int]
) -> Response[str]:
    """Return a letter's HTML part for the frame; its links open elsewhere."""
    await _allowed(request)
    html = await asyncio.to_thread(lambda: _text(_parse(_read(settings, delivery_id)), "html"))
    if html is None:
        raise NotFound("This letter has no HTML part.")
    base = '<base target="_blank">'
    # Its owner looks at it here: that is nobody's open.
    html = re.sub(rf"{re.escape(settings.public_url)}/o/[\w-]+", NO_PIXEL, html)
    framed, found = re.subn(r"(<head\b[^>]*>)", lambda match: match[1] + base, html, count=1, flags=re.IGNORECASE)
    return Response(framed if found else base + html, media_type=MediaType.HTML, headers=LETTER_HEADERS)


@get("/outbox/{delivery_id:int}/raw", operation_id="download_letter", tags=["Outbox"], summary="The letter as sent")
async def download_letter(
    request: Request[Any, Any, Any], settings: NamedDependency[Settings], delivery_id: FromPath[int]
) -> Response[bytes]:
    """Return the letter byte for byte, without the envelope lines."""
    await _allowed(request)
    kept = await asyncio.to_thread(_read, settings, delivery_id)
    disposition = {"Content-Disposition": f'attachment; filename="{delivery_id}.eml"'}
    return Response(kept.message, media_type="message/rfc822", headers={**RAW_HEADERS, **disposition})


ROUTES: Final = [show_outbox, show_letter, show_letter_html, download_letter]
