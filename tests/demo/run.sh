#!/bin/sh
# Shows zinit at work: a server on a private socket, seven services, and the commands to look at them.
# Needs the program as its only argument. Leaves nothing behind, also when interrupted.
set -eu

zinit=$1
here=$(dirname "$0")
room=$(mktemp -d)
server=

leave() {
    trap '' INT TERM HUP
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$room"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The socket and the directory are private: a server that runs already is not disturbed.
export ZINIT_SOCKET="$room/zinit.sock"
export ZINIT_CONFIG_DIR="$room/services"
mkdir "$ZINIT_CONFIG_DIR"
cp "$here"/*.toml "$ZINIT_CONFIG_DIR"

say() {
    printf '\n# %s\n' "$*"
}

# Shows a command, then runs it. One that says no is part of the show.
show() {
    printf '$ zinit'
    for word in "$@"; do
        case $word in
            *' '*) printf " '%s'" "$word" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$zinit" "$@" || true
}

say "A server, and the files in tests/demo as its services"
"$zinit" server 2>"$room/log" &
server=$!
tries=0
until "$zinit" ping >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 50 ] || ! kill -0 "$server" 2>/dev/null; then
        cat "$room/log"
        exit 1
    fi
    sleep 0.1
done
show wait site --timeout 5s
show list

say "What needs what"
show tree

say "What a service writes"
show logs web -n 3

say "worker crashes now and then, and comes back after a pause that doubles"
show wait worker --for exited --timeout 5s
show logs worker -n 2

say "report does not start. Why?"
show why report

say "So that is what is missing. With it there, report starts by itself"
show add-service --name mailer --exec 'sleep 1000'
show wait report --timeout 5s

say "Stopping the database stops first what requires it"
show stop database

say "The end, in order; this is the server's own log of it"
show shutdown
wait "$server" || true
server=
tail -n 12 "$room/log" | cut -c12-
