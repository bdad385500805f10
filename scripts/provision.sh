#!/bin/bash
# Set-up for Debian 12 and 13, Ubuntu 22.04 and 24.04: system packages that are missing, a virtual
# environment in .venv, this package in it. Used by make, by the Vagrantfile and by CI alike.
# A second call finds .setup-stamp as it left it, installs nothing and asks the network for nothing.
# Exit status: 0 done, 3 something is missing that cannot be had.
set -euo pipefail
# shellcheck source=scripts/packages.sh
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

PACKAGES=(
    mininet                              # without Open vSwitch, which it recommends: switches are Linux bridges
    python3-venv python3-setuptools      # setuptools: Mininet imports distutils, which Python 3.12 dropped
    iproute2 iptables nftables ipset ipvsadm conntrack ethtool bridge-utils net-tools util-linux procps
    containernetworking-plugins catatonit
    iputils-ping netcat-openbsd curl fping iperf3 tcpdump jq etcd-server
    gcc libc6-dev shellcheck
)
PYTHON=/usr/bin/python3 # the distribution's: Mininet belongs to it

cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
STAMP=.setup-stamp
STARTED=$SECONDS

# What the stamp holds: all that the virtual environment was made from, and where it is.
fingerprint() {
    cat setup.py scripts/provision.sh scripts/kubectl_clients.sh | cksum
    readlink -f "$PYTHON"
    printf '%s\n' "$ROOT"
}

is_set_up() {
    [[ -r $STAMP && $(<"$STAMP") == "$(fingerprint)" ]] && venv_works
}

venv_works() {
    [[ -x .venv/bin/mininetes ]] &&
        (cd / && "$ROOT/.venv/bin/python" -I -c 'import mininetes, mininet' 2>/dev/null)
}

# Debian's package starts an etcd on the host, which nothing here uses: labs run their own. One that was
# there before is somebody's, and stays. Nothing is laid in apt's way for it (a policy-rc.d would hold for
# all packages, and would stay if this script were killed).
keep_etcd_off() {
    [[ " ${NEWLY_INSTALLED[*]} " == *" etcd-server "* && -d /run/systemd/system ]] || return 0
    "${AS_ROOT[@]}" systemctl disable --now etcd >/dev/null 2>&1 </dev/null ||
        say "the package etcd-server started a service on this machine: systemctl disable --now etcd ends it"
}

# Where br_netfilter and ip_tables are modules, nothing else loads them; where they are not, nothing is to do.
load_modules() {
    [[ -e /proc/sys/net/bridge && -e /proc/net/ip_tables_names ]] && return 0
    [[ -e /proc/modules ]] || return 0
    local as_root=() name modprobe
    modprobe=$(PATH=$PATH:/usr/sbin:/sbin command -v modprobe) || return 0
    ((EUID == 0)) || as_root=(sudo -n)
    for name in br_netfilter ip_tables; do
        "${as_root[@]}" "$modprobe" -q "$name" 2>/dev/null || true
    done
    return 0 # what is still missing is named by mininetes doctor, with what needs it
}

make_venv() {
    if [[ ! -e .venv/bin/pip ]] || ! grep -qF "$ROOT/.venv/" .venv/bin/pip ||
        ! .venv/bin/python -c 'import pip' 2>/dev/null; then
        say "making .venv with $("$PYTHON" -V)"
        step "$PYTHON could not make the virtual environment .venv" \
            "$PYTHON" -m venv --clear --system-site-packages .venv
    fi
    say "installing mininetes and what it needs into .venv"
    step "pip could not install mininetes into .venv (it needs the package index the first time)" \
        .venv/bin/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
    venv_works || fail ".venv does not work: .venv/bin/python cannot import mininetes and mininet"
}

main() {
    if is_set_up; then
        load_modules
        return
    fi
    [[ -w . && (! -e .venv || -w .venv) ]] ||
        fail "$ROOT or its .venv cannot be written by $(id -un): run make setup as $(stat -c %U .venv 2>/dev/null || stat -c %U .)"
    one_at_a_time # of two calls at once the second finds all done
    if ! is_set_up; then
        rm -f "$STAMP"
        install_packages "${PACKAGES[@]}"
        keep_etcd_off
        make_venv
        scripts/kubectl_clients.sh </dev/null
        fingerprint >"$STAMP"
        say "done in $((SECONDS - STARTED)) s"
    fi
    load_modules
}

main
