#!/bin/bash
# The virtual machine for what this kernel lacks (ip_vs, netem, dummy, ...), of tests and of make vm: qemu as a
# package, the distribution's kernel unpacked into .venv/vm-kernel (never installed: the host boots what it did).
# Does nothing where the running kernel has it all, unless called with --anyway, or when it is there already: then it
# asks the network for nothing. Run after provision.sh. Exit status: 0 done, 3 something is missing that cannot be had.
set -euo pipefail
# shellcheck source=scripts/packages.sh
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

PACKAGES=(qemu-system-x86 kmod file) # virtme-ng asks file for the kernel's version
KVM_ANSWERS_WITHIN_S=10
# The kernel's own package, by the one that always names the newest: Debian's, then Ubuntu's.
NEWEST=(linux-image-amd64 linux-image-generic)

cd "$(dirname "${BASH_SOURCE[0]}")/.."
HERE=.venv/vm-kernel
STAMP=$HERE/stamp
WORK=
STARTED=$SECONDS
trap '[[ -z $WORK ]] || rm -rf "$WORK"' EXIT

is_there() { # with what KVM was then, as another user may have another answer
    [[ -r $STAMP && $(<"$STAMP") == "$(fingerprint)" ]] && command -v qemu-system-x86_64 modprobe >/dev/null
}

fingerprint() {
    cksum <scripts/vm_kernel.sh
    [[ -r /dev/kvm && -w /dev/kvm ]] && echo kvm
    id -u
}

# What a package needs of the kernel's: linux-image-6.1.0-56-amd64; on Ubuntu linux-modules... beside it.
kernel_packages() {
    local package newest found=()
    for newest in "${NEWEST[@]}"; do
        mapfile -t found < <(depends_of "$newest" '^linux-(image|modules)(-extra)?-[0-9]')
        ((${#found[@]})) && break
    done
    for package in "${found[@]}"; do
        printf '%s\n' "$package"
        depends_of "$package" '^linux-modules(-extra)?-[0-9]'
    done | sort -u
}

depends_of() { # depends_of PACKAGE PATTERN
    apt-cache depends "$1" 2>/dev/null | sed -n 's/^ *|\?\(Depends\|Recommends\): *//p' | grep -E "$2" || true
}

unpack_kernel() {
    local packages deb release
    mapfile -t packages < <(kernel_packages)
    ((${#packages[@]})) || fail "apt-cache knows no kernel for the virtual machine: neither ${NEWEST[*]}"
    say "fetching a kernel for the virtual machine: ${packages[*]}"
    step "apt-get could not download ${packages[*]} busybox-static" \
        env -C "$WORK" apt-get -q -o APT::Sandbox::User=root download "${packages[@]}" busybox-static
    for deb in "$WORK"/*.deb; do
        step "$deb could not be unpacked" dpkg -x "$deb" "$WORK/unpacked"
    done
    mkdir -p "$WORK/new/lib/modules" "$WORK/new/bin"
    mv "$WORK/unpacked/boot" "$WORK/new/boot"
    for release in "$WORK"/unpacked/lib/modules/* "$WORK"/unpacked/usr/lib/modules/*; do
        [[ ! -d $release ]] || cp -al "$release" "$WORK/new/lib/modules/"
    done
    cp "$(find "$WORK/unpacked" -path "*/bin/busybox" -type f | head -n 1)" "$WORK/new/bin/busybox"
    for release in "$WORK"/new/lib/modules/*; do
        step "depmod failed" depmod -b "$WORK/new" "${release##*/}"
    done
    rm -rf "$HERE"
    mv "$WORK/new" "$HERE"
}

# A /dev/kvm that exists may hang. A kernel that finds no root file system ends within moments, if it runs at all.
kvm_works() {
    [[ -r /dev/kvm && -w /dev/kvm ]] || return 1
    timeout --kill-after=2 "$KVM_ANSWERS_WITHIN_S" qemu-system-x86_64 -machine accel=kvm -cpu host -m 256 \
        -nodefaults -display none -serial stdio -no-reboot -kernel "$HERE"/boot/vmlinuz-* \
        -append "console=ttyS0 panic=-1" <"/dev/null" >"$WORK/log" 2>&1 &&
        grep -q "Unable to mount root fs" "$WORK/log"
}

main() {
    local lacks
    ! is_there || return 0
    if [[ ${1:-} != --anyway ]]; then
        lacks=$(.venv/bin/python -m scripts.vm_machine) || fail "what this kernel has could not be found out"
        [[ -n $lacks ]] || return 0
        say "this kernel lacks what some tests need, so they get a virtual machine: $lacks"
    fi
    [[ $(uname -m) == x86_64 ]] || fail "the virtual machine is for x86_64 only, not $(uname -m)"
    one_at_a_time # of two calls at once the second finds all done
    ! is_there || return 0
    WORK=$(mktemp -d -p .venv) # on the same file system, so that moving is at once
    install_packages "${PACKAGES[@]}"
    compgen -G "$HERE/boot/vmlinuz-*" >/dev/null || unpack_kernel
    if kvm_works; then echo kvm; else echo tcg; fi >"$HERE/accelerator"
    fingerprint >"$STAMP"
    say "the virtual machine is ready ($(<"$HERE/accelerator")), $((SECONDS - STARTED)) s"
}

main "$@"
