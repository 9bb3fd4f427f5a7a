"""Launch: the content is frozen and compiled now, the audience when it is due.

    checked ─▶ compiled, links numbered ─┬▶ sending: audience frozen (an upper subscriber id and a time)
                                         └▶ scheduled: frozen by the fan-out when its time has come

From here on the letters of a campaign are those of its launch, whatever happens to settings and interests.
"""

from datetime import datetime

import msgspec

from mailbase.audience import account, selection
from mailbase.campaigns import campaigns, drafts, states
from mailbase.campaigns.campaigns import Campaign
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import Conflict, Invalid
from mailbase.letters.compile import compile_campaign
from mailbase.letters.links import TRAP

STAND = """
SELECT status, now() FROM domains WHERE id = $1
"""


async def _stand(db: Connection, domain_id: int) -> tuple[str, datetime]:
    row = await db.fetchrow(STAND, domain_id)
    if row is None:
        raise Invalid.field("from.email", "unknown_domain", "The sending domain was deleted just now.")
    return row["status"], row["now"]


FREEZE = """
UPDATE campaigns SET status = $2, domain_id = $3, compiled = $4, expected = $5, scheduled_at = $6, updated_at = now(),
    started_at = CASE WHEN $2 = 'sending' THEN now() END,
    audience_at = CASE WHEN $2 = 'sending' THEN now() END,
    audience_upper_id = CASE WHEN $2 = 'sending' THEN (SELECT COALESCE(max(id), 0) FROM subscribers) END
WHERE id = $1
RETURNING pg_notify('mailbase_sending', '')
"""

LINKS = """
INSERT INTO campaign_links (campaign_id, n, url) SELECT $1, n, url FROM unnest($2::text[]) WITH ORDINALITY AS link (url, n)
"""

# It leads nowhere.
TRAP_LINK = """
INSERT INTO campaign_links (campaign_id, n, url) VALUES ($1, $2, '')
"""


async def send(db: Connection, campaign_id: int, *, at: datetime | None, settings: Settings) -> Campaign:
    """Launch a draft, now or at a later time; a past ``at`` is now.

    Raises:
        NotFound: there is no such campaign.
        Conflict: ``campaign_not_draft``; ``domain_not_verified`` where the sending checks are strict.
        Invalid: what :func:`~mailbase.campaigns.drafts.check` refuses; ``empty_audience``; ``send_until_passed``.

    """
    held = await campaigns.hold(db, campaign_id)
    campaign = held.campaign
    states.allow(campaign.status, "send")
    shown = campaign.audience.exclude
    if len(held.rule.exclude.interests or ()) > len((shown.interests if shown else None) or ()):
        raise Invalid.field(
            "audience.exclude.interests",
            "unknown_interest",
            "An interest that was to be left out has been deleted; say again whom to leave out.",
        )
    draft = campaigns.draft_of(campaign)
    checked = await drafts.check(db, draft)
    domain, now = await _stand(db, checked.domain_id)
    if settings.sending_checks == "strict" and domain != "verified":
        raise Conflict("The DNS records of the sender's domain are not verified yet.", code="domain_not_verified")
    if at is not None:
        drafts.check_time(at, field="at")
    due = max(at, now) if at else now
    if campaign.send_until is not None and campaign.send_until <= due:
        raise Invalid.field("send_until", "send_until_passed", "send_until is over before the first letter is due.")
    expected = await selection.count(db, checked.rule, at=now)
    if not expected:
        raise Invalid.field(
            "audience", "empty_audience", 'Nobody active is in this audience; to write to everyone, say {"all": true}.'
        )
    settled = await account.get(db)
    compiled = compile_campaign(
        drafts.content_of(draft),
        base_url=settings.public_url,
        postal_address=settled.postal_address,
        locale=settled.locale,
        track_opens=campaign.track.opens,
        track_clicks=campaign.track.clicks,
        utm=campaign.utm,
        trap=campaign.track.trap is True,
    )
    later = due > now
    status = states.allow(campaign.status, "schedule" if later else "send")
    frozen = msgspec.msgpack.encode(compiled)
    await db.execute(FREEZE, campaign_id, status, checked.domain_id, frozen, expected, due if later else None)
    await db.execute(LINKS, campaign_id, compiled.links)
    if campaign.track.trap is True:
        await db.execute(TRAP_LINK, campaign_id, TRAP)
    return await campaigns.get(db, campaign_id)
