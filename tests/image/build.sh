#!/bin/sh
# Makes an image to boot: build.sh ARCH ZINIT OUT-DIRECTORY
#
# OUT-DIRECTORY gets `kernel` and `initramfs`. The initramfs is a whole system of one static zinit, one
# static busybox, and the service files beside this script.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
arch=$1 zinit=$2 out=$3
vm=$here/../../target/vm

case $arch in
x86_64) console=ttyS0 ;;
aarch64) console=ttyAMA0 ;;
*)
    echo "$0: x86_64 and aarch64 are known, '$arch' is not" >&2
    exit 1
    ;;
esac
[ -x "$zinit" ] || {
    echo "$0: $zinit is not there: run make release" >&2
    exit 1
}
"$here/../vm/fetch.sh" "$arch"

mkdir -p "$out"
root=$(mktemp -d "$out/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
# mktemp keeps it to its owner; the machine's own users are to enter it.
chmod 755 "$root"

(
    cd "$root"
    mkdir -p bin sbin dev proc sys run tmp root var/log etc/crontabs etc/zinit srv/www
    chmod 1777 tmp
)

# The kernel runs /init. All else that zinit is called by is a link to it.
cp "$zinit" "$root/init"
chmod 755 "$root/init"
for name in bin/zinit sbin/init sbin/poweroff sbin/reboot sbin/halt sbin/shutdown; do
    ln -s ../init "$root/$name"
done

# The emulator's own busybox can run here, and knows the same applets.
cp "$vm/$arch/busybox" "$root/bin/busybox"
for applet in $("$vm/$arch/qemu/bin/busybox" --list); do
    case $applet in
    busybox | init | linuxrc | poweroff | reboot | halt) ;;
    *) ln -s busybox "$root/bin/$applet" ;;
    esac
done

cp -R "$here/etc/." "$root/etc/"
cp -R "$here/system" "$here/services" "$root/etc/zinit/"
# Service files name the console of a PC.
sed "s/ttyS0/$console/" "$here/services/getty.toml" >"$root/etc/zinit/services/getty.toml"
echo "zinit $arch" >"$root/srv/www/index.html"

"$here/../vm/pack.sh" "$root" "$out/initramfs" "$vm/$arch/qemu/bin/busybox"
cp "$vm/$arch/kernel" "$out/kernel"
ls -l "$out/kernel" "$out/initramfs"
