"""``/docs``: the reference for people, written from the OpenAPI document. No script, nothing from elsewhere."""

import base64
import hashlib
import re
from collections import defaultdict
from html import escape
from typing import Any, Final

import msgspec
from litestar import Request, Response, get

from mailbase.api.openapi import document

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2433;--soft:#5d6678;--line:#dfe3ea;--paper:#fff;--code:#f5f7fa;--get:#0a6c74;--post:#1f7a3d;--change:#9a5b00;--delete:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#9aa3b2;--line:#303745;--paper:#161a22;--code:#1e2430;--get:#5cc4cc;--post:#6fcf8b;--change:#e3a857;--delete:#f28b82}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif;display:grid;grid-template-columns:15rem minmax(0,1fr)}
nav{border-right:1px solid var(--line);padding:1.5rem;position:sticky;top:0;height:100vh;overflow:auto}nav a{display:block;color:inherit;text-decoration:none;padding:.15rem 0}nav a:hover{text-decoration:underline}
main{padding:1.5rem 2.5rem 6rem;max-width:62rem}h1{margin:.2rem 0}h2{margin-top:3rem;border-bottom:1px solid var(--line)}p{max-width:70ch}code,pre{font:14px/1.5 ui-monospace,monospace}
pre{background:var(--code);padding:.8rem 1rem;border-radius:.4rem;overflow:auto}details{border:1px solid var(--line);border-radius:.5rem;margin:.5rem 0}summary{cursor:pointer;padding:.55rem .9rem;display:flex;gap:.8rem;align-items:baseline;flex-wrap:wrap}
details>div{padding:0 1rem 1rem;border-top:1px solid var(--line)}.m{font-weight:700;min-width:4.2rem}.get{color:var(--get)}.post{color:var(--post)}.put,.patch{color:var(--change)}.delete{color:var(--delete)}
.s{color:var(--soft);margin-left:auto}table{border-collapse:collapse;width:100%}td{border-top:1px solid var(--line);padding:.35rem .8rem .35rem 0;vertical-align:top}small{color:var(--soft)}
@media(max-width:50rem){body{display:block}nav{display:none}main{padding:1rem}.s{margin-left:0}}
"""
POLICY: Final = f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@get("/docs", operation_id="docs", tags=["Health"], media_type="text/html")
async def docs(request: Request[Any, Any, Any]) -> Response[str]:
    """Return the API's reference as a page."""
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
    return Response(_page(document(request.app)), media_type="text/html", headers=headers)


def _page(schema: dict[str, Any]) -> str:
    groups: dict[str, list[str]] = defaultdict(list)
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            if isinstance(operation, dict) and "responses" in operation:
                groups[(operation.get("tags") or ["Other"])[0]].append(_operation(path, method, operation))
    order = [tag["name"] for tag in schema.get("tags", [])]
    names = sorted(groups, key=lambda name: (order.index(name) if name in order else len(order), name))
    links = "".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in names)
    parts = "".join(f'<h2 id="{escape(name)}">{escape(name)}</h2>{"".join(groups[name])}' for name in names)
    info = schema["info"]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>mailbase API</title><style>{STYLE}</style></head>'
        f'<body><nav aria-label="Sections"><strong>mailbase {escape(info["version"])}</strong>{links}<br><a href="/schema/openapi.json">openapi.json</a></nav>'
        f"<main><h1>API reference</h1>{_prose(info.get('description', ''))}{parts}</main></body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    scope = operation.get("x-scope", "")
    text = operation.get("description", "").partition("\n\nScope:")[0]
    rows = "".join(_parameter(parameter) for parameter in operation.get("parameters", []))
    body = _media(operation.get("requestBody", {}))
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{_inline(answer.get('description', ''))}{_media(answer) if status.startswith('2') else ''}</td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f'<details id="{escape(operation.get("operationId", ""))}"><summary><span class="m {method}">{method.upper()}</span><code>{escape(path)}</code><span class="s">{escape(scope)}</span></summary>'
        f"<div>{_prose(text)}{f'<h4>Parameters</h4><table>{rows}</table>' if rows else ''}{f'<h4>Body</h4>{body}' if body else ''}<h4>Answers</h4><table>{answers}</table></div></details>"
    )


def _parameter(parameter: dict[str, Any]) -> str:
    needed = "required" if parameter.get("required") else ""
    return f"<tr><td><code>{escape(parameter['name'])}</code><br><small>{escape(parameter['in'])} {needed}</small></td><td>{_inline(parameter.get('description', ''))}</td></tr>"


def _media(holder: dict[str, Any]) -> str:
    for name, media in holder.get("content", {}).items():
        if "example" in media:
            return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(media['example'])).decode())}</pre>"
        return f"<p><small>{escape(name)}</small></p>"
    return ""


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n") if part.strip())


def _inline(text: str) -> str:
    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(text))


ROUTES: Final = [docs]
