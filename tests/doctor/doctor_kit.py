"""Findings by check, certificates, and a domain whose DNS is right."""

import ssl

import trustme

from mailbase.config import Settings
from mailbase.sending.domains import dns_records
from mailbase.sending.signing import keys
from mailbase.vault import Vault

SECRET = "a-secret-for-tests-only"
VAULT = Vault([SECRET])
HOST = "mail.mailbase.example"
ADDRESS = "192.0.2.10"
NAME = "news.example.org"


def levels(findings):
    """Return the levels by check, the worst of each."""
    order = ("ok", "warning", "wrong")
    found = {}
    for one in findings:
        found[one.check] = max(found.get(one.check, "ok"), one.level, key=order.index)
    return found


def of(findings, check):
    """Return the one finding of a check."""
    (found,) = [one for one in findings if one.check == check]
    return found


class Authority:
    """A certificate authority: contexts of servers under a name, and of clients that trust it."""

    def __init__(self):
        self.ca = trustme.CA()

    def server(self, *names, **kw):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names, **kw).configure_cert(context)
        return context

    def client(self):
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


def settings_for(tmp_path, **env):
    """Return settings as the environment would make them."""
    names = {"DATA_DIR": str(tmp_path), "SECRET_KEY": SECRET, "HOSTNAME": HOST, **env}
    return Settings.from_env({f"MAILBASE_{name}": str(value) for name, value in names.items()})


async def add_domain(db, *, name=NAME, verp=True, signing=True):
    """Add a sending domain with a real key, of 1024 bits because those are quick to make."""
    domain_id = await db.fetchval(
        "INSERT INTO domains (name, status, signing, verp) VALUES ($1, 'verified', $2, $3) RETURNING id",
        name,
        signing,
        verp,
    )
    private = keys.generate(1024)
    key_id = await db.fetchval(
        "INSERT INTO dkim_keys (domain_id, selector, state, private_key, public_key) VALUES ($1, 's1', 'active', '', $2) RETURNING id",
        domain_id,
        keys.public_key(private),
    )
    blob = VAULT.encrypt(keys.to_der(private), f"dkim:{key_id}")
    await db.execute("UPDATE dkim_keys SET private_key = $2 WHERE id = $1", key_id, blob)
    return domain_id


def publish(server, domain, settings):
    """Publish everything a domain needs."""
    for record in dns_records.proposed(domain.name, domain.keys, signing=domain.signing, settings=settings):
        server.zone[record.name, record.type] = [record.value]
    server.zone[domain.name, "MX"] = [f"10 {HOST}"]
    server.zone[HOST, "A"] = [ADDRESS]
    server.zone["10.2.0.192.in-addr.arpa", "PTR"] = [f"{HOST}."]
