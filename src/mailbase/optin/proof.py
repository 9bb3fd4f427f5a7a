"""Proof of work: a sum that costs a browser half a second unseen, and whoever sends thousands of forms thousands of times that.

ALTCHA's open protocol, version 2, by its own library: derive keys (PBKDF2, SHA-256) from a nonce and a counter until one begins with ``00``.
A challenge belongs to one form, holds for half an hour and is good for one submission; PostgreSQL remembers those that were used.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import altcha
import msgspec

from mailbase.db import Connection
from mailbase.vault import derive

ALGORITHM: Final = "PBKDF2/SHA-256"
COST: Final = 2000
"""Rounds a try; 256 tries on average."""
LIFETIME: Final = timedelta(minutes=30)
LONGEST: Final = 4000

Found = Literal["right", "wrong", "used"]


def _key(secret: str) -> bytes:
    return derive(secret, "altcha")


def challenge(secrets: Sequence[str], form_id: int, *, now: datetime, cost: int = COST) -> dict[str, Any]:
    """Return a challenge as the protocol sends it: ``{"parameters": {…}, "signature": "…"}``."""
    made = altcha.create_challenge(
        algorithm=ALGORITHM,
        cost=cost,
        expires_at=int((now + LIFETIME).timestamp()),
        data={"form": form_id},
        hmac_secret=_key(secrets[0]),
    )
    return made.to_dict()


USE = """
INSERT INTO used_proofs (nonce, expires_at) VALUES ($1, $2) ON CONFLICT (nonce) DO NOTHING RETURNING nonce
"""


async def use(db: Connection, secrets: Sequence[str], form_id: int, text: str) -> Found:
    """Tell whether a posted solution is right for this form, and use it up."""
    payload = _payload(text)
    if payload is None:
        return "wrong"
    parameters = payload.challenge.parameters
    if parameters.algorithm != ALGORITHM or parameters.data != {"form": form_id}:
        return "wrong"
    if not any(altcha.verify_solution(payload, _key(secret)).verified for secret in secrets):
        return "wrong"
    until = datetime.fromtimestamp(parameters.expires_at or 0, UTC)
    return "right" if await db.fetchval(USE, parameters.nonce, until) is not None else "used"


def _payload(text: str) -> altcha.Payload | None:
    if len(text) > LONGEST:
        return None
    try:
        return altcha.Payload.from_dict(msgspec.json.decode(base64.b64decode(text, validate=True), type=dict[str, Any]))
    except (binascii.Error, msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None


SWEEP = """
DELETE FROM used_proofs WHERE expires_at < now()
"""


async def sweep(db: Connection) -> None:
    """Forget those that have expired."""
    await db.execute(SWEEP)
