"""``/v1/submissions`` and ``/v1/protection``: what came in through forms, what was held and why, and whether anything is attacked."""

from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from mailbase.api.common import Listing, Page, paged, scope
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.optin import attacks, submissions, submit
from mailbase.optin.attacks import Attack, Caught
from mailbase.optin.confirmation import Desk
from mailbase.optin.submissions import Submission
from mailbase.tokens import Tokens

Verdict = Literal["pass", "suspect", "bot", "limited"]


class Protection(msgspec.Struct, kw_only=True):
    """What keeps bots out, as it stands."""

    breaker: Attack | None
    """The circuit breaker: set while all forms are attacked. They go on, asking for proof of work."""
    attacks: list[Attack]
    """Forms under attack just now."""
    lately: list[Attack]
    """Attacks that are over, the last twenty."""
    held: int
    """Submissions that wait to be released or deleted."""
    caught: list[Caught]
    """What was caught in the last 30 days, by UTC day and reason."""


@get("/submissions", guards=[scope("subscribers:read")], operation_id="list_submissions", tags=["Submissions"])
async def list_submissions(
    db: NamedDependency[Connection],
    page: NamedDependency[Page],
    verdict: Annotated[Verdict | None, QueryParameter(description="What was thought of them.")] = None,
    form_id: Annotated[int | None, QueryParameter(ge=1, le=2**63 - 1, description="Of one form.")] = None,
    outcome: Annotated[
        submit.Outcome | None,
        QueryParameter(description="What became of them."),
    ] = None,
) -> Listing[Submission]:
    """List submissions, newest first; `outcome=held` are those that wait for you."""
    found = await submissions.page(
        db, before=page.before, limit=page.take, verdict=verdict, form_id=form_id, outcome=outcome
    )
    total = (
        await submissions.count(db, verdict=verdict, form_id=form_id, outcome=outcome) if page.include_total else None
    )
    return paged(page, found, total=total)


@get(
    "/submissions/{submission_id:int}",
    guards=[scope("subscribers:read")],
    operation_id="get_submission",
    tags=["Submissions"],
)
async def get_submission(db: NamedDependency[Connection], submission_id: FromPath[int]) -> Submission:
    """Return one submission with the reasons against it."""
    return await submissions.get(db, submission_id)


@post(
    "/submissions/{submission_id:int}/release",
    status_code=200,
    guards=[scope("subscribers:write")],
    operation_id="release_submission",
    tags=["Submissions"],
)
async def release_submission(
    request: Request[Any, Any, Any],
    db: NamedDependency[Connection],
    tokens: NamedDependency[Tokens],
    settings: NamedDependency[Settings],
    submission_id: FromPath[int],
) -> Submission:
    """Let a held submission go the ordinary way: to the confirmation letter. 409 if it is not held."""
    desk = Desk(tokens, settings.public_url, request.app.state.erasure_key)
    await submit.release(db, desk, submission_id)
    return await submissions.get(db, submission_id)


@delete(
    "/submissions/{submission_id:int}",
    guards=[scope("subscribers:write")],
    operation_id="delete_submission",
    tags=["Submissions"],
)
async def delete_submission(db: NamedDependency[Connection], submission_id: FromPath[int]) -> None:
    """Delete a submission; a subscriber it made stays."""
    await submissions.delete(db, submission_id)


@get("/protection", guards=[scope("forms:read")], operation_id="get_protection", tags=["Submissions"])
async def get_protection(
    db: NamedDependency[Connection],
    form_id: Annotated[
        int | None, QueryParameter(ge=1, le=2**63 - 1, description="What was caught at one form.")
    ] = None,
) -> Protection:
    """Say whether forms are attacked, and what was caught lately."""
    going_on = await attacks.going_on(db)
    return Protection(
        breaker=next((one for one in going_on if one.form_id is None), None),
        attacks=[one for one in going_on if one.form_id is not None and form_id in {None, one.form_id}],
        lately=await attacks.lately(db),
        held=await submissions.count(db, outcome="held", form_id=form_id),
        caught=await attacks.counts(db, form_id=form_id),
    )


ROUTES: Final = [list_submissions, get_submission, release_submission, delete_submission, get_protection]
