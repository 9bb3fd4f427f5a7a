"""Answers of machines that are no bounces: out of office, challenges, delays, receipts."""

import re
from typing import Final

from mailbase.reports.judge import statuses
from mailbase.reports.mime import Part
from mailbase.reports.wording import Phrases, plain

VACATION: Final = Phrases(
    "out of office", "out of the office", "ooo", "auto reply", "autoreply", "auto response", "auto respond*", "autorespon*",
    "automatic reply", "automatic response", "automated reply", "automated response", "auto antwort", "away from my", "away from the office",
    "vacation", "on holiday", "on leave", "annual leave", "maternity leave", "parental leave", "sick leave",
    "automatische antwort", "automatisk* svar*", "abwesen*", "nicht im büro", "nicht im hause", "urlaub*",
    "réponse automatique", "absence du bureau", "absent du bureau", "message d'absence", "en congés", "congés annuels",
    "respuesta autom*", "fuera de oficina", "fuera de la oficina", "ausencia", "risposta automatica", "fuori sede", "fuori ufficio", "assenza",
    "resposta autom*", "ausência", "fora do escritório", "automatisch antwoord", "automatisch bericht", "afwezig*",
    "автоответ*", "автоматический ответ", "нет на месте", "в отпуске", "вне офиса", "odpowiedź automatyczna", "poza biurem", "nieobecn*",
    "automatická odpověď", "mimo kancelář", "nepřítomn*", "otomatik yanıt", "otomatik cevap", "ofis dışında", "automatikus válasz", "házon kívül",
    "automatsvar", "frånvaro*", "fravær*", "poissa", "automaattinen vastaus", "răspuns automat", "αυτόματη απάντηση",
    "自動応答", "自動返信", "不在", "自动回复", "自动答复", "自動回覆", "자동 응답", "자동 회신", "자동응답", "부재중", "autoodpowied*", "autosvar", "autosvar*", "automatsvar*", "autorisposta", "autorespuesta", "auto reponse", "réponse auto",
    "otomatik yanit*", "автоматична відповідь", "автоматичен отговор", "odpowiedź auto*", "自動返答", "休假", "休暇", "휴가",
)  # fmt: skip
CHALLENGE: Final = Phrases(
    "confirm … you are human", "confirm … you are a human", "confirm your message", "confirm your email so", "sender verification",
    "verify … you are human", "verify … you are a human", "verify … you are a real", "verify … you are a person",
    "needs your confirmation", "requires your confirmation", "needs confirmation before", "requires verification", "challenge response",
    "boxbe", "spam arrest", "spamarrest", "tmda", "bluebottle", "mailblocks", "qurb", "vanquish", "choicemail",
    "held until you confirm", "held until you verif*", "waiting for your confirmation", "held pending your", "queued until you confirm",
    "click … to confirm … message", "click … to verify … message", "click … to release … message", "click … to confirm … e-mail",
    "add yourself to my guest list", "been waitlisted", "was waitlisted", "list of approved senders", "allow incoming messages only from senders",
    "added to my guest list", "added to the guest list", "approved sender list", "approved senders list", "allowed senders list", "awaits moderator approval",
    "protecting myself from", "click … link … so i can receive", "register so that i can receive",
)  # fmt: skip
DELAY_SUBJECT: Final = Phrases(
    "delay", "delayed", "warning message", "warning could not send", "warning mail", "still undelivered", "still being retried", "still trying",
    "will be retried", "will retry", "not yet delivered", "not yet been delivered", "temporary problem", "temporarily undeliver*",
    "verzögert*", "verzögerung*", "retardé*", "en attente", "retraso", "retrasad*", "in ritardo", "ritardat*", "atrasad*", "atraso", "vertraagd*",
    "задерж*", "отложен*", "opóźni*", "zpožděn*", "遅延", "延迟", "延遲",
)  # fmt: skip
DELAY: Final = Phrases(
    "this is a warning message only", "transient non-fatal errors", "do not need to resend", "not yet been delivered", "not been delivered yet",
    "not been delivered after", "could not send message for", "could not be delivered for the past", "unable to deliver … for the last",
    "could not deliver … within … hours", "will keep trying", "will continue trying", "will continue to try", "will continue to attempt", "will keep retrying",
    "will be retried", "will be re-tried", "will be re-attempted", "still being tried", "still in the queue", "still trying", "still undelivered",
    "attempts will continue", "attempts will be continued", "attempts will be made", "has been delayed", "has so far been delayed",
    "no action is required on your part", "temporary failure report", "message is delayed", "not need to re-send", "is kept in the queue", "weitere zustellversuche", "erneut versucht", "wird weiterhin versucht", "seguirá intentando", "continuerà",
    "va réessayer", "попытки будут продолж*", "попытки доставки будут продолж*", "попытки будут повтор*",
)  # fmt: skip
ENDED: Final = Phrases(
    "permanent", "permanently", "permanent fatal errors", "gave up", "giving up", "given up", "no longer be retried", "no further attempts", "no more attempts",
    "will not be retried", "will not retry", "will not be attempted", "failed permanently", "has failed", "have failed", "undeliverable",
    "could not be delivered", "couldn't be delivered", "wasn't delivered", "was not delivered", "has expired",
    "unzustellbar*", "endgültig*", "definitiv*",
)  # fmt: skip
FAILURE: Final = Phrases(
    "undeliver*", "deliver* … fail*", "delivery report", "delivery status", "delivery notification", "delivery problem*", "delivery error*", "delivery failure",
    "fail* … deliver*", "failure notice", "fail* … mail", "fail* … message", "returned", "returned mail", "returned email", "returned e-mail", "returned message",
    "mail system", "mail delivery", "mail could not", "mail error", "mail failure", "message failure", "could not be delivered", "couldn't be delivered", "cannot be deliver*", "can not be deliver*", "can't be deliver*", "unable to deliver", "could not be sent", "couldn't be sent",
    "non-deliver*", "not deliver*", "nondeliver*", "message status", "message rejected", "message blocked", "was blocked", "been blocked", "quarantin*", "message bounced", "rejected", "bounce*", "ndr", "ndn",
    "fatal errors", "transcript of session", "warning … not", "unzustellbar*", "nicht zugestellt", "zustell*", "rückläufer*", "échec*", "non remis*", "non distribu*", "non délivr*", "non recapit*", "non consegn*",
    "retour de courrier", "no se puede", "no se pudo", "no entreg*", "devuelt*", "error de entrega", "mancata consegna", "mancata ricezione", "recapito",
    "falha*", "não entregue", "devolv*", "onbestelbaar", "niet bezorgd", "niet afgeleverd", "недостав*", "не может быть доставл*", "не удалось доставить", "не доставлен*", "ошибка доставки", "возврат",
    "niedostarcz*", "zwrot", "nedoruč*", "teslim edilem*", "iletilem*", "kézbesítetlen", "olevererbar*", "inte leverera*", "nesikerült", "nedostavljen*", "ei voitu toimittaa", "nu a putut fi livrat", "δεν παραδόθηκε", "ikke lever*",
    "配信", "送信エラー", "送信でき", "届", "返送", "退信", "无法投递", "投递失败", "退回", "배달", "반송",
)  # fmt: skip
DELIVERED: Final = Phrases(
    "has been successfully delivered", "was successfully delivered", "successfully delivered to", "been successfully relayed", "successful delivery notifications",
    "delivery relayed", "delivery succeeded", "erfolgreich zugestellt", "erfolgreich weitergeleitet",
)  # fmt: skip
DELIVERED_SUBJECT: Final = Phrases(
    "return receipt", "notification relay", "notification success", "notification relayed", "successful mail delivery"
)
_NOT_SUCCESSFUL = re.compile(r"(?:not|n['’]t|nicht)(?: be| been| yet)* (?:successfully|erfolgreich)", re.IGNORECASE)
_FROM_MACHINE = re.compile(
    r"mailer-?daemon|postmaster|mail(?:er)? ?(?:delivery|system|administrator)|delivery (?:sub)?system|system administrator|mdaemon@|microsoftexchange|mail-?daemon|autoresponse-off|mail(?:er)?[ -]?(?:gateway|router|server|service|robot|admin)|(?:^|[<\s])(?:mailer|smtp|mmdf|mta|gateway|post_?master|daemon)@",
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
    return VACATION.said_in(plain(mail.first("subject")))


def failure(mail: Part) -> bool:
    """Whether the headers say that something did not arrive."""
    if "x-failed-recipients" in mail.fields or "delivery-status" in mail.type_line.lower():
        return True
    return FAILURE.said_in(plain(mail.first("subject")))


def from_list(mail: Part) -> bool:
    """Whether a list or a newsletter sent it (RFC 2369); what its manager writes itself says so."""
    fields = mail.fields
    return ("list-unsubscribe" in fields or "list-post" in fields) and "x-list-administrivia" not in fields


def challenge(mail: Part, notice: str) -> bool:
    """Whether somebody's filter wants the sender to prove that it is human."""
    return CHALLENGE.said_in(plain(mail.first("subject"))) or CHALLENGE.said_in(plain(notice))


def delayed(mail: Part, notice: str) -> bool:
    """Whether the server only says that it is still trying."""
    words = plain(notice)
    if DELAY.said_in(words) and not ENDED.said_in(words) and not any(one.startswith("5.") for one in statuses(notice)):
        return True
    subject = plain(mail.first("subject"))
    return DELAY_SUBJECT.said_in(subject) and not ENDED.said_in(subject)


def succeeded(mail: Part, notice: str) -> bool:
    """Whether a server says in words that it delivered a letter or passed it on."""
    words = plain(notice)
    said = DELIVERED.said_in(words) or DELIVERED_SUBJECT.said_in(plain(mail.first("subject")))
    return said and from_machine(mail) and not ENDED.said_in(words) and not _NOT_SUCCESSFUL.search(notice)
