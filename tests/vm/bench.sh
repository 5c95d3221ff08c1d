#!/bin/sh
# Boots the same services under several inits, in turns, and compares: bench.sh ZINIT [ROUNDS]
#
# Time is the kernel's own, from when it runs /init to when the last service is up, so neither the
# kernel's start nor the end counts. Each init is set up as its manual shows it. ROUNDS is 10, and
# INITS in the environment names those to compare.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
zinit=$1
rounds=${2:-10}
services=20
inits=${INITS:-zinit busybox finit runit s6 sysvinit}
vm=$here/../../target/vm
peers=$vm/peers
room=$vm/bench

[ -x "$zinit" ] || {
    echo "$0: $zinit is not there: run make release" >&2
    exit 1
}
"$here/fetch.sh" x86_64 peers
# Two at a time would measure each other.
exec 8>"$vm/bench.lock"
flock -n 8 || {
    echo "$0: another one is running" >&2
    exit 1
}
rm -rf "$room"
mkdir -p "$room"
cc -static -Os -s -Wall -Wextra -o "$room/up" "$here/up.c"

script() {
    printf '#!/bin/sh\n' >"$1"
    cat >>"$1"
    chmod 755 "$1"
}

# What this image has of the peers: programs, and the libraries that they need.
programs() {
    loader=$peers/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
    mkdir -p "$root/lib64" "$root/lib"
    for program; do
        mkdir -p "$root/$(dirname "$program")"
        cp -L "$peers/$program" "$root/$program"
        for library in $("$loader" --library-path "$peers/usr/lib/x86_64-linux-gnu" --list "$peers/$program" \
            | sed -n 's/.*=> \([^ ]*\) .*/\1/p'); do
            cp -L "$library" "$root/lib/"
        done
    done
    cp -L "$loader" "$root/lib64/"
    own=$*
}

# The images. Each function sets `own` to the programs that make up the init.

zinit_image() {
    cp "$zinit" "$root/init"
    own=init
    mkdir -p "$root/etc/zinit/services"
    for number in $numbers; do
        printf '[service]\nname = "s%s"\nexec = ["/bin/up", "%s", "%s"]\n' "$number" "$number" "$services" \
            >"$root/etc/zinit/services/s$number.toml"
    done
}

# zinit makes the machine ready by itself: mounts, hostname, loopback. Like those that follow,
# busybox leaves that to a script, which has to do the same.
mounts() {
    echo 'mount -t devtmpfs -o nosuid dev /dev'
    echo 'mount -t proc -o nosuid,nodev,noexec proc /proc'
    echo 'mount -t sysfs -o nosuid,nodev,noexec sys /sys'
    echo 'mkdir -p /dev/pts /dev/shm'
    echo 'mount -t devpts -o nosuid,noexec,gid=5,mode=620 pts /dev/pts'
    echo 'mount -t tmpfs -o nosuid,nodev shm /dev/shm'
    echo 'mount -t tmpfs -o nosuid,nodev,mode=755 run /run'
    echo 'mount -t cgroup2 -o nosuid,nodev,noexec cgroup /sys/fs/cgroup'
    echo 'hostname -F /etc/hostname'
    echo 'ifconfig lo up'
}

busybox_image() {
    ln -s bin/busybox "$root/init"
    own=bin/busybox
    mounts | script "$root/etc/rcS"
    {
        echo '::sysinit:/etc/rcS'
        for number in $numbers; do
            echo "::respawn:/bin/up $number $services"
        done
    } >"$root/etc/inittab"
}

sysvinit_image() {
    programs usr/sbin/init
    ln -s usr/sbin/init "$root/init"
    mounts | script "$root/etc/rcS"
    {
        echo 'id:2:initdefault:'
        echo 'si::sysinit:/etc/rcS'
        for number in $numbers; do
            echo "$number:2:respawn:/bin/up $number $services"
        done
    } >"$root/etc/inittab"
}

finit_image() {
    programs usr/sbin/finit
    ln -s usr/sbin/finit "$root/init"
    : >"$root/etc/fstab"
    for number in $numbers; do
        echo "service name:up :$number [2345] /bin/up $number $services -- Number $number"
    done >"$root/etc/finit.conf"
}

runit_image() {
    programs usr/sbin/runit usr/bin/runsvdir usr/bin/runsv
    ln -s usr/sbin/runit "$root/init"
    mkdir -p "$root/etc/runit"
    mounts | script "$root/etc/runit/1"
    echo 'exec env - PATH=/bin:/usr/bin:/usr/sbin runsvdir -P /etc/service' | script "$root/etc/runit/2"
    echo : | script "$root/etc/runit/3"
    for number in $numbers; do
        mkdir -p "$root/etc/service/s$number"
        echo "exec /bin/up $number $services" | script "$root/etc/service/s$number/run"
    done
}

s6_image() {
    programs usr/bin/s6-svscan usr/bin/s6-supervise
    {
        echo 'PATH=/bin:/usr/bin'
        mounts
        echo 'cp -R /etc/service /run/service'
        echo 'exec s6-svscan /run/service'
    } | script "$root/init"
    for number in $numbers; do
        mkdir -p "$root/etc/service/s$number"
        echo "exec /bin/up $number $services" | script "$root/etc/service/s$number/run"
    done
}

size() {
    cat "$@" | wc -c
}

numbers=$(seq -w 1 "$services")
for init in $inits; do
    root=$room/$init
    mkdir -p "$root"
    (cd "$root" && mkdir -p bin dev proc sys run tmp etc root var/log)
    cp "$vm/x86_64/busybox" "$root/bin/busybox"
    for applet in sh mount mkdir hostname ifconfig env cp; do
        ln -s busybox "$root/bin/$applet"
    done
    ln "$room/up" "$root/bin/up"
    echo bench >"$root/etc/hostname"
    "${init}_image"
    "$here/pack.sh" "$root" "$room/$init.cpio"
    # Programs, then what they are linked to at run time, then the image: one line for the table.
    # `own` is several words.
    # shellcheck disable=SC2086
    (
        cd "$root"
        mkdir -p lib lib64
        echo "$(size $own) $(find lib lib64 -type f -exec cat {} + | wc -c) $(size "../$init.cpio")"
    ) >"$room/$init.size"
done

for round in $(seq 1 "$rounds"); do
    for init in $inits; do
        QEMU_EXTRA="-no-reboot -smp 2" timeout 60 "$here/boot.sh" x86_64 "$room/$init.cpio" \
            quiet printk.devkmsg=on </dev/null >"$room/$init.console" 2>&1 || true
        # A console ends its lines with a carriage return.
        if ! tr -d '\r' <"$room/$init.console" | grep -a '^measured ' >>"$room/$init.measured"; then
            echo "$0: round $round under $init did not come to its end:" >&2
            tail -n 20 "$room/$init.console" >&2
            exit 1
        fi
    done
    [ ! -t 2 ] || printf '\rround %d of %d' "$round" "$rounds" >&2
done
[ ! -t 2 ] || printf '\r\033[K' >&2

echo "$services services, $rounds rounds, emulated x86_64 of two processors; from /init to the last service up"
echo "RSS is resident memory with, and in brackets without, pages that belong to files"
printf '%-10s %9s %9s %9s %9s %9s %9s  %14s %17s\n' init 'median ms' 'min' 'max' \
    'init kB' 'libs kB' 'image kB' 'PID 1 RSS kB' 'helpers RSS kB'
for init in $inits; do
    sort -k 2n "$room/$init.measured" | awk -v init="$init" -v size="$(cat "$room/$init.size")" '
        { time[NR] = $2 / 1000; first = $3 " (" $4 ")"; others = $5 " (" $6 ")" }
        END {
            split(size, bytes, " ")
            median = (time[int((NR + 1) / 2)] + time[int(NR / 2) + 1]) / 2
            printf "%-10s %9.1f %9.1f %9.1f %9d %9d %9d  %14s %17s\n", init, median, time[1], time[NR],
                bytes[1] / 1000, bytes[2] / 1000, bytes[3] / 1000, first, others
        }'
done
