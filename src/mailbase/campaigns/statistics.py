"""A campaign's statistics, from counters alone: they cost the same for a thousand and for ten million events.

Every counter is moved in the transaction of the rows it counts; ``recount`` says from which.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from msgspec import Struct

from mailbase.campaigns.states import Status
from mailbase.db import Connection
from mailbase.errors import NotFound


class Deliveries(Struct):
    """The letters by state; they add up to ``recipients``. ``queued`` covers those on their way."""

    queued: int
    sent: int
    deferred: int
    failed: int
    bounced: int
    unknown: int
    skipped: int


class Bounces(Struct):
    """The bounced letters by class."""

    hard: int
    soft: int
    block: int


class Engagement(Struct):
    """Opens or clicks, and the letters they came from; a letter may be both a human's and a machine's."""

    total: int
    unique: int
    unique_human: int
    unique_machine: int


class Rates(Struct):
    """Shares from 0 to 1, rounded to three places; human counts over delivered, without a denominator 0."""

    delivery: float
    open: float
    click: float
    click_to_open: float
    unsubscribe: float
    bounce: float
    complaint: float


class Link(Struct):
    """One link of the letter, in the letter's order; ``url`` as written, expressions and all."""

    url: str
    clicks: int
    unique: int
    unique_human: int


class Hour(Struct):
    """One UTC hour in which something happened."""

    at: datetime
    opens: int
    clicks: int


class Provider(Struct):
    """The letters to one mailbox provider."""

    provider: str
    sent: int
    bounced: int
    deferred: int


class Statistics(Struct):
    """Everything about one campaign."""

    campaign_id: int
    status: Status
    recipients: int
    deliveries: Deliveries
    bounces: Bounces
    opens: Engagement
    clicks: Engagement
    unsubscribes: int
    complaints: int
    rates: Rates
    links: list[Link]
    timeline: list[Hour]
    providers: list[Provider]


# One round trip, and arrays: they are decoded sooner than a row a counter.
READ = """
SELECT campaign.status, link.numbers, link.urls, counter.keys, counter.sums
  FROM campaigns AS campaign
 CROSS JOIN (SELECT array_agg(n ORDER BY n) AS numbers, array_agg(url ORDER BY n) AS urls FROM campaign_links WHERE campaign_id = $1 AND url <> '') AS link
 CROSS JOIN (
    SELECT array_agg(key) AS keys, array_agg(n) AS sums
      FROM (SELECT key, sum(n)::bigint AS n FROM counters WHERE campaign_id = $1 GROUP BY key) AS slots
 ) AS counter
 WHERE campaign.id = $1
"""


async def of_campaign(db: Connection, campaign_id: int) -> Statistics:
    """Return the statistics as of now.

    Raises:
        NotFound: there is no such campaign.

    """
    row = await db.fetchrow(READ, campaign_id)
    if row is None:
        raise NotFound
    numbers = dict(zip(row["keys"] or (), row["sums"] or (), strict=True))
    links = list(zip(row["numbers"] or (), row["urls"] or (), strict=True))
    return assemble(campaign_id, row["status"], numbers, links)


def assemble(campaign_id: int, status: Status, numbers: Mapping[str, int], links: list[tuple[int, str]]) -> Statistics:
    """Return the statistics that these counters and links (n, URL) make."""

    def group(prefix: str, *names: str) -> list[int]:
        return [numbers.get(f"{prefix}.{name}", 0) for name in names]

    deliveries = Deliveries(*group("delivery", *Deliveries.__struct_fields__))
    opens = Engagement(*group("open", "total", "unique", "human", "machine"))
    clicks = Engagement(*group("click", "total", "unique", "human", "machine"))
    unsubscribes, complaints = numbers.get("unsubscribes", 0), numbers.get("complaints", 0)
    tried = deliveries.sent + deliveries.bounced + deliveries.failed + deliveries.unknown
    rates = Rates(
        delivery=_share(deliveries.sent, tried),
        open=_share(opens.unique_human, deliveries.sent),
        click=_share(clicks.unique_human, deliveries.sent),
        click_to_open=_share(clicks.unique_human, opens.unique_human),
        unsubscribe=_share(unsubscribes, deliveries.sent),
        bounce=_share(deliveries.bounced, tried),
        complaint=_share(complaints, deliveries.sent),
    )
    return Statistics(
        campaign_id=campaign_id,
        status=status,
        recipients=sum(getattr(deliveries, name) for name in Deliveries.__struct_fields__),
        deliveries=deliveries,
        bounces=Bounces(*group("bounce", "hard", "soft", "block")),
        opens=opens,
        clicks=clicks,
        unsubscribes=unsubscribes,
        complaints=complaints,
        rates=rates,
        links=[Link(url, *group(f"link.{n}", "clicks", "unique", "human")) for n, url in links],
        timeline=_timeline(numbers),
        providers=_providers(numbers),
    )


def _share(part: int, whole: int) -> float:
    return round(part / whole, 3) if whole else 0.0


def _timeline(numbers: Mapping[str, int]) -> list[Hour]:
    hours: dict[str, Hour] = {}
    for key, n in numbers.items():
        if key.startswith("hour.") and n:
            _, epoch, what = key.split(".")
            hour = hours.get(epoch)
            if hour is None:
                hour = hours[epoch] = Hour(_moment(epoch), 0, 0)
            if what == "opens":
                hour.opens = n
            else:
                hour.clicks = n
    return [hours[epoch] for epoch in sorted(hours, key=int)]


@lru_cache(4096)
def _moment(epoch: str) -> datetime:
    # Campaigns share their hours; to work them out was a third of the whole.
    return datetime.fromtimestamp(int(epoch), UTC)


def _providers(numbers: Mapping[str, int]) -> list[Provider]:
    found: dict[str, Provider] = {}
    for key, n in numbers.items():
        if n and key.startswith("provider."):
            name, _, what = key.removeprefix("provider.").rpartition(".")
            setattr(found.setdefault(name, Provider(name, 0, 0, 0)), what, n)
    return sorted(found.values(), key=lambda one: (-(one.sent + one.bounced + one.deferred), one.provider))
