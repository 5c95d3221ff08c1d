#!/bin/sh
# Bytes of the program, which package they come from, and the memory of a running server.
# Needs two builds of the same program as arguments: the stripped one, and one with symbols.
set -eu

program=$1
symbols=$2

echo "$(wc -c <"$program") bytes: $program"
echo
echo "bytes     share  package (code and data of named symbols)"
nm -S --size-sort -C "$symbols" | awk '
    # address, size, kind, name
    $3 !~ /[bB]/ {
        size = hex($2)
        name = $0
        sub(/^[^ ]+ [^ ]+ [^ ]+ /, "", name)
        package = "libc and others"
        if (name ~ /::/) {
            gsub(/^[<&*(\[ ]+(mut |dyn |const )*/, "", name)
            package = name
            sub(/::.*/, "", package)
            sub(/\[.*/, "", package)
            if (package !~ /^[a-z_0-9]+$/) package = "core"
        }
        sum[package] += size
        all += size
    }
    function hex(digits,   value, at) {
        value = 0
        for (at = 1; at <= length(digits); at++)
            value = value * 16 + index("0123456789abcdef", substr(digits, at, 1)) - 1
        return value
    }
    END { for (package in sum) printf "%7d  %5.1f %%  %s\n", sum[package], 100 * sum[package] / all, package }
' | sort -rn

# Starts a server with so many services of one process each, and shows what it holds.
memory() {
    room=$(mktemp -d)
    mkdir "$room/services"
    for at in $(seq 1 "$1"); do
        printf '[service]\nname = "s%d"\nexec = "sleep 1000"\n' "$at" >"$room/services/s$at.toml"
    done
    "$program" server -c "$room/services" -s "$room/sock" 2>"$room/log" &
    server=$!
    trap 'kill "$server" 2>/dev/null; wait "$server"; rm -rf "$room"' EXIT
    tries=0
    until "$program" -s "$room/sock" start-all --timeout 10s >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 50 ] || { cat "$room/log"; exit 1; }
        sleep 0.1
    done
    echo "$1 services: $(awk '$1 == "VmRSS:" { print $2, $3 }' "/proc/$server/status") resident," \
        "$(awk '$1 == "RssAnon:" { print $2, $3 }' "/proc/$server/status") of it its own"
    "$program" -s "$room/sock" shutdown >/dev/null
    wait "$server"
    trap - EXIT
    rm -rf "$room"
}

echo
memory 0
memory 100
