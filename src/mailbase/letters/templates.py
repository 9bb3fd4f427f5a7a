"""MiniJinja as letters use it: what a template may say, how a value is shown, and how a mistake is told.

HTML escapes every value, text and subject none. A missing attribute is empty; a missing name is refused beforehand.
``None`` shows as nothing, ``true``/``false`` as these words, a list as its members joined by commas.
"""

import re
from collections.abc import Callable, Container, Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from minijinja import Environment, Markup, TemplateError

from mailbase.errors import Invalid
from mailbase.letters import plain
from mailbase.letters.content import Person
from mailbase.letters.sandbox import SANDBOX, TOO_MUCH, Failure
from mailbase.letters.tags import Piece, split

MAX_SOURCE = 512 * 1024
MAX_RENDERED = 2 * 1024 * 1024
MAX_SHOWN = 4 * 1024 * 1024
"""Characters all values of one rendering may be together, before it is refused."""
MAX_WORK = 64 * 1024 * 1024
"""Bytes of values times tags up to which a harmless template is rendered here."""
FUEL = 500_000

SUBSCRIBER_KEYS = frozenset({"id", "email", "attributes", "interests", "tags", "locale", "timezone"})
URLS = frozenset({"unsubscribe_url", "preferences_url", "view_url"})
CAMPAIGN_NAMES = frozenset({"subscriber"}) | URLS
ROOM = "_room"
"""A filter only the compiler writes: it counts what a loop makes."""
LETTER = "_letter"
"""The letter's own token, a name only the compiler writes: owners' templates may not use it."""

# Names MiniJinja itself gives every template; `debug` would print what is not the reader's business.
_BUILT_IN = frozenset({"range", "dict", "namespace", "loop"})
_FORBIDDEN = frozenset({"include", "import", "from", "extends", "block"})
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'", re.DOTALL)
_FILTER = re.compile(r"\|\s*([A-Za-z_]\w*)")
_TEST = re.compile(r"\bis\s+(?:not\s+)?([A-Za-z_]\w*)")
_REPEAT = re.compile(r"['\"]\s*\*|\*\s*['\"]")
_OPERATOR = re.compile(r"[-+*/%~<>=!.|(\[]|\b(?:not|and|or|in|is|if)\b")
MAX_OPERATORS = 500
# MiniJinja descends once for each of them, on a stack whose end nothing catches.
_WIDE = re.compile(r"\d{3,}")
_EXACT = 2**63
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def show(value: Any) -> str:
    """Return how a value reads in a letter; line ends are line feeds."""
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n") if "\r" in value else str(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(show, value))
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return str(value)


def escape(text: str) -> str:
    """Escape for HTML, in element content and in quoted attributes alike."""
    return str(text).translate(_ESCAPES)


def show_html(value: Any) -> str:
    """Return how a value reads in HTML: escaped, unless the template called it ``safe``."""
    return show(value) if isinstance(value, Markup) else escape(show(value))


def one_line(text: str) -> str:
    """Return ``text`` as a header may carry it: control characters, line ends among them, become spaces."""
    return (text if text.isprintable() else _CONTROL.sub(" ", text)).strip()[:1000]


ENGINE_ERRORS = (
    TemplateError,
    Failure,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)
"""What a rendering may raise: the engine's own errors, and those of Python values it called back into."""


def _format(template: str, *values: Any) -> str:
    if _WIDE.search(template) or "*" in template:
        raise ValueError("a format's width has at most two digits")
    return str(template) % values


class Meter:
    """What the values of a rendering may still be: the engine itself counts steps, not bytes."""

    def __init__(self) -> None:
        self.left = MAX_SHOWN

    def spend(self, length: int) -> None:
        """Take ``length`` characters, or refuse."""
        self.left -= length
        if self.left < 0:
            raise ValueError(TOO_MUCH)

    def room(self, length: int) -> str:
        """As a filter: one turn of a loop whose body is so long."""
        self.spend(length)
        return ""


def environment(
    *, html: bool, finalizer: Callable[[Any], Any] | None = None, meter: Meter | None = None
) -> Environment:
    """Return an engine: no loader, bounded fuel, trailing newlines kept. ``finalizer`` replaces how values are shown.

    What escapes is the template's name, by MiniJinja's own rule: ``0.html`` does, ``0.txt`` does not.
    """
    if finalizer is None:
        finalizer = (lambda value: Markup(show_html(value))) if html else show
    env = Environment(
        fuel=FUEL,
        undefined_behavior="chainable",
        keep_trailing_newline=True,
        finalizer=finalizer if meter is None else metered(finalizer, meter),
    )
    env.add_filter("format", _format)
    env.remove_global("debug")
    if meter is not None:
        env.add_filter(ROOM, meter.room)
    return env


def metered(finalizer: Callable[[Any], Any], meter: Meter) -> Callable[[Any], Any]:
    """Return ``finalizer``, and what it shows counted."""

    def finish(value: Any) -> Any:
        shown = finalizer(value)
        meter.spend(len(shown))
        return shown

    return finish


def template_name(*, html: bool, number: int = 0) -> str:
    """Return a template's name; its ending is what turns escaping on (a callback would cost more than the rendering)."""
    return f"{number}.html" if html else f"{number}.txt"


_METERS = {True: Meter(), False: Meter()}


@lru_cache(maxsize=2)
def _engine(html: bool) -> Environment:
    return environment(html=html, meter=_METERS[html])


def html_engine() -> Environment:
    """Return what HTML is rendered by in the sandbox."""
    return environment(html=True)


def text_engine() -> Environment:
    """Return what text and subjects are rendered by in the sandbox."""
    return environment(html=False)


def render(source: str, *, html: bool, variables: dict[str, Any], field: str = "template") -> str:
    """Render a template: here if its words say that it is harmless, otherwise in the sandbox.

    Raises:
        Invalid: the template failed on these values, takes too much for them, or the result is larger than ``MAX_RENDERED``.
    """
    name = template_name(html=html)
    try:
        if is_light(source, variables):
            _METERS[html].left = MAX_SHOWN
            text: str = _engine(html).render_str(source, name, **variables)
        else:
            text = SANDBOX.render(html_engine if html else text_engine, source, name, variables)
    except ENGINE_ERRORS as error:
        raise _refusal(source, field, error) from error
    if len(text) > MAX_RENDERED:
        raise Invalid.field(field, "too_large", f"{field} renders to more than {MAX_RENDERED // 1024} kB")
    return text


def is_light(source: str, variables: Mapping[str, Any]) -> bool:
    """Tell whether rendering ``source`` with ``variables`` is known to take little, whatever they hold."""
    if "{" not in source:
        return True
    seen = plain.look(source)
    return seen.harmless and not seen.loops and seen.tags * _size(variables) <= MAX_WORK


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size(key) + _size(item) for key, item in value.items())
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 8


def subscriber(person: Person) -> dict[str, Any]:
    """Return what ``{{ subscriber }}`` is for a person; what is ``None`` is left out, so ``default`` applies."""
    seen: dict[str, Any] = {
        "id": person.id,
        "email": person.email,
        "attributes": {key: value for key, value in person.attributes.items() if value is not None},
        "interests": person.interests,
        "tags": person.tags,
    }
    if person.locale is not None:
        seen["locale"] = person.locale
    if person.timezone is not None:
        seen["timezone"] = person.timezone
    return seen


def position(source: str, offset: int) -> tuple[int, int]:
    """Return line and column (both from 1) of a character offset."""
    before = source[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def refuse(source: str, field: str, offset: int, word: str, reason: str, *, code: str = "template_error") -> Invalid:
    """Return the refusal that points into the sender's own source."""
    line, column = position(source, offset)
    near = f" near “{word}”" if word else ""
    return Invalid.field(field, code, f"{field}, line {line}, column {column}: {reason}{near}")


def _refusal(source: str, field: str, error: Exception) -> Invalid:
    if not isinstance(error, (TemplateError, Failure)):
        return Invalid.field(field, "template_error", f"{field}: {error}")
    reason = error.detail or error.message
    if error.range is None and error.line is None:
        return Invalid.field(field, "template_error", f"{field}: {reason}")
    if error.range is None:
        lines = source.split("\n")
        line = min(error.line or 1, len(lines))
        return refuse(source, field, sum(len(text) + 1 for text in lines[: line - 1]), "", reason)
    raw = source.encode()
    start, end = error.range
    offset = len(raw[:start].decode(errors="ignore"))
    word = raw[start:end].decode(errors="ignore").strip() or _word_at(source, offset)
    return refuse(source, field, offset, word[:60], reason)


def _word_at(source: str, offset: int) -> str:
    words = re.findall(r"\S+", source[max(0, offset - 60) : offset])
    return words[-1] if words else ""


def used(source: str) -> set[str]:
    """Return the undeclared names a template uses, with their attributes (``subscriber.attributes.city``)."""
    return set(_engine(False).undeclared_variables_in_str(source, nested=True))


def check(
    source: str,
    *,
    field: str,
    names: Iterable[str],
    shape: dict[str, frozenset[str]] | None = None,
    filters: Container[str] = (),
) -> None:
    """Check a template before it is kept.

    ``names`` may be used at the top level; ``shape`` closes a name's own keys (``{"subscriber": SUBSCRIBER_KEYS}``); ``filters``
    are known beside MiniJinja's.

    Raises:
        Invalid: ``too_large``, ``template_error`` or ``unknown_variable`` for ``field``, with line, column and word.
    """
    if len(source.encode()) > MAX_SOURCE:
        raise Invalid.field(field, "too_large", f"{field} is larger than {MAX_SOURCE // 1024} kB")
    if "{" not in source:
        return
    for piece in split(source):
        if piece.kind != "text" and len(_OPERATOR.findall(_STRING.sub('""', piece.inner))) > MAX_OPERATORS:
            raise refuse(source, field, piece.start, piece.inner[:20], "this expression is too long")
    _compile(source, field)
    pieces = [piece for piece in split(source) if piece.kind != "text"]
    for piece in pieces:
        _check_piece(source, field, piece, filters)
    allowed = set(names) | _BUILT_IN
    for name in sorted(used(source)):
        top, _, rest = name.partition(".")
        key = rest.partition(".")[0]
        if top not in allowed:
            offset = _find(source, pieces, rf"(?<![\w.]){re.escape(top)}\b")
            raise refuse(source, field, offset, top, f"unknown variable {top}", code="unknown_variable")
        closed = (shape or {}).get(top)
        if closed is not None and key and key not in closed:
            offset = _find(source, pieces, rf"(?<![\w.]){re.escape(top)}\s*\.\s*{re.escape(key)}\b")
            raise refuse(
                source,
                field,
                offset,
                f"{top}.{key}",
                f"{top} has no field {key}",
                code="unknown_variable",
            )


def _compile(source: str, field: str) -> None:
    engine = _engine(False)
    try:
        if not plain.look(source).harmless:  # constants are multiplied while a template is compiled
            SANDBOX.compile(text_engine, source, "checked")
        engine.add_template("checked", source)
    except (TemplateError, Failure) as error:
        raise _refusal(source, field, error) from error
    finally:
        engine.remove_template("checked")


def _check_piece(source: str, field: str, piece: Piece, filters: Container[str]) -> None:
    if piece.kind == "statement" and piece.word in _FORBIDDEN:
        raise refuse(source, field, piece.start, piece.word, f"{piece.word} is not available here")
    bare = _STRING.sub('""', piece.inner)
    if _REPEAT.search(bare):
        raise refuse(source, field, piece.start, piece.inner[:60], "text cannot be multiplied")
    for pattern, sample, kind in (
        (_FILTER, "{{{{ '' | {} }}}}", "UnknownFilter"),
        (_TEST, "{{{{ '' is {} }}}}", "UnknownTest"),
    ):
        for match in pattern.finditer(bare):
            word = match.group(1)
            if word == ROOM or (
                not (kind == "UnknownFilter" and word in filters) and not _known(sample.format(word), kind)
            ):
                offset = source.find(word, piece.start)
                what = "filter" if kind == "UnknownFilter" else "test"
                raise refuse(source, field, max(offset, piece.start), word, f"unknown {what} {word}")


@lru_cache(maxsize=512)
def _known(sample: str, kind: str) -> bool:
    try:
        _engine(False).render_str(sample)
    except TemplateError as error:
        return error.kind != kind
    return True


def _find(source: str, pieces: list[Piece], pattern: str) -> int:
    for piece in pieces:
        blank = _STRING.sub(lambda match: " " * len(match.group()), piece.inner)
        match = re.search(pattern, blank)
        if match:
            return source.find(piece.inner, piece.start) + match.start()
    return 0
