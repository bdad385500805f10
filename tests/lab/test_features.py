"""The feature check agrees with direct trials, names what is missing, and leaves the machine as it is."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from mininetes.errors import MissingFeature
from mininetes.kernel import features
from mininetes.kernel.feature_table import FEATURES, OTHER_PROGRAMS, PROGRAMS

SANDBOX = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
ALL_VERDICTS_AS_JSON = """
import dataclasses, json
from mininetes.kernel import features
features.complete_path()
print(json.dumps([dataclasses.asdict(verdict) for verdict in features.check_all()]))
"""


@pytest.fixture(autouse=True)
def _system_directories_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"])
    features.complete_path()


@pytest.fixture(scope="module")
def verdicts() -> dict[str, features.FeatureVerdict]:
    features.complete_path()
    return {verdict.name: verdict for verdict in features.check_all()}


@pytest.fixture(scope="module")
def verdicts_of_nobody() -> dict[str, dict[str, object]]:
    """The verdicts that an ordinary user gets, from a copy of the engine that anyone may read."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        copy.chmod(0o755)
        shutil.copytree(Path(features.__file__).parents[1], copy / "mininetes")
        done = subprocess.run(
            [*AS_NOBODY, "/usr/bin/python3", "-c", ALL_VERDICTS_AS_JSON],
            cwd=copy,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return {verdict["name"]: verdict for verdict in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("veth", "ip link add t0 type veth peer name t1"),
        ("bridge", "ip link add t0 type bridge"),
        ("dummy", "ip link add t0 type dummy"),
        ("vxlan", "ip link add t0 type vxlan id 1 dstport 8472"),
        ("wireguard", "ip link add t0 type wireguard"),
        ("netem", "tc qdisc add dev lo root netem delay 1ms"),
        ("tbf", "tc qdisc add dev lo root tbf rate 1mbit burst 32kbit latency 50ms"),
        ("htb", "tc qdisc add dev lo root htb"),
        ("ipset", "ipset create a hash:ip"),
        ("br_netfilter", "cat /proc/sys/net/bridge/bridge-nf-call-iptables"),
        ("iptables nat, nft back end", "iptables-nft -t nat -A POSTROUTING -j MASQUERADE"),
        ("nftables", "nft add table ip a"),
    ],
)
def test_verdict_agrees_with_a_direct_trial(verdicts: dict[str, features.FeatureVerdict], name: str, argv: str) -> None:
    tried = subprocess.run([*SANDBOX, *argv.split()], capture_output=True, text=True, check=False)
    assert verdicts[name].here == (tried.returncode == 0), (verdicts[name], tried.stderr)


def test_the_main_job_can_run_here(verdicts: dict[str, features.FeatureVerdict]) -> None:
    assert [v for v in verdicts.values() if v.required and not v.here] == []


def test_every_verdict_is_one_of_four_and_says_what_to_do(verdicts: dict[str, features.FeatureVerdict]) -> None:
    for verdict in verdicts.values():
        assert verdict.verdict in ("here", "not here", "needs root") or verdict.verdict.startswith("needs a module (")
        assert verdict.needed_for
        assert verdict.here or verdict.kind == "information" or (verdict.remedy and "\n" not in verdict.remedy)


def test_the_doctor_is_quick() -> None:
    started = time.monotonic()
    features.check_all()
    assert time.monotonic() - started < 3.0  # 0.5 s where nothing else runs


def test_verdicts_are_json(verdicts: dict[str, features.FeatureVerdict]) -> None:
    assert json.loads(json.dumps([dataclasses.asdict(v) for v in verdicts.values()]))


def test_the_table_names_each_thing_once_and_knows_every_package() -> None:
    for table in (PROGRAMS, FEATURES):
        names = [entry.name for entry in table]
        assert len(names) == len(set(names))
    used = {program for feature in FEATURES for program in feature.programs}
    assert used - {program.name for program in PROGRAMS} - set(OTHER_PROGRAMS) == set()


def test_without_path_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(features, "SYSTEM_DIRECTORIES", ())
    with pytest.raises(MissingFeature) as caught:
        features.require(["nft", "veth"])
    assert caught.value.feature == "nft, veth"
    assert "install the package nftables" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 3
    assert not any(v.here for v in features.check_all() if v.kind == "feature")


def test_a_tool_outside_path_is_told_from_a_missing_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "nft").write_text("#!/bin/sh\n")
    (tmp_path / "sbin" / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(features, "SYSTEM_DIRECTORIES", (str(tmp_path / "sbin"),))
    with pytest.raises(MissingFeature, match=r"add .*/sbin to PATH"):
        features.require(["nft"])
    features.complete_path()
    features.complete_path()
    assert os.environ["PATH"] == f"{tmp_path}{os.pathsep}{tmp_path}/sbin"
    features.require(["nft"])


def test_require_is_silent_about_what_is_here_and_refuses_unknown_names() -> None:
    features.require(["ip", "veth", "bridge"])
    with pytest.raises(KeyError):
        features.require(["no such feature"])


@pytest.mark.parametrize("name", ["ip_vs", "tcpdump in the lab", "raising limits of conntrack and neighbours"])
def test_what_only_root_can_do_is_refused_by_name(verdicts_of_nobody: dict[str, dict[str, object]], name: str) -> None:
    assert verdicts_of_nobody[name]["verdict"] == "needs root"
    assert "sudo" in str(verdicts_of_nobody[name]["remedy"])


def test_an_ordinary_user_can_do_the_main_job(verdicts_of_nobody: dict[str, dict[str, object]]) -> None:
    not_here = [v for v in verdicts_of_nobody.values() if v["required"] and v["verdict"] != "here"]
    assert not_here == []
    assert verdicts_of_nobody["user namespaces"]["required"]


def test_a_module_on_disk_that_is_not_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        f"/lib/modules/{os.uname().release}/modules.dep": "kernel/net/sched/sch_netem.ko.xz:\nkernel/a-b.ko: x\n",
        "/proc/modules": "a_b 16384 0 - Live 0x0\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda self: files[str(self)])
    assert features._loadable(["a_b"]) == ""
    assert features._loadable(["a_b", "sch_netem"]) == "sch_netem"


def test_nothing_is_left_and_nothing_changes() -> None:
    def host() -> list[str]:
        commands = ["ip -o link", "ip -o addr", "ip route show table all", "findmnt -rno TARGET", "nft list ruleset"]
        said = [subprocess.run(c.split(), capture_output=True, text=True, check=False).stdout for c in commands]
        return [*said, Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3").read_text()]

    before = host()
    features.check_all()
    assert host() == before
