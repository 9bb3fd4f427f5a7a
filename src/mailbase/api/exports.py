"""``/v1/subscribers/export.csv``: everybody, streamed."""

import csv
import io
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Final

from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.response import Stream

from mailbase.api.common import scope
from mailbase.api.subscribers import provide_filter
from mailbase.audience import exports
from mailbase.audience.csv_files import safe
from mailbase.audience.subscribers import Filter
from mailbase.db import Connection, Pool


def as_csv(lines: Iterable[Sequence[Any]]) -> bytes:
    """Return lines as CSV (RFC 4180); no cell can act as a spreadsheet's formula."""
    text = io.StringIO()
    csv.writer(text).writerows([safe(cell) if isinstance(cell, str) else cell for cell in line] for line in lines)
    return text.getvalue().encode("utf-8", "replace")


@get(
    "/subscribers/export.csv",
    guards=[scope("subscribers:read")],
    operation_id="export_subscribers",
    tags=["Subscribers"],
    media_type="text/csv",
    dependencies={"which": Provide(provide_filter)},
)
async def export_subscribers(
    db: NamedDependency[Connection], pool: NamedDependency[Pool], which: NamedDependency[Filter]
) -> Stream:
    """Export people as CSV, a column for each attribute. Cells a spreadsheet would run as a formula start with an apostrophe."""
    return Stream(
        _stream(pool, which, await exports.columns(db)),
        media_type="text/csv",
        headers={"content-disposition": 'attachment; filename="subscribers.csv"'},
    )


async def _stream(pool: Pool, which: Filter, attributes: list[str]) -> AsyncGenerator[bytes]:
    yield as_csv([exports.header(attributes)])
    async for lines in exports.lines(pool, which, attributes):
        yield as_csv(lines)


ROUTES: Final = [export_subscribers]
