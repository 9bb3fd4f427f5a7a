#!/bin/sh
# The container image without a container engine: its steps in an empty Debian root, and each of its commands there for real,
# as the image's user, against a PostgreSQL and a Redis from outside. Needs root and debootstrap.
set -eu

[ "$(id -u)" = 0 ] || { echo "left out: the image (needs root)"; exit 0; }
command -v debootstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get -qq install -y debootstrap >/dev/null
root=$(mktemp -d)
chmod 755 "$root"
servers=""
finish() {
    for pid in ${parts:-} $servers; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$root" "$root.servers"
}
trap finish EXIT

mirror=$(apt-cache policy base-files | grep -oE 'https?://[^ ]+' | head -1)
debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$mirror" >/dev/null
cp /etc/resolv.conf "$root/etc/" 2>/dev/null || true
# What this host needs to reach its registries, the empty root needs too.
rm -rf "$root/etc/apt"
cp -r /etc/apt "$root/etc/apt"
cp -rT /usr/local/share/ca-certificates "$root/usr/local/share/ca-certificates"
chroot "$root" update-ca-certificates >/dev/null 2>&1

# COPY and RUN, as the Dockerfile has them.
mkdir "$root/build"
cp docker/install.sh requirements.txt pyproject.toml README.md "$root/build/"
cp -r src embed migrations "$root/build/"
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin PIP_CERT=/etc/ssl/certs/ca-certificates.crt sh /build/install.sh
rm -rf "$root/build"

# PostgreSQL and Redis from outside, on loopback.
.venv/bin/python tests/packaging/outside.py "$root.servers" >"$root/servers" &
servers=$!
until [ "$(wc -l <"$root/servers")" -ge 2 ]; do kill -0 "$servers"; sleep 0.2; done
MAILBASE_DATABASE_URL=$(sed -n 1p "$root/servers")
MAILBASE_REDIS_URL=$(sed -n 2p "$root/servers")
MAILBASE_PORT=$(.venv/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
export MAILBASE_DATABASE_URL MAILBASE_REDIS_URL MAILBASE_SECRET_KEY=image-test-secret-key MAILBASE_ADMIN_KEY=mb_image-test-admin-key MAILBASE_PORT MAILBASE_WORKERS=1
inside() { exec chroot --userspec=mailbase:mailbase "$root" /usr/bin/env HOME=/var/lib/mailbase PATH=/opt/mailbase/bin:/usr/bin:/bin MAILBASE_HOST=127.0.0.1 MAILBASE_DATA_DIR=/var/lib/mailbase PYTHONUNBUFFERED=1 "$@"; }

(inside mailbase migrate)
(inside mailbase api) & parts="$!"
(inside mailbase worker) & parts="$parts $!"
for _ in $(seq 100); do
    (inside python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$MAILBASE_PORT/readyz', timeout=4)" 2>/dev/null) && break
    sleep 0.2
done
(inside python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$MAILBASE_PORT/readyz', timeout=4)")
(inside mailbase demo)
test -n "$(find "$root/tmp/mailbase-worker" -mmin -0.5)"
echo "image: built in an empty root, migrated, served, sent and stopped"
