"""A multipart body with one file, taken as it streams: small fields are kept, the file goes slice by slice where the caller wants it."""

import re
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from mailbase.errors import Malformed, TooLarge

SLICE: Final = 1 << 20
LONGEST_FIELD: Final = 256 * 1024
LONGEST_HEADER: Final = 16 * 1024


class Part(msgspec.Struct):
    """One part of the body while it is read."""

    header: bytearray = msgspec.field(default_factory=bytearray)
    value: bytearray = msgspec.field(default_factory=bytearray)
    headers: dict[str, bytes] = {}
    name: str = ""
    filename: str = ""


class Upload:
    """Collects what the parser reports; the file's bytes are waiting in ``file``."""

    def __init__(self, boundary: bytes, file_field: str) -> None:
        self.fields: dict[str, bytes] = {}
        self.file = bytearray()
        self.filename = ""
        self.has_file = False
        self.complete = False
        self._file_field = file_field
        self._part = Part()
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def _begin(self) -> None:
        self._part = Part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header += data[start:end]
        self._limit(len(self._part.header), LONGEST_HEADER)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]
        self._limit(len(self._part.value), LONGEST_HEADER)

    def _header_end(self) -> None:
        self._part.headers[self._part.header.decode("latin-1").lower()] = bytes(self._part.value)
        self._part.header.clear()
        self._part.value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._part.headers.get("content-disposition", b""))
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
        self._part.filename = plain_name(options.get(b"filename", b"").decode("utf-8", "replace"))
        if self._part.name in self.fields or (self._part.name == self._file_field and self.has_file):
            raise Malformed(f"The field {self._part.name!r} comes twice.")
        if self._part.name == self._file_field:
            self.has_file = True
            self.filename = self._part.filename

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name == self._file_field:
            self.file += data[start:end]
        else:
            self._part.value += data[start:end]
            self._limit(len(self._part.value), LONGEST_FIELD)

    def _end(self) -> None:
        if self._part.name != self._file_field:
            self.fields[self._part.name] = bytes(self._part.value)

    def _finish(self) -> None:
        self.complete = True

    @staticmethod
    def _limit(length: int, limit: int) -> None:
        if length > limit:
            raise TooLarge("A field beside the file is too large.")


def plain_name(sent: str) -> str:
    """Return a file's name as its owner knows it: without folders and control characters.

    What cannot stand between quotes browsers write as ``%22``, ``%0D`` and ``%0A``, and nothing else so (HTML, multipart/form-data encoding).
    """
    decoded = re.sub("%(22|0D|0A)", lambda match: chr(int(match[1], 16)), sent, flags=re.IGNORECASE)
    name = re.split(r"[/\\]", decoded)[-1]
    return "".join(char for char in name if unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"}).strip()[:255]


async def receive(
    request: Request[Any, Any, Any],
    *,
    file_field: str,
    save: Callable[[bytes], Awaitable[None]],
    called: Callable[[str], object] | None = None,
) -> dict[str, bytes]:
    """Read the whole body; ``save`` gets the file in slices of 1 MiB, ``called`` at the end its name. Return the other fields.

    Raises:
        HTTPException: 415, this is no multipart body.
        Malformed: it breaks off, is not multipart after all, or has no file.
        TooLarge: another field is too long.

    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise HTTPException(status_code=415, detail="The body must be multipart/form-data.")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise Malformed("The multipart body names no boundary.")
    try:
        upload = Upload(boundary, file_field)
        async for chunk in request.stream():
            upload.parser.write(chunk)
            while len(upload.file) >= SLICE:
                await save(bytes(upload.file[:SLICE]))
                del upload.file[:SLICE]
        upload.parser.finalize()
    except MultipartParseError as error:
        raise Malformed(f"The multipart body cannot be read: {error}") from None
    if not upload.complete:
        raise Malformed("The multipart body breaks off.")
    if not upload.has_file:
        raise Malformed(f"The field {file_field!r} with the file is missing.")
    if upload.file:
        await save(bytes(upload.file))
    if called is not None:
        called(upload.filename)
    return upload.fields
