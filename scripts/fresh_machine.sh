#!/bin/bash
# What scripts/fresh_machines.sh runs in a clean root, as root: fresh_machine.sh NAME USER CHECKOUT TESTS.
# Ends with the first step that fails, and shows what it said.
set -euo pipefail
export LC_ALL=C.UTF-8

NAME=$1
ACCOUNT=$2
CHECKOUT=$3
TESTS=$4
SAID=$(mktemp -d)
chmod 777 "$SAID" # of a sandbox that only this script and its user are in
CERTIFICATES=/etc/machine-certificates.crt
[[ ! -r $CERTIFICATES ]] || export PIP_CERT=$CERTIFICATES SSL_CERT_FILE=$CERTIFICATES

# Run a step, say how long it took; what it printed stays in $SAID/STEP.out and .err.
step() { # step STEP COMMAND...
    local name=$1 started=$SECONDS
    shift
    if ! "$@" >"$SAID/$name.out" 2>"$SAID/$name.err" </dev/null; then
        tail -n 60 "$SAID/$name.out" "$SAID/$name.err"
        printf '%s: %s failed after %d s\n' "$NAME" "$name" "$((SECONDS - started))"
        exit 1
    fi
    printf '%s: %-28s %4d s\n' "$NAME" "$name" "$((SECONDS - started))"
}

as_user() { # as_user COMMAND...
    (cd "$CHECKOUT" && runuser -u "$ACCOUNT" -- env HOME="/home/$ACCOUNT" USER="$ACCOUNT" "$@")
}

packages() {
    apt-get -q update &&
        DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "$@"
}

in_checkout() { (cd "$CHECKOUT" && "$@"); }

# The demo has done what the README says: all pairs, and nothing on stderr, but that the machine is a busy one.
check_demo() { # check_demo STEP
    grep -q 'ready after' "$SAID/$1.out" && grep -q '210 pairs: 210 reached' "$SAID/$1.out" &&
        ! grep -v '^mininetes: the machine did not keep up' "$SAID/$1.err" && return
    cat "$SAID/$1.out" "$SAID/$1.err"
    printf '%s: %s did not print what it should, or warned\n' "$NAME" "$1"
    exit 1
}

# A second call finds all there: no line of set-up's.
check_nothing_installed() { # check_nothing_installed STEP
    ! grep '^set-up:' "$SAID/$1.out" || exit 1
}

versions() {
    dpkg-query -W -f='${Package} ${Version}\n' python3 mininet iptables nftables iproute2 ipset ipvsadm etcd-server \
        containernetworking-plugins | awk -v name="$NAME" '{ printf "%s:   %-28s %s\n", name, $1, $2 }'
}

step "git and make" packages git make sudo
if [[ $NAME == vagrant ]]; then
    step "vagrant" packages vagrant
    step "vagrant validate" as_user env VAGRANT_DOTFILE_PATH="$SAID/dotfiles" vagrant validate --ignore-provider
    step "provisioning" in_checkout scripts/vagrant.sh
    grep -q '^set-up: done' "$SAID/provisioning.out"
fi
step "make demo, a user" as_user make demo
check_demo "make demo, a user"
step "make demo again" as_user make demo
check_demo "make demo again"
check_nothing_installed "make demo again"
step "make demo, root" in_checkout make demo
check_demo "make demo, root"
check_nothing_installed "make demo, root"
step "make test, a user" as_user make test ${TESTS:+TESTS="$TESTS"}
tail -n 1 "$SAID/make test, a user.out" | sed "s/^/$NAME: /"
versions
