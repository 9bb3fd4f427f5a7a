"""Links of a letter: found in HTML without touching a byte around them, numbered, tracked, and filled in at the click.

Only ``href`` of ``<a>`` and ``<area>`` with http(s) is rewritten. A link that holds expressions keeps its URL as a
template; its host must be static, else a value could send readers anywhere.
"""

import html
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote

from minijinja import Environment
from msgspec import Struct

from mailbase.errors import Invalid
from mailbase.letters.content import Person
from mailbase.letters.sandbox import SANDBOX
from mailbase.letters.tags import Mask
from mailbase.letters.templates import ENGINE_ERRORS, LETTER, URLS, environment, is_light, show, subscriber, used

TRAP = 32767
"""The number of the link that nobody sees: above any other."""

_ATTRIBUTE = re.compile(r"([^\s=/>\"']+)(?:\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s>]+))?")
_TAG_REST = re.compile(r"(?:[^>\"']|\"[^\"]*\"|'[^']*')*+>")
_OPENING = re.compile(r"<([A-Za-z][\w:-]*)")
_CONDITIONAL = re.compile(r"<!--\[if[^\]]*\]>")
_NO_HTML = frozenset({"script", "style", "textarea", "title", "xmp"})
_WEB = re.compile(r"https?://", re.IGNORECASE)
_HOST = re.compile(r"https?://[^/?#\s\\]+[/?#]", re.IGNORECASE)
_UNWANTED = re.compile(r"[\x00-\x20\x7f]+")
_NOT_ASCII = re.compile(r"[^\x21-\x7e]|[\"<>\\^`{|}]")
_TRAILING = ".,;:!?'»”’*_"


class Element(Struct):
    """An HTML start tag: its name, its attributes, and where the value of each stands (quotes included)."""

    name: str
    start: int
    end: int
    attributes: dict[str, tuple[str, int, int]]

    def value(self, name: str) -> str | None:
        """Return an attribute's value with its character references resolved."""
        found = self.attributes.get(name)
        return None if found is None else html.unescape(found[0])


def elements(source: str) -> Iterator[Element]:
    """Walk over the start tags of (masked) HTML, leaving out comments, scripts and styles.

    Content of conditional comments is walked over too: Outlook shows it.
    """
    at = 0
    while (at := source.find("<", at)) >= 0:
        if source.startswith("<!--", at):
            conditional = _CONDITIONAL.match(source, at)
            close = source.find("-->", at)
            if close < 0:
                return
            at = conditional.end() if conditional else close + 3
            continue
        opening = _OPENING.match(source, at)
        rest = _TAG_REST.match(source, opening.end()) if opening else None
        if opening is None or rest is None:
            at += 1
            continue
        name = opening.group(1).lower()
        yield Element(name, at, rest.end(), _attributes(source, opening.end(), rest.end() - 1))
        at = rest.end()
        if name in _NO_HTML:
            ending = re.compile(rf"</{name}", re.IGNORECASE).search(source, at)
            if ending is None:
                return
            at = ending.start()


def _attributes(source: str, start: int, end: int) -> dict[str, tuple[str, int, int]]:
    found: dict[str, tuple[str, int, int]] = {}
    for match in _ATTRIBUTE.finditer(source, start, end):
        name = match.group(1).lower()
        if name in found:
            continue
        value = match.group(2) or ""
        inner = value[1:-1] if value[:1] in {'"', "'"} else value.removesuffix("/") if match.end() == end else value
        found[name] = (inner, match.start(2), match.start(2) + len(value if value[:1] in {'"', "'"} else inner))
    return found


class Links:
    """The numbered links of one campaign. The same URL has one number, in both parts."""

    def __init__(self, mask: Mask, *, base_url: str, track: bool, utm: Mapping[str, str] | None) -> None:
        self.urls: list[str] = []
        self._mask = mask
        self._base = base_url
        self._track = track
        self._utm = {
            key if key.startswith("utm_") else f"utm_{key}": value for key, value in (utm or {}).items() if value
        }
        self._numbers: dict[str, int] = {}
        self._token = mask.hide("{{ " + LETTER + " }}")

    def html(self, source: str) -> str:
        """Return masked HTML with its links rewritten.

        Raises:
            Invalid: ``dynamic_link_host``.
        """
        out: list[str] = []
        at = 0
        for element in elements(source):
            if element.name not in {"a", "area"} or "href" not in element.attributes:
                continue
            value, start, end = element.attributes["href"]
            new = self._rewrite(html.unescape(value), field="html")
            if new is not None and start >= 0:
                out += [source[at:start], '"', html.escape(new), '"']
                at = end
        out.append(source[at:])
        return "".join(out)

    def text(self, source: str) -> str:
        """Return masked text with its links rewritten: a letter of text alone has no others to count."""
        pattern = re.compile(rf"https?://(?:(?!{self._mask.prefix}s\d)[^\s<>\"])+", re.IGNORECASE)

        def replace(match: re.Match[str]) -> str:
            url, rest = trim(match.group())
            return (self._rewrite(url, field="text") or url) + rest

        return pattern.sub(replace, source)

    def _rewrite(self, masked: str, *, field: str) -> str | None:
        """Return what stands in the letter instead of a URL, or None when it stays as it is."""
        masked = re.sub(r"[\t\r\n]", "", masked).strip()
        first = self._mask.any.match(masked)
        if first:
            piece = self._mask.pieces[int(first.group(1))]
            if piece.inner.split("|")[0].strip() in URLS or not self._track:
                return None
            raise _dynamic(piece.source, field)
        if not _WEB.match(masked):
            return None
        has_tags = self._mask.any.search(masked)
        if has_tags and not _HOST.match(masked[: has_tags.start()]):
            if not self._track:
                return None
            raise _dynamic(self._mask.show(masked), field)
        url = self._mask.protect(_with_utm(_ascii(masked), self._utm))
        if not self._track:
            return url if self._utm else None
        template = self._mask.show(url)
        # A loop's variable is not known any more when the reader clicks.
        if any(name.partition(".")[0] != "subscriber" for name in used(template)):
            return None
        number = self._numbers.get(template)
        if number is None:
            self.urls.append(template)
            number = self._numbers[template] = len(self.urls)
        return f"{self._base}/l/{number}/{self._token}"


def _dynamic(link: str, field: str) -> Invalid:
    return Invalid.field(
        field,
        "dynamic_link_host",
        f"the host of a tracked link must be written out, not filled in: {link[:120]}",
    )


def trim(url: str) -> tuple[str, str]:
    """Split what a sentence leaves behind a URL in plain text (``.``, ``)``, …) from the URL."""
    open_brackets: list[str] = []
    end = len(url)
    for at, char in enumerate(url):
        if char in "([{":
            open_brackets.append(char)
        elif char in ")]}":
            if not open_brackets:
                end = at
                break
            open_brackets.pop()
    while end and url[end - 1] in _TRAILING:
        end -= 1
    return url[:end], url[end:]


def _ascii(url: str) -> str:
    """Return a URL a Location header can carry: host in A-labels, everything else percent-encoded."""
    match = re.match(r"(https?://)([^/?#]*)(.*)", url, re.IGNORECASE | re.DOTALL)
    if match is None:
        return url
    scheme, host, rest = match.groups()
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            host = quote(host, safe="@:.-")
    return scheme + host + _NOT_ASCII.sub(lambda found: quote(found.group()), rest)


def _with_utm(url: str, utm: Mapping[str, str]) -> str:
    """Add the parameters that are not there yet, before the fragment."""
    if not utm:
        return url
    body, mark, fragment = url.partition("#")
    query = body.partition("?")[2]
    present = {part.partition("=")[0] for part in query.split("&")}
    extra = "&".join(f"{quote(key)}={quote(value, safe='')}" for key, value in utm.items() if key not in present)
    if not extra:
        return url
    joint = "?" if "?" not in body else "" if body.endswith(("?", "&")) else "&"
    return body + joint + extra + mark + fragment


def url_engine() -> Environment:
    """Return what a link is rendered by: values are percent-encoded."""
    return environment(html=False, finalizer=lambda value: quote(show(value), safe="/%~-._"))


_engine = lru_cache(maxsize=1)(url_engine)


def link_url(compiled_link: str, person: Person | None) -> str:
    """Return where a click on a link leads: its stored URL, expressions filled in and percent-encoded.

    A value cannot leave the place its expression has: path or query parameter, never host or another parameter.
    ``None``: the reader is not known any more.

    Raises:
        Invalid: the expression fails on this person's values.
    """
    if "{{" not in compiled_link and "{%" not in compiled_link:
        return compiled_link
    try:
        seen = {"subscriber": subscriber(person) if person else {}}
        if is_light(compiled_link, seen):
            filled: str = _engine().render_str(compiled_link, **seen)
        else:
            filled = SANDBOX.render(url_engine, compiled_link, "link", seen)
    except ENGINE_ERRORS as error:
        raise Invalid(f"the link cannot be filled in: {error}", code="template_error") from error
    return _UNWANTED.sub("", filled)
