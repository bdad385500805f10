"""A `mininetes` command in a throw-away virtual machine whose kernel has everything: make vm ARGS="...".

    make vm ARGS="doctor"
    make vm ARGS="run fairness --set mode=ipvs --out results/vm"
    make vm ARGS="up --proxy ipvs"        on a terminal a shell follows, in which the lab is up
    make vm                               a shell

The machine sees this machine's files, read-only, but for /tmp and /run, which are its own; what is written to
results/ of the checkout is written here, everything else is forgotten. The command's exit status is passed on:
3 when there is no machine, 1 when it broke. Ctrl-C while it boots ends it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import tty
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from scripts.vm_machine import ROOT, VENV, Machine, MachineFailed, ended

RESULTS = ROOT / "results"
COMPILED = ("mininetes", "experiments", "topologies")
"""What is compiled before the machine starts, which could not write what it compiles, and is slow without KVM."""

_SCRIPT = """\
export HOME=/root LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PATH={path}:$PATH TERM={term}
unset MININETES_LAB
port() {{
    for each in /sys/class/virtio-ports/*; do
        [[ $(<"$each/name") != "$1" ]] || echo "/dev/${{each##*/}}"
    done
}}
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
"""
_ON_TERMINAL = """\
exec 3<>"$(port line)"
script --quiet --return --command {command} /dev/null <&3 >&3 2>&3
"""
_IN_PIPES = """\
exec 3>"$(port line)" 4>"$(port errors)"
{{
    {{ {command}; }} 2>&1 >&5 </dev/null 3>&- 4>&- 5>&- | cat >&4 5>&-
    exit "${{PIPESTATUS[0]}}"
}} 5>&1 | cat >&3
exit "${{PIPESTATUS[0]}}"
"""
_SHELL = "echo 'A shell in the virtual machine; exit ends both.'; exec env PS1='vm:\\w# ' bash --norc -i"


class Line:
    """A serial port of the machine on this side: what comes from there goes to ``target``, a descriptor."""

    def __init__(self, path: Path, target: int) -> None:
        self.path = path
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._connection: socket.socket | None = None
        self._began = threading.Event()
        self._copier = threading.Thread(target=self._copy, daemon=True)
        self._copier.start()

    def _copy(self) -> None:
        self._connection, _ = self._listener.accept()
        while said := self._connection.recv(65536):
            self._began.set()
            while said:
                said = said[os.write(self._target, said) :]

    def began(self, timeout_s: float) -> bool:
        """Wait for the first byte."""
        return self._began.wait(timeout_s)

    def send(self, text: bytes) -> None:
        """Give the machine what was typed. Call it after the first byte has come."""
        if self._connection is not None:
            self._connection.sendall(text)

    def finish(self) -> None:
        """Wait until all that the machine said, which has ended, is passed on. May be called twice."""
        if self._connection is not None:
            self._copier.join()
        self._listener.close()


def script_of(argv: Sequence[str], terminal: os.terminal_size | None) -> str:
    """The bash script that runs ``mininetes ARGV`` inside, without ``argv`` a shell."""
    command = shlex.join(["mininetes", *argv])
    settings = {"path": shlex.quote(str(VENV / "bin")), "term": shlex.quote(os.environ.get("TERM", "dumb"))}
    start = _SCRIPT.format(**settings)
    if terminal is None:
        return start + _IN_PIPES.format(command=command)
    stays = "up" in argv and not {"--help", "-h", "--dry-run"} & set(argv)
    follows = f" && {{ {_SHELL}; }}" if stays else ""
    inner = f"stty sane rows {terminal.lines} cols {terminal.columns}; " + (command + follows if argv else _SHELL)
    return start + _ON_TERMINAL.format(command=shlex.quote(f"bash -c {shlex.quote(inner)}"))


def describe(machine: Machine) -> str:
    """Say which machine it is, in one line."""
    how = "with KVM" if machine.kvm else "emulated, as KVM does not work here: about twenty times slower"
    return f"vm: Linux {machine.release}, {how}; {RESULTS.relative_to(ROOT)}/ is shared with it, the rest is forgotten"


def _typing(line: Line) -> None:
    """Pass on what is typed, until the end of the input."""
    while typed := os.read(sys.stdin.fileno(), 4096):
        line.send(typed)


def _attend(process: subprocess.Popen[bytes], line: Line) -> None:
    """Be the machine's terminal from its first words to its end; until then Ctrl-C is ours."""
    while not line.began(0.2):
        if process.poll() is not None:
            return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        threading.Thread(target=_typing, args=(line,), daemon=True).start()
        process.wait()
        line.finish()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def run(machine: Machine, argv: Sequence[str]) -> int:
    """Run the command in the machine and return its exit status. Raises MachineFailed."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    with ExitStack() as stack:
        exchange = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mininetes-vm-")))
        line, errors = Line(exchange / "line", sys.stdout.fileno()), Line(exchange / "errors", sys.stderr.fileno())
        process = stack.enter_context(
            machine.running(
                script_of(argv, shutil.get_terminal_size() if on_terminal else None),
                exchange,
                shared=[RESULTS],
                ports={"line": line.path, "errors": errors.path},
            )
        )
        if on_terminal:
            _attend(process, line)
        process.wait()
        line.finish()
        errors.finish()
        return ended(exchange).status


def main(argv: Sequence[str]) -> int:
    """Run it; what there is to say about the machine goes to stderr."""
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _: sys.exit(128 + number))
    try:
        machine = Machine.found()
    except MachineFailed as absent:
        print(f"vm: {absent}", file=sys.stderr)
        return 3
    print(describe(machine), file=sys.stderr)
    RESULTS.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", *COMPILED], cwd=ROOT, check=False, timeout=300)
    try:
        return run(machine, argv)
    except MachineFailed as broke:
        print(f"vm: {broke}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
