"""What this machine can do, found out by trying it: the checks behind `mininetes doctor`.

Each trial runs in a throw-away sandbox of namespaces of its own (with a user namespace when not
root), so nothing of it is left, and nothing of the host is changed. A trial may make the kernel
load a module, as using the feature would.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mininetes.errors import MissingFeature
from mininetes.kernel.feature_table import FEATURES, OTHER_PROGRAMS, PROGRAMS, Feature, Program
from mininetes.kernel.processes import Completed, ProcessFailed, run

SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian keeps nft, iptables, bridge and others; an ordinary user's PATH often lacks them."""

_TRIAL_TIMEOUT_S = 60.0
_SANDBOX = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
_AS_USER = ("--user", "--map-root-user")
_DROP_ROOT = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
# A /run of the trial's own, as a node has it (iptables-legacy locks a file there).
_PREAMBLE = "set -e\nmount -t tmpfs trial /run\n"
_REFUSED = ("Operation not permitted", "Permission denied")
_WITH_SUDO = "run it with sudo"

Kind = Literal["program", "feature", "information"]


@dataclass(frozen=True)
class FeatureVerdict:
    """What was found about one feature; `dataclasses.asdict` makes it JSON.

    ``verdict`` is `here`, `not here`, `needs root` or `needs a module (NAME)`; ``required`` says
    whether the main job needs it; ``detail`` is what the trial said (or, for information, the value).
    """

    name: str
    kind: Kind
    verdict: str
    required: bool
    needed_for: str
    remedy: str
    detail: str = ""

    @property
    def here(self) -> bool:
        """Whether the feature can be used."""
        return self.verdict == "here"


def complete_path() -> None:
    """Add the system directories that PATH lacks, for this process and what it starts. May be called twice."""
    present = [d for d in os.environ.get("PATH", "").split(os.pathsep) if d]
    os.environ["PATH"] = os.pathsep.join([*present, *(d for d in SYSTEM_DIRECTORIES if d not in present)])


def is_real_root() -> bool:
    """Tell whether this process is root of the machine, not only of a user namespace."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def check_all() -> list[FeatureVerdict]:
    """Try every feature and look for every program. Takes about half a second. Raises nothing."""
    return [*_verdicts(PROGRAMS, FEATURES), *_information()]


def require(names: Iterable[str]) -> None:
    """Check these features and programs, and only these; a name that both have means both.

    Raises MissingFeature, which names all that are not here in one line; KeyError when there is
    no such feature in the table.
    """
    wanted = set(names)
    programs = [program for program in PROGRAMS if program.name in wanted]
    features = [feature for feature in FEATURES if feature.name in wanted]
    unknown = wanted.difference((p.name for p in programs), (f.name for f in features))
    if unknown:
        raise KeyError(", ".join(sorted(unknown)))
    missing = [verdict for verdict in _verdicts(programs, features) if not verdict.here]
    if missing:
        raise MissingFeature(
            ", ".join(v.name if v.verdict == "not here" else f"{v.name} ({v.verdict})" for v in missing),
            ", ".join(dict.fromkeys(v.needed_for for v in missing)),
            "; ".join(dict.fromkeys(v.remedy for v in missing)),
        )


def _verdicts(programs: Sequence[Program], features: Sequence[Feature]) -> list[FeatureVerdict]:
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="features") as workers:
        tried = workers.map(_try_feature, features)
        return [*(_look_for(program) for program in programs), *tried]


# Programs


def _look_for(program: Program) -> FeatureVerdict:
    missing = _missing_program(program.name)
    return FeatureVerdict(
        name=program.name,
        kind="program",
        verdict="not here" if missing else "here",
        required=program.required,
        needed_for=program.needed_for,
        remedy=missing,
        detail=shutil.which(program.name) or "",
    )


def _missing_program(name: str) -> str:
    """Say in a few words what to do about a program that is not found; nothing when it is there."""
    if shutil.which(name):
        return ""
    for directory in SYSTEM_DIRECTORIES:
        if os.access(os.path.join(directory, name), os.X_OK):
            return f"add {directory} to PATH"
    packages = {**OTHER_PROGRAMS, **{program.name: program.package for program in PROGRAMS}}
    return f"install the package {packages[name]}"


# Kernel features


def _try_feature(feature: Feature) -> FeatureVerdict:
    verdict, remedy, detail = _judge(feature)
    return FeatureVerdict(feature.name, "feature", verdict, _is_required(feature), feature.needed_for, remedy, detail)


def _is_required(feature: Feature) -> bool:
    return feature.required or (feature.required_without_root and os.geteuid() != 0)


def _judge(feature: Feature) -> tuple[str, str, str]:
    """Return the verdict, the remedy that fits it, and what the trial said."""
    for program in ("unshare", *feature.programs):
        missing = _missing_program(program)
        if missing:
            return "not here", missing, f"program {program} is not in PATH"
    if feature.root_only and not is_real_root():
        return "needs root", _WITH_SUDO, "the kernel takes this from the machine's root only"
    try:
        tried = run(_argv(feature), timeout_s=_TRIAL_TIMEOUT_S, check=False, env=_environment())
    except (ProcessFailed, OSError) as failed:
        return "not here", feature.remedy, str(failed).splitlines()[0]
    return ("here", "", "") if tried.status == 0 else _why_not(feature, _error_line(tried))


def _why_not(feature: Feature, said: str) -> tuple[str, str, str]:
    module = _loadable(feature.modules)
    if module:
        return f"needs a module ({module})", f"modprobe {module}, as root", said
    refused = any(words in said for words in _REFUSED)
    if refused and not is_real_root() and not feature.as_ordinary_user:
        return "needs root", _WITH_SUDO, said
    return "not here", feature.remedy, said


def _argv(feature: Feature) -> list[str]:
    if not feature.sandboxed:
        return ["/bin/sh", "-c", feature.trial]
    unshare, *rest = [*_SANDBOX, "--", "/bin/sh", "-c", _PREAMBLE + feature.trial]
    if feature.as_ordinary_user and is_real_root():
        return [*_DROP_ROOT, unshare, *_AS_USER, *rest]
    if feature.as_ordinary_user or os.geteuid() != 0:
        return [unshare, *_AS_USER, *rest]
    return [unshare, *rest]


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "PYTHON": sys.executable}


def _error_line(tried: Completed) -> str:
    lines = (tried.stderr.strip() or tried.stdout.strip()).splitlines()
    if not lines:
        return f"the trial ended with status {tried.status}"
    return next((line for line in reversed(lines) if "rror" in line), lines[0])[:200]


def _loadable(modules: Sequence[str]) -> str:
    """Return the first of these modules that lies on disk for the running kernel and is not loaded yet."""
    try:
        index = Path("/lib/modules", os.uname().release, "modules.dep").read_text().splitlines()
        loaded = {line.split()[0] for line in Path("/proc/modules").read_text().splitlines()}
    except OSError:
        return ""  # a kernel without loadable modules, or none installed for it
    on_disk = {Path(line.split(":")[0]).name.split(".")[0].replace("-", "_") for line in index}
    return next((name for name in modules if name in on_disk and name not in loaded), "")


# Information


def _information() -> list[FeatureVerdict]:
    """Values that decide how far things scale; nothing of it fails."""
    values = {
        "neighbour table, all namespaces together (gc_thresh3)": (
            "/proc/sys/net/ipv4/neigh/default/gc_thresh3",
            "matrices over many pods (permanent entries do not count)",
        ),
        "user namespaces, at most": ("/proc/sys/user/max_user_namespaces", "labs without root"),
        "network namespaces, at most": ("/proc/sys/user/max_net_namespaces", "one for each pod and node"),
        "processes and threads, at most": ("/proc/sys/kernel/threads-max", "pods held by a pause process"),
    }
    return [
        FeatureVerdict(name, "information", "here" if value else "not here", False, needed_for, "", value)
        for name, (path, needed_for) in values.items()
        for value in [_read(path)]
    ]


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""
