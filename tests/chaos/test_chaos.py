"""A short storm; ``make chaos`` is the long one."""

from chaos.__main__ import chaos
from chaos.world import SHORT, plan


async def test_a_campaign_through_everything_that_can_go_wrong():
    """Through kills, stops and a rough server each of 1,500 letters has one end, nobody gets two, nobody is lost, all is counted."""
    figures = await chaos(letters=1500, seed=3, faults=plan(SHORT, None))
    assert figures["at_most_once"]["sent"] > 800
    assert figures["at_least_once"]["sent"] > 200
