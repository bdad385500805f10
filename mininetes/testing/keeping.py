"""The clusters of one test module: brought up when a test asks, and shared by those that ask for the same."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from mininetes.errors import MininetesError
from mininetes.kernel.features import complete_path
from mininetes.lab.supervising import Supervised
from mininetes.testbed import preflight
from mininetes.testing.cluster import Cluster
from mininetes.testing.wanted import Wanted

_ENTRY = "mininetes.testbed.engine:serve"


@contextlib.contextmanager
def running(wanted: Wanted) -> Iterator[Cluster]:
    """Bring a cluster up as `mininetes up` does, for the block; it ends with this process, too, however that ends.

    Raises BadInput, MissingFeature that names what this machine lacks, MininetesError when it does not come up.
    """
    complete_path()
    with wanted.with_parts():
        blueprint = preflight.checked(wanted.spec())
        spec = blueprint.spec
        preflight.require_agents_features(spec)
        config = preflight.engine_config(spec, files=dict(blueprint.files))
    with Supervised(spec.name, _ENTRY, config, api_port=0 if spec.masters else None) as supervised:
        with _signals_as_they_are():
            supervised.start(stdout=supervised.log, stderr=supervised.log)
        if not any("ready" in event for event in supervised.events()):
            raise MininetesError(f"the lab ended before it was ready{supervised.last_words()}")
        yield Cluster(supervised.held.state)


@contextlib.contextmanager
def _signals_as_they_are() -> Iterator[None]:
    """What signals do is pytest's affair: put back what starting a lab sets. Without effect in another thread."""
    kept: dict[signal.Signals, Any] = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            for each, handler in kept.items():
                signal.signal(each, handler)


class Clusters:
    """Those of one module. `close` ends them all."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self._shared: dict[str, Cluster] = {}

    def get(self, wanted: Wanted) -> Cluster:
        """The cluster that was asked for: one that is up, else a new one. Raises what `running` raises."""
        found = self._shared.get(wanted.key)
        if found is None or not found.lab.is_up() or not _answers(found):
            found = self._shared[wanted.key] = self._undo.enter_context(running(wanted))
        return found

    def close(self) -> None:
        """End them."""
        self._shared.clear()
        self._undo.close()


def _answers(cluster: Cluster) -> bool:
    """Whether its engine lives: a test may have ended it."""
    try:
        cluster.status()
    except MininetesError:
        return False
    return True
