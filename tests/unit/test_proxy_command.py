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
