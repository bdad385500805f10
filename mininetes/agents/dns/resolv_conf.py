"""What a pod's /etc/resolv.conf says, by its dnsPolicy and dnsConfig. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mininetes.errors import BadInput

NDOTS = 5
MAX_NAMESERVERS = 3
MAX_SEARCHES = 32


def resolv_conf(pod: Mapping[str, Any], *, cluster_dns: str = "", domain: str = "cluster.local", node: str = "") -> str:
    """The text of a pod's resolv.conf.

    ``cluster_dns`` is the address of kube-dns (empty when the cluster has no DNS: ClusterFirst is
    then as Default), ``node`` the text of the node's own resolv.conf (for dnsPolicy Default, and for
    ClusterFirst on the host's network). Values of dnsConfig come after (nameservers, searches) or
    over (options) those of the policy; doubles are left out; no more than Kubernetes' 3 nameservers
    and 32 searches. Raises BadInput for a policy that there is not, or None without a nameserver.
    """
    spec = pod.get("spec") or {}
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    base = _Resolver()
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
        if cluster_dns and not (policy == "ClusterFirst" and spec.get("hostNetwork")):
            namespace = (pod.get("metadata") or {}).get("namespace") or "default"
            searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain]
            base = _Resolver([cluster_dns], searches, {"ndots": str(NDOTS)})
        else:
            base = _Resolver.parse(node)
    elif policy == "Default":
        base = _Resolver.parse(node)
    elif policy != "None":
        raise BadInput("spec.dnsPolicy", policy, "one of ClusterFirst, ClusterFirstWithHostNet, Default, None")
    base.add(spec.get("dnsConfig") or {})
    if policy == "None" and not base.nameservers:
        raise BadInput("spec.dnsConfig.nameservers", None, "at least one nameserver when dnsPolicy is None")
    return base.text()


class _Resolver:
    """The settings of a resolver; an option without a value has None."""

    def __init__(
        self,
        nameservers: list[str] | None = None,
        searches: list[str] | None = None,
        options: dict[str, str | None] | None = None,
    ) -> None:
        self.nameservers = nameservers or []
        self.searches = searches or []
        self.options: dict[str, str | None] = dict(options or {})

    @classmethod
    def parse(cls, text: str) -> _Resolver:
        """Read a resolv.conf (resolv.conf(5)): of several search lines the last counts."""
        found = cls()
        for line in text.splitlines():
            words = line.split("#")[0].split(";")[0].split()
            match words:
                case ["nameserver", address, *_]:
                    found.nameservers.append(address)
                case ["search" | "domain", *names]:
                    found.searches = names
                case ["options", *options]:
                    for option in options:
                        name, colon, value = option.partition(":")
                        found.options[name] = value if colon else None
        return found

    def add(self, config: Mapping[str, Any]) -> None:
        """Put a pod's dnsConfig in."""
        self.nameservers = _without_doubles([*self.nameservers, *(config.get("nameservers") or ())])
        self.searches = _without_doubles([*self.searches, *(config.get("searches") or ())])
        for option in config.get("options") or ():
            self.options[str(option["name"])] = option.get("value")

    def text(self) -> str:
        """As a file, within the limits."""
        lines = []
        if self.searches:
            lines.append("search " + " ".join(self.searches[:MAX_SEARCHES]))
        lines += [f"nameserver {address}" for address in self.nameservers[:MAX_NAMESERVERS]]
        if self.options:
            shown = (name if value is None else f"{name}:{value}" for name, value in self.options.items())
            lines.append("options " + " ".join(shown))
        return "\n".join(lines) + "\n"


def _without_doubles(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))
