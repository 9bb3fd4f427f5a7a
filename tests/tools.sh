#!/bin/sh
# What the tests need beside Python: Chromium, Postfix's smtp-sink, Mail::DKIM, Dovecot, ip (for network namespaces), and curl for the commands of the documentation.
# Root on Debian gets what is missing; anybody else is told what is left out.
set -eu

missing=""
command -v chromium >/dev/null || missing="$missing chromium"
[ -x /usr/sbin/smtp-sink ] || missing="$missing postfix"
perl -MMail::DKIM -e 1 2>/dev/null || missing="$missing libmail-dkim-perl"
command -v curl >/dev/null || missing="$missing curl"
[ -x /usr/lib/dovecot/imap ] || missing="$missing dovecot-imapd"
command -v ip >/dev/null || missing="$missing iproute2"
[ -n "$missing" ] || exit 0

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
