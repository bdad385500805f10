"""The pytest plugin: fixtures with which people test a CNI plugin, proxy or application of their own.

    @pytest.mark.cluster(nodes=3, fabric="vxlan", cni="cni_scripts/my-plugin.conflist")
    def test_pods_reach_each_other(probe):
        assert probe.reachability().holds

`cluster` is a running cluster: that of the test's (class's, module's) marker ``cluster``, else of the module's CLUSTER
(a cluster file, or a mapping), else the default one. Tests of a module that ask for the same share it. `probe`
measures it, and `lab` is a lab without a cluster. All of them end with the test process, however that ends. Loaded by
every pytest run where Mininetes is installed, so that the engine is only imported when a fixture is used.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mininetes.testing.cluster import Cluster
    from mininetes.testing.keeping import Clusters
    from mininetes.testing.probing import Probe
    from mininetes.testing.sandbox import Sandbox

_numbers = itertools.count(1)
_sections: pytest.StashKey[list[Callable[[bool], tuple[str, str]]]] = pytest.StashKey()
"""Of a test: what its report shows when it fails; called with whether --mininetes-debug was given."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and the setting of the ini file."""
    group = parser.getgroup("mininetes", "emulated clusters")
    group.addoption("--mininetes-parts", action="append", default=[], metavar="DIR",
                    help="look for cluster files, CNI plugins, fabrics, ... in DIR first")  # fmt: skip
    group.addoption("--mininetes-debug", action="store_true",
                    help="show tracebacks of errors, and of a failed test's cluster the log and drift")  # fmt: skip
    parser.addini("mininetes_parts", "folders to look for parts in, relative to this file", type="paths", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "cluster(FILE, nodes=3, pods=4, fabric=..., cni=..., proxy=..., parts=DIR, settings={FIELD: VALUE}, "
        "fresh=False, ...): the cluster that the fixture 'cluster' brings up; other keywords are fields of its spec",
    )


@pytest.fixture(scope="module")
def lab() -> Iterator[Sandbox]:
    """A lab without a cluster: namespaces of its own, in which commands run as root; gone after the module's tests."""
    from mininetes.testing.sandbox import sandbox  # noqa: PLC0415 - the engine, only when it is used

    with contextlib.ExitStack() as undo:
        yield _made(lambda: undo.enter_context(sandbox(f"pytest-{os.getpid()}-{next(_numbers)}")), debug=False)


@pytest.fixture(scope="module")
def mininetes_clusters() -> Iterator[Clusters]:
    """The clusters of a module's tests, which `cluster` hands out."""
    from mininetes.testing.keeping import Clusters  # noqa: PLC0415 - as above

    clusters = Clusters()
    try:
        yield clusters
    finally:
        clusters.close()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, mininetes_clusters: Clusters) -> Iterator[Cluster]:
    """A running cluster, as the marker ``cluster`` or the module's CLUSTER has it. What a test cut is healed."""
    from mininetes.testing.keeping import running  # noqa: PLC0415 - as above

    debug = bool(request.config.getoption("--mininetes-debug"))
    with contextlib.ExitStack() as undo:

        def bring_up() -> Cluster:
            wanted = _wanted(request)
            return undo.enter_context(running(wanted)) if wanted.fresh else mininetes_clusters.get(wanted)

        up = _made(bring_up, debug=debug)
        _show(request, lambda more: (f"cluster {up.name}", up.account() if more else ""))
        try:
            yield up
        finally:
            up.heal()


@pytest.fixture
def probe(request: pytest.FixtureRequest, cluster: Cluster) -> Probe:
    """Measurements of the test's cluster; those that do not hold are in a failed test's report."""
    from mininetes.testing.probing import Probe  # noqa: PLC0415 - as above

    made = Probe(cluster)
    _show(request, lambda _: ("probe", "\n".join(each.message for each in made.answers if not each.holds)))
    return made


def _wanted(request: pytest.FixtureRequest) -> Any:
    """What the test asks for. Raises BadInput."""
    from mininetes.testing.wanted import Wanted, asked_of  # noqa: PLC0415 - as above

    config = request.config
    marker = request.node.get_closest_marker("cluster")
    keywords, positional = (marker.kwargs, marker.args) if marker is not None else (None, ())
    asked = asked_of(keywords, positional, getattr(request.module, "CLUSTER", None))
    given = [config.invocation_params.dir / each for each in config.getoption("--mininetes-parts")]
    folders = (*given, *(Path(each) for each in config.getini("mininetes_parts")))
    return Wanted(asked, request.path.parent, config.rootpath, folders)


def _made(make: Callable[[], Any], *, debug: bool) -> Any:
    """What ``make`` makes; an error of ours ends the test with its sentence alone, unless tracebacks are wanted."""
    from mininetes.errors import MininetesError  # noqa: PLC0415 - as above

    try:
        return make()
    except MininetesError as failed:
        if debug:
            raise
        text = f"mininetes: {failed}"
    pytest.fail(text, pytrace=False)


def _show(request: pytest.FixtureRequest, section: Callable[[bool], tuple[str, str]]) -> None:
    request.node.stash.setdefault(_sections, []).append(section)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add to a failed test's report what its probes saw."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        debug = bool(item.config.getoption("--mininetes-debug"))
        shown = [section(debug) for section in item.stash.get(_sections, [])]
        report.sections += [(f"mininetes: {title}", text) for title, text in shown if text]
