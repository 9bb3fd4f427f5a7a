"""Whether anybody takes mail for a domain: asked of DNS at most once an hour, for at most two seconds; without an answer: yes.

Not asked for the big providers, and not for names that are reserved for examples (RFC 2606), where nobody is.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Final

from msgspec import Struct

from mailbase.optin.address_hints import PROVIDERS
from mailbase.sending.dns import Unanswered
from mailbase.sending.providers.lookup import HostResolver

logger = logging.getLogger(__name__)

PATIENCE: Final = 2.0
MOST: Final = 10_000
REMEMBERED: Final = {True: 3600.0, False: 600.0, None: 60.0}
"""Seconds for which yes, no, and no answer are believed."""
_BIG: Final = frozenset(PROVIDERS)
_EXAMPLES: Final = ("example", "test", "example.com", "example.net", "example.org")


class _Known(Struct, frozen=True):
    takes: bool | None
    until: float


class MailHosts:
    """What one process knows of the domains people type."""

    def __init__(self, resolver: HostResolver, *, patience: float = PATIENCE) -> None:
        self._resolver = resolver
        self._patience = patience
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[bool | None]] = {}

    def known(self, domain: str) -> tuple[bool, bool | None]:
        """Return whether the answer is at hand, and the answer."""
        if domain in _BIG or domain in _EXAMPLES or domain.endswith(tuple(f".{name}" for name in _EXAMPLES)):
            return True, True
        found = self._known.get(domain)
        if found is None or found.until < time.monotonic():
            return False, None
        return True, found.takes

    async def take_mail(self, domain: str) -> bool | None:
        """Tell whether the domain takes mail; None: nobody answered in time, which speaks against nobody."""
        at_hand, takes = self.known(domain)
        if at_hand:
            return takes
        task = self._asking.get(domain)
        if task is None:  # everybody who asks meanwhile waits for the same answer
            task = self._asking[domain] = asyncio.create_task(self._ask(domain))
            task.add_done_callback(lambda _: self._asking.pop(domain, None))
        return await asyncio.shield(task)

    async def _ask(self, domain: str) -> bool | None:
        takes: bool | None
        try:
            async with asyncio.timeout(self._patience):
                takes = bool((await self._resolver.mail_hosts(domain)).hosts)
        except (Unanswered, TimeoutError) as error:
            logger.info("whether %s takes mail is not known: %s", domain, error)
            takes = None
        self._known[domain] = _Known(takes, time.monotonic() + REMEMBERED[takes])
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return takes
