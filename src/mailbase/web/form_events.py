"""``POST /f/{key}/events``: a form was seen, or somebody began to fill it in. Counted without cookies; robots are left out."""

from typing import Any, Final

from litestar import Response, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from mailbase.audience.form_counts import What
from mailbase.audience.form_tally import Seen
from mailbase.errors import Forbidden, Invalid, MailbaseError, RateLimited
from mailbase.http import header
from mailbase.optin import limits
from mailbase.signals import machines
from mailbase.web import bodies
from mailbase.web.common import REFUSALS, AnyRequest, answers, refuse
from mailbase.web.form_access import admit, count, known, text, whence, with_origin

ROBOTS: Final = (
    "slurp",
    "ia_archiver",
    "lighthouse",
    "pingdom",
    "statuscake",
    "mediapartners",
    "feedfetcher",
    "google-read-aloud",
)
"""Programs that visit pages for themselves, beside those that visit letters (``signals.machines``)."""


def is_person(request: AnyRequest) -> bool:
    """Tell whether a page is looked at: not by a program that says what it is, and not fetched ahead by a browser."""
    agent = header(request.scope, b"user-agent")[:1000].lower()
    ahead = header(request.scope, b"sec-purpose") + header(request.scope, b"purpose") + header(request.scope, b"x-moz")
    if not agent or "pre" in ahead.lower():
        return False
    if "headlesschrome" in agent:  # an owner's own check of the page; scanners of letters are another matter
        return True
    return machines.by_agent(agent) is None and not any(robot in agent for robot in ROBOTS)


@post(
    "/f/{key:str}/events",
    status_code=200,
    responses=answers(204),
    exception_handlers=REFUSALS,
    operation_id="record_form_event",
    tags=["Public"],
)
async def record_event(request: AnyRequest, key: FromPath[str]) -> Response[Any]:
    """Count a view of the form or the start of filling it in; `{type: "view"|"start", page?, source?, mode?, trigger?}`."""
    state = request.app.state
    counted = sure = False
    while True:
        remembered, sure = await known(request, key, sure=sure)
        form = remembered.form
        try:
            admit(request, form, sure=sure)
            if not counted:
                counted = True
                await count(request, limits.EVENTS_PER_IP, form)
            # Text is what a page may send across origins without asking first.
            values = bodies.json_values(await request.body())
            kind = text(values, "type")
            if kind not in {"view", "start"}:
                raise Invalid.field("type", "invalid_type", "type is view or start")
        except (MailbaseError, HTTPException) as error:
            if not sure and not isinstance(error, RateLimited):
                sure = True  # or so it is once it has been read
                continue
            if isinstance(error, Forbidden):
                raise
            return with_origin(refuse(request, error), form, request)
        what: What = "view" if kind == "view" else "start"
        if not is_person(request) or await state.tally.ask(Seen(remembered, what, whence(request, values, mark=""))):
            return with_origin(Response(None, status_code=204), form, request)
        sure = True


ROUTES: Final = [record_event]
