"""scripts/vm_kernel.sh fetches only what is needed and missing, and says in one line what it cannot have.

It runs in a folder of its own, as an ordinary user, with stand-ins for Python, dpkg-query, apt and others.
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
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
PROGRAMS = ("bash", "cat", "cksum", "cp", "dirname", "env", "find", "flock", "grep", "head", "id", "mkdir", "mktemp",
            "mv", "rm", "sed", "sort", "timeout", "touch", "uname")  # fmt: skip
CALLED = '#!/bin/bash\necho "${0##*/} $*" >>"$CALLS"\n'
INSTALLED = """#!/bin/bash
for package in "${@:3}"; do
    echo "installed $package"
done
"""
NOT_INSTALLED = "#!/bin/bash\nexit 1\n"
APT_CACHE = """#!/bin/bash
[[ $2 != linux-image-amd64 ]] || echo "  Depends: linux-image-6.1.0-1-amd64"
"""
# puts the packages that it is asked for where it was called, as apt-get download does
APT_GET = CALLED + "[[ $* != *download* ]] || touch kernel.deb\n"
DPKG = """#!/bin/bash
mkdir -p "$3"/{boot,bin} "$3/lib/modules/6.1.0-1-amd64"
touch "$3/boot/vmlinuz-6.1.0-1-amd64" "$3/bin/busybox"
"""


class Checkout:
    """A folder with the script, and a PATH of stand-ins; ``lacks`` is what Python says that the kernel lacks."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder / "checkout", folder / "bin"
        self.programs.mkdir()
        (self.folder / "scripts").mkdir(parents=True)
        (self.folder / ".venv" / "bin").mkdir(parents=True)
        for name in PROGRAMS:
            (self.programs / name).symlink_to(shutil.which(name) or "")
        for script in ("vm_kernel.sh", "packages.sh"):
            shutil.copy(ROOT / "scripts" / script, self.folder / "scripts")
        (self.folder / "setup.py").touch()
        for name, text in {"dpkg-query": INSTALLED, "apt-cache": APT_CACHE, "apt-get": APT_GET, "dpkg": DPKG}.items():
            self.program(name, text)
        for name in ("depmod", "modprobe", "qemu-system-x86_64"):
            self.program(name, CALLED)
        self.lacks("ip_vs, netem")

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def lacks(self, said: str) -> None:
        python = self.folder / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/bash\necho "{said}"\n')
        python.chmod(0o755)

    def set_up(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script; PATH has the stand-ins only, but for what the script itself adds behind them."""
        if AS_NOBODY:
            for path in (self.folder.parent, *self.folder.rglob("*"), self.folder):
                os.chown(path, 65534, 65534)
        argv = [*AS_NOBODY, str(self.folder / "scripts" / "vm_kernel.sh"), *arguments]
        argv[0] = shutil.which(argv[0]) or argv[0]
        env = {"PATH": str(self.programs), "CALLS": str(self.folder / "calls")}
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)

    def calls(self) -> list[str]:
        """What the stand-ins that note it were called with, since the last time."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Checkout(Path(folder))


def test_a_kernel_that_has_everything_needs_nothing(checkout: Checkout) -> None:
    checkout.lacks("")
    checkout.program("dpkg-query", NOT_INSTALLED)
    done = checkout.set_up()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert checkout.calls() == []
    assert not (checkout.folder / ".venv" / "vm-kernel").exists()


def test_a_kernel_is_fetched_and_unpacked_and_the_second_time_nothing(checkout: Checkout) -> None:
    done = checkout.set_up()
    assert done.returncode == 0, done.stderr
    assert "this kernel lacks what some tests need, so they get a virtual machine: ip_vs, netem" in done.stdout
    download, depmod, *_ = checkout.calls()
    assert download.endswith(" download linux-image-6.1.0-1-amd64 busybox-static")
    assert depmod.startswith("depmod -b ")
    here = checkout.folder / ".venv" / "vm-kernel"
    assert (here / "boot" / "vmlinuz-6.1.0-1-amd64").exists()
    assert (here / "lib" / "modules" / "6.1.0-1-amd64").is_dir()
    assert (here / "accelerator").read_text() == "tcg\n"
    assert sorted(path.name for path in (checkout.folder / ".venv").iterdir()) == ["bin", "vm-kernel"]
    again = checkout.set_up()
    assert (again.returncode, again.stdout, again.stderr, checkout.calls()) == (0, "", "", [])


def test_make_vm_wants_the_machine_even_so(checkout: Checkout) -> None:
    checkout.lacks("")
    done = checkout.set_up("--anyway")
    assert done.returncode == 0, done.stderr
    assert "lacks" not in done.stdout
    assert (checkout.folder / ".venv" / "vm-kernel" / "bin" / "busybox").exists()
    checkout.calls()
    again = checkout.set_up("--anyway")
    assert (again.returncode, again.stdout, again.stderr, checkout.calls()) == (0, "", "", [])


def test_without_root_and_sudo_the_missing_packages_are_named(checkout: Checkout) -> None:
    checkout.program("dpkg-query", NOT_INSTALLED)
    checkout.program("sudo", NOT_INSTALLED)
    done = checkout.set_up()
    assert done.returncode == 3
    said = "set-up: missing packages, and sudo refused to install them: qemu-system-x86 kmod file\n"
    assert done.stderr == said


def test_a_failed_download_is_named_in_the_last_line(checkout: Checkout) -> None:
    checkout.program("apt-get", "#!/bin/bash\necho E: no network >&2\nexit 100\n")
    done = checkout.set_up()
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == "E: no network"
    assert done.stderr.splitlines()[-1].startswith("set-up: apt-get could not download linux-image-6.1.0-1-amd64")
    assert not (checkout.folder / ".venv" / "vm-kernel").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("uname", "#!/bin/bash\necho aarch64\n", "the virtual machine is for x86_64 only, not aarch64"),
        ("apt-cache", "#!/bin/bash\n", "apt-cache knows no kernel for the virtual machine: neither linux-image-amd64"),
    ],
)
def test_what_cannot_be_had_is_one_line(name: str, text: str, said: str, checkout: Checkout) -> None:
    checkout.program(name, text)
    done = checkout.set_up()
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"set-up: {said}")
