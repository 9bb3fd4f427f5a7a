"""What is known of a refused letter before its fate is decided: since when it has been refused, and whether it was about us.

The rules on replies (:mod:`~mailbase.sending.providers.reply_rules`) hear of every refusal here, in the recorder's transaction, before it
locks any letter.
"""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import asyncpg
from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.outcomes import Outcome
from mailbase.sending.providers import reply_rules
from mailbase.sending.providers.reply_rules import Refusal, Verdict

log = logging.getLogger(__name__)


class Standing(Struct, frozen=True):
    """How a refused letter stands."""

    since: timedelta = timedelta()
    """How long it has been refused; what its domain was stopped for in between is over with the domain's going on."""
    before: bool = False
    """Whether it was refused before this."""
    verdict: Verdict = Verdict()

    @property
    def counts(self) -> bool:
        """Whether the warm-up counts it: each letter's first refusal, but for the sender's set-up."""
        return not self.before and not self.verdict.set_up


FRESH: Final = Standing()

SINCE = """
SELECT delivery.id, extract(epoch FROM COALESCE($2, now()) - GREATEST(delivery.refused_since, domain.resumed_at))::float8 AS seconds
FROM deliveries AS delivery
LEFT JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id
LEFT JOIN domains AS domain ON domain.id = COALESCE(campaign.domain_id, delivery.domain_id)
WHERE delivery.id = ANY ($1::bigint[]) AND delivery.refused_since IS NOT NULL
"""


def spoken(outcome: Outcome) -> bool:
    """Return whether a refusal is the other side's own words, which may say something about more letters than this one."""
    return outcome.code >= 400 and (
        outcome.kind == "deferred" or (outcome.kind == "refused" and outcome.bounce_class != "hard")
    )


async def look(
    db: Connection, egress: str, letters: Mapping[int, Refusal], *, now: datetime | None = None
) -> dict[int, Standing]:
    """Return how letters (by id) that did not go out stand; what is about a provider is counted and acted upon."""
    if not letters:
        return {}
    waiting = [id for id, letter in letters.items() if letter.outcome.bounce_class != "hard"]
    rows = await db.fetch(SINCE, waiting, now) if waiting else []
    since = {row["id"]: timedelta(seconds=max(row["seconds"], 0)) for row in rows}

    def standing(id: int, verdict: Verdict = FRESH.verdict) -> Standing:
        return Standing(since.get(id, timedelta()), id in since, verdict)

    # One refusal of a connection sends many letters back, in the same words: it was said once.
    said: dict[tuple[object, ...], list[int]] = {}
    for id, letter in sorted(letters.items()):
        if spoken(letter.outcome):
            alone = None if letter.outcome.free else id
            said.setdefault((letter.provider, letter.domain_id, letter.outcome.reply, alone), []).append(id)
    verdicts = [FRESH.verdict] * len(said)
    if not said:
        return {id: standing(id) for id in letters}
    try:
        async with db.transaction():
            verdicts = await reply_rules.notice_all(db, egress, [letters[ids[0]] for ids in said.values()], now=now)
    except asyncpg.DataError as error:
        # A rule is the owner's, and may be one PostgreSQL cannot carry out; what became of the letters is written all the same.
        log.warning("a rule on replies cannot be applied: %s", error)
    judged = {id: verdict for ids, verdict in zip(said.values(), verdicts, strict=True) for id in ids}
    return {id: standing(id, judged.get(id, FRESH.verdict)) for id in letters}
