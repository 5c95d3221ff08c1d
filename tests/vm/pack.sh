#!/bin/sh
# Packs a directory as an initramfs: pack.sh DIRECTORY OUT [BUSYBOX]
#
# All files are root's, whoever packs them. It is not compressed: an emulated machine unpacks slower
# than it reads. BUSYBOX is one that this host can run; one that fetch.sh brought, if none is given.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ $# -gt 2 ]; then
    busybox=$(cd "$(dirname "$3")" && pwd)/$(basename "$3")
else
    for busybox in "$here"/../../target/vm/*/qemu/bin/busybox; do
        [ ! -x "$busybox" ] || break
    done
fi
[ -x "$busybox" ] || {
    echo "$0: no busybox to pack with: run tests/vm/fetch.sh x86_64" >&2
    exit 1
}

# Whole or not at all: a machine may be started from it right away.
out=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
trap 'rm -f "$out.$$"' EXIT
cd "$1"
find . | "$busybox" cpio -o -H newc -R 0:0 >"$out.$$" 2>/dev/null
mv "$out.$$" "$out"
