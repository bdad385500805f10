#!/bin/bash
# The browser in which tests look at reports: Debian's chromium, headless.
# Does nothing where a browser is there already: then it asks the network for nothing.
# Run by make setup-tests. Exit status: 0 done, 3 something is missing that cannot be had.
set -euo pipefail
export LC_ALL=C
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# fonts-dejavu-core: without any font a page has no letters
PACKAGES=(chromium fonts-dejavu-core)

cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'set-up: %s\n' "$*"; }
fail() {
    printf 'set-up: %s\n' "$*" >&2
    exit 3
}

# A browser that runs: Ubuntu's package of that name only tells people to use snap.
browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null && "$name" --version >/dev/null 2>&1 </dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# Run a step quietly; if it fails, show all that it said, then one line that says what is wrong.
step() { # step ERROR COMMAND...
    local error=$1 log
    shift
    if ! log=$("$@" 2>&1 </dev/null); then
        printf '%s\n' "$log" >&2
        fail "$error"
    fi
}

main() {
    ! browser >/dev/null || return 0
    command -v apt-get >/dev/null || fail "tests need a headless browser: install chromium"
    exec 9<setup.py
    flock 9 # two calls at once: the second finds all done
    ! browser >/dev/null || return 0
    local as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "tests need ${PACKAGES[*]}, and neither root nor sudo is here to install them"
        sudo -v || fail "tests need ${PACKAGES[*]}, and sudo refused to install them"
        as_root=(sudo)
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    say "installing a browser for tests: ${PACKAGES[*]}"
    step "apt-get update failed; still missing: ${PACKAGES[*]}" "${apt[@]}" update
    step "apt-get could not install ${PACKAGES[*]}" "${apt[@]}" install -y --no-install-recommends "${PACKAGES[@]}"
    browser >/dev/null || fail "chromium was installed and does not start (Ubuntu's is a snap): install google-chrome"
}

main
