"""``/v1/forms/{id}/stats``: what a form brought, as numbers, as a picture, and beside another form's."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from mailbase.api.common import scope
from mailbase.audience import account, form_chart, form_counts, forms
from mailbase.audience.form_comparison import Comparison, compare, side
from mailbase.audience.form_counts import FormStats
from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.optin import magnets

MOST_DAYS: Final = 3660
SHOWN_DAYS: Final = 30

From = Annotated[date | None, QueryParameter(name="from", description="The first UTC day that counts.")]
To = Annotated[date | None, QueryParameter(description="The last UTC day that counts.")]


class Fetched(Struct):
    """How often a lead magnet was fetched in all: by how many people, and downloads, at most one a person in half an hour."""

    people: int
    downloads: int


class FormStatsOut(FormStats, kw_only=True):
    """A form's numbers, and those of what it gives away; null: nothing."""

    lead_magnet: Fetched | None


def _check(since: date | None, until: date | None) -> None:
    if since and until and until < since:
        raise Invalid.field("to", "out_of_range", "`to` is not before `from`")


@get("/forms/{form_id:int}/stats", guards=[scope("forms:read")], operation_id="get_form_stats", tags=["Forms"])
async def get_form_stats(
    db: NamedDependency[Connection], form_id: FromPath[int], from_: From = None, to: To = None
) -> FormStatsOut:
    """Return views, starts, accepted submissions and confirmations: by UTC day, page, source, mode and trigger, and their rates."""
    _check(from_, to)
    await forms.get(db, form_id)
    stats = await form_counts.stats(db, form_id, since=from_, until=to)
    magnet = (await magnets.of_forms(db, [form_id])).get(form_id)
    fetched = Fetched(magnet.people, magnet.downloads) if magnet else None
    return FormStatsOut(**msgspec.structs.asdict(stats), lead_magnet=fetched)


@get(
    "/forms/{form_id:int}/stats.svg",
    guards=[scope("forms:read")],
    media_type="image/svg+xml",
    operation_id="get_form_chart",
    tags=["Forms"],
)
async def get_form_chart(
    db: NamedDependency[Connection], form_id: FromPath[int], from_: From = None, to: To = None
) -> Response[str]:
    """Return the same as a small chart (SVG, light and dark); without `from` and `to`, of the last thirty days."""
    _check(from_, to)
    form = await forms.get(db, form_id)
    last = to or max(datetime.now(UTC).date(), from_ or date.min)
    first = from_ or last - timedelta(days=min(SHOWN_DAYS - 1, last.toordinal() - 1))
    if (last - first).days > MOST_DAYS:
        raise Invalid.field("from", "out_of_range", f"at most {MOST_DAYS} days")
    stats = await form_counts.stats(db, form_id, since=first, until=last)
    picture = form_chart.draw(form.name, stats, since=first, until=last, locale=(await account.get(db)).locale)
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(picture, media_type="image/svg+xml", headers=headers)


@get("/forms/compare", guards=[scope("forms:read")], operation_id="compare_forms", tags=["Forms"])
async def compare_forms(
    db: NamedDependency[Connection],
    ids: Annotated[
        str,
        QueryParameter(
            pattern="^[1-9][0-9]{0,17},[1-9][0-9]{0,17}$",
            description="Two forms' ids.",
            examples=[Example(value="1,2")],
        ),
    ],
    by: Annotated[
        Literal["confirmed", "submit"] | None,
        QueryParameter(
            description="What counts as won: a confirmation, or (for forms without double opt-in) a submission."
        ),
    ] = None,
    from_: From = None,
    to: To = None,
) -> Comparison:
    """Compare two forms, and say whether the difference is more than chance."""
    _check(from_, to)
    numbers = [int(number) for number in ids.split(",")]
    if numbers[0] == numbers[1]:
        raise Invalid.field("ids", "duplicate", "two different forms are needed")
    both = [await forms.get(db, number) for number in numbers]
    won = by or ("confirmed" if all(form.definition.double_opt_in for form in both) else "submit")
    sides = []
    for form in both:
        stats = await form_counts.stats(db, form.id, since=from_, until=to)
        wins = stats.confirmed if won == "confirmed" else stats.submits
        sides.append(side(form.id, form.name, views=stats.views, wins=wins))
    return compare(sides[0], sides[1], by=won)


ROUTES: Final = [compare_forms, get_form_stats, get_form_chart]
