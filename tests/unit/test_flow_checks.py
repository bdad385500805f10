"""Packet flows of `truth-table --flows`: what is no flow is refused by line and field, before a lab is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mininetes.cli.main import cli
from mininetes.errors import BadInput
from mininetes.testbed.flow_checks import checked_flows

FLOWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "golden" / "packet-flows" / "flows.jsonl").read_text().splitlines()
]


def flow(**fields: Any) -> dict[str, Any]:
    """A flow to one endpoint, with other fields by dotted paths (``to__port``)."""
    made: dict[str, Any] = {
        "id": "X-1",
        "service": {"type": "ClusterIP", "ports": [{"port": 80, "targetPort": 8081, "protocol": "TCP"}]},
        "endpoints": [{"name": "a", "node": "here"}],
        "from": "pod",
        "to": {"address": "clusterIP", "port": 80, "protocol": "TCP"},
        "expect": {"outcome": "DNAT", "endpoints": ["a"]},
        "modes": ["iptables"],
    }
    for path, value in fields.items():
        *way, last = path.strip("_").split("__")
        place: Any = made
        for key in way:
            place = place[int(key) if key.isdigit() else key]
        place[int(last) if last.isdigit() else last] = value
    return made


def test_every_flow_of_the_shared_table_is_one() -> None:
    assert checked_flows(FLOWS) == FLOWS


def test_conditions_may_be_left_out() -> None:
    assert checked_flows([flow()]) == [flow()]


WRONG = [
    (flow(from_="mars"), "from: 'mars'.*pod; node; localhost"),
    (flow(from_="endpoint b"), "from: 'endpoint b'.*endpoint a"),
    (flow(id="a b"), "id: 'a b'"),
    (flow(to__address="moon"), "to.address: 'moon'.*clusterIP"),
    (flow(to__port=70000), "to.port: '70000'"),
    (flow(to__protocol="tcp"), "to.protocol: 'tcp'"),
    (flow(modes=["ebpf"]), "modes: 'ebpf'"),
    (flow(modes="iptables"), "modes: 'iptables'.*a list"),
    (flow(expect__outcome="MAYBE"), "expect.outcome: 'MAYBE'"),
    (flow(expect__endpoints=["b"]), "expect.endpoints: 'b'.*one of a"),
    (flow(expect__masquerade="yes"), "expect.masquerade: 'yes'.*true or false"),
    (flow(in_mode={"ipvs": {}}), "in_mode.ipvs.outcome: 'None'"),
    (flow(service="web"), "service: 'web'.*a mapping"),
    (flow(service__type="Weird"), "service.type: 'Weird'"),
    (flow(service__ports=[]), "service.ports: .*at least one"),
    (flow(service__ports__0__targetPort="http"), r"service.ports\[0\].targetPort: 'http'"),
    (flow(service__externalTrafficPolicy="Foo"), "service.externalTrafficPolicy: 'Foo'"),
    (flow(service__loadBalancerSourceRanges=["mars"]), "service.loadBalancerSourceRanges: 'mars'"),
    (flow(endpoints__0__node="there"), r"endpoints\[0\].node: 'there'.*here, elsewhere"),
    (flow(endpoints__0__ready="no"), r"endpoints\[0\].ready: 'no'.*true or false"),
    (flow(endpoints=["a"]), r"endpoints\[0\]: 'a'.*a mapping"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[said[:30] for _, said in WRONG])
def test_what_is_wrong_is_named_with_its_line_and_field(wrong: Any, said: str) -> None:
    with pytest.raises(BadInput, match=f"--flows, line 7: {said}"):
        checked_flows([flow(), wrong], [2, 7])


def test_a_file_is_refused_before_a_lab_is_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    for text, said in (
        (f"\n{json.dumps(flow(from_='mars'))}\n", "--flows, line 2: from: 'mars'"),
        (f"{json.dumps(flow())}\n\nno JSON\n", "--flows, line 3: one JSON object a line"),
        ("\n", "it has none"),
    ):
        path.write_text(text)
        done = CliRunner().invoke(cli, ["truth-table", "--flows", str(path)], standalone_mode=False)
        assert isinstance(done.exception, BadInput)
        assert said in str(done.exception)
