"""``/v1/jobs``: how far long work is, and its cancellation."""

from typing import Final, Literal

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from mailbase import queue
from mailbase.api.common import Listing, Page, paged, scope
from mailbase.db import Connection
from mailbase.queue import Job

Status = Literal["queued", "running", "done", "failed", "cancelled"]


@get("/jobs", guards=[scope("subscribers:read")], operation_id="list_jobs", tags=["Jobs"])
async def list_jobs(
    db: NamedDependency[Connection],
    page: NamedDependency[Page],
    kind: FromQuery[str | None] = None,
    status: FromQuery[Status | None] = None,
) -> Listing[Job]:
    """List jobs, newest first."""
    found = await queue.page(db, limit=page.take, before=page.before, kind=kind, status=status)
    return paged(page, found, total=await queue.count(db, kind=kind, status=status) if page.include_total else None)


@get("/jobs/{job_id:int}", guards=[scope("subscribers:read")], operation_id="get_job", tags=["Jobs"])
async def get_job(db: NamedDependency[Connection], job_id: FromPath[int]) -> Job:
    """Return one job: how far it is, and its result."""
    return await queue.get(db, job_id)


@post(
    "/jobs/{job_id:int}/cancel",
    guards=[scope("subscribers:write")],
    operation_id="cancel_job",
    tags=["Jobs"],
    status_code=200,
)
async def cancel_job(db: NamedDependency[Connection], job_id: FromPath[int]) -> Job:
    """Cancel a job: one that waits ends at once, one that runs stops within seconds and keeps nothing half-done."""
    return await queue.cancel(db, job_id)


ROUTES: Final = [list_jobs, get_job, cancel_job]
