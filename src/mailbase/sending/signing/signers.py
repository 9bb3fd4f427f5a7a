"""Signers: a domain's active DKIM key, opened once a process.

The key's id comes with every lease, so a key that was rotated is picked up with the next batch.
"""

import asyncio
from typing import Final

from mailbase.db import Connection
from mailbase.sending.signing import keys
from mailbase.sending.signing.dkim import Signer
from mailbase.vault import Vault

KEPT: Final = 256

GET = """
SELECT domain.name, key.selector, key.private_key
FROM dkim_keys AS key JOIN domains AS domain ON domain.id = key.domain_id
WHERE key.id = $1
"""


class Signers:
    """The signers of this process, by the id of their key."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._known: dict[int, Signer] = {}

    async def get(self, db: Connection, key_id: int | None) -> Signer | None:
        """Return the signer of a key; None where nothing is signed, or the key is gone."""
        if key_id is None:
            return None
        signer = self._known.get(key_id)
        if signer is None:
            rows = await db.fetch(GET, key_id)
            if not rows:
                return None
            der = self._vault.decrypt(rows[0]["private_key"], f"dkim:{key_id}")
            private_key = await asyncio.to_thread(keys.from_der, der)
            if len(self._known) >= KEPT:
                self._known.clear()
            signer = self._known[key_id] = Signer(rows[0]["name"], rows[0]["selector"], private_key)
        return signer
