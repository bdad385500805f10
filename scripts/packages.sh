#!/bin/bash
# What the set-up scripts share: how they speak, and how they install packages that are missing. Sourced, not run.
export LC_ALL=C
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

NEWLY_INSTALLED=() # what install_packages found missing
AS_ROOT=()         # before a command that only root may run

say() { printf 'set-up: %s\n' "$*"; }
fail() {
    printf 'set-up: %s\n' "$*" >&2
    exit 3
}

# Run a step quietly; if it fails, show all that it said, then one line that says what is wrong.
step() { # step ERROR COMMAND...
    local error=$1 said
    shift
    if ! said=$("$@" 2>&1 </dev/null); then
        printf '%s\n' "$said" >&2
        fail "$error"
    fi
}

# Wait until no other set-up of this checkout runs; the next one is let in when the calling script ends.
one_at_a_time() {
    exec 9<setup.py
    flock 9
}

missing_packages() { # missing_packages PACKAGE...
    local installed package
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
    for package in "$@"; do
        [[ $'\n'$installed$'\n' == *$'\n'"installed $package"$'\n'* ]] || printf '%s\n' "$package"
    done
}

install_packages() { # install_packages PACKAGE...
    command -v dpkg-query >/dev/null || fail "this is neither Debian nor Ubuntu; install by hand: $*"
    mapfile -t NEWLY_INSTALLED < <(missing_packages "$@")
    local missing=("${NEWLY_INSTALLED[@]}")
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        command -v sudo >/dev/null ||
            fail "missing packages, and neither root nor sudo to install them: ${missing[*]}"
        sudo -v || fail "missing packages, and sudo refused to install them: ${missing[*]}"
        AS_ROOT=(sudo)
    fi
    local apt=("${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    say "installing packages: ${missing[*]}"
    step "apt-get update failed; still missing: ${missing[*]}" "${apt[@]}" update
    step "apt-get could not install all of: ${missing[*]} (on Ubuntu they need the component universe)" \
        "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
}
