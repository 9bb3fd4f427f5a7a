"""Hits: requests for a pixel or a link, and where they belong."""

from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct

from mailbase.signals.verdicts import Judgement


class Hit(Struct):
    """One request for a pixel (``link`` 0) or a link (from 1), judged by itself, on the caller's monotonic clock.

    Of somebody who asks not to be tracked neither ``address`` nor ``user_agent`` is known.
    """

    delivery_id: int
    link: int
    judgement: Judgement
    address: IPv4Address | IPv6Address | None
    user_agent: str
    arrived: float


class Place(Struct):
    """Where a hit belongs: its letter and, for a click, the stored URL (which may hold expressions)."""

    campaign_id: int
    subscriber_id: int | None
    url: str | None


class Written(Struct):
    """What became of a batch: each hit's place, None where its delivery or link does not exist or is not tracked.

    ``xid`` names the transaction of clicks, so that its commit can be asked for later; None: nothing was written.
    """

    places: list[Place | None]
    xid: str | None = None
