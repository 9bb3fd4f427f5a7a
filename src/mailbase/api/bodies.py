"""Reading a JSON body strictly, and saying everything that is wrong with it at once.

msgspec stops at the first bad field. Only when it refuses is the body walked a second time, field by field, along the type.
A wrong shape (type, missing, unknown) is malformed, a right shape with an unacceptable value is invalid; malformed wins.
"""

import re
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec
from litestar import Request
from litestar.datastructures import FormMultiDict, State
from litestar.exceptions import HTTPException
from msgspec import UNSET, UnsetType, ValidationError

from mailbase.audience.keys import Bearer
from mailbase.audience.limits import ONE_LINE
from mailbase.errors import FieldError, Invalid, Malformed

SHAPE: Final = {"wrong_type", "missing_field", "unknown_field"}
MOST_ERRORS: Final = 100
_NOT_ONE_LINE: Final = f"Expected `str` matching regex {ONE_LINE!r}"
_PATTERN = re.compile(r"Expected `str` matching regex ")
_WHERE = re.compile(r" - at `(?:key in )?\$?(.*?)`$", re.DOTALL)


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """What may be in the body of a route that takes none: no field, so that none is ignored."""


class StrictRequest(Request[Bearer, Any, State]):
    """A request of the keyed API: JSON only, and the body becomes exactly what the handler declares."""

    _read: Any = UNSET

    async def form(self) -> FormMultiDict:
        """Return the parts of a multipart body.

        Raises:
            HTTPException: 415, the body is declared to be something else.

        """
        if self.content_type[0].lower() != "multipart/form-data":
            raise HTTPException(status_code=415, detail="The body must be declared as multipart/form-data.")
        return await super().form()

    async def nothing(self) -> None:
        """Read a body that has no say here: it may be empty, `{}` or `null`.

        Raises:
            HTTPException: 415, it is not JSON.
            Malformed: it holds fields.

        """
        if (await self.body()).strip():
            await self.json()

    async def json(self) -> Any:
        """Return the finished Struct.

        Raises:
            HTTPException: 415, the body is declared to be something else.
            Malformed: not JSON, or of another shape.
            Invalid: unacceptable values, all of them.

        """
        if self._read is UNSET:
            name = self.content_type[0].lower()
            if name != "application/json" and not (name.startswith("application/") and name.endswith("+json")):
                raise HTTPException(status_code=415, detail="The body must be declared as application/json.")
            field = self.route_handler.parsed_data_field
            self._read = decode(await self.body(), field.raw if field else Nothing | None)
        return self._read


def decode(body: bytes, wanted: Any) -> Any:
    """Return the body as the wanted type.

    Raises:
        Malformed: not JSON, or a wrong type, a missing or an unknown field.
        Invalid: right shape, unacceptable values.

    """
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"The body is not JSON: {_plain(str(error))}.") from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.") from None
    return convert(raw, wanted)


def convert(raw: Any, wanted: Any) -> Any:
    """Return plain JSON values as the wanted type; the same refusals as :func:`decode`."""
    nul: list[FieldError] = []
    _find_nul(raw, "", nul)
    try:
        value = msgspec.convert(raw, wanted, strict=True)
    except ValidationError as error:
        holding = {one.field for one in nul}
        found = [one for one in _check(raw, wanted, "") if one.field not in holding]
        found = [*found, *nul] or [_as_error(error, "")]
        malformed = [one for one in found if one.code in SHAPE]
        if malformed:
            raise Malformed("The body does not have the expected shape.", errors=malformed[:MOST_ERRORS]) from None
        raise Invalid("The body holds values that cannot be accepted.", errors=found[:MOST_ERRORS]) from None
    if nul:
        raise Invalid("The body holds values that cannot be accepted.", errors=nul[:MOST_ERRORS])
    return value


def refusal(field: str, message: str) -> FieldError:
    """Return msgspec's words as an error of ours."""
    text = _plain(message)
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", text, re.DOTALL):
        return FieldError(_join(field, match[1]), "unknown_field", "There is no such field.")
    if match := re.fullmatch(r"Object missing required field `(.*)`", text, re.DOTALL):
        return FieldError(_join(field, match[1]), "missing_field", "This field is required.")
    if re.search(r"^Expected .*, got `", text, re.DOTALL):
        return FieldError(field, "wrong_type", f"{text}.")
    if text == _NOT_ONE_LINE:
        return FieldError(field, "invalid_text", "This has to be one line, without control characters.")
    if text.startswith("Invalid enum value"):
        return FieldError(field, "unknown_value", f"{text}.")
    return FieldError(field, "invalid_value", f"{text}.")


def _plain(message: str) -> str:
    return _WHERE.sub("", message).rstrip(".")


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _as_error(error: Exception, path: str) -> FieldError:
    match = _WHERE.search(str(error))
    inner = re.sub(r"\[(\.\.\.|\d+)\]", r".\1", match[1]).strip(".") if match else ""
    return refusal(_join(path, inner) if inner else path, str(error))


def _find_nul(value: Any, path: str, found: list[FieldError]) -> None:
    if isinstance(value, str):
        if "\0" in value:
            found.append(FieldError(path, "invalid_value", "Text may not contain the NUL character."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _find_nul(item, _join(path, index), found)
    elif isinstance(value, dict):
        for key, item in value.items():
            _find_nul(key, _join(path, key.replace("\0", "\\u0000")), found)
            _find_nul(item, _join(path, key), found)


def _bare(wanted: Any) -> Any:
    while get_origin(wanted) is Annotated:
        wanted = get_args(wanted)[0]
    return wanted


def _check(raw: Any, wanted: Any, path: str) -> list[FieldError]:
    """Return every refusal of ``raw`` as ``wanted``, deepest first; nothing if it fits."""
    bare = _bare(wanted)
    origin = get_origin(bare)
    found: list[FieldError] = []
    if origin in {Union, UnionType}:
        members = [one for one in get_args(bare) if one not in {NoneType, UnsetType}]
        if len(members) == 1 and not (raw is None and NoneType in get_args(bare)):
            found = _check(raw, members[0], path)
    elif (
        isinstance(raw, dict)
        and isinstance(bare, type)
        and issubclass(bare, msgspec.Struct)
        and bare.__struct_config__.tag is None
    ):
        found = _check_struct(raw, bare, path)
    elif isinstance(raw, list) and origin in {list, set, frozenset}:
        item = get_args(bare)[0]
        found = [error for index, value in enumerate(raw) for error in _check(value, item, _join(path, index))]
    elif isinstance(raw, dict) and origin is dict:
        key_type, value_type = get_args(bare)
        for key, value in raw.items():
            found += _check(key, key_type, _join(path, key))
            found += _check(value, value_type, _join(path, key))
    if found:
        return found
    try:
        msgspec.convert(raw, wanted, strict=True)
    except ValidationError as error:
        found = [_as_error(error, path)]
        if _PATTERN.match(str(error)) and found[0].code == "invalid_value":
            examples = [str(one) for meta in _metas(wanted) for one in meta.examples or ()]
            such = f", such as {examples[0]}" if examples else ""
            return [FieldError(found[0].field, "invalid_value", f"This is not in the form that is needed{such}.")]
        return found
    return []


def _metas(wanted: Any) -> list[msgspec.Meta]:
    return [one for one in getattr(wanted, "__metadata__", ()) if isinstance(one, msgspec.Meta)]


def _check_struct(raw: dict[str, Any], wanted: type[msgspec.Struct], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    fields = {field.encode_name: field for field in msgspec.structs.fields(wanted)}
    if wanted.__struct_config__.forbid_unknown_fields:
        found += [
            FieldError(_join(path, name), "unknown_field", "There is no such field.")
            for name in raw
            if name not in fields
        ]
    for name, field in fields.items():
        value = raw.get(name, UNSET)
        if value is not UNSET:
            found += _check(value, field.type, _join(path, name))
        elif field.required:
            found.append(FieldError(_join(path, name), "missing_field", "This field is required."))
    return found
