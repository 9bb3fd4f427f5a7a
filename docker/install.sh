#!/bin/sh
# The image's steps: Python, the locked dependencies, the package, an unprivileged user.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install -y --no-install-recommends ca-certificates python3 python3-venv >/dev/null
useradd --uid 10001 --user-group --home-dir /var/lib/mailbase --shell /usr/sbin/nologin mailbase
install -d -o mailbase -g mailbase -m 0755 /var/lib/mailbase
python3 -m venv /opt/mailbase
/opt/mailbase/bin/pip --disable-pip-version-check install --quiet --no-cache-dir --require-hashes -r /build/requirements.txt
/opt/mailbase/bin/pip --disable-pip-version-check install --quiet --no-cache-dir --no-deps --no-build-isolation /build
rm -rf /var/lib/apt/lists/*
