"""The pytest plugin from outside: the guide's example, right and with a broken CNI plugin, and runs that end badly."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ordinary_user import ordinary_user
from running_lab import REPOSITORY, Done, environment, run
from waiting import wait_until

from mininetes.lab import state

EXAMPLE = REPOSITORY / "docs" / "examples" / "test_my_plugin"
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
ALONE = 'cluster(nodes=2, pods=1, controlPlane={"store": "none"})'


def try_pytest(folder: Path, *options: str, text: str = "") -> Done:
    """Run pytest in a folder, on a test file with this text or on what is there."""
    if text:
        (folder / "test_it.py").write_text(text)
    return run([*PYTEST, f"--rootdir={folder}", *options], cwd=folder, timeout_s=300)


def test_the_example_passes(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    done = try_pytest(tmp_path / "mine")
    assert done.status == 0, done
    assert "5 passed" in done.stdout


def test_the_example_finds_a_plugin_that_is_broken(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    plugin = tmp_path / "mine" / "cni_scripts" / "my-plugin"
    text = plugin.read_text()
    plugin.write_text("".join(line for line in text.splitlines(keepends=True) if "proxy_arp" not in line))
    assert plugin.read_text() != text
    done = try_pytest(tmp_path / "mine", "-k", "reaches")
    assert done.status == 1, done
    assert "mininetes: probe" in done.stdout
    assert "72 pairs: 6 reached" in done.stdout
    assert "node1 -> pod/node1-1 (10.244.1.2 icmp): expected an answer (same node), saw no answer" in done.stdout
    assert "from \\ to" in done.stdout


def test_what_cannot_be_had_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pytest\n"
        "from mininetes.errors import MissingFeature\n"
        "from mininetes.testbed import preflight\n"
        "def refuse(spec): raise MissingFeature('vxlan', 'fabric vxlan', 'another kernel')\n"
        "@pytest.fixture(autouse=True)\n"
        "def no_vxlan(monkeypatch):\n"
        "    monkeypatch.setattr(preflight, 'require_agents_features', refuse)\n"
    )
    text = (
        "import pytest\n"
        "@pytest.mark.cluster(fabric='vxlan')\ndef test_missing(cluster): pass\n"
        "@pytest.mark.cluster(fabrik='vxlan')\ndef test_misspelt(cluster): pass\n"
        "@pytest.mark.cluster('none.yaml')\ndef test_no_file(probe): pass\n"
        "@pytest.mark.cluster(parts='nowhere')\ndef test_no_folder(probe): pass\n"
    )
    done = try_pytest(tmp_path, text=text)
    assert done.status == 1, done
    assert "4 errors" in done.stdout
    assert "skipped" not in done.stdout
    assert "mininetes: vxlan is missing (needed for fabric vxlan): another kernel\n" in done.stdout
    assert "mininetes: spec.fabrik: unknown key; did you mean 'fabric'?\n" in done.stdout
    assert "'none.yaml' is not valid: a file that exists, or one of:" in done.stdout
    assert "nowhere' is not valid: a folder" in done.stdout
    assert "Traceback" not in done.stdout
    assert "asked_of" not in done.stdout
    debugged = try_pytest(tmp_path, "--mininetes-debug", "-k", "missing")
    assert "raise MissingFeature" in debugged.stdout


def test_parts_are_found_beside_the_tests_and_where_the_option_says(tmp_path: Path) -> None:
    for number, place in enumerate(("beside", "given"), start=2):
        (tmp_path / place / "topologies" / "clusters").mkdir(parents=True)
        (tmp_path / place / "topologies" / "clusters" / f"{place}.yaml").write_text(
            f"apiVersion: mininetes/v1\nkind: Cluster\nmetadata: {{name: {place}}}\n"
            f"spec: {{nodes: {{controlPlane: 1, workers: {number - 1}}}, "
            "controlPlane: {store: none}, pods: {perNode: 0}}\n"
        )
    (tmp_path / "file.yaml").write_text(
        "apiVersion: mininetes/v1\nkind: Cluster\n"
        "spec: {nodes: {controlPlane: 1, workers: 0}, controlPlane: {store: none}, pods: {perNode: 1}}\n"
    )
    text = (
        "import pytest\n"
        "CLUSTER = 'file.yaml'\n"
        "@pytest.mark.cluster('beside', parts='beside')\ndef test_beside(cluster): assert len(cluster.nodes) == 2\n"
        "@pytest.mark.cluster('given')\ndef test_given(cluster): assert len(cluster.nodes) == 3\n"
        "def test_module(cluster): assert cluster.pods == ['node1-1']\n"
    )
    done = try_pytest(tmp_path, "--mininetes-parts", "given", text=text)
    assert done.status == 0, done


def test_two_workers_have_clusters_of_their_own(tmp_path: Path) -> None:
    text = (
        f"import pytest, time\npytestmark = pytest.mark.{ALONE}\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_both(cluster, number, tmp_path_factory):\n"
        "    place = tmp_path_factory.getbasetemp().parent\n"
        "    (place / f'{number}.name').write_text(cluster.name)\n"
        "    other = place / f'{3 - number}.name'\n"
        "    assert cluster.wait_for(lambda: other.exists() and other.read_text()) != cluster.name\n"
    )
    done = try_pytest(tmp_path, "-n", "2", "--basetemp", str(tmp_path / "base"), text=text)
    assert done.status == 0, done


def test_an_ordinary_user_can_do_it() -> None:
    with ordinary_user() as user:
        argv = [
            *user.prefix,
            "env",
            f"HOME={user.home}",
            f"XDG_RUNTIME_DIR={user.runtime}",
            f"PYTHONPATH={user.checkout}",
        ]
        text = (
            f"import pytest\n@pytest.mark.{ALONE}\ndef test_it(probe, lab):\n"
            "    assert probe.reachability().holds\n    lab.netns('web')\n"
        )
        test = user.home / "test_it.py"
        test.write_text(text)
        test.chmod(0o644)
        user.home.chmod(0o755)
        python = Path(sys.executable)
        if python.is_relative_to(REPOSITORY):
            python = user.checkout / python.relative_to(REPOSITORY)
        done = run([*argv, str(python), *PYTEST[1:], f"--rootdir={user.home}", str(test)], timeout_s=120)
        assert done.status == 0, done


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lab_ends_with_the_test_process(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "test_it.py").write_text(
        f"import pytest, time\nfrom pathlib import Path\n@pytest.mark.{ALONE}\ndef test_long(cluster, lab):\n"
        "    Path('names').write_text(f'{cluster.name} {lab.pid}')\n    Path('names').rename('up')\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [*PYTEST, f"--rootdir={tmp_path}"], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL
    )
    try:
        up = tmp_path / "up"
        wait_until(lambda: up.exists() or process.poll() is not None, "the clusters are up", within_s=60)
        name, sandbox_pid = up.read_text().split()
        lab = state.LabState(name, state.base() / name)
        pids = [int(lab.facts()["pid"]), int(sandbox_pid)]
        assert lab.is_up()
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    finally:
        os.kill(process.pid, number)
        process.wait(30)
    wait_until(lambda: not lab.is_up(), "the lab's lock is free")
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its processes are gone")
    assert name not in {each.name for each in state.labs()}  # and takes away the folder, as any command does


def test_a_failed_test_shows_the_log_when_asked(tmp_path: Path) -> None:
    text = f"import pytest\n@pytest.mark.{ALONE}\ndef test_it(cluster):\n    assert not cluster.nodes\n"
    done = try_pytest(tmp_path, "--mininetes-debug", text=text)
    assert done.status == 1, done
    assert "mininetes: cluster pytest-" in done.stdout
    assert "no drift" in done.stdout


def test_a_run_that_does_not_use_it_loads_no_engine(tmp_path: Path) -> None:
    text = (
        "import sys\n"
        "def test_it():\n"
        "    ours = ('mininetes', 'mininet', 'aiohttp', 'pydantic')\n"
        "    loaded = {name for name in sys.modules if name.split('.')[0] in ours}\n"
        "    assert loaded == {'mininetes', 'mininetes.testing', 'mininetes.testing.plugin'}\n"
    )
    done = try_pytest(tmp_path, text=text)
    assert done.status == 0, done
