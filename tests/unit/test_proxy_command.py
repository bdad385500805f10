"""mininetes rules: every form of objects gives the same rules, and what is wrong is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rule_dumps
import yaml
from click.testing import CliRunner

from mininetes.cli.main import cli
from mininetes.errors import BadInput

GOLDEN = Path(__file__).parents[1] / "golden" / "kube-proxy-1.30"
CASE = GOLDEN / "objects" / "nodeport.json"
KINDS = {
    "services": ("v1", "Service"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "nodes": ("v1", "Node"),
}


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["rules", *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def objects() -> list[dict[str, Any]]:
    case = json.loads(CASE.read_text())
    return [{"apiVersion": KINDS[kind][0], "kind": KINDS[kind][1], **each} for kind in KINDS for each in case[kind]]


def test_iptables_is_the_default_mode() -> None:
    text = run("--node", "node1", "-f", str(CASE))
    dump = (GOLDEN / "iptables" / "nodeport.rules").read_text()
    assert not list(rule_dumps.differences(rule_dumps.iptables(text), rule_dumps.iptables(dump)))


@pytest.mark.parametrize("form", ["documents", "list", "kind lists", "json list"])
def test_objects_may_be_documents_or_lists(form: str, tmp_path: Path) -> None:
    path = tmp_path / "objects"
    by_kind = [
        {"apiVersion": version, "kind": f"{kind}List", "items": [each for each in objects() if each["kind"] == kind]}
        for version, kind in KINDS.values()
    ]
    whole = {"apiVersion": "v1", "kind": "List", "items": objects()}
    path.write_text({
        "documents": yaml.safe_dump_all(objects()), "list": yaml.safe_dump(whole),
        "kind lists": yaml.safe_dump_all(by_kind), "json list": json.dumps(whole),
    }[form])  # fmt: skip
    assert run("--node", "node1", "-f", str(path)) == run("--node", "node1", "-f", str(CASE))


def test_a_file_of_one_hyphen_is_standard_input() -> None:
    arguments = ["rules", "--node", "node1", "-f", "-"]
    done = CliRunner().invoke(cli, arguments, input=CASE.read_text(), standalone_mode=False)
    assert done.exception is None, done.exception
    assert done.output == run("--node", "node1", "-f", str(CASE))
    for text, words in (
        ("kind: [", "standard input: neither YAML nor JSON"),
        ("kind: Pod", "standard input: kind: 'Pod'"),
        (b"\xff", "standard input: text in UTF-8"),
        ("", "objects: they have no Node"),
    ):
        done = CliRunner().invoke(cli, arguments, input=text, standalone_mode=False)
        assert isinstance(done.exception, BadInput)
        assert str(done.exception).startswith(words)


def test_every_node_writes_what_is_right_for_it() -> None:
    local = str(GOLDEN / "objects" / "nodeport-policy-local-none-here.json")
    here, there = run("--node", "node1", "-f", local), run("--node", "node2", "-f", local)
    assert "has no local endpoints" in here
    assert "has no local endpoints" not in there


def test_ipvs_has_four_texts_which_can_be_had_one_by_one() -> None:
    arguments = ("--mode", "ipvs", "--node", "node1", "-f", str(CASE))
    texts = json.loads(run(*arguments, "-o", "json"))
    assert list(texts) == ["ipvsadm", "ipset", "addresses", "iptables"]
    for name, text in texts.items():
        assert run(*arguments, "--section", name) == text
    whole = run(*arguments)
    assert [line for line in whole.splitlines() if line.startswith("# ")] == [
        "# ipvsadm --restore", "# ipset restore", "# ip -batch -", "# iptables-restore"]  # fmt: skip


def test_the_proxys_settings_can_be_given() -> None:
    text = run(
        "--node", "node1", "-f", str(CASE), "--set", "iptables.masqueradeBit=0", "--set", "clusterCIDR=10.0.0.0/8"
    )
    assert "0x1/0x1" in text
    assert "! -s 10.0.0.0/8" in text


def test_the_mode_can_be_the_configurations_own() -> None:
    arguments = ("--node", "node1", "-f", str(CASE))
    assert run(*arguments, "--set", "mode=nftables") == run("--mode", "nftables", *arguments) != run(*arguments)


@pytest.mark.parametrize("mode", ["nftables", "userspace"])
def test_other_modes_print_one_text(mode: str) -> None:
    text = run("--mode", mode, "--node", "node1", "-f", str(CASE))
    assert "default/np" in text
    assert text == run("--mode", mode, "--node", "node1", "-f", str(CASE))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "ebpf", "--node", "node1", "-f", str(CASE)], r"mode: 'ebpf'.*iptables, nftables, ipvs, userspace"),
        (["--node", "node9", "-f", str(CASE)], r"--node: 'node9'.*one of node1, node2, node3"),
        (["--node", "node1", "-f", "/nowhere"], r"objects: '/nowhere'.*readable"),
        (["--node", "node1", "-f", str(CASE), "--set", "nonsense"], r"--set: 'nonsense'"),
        (["--node", "node1", "-f", str(CASE), "--set", "iptable.x=1"], r"iptable: unknown key"),
        (
            ["--node", "node1", "-f", str(CASE), "--set", "mode=bogus"],
            r"^--set mode: 'bogus' is not valid: one of iptables, nftables, ipvs, userspace$",
        ),
        (
            ["--node", "node1", "-f", str(CASE), "--set", "iptables.masqueradeBit=99"],
            r"^--set iptables.masqueradeBit: 99 is not valid: at most 31$",
        ),
        (
            ["--node", "node1", "-f", str(CASE), "--set", "nodePortAddresses=[192.168.1.11]"],
            r"^--set nodePortAddresses\[0\]: '192.168.1.11' is not valid: a network with its prefix",
        ),
        (["--node", "node1", "-f", str(CASE), "--set", "clusterCIDR.x=1"], r"^--set: 'clusterCIDR.x=1'.*no fields"),
        (
            ["--mode", "nftables", "--node", "node1", "-f", str(CASE), "--set", "mode=ipvs"],
            r"^--set mode: 'ipvs' is not valid: nftables, as --mode says",
        ),
        (["--node", "node1", "-f", str(CASE), "--section", "ipset"], r"--section: 'ipset'.*iptables in mode iptables"),
    ],
)
def test_what_is_wrong_is_said_by_name(arguments: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        run(*arguments)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Pod\nmetadata: {name: a}\n", r"kind: 'Pod'.*Service, EndpointSlice, Node"),
        ("- a\n", r"a Kubernetes object"),
        ("{", r"neither YAML nor JSON"),
        ("kind: Service\nmetadata: {}\n", r"metadata.name"),
        ('{"service": []}', r"service: unknown key; known here: services, endpointslices, nodes"),
    ],
)
def test_objects_that_are_none_are_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "objects"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        run("--node", "node1", "-f", str(path))


def test_an_ipv6_service_is_refused_by_name(tmp_path: Path) -> None:
    case = json.loads(CASE.read_text())
    case["services"][0]["spec"]["clusterIP"] = "fd00::10"
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(case))
    with pytest.raises(BadInput, match=r"service default/np: spec.clusterIP: 'fd00::10'.*IPv6"):
        run("--node", "node1", "-f", str(path))


DUAL = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: %(policy)s
  ipFamilies: [%(families)s]
  clusterIP: "%(first)s"
  clusterIPs: ["%(first)s", "%(second)s"]
  externalIPs: [203.0.113.7, "2001:db8::7"]
  loadBalancerSourceRanges: [203.0.113.0/24, "2001:db8::/64"]
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: "2001:db8::8"}, {ip: 198.51.100.8}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.5]}]
ports: [{name: http, port: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints: [{addresses: ["fd00:1::5"]}]
ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDR: "fd00:1::/64", podCIDRs: ["fd00:1::/64", 10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.1.11}, {type: InternalIP, address: "fd00::11"}]}
"""
IPV4, IPV6 = "10.96.7.7", "fd00:10::7"


@pytest.mark.parametrize("mode", ["iptables", "nftables", "ipvs", "userspace"])
def test_a_dual_stack_service_is_served_by_its_ipv4_half(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "objects.yaml"
    texts = []
    for policy, families, first, second in (
        ("PreferDualStack", "IPv4, IPv6", IPV4, IPV6),
        ("RequireDualStack", "IPv6, IPv4", IPV6, IPV4),
    ):
        path.write_text(DUAL % {"policy": policy, "families": families, "first": first, "second": second})
        texts.append(run("--mode", mode, "--node", "node1", "-f", str(path), "--set", "detectLocalMode=NodeCIDR"))
    assert texts[0] == texts[1]
    assert "fd00" not in texts[0]
    assert "2001" not in texts[0]
    served = {IPV4, "203.0.113.7", "198.51.100.8"}
    served |= set() if mode == "userspace" else {"10.244.1.5", "203.0.113.0/24"}
    assert {each for each in served if each not in texts[0]} == set()
    assert ("10.244.1.0/24" in texts[0]) == (mode != "userspace")


def test_a_dual_stack_service_as_people_write_it(tmp_path: Path) -> None:
    path = tmp_path / "objects.yaml"
    whole = DUAL % {"policy": "PreferDualStack", "families": "IPv4, IPv6", "first": IPV4, "second": IPV6}
    path.write_text(whole.replace(f'  clusterIPs: ["{IPV4}", "{IPV6}"]\n', ""))
    assert f"-d {IPV4}/32" in run("--node", "node1", "-f", str(path))


@pytest.mark.parametrize("families", ["IPv4, IPv6", "IPv6, IPv4"])
def test_what_is_wrong_with_a_dual_stack_service_is_not_that_it_has_ipv6(families: str, tmp_path: Path) -> None:
    path = tmp_path / "objects.yaml"
    first, second = (IPV4, IPV6) if families.startswith("IPv4") else (IPV6, IPV4)
    whole = DUAL % {"policy": "PreferDualStack", "families": families, "first": first, "second": second}
    path.write_text(whole.replace("port: 80,", "port: 99999,"))
    with pytest.raises(BadInput, match=r"^service default/web: spec.ports\[0\].port: .*99999.*between 1 and 65535"):
        run("--node", "node1", "-f", str(path))


def test_headless_services_of_both_families_have_no_rules_and_disturb_nobody(tmp_path: Path) -> None:
    path = tmp_path / "objects.yaml"
    headless = {"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv6", "IPv4"],
                "ipFamilyPolicy": "RequireDualStack", "type": "ClusterIP"}  # fmt: skip
    path.write_text(changed_text(headless))
    assert "default/np" not in run("--node", "node1", "-f", str(path))


def changed_text(spec: dict[str, Any]) -> str:
    """A case whose service has these fields, and no node port."""
    case = json.loads(CASE.read_text())
    made = case["services"][0]["spec"]
    made.update(spec)
    made.pop("externalTrafficPolicy", None)
    for port in made["ports"]:
        port.pop("nodePort", None)
    return json.dumps(case)


def changed(kind: str, fields: dict[str, Any], tmp_path: Path) -> str:
    """The file of a case whose first object of that kind has other fields, by dotted paths."""
    case = json.loads(CASE.read_text())
    for path, value in fields.items():
        place: Any = case[kind][0]
        *way, last = [int(each) if each.isdigit() else each for each in path.split(".")]
        for key in way:
            place = place[key]
        place[last] = value
    written = tmp_path / "objects.json"
    written.write_text(json.dumps(case))
    return str(written)


PORT = {"name": "a", "port": 80, "protocol": "TCP"}
WRONG_SERVICES: list[tuple[dict[str, Any], str]] = [
    ({"spec.ports.0.port": 80000}, r"service default/np: spec.ports\[0\].port: .*80000"),
    ({"spec.ports.0.nodePort": 70000}, r"spec.ports\[0\].nodePort"),
    ({"spec.ports.0.port": "x"}, r"service default/np: .*cannot unmarshal string"),
    ({"spec.ports.0": {}}, r"spec.ports\[0\].port"),
    ({"spec.ports": 5}, r"service default/np: .*cannot unmarshal number"),
    ({"spec.ports": [PORT, {**PORT, "name": "b"}]}, r"spec.ports\[1\]: Duplicate value"),
    ({"spec.externalTrafficPolicy": "Foo"}, r'spec.externalTrafficPolicy: Unsupported value: "Foo"'),
    ({"spec.internalTrafficPolicy": "Foo"}, r'spec.internalTrafficPolicy: Unsupported value: "Foo"'),
    ({"spec.sessionAffinity": "Bar"}, r'spec.sessionAffinity: Unsupported value: "Bar"'),
    ({"spec.type": "Weird"}, r'spec.type: Unsupported value: "Weird"'),
    ({"spec.ipFamilies": ["IPv6"]}, r"spec.ipFamilies\[0\]"),
    ({"spec.clusterIP": "bar", "spec.clusterIPs": ["bar"]}, r'spec.clusterIPs\[0\]: Invalid value: "bar"'),
    ({"spec.externalIPs": ["foo"]}, r'spec.externalIPs\[0\]: Invalid value: "foo"'),
    *(
        ({"spec.sessionAffinity": "ClientIP", "spec.sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}},
         r"clientIP.timeoutSeconds: Invalid value")
        for seconds in (100000, -4, 0)
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "said"), WRONG_SERVICES, ids=lambda each: str(each)[:50])
def test_a_service_that_no_api_server_takes_is_refused(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        run("--node", "node1", "-f", changed("services", fields, tmp_path))


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("endpointslices", {"endpoints.0.addresses": ["foo"]}, r"endpointslice default/.*addresses\[0\].*foo"),
        ("endpointslices", {"addressType": "Weird"}, r"addressType: Unsupported value"),
        ("endpointslices", {"ports.0.port": 80000}, r"ports\[0\].port"),
        ("nodes", {"spec": {"podCIDR": "foo"}}, r"node node1: spec.podCIDRs"),
        ("nodes", {"apiVersion": "v2"}, r"apiVersion: 'v2'.*Node is known as v1"),
    ],
)
def test_so_is_any_other_object(kind: str, fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        run("--node", "node1", "-f", changed(kind, fields, tmp_path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"services": 5}', r"services: '5'.*a list"),
        ('{"kind": "ServiceList", "items": [5]}', r"a Kubernetes object"),
        ('{"kind": "List", "items": 5}', r"items: '5'.*a list"),
        ('{"services": []}', r"objects: they have no Node; that of node1 is needed"),
    ],
)
def test_lists_of_something_else_and_no_node_at_all(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "objects"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        run("--node", "node1", "-f", str(path))


def test_an_object_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "objects"
    path.write_text(yaml.safe_dump_all([*objects(), objects()[0]]))
    with pytest.raises(BadInput, match=r"service default/np: OBJECTS has it twice"):
        run("--node", "node1", "-f", str(path))


@pytest.mark.parametrize("label", ["service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name"])
def test_slices_that_kube_proxy_does_not_watch_are_left_out(label: str, tmp_path: Path) -> None:
    slices = json.loads(CASE.read_text())["endpointslices"]
    labels = {**slices[0]["metadata"]["labels"], label: ""}
    text = run("--node", "node1", "-f", changed("endpointslices", {"metadata.labels": labels}, tmp_path))
    assert "--to-destination" not in text
    assert "has no endpoints" in text


# --- objects as people write them -------------------------------------------------------------------------------------

WRITTEN = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.7.7, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.5]}]
ports: [{port: 8080}]
---
apiVersion: v1
kind: Node
metadata: {name: node1}
status: {addresses: [{type: InternalIP, address: 192.168.1.11}]}
"""


def test_what_the_api_server_fills_in_is_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "objects.yaml"
    path.write_text(WRITTEN)
    assert "--to-destination 10.244.1.5:8080" in run("--node", "node1", "-f", str(path))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("clusterIP: 10.96.7.7, ", "", "service default/web: spec.clusterIP"),
        ("ports: [{port: 80,", "type: NodePort, ports: [{port: 80,", "service default/web: spec.ports[0].nodePort"),
    ],
)
def test_what_the_api_server_would_choose_is_asked_for(tmp_path: Path, old: str, new: str, field: str) -> None:
    path = tmp_path / "objects.yaml"
    path.write_text(WRITTEN.replace(old, new, 1))
    with pytest.raises(BadInput) as wrong:
        run("--node", "node1", "-f", str(path))
    assert str(wrong.value).startswith(field)
    assert "API server chooses" in str(wrong.value)
