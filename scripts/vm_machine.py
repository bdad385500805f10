"""A throw-away virtual machine with Debian's or Ubuntu's kernel, for what the running kernel lacks.

    +------------------ qemu (KVM where that works, else emulated) ------------------+
    |  /                    this machine's file system, read-only                    |
    |  /etc /var ...        this machine's too; what is written there is forgotten   |
    |  /tmp /run            its own, empty                                           |
    |  the shared folders   this machine's, and the only ones that are written to    |
    +--------------------------------------------------------------------------------+

    Machine.found().run("ipvsadm -Ln", exchange, timeout_s=60)

The tests of tests/vm/inside run in one (tests/vm/lane.py), and so does `make vm` (scripts/vm.py). Nothing of it
outlives the process that started it. `scripts/vm_kernel.sh` fetches what it needs; how well it runs there without
KVM decides its settings: a processor without AVX, caches in front of 9p, compiled Python.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mininetes.errors import MissingFeature
from mininetes.kernel import features

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
HOME = VENV / "vm-kernel"
"""Where scripts/vm_kernel.sh puts the kernel, its modules and what it found out about KVM."""

FEATURES = ("br_netfilter", "ip_vs", "ipset", "dummy", "netem", "ipvlan")
"""What the tests in tests/vm/inside need (names of kernel/feature_table.py). A kernel that has all runs them itself."""

PROGRAMS = ("vng", "qemu-system-x86_64", "setpriv", "unshare", "modprobe")
SEARCHED = (str(VENV / "bin"), os.environ.get("PATH", ""), *features.SYSTEM_DIRECTORIES)

# 9p asks the host about every file each time: these, which nobody writes to meanwhile, are read through a cache.
# An ordinary user's machine sees root's files as somebody else's, so the setuid bit of `mount` must not count.
_CACHED = "/usr/bin /usr/sbin /usr/lib/x86_64-linux-gnu /usr/lib/python3*"
_JOB = """\
set -u
mkdir -p /run/cached
{busybox} mount -t 9p -o ro,nosuid,trans=virtio,version=9p2000.L,cache=loose,msize=524288 cached /run/cached
for folder in {shared}; do # those below a cached folder would be hidden by it
    mkdir -p "/run/shared$folder"
    {busybox} mount -o bind "$folder" "/run/shared$folder"
done
for folder in {cached} {venv} {root}; do
    {busybox} mount -o bind "/run/cached$folder" "$folder"
done
for folder in {shared}; do
    {busybox} mount -o bind "/run/shared$folder" "$folder"
done
for module in {modules}; do
    modprobe -q "$module"
done
ulimit -n 65536
cd {root}
{script}
"""
OUTPUT, STATUS, CONSOLE = "output", "status", "console"
"""Files of the exchange folder: what the script printed, its exit status, what the kernel said."""

_MODULES = "br_netfilter ip_tables"
"""Those that no use of them loads (scripts/provision.sh does the same on the machine itself)."""


def missing_here() -> str:
    """Which of FEATURES the running kernel lacks, with commas; empty when it has all of them."""
    features.complete_path()
    try:
        features.require(FEATURES)
    except MissingFeature as missing:
        return missing.feature
    return ""


class MachineFailed(AssertionError):
    """The machine cannot be had, did not start, or did not end in time; the text says which."""


@dataclass(frozen=True)
class Ended:
    """What a script in the machine came to: its exit status, what it printed, and the kernel's console."""

    status: int
    output: str
    console: str


@dataclass(frozen=True)
class Machine:
    """How to boot one. ``kvm``: with hardware virtualization, otherwise everything is emulated, 20 times slower."""

    kernel: Path
    busybox: Path
    kvm: bool
    memory: str = "3G"
    processors: int = 2

    @classmethod
    def found(cls) -> Machine:
        """The machine that set-up prepared. Raises MachineFailed when it did not."""
        kernels = sorted(HOME.glob("boot/vmlinuz-*"))
        absent = [name for name in PROGRAMS if shutil.which(name, path=os.pathsep.join(SEARCHED)) is None]
        if not kernels or absent:
            raise MachineFailed(f"no virtual machine ({', '.join(absent) or 'no kernel'}): make setup-tests gets it")
        kvm = (HOME / "accelerator").read_text().strip() == "kvm" and os.access("/dev/kvm", os.R_OK | os.W_OK)
        return cls(kernels[-1], HOME / "bin" / "busybox", kvm)

    @property
    def release(self) -> str:
        """The kernel's, such as 6.1.0-56-amd64."""
        return self.kernel.name.removeprefix("vmlinuz-")

    def run(self, script: str, exchange: Path, *, timeout_s: float, root: Path = ROOT) -> Ended:
        """Boot, run a bash script as root in ``root``, and wait for the machine's end.

        The script may write to ``exchange`` and, until the end, to places such as /tmp. Raises MachineFailed with
        the console's last lines when it did not start or took longer than ``timeout_s``.
        """
        with self.running(script, exchange, root=root) as process:
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                said = _read(exchange / OUTPUT) or _read(exchange / CONSOLE)
                raise MachineFailed(f"the virtual machine did not end within {timeout_s:g} s:\n{_tail(said)}") from None
        return ended(exchange)

    @contextlib.contextmanager
    def running(
        self,
        script: str,
        exchange: Path,
        *,
        root: Path = ROOT,
        shared: Sequence[Path] = (),
        ports: Mapping[str, Path] | None = None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Boot and run a bash script as root in ``root``; leaving the block ends the machine, if it still runs.

        ``shared`` are the folders that it may write to besides ``exchange``, an empty one of the caller's. ``ports``
        are serial ports by name, each a Unix socket on which the caller listens; /sys/class/virtio-ports has them
        inside. Not even a killed caller leaves the machine running.
        """
        job, output, status = (exchange / name for name in ("job.sh", OUTPUT, STATUS))
        venv, here, busybox = (shlex.quote(str(path)) for path in (VENV, root, self.busybox))
        settings = {"cached": _CACHED, "modules": _MODULES, "venv": venv, "root": here, "busybox": busybox}
        job.write_text(_JOB.format(**settings, shared=shlex.join(map(str, [exchange, *shared])), script=script))
        status.unlink(missing_ok=True)
        inside = f"bash {shlex.quote(str(job))} >{shlex.quote(str(output))} 2>&1; echo $? >{shlex.quote(str(status))}"
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        argv = ["setpriv", "--pdeathsig", "KILL", "unshare", *user, "--pid", "--fork", "--kill-child", "--"]
        with (
            (exchange / CONSOLE).open("wb") as console,
            subprocess.Popen(
                [*argv, *self._vng(inside, [exchange, *shared], ports or {})],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, "PATH": os.pathsep.join(SEARCHED), "LC_ALL": "C.UTF-8"},
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()  # and unshare's child, which is the first of its namespace, with it

    def _vng(self, inside: str, shared: Sequence[Path], ports: Mapping[str, Path]) -> list[str]:
        """The command line. ``--verbose``: without it the console is lost when it is no terminal."""
        share = "-virtfs local,path=/,mount_tag=cached,security_model=none,readonly=on,multidevs=remap"
        options = [share] if self.kvm else [share, "-cpu Nehalem"]
        for name, socket in ports.items():
            options += [f"-chardev socket,id={name},path={socket}", "-device virtio-serial-pci"]
            options += [f"-device virtserialport,name={name},chardev={name}"]
        argv = ["vng", "--run", str(self.kernel), "--busybox", str(self.busybox), "--force-9p", "--disable-microvm"]
        # Two emulated processors got stuck for good, both in the breakpoint by which the kernel patches a static branch
        # (netfilter's hooks have one: it changes when the first rule of a kind comes and when the last one goes).
        processors = self.processors if self.kvm else 1
        argv += ["--user", "root", "--memory", self.memory, "--cpus", str(processors), "--verbose"]
        argv += ["--append", "mitigations=off", *(f"--rwdir={folder}" for folder in shared)]
        argv += [f"--qemu-opts={each}" for each in options]
        return [*argv, *([] if self.kvm else ["--disable-kvm"]), "--", inside]


def ended(exchange: Path) -> Ended:
    """What came of a machine that has ended. Raises MachineFailed when its script did not come to an end."""
    status, printed, said = (_read(exchange / name) for name in (STATUS, OUTPUT, CONSOLE))
    if not status.strip():
        raise MachineFailed(f"the virtual machine ended early:\n{_tail(said)}\n{_tail(printed)}")
    return Ended(int(status), printed, said)


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _tail(text: str, lines: int = 25) -> str:
    return "\n".join(text.splitlines()[-lines:])


def snapshot(target: Path, folders: Iterable[str]) -> Path:
    """Copy these of the checkout to ``target``, Python compiled: compiling takes long where all is emulated."""
    for name in folders:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(target)], check=True, timeout=120)
    return target


if __name__ == "__main__":
    print(missing_here())
