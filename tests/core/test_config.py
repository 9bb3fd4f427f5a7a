"""Settings from the environment."""

import pytest

from mailbase.config import Mx, Relay, Settings
from mailbase.errors import ConfigError


def test_an_empty_environment_is_enough():
    """Without any variable everything has the contract's default."""
    settings = Settings.from_env({})

    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.to_outbox
    assert settings.sending_checks == "warn"
    assert settings.hostname == "127.0.0.1"
    assert settings.api_workers == 1


def test_a_relay_makes_the_checks_strict():
    """A real SMTP target turns the sending checks on unless they are set."""
    relay = {"MAILBASE_SMTP_URL": "smtp://me%40x.org:p%2Fw@relay.example.com?tls=implicit&connections=3"}

    assert Settings.from_env(relay).sending_checks == "strict"
    assert Settings.from_env({**relay, "MAILBASE_SENDING_CHECKS": "warn"}).sending_checks == "warn"
    assert Settings.from_env(relay).smtp == Relay(
        host="relay.example.com", port=465, user="me@x.org", password="p/w", tls="implicit", connections=3
    )


def test_mx_sends_to_the_recipients_servers():
    """`mx:` is neither the outbox nor a relay; its addresses and its port are options, and the checks are strict."""
    settings = Settings.from_env({"MAILBASE_SMTP_URL": "mx:"})
    assert (settings.mx, settings.smtp, settings.to_outbox, settings.sending_checks) == (Mx(), None, False, "strict")
    own = Settings.from_env({"MAILBASE_SMTP_URL": "mx:?source=192.0.2.1&source=2001:db8::1&port=2525"}).mx
    assert own == Mx(sources=("192.0.2.1", "2001:db8::1"), port=2525)


def test_lists_are_read():
    """Secret keys, DNS servers and proxies are comma-separated; a DNS server may name its port."""
    settings = Settings.from_env(
        {
            "MAILBASE_SECRET_KEY": "first-secret-key-1, second-secret-key",
            "MAILBASE_DNS_SERVERS": "9.9.9.9,127.0.0.1:5353,[::1]:54,2620:fe::fe,localhost:5354",
            "MAILBASE_TRUSTED_PROXIES": "10.0.0.0/8,::1",
        }
    )

    assert settings.secret_keys == ("first-secret-key-1", "second-secret-key")
    assert settings.dns_servers == (
        ("9.9.9.9", 53),
        ("127.0.0.1", 5353),
        ("::1", 54),
        ("2620:fe::fe", 53),
        ("127.0.0.1", 5354),
    )
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST", "two words"),
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("PUBLIC_URL", "example.com"),
        ("PUBLIC_URL", "https://example.com?x=1"),
        ("PUBLIC_URL", "https://example.com/letters"),
        ("DATABASE_URL", "mysql://x"),
        ("REDIS_URL", "http://x"),
        ("ADMIN_KEY", "mb_short"),
        ("SECRET_KEY", "short"),
        ("SMTP_URL", "relay.example.com"),
        ("SMTP_URL", "smtp://relay.example.com?tls=maybe"),
        ("SMTP_URL", "smtp://relay.example.com?connections=0"),
        ("SMTP_URL", "smtp://relay.example.com:port"),
        ("SMTP_URL", "smtp://relay.example.com?speed=high"),
        ("SMTP_URL", "mx:?source=here"),
        ("SMTP_URL", "mx:?port=0"),
        ("SMTP_URL", "mx:?speed=high"),
        ("SMTP_URL", "mx://relay.example.com"),
        ("SENDING_CHECKS", "lax"),
        ("DNS_SERVERS", "resolver.invalid"),
        ("DNS_SERVERS", "a:b:c"),
        ("DNS_SERVERS", "999.1.1.1"),
        ("DNS_SERVERS", "9.9.9.9:0"),
        ("DNS_SERVERS", "9.9.9.9:70000"),
        ("HOSTNAME", "two words"),
        ("TRUSTED_PROXIES", "everybody"),
        ("WORKERS", "0"),
        ("FORM_LIMITS", "maybe"),
    ],
)
def test_a_bad_value_is_named(name, value):
    """A value that cannot be used is refused in one line that names its variable."""
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({f"MAILBASE_{name}": value})

    assert refused.value.message.startswith(f"MAILBASE_{name}: ")
    assert "\n" not in refused.value.message


def test_a_password_is_not_repeated():
    """A refused SMTP address never shows the password it holds."""
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({"MAILBASE_SMTP_URL": "smtp://me:hunter2secret@host?tls=maybe"})

    assert "hunter2secret" not in refused.value.message
