#!/bin/bash
# What the Vagrantfile runs in its machine, as root: everything for root and for the user vagrant, and a way in for
# the host's kubectl. May be run again.
set -euo pipefail
# shellcheck source=scripts/packages.sh
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

ACCOUNT=vagrant
INSIDE_PORT=6443  # mininetes up --api-port 6443 listens there on 127.0.0.1
OUTSIDE_PORT=6444 # what the Vagrantfile forwards to, as no forwarded port reaches 127.0.0.1

cd "$(dirname "${BASH_SOURCE[0]}")/.."

as_account() { runuser -u "$ACCOUNT" -- env HOME="/home/$ACCOUNT" USER="$ACCOUNT" "$@"; }

# For ordinary users too, now and after a restart: the modules that no use of them loads, and room in the neighbour
# table, which is one for all namespaces, for the pods of a large lab.
ready_kernel() {
    mkdir -p /etc/modules-load.d /etc/sysctl.d
    printf '%s\n' br_netfilter ip_tables >/etc/modules-load.d/mininetes.conf
    printf 'net.ipv4.neigh.default.gc_thresh%s\n' 1=16384 2=32768 3=65536 >/etc/sysctl.d/60-mininetes.conf
    [[ ! -d /run/systemd/system ]] || systemctl restart systemd-modules-load systemd-sysctl
}

let_kubectl_in() {
    mkdir -p /etc/systemd/system
    cat >/etc/systemd/system/mininetes-kubectl.socket <<end
[Unit]
Description=A lab's API server, for kubectl outside of this machine

[Socket]
ListenStream=$OUTSIDE_PORT

[Install]
WantedBy=sockets.target
end
    cat >/etc/systemd/system/mininetes-kubectl.service <<end
[Unit]
Description=A lab's API server, for kubectl outside of this machine

[Service]
ExecStart=/lib/systemd/systemd-socket-proxyd 127.0.0.1:$INSIDE_PORT
end
    [[ ! -d /run/systemd/system ]] || {
        systemctl daemon-reload
        systemctl enable --now mininetes-kubectl.socket
    }
}

install_packages git make sudo
as_account mkdir -p results # which root's runs write to as well, below folders of their own
as_account make setup-tests
ln -sfn "$PWD/.venv/bin/mininetes" /usr/local/bin/mininetes
ready_kernel
let_kubectl_in
as_account mininetes doctor
