"""Rules as services come, change and go: after each step the kernel has what a fresh node would have."""

from __future__ import annotations

import random
from typing import Any

import netbox
import pytest
import rule_dumps

IPTABLES = [("iptables", "nft"), ("iptables", "legacy")]
MODES = [*IPTABLES, ("nftables", None), ("userspace", "nft")]
PORTS = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
SLICE_PORTS = [{"name": "http", "port": 8080, "protocol": "TCP"}]


def random_service(net: Any, choose: random.Random, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A service of any kind with a few endpoints in any condition."""
    name = f"s{number}"
    ports = [dict(PORTS[0])]
    if choose.random() < 0.3:
        ports.append({"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"})
    spec: dict[str, Any] = {"type": choose.choice(["ClusterIP", "ClusterIP", "NodePort", "LoadBalancer"])}
    if spec["type"] != "ClusterIP":
        for index, port in enumerate(ports):
            port["nodePort"] = 30000 + 10 * number + index
        spec["externalTrafficPolicy"] = choose.choice(["Cluster", "Local"])
    if spec["type"] == "LoadBalancer":
        spec["status"] = {"loadBalancer": {"ingress": [{"ip": f"198.51.100.{number}"}]}}
        spec["healthCheckNodePort"] = 32000 + number if spec["externalTrafficPolicy"] == "Local" else 0
        if choose.random() < 0.5:
            spec["loadBalancerSourceRanges"] = ["203.0.113.0/25", "192.168.1.0/24"][: choose.randint(1, 2)]
    if choose.random() < 0.3:
        spec["externalIPs"] = [f"203.0.113.{number}"]
    if choose.random() < 0.3:
        spec["sessionAffinity"] = "ClientIP"
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": choose.choice([60, 10800])}}
    spec["internalTrafficPolicy"] = choose.choice(["Cluster", "Cluster", "Local"])
    chosen = choose.sample([*net.HERE, *net.FAR], choose.randint(0, 4))
    conditions = [{"ready": True}, {"ready": True}, {"ready": False, "serving": True, "terminating": True},
                  {"ready": False, "serving": False, "terminating": False}]  # fmt: skip
    endpoints = [net.endpoint(ip, **choose.choice(conditions)) for ip in chosen]
    slice_ports = [*SLICE_PORTS, {"name": "dns", "port": 5353, "protocol": "UDP"}]
    return net.service(name, f"10.96.1.{number}", ports, **spec), net.endpoint_slice(name, slice_ports, endpoints)


def kernel(net: Any, mode: str, backend: str | None, name: str = "node") -> Any:
    """What of the proxy is in a namespace, by meaning; order counts in every chain."""
    from mininetes.kernel.processes import Namespaces, run  # noqa: PLC0415 - in the sandbox

    where = Namespaces(net=net.path(name))
    if mode == "nftables":
        listed = run(["nft", "list", "table", "ip", "kube-proxy"], namespaces=where).stdout
        return {" ".join(key): value for key, value in rule_dumps.nftables(listed).items()}
    text = run([f"iptables-{backend}-save"], namespaces=where).stdout
    return {
        table: [line for line in part.splitlines() if line[:1] in "-:" and "KUBE" in line and "CANARY" not in line]
        for table, part in ((part.split("\n")[0], part) for part in text.split("*")[1:])
        if table in ("nat", "filter")
    }


def sorted_declarations(state: dict[str, Any]) -> dict[str, Any]:
    """Chains may be declared in any order, and chains may follow each other in any."""

    def grouped(lines: list[str]) -> list[Any]:
        rules: dict[str, list[str]] = {line[1:].split()[0]: [] for line in lines if line.startswith(":")}
        for line in lines:
            if line.startswith("-A"):
                rules.setdefault(line.split()[1], []).append(line)
        return sorted((chain, tuple(of)) for chain, of in rules.items())

    return {table: grouped(lines) if isinstance(lines, list) else lines for table, lines in state.items()}


def lived(mode: Any, backend: str | None, steps: int, seed: int) -> list[str]:
    """In the sandbox: many random steps; after each, what the kernel has against a fresh namespace's."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    from mininetes.agents.kubeproxy.restoring import NodeTools  # noqa: PLC0415
    from mininetes.agents.kubeproxy.rule_keeper import applier_of  # noqa: PLC0415
    from mininetes.kernel.processes import Namespaces  # noqa: PLC0415

    net.build()
    choose, wrong = random.Random(seed), []
    there: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
    with net.Proxy(mode, {}, backend) as proxy:
        for number in range(1, 41):
            there[number] = random_service(net, choose, number)
            proxy.set(*there[number])
        proxy.sync()
        for step in range(steps):
            for _ in range(choose.randint(1, 3)):
                number = choose.randint(1, 48)
                if number in there and choose.random() < 0.4:
                    for obj in there.pop(number):
                        proxy.remove(obj)
                else:
                    there[number] = random_service(net, choose, number)
                    proxy.set(*there[number])
            synced = proxy.sync(whole=step % 10 == 9)
            fresh = f"fresh{step}"
            net.add_named(net.path(fresh))
            tools = NodeTools(Namespaces(net=net.path(fresh)), backend)
            applier_of(mode, proxy.builder.config, tools).whole(synced.ruleset)
            ours, theirs = (sorted_declarations(kernel(net, mode, backend, name)) for name in ("node", fresh))
            wrong += [f"step {step}: {key}" for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)]
            net.delete_named(net.path(fresh))
        for number in list(there):
            for obj in there.pop(number):
                proxy.remove(obj)
        synced = proxy.sync()
        left = str(kernel(net, mode, backend))
        of_services = ("10.96.1.", "KUBE-SVC", "KUBE-SEP", "chain endpoint-", "set affinity-")
        wrong += [f"left: {word}" for word in of_services if word in left]
    return wrong


@pytest.mark.parametrize(("mode", "backend"), MODES)
def test_after_each_step_the_kernel_has_what_a_fresh_node_would_have(mode: str, backend: str | None) -> None:
    assert netbox.run(lived, mode, backend, 40, 7) == []


def test_an_ordinary_users_kernel_takes_more_than_one_message_holds_in_parts() -> None:
    """Without the right to a larger socket buffer, one of 40 random services and more does not fit."""
    assert netbox.run(lived, "iptables", "nft", 40, 7, user_namespace=True) == []
