"""What the data directory keeps between starts: the generated secrets and the way to the embedded servers."""

from pathlib import Path

import msgspec

from mailbase import servers
from mailbase.config import Settings
from mailbase.errors import ConfigError


def admin_key_file(settings: Settings) -> Path:
    """Return where the generated admin key is kept."""
    return settings.data_dir / "admin.key"


def admin_key_words(settings: Settings) -> str:
    """Return what stands for the admin key in a shell, without telling it."""
    file = admin_key_file(settings)
    if file.is_file() and file.read_text("utf-8").strip() == settings.admin_key:
        return f"$(cat {file})"
    return "$MAILBASE_ADMIN_KEY"


def complete(settings: Settings) -> Settings:
    """Return the settings with everything that the environment left open filled in from the data directory.

    Every process of one installation calls this and so finds the same servers and the same secrets.

    Raises:
        ConfigError: there is no database to talk to, or an external one without the secret key its hosts share.

    """
    if settings.database_url and not settings.secret_keys:
        raise ConfigError("MAILBASE_SECRET_KEY: needed with MAILBASE_DATABASE_URL, because every host must share it")
    try:
        settings.data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        return msgspec.structs.replace(
            settings,
            database_url=settings.database_url or servers.postgres_url(settings.data_dir),
            redis_url=settings.redis_url or servers.redis_url(settings.data_dir),
            secret_keys=settings.secret_keys or (servers.keep(settings.data_dir / "secret.key"),),
            admin_key=settings.admin_key or servers.keep(admin_key_file(settings), prefix="mb_"),
        )
    except OSError as error:
        raise ConfigError(f"MAILBASE_DATA_DIR: {error}") from None
