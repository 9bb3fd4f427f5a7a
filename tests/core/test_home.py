"""What the data directory keeps."""

from mailbase.config import Settings
from mailbase.home import admin_key_words
from mailbase.servers import keep


def test_secrets_are_kept_to_their_owner(tmp_path):
    """A generated secret is made once and readable by its owner only."""
    secret = keep(tmp_path / "admin.key", prefix="mb_")

    assert secret == keep(tmp_path / "admin.key", prefix="mb_")
    assert (tmp_path / "admin.key").stat().st_mode & 0o777 == 0o600


def test_the_admin_key_is_found_where_it_is(tmp_path):
    """The words for a shell read the file the key is kept in, or the variable it came by."""
    given = Settings(data_dir=tmp_path, admin_key="mb_0123456789abcdef")
    assert admin_key_words(given) == "$MAILBASE_ADMIN_KEY"
    kept = Settings(data_dir=tmp_path, admin_key=keep(tmp_path / "admin.key", prefix="mb_"))
    assert admin_key_words(kept) == f"$(cat {tmp_path}/admin.key)"
    assert admin_key_words(given) == "$MAILBASE_ADMIN_KEY"
