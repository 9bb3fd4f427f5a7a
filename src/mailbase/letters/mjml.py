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
# A tag of the template may stand in an attribute's value, not in its name or in its place.
_ATTRIBUTES = r"(?:\s+(?![^\s=]*{})[A-Za-z_:][\w:.-]*\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'))*\s*/?\s*"
_HTML_TAG = re.compile(r"<!--|<(/?)([A-Za-z][\w-]*)(?:[^<>\"']|\"[^\"]*\"|'[^']*')*+>")
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())  # noqa: SIM905  (as HTML lists them)
FONTS = "https://fonts.googleapis.com/css?family="
NAMED_FONTS = ("Open Sans", "Droid Sans", "Lato", "Roboto", "Ubuntu")
MAX_ELEMENTS = 50
MAX_DEPTH = 300
# mrml descends once for each open element, on a stack whose end nothing catches.
_LONE = re.compile(r"<(?![A-Za-z/!?])")
_BLOCKS = re.compile(rf"<({'|'.join(sorted(_HTML_INSIDE))})\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_POSITION = re.compile(r"(.*?)(?: in root template)? at position (\d+):(\d+)")


def to_html(source: str, mask: Mask, *, field: str = "mjml") -> str:
    """Return masked HTML for an MJML template that ``templates.check`` has accepted.

    Raises:
        Invalid: ``template_error`` with line, column and word; ``too_large``.
    """
    hidden = _LONE.sub("&lt;", mask.hide(source))
    problem = _Structure(hidden, mask.prefix).problem()
    if problem is not None:
        offset, word, reason = problem
        raise refuse(source, field, mask.origin(offset), mask.show(word)[:60], reason)
    too_deep = _too_deep(hidden)
    if too_deep is not None:
        offset, word = too_deep
        reason = f"elements are nested more than {MAX_DEPTH} deep"
        raise refuse(source, field, mask.origin(offset), mask.show(word)[:60], reason)
    try:
        html = mjml2html(hidden, fonts=_fonts(hidden))
    except ValueError as error:
        raise _refusal(source, hidden, mask, field, str(error)) from error
    if len(html) > MAX_RENDERED:
        raise Invalid.field(field, "too_large", f"{field} renders to more than {MAX_RENDERED // 1024} kB")
    lost = mask.lost(html)
    if lost is not None:
        raise refuse(source, field, lost.start, lost.word, f"MJML drops a {{% {lost.word} %}} at this place")
    return html


def _fonts(hidden: str) -> dict[str, str]:
    """Return the web fonts a template may load by name alone: those it names.

    MJML's own default would have every letter ask a third party for a font nobody chose.
    """
    return {name: f"{FONTS}{name.replace(' ', '+')}:300,400,500,700" for name in NAMED_FONTS if name in hidden}


def _too_deep(hidden: str) -> tuple[int, str] | None:
    """Return where HTML is nested deeper than mrml can follow."""
    depth = at = 0
    while tag := _HTML_TAG.search(hidden, at):
        at = tag.end()
        if tag.group() == "<!--":
            at = hidden.find("-->", at)
            if at < 0:
                break
        elif tag.group(2).lower() not in _VOID and not tag.group().endswith("/>"):
            depth = max(depth - 1, 0) if tag.group(1) else depth + 1
        if depth > MAX_DEPTH:
            return tag.start(), tag.group()
    return None


Problem = tuple[int, str, str]
"""Offset in the hidden source, the word there, and what is wrong with it."""


class _Structure:
    """Walks over the ``mj-`` elements; the first unknown, unclosed or crossing one is the problem."""

    def __init__(self, hidden: str, prefix: str) -> None:
        self.hidden = hidden
        self.attributes = re.compile(_ATTRIBUTES.format(prefix))
        self.stack: list[tuple[str, int]] = []
        self.seen: set[str] = set()
        self.at = 0

    def problem(self) -> Problem | None:
        while match := _START.search(self.hidden, self.at):
            found = self._comment(match.start()) if match.group() == "<!--" else self._tag(match)
            if found is not None:
                return found
        if self.stack:
            name, start = self.stack[-1]
            return start, f"<{name}>", f"<{name}> is not closed"
        for name in ("mjml", "mj-body"):
            if name not in self.seen:
                return 0, "", f"there is no <{name}> element"
        return None

    def _comment(self, start: int) -> Problem | None:
        close = self.hidden.find("-->", start)
        self.at = close + 3
        return (start, "<!--", "this comment is not closed") if close < 0 else None

    def _tag(self, match: re.Match[str]) -> Problem | None:
        start = match.start()
        tag = _TAG.match(self.hidden, start)
        if tag is None:
            return start, match.group(), "this tag is not closed"
        self.at = tag.end()
        name = tag.group(2).lower()
        self.seen.add(name)
        if tag.group(1):
            return self._close(name, start)
        if name == "mj-include":
            return start, name, "mj-include is not available here"
        if name not in _ELEMENTS:
            return start, name, f"unknown element <{name}>"
        attributes = tag.group(3)
        good = self.attributes.match(attributes)
        end = good.end() if good else 0
        if end != len(attributes):
            return tag.start(3) + end, (attributes[end:].split() or [name])[0], f"a faulty attribute of <{name}>"
        return None if attributes.rstrip().endswith("/") else self._enter(name, start)

    def _close(self, name: str, start: int) -> Problem | None:
        if self.stack and self.stack[-1][0] == name:
            self.stack.pop()
            return None
        still = f", <{self.stack[-1][0]}> is still open" if self.stack else ""
        return start, f"</{name}>", f"</{name}> closes nothing{still}"

    def _enter(self, name: str, start: int) -> Problem | None:
        """Open an element; one that holds HTML is stepped over to its end."""
        if name not in _HTML_INSIDE:
            self.stack.append((name, start))
            if len(self.stack) > MAX_ELEMENTS:
                return start, f"<{name}>", f"elements are nested more than {MAX_ELEMENTS} deep"
            return None
        close = re.compile(rf"</{name}\s*>|<(/?mj[a-z-]+)", re.IGNORECASE).search(self.hidden, self.at)
        if close is None:
            return start, f"<{name}>", f"<{name}> is not closed"
        if close.group(1):
            return close.start(), close.group(1), f"<{close.group(1)}> inside <{name}>, which is not closed before it"
        self.at = close.end()
        return None


def _refusal(source: str, hidden: str, mask: Mask, field: str, reason: str) -> Invalid:
    match = _POSITION.fullmatch(reason)
    if match is not None:
        raw = hidden.encode()
        start, end = int(match.group(2)), int(match.group(3))
        word = mask.show(raw[start:end].decode(errors="ignore"))
        offset = mask.origin(len(raw[:start].decode(errors="ignore")))
        return refuse(source, field, offset, word[:60], match.group(1))
    reason = reason.removesuffix(" in root template")
    # mrml does not say where: the first element whose HTML it cannot read alone is the one.
    for block in _BLOCKS.finditer(hidden):
        try:
            mjml2html(f"<mjml><mj-body><mj-raw>{block.group(2)}</mj-raw></mj-body></mjml>")
        except ValueError:
            where = mask.origin(block.start())
            return refuse(source, field, where, f"<{block.group(1)}>", "the HTML in this element cannot be read")
    return refuse(source, field, 0, "", reason)
