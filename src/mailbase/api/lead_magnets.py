"""``/v1/forms/{id}/lead-magnet``: the file a form gives to those who confirmed."""

from typing import Any, Final

import msgspec
from litestar import Request, delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Struct

from mailbase.api import uploads
from mailbase.api.common import scope
from mailbase.audience import forms
from mailbase.audience.form_definition import LeadMagnet
from mailbase.db import Connection
from mailbase.errors import Conflict, FieldError, Malformed, NotFound
from mailbase.optin import magnet_files, magnets
from mailbase.optin.magnet_types import clean_name
from mailbase.optin.magnets import Magnet

LARGEST_BODY: Final = 26 * 1024 * 1024


class FileOut(Struct, kw_only=True):
    """A lead magnet's file; ``downloads`` as often as it was fetched to its end."""

    filename: str
    content_type: str
    size: int
    downloads: int


class LeadMagnetOut(Struct, kw_only=True, omit_defaults=True):
    """What a form gives away: at ``url``, or as ``file``; neither while no file was uploaded."""

    title: str
    url: str | None = None
    file: FileOut | None = None


class LeadMagnetDetails(Struct, kw_only=True):
    """The same with its numbers: ``people`` who fetched it, and ``downloads``, at most one a person in half an hour."""

    title: str
    url: str | None
    file: FileOut | None
    people: int
    downloads: int


def shown(magnet: Magnet | None) -> LeadMagnetOut | None:
    """Return a lead magnet as a form shows it."""
    return LeadMagnetOut(title=magnet.title, url=magnet.url, file=_file(magnet)) if magnet else None


def _file(magnet: Magnet) -> FileOut | None:
    file = magnet.file
    if file is None:
        return None
    return FileOut(filename=file.filename, content_type=file.content_type, size=file.size, downloads=magnet.downloads)


async def _details(db: Connection, form_id: int) -> LeadMagnetDetails:
    magnet = (await magnets.of_forms(db, [form_id])).get(form_id)
    if magnet is None:
        raise NotFound("this form has no lead magnet")
    return LeadMagnetDetails(
        title=magnet.title,
        url=magnet.url,
        file=_file(magnet),
        people=magnet.people,
        downloads=magnet.downloads,
    )


@put(
    "/forms/{form_id:int}/lead-magnet",
    guards=[scope("forms:write")],
    operation_id="put_lead_magnet",
    tags=["Forms"],
    request_max_body_size=LARGEST_BODY,
)
async def put_lead_magnet(
    db: NamedDependency[Connection], request: Request[Any, Any, Any], form_id: FromPath[int]
) -> LeadMagnetDetails:
    """Give a form its file (multipart: `file`, at most 25 MB), in place of the one it had.

    What it is, its first bytes say. Programs, scripts, pages and documents with macros are refused. Links already sent lead to the new file.
    A form without a `lead_magnet` gets one, with the file's name as its title.
    """
    form = await forms.get(db, form_id)
    promised = form.definition.lead_magnet
    if promised is not None and promised.url is not None:
        raise Conflict("This form's lead magnet is a URL; set `lead_magnet.url` to null first.", code="url_set")
    names: list[str] = []
    upload = await magnet_files.Upload.begin(db)
    fields = await uploads.receive(request, file_field="file", save=upload, called=names.append)
    if fields:
        raise Malformed(
            "The body has fields this route does not know.",
            errors=[FieldError(next(iter(fields))[:80], "unknown_field", "There is no such field.")],
        )
    filename = names[0] if names else ""
    await upload.finish(form_id, filename)
    if promised is None:
        title = clean_name(filename).rpartition(".")[0] or clean_name(filename)
        definition = msgspec.structs.replace(form.definition, lead_magnet=LeadMagnet(title=title))
        await forms.update(db, form_id, definition)
    return await _details(db, form_id)


@get(
    "/forms/{form_id:int}/lead-magnet",
    guards=[scope("forms:read")],
    operation_id="get_lead_magnet",
    tags=["Forms"],
)
async def get_lead_magnet(db: NamedDependency[Connection], form_id: FromPath[int]) -> LeadMagnetDetails:
    """Return what a form gives away, and how many people fetched it."""
    return await _details(db, form_id)


@delete(
    "/forms/{form_id:int}/lead-magnet",
    guards=[scope("forms:write")],
    operation_id="delete_lead_magnet",
    tags=["Forms"],
)
async def delete_lead_magnet(db: NamedDependency[Connection], form_id: FromPath[int]) -> None:
    """Take the file away; links already sent say that it is gone. The title stays with the form until a PATCH changes it."""
    if not await magnet_files.remove(db, form_id):
        raise NotFound("this form has no file")


ROUTES: Final = [put_lead_magnet, get_lead_magnet, delete_lead_magnet]
