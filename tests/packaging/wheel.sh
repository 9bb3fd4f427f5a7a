#!/bin/sh
# Build the wheel, install it where nothing else is, start it outside the checkout, play the demo, stop it.
set -eu

rm -rf dist
mkdir dist
.venv/bin/python -m build --wheel --no-isolation > dist/build.log
place=$(mktemp -d)
chmod 755 "$place"
trap 'kill "$up" 2>/dev/null || true; wait "$up" 2>/dev/null || true; rm -rf "$place"' EXIT
cp requirements.txt dist/*.whl "$place"
here=$(pwd)
cd "$place"
"$here"/.venv/bin/python -m venv env
env/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements.txt
env/bin/python -m pip --disable-pip-version-check install --quiet --no-deps ./*.whl

MAILBASE_PORT=$(env/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
export MAILBASE_PORT MAILBASE_DATA_DIR="$place/data"
env/bin/mailbase up >up.log 2>&1 &
up=$!
for _ in $(seq 300); do
    grep -qx ready up.log && break
    kill -0 "$up" || { cat up.log; exit 1; }
    sleep 0.1
done
grep -qx ready up.log || { cat up.log; exit 1; }
env/bin/mailbase demo
kill -TERM "$up"
wait "$up"
echo "wheel: built, installed, started, demonstrated and stopped"
