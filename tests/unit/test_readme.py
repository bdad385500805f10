"""What the README shows is right: its cluster file is valid, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from click.testing import CliRunner

from mininetes.cli.main import cli
from mininetes.spec import describe
from mininetes.testbed.blueprint import draw

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_its_cluster_file_can_be_built() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    content = yaml.safe_load(text)
    assert (content["apiVersion"], content["kind"]) == ("mininetes/v1", "Cluster")
    assert draw(describe(content["spec"], content["metadata"]["name"])).spec.underlay_name == "racks"


def test_its_commands_exist() -> None:
    named = set(re.findall(r"(?:^|[`(/ ])mininetes ([a-z][a-z-]+)", README, re.MULTILINE))
    assert {"up", "down", "exec", "probe", "agents", "kubeconfig"} <= named
    runner = CliRunner()
    for command in sorted(named - {"and"}):
        done = runner.invoke(cli, [command, "--help"])
        assert done.exit_code == 0, f"mininetes {command}: {done.output}"
