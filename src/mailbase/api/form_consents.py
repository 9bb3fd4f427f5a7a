"""``/v1/forms/{id}/consents`` and the proof sheet: which words were agreed to, by whom, when, from where and by which act."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Final

from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream

from mailbase.api.common import Listing, scope
from mailbase.api.exports import as_csv
from mailbase.audience import consent_proofs, consent_versions, forms
from mailbase.audience.consent_versions import Version
from mailbase.db import Connection, Pool
from mailbase.optin import consent_sheet


@get(
    "/forms/{form_id:int}/consents",
    guards=[scope("forms:read")],
    operation_id="list_form_consents",
    tags=["Forms"],
)
async def list_versions(db: NamedDependency[Connection], form_id: FromPath[int]) -> Listing[Version]:
    """List every wording of a form's consents, those shown now first; at most the 200 newest. A changed text or policy URL is a new version."""
    await forms.get(db, form_id)
    return Listing(await consent_versions.page(db, form_id), None)


@get(
    "/forms/{form_id:int}/consents.csv",
    guards=[scope("subscribers:read")],
    operation_id="export_form_consents",
    tags=["Forms"],
    media_type="text/csv",
)
async def export_consents(
    db: NamedDependency[Connection], pool: NamedDependency[Pool], form_id: FromPath[int]
) -> Stream:
    """Export the proof of every consent given at a form as CSV: the person, the exact words, when, from where, how it was confirmed."""
    await forms.get(db, form_id)
    disposition = f'attachment; filename="consents-{form_id}.csv"'
    return Stream(_stream(pool, form_id), media_type="text/csv", headers={"content-disposition": disposition})


async def _stream(pool: Pool, form_id: int) -> AsyncGenerator[bytes]:
    yield as_csv([consent_proofs.COLUMNS])
    async for lines in consent_proofs.lines(pool, form_id):
        yield as_csv(lines)


@get(
    "/subscribers/{subscriber_id:int}/consents/proof",
    guards=[scope("subscribers:read")],
    operation_id="get_consent_proof",
    tags=["Subscribers"],
    media_type=MediaType.HTML,
)
async def get_proof(db: NamedDependency[Connection], subscriber_id: FromPath[int]) -> Response[str]:
    """Return the proof sheet of one person: a page to print or to save as PDF."""
    page = await consent_sheet.sheet(db, subscriber_id, now=datetime.now(UTC))
    headers = {"Content-Security-Policy": consent_sheet.policy(), "Referrer-Policy": "no-referrer"}
    return Response(page, media_type=MediaType.HTML, headers=headers)


ROUTES: Final = [list_versions, export_consents, get_proof]
