"""What nobody wrote a rule for: "there is no such person" said in any words, by its grammar.

A noun for whoever is written to, and beside it a word that it is not there: ``550 the mailbox bob is nonexistent``. Asked only
where no rule names a reason, and silent where words near by speak of the sender, of hosts or of connections.
"""

import re
from functools import lru_cache
from typing import Final

from mailbase.reports.wording import without_accents

LONGEST: Final = 500
"""Longer texts are letters to people, which say all kinds of things of addresses."""
BEFORE: Final = 8
AFTER: Final = 3
"""How many words the noun may stand before and after."""
NEAR: Final = 5
"""How many words before may not speak of others."""
ADDRESS: Final = "@"

_ADDRESS = re.compile(r"[^\s<>()\[\]{}\"',;:=]{1,128}@[^\s<>()\[\]{}\"',;:=]{1,128}")
_NAME = re.compile(r"(?:https?://|www\.)\S+|\b(?:[\w-]{1,63}\.){1,9}[a-z][\w-]{1,23}\b|\d[\d.:/-]*\d")
_APOSTROPHE = re.compile(r"['’](?=(?:t|s|re|ve|ll|d|m)\b)")
_WORD = re.compile(r"[^\W_]+|[@.,;:!?()\[\]]")
_BREAKS: Final = frozenset(".,;:!?()[]")
"""What follows one of them is another matter."""
_REPLY = re.compile(r"(?<![\w.:/-])[45]\d\d[ -](?=\S)")
"""Where the server's own words begin: before them stands who says so."""


def _stems(words: str) -> re.Pattern[str]:
    """Return a pattern of whole words; ``*`` lets a word go on."""
    return re.compile(
        "(?:" + "|".join(re.escape(word).replace(r"\*", r"\w*") for word in without_accents(words).split()) + r")\Z"
    )


_PERSON = _stems(
    "user users username userid mailbox mailboxes mbox recipient recipients recip rcpt addressee adressee address addr account accounts"
    " acct acount adress recepient reciepient reciever alias aliases inbox person customer customers subscriber subscribers employee member email e-mail emailaddress maildrop localpart mailname"
    " benutzer* empfanger* postfach* mailkonto konto adresse adressat* nutzer* teilnehmer*"
    " utilisateur destinataire* boite compte abonne usuario destinatario* buzon cuenta direccion casilla correo"
    " utente casella indirizzo conta caixa konto* конто* endereco gebruiker* postvak ontvanger* geadresseerde adres"
    " anvandar* mottagar* kontot kontoen bruker* bruger* modtager* kayttaja* vastaanottaja*"
    " пользовател* адресат* получател* ящик* аккаунт* абонент* учетн* уживател* користувач* скринь* потребител*"
    " adresat* адрес адреса адресу casut* destinatar mottaker* emailadres* epostadress* epostkonto* nguoi korisnik* primatelj* primalac* корисник* pengguna penerima alamat akun משתמש* המשתמש* נמען* הנמען* תיבת תיבה חשבון כתובת المستخدم* مستخدم* المستلم* صندوق العنوان عنوان الحساب حساب"
    " uzytkownik* odbiorc* skrzynk* uzivatel* schrank* prijemce kullanici* alici* hesap* felhasznalo cimzett* postafiok utilizator* adresa adresy adresu adresi postadress* χρηστης παραληπτης"
)
_DOMAIN = _stems("domain domains domainname dominio dominios domaine домен* domena domeny mx")
_ABSENT = _stems(
    "unknown unkown unknow unresolvable nonexisting nonexistent nonexistant inexistent nonexist invalid unassigned unallocated unrecognized unrecognised undefined"
    " unregistered missing wrong bogus misspelled obsolete"
    " unbekannt* ungultig* inconnu* inexistant* introuvable invalide desconocid* inexistente* invalid* inexistent* erroneo erronea"
    " sconosciut* desconhecid* onbekend* ongeldig* okand* ukendt* ukjent* tuntematon"
    " неизвест* несуществующ* недействител* невідом* непознат* nieznan* neznam* neexistuj* nenalezen* nenajden* bilinmeyen gecersiz ismeretlen"
)
_INACTIVE = _stems(
    "disabled decommissioned retired purged defunct dead deceased lapsed hibernated dissolved withdrawn archived deactivated inactive suspended closed terminated discontinued cancelled canceled deleted removed expired abandoned dormant"
    " inaktiv* deaktiver* deaktiviert* gesperrt* geloscht* geschlossen* stillgelegt* desactive* suspendu* ferme* supprime* desactivad* deshabilitad*"
    " suspendid* eliminad* disattivat* disabilitat* sospes* desativad* suspens* uitgeschakeld verwijderd"
    " отключен* заблокирован* удален* неактив* закрыт* деактивирован* wylaczon* zablokowan* nieaktywn* zrusen* usuniet* slettet slettede nedlagt opgeheven vervallen upphort avslutat borttagen borttaget torolt torolve sters stearsa poistettu silinmis silindi dezaktywowan* deaktivovan* zlikwidowan* изтрит*"
)
_ABSENT_PHRASES: Final = tuple(
    tuple(phrase.split())
    for phrase in (
        "no such", "no sutch", "not exist", "cant resolve", "could not resolve", "cannot resolve", "not at this", "not exists", "doesnt exist", "doesnt exists", "dose not exist", "dont exist", "no exist", "not found", "not known", "not valid", "not recognized",
        "not recognised", "not listed", "not registered", "not defined", "not present", "not here", "not our", "not local", "not in the", "not in our",
        "not on this", "not on the", "not on our", "not in this", "not hosted here", "not have a", "not have an", "doesnt have a", "doesnt have an",
        "cannot find", "cant find", "can not find", "could not find", "couldnt find", "unable to find", "cannot locate", "could not locate",
        "unable to locate", "cannot be found", "cant be found", "could not be found", "not be found", "not be located", "not located", "wasnt found", "isnt here", "isnt known", "isnt valid", "isnt existing", "not existing", "not a recognized", "not a recognised", "not a real", "not a known", "not a registered", "not a current",
        "isnt a", "isnt any", "is not such", "no exists", "isnt exist", "not seem to exist", "not appear to exist", "doesnt appear to exist", "doesnt seem to exist", "dont know anybody", "no one here with", "cant be located", "cannot be located",
        "not in ldap", "not in the local", "no record for", "no matching", "is bad", "no account exists",
        "not in domain", "not in directory", "not in the directory", "not in table", "not on file", "no record of", "not one of our", "dont know", "do not know",
        "not resolve to a", "nobody here", "no one at this", "no one here", "never heard of", "not in our directory", "not in database", "not in our database",
        "nicht bekannt", "existiert nicht", "existiert hier nicht", "existiert leider nicht", "nicht gefunden", "nicht vorhanden", "nicht gultig", "gibt es nicht", "n existe pas", "n existe plus", "pas trouve",
        "no existe", "no encontrado", "no encontrada", "no se encuentra", "non esiste", "non trovato", "non trovata", "non valido", "nao existe", "nao encontrado",
        "nao encontrada", "bestaat niet", "niet gevonden", "niet bekend", "finns inte", "findes ikke", "finnes ikke", "не найден", "не найдена", "не существует",
        "не зарегистрирован", "такого нет", "нет такого", "не існує", "не знайдено", "nie istnieje", "nie znaleziono", "nie ma", "neni znam", "nem letezik",
        "nicht im", "nicht in der", "nicht in dem", "figure pas", "no figura", "non figura", "non presente", "non e presente", "nao esta listado", "nao consta", "nao cadastrado", "nao cadastrada", "nao registado", "nao registrado", "no registrado", "no registrada", "non registrato", "non registrata", "non attivo", "non attiva", "pas enregistre", "pas valide", "pas reconnu", "nicht registriert", "niet geregistreerd", "no esta en",
        "not a valid", "never existed", "not have such", "dont have such", "doesnt have such", "have no such", "has no such", "not have any", "did not find", "didnt find",
        "was not found", "were not found", "nobody named", "nobody by that name", "nobody with that", "not among",
        "not match any", "not belong", "nicht gibt", "bulunmuyor", "have anybody", "have anyone", "no one by", "no one named",
        "nebyla nalezena", "nebyl nalezen", "nebyla najdena", "bulunamadi", "mevcut degil", "gick inte att hitta", "hittades inte", "kunne ikke findes", "kunne ikke finnes", "ble ikke funnet",
        "blev ikke fundet", "ei loydy", "ei loytynyt", "nem talalhato", "nincs ilyen", "nu exista", "nu a fost gasita", "nu a fost gasit", "δεν υπαρχει", "δεν βρεθηκε", "לא קיים", "לא קיימת", "אינו קיים", "אינה קיימת", "לא נמצא", "לא נמצאה", "غير موجود", "غير موجودة", "غير معروف", "لا يوجد",
        "nicht eingerichtet", "nicht angelegt", "gibt es hier nicht", "gibt es hier leider nicht", "pas connu", "pas connue", "non connu", "no esta registrado", "no esta registrada", "no esta dado de alta", "не съществува", "не зарегистрирована", "нет в системе", "finns ej", "findes ikke laengere", "ei ole olemassa",
        "ne postoji", "nije pronađen", "nije pronaden", "не постои", "не постоји", "tidak ditemukan", "tidak ada", "tidak dikenal", "khong ton tai", "khong tim thay", "mozna odnalezc", "mozna znalezc",
    )
)  # fmt: skip
_INACTIVE_PHRASES: Final = tuple(
    tuple(phrase.split())
    for phrase in (
        "no longer",
        "not active",
        "shut down",
        "moved away",
        "over its expiry",
        "past its expiry",
        "a former",
        "taken out of",
        "not in service",
        "out of service",
        "not been activated",
        "not work here",
        "doesnt work here",
        "not work for us",
        "permanently blocked",
        "not an active",
        "has left",
        "is gone",
        "has retired",
        "been retired",
        "has moved",
        "due to inactivity",
        "because of inactivity",
        "not activated",
        "isnt active",
        "nicht mehr",
        "plus valide",
        "plus actif",
        "plus active",
        "plus en service",
        "niet meer",
        "inte langre",
        "ikke laengere",
        "ikke lenger",
        "ja nie",
        "juz nie",
        "ya no",
        "больше не",
        "не активен",
    )
)
_PHRASES: Final[dict[str, list[tuple[tuple[str, ...], str]]]] = {}
for _phrases, _reason in ((_ABSENT_PHRASES, "invalid_recipient"), (_INACTIVE_PHRASES, "inactive_mailbox")):
    for _phrase in _phrases:
        _plain = tuple(without_accents(" ".join(_phrase)).split())
        _PHRASES.setdefault(_plain[0], []).append((_plain, _reason))
_NOBODY: Final = frozenset({"user", "users", "mailbox", "account", "person", "customer", "subscriber", "alias", "mx"})
"""What may directly follow a bare "no"."""
_THEN: Final = frozenset({"found", "here", "by", "with", "named", "exists", "like", "called", "matching", "matches"})
"""What must follow when it is another word for a person."""
_SPOILT: Final = frozenset({"bad", "illegal", "incorrect", "undeliverable", "erroneous", "fictitious"})
"""What is said of many things: only directly before a person does it mean one."""
_WRITTEN: Final = (
    ("e-mail", "email"),
    ("non-exist", "nonexist"),
    (" mail box", " mailbox"),
    (" mail drop", " maildrop"),
    (" mail account", " account"),
    (" mail service", " service"),
    (" mail address", " address"),
    ("local part", "localpart"),
    ("local-part", "localpart"),
)
_PLACE = re.compile(
    r"\b(?:(?:on|at|in|to) (?:this|the|our|that) (?:(?:e?mail|destination|remote|local|receiving) ){0,2}(?:server|host|system|machine|site)"
    r"|(?:auf|in) (?:diesem|dem|unserem) (?:mail)?(?:server|system)|(?:sur|dans) (?:ce|le|notre) (?:serveur|systeme)"
    r"|(?:en|de) (?:este|el|nuestro) (?:servidor|sistema)|(?:su|in) (?:questo|nel nostro) (?:server|sistema)|n(?:este|o nosso|o) (?:servidor|sistema)"
    r"|op (?:deze|onze) (?:mail)?server|на (?:этом|данном|нашем) сервере|na (?:tym|tomto) serwerze)\b"
)
_ADJECTIVES: Final = frozenset(
    {"local", "matching", "valid", "known", "existing", "active", "corresponding", "destination", "intended", "email"}
)
_OTHERS = _stems(
    "sender senders sending from mailfrom helo ehlo client ip ips reverse ptr rdns spf dkim dmarc relay* host hosts hostname server your"
    " envelope return source header headers syntax command connection connect socket timeout timed login password credential* certificate tls"
    " сервер* ваш* ihr* votre vostr* uw хост* узел absender* expediteur* remitente* mittente* remetente* afzender* avsandar* отправител* nadawc* odesilatel* list whitelist policy permission*"
    " message messages mail reputation score authentication subject attachment* file virus spam content quota full limit limits too hour hours temporarily vorubergehend"
)
_FOLLOW = _stems(
    "error* reason* command* problem* status host* client* sender* failure* code* option* parameter* protocol method charset encoding issue*"
    " exception mailer header* syntax content message* argument* data credential* token* helo response* dns signature login password character*"
    " mail state sequence certificate format name attempt* ip"
)
_EASTERN: Final = re.compile(
    "查无此人|查無此人|등록되지 않은 (?:메일|이메일|사용자|수신자|계정|주소)|宛先不明|(?:메일 주소|받는 사람|用户|用戶|收件人|邮箱|郵箱|信箱|帐号|账号|帳號|地址|ユーザ|宛先|受信者|アドレス|メールボックス|사용자|수신자|계정|메일주소)[^。\n]{0,60}?"
    "(?:不存在|找不到|无效|無效|未找到|没有|停用|禁用|登録されていま|見つかりません|存在しま|存在しない|無効|不明|없습니다|없는|존재하지|찾을 수)"
    "|(?:没有|無此|无此|找不到|不存在的|存在しない|無効な|不明な|없는|존재하지 않는)[^。\n]{0,10}?"
    "(?:用户|用戶|收件人|邮箱|郵箱|信箱|帐号|账号|帳號|ユーザ|宛先|受信者|アドレス|メールボックス|사용자|수신자|계정)"
)


_SHUT: Final = re.compile(
    r" (?:user|account|mailbox|recipient|address|customer|subscriber)(?: (?:is|was|has been|have been)(?: currently| permanently)?)?"
    r" (?:blocked|frozen|barred|terminated)(?: (?:due to|because of|for) (?:inactivity|non payment))? $"
    r"| (?:user|account)(?: (?:is|was|has been))? locked $"
)


def shut(words: str) -> bool:
    """Whether ``plain`` words end with a reader's account being blocked; "blocked" with more behind it is somebody's rule."""
    return words.endswith((" blocked ", " frozen ", " barred ", " locked ", " inactivity ", " payment ")) and (
        _SHUT.search(words) is not None
    )


@lru_cache(maxsize=256)
def absent(text: str) -> str | None:
    """Return ``invalid_recipient``, ``inactive_mailbox`` or ``bad_domain`` where a short text says so by its grammar."""
    if not text or len(text) > LONGEST:
        return None
    if not text.isascii() and _EASTERN.search(text):
        return "invalid_recipient"
    reply = _REPLY.search(text)
    words = _words(text[reply.end() :] if reply else text)
    for at, word in enumerate(words):
        found = _predicate(words, at, word)
        if found is None:
            continue
        reason, end = found
        if end < len(words) and _FOLLOW.match(words[end]):
            continue
        after = words[end : end + AFTER]
        broken = next((n for n, token in enumerate(after) if token in _BREAKS), AFTER)
        if any(map(_OTHERS.match, [*words[max(0, at - NEAR) : at], *after[:broken]])):
            continue
        near = [*words[max(0, at - BEFORE) : at], *after]
        if any(map(_DOMAIN.match, near)) and reason == "invalid_recipient":
            return "bad_domain"
        if any(map(_PERSON.match, near)) or ADDRESS in near:
            return reason
    return None


def _words(text: str) -> list[str]:
    low = " " + (text.lower() if text.isascii() else without_accents(text.lower()))
    for written, meant in _WRITTEN:
        low = low.replace(written, meant)
    low = _PLACE.sub(" here ", _NAME.sub(" ", _ADDRESS.sub(f" {ADDRESS} ", low)))
    return _WORD.findall(_APOSTROPHE.sub("", low))


def _predicate(words: list[str], at: int, word: str) -> tuple[str, int] | None:
    """Return (reason, the index after it) of the predicate that begins at a word."""
    for phrase, reason in _PHRASES.get(word, ()):
        if tuple(words[at : at + len(phrase)]) == phrase:
            return reason, at + len(phrase)
    if _ABSENT.match(word):
        return "invalid_recipient", at + 1
    if _INACTIVE.match(word):
        return "inactive_mailbox", at + 1
    following = words[at + 1 : at + 2]
    if word in _SPOILT and following and _PERSON.match(following[0]):
        return "invalid_recipient", at + 1
    if word == "no" and following:
        if words[at + 1] in _NOBODY or (_PERSON.match(words[at + 1]) and not _THEN.isdisjoint(words[at + 2 : at + 4])):
            return "invalid_recipient", at + 1
        noun = words[at + 2] if words[at + 1] in _ADJECTIVES and words[at + 2 : at + 3] else ""
        # "no valid recipients" comes of every earlier refusal, whatever its cause.
        if noun in _NOBODY or (noun != "recipients" and _PERSON.match(noun)):
            return "invalid_recipient", at + 2
    return None
