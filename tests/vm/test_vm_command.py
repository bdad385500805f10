"""`make vm`: a command's output, errors and exit status come back from the machine, which is a stand-in but once."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
import uuid
from pathlib import Path

import pytest

from scripts import vm, vm_machine
from scripts.vm_machine import Machine, MachineFailed

ROOT = Path(__file__).resolve().parents[2]
# A `vng` that connects to the serial ports it is told of, says this, and notes this exit status.
STAND_IN = """#!{python}
import pathlib, re, socket, sys
ports = dict(re.findall(r"socket,id=(\\w+),path=(\\S+)", " ".join(sys.argv)))
connections = {{name: socket.socket(socket.AF_UNIX) for name in ports}}
for name, path in ports.items():
    connections[name].connect(path)
connections["line"].sendall({out!r})
connections["errors"].sendall({err!r})
if {asks!r}:
    connections["line"].sendall(b"typed " + repr(connections["line"].recv(1)).encode())
print({console!r}, flush=True)
pathlib.Path(ports["line"]).with_name("status").write_text({status!r})
"""


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, **says: object) -> Machine:
    said = {"out": b"", "err": b"", "console": "booted", "status": "0\n", "asks": False, **says}
    program = folder / "vng"
    program.write_text(STAND_IN.format(python=sys.executable, **said))
    program.chmod(0o755)
    monkeypatch.setattr(vm_machine, "SEARCHED", (str(folder), *vm_machine.SEARCHED))
    monkeypatch.setattr(vm, "RESULTS", ROOT / "results")
    return Machine(folder / "vmlinuz-6.1.0-1-amd64", folder / "busybox", kvm=False)


def test_words_errors_and_status_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = stand_in(tmp_path, monkeypatch, out=b"x" * 300_000 + b"\n", err=b"wrong\n", status="2\n")
    assert vm.run(machine, ["doctor"]) == 2
    out, err = capfd.readouterr()
    assert (out, err) == ("x" * 300_000 + "\n", "wrong\n")


def test_a_machine_that_breaks_shows_its_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = stand_in(tmp_path, monkeypatch, console="Kernel panic", status="")
    with pytest.raises(MachineFailed, match="ended early:\nKernel panic"):
        vm.run(machine, ["doctor"])


def test_without_a_machine_the_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vm_machine, "HOME", tmp_path)
    assert vm.main(["doctor"]) == 3
    assert capsys.readouterr().err == "vm: no virtual machine (no kernel): make setup-tests gets it\n"


ATTEND = """
import pathlib, sys
from scripts import vm, vm_machine
folder = pathlib.Path(sys.argv[1])
vm_machine.SEARCHED = (str(folder), *vm_machine.SEARCHED)
sys.exit(vm.run(vm_machine.Machine(folder / "vmlinuz", folder / "busybox", kvm=False), ["shell", "node1"]))
"""


def test_on_a_terminal_what_is_typed_reaches_the_machine_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, out=b"ready\n", asks=True, status="5\n")
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with subprocess.Popen(
        [sys.executable, "-c", ATTEND, str(tmp_path)], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        said = read_until(ours, b"ready")
        deadline = time.monotonic() + 20
        while termios.tcgetattr(theirs)[3] & termios.ECHO:
            assert time.monotonic() < deadline, "the terminal was not given to the machine"
            time.sleep(0.02)
        os.write(ours, b"\x03")
        said += read_until(ours, b"typed b'\\x03'")
        assert process.wait(20) == 5, said
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def read_until(descriptor: int, words: bytes) -> bytes:
    said = b""
    while words not in said:
        ready, _, _ = select.select([descriptor], [], [], 20)
        assert ready, said
        said += os.read(descriptor, 4096)
    return said


@pytest.mark.parametrize(("kvm", "said"), [(True, "with KVM;"), (False, "emulated, as KVM does not work here:")])
def test_it_says_which_machine_it_is(kvm: bool, said: str) -> None:
    line = vm.describe(Machine(Path("/boot/vmlinuz-6.1.0-1-amd64"), Path("/busybox"), kvm))
    assert line.startswith(f"vm: Linux 6.1.0-1-amd64, {said}")


def run_inside(folder: Path, command: str) -> tuple[int, str, str]:
    """Run what the machine would of a command in pipes, with files for its ports; status, output and errors."""
    script = 'port() { echo "$1"; }\n' + vm._IN_PIPES.format(command=command)
    status = subprocess.run(["bash", "-c", script], cwd=folder, check=False, timeout=60).returncode
    return status, (folder / "line").read_text(), (folder / "errors").read_text()


def test_inside_output_and_errors_stay_apart_and_the_status_is_kept(tmp_path: Path) -> None:
    assert run_inside(tmp_path, "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")


def test_inside_there_is_no_input_to_wait_for(tmp_path: Path) -> None:
    assert run_inside(tmp_path, "cat; echo end") == (0, "end\n", "")


def test_a_lab_that_is_up_is_followed_by_a_shell_on_a_terminal_only() -> None:
    size = os.terminal_size((100, 40))
    assert "bash --norc -i" in vm.script_of(["up", "--proxy", "ipvs"], size)
    assert "stty sane rows 40 cols 100" in vm.script_of(["up"], size)
    assert "bash --norc -i" in vm.script_of([], size)
    for argv, terminal in ((["doctor"], size), (["up", "--dry-run"], size), (["up"], None)):
        assert "bash --norc -i" not in vm.script_of(argv, terminal)


def test_arguments_reach_the_command_as_they_are() -> None:
    assert "{ mininetes exec node1 -- echo 'a  $b'; }" in vm.script_of(["exec", "node1", "--", "echo", "a  $b"], None)


def test_a_command_in_a_real_machine_leaves_its_results_here() -> None:
    """Where the running kernel has everything, set-up prepared no machine, and that is what is said."""
    folder = ROOT / "results" / f"vm-{uuid.uuid4().hex[:8]}"
    argv = [sys.executable, "-m", "scripts.vm", "graph", "--out", f"{folder}.svg"]
    done = subprocess.run(
        argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
    )
    if not vm_machine.missing_here() and done.returncode == 3:
        assert "make setup-tests gets it" in done.stderr
        return
    assert done.returncode == 0, done
    folder.with_suffix(".svg").unlink()
