"""An iptables-restore text in parts, for kernels that take no more at a time."""

from __future__ import annotations

from mininetes.agents.kubeproxy.restoring import RestoreFailed, parts_of

RULES = [f"-A KUBE-SERVICES -d 10.96.0.{n}/32 -j KUBE-SVC-{n}" for n in range(250)]
CHAIN = ":KUBE-SERVICES - [0:0]"
TEXT = "\n".join(["*filter", CHAIN, "COMMIT", "*nat", CHAIN, *RULES, "COMMIT", ""])


def test_all_lines_are_there_once_in_their_tables_and_in_order() -> None:
    parts = list(parts_of(TEXT))
    tables: dict[str, list[str]] = {}
    for part in parts:
        head, *lines, end = part.splitlines()
        assert end == "COMMIT"
        assert 0 < len(lines) <= 100
        tables.setdefault(head, []).extend(lines)
    assert tables == {"*filter": [CHAIN], "*nat": [CHAIN, *RULES]}
    assert len(parts) == 4


def test_a_table_without_a_line_is_no_part() -> None:
    assert list(parts_of("*nat\nCOMMIT\n")) == []


def test_what_is_too_long_is_told_from_what_is_wrong() -> None:
    assert RestoreFailed("iptables-nft-restore", "sendmsg() failed: Message too long", 0, "").is_too_long
    assert not RestoreFailed("iptables-nft-restore", "line 3 failed: No such file", 3, "-A X").is_too_long
