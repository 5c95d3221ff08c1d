#!/bin/sh
# Makes an image to boot: build.sh ARCH ZINIT OUT-DIRECTORY [DEVICES]
#
# OUT-DIRECTORY gets `kernel` and `initramfs`. The initramfs is a whole system of one static zinit, one
# static busybox, an SSH server, a few modules, and the files beside this script: `etc`, the machine's
# own services in `system`, all others in `services`. DEVICES says who looks after the devices: `mdev`
# of busybox, or `udev`, whose services take the place of mdev's.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
arch=$1 zinit=$2 out=$3 devices=${4:-mdev}
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
    mkdir -p bin sbin dev proc sys run tmp root var etc/crontabs etc/zinit srv/www
    chmod 700 root
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

# Modules, and the list from which modprobe knows what each needs.
release=$(cat "$vm/$arch/modules/release")
modules=$root/lib/modules/$release
mkdir -p "$modules"
cp "$vm/$arch/modules"/*.ko "$vm/$arch/modules/modules.builtin" "$modules/"
"$vm/$arch/qemu/bin/busybox" depmod -b "$root" "$release"

# The SSH server's libraries lie in one directory, whichever the system's loader looks into first.
cp -R "$vm/$arch/ssh/." "$root/"
ln -s lib "$root/lib64"

cp -R "$here/etc/." "$root/etc/"
cp -R "$here/system" "$here/services" "$root/etc/zinit/"
case $devices in
mdev) ;;
udev)
    (cd "$root/etc/zinit/system" && rm mdev.toml coldplug.toml devices.toml)
    cp "$here/udev"/*.toml "$root/etc/zinit/system/"
    cp -R "$vm/$arch/udev/." "$root/"
    ;;
*)
    echo "$0: mdev and udev are known, '$devices' is not" >&2
    exit 1
    ;;
esac
# The target names the console of a PC.
sed "s/ttyS0/$console/" "$here/services/ready.toml" >"$root/etc/zinit/services/ready.toml"
echo "zinit $arch" >"$root/srv/www/index.html"

"$here/../vm/pack.sh" "$root" "$out/initramfs" "$vm/$arch/qemu/bin/busybox"
cp "$vm/$arch/kernel" "$out/kernel"
ls -l "$out/kernel" "$out/initramfs"
