#!/bin/sh
# Installs the daemons of the example files, on a Debian machine and as root. None is started: that
# is for the tests, each in a directory of its own.
set -eu

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
packages='redis-server nginx-light openssh-server dnsmasq-base postgresql strace'
export DEBIAN_FRONTEND=noninteractive
# Several words.
# shellcheck disable=SC2086
apt-get install -y -q --no-install-recommends $packages \
    || { apt-get update -q && apt-get install -y -q --no-install-recommends $packages; }
