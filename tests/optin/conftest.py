"""Every test starts with empty form buckets."""

import pytest
from redis import Redis


@pytest.fixture(autouse=True)
def _empty_buckets(redis_url):
    with Redis.from_url(redis_url) as redis:
        for key in redis.scan_iter("mailbase:limit:*"):
            redis.delete(key)
