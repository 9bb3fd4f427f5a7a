"""Every door of the application, in the order in which they are described: those behind a key, and those anybody may knock at."""

from types import ModuleType
from typing import Final

from mailbase.api import bounces, bulk, docs, exports, health, history, stats
from mailbase.api import campaigns as api_campaigns
from mailbase.api import complaint_senders as api_complaint_senders
from mailbase.api import domains as api_domains
from mailbase.api import form_consents as api_form_consents
from mailbase.api import form_stats as api_form_stats
from mailbase.api import forms as api_forms
from mailbase.api import imports as api_imports
from mailbase.api import inbound_raw as api_inbound_raw
from mailbase.api import interests as api_interests
from mailbase.api import jobs as api_jobs
from mailbase.api import keys as api_keys
from mailbase.api import lead_magnets as api_lead_magnets
from mailbase.api import messages as api_messages
from mailbase.api import pages as api_pages
from mailbase.api import providers as api_providers
from mailbase.api import relays as api_relays
from mailbase.api import settings as api_settings
from mailbase.api import signal_sources as api_signal_sources
from mailbase.api import submissions as api_submissions
from mailbase.api import subscribers as api_subscribers
from mailbase.api import suppressions as api_suppressions
from mailbase.api import tills as api_tills
from mailbase.api import unsubscribes as api_unsubscribes
from mailbase.web import (
    address,
    confirm,
    downloads,
    embed,
    form_events,
    form_more,
    form_tokens,
    incoming,
    looks,
    outbox,
    preferences,
    protection,
    qr,
    sheet,
    subscribe,
    till,
    unsubscribe,
    view,
)

KEYED: Final[tuple[ModuleType, ...]] = (
    api_keys,
    api_settings,
    api_pages,
    api_jobs,
    api_domains,
    api_providers,
    api_relays,
    api_complaint_senders,
    api_interests,
    api_subscribers,
    history,
    exports,
    bulk,
    api_imports,
    api_suppressions,
    api_forms,
    api_form_stats,
    api_form_consents,
    api_submissions,
    api_lead_magnets,
    api_tills,
    api_campaigns,
    api_messages,
    api_signal_sources,
    bounces,
    api_inbound_raw,
    stats,
    api_unsubscribes,
)
"""The doors under ``/v1``, behind a key."""

PUBLIC: Final[tuple[ModuleType, ...]] = (
    health,
    docs,
    subscribe,
    form_events,
    form_more,
    protection,
    confirm,
    downloads,
    qr,
    sheet,
    till,
    preferences,
    address,
    unsubscribe,
    form_tokens,
    embed,
    looks,
    view,
    incoming,
    outbox,
)
"""The doors anybody may knock at."""
