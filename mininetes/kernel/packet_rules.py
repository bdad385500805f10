"""Chains of iptables that belong to a desired state: read, and written in one transaction for each table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mininetes.kernel.netstate import Chain, jumps_gone
from mininetes.kernel.processes import HERE, Namespaces, run

Backend = Literal["nft", "legacy"]
Place = tuple[str, str]
"""A chain, by table and name."""


@dataclass(frozen=True)
class Iptables:
    """The iptables of a node. ``backend`` picks iptables-nft or iptables-legacy; None is the system's."""

    where: Namespaces = HERE
    backend: Backend | None = None

    def rules(self, places: Iterable[Place]) -> dict[Place, tuple[str, ...]]:
        """The rules of these chains, as iptables-save prints them behind ``-A CHAIN``; chains that are missing are not.

        Blocks. Raises FileNotFoundError without iptables.
        """
        found = {}
        for table, chain in sorted(set(places)):
            done = run(self._argv(None, "-t", table, "-S", chain), namespaces=self.where, check=False)
            if done.status == 0:
                start = f"-A {chain} "
                found[table, chain] = tuple(
                    line.removeprefix(start).rstrip() for line in done.stdout.splitlines() if line.startswith(start)
                )
        return found

    def restore(self, text: str) -> None:
        """Have iptables-restore carry a text out, leaving all other chains alone. Blocks. Raises ProcessFailed."""
        run(self.restore_argv, namespaces=self.where, stdin=text)

    @property
    def restore_argv(self) -> list[str]:
        """What `restore` runs."""
        return self._argv("restore", "--noflush")

    def _argv(self, program: str | None, *arguments: str) -> list[str]:
        name = "-".join(word for word in ("iptables", self.backend, program) if word)
        return [name, "-w", "5", *arguments]


def restore_text(
    desired: Iterable[Chain], previous: Iterable[Chain], found: Mapping[Place, tuple[str, ...]]
) -> dict[str, str]:
    """What makes the chains as desired and takes those away that are no longer; by table. Pure."""
    tables: dict[str, list[str]] = {}
    wanted = {(chain.table, chain.name): chain for chain in sorted(desired)}
    for place, chain in wanted.items():
        lines = tables.setdefault(chain.table, [])
        if found.get(place) != chain.rules:
            lines.append(f":{chain.name} - [0:0]")
            lines += [f"-A {chain.name} {rule}" for rule in chain.rules]
        lines += [
            f"-A {where} {rule}" for where, rule in chain.jumps if rule not in found.get((chain.table, where), ())
        ]
    for chain in sorted(previous):
        if (chain.table, chain.name) in wanted:
            lines = tables.setdefault(chain.table, [])
            for where, rule in jumps_gone(chain, wanted.values()):
                lines += [f"-D {where} {rule}" for each in found.get((chain.table, where), ()) if each == rule]
            continue
        if (chain.table, chain.name) not in found:
            continue
        lines = tables.setdefault(chain.table, [])
        for where, rule in chain.jumps:
            lines += [f"-D {where} {rule}" for each in found.get((chain.table, where), ()) if each == rule]
        lines += [f":{chain.name} - [0:0]", f"-X {chain.name}"]
    return {
        table: "\n".join([f"*{table}", *(line for line in lines if line.startswith(":")),
                          *(line for line in lines if not line.startswith(":")), "COMMIT", ""])
        for table, lines in tables.items() if lines
    }  # fmt: skip
