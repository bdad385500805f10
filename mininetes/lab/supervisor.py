"""The process that a lab of ``mininetes up`` leaves behind: holds its lock and its lifeline, and nothing else.

Started as ``python -m mininetes.lab.supervisor FD``; FD is a socket to the command, whose first
message says what to start. Until the command says "keep", its end is the lab's end too. SIGTERM
ends the lab in an orderly way; the supervisor's own death ends it as well, by the kernel's hand.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys

from mininetes.errors import MininetesError
from mininetes.lab import state
from mininetes.lab.init import MESSAGE_BYTES
from mininetes.lab.launcher import Lab


def main() -> None:
    """Start the lab, stay with it to its end, and remove its state folder."""
    command = socket.socket(fileno=int(sys.argv[1]))
    command.set_inheritable(False)
    start = json.loads(command.recv(MESSAGE_BYTES))
    fds = start["fds"]
    for fd in fds.values():
        os.set_inheritable(fd, False)
    lab_state = state.LabState(start["name"], state.base() / start["name"])
    held = state.Held(lab_state, fds["lock"])
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    given = {name: fd for name, fd in fds.items() if name not in ("lock", "keep")}
    try:
        lab = Lab.start(start["name"], start["entry"], start["config"], fds=given, stdout=1, stderr=2)
    except MininetesError as failed:
        event = {"error": str(failed), "status": failed.exit_status}
        os.write(fds["report"], json.dumps(event).encode() + b"\n")
        held.release()
        sys.exit(failed.exit_status)
    for fd in given.values():
        os.close(fd)
    lab_state.describe(pid=lab.pid, supervisor=os.getpid())
    stay(lab, command, woken)
    lab.end()
    held.release()


def stay(lab: Lab, command: socket.socket, woken: socket.socket) -> None:
    """Return when the lab has ended, a signal came, or the command went without saying "keep"."""
    watched: list[socket.socket | Lab] = [lab, command, woken]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if lab in ready or woken in ready:
            return
        if command.recv(64) != b"keep":
            return
        watched.remove(command)


if __name__ == "__main__":
    main()
