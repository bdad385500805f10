"""Which versions of the CNI specification plugins speak, and which of a configuration's all of its plugins do."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping

from mininetes.agents.cni.configuration import NetworkConfiguration
from mininetes.errors import MininetesError
from mininetes.kernel.processes import HERE, Namespaces, run

TIMEOUT_S = 20.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_File = tuple[int, int, int]
_known: dict[_File, tuple[str, ...]] = {}
_lock = threading.Lock()


def announced(path: str, *, executable: str = "", namespaces: Namespaces = HERE) -> tuple[str, ...]:
    """What the plugin at ``path`` says to VERSION; asked once for each state of its file.

    ``executable`` is where it is in ``namespaces``, if that is another place. Raises MininetesError when it says
    nothing of use, OSError when there is no such file.
    """
    stat = os.stat(path)
    file = (stat.st_dev, stat.st_ino, stat.st_mtime_ns)
    with _lock:
        known = _known.get(file)
    if known is not None:
        return known
    done = run(
        [executable or path],
        stdin='{"cniVersion": "1.0.0"}',
        env={"PATH": PATH, "CNI_COMMAND": "VERSION", "CNI_PATH": os.path.dirname(executable or path)},
        namespaces=namespaces,
        timeout_s=TIMEOUT_S,
        check=False,
    )
    try:
        versions = json.loads(done.stdout)["supportedVersions"]
        if done.status != 0 or not versions or not all(isinstance(each, str) for each in versions):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        said = (done.stderr.strip() or done.stdout.strip() or "nothing")[-200:]
        raise MininetesError(f"the plugin {path} does not answer VERSION, it says: {said}") from None
    with _lock:
        _known[file] = tuple(versions)
    return tuple(versions)


def speakers(configuration: NetworkConfiguration, ask: Callable[[str], tuple[str, ...]]) -> Mapping[str, set[str]]:
    """The versions that each of its plugins speaks. Raises what ``ask`` raises."""
    return {kind: set(ask(kind)) for kind in dict.fromkeys(configuration.types)}


def newest_common(configuration: NetworkConfiguration, spoken: Mapping[str, set[str]]) -> str | None:
    """The newest version of the configuration's that all its plugins speak; None when there is none."""
    for version in reversed(configuration.cni_versions):
        if all(version in versions for versions in spoken.values()):
            return version
    return None
