#!/bin/bash
# The browser in which tests look at reports: Debian's chromium, headless.
# Does nothing where a browser is there already: then it asks the network for nothing.
# Run by make setup-tests. Exit status: 0 done, or said that tests of reports will fail; 3 a package cannot be had.
set -euo pipefail
# shellcheck source=scripts/packages.sh
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

# fonts-dejavu-core: without any font a page has no letters
PACKAGES=(chromium fonts-dejavu-core)

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A browser that runs: Ubuntu's chromium-browser only tells people to use snap.
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

main() {
    ! browser >/dev/null || return 0
    command -v apt-get >/dev/null || fail "tests need a headless browser: install chromium"
    if grep -q '^ID=ubuntu' /etc/os-release; then # its chromium is a snap, which headless tests cannot start
        say "tests of reports need a browser and fail without one: install google-chrome"
        return
    fi
    one_at_a_time # of two calls at once the second finds all done
    ! browser >/dev/null || return 0
    install_packages "${PACKAGES[@]}"
    browser >/dev/null || fail "chromium was installed and does not start"
}

main
