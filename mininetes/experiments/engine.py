"""The engine of `mininetes run`: one cell of an experiment, on a cluster of its own, inside its lab."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from mininetes.experiments import definition, results
from mininetes.experiments.lab import Lab
from mininetes.testbed.engine import Reporter, run_engine
from mininetes.testbed.testbed import Testbed


def main(config: Mapping[str, Any], channel: socket.socket) -> int:
    """Bring the cell's cluster up, run the experiment, write its rows; status 1 when an expectation failed."""

    async def work(testbed: Testbed, reporter: Reporter) -> int:
        reporter.say(ready=testbed.ready_s)
        experiment = definition.load(config["experiment"])
        lab = Lab(testbed)
        measured = await experiment.run(lab, config["cell"])
        rows = [results.Row(experiment.name, config["cell"], config["repetition"], each) for each in measured]
        results.append_to(config["fds"]["rows"], rows)
        reporter.say(rows=len(rows), parts=dict(testbed.blueprint.hashes), holds=lab.holds)
        return 0 if lab.holds else 1

    return run_engine(config, channel, work)
