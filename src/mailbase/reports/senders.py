"""Whether a reply speaks of whoever sent the letter: "your domain does not exist" must not cost a reader.

A word for the sender and beside it, with nothing but small words between, that it is unknown, refused or wrong. Asked
besides the rules, because no table holds all the ways to say it.
"""

import re
from typing import Final

LONGEST: Final = 1200
"""Longer texts are letters to people, which advise the sender on all kinds of things."""

_TRIGGER_WORDS: Final = (
    "sender senders sending your originator originating from mailfrom return reply client source connecting author"
    " ip votre serveur ihre eure ваш ваша сервера vostro uw absender absenders absenderadresse absenderdomain expediteur remitente mittente remetente afzender avsandaren"
    " отправитель отправителя nadawca nadawcy odesilatel submitter submitting outgoing outbound send header unsubscribe errors bounce login cc header headers body content api mailgun sendgrid verified message link links url"
)
_TRIGGERS: Final = frozenset(_TRIGGER_WORDS.split())
_THING: Final = (
    r"(?:(?:own|email|mail|smtp|ip|host|dns|domain|mailbox|account|server|user|return|envelope|sender|sending|trial|hosting|relay|reply"
    r"|bounce|web) ){0,2}"
    r"(?:address(?:es)?|domains?|mailbox|accounts?|hosts?|hostname|ips?|(?:mail)?servers?(?: s)?|mta|systems?|name|user|network|organi[sz]ation"
    r"|company)"
)
_SENDER: Final = (
    rf"(?:(?:your|sending|originating|connecting|source|originator|author(?: s)?) {_THING}"
    r"|(?:envelope |message )?senders?(?: s)?(?: (?:email|mail|ip|host|server))?(?: (?:address|domain|mailbox|account|host|name|ip|server))?(?: name)?"
    r"|(?:the )?ip(?: address)?|submitter|submitting user|(?:errors to|list unsubscribe|unsubscribe|bounce|reply) (?:address|mailbox|domain)|(?:from|to|cc|sender|reply to) header|(?:header|message id|mailgun|sendgrid|api|relay) (?:from )?(?:address|domain|account|user)"
    r"|from (?:user|mailbox|account)|mail from (?:this |the )?(?:user|account|mailbox)"
    r"|originator|(?:mail |envelope |header )from (?:address|domain|header|field|host|mailbox)|from (?:address|header|field|domain)|envelope from|header from|mail from|mailfrom"
    r"|return (?:path|address)|reply (?:to )?address|(?:smtp )?client (?:host(?:name)?|ip|address|name)"
    r"|(?:votre|notre) (?:adresse|domaine|serveur)|adresse (?:ip|du serveur)|(?:direccion|indirizzo|endereco) ip|ip[ -](?:adresse?|адрес)|(?:ihre|eure) (?:adresse|domain|mailadresse)"
    r"|ваш\w* (?:адрес|домен|сервер|ip)|адрес сервера|vostro (?:indirizzo|dominio|server)|uw (?:adres|domein|server)"
    r"|absender\w*|expediteur|remitente|mittente|remetente|afzender\w*|avsandare\w*|отправител\w*|nadawc\w*|odesilatel\w*)"
)
_SMALL: Final = (
    r"(?: (?:is|was|are|were|has|have|had|been|be|to|the|a|this|that|of|in|by|at|appears|seems|currently|apparently|verify"
    r"|verification|callback|callout|check|address|domain|mailbox|host|server|hostname|ist|wurde|est|es|e|adresse|nie|ne)){0,4}?"
)
_WRONG: Final = (
    r" (?:unknown|invalid|rejected|refused|denied|failed|not (?:authori[sz]ed|allowed|permitted|deliverable|a valid|found|known|valid|exist\w*|recogni[sz]ed|registered|listed|resolv\w+|verif\w+"
    r"|active|defined)|(?:does|do|did)(?:nt| not) (?:exist|resolve|have|accept)|nonexist\w*|non exist\w*|disabled|deactivated|inactive|blocked|barred"
    r"|suspended|closed|expired|deleted|removed|undefined|missing|unverified|unresolvable|could(?:nt| not)|can(?:t|not| not)|must|no longer"
    r"|has no|no (?:a|mx|such|dns|valid)|unbekannt\w*|existiert nicht|ungultig\w*|nicht (?:gefunden|gultig|bekannt)|abgelehnt|inconnue?"
    r"|invalide|inexistante?|introuvable|n existe|desconocid\w|no existe|inexistente|invalid[oa]|sconosciut\w|non esiste|desconhecid\w"
    r"|nao existe|onbekend\w*|bestaat niet|ongeldig\w*|неизвест\w*|не (?:существу\w+|на[ий]ден\w*)|nieznan\w*|nie istnieje|neexistuje|neznam\w*) "
)
_WRONGLY: Final = (
    r"(?<! user)(?<! recipient)(?<! mailbox)(?<! addressee) (?:unknown|invalid|bad|no such|incorrect|missing|illegal|wrong|nonexist\w*|non exist\w*|undefined|unverified"
    r"|(?:cannot|can not|cant|could not|couldnt|unable to|failed to|did not|didnt) (?:find|resolve|verify|locate|look up|lookup|validate)"
    r"|no (?:\w{1,3} )?records? (?:(?:were |was )?found )?(?:for|of|in)|unbekannte[rs]?|ungultige[rs]?) (?:address in )?(?:the |a |your |any )?"
)
_BLAMED: Final = (re.compile(rf" {_SENDER}{_SMALL}{_WRONG}"), re.compile(rf"{_WRONGLY}{_SENDER} "))
_SENDING: Final = (
    # What an account is closed to is sending, or it is the one that sends.
    r" (?:disabled|suspended|blocked|inactive|closed|locked|barred|deactivated|restricted|prevented|stopped) (?:\w+ ){0,2}?(?:from|for|to) (?:the )?"
    r"(?:sending|send|outgoing|outbound|relay\w*) "
    r"| (?:outgoing|outbound) (?:e?mails?|messages?|smtp|traffic|delivery|sending) "
    r"| (?:you (?:are )?send(?:ing)?|used to send|using to send) (?:(?!to )\w+ ){0,3}?(?:from |with |is |was |has |does |not )"
    r"| (?:you|account|user|mailbox) (?:\w+ ){0,2}?(?:cannot|can not|cant|may not|(?:not|no longer) (?:allowed|permitted|able) to) send "
    r"| sending (?:\w+ )?(?:disabled|suspended|blocked|stopped|not (?:allowed|possible|permitted)) "
    r"| (?:message|links?|urls?|body) (?:\w+ ){0,3}?(?:points?|leads?|refers?|references?|contains?) (?:\w+ ){0,4}?(?:domain|site|host|link|url) "
    r"| (?:address|domain|mailbox|url) (?:domain )?(?:found )?in (?:the |your )?(?:header|headers|body|message|content) "
    r"| (?:mx|record|records|host name) for your (?:domain|server|ip|host) | not (?:a )?verified "
    r"| (?:as|in) (?:the |a )?sender(?: login)? | (?:address|account|mailbox|user) (?:\w+ ){0,2}?(?:of|from|for) your (?:domain|server|ip|host|network) "
)
SHORT: Final = 400
_BLAMED_AT_ALL: Final = re.compile(_SENDING)
_LIMITED: Final = re.compile(
    r" (?:daily|hourly|monthly|weekly|24 ?h(?:our)?|sending|outgoing|outbound|sender|relay|rate|submission|(?:messages?|e?mails?) (?:sent|per|for today))"
    r" (?:\w+ ){0,5}?(?:quotas?|limits?|allowance|exceed\w*|reached)"
    r"| (?:quotas?|limits?|max\w*|allowance|exceed\w*) (?:\w+ ){0,6}?"
    r"(?:per (?:hour|day|minute|month|week)|for sending|you (?:have )?sent|(?:messages?|e?mails?) (?:sent|today|this)|an hour|a day|to send) "
)
_LIMIT: Final = re.compile(r" (?:exceed\w*|reach\w*|over|full|used up|exhausted|quota|limit) ")
_HELD: Final = re.compile(r" (?:mailbox|inbox|storage|disk\w*|receiv\w*|maildir|folder|space) ")
"""What fills up is a reader's; what is counted by the day or when sending is the sender's."""


def limited(words: str) -> bool:
    """Whether ``plain`` words of a short text say that the sender has sent all it may."""
    return (
        len(words) <= SHORT
        and ("quota" in words or "limit" in words or "exceed" in words)
        and _LIMITED.search(words) is not None
        and _LIMIT.search(words) is not None
        and _HELD.search(words) is None
    )


_EASTERN: Final = re.compile("发件人|发信人|發件人|寄件人|寄件者|发送者|差出人|送信者|送信元|발신자|보낸 ?사람|발송자")
_EASTERN_READERS: Final = re.compile("收件|宛先|受信|受取|수신|받는")


def blamed(words: str) -> bool:
    """Whether ``plain`` words of a short text blame the sender."""
    if len(words) > LONGEST:
        return False
    if not words.isascii() and _EASTERN.search(words) and not _EASTERN_READERS.search(words):
        return True
    if _TRIGGERS.isdisjoint(words.split()):
        return False
    return any(pattern.search(words) for pattern in _BLAMED) or _BLAMED_AT_ALL.search(words) is not None


_EARLY: Final = re.compile(
    r"in\s+reply\s+to\s+(?:the\s+)?(?:MAIL|HELO|EHLO|AUTH|STARTTLS|initial)\b|after\s+(?:pipelined\s+)?(?:MAIL\s+FROM|HELO|EHLO|AUTH|STARTTLS|initial\s+connection)\b"
    r"|does[\s_]not[\s_]like[\s_]sender|sender was rejected|in (?:the )?MAIL (?:FROM|command)\b|in (?:the )?From(?::| field| header|[ .]*$)",
    re.IGNORECASE,
)
_REFUSED_SESSION: Final = re.compile(r">>>[ \t]*(?:MAIL|HELO|EHLO)\b[^\n]*\r?\n[ \t]*<<<[ \t]*5", re.IGNORECASE)
_ASKED: Final = re.compile(r">>>[ \t]*RCPT\b", re.IGNORECASE)


def too_early(text: str) -> bool:
    """Whether a reply was given before the server heard of any recipient: whatever it says, it means the sender."""
    return _EARLY.search(text) is not None


def never_asked(notice: str) -> bool:
    """Whether the session a notice quotes ended before any recipient was named."""
    return ">>>" in notice and _REFUSED_SESSION.search(notice) is not None and _ASKED.search(notice) is None
