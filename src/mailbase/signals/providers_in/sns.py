"""Amazon SNS: is this message from the one topic that is listened to, and signed by Amazon?

Anybody can own a topic at Amazon, so a genuine signature is not enough: only the one topic of a source is listened to, and only
its subscription is confirmed. What is cheap is looked at first: topic, time and the certificate's address, then the certificate.

Sources: docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html, …/http-notification-json.html,
…/http-subscription-confirmation-json.html.
"""

import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailbase.errors import Unavailable
from mailbase.outgoing import Unreachable
from mailbase.signals.providers_in.event import Desk, Trust, moment, refuse, text

FRESH: Final = timedelta(minutes=70)  # SNS tries for an hour at most
AHEAD: Final = timedelta(minutes=10)
ARN: Final = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]{1,40}):[0-9]{12}:[A-Za-z0-9_-]{1,256}")
CERTIFICATE: Final = re.compile(
    r"https://sns\.[a-z0-9-]{1,40}\.amazonaws\.com(?:\.cn)?/SimpleNotificationService-[0-9A-Za-z]{1,64}\.pem"
)
NOTICE: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
HANDSHAKE: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    "Notification": NOTICE,
    "SubscriptionConfirmation": HANDSHAKE,
    "UnsubscribeConfirmation": HANDSHAKE,
}


async def verify(body: bytes, trust: Trust, desk: Desk) -> dict[str, Any]:
    """Return a message's fields.

    Raises:
        Unauthorized: another topic, an old message, or not Amazon's signature (version 1 or 2).
        Unavailable: the certificate cannot be fetched just now.

    """
    try:
        envelope = msgspec.json.decode(body, type=dict[str, Any])
        names = SIGNED[envelope["Type"]]
        parts = [
            f"{name}\n{envelope[name]}\n" for name in names if name != "Subject" or envelope.get("Subject") is not None
        ]
        signature = b64decode(envelope["Signature"], validate=True)
        digest = {"1": hashes.SHA1, "2": hashes.SHA256}[envelope["SignatureVersion"]]()  # Amazon's default still is 1
        at = moment(envelope["Timestamp"])
    except (msgspec.DecodeError, UnicodeError, RecursionError, KeyError, TypeError, ValueError):
        raise refuse() from None
    fresh = at is not None and desk.now - FRESH <= at <= desk.now + AHEAD
    plain = all(isinstance(envelope[name], str) for name in names if name != "Subject")
    if not plain or envelope["TopicArn"] != trust.topic_arn or not fresh:
        raise refuse()
    key = await _key(text(envelope.get("SigningCertURL")), desk)
    try:
        key.verify(signature, "".join(parts).encode("utf-8", "surrogatepass"), padding.PKCS1v15(), digest)
    except InvalidSignature:
        raise refuse() from None
    return envelope


async def _key(url: str, desk: Desk) -> rsa.RSAPublicKey:
    if not CERTIFICATE.fullmatch(url):
        raise refuse()
    try:
        pem = await desk.outgoing.get_kept(url)
    except Unreachable as error:
        raise Unavailable("The certificate of this request cannot be fetched just now.") from error
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except ValueError:
        raise refuse() from None
    valid = certificate.not_valid_before_utc <= desk.now <= certificate.not_valid_after_utc
    if not valid or not isinstance(key, rsa.RSAPublicKey):
        raise refuse()
    return key


async def confirm(envelope: Mapping[str, Any], trust: Trust, desk: Desk) -> None:
    """Confirm the subscription that a verified message offers, where it is the known topic's.

    Raises:
        Unauthorized: the address does not confirm that topic, at its own region.
        Unavailable: Amazon does not take the confirmation just now.

    """
    parts = urlsplit(envelope["SubscribeURL"])
    region = trust.topic_arn.split(":")[3]
    hosts = {f"sns.{region}.amazonaws.com", f"sns.{region}.amazonaws.com.cn"}
    query = parse_qs(parts.query)
    meant = query.get("Action") == ["ConfirmSubscription"] and query.get("TopicArn") == [trust.topic_arn]
    if parts.scheme != "https" or parts.netloc not in hosts or parts.path not in {"", "/"} or not meant:
        raise refuse()
    try:
        answer = await desk.outgoing.get(envelope["SubscribeURL"])
    except Unreachable as error:
        raise Unavailable("The subscription cannot be confirmed just now.") from error
    if answer.status != 200:
        raise Unavailable("Amazon did not take the confirmation; it will ask again.")
