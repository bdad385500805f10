"""Mininet's command line on a running cluster, in a process of its own inside the lab.

``python -m mininetes.testbed.mininet_cli``; reads commands from standard input. Its Mininet objects
are made from the same description as the engine's, on the namespaces that are there, so that
``node1 ip route``, ``pingall``, ``link node1 s1 down`` or ``py net`` work as ever. Leaving it
changes nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings

warnings.filterwarnings("ignore", category=DeprecationWarning)  # Mininet imports distutils

from mininet.cli import CLI  # noqa: E402
from mininet.log import setLogLevel  # noqa: E402

from mininetes import parts  # noqa: E402
from mininetes.cluster.net import ClusterNet  # noqa: E402
from mininetes.errors import MininetesError  # noqa: E402
from mininetes.spec import ClusterSpec  # noqa: E402
from mininetes.testbed.blueprint import draw  # noqa: E402
from mininetes.testbed.blueprint_changes import with_node, without_node  # noqa: E402
from mininetes.testbed.testbed import ATTACH_FILE  # noqa: E402


def attach() -> ClusterNet:
    """The running cluster as a Mininet network; changes nothing in the kernel.

    Raises OSError outside a lab, BadInput when a part of the lab is gone.
    """
    with open(ATTACH_FILE) as file:
        facts = json.load(file)
    parts.use_of_lab(facts["spec"]["name"], facts["parts"], facts["files"])
    blueprint = draw(ClusterSpec.model_validate(facts["spec"]))
    holders = facts["holders"]
    net = ClusterNet(blueprint.topo, blueprint.underlay, {name: holders[name] for name in blueprint.underlay.hosts})
    for change, node in facts["changes"]:
        if change == "join":
            joining = with_node(blueprint, node)
            net.register(joining.host, joining.cable, holders[node])
            blueprint = joining.blueprint
        else:
            net.unregister(node)
            blueprint = without_node(blueprint, node)
    return net


def main() -> None:
    """Run the command line until ``exit`` or the end of standard input."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by those who started us
    if not sys.stdin.isatty():  # a host's shell has a terminal even then, on which ip of Debian 13 prints in colours
        os.environ.setdefault("NO_COLOR", "1")
    setLogLevel("info")
    try:
        net = attach()
    except MininetesError as failed:
        print(f"mininetes: {failed}", file=sys.stderr)
        sys.exit(failed.exit_status)
    CLI(net, stdin=sys.stdin)
    net.stop()


if __name__ == "__main__":
    main()
