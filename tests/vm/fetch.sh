#!/bin/sh
# Brings emulators, kernels and other inits into target/vm: fetch.sh [x86_64] [aarch64] [peers]
#
# Debian's packages are downloaded and unpacked there. Nothing is installed: an emulator from one
# release conflicts with its tools from another. apt is given a state of its own, in which no package
# is installed, so each comes with all of its libraries and runs whatever the host has.
set -eu

# Raise it when what is laid out below changes, so that older layouts are fetched anew.
layout=2

vm=$(dirname "$0")/../../target/vm
mkdir -p "$vm"
vm=$(cd "$vm" && pwd)

fail() {
    echo "$0: $*" >&2
    exit 1
}

there() {
    [ -e "$vm/$1/layout-$layout" ]
}

missing=
for what; do
    case $what in
    x86_64 | aarch64 | peers) there "$what" || missing="$missing $what" ;;
    *) fail "x86_64, aarch64 and peers are known, '$what' is not" ;;
    esac
done
[ "$missing" ] || exit 0

for tool in apt-get dpkg-deb flock; do
    command -v "$tool" >/dev/null || fail "$tool is missing: virtual machines need a Debian host"
done

# Two that fetch at once would trip over each other.
exec 9>"$vm/lock"
flock 9

# A name that is always the same, so that what a killed run left is swept up by the next.
work=$vm/fetching
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
mkdir "$work"

host=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ "$host" ] || fail "the host's release has no codename, so its packages can't be chosen"

# The host's own sources of the distribution's packages, without those of others.
sources() {
    list='' parts=''
    eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
    cat "$list" "$parts"/*.list 2>/dev/null | awk -v suite="$host" '
        $1 == "deb" {
            for (at = 2; at < NF; at++)
                if ($at ~ "^" suite "(-updates|-security)?$")
                    print
        }' >"$1/host.list"
    for file in "$parts"/*.sources; do
        [ ! -e "$file" ] || { cat "$file"; echo; }
    done | awk -v RS= -v FS='\n' -v suite="$host" '
        {
            text = ""
            wanted = 0
            for (line = 1; line <= NF; line++) {
                if ($line ~ /^#/)
                    continue
                if ($line ~ /^Enabled: *no/)
                    next
                if ($line ~ /^Suites:/) {
                    count = split($line, word, " ")
                    for (at = 2; at <= count; at++)
                        if (word[at] ~ "^" suite "(-updates|-security)?$")
                            wanted = 1
                }
                text = text $line "\n"
            }
            if (wanted)
                print text
        }' >"$1/host.sources"
}

# Runs an apt program on a state of its own.
apt() {
    program=$1
    shift
    "$program" -qq \
        -o Dir::State="$work/apt" -o Dir::State::status="$work/apt/status" -o Dir::Cache="$work/apt" \
        -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/apt/sources" \
        -o APT::Architectures::=amd64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root \
        "$@" 9>&- 2>>"$work/log"
}

lost() {
    fail "apt-get could not bring $*: $(tail -n 1 "$work/log")"
}

# Unpacks packages with all that they need: closure DIRECTORY PACKAGES...
closure() {
    root=$1
    shift
    apt apt-get install -y --download-only --no-install-recommends "$@" >/dev/null \
        || lost "$@"
    mkdir -p "$root/usr"
    for file in "$work/apt/archives"/*.deb; do
        dpkg-deb -x "$file" "$root"
        rm "$file"
    done
    # Some packages still have a /lib beside /usr/lib. One of them is enough to search.
    for dir in bin sbin lib lib64; do
        if [ -d "$root/$dir" ]; then
            mkdir -p "$root/usr/$dir"
            cp -a "$root/$dir/." "$root/usr/$dir/"
            rm -r "${root:?}/$dir"
        fi
        ln -s "usr/$dir" "$root/$dir"
    done
    find "$root/usr/share" -mindepth 1 -maxdepth 1 \
        ! -name qemu ! -name seabios -exec rm -r {} +
}

# Unpacks one package alone: alone DIRECTORY PACKAGE
alone() {
    (cd "$work" && apt apt-get download "$2") || lost "$2"
    dpkg-deb -x "$work"/*.deb "$1"
    rm "$work"/*.deb
}

# Copies a module behind those that it needs, and lists it.
module() {
    file=$(find "$kernel/lib/modules" -name "$1.ko")
    # What is built in has no file.
    [ "$file" ] && [ ! -e "$out/modules/$1.ko" ] || return 0
    cp "$file" "$out/modules/"
    for needed in $(tr '\0' '\n' <"$file" | sed -n 's/^depends=//p' | tr ',' ' '); do
        module "$needed"
    done
    # The variables of this function were overwritten by those that it called, but not its words.
    echo "$1.ko" >>"$out/modules/order"
}

# Copies the shared libraries that files need, and those that these need, to ROOT/lib:
# shared DIRECTORY ROOT FILES... The names are read from the files, whose processor may be another one.
shared() {
    from=$1 into=$2
    shift 2
    mkdir -p "$into/lib"
    while [ $# -gt 0 ]; do
        file=$1
        shift
        for name in $(tr '\0' '\n' <"$file" | grep -axE '(lib[a-z0-9_+-]+|ld-linux[a-z0-9_-]*)\.so\.[0-9]+'); do
            if [ -e "$from/$name" ] && [ ! -e "$into/lib/$name" ]; then
                cp -L "$from/$name" "$into/lib/"
                set -- "$@" "$from/$name"
            fi
        done
    done
}

# An emulator, and a kernel, busybox, an SSH server and udev to run in it:
# machine ARCH DEBIAN-ARCH QEMU-PACKAGE
machine() {
    out=$work/$1
    mkdir -p "$out/modules" "$out/ssh/bin" "$out/ssh/sbin" "$out/udev/bin" "$out/udev/lib/systemd"

    # A busybox that the host can run comes along, to list applets and to pack files.
    closure "$out/qemu" "$3" busybox-static
    # The program is run by its own loader, and so can't find its parts from where it is itself.
    cat >"$out/run" <<EOF
#!/bin/sh
root=\${0%/*}/$1/qemu/usr
export QEMU_MODULE_DIR="\$(echo "\$root"/lib/*-linux-gnu/qemu)"
exec "\$root"/lib/*/ld-linux-*.so.? --library-path "\$(echo "\$root"/lib/*-linux-gnu)" \\
    "\$root/bin/qemu-system-$1" \\
    -L "\$root/share/qemu" -L "\$root/share/seabios" -L "\$root/lib/ipxe/qemu" "\$@"
EOF
    chmod +x "$out/run"

    alone "$out/rest" "busybox-static:$2"
    name=$(apt apt-cache depends "linux-image-cloud-$2:$2" | sed -n 's/.*Depends: \(linux-image[^ ]*\)$/\1/p')
    [ "$name" ] || lost "linux-image-cloud-$2"
    kernel=$out/rest
    alone "$kernel" "${name%:*}:$2"
    # Where /usr is merged already, both are below it.
    mv "$(find "$kernel" -path '*bin/busybox' -type f)" "$out/busybox"
    mv "$(find "$kernel" -path '*/boot/vmlinuz-*' -type f)" "$out/kernel"
    # QEMU takes a bare or a compressed image, but not every kind of self-extracting one.
    if [ "$(od -An -tx1 -N2 "$out/kernel")" = " 1f 8b" ]; then
        mv "$out/kernel" "$out/kernel.gz"
        gzip -d "$out/kernel.gz"
    fi
    # ext4 and NVMe are built into these kernels.
    for name in virtio_pci virtio_blk virtio_net; do
        module "$name"
    done
    # What modprobe has to know of them: the kernel's release, and what needs no file.
    builtin=$(find "$kernel" -name modules.builtin)
    cp "$builtin" "$out/modules/"
    basename "$(dirname "$builtin")" >"$out/modules/release"
    rm -r "$out/rest"

    # These run in the machine only, with nothing but the libraries that they need.
    closure "$out/rest" "dropbear-bin:$2" "udev:$2"
    usr=$out/rest/usr
    # What does not depend on the processor may have brought libraries for the host's.
    libraries=$usr/lib/$1-linux-gnu
    cp "$usr/sbin/dropbear" "$out/ssh/sbin/"
    cp "$usr/bin/dropbearkey" "$usr/bin/dbclient" "$out/ssh/bin/"
    shared "$libraries" "$out/ssh" "$out/ssh/sbin"/* "$out/ssh/bin"/*
    cp "$usr/bin/udevadm" "$out/udev/bin/"
    ln -s ../../bin/udevadm "$out/udev/lib/systemd/systemd-udevd"
    cp -R "$usr/lib/udev" "$out/udev/lib/"
    # Names of devices, for people, and most of its size.
    rm -r "$out/udev/lib/udev/hwdb.d"
    # Of these names, none has a blank in it.
    # shellcheck disable=SC2046
    shared "$libraries" "$out/udev" $(find "$out/udev/bin" "$out/udev/lib/udev" -maxdepth 1 -type f)
    [ -e "$out/ssh/lib/libc.so.6" ] && [ -e "$out/udev/lib/libc.so.6" ] || fail "no libraries in $libraries"
    rm -r "$out/rest"
    ln -sf "$1/run" "$vm/qemu-$1"
}

mkdir -p "$work/apt/sources" "$work/apt/lists/partial" "$work/apt/archives/partial"
: >"$work/apt/status"
: >"$work/log"
sources "$work/apt/sources"
# What an update could not get shows by the packages that are not found.
apt apt-get update || true

for what in $missing; do
    # Someone else may have brought it while this one waited for the lock.
    if there "$what"; then
        continue
    fi
    case $what in
    x86_64) machine x86_64 amd64 qemu-system-x86 ;;
    aarch64) machine aarch64 arm64 qemu-system-arm ;;
    peers) closure "$work/peers" finit:amd64 runit:amd64 s6:amd64 sysvinit-core:amd64 ;;
    esac
    # The stamp goes in before the move, so the whole appears at once or not at all.
    : >"$work/$what/layout-$layout"
    rm -rf "${vm:?}/$what"
    mv "$work/$what" "$vm/$what"
done
