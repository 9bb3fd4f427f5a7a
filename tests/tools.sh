#!/bin/sh
# What the tests need beside Python: Chromium, Postfix's smtp-sink, Mail::DKIM, Dovecot, ip (for network namespaces), curl for the commands of the documentation,
# and axe-core, which npm brings (once, into .venv, held against its hash).
# Root on Debian gets what is missing; anybody else is told what is left out.
set -eu

axe=4.14.1
axe_sum=e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
axe_home=.venv/axe-core-$axe

fetch_axe() {
    [ ! -f "$axe_home/axe.min.js" ] || return 0
    command -v npm >/dev/null || { echo "left out: the tests that need axe-core (npm is not found)"; return 0; }
    mkdir -p "$axe_home"
    npm pack --silent --cache "$axe_home/npm" --pack-destination "$axe_home" "axe-core@$axe" >/dev/null 2>&1 &&
        echo "$axe_sum  $axe_home/axe-core-$axe.tgz" | sha256sum --check --quiet &&
        tar -xzf "$axe_home/axe-core-$axe.tgz" -C "$axe_home" --strip-components 1 package/axe.min.js ||
        echo "left out: the tests that need axe-core (npm did not bring it)"
    rm -rf "$axe_home/npm" "$axe_home/axe-core-$axe.tgz"
}

missing=""
command -v chromium >/dev/null || missing="$missing chromium"
[ -x /usr/sbin/smtp-sink ] || missing="$missing postfix"
perl -MMail::DKIM -e 1 2>/dev/null || missing="$missing libmail-dkim-perl"
command -v curl >/dev/null || missing="$missing curl"
[ -x /usr/lib/dovecot/imap ] || missing="$missing dovecot-imapd"
command -v ip >/dev/null || missing="$missing iproute2"
command -v npm >/dev/null || [ -f "$axe_home/axe.min.js" ] || missing="$missing npm"
[ -n "$missing" ] || { fetch_axe; exit 0; }

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing for the tests:$missing"
    export DEBIAN_FRONTEND=noninteractive
    # Postfix is wanted for its tools only: unconfigured, it starts nothing.
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    # And of Dovecot only the programs are: nothing that is installed here is started.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    apt-get -qq update >/dev/null
    # shellcheck disable=SC2086
    apt-get -qq install -y --no-install-recommends $missing >/dev/null
else
    echo "left out: the tests that need$missing (Debian packages)"
fi
fetch_axe
