"""Which of many filters have flows to forget, and which flows had no answer: found in one listing."""

from __future__ import annotations

import pytest

from mininetes.agents.kubeproxy.conntrack import there, unanswered

LISTING = """\
udp      17 27 src=10.244.1.2 dst=10.96.0.10 sport=4000 dport=53 src=10.244.2.3 dst=10.244.1.2 sport=53 dport=4000 mark=0 use=1
udp      17 1 src=203.0.113.2 dst=192.168.1.11 sport=5 dport=30053 [UNREPLIED] src=10.244.2.4 dst=192.168.1.11 sport=53 \
dport=5 mark=0 use=1
udp      17 9 something else
"""  # noqa: E501 - as conntrack prints it
SERVICE = ("--orig-dst", "10.96.0.10", "--orig-port-dst", "53")


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (SERVICE, True),
        ((*SERVICE, "--dst-nat", "10.244.2.3"), True),
        ((*SERVICE, "--dst-nat", "10.244.2.4"), False),
        (("--orig-dst", "10.96.0.10", "--orig-port-dst", "54"), False),
        (("--orig-dst", "10.96.0.11", "--orig-port-dst", "53"), False),
        (("--orig-port-dst", "30053"), True),
        (("--orig-port-dst", "30053", "--dst-nat", "10.244.2.4"), True),
        (("--orig-port-dst", "30053", "--dst-nat", "10.244.2.3"), False),
        (("--orig-port-dst", "4000"), False),  # of the reply only
    ],
)
def test_a_filter_passes_what_is_there(flow: tuple[str, ...], expected: bool) -> None:
    assert there([flow], LISTING) == ([flow] if expected else [])


def test_order_is_kept_and_nothing_is_there_in_an_empty_table() -> None:
    flows = [("--orig-port-dst", "30053"), SERVICE]
    assert there(flows, LISTING) == flows
    assert there(flows, "") == []


def test_what_had_no_answer_is_picked_by_all_of_its_original_direction() -> None:
    flow = ("-s", "203.0.113.2", "-d", "192.168.1.11", "--orig-port-src", "5", "--orig-port-dst", "30053")
    assert unanswered(LISTING) == [flow]
