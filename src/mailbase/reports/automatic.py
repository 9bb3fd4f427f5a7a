"""Answers of machines that are no bounces: out of office, challenges, delays, receipts."""

import re

from mailbase.reports.mime import Part

_VACATION_SUBJECT = re.compile(
    r"out of (?:the )?office|\booo\b|auto(?:matic|mated|matische|matisch|matisk)?[\s\-]*(?:reply|response|answer|respon[sd]|antwort|beantwoord|svar|antwoord)|^\s*auto(?:reply)?:|\bautoreply\b|autoresponder|away from (?:my|the) (?:mail|office|desk)|\bvacation\b|on holiday|on leave\b|annual leave|maternity leave|parental leave"
    r"|abwesen|nicht im (?:büro|hause)|urlaub|réponse automatique|reponse automatique|absence du bureau|absent du bureau|message d.absence|en congés|respuesta autom|fuera de (?:la )?oficina|ausencia|risposta automatica|fuori (?:sede|ufficio)|assenza|resposta autom|ausência|fora do escritório|automatisch (?:antwoord|bericht)|afwezig"
    r"|автоответ|автоматический ответ|нет на месте|в отпуске|вне офиса|odpowiedź automatyczna|poza biurem|nieobecn|automatická odpověď|mimo kancelář|nepřítomn|otomatik (?:yanıt|cevap)|ofis dışında|automatikus válasz|házon kívül|automatsvar|frånvaro|fravær|poissa|automaattinen vastaus|răspuns automat|αυτόματη απάντηση"
    r"|自動(?:応答|返信)|不在|自动(?:回复|答复|回覆)|自動回覆|외출|부재",
    re.IGNORECASE,
)
_CHALLENGE = re.compile(
    r"confirm (?:that )?(?:you are (?:a )?human|your (?:message|e-?mail) (?:to|so))|sender verification|verify (?:that )?you are (?:a )?(?:human|real|person)|(?:needs?|requires?) (?:your )?(?:confirmation|verification) (?:before|of (?:the|your))|challenge[\s/\-]*response|\bboxbe\b|spam ?arrest|\btmda\b|bluebottle|mailblocks|\bqurb\b|vanquish|choicemail"
    r"|(?:held|waiting|queued) (?:until|pending|for) (?:your )?(?:confirm|verif|approv)|click (?:on )?(?:the|this) link (?:below )?to (?:confirm|verify|release|have) .{0,40}(?:message|e-?mail|deliver)|added to (?:the|my) (?:guest|approved|allowed|safe)[\s-]*(?:sender)?s? ?list|awaits moderator approval",
    re.IGNORECASE,
)
_DELAY_SUBJECT = re.compile(
    r"\bdelay(?:ed)?\b|\bdelivery (?:is )?(?:status notification )?\(?(?:is )?delay|warning: (?:message|could not send|mail)|still (?:undelivered|being retried|trying)|will (?:be )?retr(?:y|ied)|not yet (?:been )?delivered|temporar(?:y|ily) (?:problem|undeliverable|undelivered)|verzögert|retard[ée]|en attente|retraso|retrasad|in ritardo|ritardat|atras[oa]|vertraagd|задерж|отложен|opóźni|opozni|zpožděn|遅延|延迟|延遲",
    re.IGNORECASE,
)
_DELAY = re.compile(
    r"this is a warning message only|transient non-fatal errors|you do not need to resend|not (?:yet )?been delivered (?:yet|after)|(?:could not|unable to|has not been able to) (?:be )?(?:send|sent|deliver|delivered) (?:message )?(?:for (?:the )?(?:past|last)|for|after|within) (?:more than )?\d+ (?:hour|minute|day)|(?:will|shall) (?:keep|continue) (?:trying|to try|retrying|to attempt)|(?:will be|being) re-?(?:tried|attempted|queued)|still (?:in the|being|trying|undelivered)|delivery attempts will (?:continue|be (?:continued|made|retried))|has (?:so far )?been delayed|no action is required on your part"
    r"|(?:weitere|erneut) .{0,30}(?:zustellversuch|versucht)|wird weiterhin versucht|seguir[áa] intentando|continuer[aà]|va r[ée]essayer|попытк\w+ (?:доставки )?(?:будут )?(?:продолж|повтор)",
    re.IGNORECASE,
)
_CHALLENGE_HINTS = (
    "confirm",
    "verif",
    "challenge",
    "boxbe",
    "spam",
    "tmda",
    "bluebottle",
    "mailblocks",
    "qurb",
    "vanquish",
    "choicemail",
    "click",
    "list",
    "moderator",
)
_DELAY_HINTS = (
    "warning",
    "transient",
    "resend",
    "delay",
    "try",
    "retri",
    "attempt",
    "queue",
    "yet",
    "for ",
    "within",
    "after",
    "no action",
    "versuch",
    "intent",
    "continuer",
    "essayer",
    "попыт",
)
"""One word of each alternative: looking for these first spares most mails the long search."""
_ENDED = re.compile(
    r"permanent|gave up|giving up|given up|no (?:longer|more|further) (?:be )?(?:retr|attempt|tr)|will not (?:be )?(?:retr|attempt)|failed permanently|has failed|have failed|undeliverable|could not be delivered|couldn.t be delivered|was(?:n.t| not) delivered|returned to sender|has expired|(?:5\.\d\.\d{1,3})|unzustellbar|endgültig|definitiv",
    re.IGNORECASE,
)
_FROM_MACHINE = re.compile(
    r"mailer-?daemon|postmaster|mail(?:er)? ?(?:delivery|system|administrator)|delivery (?:sub)?system|system administrator|mdaemon@|microsoftexchange|mail-?daemon|autoresponse-off",
    re.IGNORECASE,
)


def from_machine(mail: Part) -> bool:
    """Whether a mail server wrote it."""
    path = mail.first("return-path")
    return path.startswith("<>") or path == "<>" or _FROM_MACHINE.search(mail.first("from")) is not None


def vacation(mail: Part) -> bool:
    """Whether the headers say that a person's mailbox answered by itself (RFC 3834 and those before it)."""
    said = mail.first("auto-submitted").lower()
    if said.startswith(("auto-replied", "vacation")):
        return True
    fields = mail.fields
    if (
        "x-autoreply" in fields
        or "x-autorespond" in fields
        or "x-autogenerated" in fields
        or "x-autoresponder" in fields
        or "x-mail-autoreply" in fields
        or "x-vacation" in fields
    ):
        return True
    if mail.first("precedence").lower().replace("-", "_") in {"auto_reply", "autoreply", "auto_replied"}:
        return True
    return _VACATION_SUBJECT.search(mail.first("subject")) is not None


def challenge(mail: Part, notice: str) -> bool:
    """Whether somebody's filter wants the sender to prove that it is human."""
    head = f"{mail.first('subject')}\n{notice[:3000]}".lower()
    return any(hint in head for hint in _CHALLENGE_HINTS) and _CHALLENGE.search(head) is not None


def delayed(mail: Part, notice: str) -> bool:
    """Whether the server only says that it is still trying."""
    head = notice[:3000].lower()
    if (
        any(hint in head for hint in _DELAY_HINTS)
        and _DELAY.search(head)
        and not _ENDED.search(head.split("\n\n\n\n")[0])
    ):
        return True
    return _DELAY_SUBJECT.search(mail.first("subject")) is not None and not _ENDED.search(mail.first("subject"))


def receipt(parts: list[Part]) -> bool:
    """Whether it is a receipt for a letter that was shown or deleted (RFC 8098)."""
    return any(
        part.kind in {"message/disposition-notification", "message/global-disposition-notification"} for part in parts
    )
