"""`mininetes validate`: a file that is right, and a machine that lacks what it needs."""

from __future__ import annotations

import json
from collections.abc import Collection

import pytest
import yaml
from click.testing import CliRunner

from mininetes.cli.main import cli
from mininetes.errors import BadInput, MissingFeature
from mininetes.kernel import features

HEAD = {"apiVersion": "mininetes/v1", "kind": "Cluster"}


@pytest.fixture(autouse=True)
def _poor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has all but ip_vs and netem."""

    def require(names: Collection[str]) -> None:
        for name in ("ip_vs", "netem"):
            if name in names:
                raise MissingFeature(name, "something", "use a kernel that has it")

    monkeypatch.setattr(features, "require", require)


def validated(spec: dict[str, object], *options: str) -> tuple[int, str, str]:
    text = yaml.safe_dump({**HEAD, "spec": spec})
    done = CliRunner().invoke(cli, ["validate", "-", *options], input=text, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value, done.stdout, done.stderr


SLOW = {"underlay": {"name": "single_switch", "parameters": {"delay": "1ms"}}}


@pytest.mark.parametrize(("spec", "name"), [({"proxy": "ipvs"}, "ip_vs"), (SLOW, "netem")])
def test_a_file_that_up_would_refuse_here_is_valid_all_the_same(spec: dict[str, object], name: str) -> None:
    status, printed, said = validated(spec)
    assert (status, printed) == (3, "standard input is valid: 3 nodes with 4 pods each, fabric static\n")
    lacks = f"{name} is missing (needed for something): use a kernel that has it"
    assert said == f"mininetes: valid, but `up` would refuse it on this machine: {lacks}\n"


def test_json_is_the_description_in_either_case() -> None:
    status, printed, said = validated({"proxy": "ipvs"}, "-o", "json")
    assert (status, json.loads(printed)["proxy"]["mode"]) == (3, "ipvs")
    assert "ip_vs" in said
    status, printed, said = validated({"proxy": "nftables"}, "-o", "json")
    assert (status, json.loads(printed)["proxy"]["mode"], said) == (0, "nftables", "")


def test_without_a_control_plane_no_proxy_is_needed() -> None:
    assert validated({"proxy": "ipvs", "controlPlane": {"store": "none"}})[0] == 0


def test_what_is_wrong_comes_before_what_is_missing() -> None:
    with pytest.raises(BadInput, match=r"spec\.containers"):
        validated({**SLOW, "containers": [{"name": "c", "node": "nowhere"}]})
