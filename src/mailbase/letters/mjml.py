"""MJML to HTML: mrml does the work; it forgives much, so structure is checked here first, in the sender's own lines."""

import re

from mjml import mjml2html

from mailbase.errors import Invalid
from mailbase.letters.tags import Mask
from mailbase.letters.templates import MAX_RENDERED, refuse

_ELEMENTS = frozenset(
    [
        "mjml",
        "mj-head",
        "mj-body",
        "mj-attributes",
        "mj-all",
        "mj-class",
        "mj-breakpoint",
        "mj-font",
        "mj-html-attributes",
        "mj-selector",
        "mj-html-attribute",
        "mj-preview",
        "mj-style",
        "mj-title",
        "mj-accordion",
        "mj-accordion-element",
        "mj-accordion-title",
        "mj-accordion-text",
        "mj-button",
        "mj-carousel",
        "mj-carousel-image",
        "mj-column",
        "mj-divider",
        "mj-group",
        "mj-hero",
        "mj-image",
        "mj-navbar",
        "mj-navbar-link",
        "mj-raw",
        "mj-section",
        "mj-social",
        "mj-social-element",
        "mj-spacer",
        "mj-table",
        "mj-text",
        "mj-wrapper",
    ],
)
# What stands inside these is HTML, none of MJML's business.
_HTML_INSIDE = frozenset(
    [
        "mj-accordion-text",
        "mj-accordion-title",
        "mj-button",
        "mj-navbar-link",
        "mj-preview",
        "mj-raw",
        "mj-social-element",
        "mj-style",
        "mj-table",
        "mj-text",
        "mj-title",
    ],
)
_TAG = re.compile(r"<(/?)(mj[a-z-]*)((?:[^<>\"']|\"[^\"]*\"|'[^']*')*+)>", re.IGNORECASE)
_START = re.compile(r"<(?:!--|/?mj[a-z-]*(?=[\s/>]|$))", re.IGNORECASE)
_ATTRIBUTES = re.compile(r"(?:\s+[A-Za-z_:][\w:.-]*\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'))*+\s*/?\s*")
_POSITION = re.compile(r"(.*?)(?: in root template)? at position (\d+):(\d+)")


def to_html(source: str, mask: Mask, *, field: str = "mjml") -> str:
    """Return masked HTML for an MJML template that ``templates.check`` has accepted.

    Raises:
        Invalid: ``template_error`` with line, column and word; ``too_large``.
    """
    hidden = mask.hide(source)
    _check_structure(source, hidden, mask, field)
    try:
        html = mjml2html(hidden)
    except ValueError as error:
        raise _refusal(source, hidden, mask, field, str(error)) from error
    if len(html) > MAX_RENDERED:
        raise Invalid.field(field, "too_large", f"{field} renders to more than {MAX_RENDERED // 1024} kB")
    lost = mask.lost(html)
    if lost is not None:
        raise refuse(source, field, lost.start, lost.word, f"MJML drops a {{% {lost.word} %}} at this place")
    return html


def _check_structure(source: str, hidden: str, mask: Mask, field: str) -> None:
    """Refuse unknown, unclosed and crossing ``mj-`` elements."""
    stack: list[tuple[str, int]] = []
    at = 0

    def wrong(offset: int, word: str, reason: str) -> Invalid:
        return refuse(source, field, mask.origin(offset), word, reason)

    while match := _START.search(hidden, at):
        start = match.start()
        if match.group() == "<!--":
            close = hidden.find("-->", start)
            if close < 0:
                raise wrong(start, "<!--", "this comment is not closed")
            at = close + 3
            continue
        tag = _TAG.match(hidden, start)
        if tag is None:
            raise wrong(start, match.group(), "this tag is not closed")
        at = tag.end()
        closing, name, attributes = tag.group(1), tag.group(2).lower(), tag.group(3)
        if closing:
            if not stack or stack[-1][0] != name:
                opened = f", <{stack[-1][0]}> is still open" if stack else ""
                raise wrong(start, f"</{name}>", f"</{name}> closes nothing{opened}")
            stack.pop()
            continue
        if name == "mj-include":
            raise wrong(start, name, "mj-include is not available here")
        if name not in _ELEMENTS:
            raise wrong(start, name, f"unknown element <{name}>")
        good = _ATTRIBUTES.match(attributes)
        if good is None or good.end() != len(attributes):
            offset = tag.start(3) + (good.end() if good else 0)
            word = (attributes[good.end() if good else 0 :].split() or [name])[0]
            raise wrong(offset, mask.show(word)[:60], f"a faulty attribute of <{name}>")
        if not attributes.rstrip().endswith("/"):
            at = _enter(hidden, name, start, at, stack, wrong)
    if stack:
        raise wrong(stack[-1][1], f"<{stack[-1][0]}>", f"<{stack[-1][0]}> is not closed")
    if not re.search(r"<mjml[\s>]", hidden, re.IGNORECASE):
        raise Invalid.field(field, "template_error", f"{field}, line 1, column 1: there is no <mjml> element")
    if not re.search(r"<mj-body[\s>]", hidden, re.IGNORECASE):
        raise Invalid.field(field, "template_error", f"{field}, line 1, column 1: there is no <mj-body> element")


def _enter(hidden: str, name: str, start: int, at: int, stack: list[tuple[str, int]], wrong) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Open an element; one that holds HTML is stepped over to its end. Returns where to go on."""
    if name not in _HTML_INSIDE:
        stack.append((name, start))
        return at
    close = re.compile(rf"</{name}\s*>|<(/?mj[a-z-]+)", re.IGNORECASE).search(hidden, at)
    if close is None:
        raise wrong(start, f"<{name}>", f"<{name}> is not closed")
    if close.group(1):
        word = close.group().lstrip("<")
        raise wrong(close.start(), word, f"<{word}> inside <{name}>, which is not closed before it")
    return close.end()


def _refusal(source: str, hidden: str, mask: Mask, field: str, reason: str) -> Invalid:
    match = _POSITION.fullmatch(reason)
    if match is None:
        return Invalid.field(field, "template_error", f"{field}: {reason.removesuffix(' in root template')}")
    raw = hidden.encode()
    start, end = int(match.group(2)), int(match.group(3))
    word = mask.show(raw[start:end].decode(errors="ignore"))
    offset = mask.origin(len(raw[:start].decode(errors="ignore")))
    return refuse(source, field, offset, word[:60], match.group(1))
