#!/bin/sh
# Boots a machine and powers it off, again and again: soak.sh ZINIT COUNT
#
# Its services are of every kind. Every fourth machine is powered off once all is up, each of the
# others at a moment of its own, which is mostly in the middle of starting. Two run at a time. The consoles
# of those that did not end as they should are kept in target/vm/soak.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
zinit=$1
count=$2
vm=$here/../../target/vm
room=$vm/soak

[ -x "$zinit" ] || {
    echo "$0: $zinit is not there: run make release" >&2
    exit 1
}
"$here/fetch.sh" x86_64

mkdir -p "$vm"
exec 8>"$vm/soak.lock"
flock -n 8 || {
    echo "$0: another one is running" >&2
    exit 1
}
rm -rf "$room"
mkdir -p "$room/root"

root=$room/root
(cd "$root" && mkdir -p bin sbin dev proc sys run tmp root etc/zinit/system etc/zinit/services)
cp "$zinit" "$root/init"
chmod 755 "$root/init"
ln -s ../init "$root/bin/zinit"
ln -s ../init "$root/sbin/poweroff"
cp "$vm/x86_64/busybox" "$root/bin/busybox"
for applet in cat echo grep head mdev sed setsid sh sleep true yes; do
    ln -s busybox "$root/bin/$applet"
done

# service NAME EXEC: the rest of the file comes from the standard input.
names=
service() {
    names="$names, \"$1\""
    {
        printf '[service]\nname = "%s"\nexec = %s\n' "$1" "$2"
        cat
    } >"$root/etc/zinit/services/$1.toml"
}

# Two chains, one in which each needs the one before it and one that is only ordered.
service need1 '"sleep 1000"' </dev/null
service order1 '"sleep 1000"' </dev/null
for number in 2 3 4 5; do
    before=$((number - 1))
    printf '[dependencies]\nrequires = ["need%d"]\n' "$before" | service "need$number" '"sleep 1000"'
    printf '[dependencies]\nafter = ["order%d"]\n' "$before" | service "order$number" '"sleep 1000"'
done
# What runs once, alone and with another that needs it.
echo 'oneshot = true' | service once '"true"'
service once-slow '"sleep 0.1"' <<'EOF'
oneshot = true
[dependencies]
requires = ["once"]
EOF
service after-once '"sleep 1000"' <<'EOF'
[dependencies]
requires = ["once-slow"]
EOF
# It has to be killed.
service stubborn "\"trap '' TERM; while :; do sleep 1; done\"" <<'EOF'
[lifecycle]
stop_timeout_ms = 300
EOF
# Its children leave for sessions of their own, and some of them end there.
service forks '"for n in 1 2 3; do setsid sleep 1000 & setsid sleep 0.0$n & done; exec sleep 1000"' </dev/null
service loud '"yes | head -c 200000; exec sleep 1000"' </dev/null
# It is restarted all the time.
service crashes '"sleep 0.05; exit 1"' <<'EOF'
[lifecycle]
restart = "always"
restart_delay_ms = 20
restart_delay_max_ms = 50
max_restarts = 0
EOF
service missing '["/bin/missing"]' <<'EOF'
[lifecycle]
restart_delay_ms = 50
max_restarts = 3
EOF
service terminal '["/bin/sh"]' <<'EOF'
tty = "/dev/ttyS0"
[lifecycle]
restart = "always"
EOF

# `all` leaves out those that are not up for long.
printf '[target]\nname = "all"\n[dependencies]\nrequires = [%s]\n' \
    "$(echo "${names#, }" | sed 's/"crashes", //; s/"missing", //')" >"$root/etc/zinit/services/all.toml"

# The kernel's word `off=` says when.
cat >"$root/bin/off" <<'EOF'
#!/bin/sh
when=$(sed 's/.* off=\([^ ]*\).*/\1/' /proc/cmdline)
case $when in
all) zinit wait all --for running --timeout 30s || exit 1 ;;
*) sleep "$when" ;;
esac
exec /sbin/poweroff
EOF
chmod 755 "$root/bin/off"
service off '"/bin/off"' <<'EOF'
oneshot = true
EOF
"$here/pack.sh" "$root" "$room/initramfs"

failed() {
    find "$room" -name 'failed-*' | wc -l
}

# Every second boot, from this one on.
boots() {
    number=$1
    while [ "$number" -le "$count" ]; do
        # Hundredths of a second that go through all from 0 to 59 in no simple order.
        when=$(printf '0.%02d' $((number * 37 % 60)))
        [ $((number / 2 % 4)) -ne 0 ] || when=all
        console=$room/console-$1
        status=0
        QEMU_EXTRA=-no-reboot timeout --foreground 60 \
            "$here/boot.sh" x86_64 "$room/initramfs" quiet "off=$when" </dev/null >"$console" 2>&1 || status=$?
        # PID 1 has to get that far without a complaint, and the machine off by itself.
        if [ "$status" -ne 0 ] || ! grep -aq 'reboot: Power down' "$console" \
            || grep -aqE 'Attempted to kill init|Kernel panic|BUG:|a bug of zinit' "$console"; then
            mv "$console" "$room/failed-$number"
            echo "boot $number (off=$when) failed with status $status: $room/failed-$number"
        fi
        [ $((number % 50)) -ne 0 ] || echo "$number boots, $(failed) failed"
        number=$((number + 2))
    done
}

trap 'kill "$first" "$second" 2>/dev/null || true' INT TERM
boots 1 &
first=$!
boots 2 &
second=$!
wait "$first"
wait "$second"
echo "$count boots, $(failed) failed"
[ "$(failed)" -eq 0 ]
