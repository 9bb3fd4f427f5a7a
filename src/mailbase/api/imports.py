"""``/v1/imports``: a CSV file becomes subscribers, as a job."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream
from msgspec import Meta, field

from mailbase import queue
from mailbase.api import bodies, uploads
from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.api.exports import as_csv
from mailbase.api.subscribers import ConsentIn, Slugs, Tags
from mailbase.audience import imports, interests, limits
from mailbase.audience.imports import OnConflict, Plan
from mailbase.db import Connection, Pool
from mailbase.errors import FieldError, Invalid, Malformed, gathered
from mailbase.queue import Job, Wake

LARGEST_FILE: Final = 1 << 30
BATCH: Final = 5000

Mapping = Annotated[
    dict[str, Annotated[str, Meta(max_length=80)] | None],
    Meta(examples=[{"E-Mail": "email", "Ort": "city", "Notes": None}]),
]


class ImportOptions(Body, kw_only=True):
    """What shall be done with the file."""

    on_conflict: OnConflict = "error"
    mapping: Mapping = field(default_factory=dict)
    tags: Tags = field(default_factory=list)
    interests: Slugs = field(default_factory=list)
    consent: ConsentIn


class _Saver:
    def __init__(self, db: Connection, job_id: int) -> None:
        self._db = db
        self._job_id = job_id
        self._seq = 0
        self.lines = 0

    async def __call__(self, data: bytes) -> None:
        await imports.save_slice(self._db, self._job_id, self._seq, data)
        self._seq += 1
        self.lines += data.count(b"\n")


@post(
    "/imports",
    guards=[scope("subscribers:write")],
    operation_id="create_import",
    tags=["Imports"],
    status_code=202,
    request_max_body_size=LARGEST_FILE,
)
async def create_import(
    db: NamedDependency[Connection], wake: NamedDependency[Wake], request: Request[Any, Any, Any]
) -> Job:
    """Import a CSV file (multipart: `file`, and `options` as JSON).

    UTF-8, with a header; comma, semicolon or tab. Columns other than `email`, `locale`, `timezone`, `tags` and `interests` become attributes
    unless `mapping` says otherwise (null leaves one out). Everybody new is `active`, with the consent given for them.
    """
    job = await queue.create(db, imports.KIND, {})
    saver = _Saver(db, job.id)
    fields = await uploads.receive(request, file_field="file", save=saver)
    if unknown := [name for name in fields if name != "options"]:
        raise Malformed(
            "The body has fields this route does not know.",
            errors=[FieldError(unknown[0][:80], "unknown_field", "There is no such field.")],
        )
    if "options" not in fields:
        raise Malformed(
            "`options` is missing.", errors=[FieldError("options", "missing_field", "This field is required.")]
        )
    options: ImportOptions = bodies.decode(fields["options"], ImportOptions)
    errors = limits.check_tags(options.tags)
    slugs: list[int] = []
    with gathered(errors):
        slugs = await interests.resolve(db, options.interests)
    with gathered(errors):
        options.consent.given()
    if errors:
        raise Invalid(errors=errors, code=errors[0].code)
    plan = Plan(
        on_conflict=options.on_conflict,
        mapping={name.strip(): target for name, target in options.mapping.items()},
        tags=options.tags,
        interests=slugs,
        consent=options.consent.given(),
    )
    await queue.expect(db, job.id, msgspec.to_builtins(plan), max(saver.lines - 1, 0))
    await wake.job(job.id)
    return await queue.get(db, job.id)


@get("/imports", guards=[scope("subscribers:read")], operation_id="list_imports", tags=["Imports"])
async def list_imports(db: NamedDependency[Connection], page: NamedDependency[Page]) -> Listing[Job]:
    """List the imports; each one is its job."""
    found = await queue.page(db, before=page.before, limit=page.take, kind=imports.KIND)
    return paged(page, found, total=await queue.count(db, kind=imports.KIND) if page.include_total else None)


@get("/imports/{import_id:int}", guards=[scope("subscribers:read")], operation_id="get_import", tags=["Imports"])
async def get_import(db: NamedDependency[Connection], import_id: FromPath[int]) -> Job:
    """Return one import; its `result` is `{created, updated, skipped, rejected}`."""
    return await imports.get(db, import_id)


@get(
    "/imports/{import_id:int}/rejected.csv",
    guards=[scope("subscribers:read")],
    operation_id="get_rejected",
    tags=["Imports"],
    media_type="text/csv",
)
async def get_rejected(
    db: NamedDependency[Connection], pool: NamedDependency[Pool], import_id: FromPath[int]
) -> Stream:
    """Return the lines that did not come in: `line,email,reason`."""
    await imports.get(db, import_id)
    return Stream(
        _rejected(pool, import_id),
        media_type="text/csv",
        headers={"content-disposition": f'attachment; filename="rejected-{import_id}.csv"'},
    )


async def _rejected(pool: Pool, import_id: int) -> AsyncGenerator[bytes]:
    yield b"line,email,reason\r\n"
    after = 0
    while True:
        async with pool.acquire() as db:
            found = await imports.rejects(db, import_id, after=after, limit=BATCH)
        if not found:
            return
        after = found[-1][0]
        yield as_csv(found)


ROUTES: Final = [create_import, list_imports, get_import, get_rejected]
