"""Sessions quoted line by line, as MDaemon, sendmail, InterScan and others do: only what was refused counts.

``--> EHLO relay`` and ``<-- 250-SIZE`` say nothing of the recipient, but words in them (EHLO, spam, a policy) would.
"""

import re

_MARK = re.compile(r"<--|-->|<<<|>>>|\b(?:Rcvd|Sent|Received|Client|Server)\b[^\n:]{0,12}:|^[ \t]*[CS]: ", re.MULTILINE)
_SAID = re.compile(
    r"^[^\n]{0,80}?(?:<--|-->|<<<|>>>|\b(?:Rcvd|Sent|Received|Client|Server)[ \t]*:|^[ \t]*[CS]:)[ \t]*\"?"
    r"(?:(?:HELO|EHLO|MAIL FROM|RCPT TO|DATA|QUIT|RSET|AUTH|STARTTLS|BDAT|NOOP)\b(?![^\n]{0,300}[ \t][45]\d\d[ \t-])|[23]\d\d(?:[ \-]|$))[^\n]*(?:\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)


def refusals(text: str) -> str:
    """Return a notice without the commands and the consenting answers it quotes."""
    return _SAID.sub("", text) if _MARK.search(text) else text
