"""The network experiments, each run for real at its smallest: rows of every kind, figures, verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from running_lab import Done, mininetes, running

from mininetes.experiments import results
from mininetes.experiments.results import Row

SMALL = ("rounds=1", "stream_s=1", "messages_s=0.05")


def run(folder: Path, name: str, *settings: str) -> tuple[Done, dict[str, Any], list[Row]]:
    """Run an experiment once for each cell; what the command said, and the rows."""
    words = [word for setting in settings for word in ("--set", setting)]
    done = mininetes("run", name, *words, "--repetitions", "1", "--out", str(folder), "-o", "json", timeout_s=300)
    assert done.status == 0, done
    said = json.loads(done.stdout)
    assert not said["failed"], done
    for figure in said["figures"]:
        assert Path(figure).stat().st_size > 1000
    return done, said, [row for row in results.read(folder) if not row.ends_run]


def values(rows: list[Row], metric: str, *labels: str) -> dict[Any, float]:
    """A metric's values by labels; none of them may be missing."""
    found = {}
    for row in rows:
        one = row.measurement
        if one.metric == metric:
            assert one.value is not None, row
            found[tuple(one.labels.get(label) for label in labels)] = one.value
    return found


def test_fabrics(tmp_path: Path) -> None:
    _, said, rows = run(tmp_path / "r", "fabrics", "fabric=vxlan", *SMALL)
    times = values(rows, "rr_us", "path", "percentile")
    paths = {"bare", "same node", "cross node"}
    assert set(times) == {(path, q) for path in (*paths, "loopback") for q in ("p50", "p90", "p99")}
    assert all(value > 0 for value in times.values())
    assert times["cross node", "p50"] > times["loopback", "p50"], times
    streams = values(rows, "tcp_gbps", "path")
    assert set(streams) == {(path,) for path in paths}
    assert all(value > 0.001 for value in streams.values()), streams
    assert len(values(rows, "crr_us", "path", "percentile")) == 12
    assert {each["holds"] for each in said["verdicts"]} == {"not at this size"}
    assert len({each["row"] for each in said["verdicts"]}) == 4


@pytest.mark.parametrize("mode", ["iptables", "userspace"])
def test_proxy_modes(tmp_path: Path, mode: str) -> None:
    _, said, rows = run(tmp_path / "r", "proxy_modes", f"mode={mode}", *SMALL)
    ways = {(path, through) for path in ("same node", "cross node") for through in ("direct", "service")}
    for metric in ("tcp_gbps", "rr_per_s", "crr_per_s"):
        found = values(rows, metric, "path", "through")
        assert set(found) == ways
        assert all(value > 0 for value in found.values()), (metric, found)
    times = values(rows, "crr_us", "path", "through", "percentile")
    if mode == "userspace":
        assert times["cross node", "service", "p50"] > times["cross node", "direct", "p50"], times
    assert said["verdicts"]


def test_what_this_kernel_lacks_is_left_out_by_name(tmp_path: Path) -> None:
    settings = ("mode=ipvs,nftables", "endpoints=2", "connections=60")
    done, said, rows = run(tmp_path / "r", "fairness", *settings)
    modes = {row.cell["mode"] for row in rows}
    if "ipvs" in modes:
        assert not said["left_out"]
    else:
        assert modes == {"nftables"}
        assert [each.partition(":")[0] for each in said["left_out"]] == ["mode=ipvs"]
        assert "left out: mode=ipvs: ip_vs" in done.stderr
        alone = mininetes("run", "fairness", "--set", "mode=ipvs", "--out", str(tmp_path / "alone"))
        assert alone.status == 3
        assert "ip_vs" in alone.stderr


def test_fairness(tmp_path: Path) -> None:
    settings = ("mode=iptables,userspace", "endpoints=3", "connections=300")
    _, said, rows = run(tmp_path / "r", "fairness", *settings)
    for mode in ("iptables", "userspace"):
        chosen = [row.measurement.value for row in rows if row.cell["mode"] == mode]
        assert len(chosen) == 300
        assert set(chosen) == {0.0, 1.0, 2.0}
    assert {each["holds"] for each in said["verdicts"]} == {"yes"}, said["verdicts"]


def test_reachability(tmp_path: Path) -> None:
    settings = ("fabric=vxlan,host-gw", "underlay=racks", "nodes=3", "pods_per_node=1")
    _, said, rows = run(tmp_path / "r", "reachability", *settings)
    assert said["holds"]
    assert {row.measurement.labels["protocol"] for row in rows} == {"icmp", "udp", "tcp"}
    by_fabric = {name: [row.measurement.value for row in rows if row.cell["fabric"] == name]
                 for name in ("vxlan", "host-gw")}  # fmt: skip
    assert all(by_fabric["vxlan"])
    assert 0.0 in by_fabric["host-gw"]
    assert {each["holds"] for each in said["verdicts"]} == {"yes"}, said["verdicts"]


def test_mtu(tmp_path: Path) -> None:
    _, said, rows = run(tmp_path / "r", "mtu", "fabric=static", "mtu=1376,8916", "rounds=1", "stream_s=1")
    for mtu in (1376, 8916):
        of_mtu = [row for row in rows if row.cell["mtu"] == mtu]
        assert all(value > 0 for value in values(of_mtu, "udp_mbps", "path").values())
    assert [each["holds"] for each in said["verdicts"]] == ["not at this size"]


def test_packets_of_pods_are_as_large_as_the_links_allow(tmp_path: Path) -> None:
    spec = {
        "nodes": {"controlPlane": 1, "workers": 1},
        "underlay": {"name": "single_switch", "parameters": {"mtu": 9000}},
        "fabric": "vxlan",
        "controlPlane": {"store": "none"},
        "pods": {"perNode": 1},
        "outside": {"clients": 0},
    }
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "mininetes/v1", "kind": "Cluster", "spec": spec}))
    with running(str(file)) as lab:
        assert "mtu 9000" in lab.exec("node1", "ip", "link", "show", "eth0")
        assert "mtu 8950" in lab.exec("pod/node1-1", "ip", "link", "show", "eth0")
        for place, target, mtu in (("node1", "node2", 9000), ("pod/node1-1", "pod/node2-1", 8950)):
            ping = ["ping", "-c", "1", "-W", "2", "-M", "do", "-s"]
            lab.exec(place, *ping, str(mtu - 28), lab.address(target))
            assert lab.try_exec(place, *ping, str(mtu - 27), lab.address(target)).status != 0
