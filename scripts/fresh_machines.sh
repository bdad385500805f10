#!/bin/bash
# The README's two commands on machines that have nothing yet: for each name, a root file system made by debootstrap,
# with git, make, sudo and a clone of this checkout (what is not committed yet comes along), in a sandbox of namespaces.
#
#   scripts/fresh_machines.sh [--tests "FILES"] NAME...      NAME: bookworm, trixie, jammy, noble, ...
#                                                            or vagrant: bookworm, set up as the Vagrantfile does
#
# In each: `make demo` by a user who may use sudo (it installs everything), again by the same, by root, and then
# `make test`, of all tests or of these files. Prints what took how long, and the versions that the name stands for.
# The roots stay in build/fresh/ for the next time; what was installed in them does not.
# Needs root and the distribution's mirror. Exit status: 0 all did, 1 one did not, 2 wrong use, 3 something is missing.
set -euo pipefail
# shellcheck source=scripts/packages.sh
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
HERE=$PWD/build/fresh
UBUNTU_SCRIPT=/usr/share/debootstrap/scripts/gutsy # of every release since
TESTS=
NAMES=()
TRIED= # the root that is in use; its mounts are the sandbox's, and end with it
trap '[[ -z $TRIED ]] || rm -rf --one-file-system "$TRIED"' EXIT

is_ubuntu() { [[ " jammy noble plucky " == *" $1 "* ]]; } # is_ubuntu RELEASE

# The mirror that this machine's own packages come from, if it runs the same distribution; else debootstrap's.
mirror_of() { # mirror_of RELEASE
    local origin=Debian found
    ! is_ubuntu "$1" || origin=Ubuntu
    # shellcheck disable=SC2016  # apt fills it in
    found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Origin: $origin" "Label: $origin" |
        sort -u | head -n 1)
    if [[ -z $found ]] && is_ubuntu "$1"; then
        found=$(awk '$1 == "default_mirror" && $2 ~ "/archive[.]" { print $2; exit }' "$UBUNTU_SCRIPT")
    fi
    printf '%s\n' "$found"
}

clean_root() { # clean_root RELEASE: prints where it is
    local base=$HERE/$1 components=main from=()
    if [[ ! -e $base ]]; then
        mapfile -t from < <(mirror_of "$1")
        if is_ubuntu "$1"; then # debootstrap of a Debian need not know the newest by name
            components=main,universe
            from+=("$UBUNTU_SCRIPT")
        fi
        rm -rf "$base.new"
        step "debootstrap could not make a root of $1" debootstrap --variant=minbase --components="$components" \
            --include=ca-certificates "$1" "$base.new" "${from[@]}"
        mv "$base.new" "$base" || return
    fi
    printf '%s\n' "$base"
}

# A clone, and over it what differs from the last commit.
clone_into() { # clone_into FOLDER
    local changed gone
    git -c safe.directory='*' clone --quiet . "$1" || return
    mapfile -d '' -t changed < <(git -c safe.directory='*' ls-files -z --modified --others --exclude-standard)
    mapfile -d '' -t gone < <(git -c safe.directory='*' ls-files -z --deleted)
    ((${#gone[@]} == 0)) || (cd "$1" && rm -f -- "${gone[@]}")
    local file
    for file in "${changed[@]}"; do
        [[ ! -e $file ]] || cp -a --parents -- "$file" "$1"
    done
}

# What a machine has that is not part of a clean root: names, certificates, a user; and nothing that starts services.
furnish() { # furnish ROOT USER
    cp -L /etc/resolv.conf /etc/hosts "$1/etc/" || return
    [[ ! -r /etc/ssl/certs/ca-certificates.crt ]] ||
        cp -L /etc/ssl/certs/ca-certificates.crt "$1/etc/machine-certificates.crt"
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
    chmod 755 "$1/usr/sbin/policy-rc.d"
    chroot "$1" useradd --create-home --shell /bin/bash "$2" || return
    echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/unsafe-io" # nothing of it is to survive a power cut
    mkdir -p "$1/etc/sudoers.d"
    printf '%s ALL=(ALL) NOPASSWD: ALL\n' "$2" >"$1/etc/sudoers.d/$2"
}

# Run the script below as process 1 of a sandbox whose root this is, with the machine's own network.
# pivot_root and not chroot: the kernel lets nobody in a chroot make a user namespace.
in_root() { # in_root ROOT ARGUMENT...
    local root=$1
    shift
    # shellcheck disable=SC2016  # the inner shell's
    setpriv --pdeathsig KILL unshare --mount --uts --ipc --pid --fork --kill-child --propagation private -- bash -euc '
        mount --bind "$1" "$1"
        cd "$1"
        mount -t proc proc proc
        mount --rbind /sys sys
        mount --rbind /dev dev
        mount -t tmpfs -o mode=755 tmpfs run
        mount -t tmpfs -o mode=1777 tmpfs tmp
        pivot_root . mnt
        cd /
        umount -l /mnt
        shift
        exec env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            ${HTTP_PROXY:+HTTP_PROXY="$HTTP_PROXY"} ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} \
            /bin/bash "$@"
    ' sandbox "$root" "$@" </dev/null
}

# Where `check` is called no error ends the script, so each step is asked.
check() { # check NAME
    local release=$1 user=learner checkout=/home/learner/mininetes base status=0
    [[ $1 != vagrant ]] || { release=bookworm user=vagrant checkout=/vagrant; }
    say "$1: a clean root of $release"
    base=$(clean_root "$release") || return
    TRIED=$(mktemp -d "$HERE/$1.XXXXXX") || return
    { chmod 755 "$TRIED" &&
        cp -a "$base/." "$TRIED" &&
        furnish "$TRIED" "$user" &&
        clone_into "$TRIED$checkout" &&
        chroot "$TRIED" chown -R "$user:" "$checkout" &&
        in_root "$TRIED" "$checkout/scripts/fresh_machine.sh" "$1" "$user" "$checkout" "$TESTS"; } || status=$?
    rm -rf --one-file-system "$TRIED"
    TRIED=
    return "$status"
}

main() {
    local name failed=()
    while (($#)); do
        case $1 in
        --tests) TESTS=${2?--tests FILES} && shift ;;
        -*) printf 'scripts/fresh_machines.sh [--tests "FILES"] NAME...\n' >&2 && exit 2 ;;
        *) NAMES+=("$1") ;;
        esac
        shift
    done
    ((${#NAMES[@]})) || NAMES=(bookworm trixie vagrant)
    ((EUID == 0)) || fail "clean roots are made by root only: sudo make test-install"
    install_packages debootstrap git util-linux
    [[ -d build ]] || install -d -o "$(stat -c %U .)" build # not root's: others build there too
    mkdir -p "$HERE"
    for name in "${NAMES[@]}"; do
        check "$name" || failed+=("$name")
    done
    ((${#failed[@]} == 0)) || { printf 'failed: %s\n' "${failed[*]}" >&2 && exit 1; }
}

main "$@"; exit # what is read is all that is run, also when the file is changed meanwhile
