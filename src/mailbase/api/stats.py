"""``/v1/campaigns/{id}/stats``: what a campaign earned."""

from typing import Final

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath

from mailbase.api.common import scope
from mailbase.campaigns import statistics
from mailbase.campaigns.statistics import Statistics
from mailbase.db import Connection


@get(
    "/campaigns/{campaign_id:int}/stats",
    guards=[scope("stats:read")],
    operation_id="get_campaign_stats",
    tags=["Statistics"],
)
async def get_campaign_stats(db: NamedDependency[Connection], campaign_id: FromPath[int]) -> Statistics:
    """Return a campaign's statistics, as of now."""
    return await statistics.of_campaign(db, campaign_id)


ROUTES: Final = [get_campaign_stats]
