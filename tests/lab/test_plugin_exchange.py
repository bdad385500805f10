"""One plugin in the place of another, by configuration alone; parallel ADDs, and pools that are full."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from running_lab import RunningLab, fresh_name, is_left, mininetes, running

CONFLISTS = ("bash-bridge.conflist", "bridge.conflist")
REPOSITORY = Path(__file__).parents[2]


# --- exchange -----------------------------------------------------------------------------------------------------


def state_of(lab: RunningLab, place: str) -> dict[str, Any]:
    """Addresses, routes and kinds of links, without what may differ: names of veths, MACs and numbers."""
    links = json.loads(lab.exec(place, "ip", "-json", "-details", "address"))
    routes = lab.exec(place, "ip", "route").split("\n")
    return {
        "links": sorted(
            (
                "veth" if link["ifname"].startswith("veth") else link["ifname"],
                link.get("linkinfo", {}).get("info_kind", ""),
                link["mtu"],
                link.get("master", ""),
                link["operstate"],
                link.get("linkinfo", {}).get("info_slave_data", {}).get("hairpin"),
                tuple(f"{a['local']}/{a['prefixlen']} {a.get('broadcast')}" for a in link["addr_info"]),
            )
            for link in links
        ),
        "routes": sorted(route.strip() for route in routes),
    }


def test_the_reference_plugins_leave_the_same_matrix_and_state_as_ours() -> None:
    seen: dict[str, Any] = {}
    for conflist in CONFLISTS:
        with running("--cni", conflist, "--pods", "2") as lab:
            probed = lab.probe()
            assert probed.status == 0
            matrix = {(c.source, c.target): (c.address, c.reached, c.expected) for c in probed.matrix.cells}
            configured = json.loads(lab.exec("node1", "sh", "-c", "cat /etc/cni/net.d/*"))
            assert configured["plugins"][0]["type"] == conflist.removesuffix(".conflist")
            places = ["node1", "pod/node1-1", "pod/node2-2"]
            seen[conflist] = matrix, {place: state_of(lab, place) for place in places}
    ours, reference = (seen[conflist] for conflist in CONFLISTS)
    assert ours[0] == reference[0]
    for place, state in ours[1].items():
        assert state == reference[1][place], place


@pytest.mark.parametrize("conflist", CONFLISTS)
def test_with_ip_masq_what_leaves_the_pods_network_is_translated_and_what_stays_is_not(
    conflist: str, tmp_path: Path
) -> None:
    content = json.loads((REPOSITORY / "cni_scripts" / conflist).read_text())
    content["plugins"][0]["ipMasq"] = True
    own = tmp_path / "masq.conflist"
    own.write_text(json.dumps(content))
    with running("--cni", str(own), "--pods", "2") as lab:
        lab.exec("pod/node1-1", "ping", "-c", "1", "-W", "2", lab.address("client1"))
        said = json.loads(
            lab.exec("pod/node1-1", "nc", "-N", "-w", "2", lab.address("pod/node1-2"), "8080", stdin="hello\n")
        )
        assert said["client"].startswith(lab.address("pod/node1-1") + ":")
        if conflist.startswith("bash"):  # ours leaves the whole pod network out; the reference one its own subnet
            said = json.loads(
                lab.exec("pod/node1-1", "nc", "-N", "-w", "2", lab.address("pod/node2-1"), "8080", stdin="hello\n")
            )
            assert said["client"].startswith(lab.address("pod/node1-1") + ":")
        assert lab.probe().status == 0


# --- many at once -------------------------------------------------------------------------------------------------

# Runs inside the lab, beside the engine: the engine's own runtime, on the node's configuration.
INSIDE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from mininetes.agents.cni.runtime import Attachment, CniRuntime
from mininetes.errors import MininetesError
from mininetes.kernel.netns import delete_named
from mininetes.lab.filesystem import netns_path
from mininetes.agents.kubelet.sandbox import make_sandbox

holder, command, names = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
runtime = CniRuntime("node1", holder)

def one(name):
    attachment = Attachment(name, f"/run/netns/{name}")
    try:
        if command == "del":
            runtime.delete(attachment)
            delete_named(netns_path("node1", name))
            return {"deleted": name}
        make_sandbox(netns_path("node1", name))
        try:
            return {"address": runtime.add(attachment)["ips"][0]["address"]}
        except MininetesError as failed:
            delete_named(netns_path("node1", name))
            return {"error": str(failed)}
    except MininetesError as failed:
        return {"error": str(failed)}

with ThreadPoolExecutor(len(names)) as workers:
    print(json.dumps(list(workers.map(one, names))))
"""


def in_lab(lab: RunningLab, command: str, names: list[str]) -> list[dict[str, str]]:
    argv = ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-c", INSIDE, str(lab.hosts["node1"]["pid"]), command]
    found: list[dict[str, str]] = json.loads(lab.exec("", *argv, *names))
    return found


def left_on(lab: RunningLab, node: str = "node1") -> dict[str, Any]:
    """What an ADD makes on a node: links, namespaces, rules, addresses that are taken, cached results."""
    store = "find /var/lib/cni -type f ! -name lock ! -name 'last_reserved*' | sort"
    return {
        "links": sorted(link["ifname"] for link in json.loads(lab.exec(node, "ip", "-json", "link"))),
        "namespaces": sorted(line.split()[0] for line in lab.exec(node, "ip", "netns").splitlines()),
        "taken": lab.exec(node, "sh", "-c", store).split(),
        "rules": [line for line in lab.exec(node, "iptables-save").splitlines() if line.startswith("-A")],
    }


@pytest.mark.parametrize("conflist", CONFLISTS)
def test_fifty_adds_at_the_same_time_get_fifty_addresses_and_del_takes_all_of_it_back(conflist: str) -> None:
    with running("--nodes", "1", "--pods", "1", "--cni", conflist) as lab:
        before = left_on(lab)
        names = [f"x{number}" for number in range(50)]
        added = in_lab(lab, "add", names)
        assert [each for each in added if "error" in each] == []
        addresses = {each["address"] for each in added}
        assert len(addresses) == 50
        assert lab.address("pod/node1-1") + "/24" not in addresses
        assert all(each.startswith("10.244.1.") and each.endswith("/24") for each in addresses)
        assert len(left_on(lab)["links"]) == len(before["links"]) + 50
        assert in_lab(lab, "del", names) == [{"deleted": name} for name in names]
        assert left_on(lab) == before
        assert lab.probe().status == 0


def test_fifty_pods_of_one_node_have_fifty_addresses_and_all_reach_all() -> None:
    with running("--nodes", "1", "--pods", "50") as lab:
        assert len({pod["address"] for pod in lab.pods.values()}) == 50
        probed = lab.probe("--attempts", "1")
        assert probed.status == 0
        assert len(probed.matrix.cells) == 51 * 50


# --- pools that are full ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prefix", "pods", "most"), [("24", "254", "253"), ("29", "6", "5")])
def test_more_pods_than_addresses_are_refused_before_anything_is_built(prefix: str, pods: str, most: str) -> None:
    name = fresh_name()
    done = mininetes("up", "--lab", name, "--pods", pods, "--set", f"network.nodePrefix={prefix}")
    assert done.status == 2
    assert f"spec.pods.perNode: {pods} is not valid: at most {most}" in done.stderr
    assert not is_left(name)


@pytest.mark.parametrize("conflist", CONFLISTS)
def test_a_pool_that_is_full_gives_a_clear_error_and_leaves_nothing_behind(conflist: str) -> None:
    small = ("--nodes", "1", "--pods", "5", "--set", "network.nodePrefix=29", "--set", "controlPlane.store=none")
    with running(*small, "--cni", conflist) as lab:
        before = left_on(lab)
        assert len(before["namespaces"]) == 5
        refused = in_lab(lab, "add", ["one-more", "and-another"])
        for each in refused:
            assert "no IP addresses available" in each["error"] or "no free address" in each["error"]
            assert "10.244.0.9-10.244.0.14" in each["error"]
        assert left_on(lab) == before
        # what a pod gives back can be given again
        (gone,) = in_lab(lab, "del", ["node1-3"])
        assert gone == {"deleted": "node1-3"}
        (again,) = in_lab(lab, "add", ["one-more"])
        assert again == {"address": lab.address("pod/node1-3") + "/29"}
