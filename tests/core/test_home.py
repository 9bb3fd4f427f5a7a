"""What the data directory keeps."""

from mailbase.servers import keep


def test_secrets_are_kept_to_their_owner(tmp_path):
    """A generated secret is made once and readable by its owner only."""
    secret = keep(tmp_path / "admin.key", prefix="mb_")

    assert secret == keep(tmp_path / "admin.key", prefix="mb_")
    assert (tmp_path / "admin.key").stat().st_mode & 0o777 == 0o600
