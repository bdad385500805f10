"""bash-bridge as a process that stays for several ADDs: it leaves, answers and refuses what one process each does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from sandbox import Sandbox
from test_cni_scripts import BRIDGE, CNI_PATH, SAME, SCRIPTS, STORE, WRONG, Node, address, by_reference, merged, shape

ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default"


class Staying:
    """One process of the plugin in a sandbox; a context manager."""

    def __init__(self, box: Sandbox) -> None:
        env = {"CNI_PATH": CNI_PATH, "MININETES_SERVE": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = box.start([str(SCRIPTS / "bash-bridge")], env, **pipes)

    def __enter__(self) -> Staying:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=20)

    def add(
        self, container: str, configuration: dict[str, Any] = BRIDGE, args: str = ARGS, ifname: str = "eth0"
    ) -> str:
        """What it answers; the process has ended when no NUL is at the end of it."""
        request = f"{container}\n/run/netns/{container}\neth0\n{args}\n{json.dumps(configuration)}"
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{len(request.encode()):08d}{request}")
        self.process.stdin.flush()
        said = ""
        while not said.endswith("\0") and (more := self.process.stdout.read(1)):
            said += more
        return said

    def ok(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """The result of an ADD that succeeds."""
        said = self.add(*arguments, **options)
        assert said.endswith("\0"), said + self.process.communicate(timeout=20)[1]
        return json.loads(said[:-1])


@pytest.fixture
def node() -> Iterator[Node]:
    with Sandbox() as sandbox:
        yield Node(sandbox)


@pytest.mark.parametrize("case", SAME)
def test_the_state_left_is_that_of_one_process_each(case: str) -> None:
    configuration = merged(BRIDGE, SAME[case])
    shapes = []
    for stays in (True, False):
        with Sandbox() as box:
            node = Node(box)
            box.netns("a", "b", "web")
            if stays:
                with Staying(box) as plugin:
                    results = [plugin.ok(name, configuration) for name in ("a", "b", "web")]
            else:
                results = [node.ok("ADD", name, configuration, CNI_ARGS=ARGS) for name in ("a", "b", "web")]
            shapes.append([shape(box, results[2]), len({each["interfaces"][1]["name"] for each in results})])
            for name in ("a", "b", "web"):
                node.ok("DEL", name, configuration)
            assert (box.links(), node.store(), node.nat()) == ({"cni0"}, [], [])
    assert shapes[0] == shapes[1]


def test_configurations_in_turn_do_not_mix(node: Node) -> None:
    box = node.sandbox
    box.netns("a", "b", "c", "d", "e")
    other = merged(
        BRIDGE, {"name": "others", "bridge": "cni1", "ipam.ranges": [[{"subnet": "10.9.0.0/24"}]], "mtu": 1400}
    )
    routes = merged(BRIDGE, {"ipam.routes": [{"dst": "10.96.0.0/12"}]})
    with Staying(box) as plugin:
        results = [plugin.ok(*each) for each in zip("abcde", (BRIDGE, other, BRIDGE, routes, BRIDGE), strict=True)]
    assert [address(each) for each in results] == [
        "10.244.1.2/24", "10.9.0.2/24", "10.244.1.3/24", "10.244.1.4/24", "10.244.1.5/24"
    ]  # fmt: skip
    assert [len(each["routes"]) for each in results] == [1, 1, 1, 2, 1]
    assert [box.json("ip", "-n", name, "-j", "link", "show", "eth0")[0]["mtu"] for name in "abc"] == [1500, 1400, 1500]
    box.sh("ip netns exec a ping -c 1 -W 2 10.244.1.5; ip netns exec b ping -c 1 -W 2 10.9.0.1")


def test_another_address_plugin_is_started_for_each_add(node: Node) -> None:
    node.sandbox.netns("a", "b")
    configuration = merged(BRIDGE, {"ipam.type": "host-local"})
    with Staying(node.sandbox) as plugin:
        results = [plugin.ok(name, configuration) for name in "ab"]
    assert [address(each) for each in results] == ["10.244.1.2/24", "10.244.1.3/24"]
    assert results[1]["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}]


def test_arguments_count_for_their_own_add_only(node: Node) -> None:
    node.sandbox.netns("a", "b")
    with Staying(node.sandbox) as plugin:
        wanted = plugin.ok("a", args="IgnoreUnknown=1;IP=10.244.1.77;MAC=02:00:00:00:00:07")
        plain = plugin.ok("b", args="")
    assert (address(wanted), wanted["interfaces"][2]["mac"]) == ("10.244.1.77/24", "02:00:00:00:00:07")
    assert (address(plain), plain["interfaces"][2]["mac"][:5]) == ("10.244.1.78/24", "0a:58")


@pytest.mark.parametrize("case", WRONG)
def test_an_error_is_that_of_one_process_each(node: Node, case: str) -> None:
    node.sandbox.netns("web")
    configuration = merged(BRIDGE, WRONG[case][0])
    with Staying(node.sandbox) as plugin:
        said = plugin.add("web", configuration)
        assert plugin.process.wait(timeout=20) == 1
    assert json.loads(said) == node.error("ADD", "web", configuration, CNI_ARGS=ARGS)
    assert (node.sandbox.links(), node.store()) == (set(), [])


def test_an_add_that_fails_late_takes_its_own_back_and_nothing_else(node: Node) -> None:
    box = node.sandbox
    box.netns("a", "b", "c")
    box.sh("ip netns exec c ip link add eth0 type veth peer name other")
    with Staying(box) as plugin:
        for name in "ab":
            plugin.ok(name)
        before = box.links()
        error = json.loads(plugin.add("c"))
        assert plugin.process.wait(timeout=20) == 1
    assert (error["code"], "eth0 is there already" in error["msg"]) == (100, True)
    assert (box.links(), node.store()) == (before, ["10.244.1.2", "10.244.1.3"])


@pytest.mark.parametrize("elsewhere", ["bash", "reference"])
def test_it_notices_what_others_do_to_the_store(node: Node, elsewhere: str) -> None:
    """The one that stays remembers who has which address; others give and take them in between."""
    box = node.sandbox
    box.netns("a", "b", "c", "d")
    others = BRIDGE if elsewhere == "bash" else by_reference(BRIDGE)
    with Staying(box) as plugin:
        plugin.ok("a")
        plugin.ok("b")
        node.ok("DEL", "a", others)
        assert address(plugin.ok("a")) == "10.244.1.4/24"
        # by the address plugin alone: a port of the same name would be noticed before
        assert address(node.ok("ADD", "c", others, True)) == "10.244.1.5/24"
        box.sh(f"test -e {STORE}/10.244.1.5")
        error = json.loads(plugin.add("c"))
        assert plugin.process.wait(timeout=20) == 1
    assert "c already has 10.244.1.5" in error["msg"]
    assert node.store() == ["10.244.1.3", "10.244.1.4", "10.244.1.5"]
    assert "eth0" not in box.run("ip", "-n", "c", "-o", "link").stdout


def test_many_at_once_by_processes_that_stay_and_others(node: Node) -> None:
    box = node.sandbox
    names = [f"pod{i}" for i in range(30)]
    box.sh("for i in $(seq 0 29); do ip netns add pod$i; done")
    with Staying(box) as one, Staying(box) as two:
        node.ok("ADD", names[0])
        results = []
        for i in range(1, 28, 3):
            alone = box.start(
                [str(SCRIPTS / "bash-bridge")],
                node.environment("ADD", names[i]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert alone.stdin is not None
            alone.stdin.write(json.dumps(BRIDGE))
            alone.stdin.close()
            alone.stdin = None
            results += [one.ok(names[i + 1]), two.ok(names[i + 2])]
            results.append(json.loads(alone.communicate(timeout=20)[0]))
    assert len({address(each) for each in results}) == len(results) == 27
    assert len(node.store()) == 28


def test_it_ends_with_its_input_and_when_it_is_told_rubbish(node: Node) -> None:
    for rubbish in ("", "rubbish!", "12"):
        with Staying(node.sandbox) as plugin:
            out, err = plugin.process.communicate(rubbish, timeout=20)
            assert (plugin.process.returncode, out, err) == (0, "", "")


def test_a_command_in_the_environment_is_an_ordinary_call(node: Node) -> None:
    node.sandbox.netns("web")
    assert address(node.ok("ADD", "web", MININETES_SERVE="1")) == "10.244.1.2/24"
    node.ok("DEL", "web", MININETES_SERVE="1")


# --- what a process that stays must not take for granted --------------------------------------------------------------


def test_a_second_gateway_within_a_second_is_looked_after_too(node: Node) -> None:
    two = merged(
        BRIDGE, {"ipam.ranges": [[{"subnet": "10.9.1.0/30"}, {"subnet": "10.9.2.0/24"}]], "forceAddress": True}
    )
    node.sandbox.netns("a", "b")
    with Staying(node.sandbox) as staying:
        assert address(staying.ok("a", two)) == "10.9.1.2/30"
        assert address(staying.ok("b", two)) == "10.9.2.2/24"
    assert "10.9.2.1/24" in node.sandbox.sh("ip -4 addr show dev cni0")
    node.sandbox.sh("ip netns exec b ping -c 1 -W 2 10.9.2.1")


def test_a_bridge_that_went_within_a_second_is_made_anew(node: Node) -> None:
    node.sandbox.netns("a", "b")
    with Staying(node.sandbox) as staying:
        staying.ok("a")
        node.sandbox.sh("ip link del cni0")
        staying.ok("b")
    node.sandbox.sh("ip netns exec b ping -c 1 -W 2 10.244.1.1")


@pytest.mark.parametrize("killed", ["sh", "ip"])
def test_an_add_goes_on_without_its_programs(node: Node, killed: str) -> None:
    node.sandbox.netns("a", "b", "c")
    with Staying(node.sandbox) as staying:
        staying.ok("a")
        node.sandbox.sh(f"pkill -KILL -P $(pgrep -o -x bash-bridge) -x {killed}")
        staying.ok("b")
        staying.ok("c")
    assert node.store() == ["10.244.1.2", "10.244.1.3", "10.244.1.4"]


def test_more_than_a_pipe_holds_for_an_ip_that_has_failed(node: Node) -> None:
    routes = [{"dst": f"10.{i // 250}.{i % 250}.0/24", "gw": "10.244.1.1"} for i in range(1500)]
    node.sandbox.netns("a")
    node.sandbox.sh("ip -n a link add eth0 type veth peer name other")
    with Staying(node.sandbox) as staying:
        said = staying.add("a", merged(BRIDGE, {"ipam.routes": routes}))
    assert json.loads(said)["code"] == 100
    assert "eth0 is there already" in said
    assert node.store() == []


def test_as_many_routes_are_set_where_nothing_is_wrong(node: Node) -> None:
    routes = [{"dst": f"10.{i // 250}.{i % 250}.0/24", "gw": "10.244.1.1"} for i in range(1500)]
    node.sandbox.netns("a", "b")
    with Staying(node.sandbox) as staying:
        staying.ok("a", merged(BRIDGE, {"ipam.routes": routes}))
        staying.ok("b")
    assert node.sandbox.sh("ip -n a route | wc -l").strip() == "1502"
