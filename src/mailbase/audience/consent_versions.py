"""The wordings of a form's consents: each change of the words or of the policy's address makes a version, and none is ever lost.

A page says which version it showed, so that what somebody read is what is written down, even if the owner changed the words meanwhile.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from mailbase.audience.consents import version
from mailbase.audience.form_definition import FormConsent
from mailbase.db import Connection

MOST_LISTED: Final = 200


class Version(Struct, kw_only=True):
    """One wording; ``given`` counts who agreed to it at this form (a person once), ``until`` is null while it is shown."""

    purpose: str
    version: str
    """SHA-256 of the words and the policy URL, in hex."""
    text: str
    policy_url: str | None
    since: datetime
    until: datetime | None
    given: int


KEEP = """
INSERT INTO form_consent_versions (form_id, purpose, hash, text, policy_url)
SELECT $1, purpose, hash, text, policy_url
FROM unnest($2::text[], $3::bytea[], $4::text[], $5::text[]) AS asked (purpose, hash, text, policy_url)
ON CONFLICT (form_id, purpose, hash) DO UPDATE SET until = NULL
"""

REPLACED = """
UPDATE form_consent_versions SET until = now()
WHERE form_id = $1 AND until IS NULL AND NOT EXISTS (
    SELECT FROM unnest($2::text[], $3::bytea[]) AS asked (purpose, hash)
    WHERE asked.purpose = form_consent_versions.purpose AND asked.hash = form_consent_versions.hash)
"""


async def keep(db: Connection, form_id: int, asked: Sequence[FormConsent]) -> None:
    """Note what a form asks from now on."""
    purposes = [one.purpose for one in asked]
    hashes = [version(one.text, one.policy_url) for one in asked]
    texts, policies = [one.text for one in asked], [one.policy_url for one in asked]
    await db.execute(KEEP, form_id, purposes, hashes, texts, policies)
    await db.execute(REPLACED, form_id, purposes, hashes)


SHOWN = """
SELECT DISTINCT ON (purpose) purpose, text, policy_url FROM form_consent_versions
JOIN unnest($2::text[], $3::text[]) AS seen (wanted, prefix) ON purpose = wanted AND starts_with(encode(hash, 'hex'), prefix)
WHERE form_id = $1 ORDER BY purpose, since DESC
"""


def outdated(ticked: Sequence[FormConsent], seen: Mapping[str, str]) -> dict[str, str]:
    """Return by purpose the version that was shown, where it is not the present one."""
    return {
        one.purpose: seen[one.purpose]
        for one in ticked
        if one.purpose in seen and not version(one.text, one.policy_url).hex().startswith(seen[one.purpose])
    }


async def as_shown(
    db: Connection, form_id: int, ticked: Sequence[FormConsent], seen: Mapping[str, str]
) -> list[FormConsent]:
    """Return the consents in the words that were shown: ``seen`` names by purpose the version (or its beginning) a page had.

    A version nobody knows means the present words.
    """
    changed = outdated(ticked, seen)
    if not changed:
        return list(ticked)
    rows = await db.fetch(SHOWN, form_id, list(changed), list(changed.values()))
    earlier = {row["purpose"]: row for row in rows}
    return [
        msgspec.structs.replace(one, text=earlier[one.purpose]["text"], policy_url=earlier[one.purpose]["policy_url"])
        if one.purpose in earlier
        else one
        for one in ticked
    ]


PAGE = """
SELECT purpose, encode(hash, 'hex') AS version, text, policy_url, since, until, (
    SELECT count(DISTINCT subscriber_id) FROM consents
    WHERE consents.form_id = $1 AND act = 'given' AND consents.purpose = shown.purpose AND text_hash = hash) AS given
FROM form_consent_versions AS shown WHERE form_id = $1 ORDER BY until IS NULL DESC, since DESC, purpose LIMIT $2
"""


async def page(db: Connection, form_id: int) -> list[Version]:
    """Return a form's wordings, those shown now first; at most 200."""
    return [Version(**row) for row in await db.fetch(PAGE, form_id, MOST_LISTED)]
