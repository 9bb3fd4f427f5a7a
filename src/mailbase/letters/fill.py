"""A letter is filled in: bytes that were encoded once, and the few values that are the reader's own, in their order.

Each part takes the cheapest way that is right for its template:
  expressions only         static text and holes, never joined: what is the same in all letters is read from the same place
  + if, for                these blocks by MiniJinja over already encoded text, its finalizer encodes the values
  whatever could grow      rendered plainly in the sandbox, then encoded
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2s
from operator import itemgetter
from typing import Any

from minijinja import Markup

from mailbase.errors import Invalid
from mailbase.letters import plain, quoted, templates
from mailbase.letters.content import Compiled, Letter, Person, Rendered, Tokens
from mailbase.letters.headers import Header, unstructured
from mailbase.letters.sandbox import SANDBOX
from mailbase.letters.tags import Piece, literal, split

_CONSTANT = re.compile(r"\"([^\"\\]*)\"|'([^'\\]*)'")
_VALUE = re.compile(
    r"subscriber\.(?:(email|locale|timezone|id|interests|tags)|attributes\.([A-Za-z_]\w*))"
    r"(?:\s*\|\s*default\(\s*(?:\"([^\"\\]*)\"|'([^'\\]*)')\s*(,\s*true\s*)?\))?",
)
_CACHED = 80
MOST_SANDBOXED = 3
"""Expressions of a part that go to the sandbox one by one; where there are more, the part goes whole."""
MOST_REPEATED = 4096
"""Text in loops that needs no counting: a person's attributes are at most 16 kB, a list in them some thousand items."""
LARGEST = 3 * templates.MAX_RENDERED
MOST_UNCOUNTED = 500
"""So many values of one person fit into a letter, however long they are."""
_TOKENS = {templates.LETTER: 0, "unsubscribe_url": 1, "preferences_url": 2, "view_url": 3}
_PATHS = {"unsubscribe_url": "/u/", "preferences_url": "/p/", "view_url": "/v/"}

Value = Callable[[Person], str]
Slot = tuple[Value, Callable[[str], bytes]]
Heavy = Callable[[dict[str, Any]], bytes]
Item = bytes | tuple[int, int]
"""A stretch of a body: final bytes, or (kind, number): 0 a token, 1 a slot, 2 a heavy slot."""


def _is_harmless(piece: Piece) -> bool:
    return piece.kind == "text" or (
        (piece.kind == "expression" or piece.word in plain.STATEMENTS) and plain.is_harmless(piece.inner)
    )


def _groups(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Cut a template into its outermost if and for blocks and what lies between them."""
    group: list[Piece] = []
    depth = 0
    for piece in pieces:
        opens = piece.kind == "statement" and piece.word in {"if", "for"}
        if opens and not depth and group:
            yield group
            group = []
        group.append(piece)
        depth += opens
        if piece.kind == "statement" and piece.word in {"endif", "endfor"}:
            depth -= 1
            if not depth:
                yield group
                group = []
    if group:
        yield group


def _body(group: list[Piece], number: int) -> Iterator[int]:
    """Yield the places of what a ``for`` repeats."""
    depth = 0
    for at in range(number, len(group)):
        if group[at].kind == "statement":
            depth += (group[at].word == "for") - (group[at].word == "endfor")
            if not depth:
                return
        yield at


def _value(piece: Piece) -> Value | None:
    """Return how to read a simple expression's value without the engine, or None when it is not simple."""
    match = _VALUE.fullmatch(piece.inner)
    if match is None:
        return None
    field, key, double, single, falsy = match.groups()
    fallback = double if double is not None else single if single is not None else ""
    if field == "email":
        return lambda person: person.email

    def value(person: Person) -> str:
        found = person.attributes.get(key) if key is not None else getattr(person, field)
        if found is None or (falsy and not found):
            return fallback
        return found if type(found) is str else templates.show(found)

    return value


def _encoder(*, html: bool) -> Callable[[str], bytes]:
    def encode(text: str) -> bytes:
        return quoted.piece(templates.escape(text) if html else text)

    cached = lru_cache(maxsize=4096)(encode)
    return lambda text: quoted.simple(text) or (cached(text) if len(text) <= _CACHED else encode(text))


def _finalizer(encode: Callable[[str], bytes], *, html: bool) -> Callable[[Any], Any]:
    """Encode a value on its way out of the engine, so that what comes out is the finished part."""

    def finish_html(value: Any) -> Markup:
        if isinstance(value, Markup):
            return Markup(quoted.piece(templates.show(value)).decode())
        return Markup(encode(templates.show(value)).decode())

    def finish_text(value: Any) -> str:
        return encode(templates.show(value)).decode()

    return finish_html if html else finish_text


def variables(base_url: str, person: Person, tokens: Tokens) -> dict[str, Any]:
    """Return what a campaign's templates see."""
    return {
        "subscriber": templates.subscriber(person),
        "unsubscribe_url": f"{base_url}/u/{tokens.unsubscribe}",
        "preferences_url": f"{base_url}/p/{tokens.preferences}",
        "view_url": f"{base_url}/v/{tokens.view}",
        templates.LETTER: tokens.letter,
    }


class Filler:
    """Fills letters of one campaign in. Build it once per process and campaign; it keeps no person."""

    def __init__(self, compiled: Compiled) -> None:
        self._base = compiled.base_url
        self._slots: list[Slot] = []
        self._heavy: list[Heavy] = []
        self._statics: list[bytes] = []
        self._known: dict[tuple[bool, str], int] = {}
        self._meter = templates.Meter()
        self._repeated = 0
        self._encode = {html: _encoder(html=html) for html in (False, True)}
        self._envs = {
            html: templates.environment(
                html=html, finalizer=_finalizer(self._encode[html], html=html), meter=self._meter
            )
            for html in (False, True)
        }
        self._subject = self._line(compiled.subject)
        self._whole = compiled.html is None
        if compiled.html is None:
            items = self._part(compiled.text, html=False)
            self._mime = [
                (b"Content-Type", b"text/plain; charset=utf-8"),
                (b"Content-Transfer-Encoding", b"quoted-printable"),
            ]
        else:
            boundary = boundary_for(compiled.text, compiled.html)
            items = [_opening(boundary, b"plain"), *self._part(compiled.text, html=False)]
            items += [b"\r\n", _opening(boundary, b"html"), *self._part(compiled.html, html=True)]
            items += [b"\r\n", _closing(boundary)]
            self._mime = [(b"Content-Type", b'multipart/alternative;\r\n boundary="' + boundary + b'"')]
        self._pick = self._plan(items)

    def fill(self, person: Person, tokens: Tokens) -> Letter:
        """Return one person's letter.

        Raises:
            Invalid: the template fails on this person's values.
        """
        values = [
            quoted.token(tokens.letter),
            quoted.token(tokens.unsubscribe),
            quoted.token(tokens.preferences),
            quoted.token(tokens.view),
        ]
        for value, encode in self._slots:
            values.append(encode(value(person)))
        if self._heavy:
            seen = variables(self._base, person, tokens)
            self._meter.left = 3 * templates.MAX_SHOWN
            try:
                values += [slot(seen) for slot in self._heavy]
            except templates.ENGINE_ERRORS as error:
                reason = getattr(error, "detail", None) or error
                raise Invalid(f"the letter cannot be filled in: {reason}", code="template_error") from error
        pieces: tuple[bytes, ...] = self._pick((*self._statics, *values))
        if len(pieces) > MOST_UNCOUNTED and sum(map(len, pieces)) > LARGEST:
            raise Invalid(f"a letter larger than {LARGEST // 1024} kB", code="too_large")
        if self._whole:
            pieces = (quoted.end_body(b"".join(pieces)),)
        subject, header = self._subject(person, tokens)
        return Letter(subject=subject, headers=[header, *self._mime], pieces=pieces)

    def _line(self, source: str) -> Callable[[Person, Tokens], tuple[str, Header]]:
        """Return how the subject is filled in, and its header."""
        pieces = split(source)
        if all(piece.kind == "text" for piece in pieces):
            constant = _subject("".join(piece.inner for piece in pieces))
            return lambda _person, _tokens: constant
        readers: list[str | Value] = []
        for piece in pieces:
            value = _value(piece) if piece.kind == "expression" else None
            if piece.kind != "text" and value is None:
                return lambda person, tokens: _subject(
                    templates.render(
                        source, html=False, variables=variables(self._base, person, tokens), field="subject"
                    ),
                )
            readers.append(value or piece.inner)
        return lambda person, _tokens: _subject(
            "".join([reader if isinstance(reader, str) else reader(person) for reader in readers]),
        )

    def _part(self, source: str, *, html: bool) -> list[Item]:
        pieces = split(source)
        if any(piece.kind == "statement" and not _is_harmless(piece) for piece in pieces):
            return [self._sandboxed(source, html=html)]
        if sum(not _is_harmless(piece) for piece in pieces) > MOST_SANDBOXED:
            return [self._sandboxed(source, html=html)]
        items: list[Item] = []
        for group in _groups(pieces):
            if group[0].kind == "statement":
                items.append(self._block(group, html=html))
            else:
                items += self._holes(group, html=html)
        if items and isinstance(items[-1], bytes):
            items[-1] = quoted.end_part(items[-1])
        return items

    def _block(self, group: list[Piece], *, html: bool) -> tuple[int, int]:
        if not all(map(_is_harmless, group)):
            source = "".join(literal(piece.inner) if piece.kind == "text" else piece.source for piece in group)
            return self._sandboxed(source, html=html)
        encoded = [
            quoted.piece(piece.inner, braces=True).decode() if piece.kind == "text" else piece.source for piece in group
        ]
        self._count_loops(group, encoded)
        return self._template("".join(encoded), html=html)

    def _count_loops(self, group: list[Piece], encoded: list[str]) -> None:
        """Let each turn of a loop take what it makes from the meter, where a person's own lists do not bound it well enough."""
        loops = [at for at, piece in enumerate(group) if piece.kind == "statement" and piece.word == "for"]
        lengths = [sum(len(encoded[at]) for at in _body(group, loop) if group[at].kind == "text") for loop in loops]
        self._repeated += sum(lengths)
        if len(loops) == 1 and self._repeated <= MOST_REPEATED:
            return
        for loop, length in zip(loops, lengths, strict=True):
            encoded[loop] += f"{{% if {length} | {templates.ROOM} %}}{{% endif %}}"

    def _holes(self, pieces: list[Piece], *, html: bool) -> list[Item]:
        items: list[Item] = []
        text = ""
        for piece in pieces:
            constant = _CONSTANT.fullmatch(piece.inner) if piece.kind == "expression" else None
            if piece.kind == "text":
                text += piece.inner
                continue
            if constant:
                value = constant.group(1) if constant.group(1) is not None else constant.group(2)
                text += templates.escape(value) if html else value
                continue
            path = _PATHS.get(piece.inner)
            if path:
                url = self._base + path
                text += templates.escape(url) if html else url
            if text:
                items.append(quoted.piece(text))
                text = ""
            items.append(self._hole(piece, html=html))
        if text:
            items.append(quoted.piece(text))
        return items

    def _hole(self, piece: Piece, *, html: bool) -> tuple[int, int]:
        number = _TOKENS.get(piece.inner)
        if number is not None:
            return 0, number
        value = _value(piece)
        if value is None:
            make = self._template if _is_harmless(piece) else self._sandboxed
            return make(piece.source, html=html)
        key = (html, piece.inner)
        if key not in self._known:
            encode = self._encode[html]
            self._known[key] = len(self._slots)
            self._slots.append((value, encode))
        return 1, self._known[key]

    def _template(self, source: str, *, html: bool) -> tuple[int, int]:
        env = self._envs[html]
        name = templates.template_name(html=html, number=len(self._heavy))
        env.add_template(name, source)
        return self._add(lambda seen: str(env.render_template(name, **seen)).encode())

    def _sandboxed(self, source: str, *, html: bool) -> tuple[int, int]:
        maker = templates.html_engine if html else templates.text_engine
        name = templates.template_name(html=html)
        return self._add(lambda seen: quoted.piece(SANDBOX.render(maker, source, name, seen)))

    def _add(self, heavy: Heavy) -> tuple[int, int]:
        self._heavy.append(heavy)
        return 2, len(self._heavy) - 1

    def _plan(self, items: list[Item]) -> Callable[[tuple[bytes, ...]], tuple[bytes, ...]]:
        """Return the pick of statics and values, in the order of the body."""
        merged: list[Item] = []
        for item in items:
            if isinstance(item, bytes) and merged and isinstance(merged[-1], bytes):
                merged[-1] += item
            else:
                merged.append(item)
        self._statics = [item for item in merged if isinstance(item, bytes)]
        starts = (len(self._statics), len(self._statics) + 4, len(self._statics) + 4 + len(self._slots))
        order: list[int] = []
        static = 0
        for item in merged:
            if isinstance(item, bytes):
                order.append(static)
                static += 1
            else:
                order.append(starts[item[0]] + item[1])
        if len(order) > 1:
            return itemgetter(*order)
        return lambda values: tuple(values[number] for number in order)


def _subject(text: str) -> tuple[str, Header]:
    line = templates.one_line(text)
    return line, (b"Subject", unstructured(line, len("Subject: ")))


def boundary_for(*parts: str | bytes | None) -> bytes:
    """Return a boundary that depends on the content alone; ``=_`` cannot occur in quoted-printable or base64."""
    digest = blake2s(digest_size=12)
    for part in parts:
        digest.update(part.encode(errors="replace") if isinstance(part, str) else part or b"")
    return b"=_" + digest.hexdigest().encode()


def _opening(boundary: bytes, subtype: bytes) -> bytes:
    return (
        b"--" + boundary + b"\r\nContent-Type: text/" + subtype + b"; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )


def _closing(boundary: bytes) -> bytes:
    return b"--" + boundary + b"--\r\n"


def encode(rendered: Rendered) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return MIME headers and body of a letter that is already rendered, on the plain way."""
    text = quoted.piece(rendered.text)
    if rendered.html is None:
        return [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Transfer-Encoding", b"quoted-printable"),
        ], quoted.end_body(text)
    boundary = boundary_for(rendered.text, rendered.html)
    html = quoted.piece(rendered.html)
    body = [_opening(boundary, b"plain"), quoted.end_part(text), b"\r\n", _opening(boundary, b"html")]
    body += [quoted.end_part(html), b"\r\n", _closing(boundary)]
    return [(b"Content-Type", b'multipart/alternative;\r\n boundary="' + boundary + b'"')], b"".join(body)
