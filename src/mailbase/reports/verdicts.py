"""The words of this room: classes, reasons, and which class a reason is.

=============  ==============================================================  ===============
class          means                                                           suppresses
=============  ==============================================================  ===============
``hard``       nobody has this address, or its domain takes no mail            at once
``soft``       not now: full, slow, broken, too large                          when it repeats
``block``      the sender's affair: policy, spam, authentication, rate         never
``feedback``   somebody complained, or took a complaint back                   a complaint does
``vacation``   an automatic answer: out of office, a challenge                 never
``delivered``  a receipt: delivered, relayed, expanded, displayed              never
``unknown``    says nothing of the above, a delay for instance                 never
=============  ==============================================================  ===============
"""

from typing import Final, Literal

import msgspec

Class = Literal["hard", "soft", "block", "feedback", "vacation", "delivered", "unknown"]

CLASS_OF: Final[dict[str, Class]] = {
    "invalid_recipient": "hard",
    "inactive_mailbox": "hard",
    "bad_domain": "hard",
    "quota_issues": "soft",
    "message_too_large": "soft",
    "message_expired": "soft",
    "greylisted": "soft",
    "mailbox_unavailable": "soft",
    "no_answer_from_host": "soft",
    "bad_connection": "soft",
    "dns_failure": "soft",
    "routing_errors": "soft",
    "bad_configuration": "soft",
    "protocol_errors": "soft",
    "too_many_recipients": "soft",
    "transient_failure": "soft",
    "uncategorized": "soft",
    "spam_block": "block",
    "spam_content": "block",
    "policy_related": "block",
    "authentication_failed": "block",
    "rate_limited": "block",
    "relay_denied": "block",
    "invalid_sender": "block",
    "prohibited_attachment": "block",
    "virus_related": "block",
}
"""Reasons of a refusal, named as in KumoMTA's bounce classes; those of the other classes are said where they are found."""


class Verdict(msgspec.Struct, frozen=True):
    """What one refusal means."""

    cls: Class
    reason: str


VERDICTS: Final = {reason: Verdict(cls, reason) for reason, cls in CLASS_OF.items()}
