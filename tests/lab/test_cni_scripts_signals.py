"""A signal at any point of an ADD in bash-host-local: what was taken is given back, or the ADD succeeds."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sandbox import Sandbox
from test_cni_scripts import BRIDGE, STORE, Node, merged

# What bash reads before a script: TERM comes at the STEPth command of host-local's functions.
STEPS = """
STEPS=0
[[ $0 != */bash-* ]] || { set -o functrace; trap 'step' DEBUG; }
step() { [[ ${FUNCNAME[1]-} != host_local_@(main|add|take) ]] || ((++STEPS != STEP)) || kill -TERM $$; }
"""
MOST_STEPS = 200


@pytest.fixture
def node() -> Iterator[Node]:
    with Sandbox() as sandbox:
        yield Node(sandbox)


@pytest.mark.parametrize("plugin", ["bash-host-local", "bash-bridge"])
def test_a_signal_at_any_step_leaves_no_address_taken(node: Node, plugin: str) -> None:
    box = node.sandbox
    box.netns("web")
    box.sh(f"cat >/run/steps.bash <<'E'\n{STEPS}E\n mkdir -p {STORE}; printf 'other\\r\\neth0' >{STORE}/10.244.1.2")
    configuration = merged(BRIDGE, {"ipam.ranges": [[{"subnet": "10.244.1.0/24"}]]})
    alone = plugin == "bash-host-local"
    ended = 0
    for step in range(1, MOST_STEPS):
        done = node.call("ADD", "web", configuration, alone, BASH_ENV="/run/steps.bash", STEP=str(step))
        if done.returncode == 0:
            assert json.loads(done.stdout)["ips"][0]["address"] == "10.244.1.3/24"
            assert node.store() == ["10.244.1.2", "10.244.1.3"]
            break
        ended += 1
        assert done.returncode in (-15, 143), (step, done)
        assert (node.store(), box.links() - {"cni0"}) == (["10.244.1.2"], set()), (step, done)
        box.sh(f"rm -f {STORE}/last_reserved_ip.0")
    assert 10 < ended < MOST_STEPS - 1
