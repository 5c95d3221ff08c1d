#!/bin/sh
# Runs a machine on this terminal: boot.sh ARCH INITRAMFS [KERNEL WORDS...]
#
# ARCH is x86_64 or aarch64; KERNEL and QEMU_EXTRA in the environment name another kernel and more
# words for QEMU. Powering off ends QEMU, and rebooting does not without QEMU_EXTRA=-no-reboot.
# QEMU replaces this shell, so who kills one kills the other.
set -eu

vm=$(dirname "$0")/../../target/vm
arch=$1 initramfs=$2
shift 2

case $arch in
x86_64)
    # q35 starts fast and has what tests need: ACPI, a keyboard for Ctrl-Alt-Del, PCI. `max` has
    # a random number instruction, without which the kernel gathers entropy for a while. An
    # emulator that gets little time must not make the kernel distrust its clock.
    machine='-M q35 -cpu max'
    words='console=ttyS0 tsc=reliable'
    ;;
aarch64)
    machine='-M virt -cpu cortex-a57'
    words='console=ttyAMA0'
    ;;
*)
    echo "$0: x86_64 and aarch64 are known, '$arch' is not" >&2
    exit 1
    ;;
esac
[ -x "$vm/qemu-$arch" ] || {
    echo "$0: no emulator is there: run tests/vm/fetch.sh $arch" >&2
    exit 1
}

# On a terminal Ctrl-C is for the machine; Ctrl-A X ends it.
serial=stdio
[ ! -t 0 ] || serial=mon:stdio

# Several words each.
# shellcheck disable=SC2086
exec "$vm/qemu-$arch" $machine -m 256 -nodefaults -no-user-config -display none -serial "$serial" \
    -kernel "${KERNEL:-$vm/$arch/kernel}" -initrd "$initramfs" -append "$words $*" ${QEMU_EXTRA:-}
