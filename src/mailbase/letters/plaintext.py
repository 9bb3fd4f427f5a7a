"""The text part, derived from (masked) HTML when the sender wrote none.

Links read ``text (url)``, images their alternative text, list items a dash or a number, a table's row one line.
Events of the parser are used rather than a tree: a tree would move template tags out of tables.
"""

import re
from html.parser import HTMLParser

from mailbase.letters.tags import Mask

_BLOCK = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "html",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
    ],
)
_PARAGRAPH = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote", "pre", "table", "hr", "dl"})
_SKIP = frozenset({"head", "style", "script", "title", "template", "noscript", "svg", "object", "select", "textarea"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_LONE = re.compile(r"<(?![A-Za-z/!?])")
_HIDDEN = re.compile(r"display\s*:\s*none|mso-hide\s*:\s*all", re.IGNORECASE)
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u2060-\u2064\ufeff]+(?=[\\s\u00ad\u034f\u200b-\u200f\ufeff]|$)"
)
_WHITE = re.compile(r"[ \t\r\n\f\v\xa0\u2000-\u200a\u202f]+")


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []  # finished lines
        self.line = ""
        self.gap = 0  # line breaks due before the next visible character
        self.space = False
        self.skip: tuple[str, int] | None = None  # a hidden element's name and how deep it nests in itself
        self.lists: list[int] = []  # 0: dashes, else the last number given
        self.links: list[tuple[str, int, int]] = []  # href, line number and column where the link's text began
        self.cells = 0
        self.pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.skip:
            if tag == self.skip[0]:
                self.skip = (tag, self.skip[1] + 1)
            return
        values = {name: value or "" for name, value in attrs}
        if tag not in _VOID and (tag in _SKIP or "hidden" in values or _HIDDEN.search(values.get("style", ""))):
            self.skip = (tag, 1)
            return
        if tag in _BLOCK:
            self._edge(tag)
        if tag in {"a", "img"}:
            self._inline(tag, values)
        elif tag in {"ul", "ol", "li", "tr", "td", "th"}:
            self._structure(tag)
        elif tag == "br":
            self._newline()
        elif tag == "hr":
            self._write("-" * 20)
            self._break(2)
        elif tag == "pre":
            self.pre += 1

    def _inline(self, tag: str, values: dict[str, str]) -> None:
        if tag == "img":
            self._words(values.get("alt", ""))
            return
        self._close_link()
        self.links.append((values.get("href", "").strip(), len(self.out), len(self.line)))

    def _structure(self, tag: str) -> None:
        if tag in {"ul", "ol"}:
            self.lists.append(0 if tag == "ul" else 1)
        elif tag == "li":
            self._item()
        elif tag == "tr":
            self.cells = 0
        else:
            if self.cells and self.line and not self.gap:
                self._write("  ")
            self.cells += 1

    def _edge(self, tag: str) -> None:
        """Break the line at an element's edge; a paragraph's leaves an empty one, a nested list's does not."""
        nested = tag in {"ul", "ol"} and self.lists
        self._break(2 if tag in _PARAGRAPH and not nested else 1)

    def handle_endtag(self, tag: str) -> None:
        if self.skip:
            if tag == self.skip[0]:
                depth = self.skip[1] - 1
                self.skip = (tag, depth) if depth else None
            return
        if tag == "a":
            self._close_link()
        if tag in {"ul", "ol"} and self.lists:
            self.lists.pop()
        if tag == "pre":
            self.pre = max(0, self.pre - 1)
        if tag in _BLOCK:
            self._edge(tag)

    def handle_data(self, data: str) -> None:
        if self.skip:
            return
        if not self.pre:
            self._words(data)
            return
        for number, line in enumerate(data.split("\n")):
            if number:
                self._newline()
            if line:
                self._write(line)

    def finish(self) -> str:
        """Return the text once everything is fed."""
        self.close()
        self._close_link()
        return "\n".join([*self.out, self.line.rstrip()])

    def _item(self) -> None:
        indent = "  " * min(8, max(0, len(self.lists) - 1))
        if self.lists and self.lists[-1]:
            self._write(f"{indent}{self.lists[-1]}. ")
            self.lists[-1] += 1
        else:
            self._write(f"{indent}- ")

    def _words(self, data: str) -> None:
        text = _WHITE.sub(" ", _INVISIBLE.sub("", data))
        if text.startswith(" "):
            self.space = True
        body = text.strip(" ")
        if not body:
            return
        if self.space and self.line and not self.gap and not self.line.endswith(" "):
            body = " " + body
        self._write(body)
        self.space = text.endswith(" ")

    def _write(self, text: str) -> None:
        if self.gap:
            if self.line or self.out:
                self.out.append(self.line.rstrip())
                self.out.extend([""] * (self.gap - 1))
                text = text.lstrip(" ") if not self.lists else text
            self.line = ""
            self.gap = 0
        self.line += text
        self.space = False

    def _newline(self) -> None:
        if self.gap:
            self.gap = 2
        else:
            self.out.append(self.line.rstrip())
            self.line = ""
        self.space = False

    def _break(self, lines: int) -> None:
        if self.line.strip() or self.gap:
            self.gap = max(self.gap, lines)
        elif self.out and lines == 2 and self.out[-1]:
            self.out.append("")
        self.space = False

    def _close_link(self) -> None:
        if not self.links:
            return
        href, row, column = self.links.pop()
        if not href or href.startswith("#") or href.lower().startswith("javascript:"):
            return
        shown = "\n".join([*self.out[row:], self.line])[column:].strip() if len(self.out) >= row else ""
        plain = re.sub(r"^(?:mailto|tel):", "", href, flags=re.IGNORECASE)
        if shown and shown.lower() in {
            href.lower(),
            plain.lower(),
            re.sub(r"^https?://", "", href).rstrip("/").lower(),
        }:
            if shown.lower() not in {href.lower(), plain.lower()}:
                self.line = self.line.removesuffix(shown) + href
            return
        gap, self.gap = self.gap, 0
        self._write((" " if self.line and not self.line.endswith(" ") else "") + (f"({plain})" if shown else plain))
        self.gap = gap


def from_rendered(html: str) -> str:
    """Return the text for finished HTML, in which nothing is a template any more."""
    return re.sub(r"\n{3,}", "\n\n", _read(html)).strip()


def _read(html: str) -> str:
    parser = _Text()
    # A lone "<" is text; left alone, the parser would hand it over character by character.
    parser.feed(_LONE.sub("&lt;", html))
    return parser.finish()


def from_html(source: str, mask: Mask) -> str:
    """Return masked text for masked HTML; it ends without a line break."""
    text = _read(source)
    # A line of nothing but control tags would leave an empty line in every letter.
    control = re.compile(rf"(^|\n\n|\n)[ ]*((?:{mask.statement.pattern}[ ]*)+)\n(\n*)")
    text = control.sub(lambda match: match[1] + match[2] + (match[3] if match[1] == "\n" else ""), text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return mask.protect(text)
