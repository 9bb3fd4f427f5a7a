"""``/v1/campaigns``: write a newsletter, look at it, launch it, hold it, follow it."""

from typing import Annotated, Final

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct, structs

from mailbase.api.common import Body, Listing, Page, paged, scope
from mailbase.campaigns import campaigns, forecast, launch, lifecycle, listing, progress, trial
from mailbase.campaigns.campaigns import Campaign, Summary
from mailbase.campaigns.drafts import Changes, Draft, Time
from mailbase.campaigns.forecast import Forecast
from mailbase.campaigns.listing import Delivery, Shown
from mailbase.campaigns.progress import Progress
from mailbase.campaigns.states import Status
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.letters.preview import Preview
from mailbase.tokens import Tokens

TAGS: Final = ["Campaigns"]


class SendIn(Body):
    """When the campaign is due; a past time, or none, is now."""

    at: Time | None = None


class PreviewIn(Body):
    """Through whose eyes."""

    subscriber_id: Annotated[int, Meta(ge=1)] | None = None


class TestIn(Body):
    """Who gets the test."""

    to: Annotated[
        list[Annotated[str, Meta(max_length=320)]], Meta(min_length=1, max_length=10, examples=[["me@example.com"]])
    ]


class Tests(Struct):
    """The test letters on their way."""

    messages: list[trial.Trial]


class CampaignOut(Campaign, kw_only=True):
    """A campaign; ``progress`` while it is sending."""

    progress: Progress | None


async def _shown(db: Connection, campaign: Campaign, settings: Settings) -> CampaignOut:
    held = await campaigns.look(db, campaign.id)
    return CampaignOut(
        **structs.asdict(held.campaign),
        progress=await progress.progress(db, held, to_outbox=settings.to_outbox),
    )


@post("/campaigns", guards=[scope("campaigns:write")], operation_id="create_campaign", tags=TAGS)
async def create_campaign(
    db: NamedDependency[Connection], settings: NamedDependency[Settings], data: JSONBody[Draft]
) -> CampaignOut:
    """Write a campaign. It stays a draft until it is sent."""
    return await _shown(db, await campaigns.create(db, data), settings)


@get("/campaigns", guards=[scope("campaigns:read")], operation_id="list_campaigns", tags=TAGS)
async def list_campaigns(
    db: NamedDependency[Connection],
    page: NamedDependency[Page],
    status: FromQuery[Status | None] = None,
) -> Listing[Summary]:
    """List the campaigns, newest first, without their bodies."""
    found = await campaigns.page(db, before=page.before, limit=page.take, status=status)
    return paged(page, found, total=await campaigns.count(db, status=status) if page.include_total else None)


@get("/campaigns/{campaign_id:int}", guards=[scope("campaigns:read")], operation_id="get_campaign", tags=TAGS)
async def get_campaign(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    campaign_id: FromPath[int],
) -> CampaignOut:
    """Return a campaign, with its progress while it is sending."""
    return await _shown(db, await campaigns.get(db, campaign_id), settings)


@patch("/campaigns/{campaign_id:int}", guards=[scope("campaigns:write")], operation_id="update_campaign", tags=TAGS)
async def update_campaign(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    campaign_id: FromPath[int],
    data: JSONBody[Changes],
) -> CampaignOut:
    """Change a draft. `mjml` takes the place of `html`, and the other way round."""
    return await _shown(db, await campaigns.update(db, campaign_id, data), settings)


@delete("/campaigns/{campaign_id:int}", guards=[scope("campaigns:write")], operation_id="delete_campaign", tags=TAGS)
async def delete_campaign(db: NamedDependency[Connection], campaign_id: FromPath[int]) -> None:
    """Delete a draft."""
    await campaigns.delete(db, campaign_id)


@post(
    "/campaigns/{campaign_id:int}/duplicate",
    guards=[scope("campaigns:write")],
    operation_id="duplicate_campaign",
    tags=TAGS,
)
async def duplicate_campaign(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    campaign_id: FromPath[int],
) -> CampaignOut:
    """Make a new draft of any campaign."""
    return await _shown(db, await campaigns.duplicate(db, campaign_id), settings)


@post(
    "/campaigns/{campaign_id:int}/preview",
    guards=[scope("campaigns:read")],
    operation_id="preview_campaign",
    tags=TAGS,
    status_code=200,
)
async def preview_campaign(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    campaign_id: FromPath[int],
    data: JSONBody[PreviewIn | None] = None,
) -> Preview:
    """Render the letter as one person would get it, untracked, with what you may want to know before it goes out."""
    return await trial.preview(db, campaign_id, data.subscriber_id if data else None, settings=settings)


@post(
    "/campaigns/{campaign_id:int}/test",
    guards=[scope("campaigns:send")],
    operation_id="test_campaign",
    tags=TAGS,
    status_code=202,
)
async def test_campaign(
    *,
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    tokens: NamedDependency[Tokens],
    erasure_key: NamedDependency[bytes],
    campaign_id: FromPath[int],
    data: JSONBody[TestIn],
) -> Tests:
    """Send the letter to a few addresses of your own, signed, untracked. `GET /v1/messages/{id}` tells what became of it."""
    return Tests(
        await trial.send_test(db, campaign_id, data.to, settings=settings, tokens=tokens, erasure_key=erasure_key)
    )


@post(
    "/campaigns/{campaign_id:int}/send",
    guards=[scope("campaigns:send")],
    operation_id="send_campaign",
    tags=TAGS,
    status_code=202,
)
async def send_campaign(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    campaign_id: FromPath[int],
    data: JSONBody[SendIn | None] = None,
) -> CampaignOut:
    """Launch a draft, now or at a time. Its content is frozen now, its audience when it is due."""
    return await _shown(
        db, await launch.send(db, campaign_id, at=data.at if data else None, settings=settings), settings
    )


@post(
    "/campaigns/{campaign_id:int}/pause",
    guards=[scope("campaigns:send")],
    operation_id="pause_campaign",
    tags=TAGS,
    status_code=200,
)
async def pause_campaign(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    campaign_id: FromPath[int],
) -> CampaignOut:
    """Hold a scheduled or sending campaign, from this moment on."""
    return await _shown(db, await lifecycle.pause(db, campaign_id), settings)


@post(
    "/campaigns/{campaign_id:int}/resume",
    guards=[scope("campaigns:send")],
    operation_id="resume_campaign",
    tags=TAGS,
    status_code=200,
)
async def resume_campaign(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    campaign_id: FromPath[int],
) -> CampaignOut:
    """Let a paused campaign go on where it was."""
    return await _shown(db, await lifecycle.resume(db, campaign_id), settings)


@post(
    "/campaigns/{campaign_id:int}/cancel",
    guards=[scope("campaigns:send")],
    operation_id="cancel_campaign",
    tags=TAGS,
    status_code=200,
)
async def cancel_campaign(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    campaign_id: FromPath[int],
) -> CampaignOut:
    """Send no more of a campaign, for good. What is sent is sent."""
    return await _shown(db, await lifecycle.cancel(db, campaign_id), settings)


@get(
    "/campaigns/{campaign_id:int}/forecast",
    guards=[scope("campaigns:read")],
    operation_id="forecast_campaign",
    tags=TAGS,
)
async def forecast_campaign(
    db: NamedDependency[Connection],
    settings: NamedDependency[Settings],
    campaign_id: FromPath[int],
) -> Forecast:
    """Say how many letters will go out on which day at today's caps, and when the last one does."""
    return await forecast.forecast(db, campaign_id, to_outbox=settings.to_outbox)


@get(
    "/campaigns/{campaign_id:int}/deliveries",
    guards=[scope("campaigns:read")],
    operation_id="list_deliveries",
    tags=TAGS,
)
async def list_deliveries(
    db: NamedDependency[Connection],
    page: NamedDependency[Page],
    campaign_id: FromPath[int],
    status: FromQuery[Shown | None] = None,
) -> Listing[Delivery]:
    """List what became of each letter, newest first."""
    await campaigns.get(db, campaign_id)
    found = await listing.page(db, campaign_id, before=page.before, limit=page.take, status=status)
    return paged(page, found, total=await listing.count(db, campaign_id, status=status) if page.include_total else None)


ROUTES: Final = [
    create_campaign,
    list_campaigns,
    get_campaign,
    update_campaign,
    delete_campaign,
    duplicate_campaign,
    preview_campaign,
    test_campaign,
    send_campaign,
    pause_campaign,
    resume_campaign,
    cancel_campaign,
    forecast_campaign,
    list_deliveries,
]
