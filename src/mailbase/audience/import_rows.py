"""One line of an import: which cell is what, and whether it may come in. Pure; runs in a thread of its own."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from mailbase.audience import addresses, limits
from mailbase.audience.addresses import Address
from mailbase.audience.csv_files import SURROGATE, Record, plain
from mailbase.audience.suppressions import erased_value
from mailbase.errors import Invalid

EMAIL_HEADERS: Final = frozenset({"email", "e-mail", "email address", "e-mail address", "mail", "email_address"})
KNOWN: Final = ("locale", "timezone", "tags", "interests")
SPLIT: Final = re.compile(r"[,;|]")
STAGED: Final = (
    "line",
    "email",
    "email_key",
    "domain",
    "erased",
    "attributes",
    "tags",
    "interests",
    "locale",
    "timezone",
)
SMALL: Final = 2000  # cells shorter than this together are under 16 kB of JSON in any case

NULL: Final = "\\N"
ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})

Staged = tuple[str, str]
"""The address' key, and the line as PostgreSQL's COPY reads it."""
Rejected = tuple[int, str | None, str]
"""Line, the address as it stood there, and the reason."""


class Batch(msgspec.Struct):
    """What a slice of the file came to."""

    staged: bytes = b""
    """What COPY reads: by address, each one once."""
    count: int = 0
    """Lines in it."""
    rejected: list[Rejected] = []
    repeated: int = 0
    """Lines whose address an earlier line of the slice had."""

    @property
    def lines(self) -> int:
        """How many lines these are."""
        return self.count + len(self.rejected) + self.repeated


class Columns(msgspec.Struct, frozen=True):
    """Where in a line what stands; -1: nowhere."""

    email: int
    locale: int
    timezone: int
    tags: int
    interests: int
    attributes: tuple[tuple[int, str], ...]
    width: int


def columns(header: Sequence[str], mapping: Mapping[str, str | None]) -> Columns:
    """Return what each column is: by the mapping first, then by its name; every other one is the attribute of its name.

    Raises:
        Invalid: no column of addresses, two for the same thing, a name no attribute can have, a mapping for no column.

    """
    names = [name.strip() for name in header]
    if any(SURROGATE.search(name) for name in names):
        raise Invalid("The file is not UTF-8.", code="invalid_file")
    missing = [name for name in mapping if name not in names]
    if missing:
        raise Invalid(
            f"The mapping names a column the file does not have: {missing[0]!r}. It has: {', '.join(names)[:500]}",
            code="invalid_mapping",
        )
    found: dict[str, int] = {}
    attributes: dict[str, int] = {}
    for place, name in enumerate(names):
        target = mapping[name] if name in mapping else _target(name)
        if not target:
            continue
        if target == "email" or target in KNOWN:
            into, key = found, target
        else:
            into, key = attributes, target.removeprefix("attributes.")
            if limits.check_attributes({key: ""}):
                raise Invalid(
                    f"Column {name!r} cannot become an attribute called {key[:80]!r}; give it another name in `mapping`.",
                    code="invalid_mapping",
                )
        if key in into:
            raise Invalid(f"Two columns are {key!r}.", code="invalid_mapping")
        into[key] = place
    if "email" not in found:
        raise Invalid(
            "No column holds e-mail addresses: call one `email`, or say which in `mapping`.", code="no_email_column"
        )
    if len(attributes) > limits.ATTRIBUTES:
        raise Invalid(
            f"At most {limits.ATTRIBUTES} columns can be attributes; leave others out with null in `mapping`.",
            code="invalid_mapping",
        )
    return Columns(
        email=found["email"],
        locale=found.get("locale", -1),
        timezone=found.get("timezone", -1),
        tags=found.get("tags", -1),
        interests=found.get("interests", -1),
        attributes=tuple((place, name) for name, place in attributes.items()),
        width=len(names),
    )


def _target(name: str) -> str | None:
    lower = name.lower()
    if lower in EMAIL_HEADERS:
        return "email"
    if lower in KNOWN:
        return lower
    return re.sub(r"\W+", "_", name).strip("_") or None


class Judge:
    """Decides line by line; knows the interests, and hashes addresses only where somebody was erased.

    ``tags`` and ``to_all`` (ids of interests) are given to everybody, besides what the line says.
    """

    def __init__(
        self,
        found: Columns,
        interests: Mapping[str, int],
        erasure_key: bytes | None,
        *,
        tags: Iterable[str] = (),
        to_all: Iterable[int] = (),
    ) -> None:
        self._columns = found
        self._interests = interests
        self._erasure_key = erasure_key
        self._all_tags = frozenset(tags)
        self._all_interests = frozenset(to_all)
        self._tags = lru_cache(4096)(self._read_tags)
        self._ids = lru_cache(4096)(self._read_interests)

    def sort(self, records: Iterable[Record]) -> Batch:
        """Return the lines that may come in, as they are staged, and those that may not."""
        first: dict[str, str] = {}
        batch = Batch(rejected=[])
        for record in records:
            line = self._one(record)
            if len(line) == 3:
                batch.rejected.append(line)
            elif line[0] in first:
                batch.repeated += 1
            else:
                first[line[0]] = line[1]
        # In the order of the index they go into, which is that of their bytes.
        batch.staged = "".join([first[key] for key in sorted(first)]).encode()
        batch.count = len(first)
        return batch

    def _one(self, record: Record) -> Staged | Rejected:
        line, cells, wrong = record
        place = self._columns
        if len(cells) < place.width:
            cells += [""] * (place.width - len(cells))
        text = plain(cells[place.email].strip())
        if wrong is not None:
            return line, _printable(text), wrong
        if len(cells) > place.width and any(cells[place.width :]):
            return line, _printable(text), "more cells than the header has columns"
        if not text:
            return line, None, "no address"
        address = addresses.read(text)
        if isinstance(address, str):
            return line, _printable(text), f"not an e-mail address: {address}"
        return self._rest(line, cells, address)

    def _rest(self, line: int, cells: list[str], address: Address) -> Staged | Rejected:
        place = self._columns
        attributes = {
            name: plain(cell) if cell[0] == "'" else cell
            for index, name in place.attributes
            if (cell := cells[index].strip())
        }
        reason = _wrong_attributes(attributes)
        tags, wrong_tags = self._tags(plain(cells[place.tags]) if place.tags >= 0 else "")
        interests, wrong_interests = self._ids(cells[place.interests] if place.interests >= 0 else "")
        reason = reason or wrong_tags or wrong_interests
        locale = timezone = None
        if place.locale >= 0 and (locale := cells[place.locale].strip() or None) and not limits.is_locale(locale):
            reason = f"not a locale: {locale[:40]}"
        if (
            place.timezone >= 0
            and (timezone := cells[place.timezone].strip() or None)
            and not limits.is_timezone(timezone)
        ):
            reason = f"not a time zone: {timezone[:60]}"
        if reason is not None:
            return line, address.email, reason.replace("\0", "?")
        erased = None if self._erasure_key is None else erased_value(address.key, self._erasure_key)
        json = msgspec.json.encode(attributes).decode()
        email, key = _escaped(address.email), _escaped(address.key)
        return address.key, (
            f"{line}\t{email}\t{key}\t{address.domain}\t{erased or NULL}\t{_escaped(json)}\t{tags}\t{interests}"
            f"\t{locale or NULL}\t{timezone or NULL}\n"
        )

    def _read_tags(self, cell: str) -> tuple[str, str | None]:
        tags = _split(cell)
        wrong = limits.check_tags(tags)
        return _array({*self._all_tags, *tags}), f"tags: {wrong[0].message}" if wrong else None

    def _read_interests(self, cell: str) -> tuple[str, str | None]:
        slugs = _split(cell)
        unknown = next((slug for slug in slugs if slug not in self._interests), None)
        if unknown is not None:
            return "{}", f"no such interest: {unknown[:80]}"
        return _array({*self._all_interests, *(self._interests[slug] for slug in slugs)}), None


def _array(elements: set[str] | set[int]) -> str:
    """Return an array's literal, escaped for COPY."""
    quoted = (str(one).replace("\\", r"\\").replace('"', r"\"") for one in sorted(elements))
    return _escaped("{" + ",".join(f'"{one}"' for one in quoted) + "}")


def _escaped(text: str) -> str:
    return text if "\\" not in text and text.isprintable() else text.translate(ESCAPES)


def _wrong_attributes(attributes: dict[str, Any]) -> str | None:
    values = "".join(attributes.values())
    if ("\0" in values or len(values) > SMALL) and (errors := limits.check_attributes(attributes)):
        return f"{errors[0].field}: {errors[0].message}"
    return None


def _split(cell: str) -> list[str]:
    return list(dict.fromkeys(part for text in SPLIT.split(cell) if (part := text.strip())))


def _printable(text: str) -> str | None:
    """Return what may be stored of a cell that was refused."""
    return text[:320].encode("utf-8", "replace").decode().replace("\0", "?") or None
