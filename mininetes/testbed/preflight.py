"""From a description to an engine's configuration: the checks that come before anything is built."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mininetes import parts
from mininetes.agents.cni.plugin_values import kernel_features, kind_on_the_wire
from mininetes.agents.kubeproxy.compiling import mode_like, placed
from mininetes.agents.kubeproxy.preconditions import needed_features
from mininetes.errors import MissingFeature
from mininetes.kernel import features
from mininetes.kernel.feature_table import PROGRAMS
from mininetes.spec import ClusterSpec
from mininetes.testbed import proxying
from mininetes.testbed.blueprint import Blueprint, draw
from mininetes.testbed.networks import NEEDED, ground_of
from mininetes.testbed.networks_catalogue import Catalogue, declared


def checked(spec: ClusterSpec) -> Blueprint:
    """Draw the blueprint, and see that the kernel has what it needs. Raises BadInput or MissingFeature."""
    blueprint, catalogue = _drawn(spec)
    _require_features(blueprint, catalogue)
    return blueprint


def lacking(spec: ClusterSpec) -> tuple[Blueprint, MissingFeature | None]:
    """The blueprint, and what this machine lacks of all that `mininetes up` needs for it. Raises BadInput.

    Tries it, as `require_agents_features` does.
    """
    blueprint, catalogue = _drawn(spec)
    try:
        _require_features(blueprint, catalogue)
        require_agents_features(blueprint.spec)
    except MissingFeature as missing:
        return blueprint, missing
    return blueprint, None


def _drawn(spec: ClusterSpec) -> tuple[Blueprint, Catalogue]:
    blueprint = draw(spec)
    return blueprint, declared(spec.networks, spec.containers, ground_of(blueprint))


def _require_features(blueprint: Blueprint, catalogue: Catalogue) -> None:
    absent = [program.name for program in PROGRAMS if program.required and shutil.which(program.name) is None]
    if absent:
        features.require(absent)
    if not Path("/proc/sys/net/bridge").exists():
        features.require(["br_netfilter"])
    if blueprint.underlay.needs_netem:
        features.require(["netem"])
    if any(cable.shape.bw is not None for cable in blueprint.underlay.cables):
        features.require(["htb"])
    if any(state.links for state in blueprint.states.values()) or blueprint.fabric.is_weave:
        features.require(["vxlan"])
    if needed := kernel_features(blueprint.cni):
        features.require(needed)
    if of_networks := {NEEDED[each.driver] for each in catalogue.networks if each.driver in NEEDED}:
        features.require(of_networks)


def notes(blueprint: Blueprint) -> list[str]:
    """What of a description is valid and yet may not do what somebody expects of it."""
    spec, fabric = blueprint.spec, blueprint.fabric
    found = []
    if not spec.masters and fabric.agent and not fabric.is_weave:
        found.append(
            f"without a control plane no {fabric.agent} runs: fabric {spec.fabric.title} is set up once, and what "
            "somebody changes of it is shown by status and not repaired"
        )
    if spec.masters and (kind := kind_on_the_wire(blueprint.cni)):
        found.append(
            f"cni {spec.cni} has pods on the nodes' wire by {kind}, where they reach each other alone: no node, no "
            "service, nothing outside; no node reaches them: probes of kubelets fail (coredns stays unready, and is "
            "not waited for)"
        )
    return found


def require_agents_features(spec: ClusterSpec) -> None:
    """See that the machine has what the control plane and the agents need, by trying it: about 50 ms.

    To be called before something is built; what only describes a cluster need not. Raises MissingFeature.
    """
    if not spec.masters:
        return
    try:
        features.require(_agents_features(spec))
    except MissingFeature:
        features.require(["sandbox of namespaces"])  # without it no trial can succeed: then that is to be named
        raise


def _agents_features(spec: ClusterSpec) -> list[str]:
    needed = [] if spec.proxy.exec else needed_features(mode_like(proxying.proxy_mode(spec)), spec.proxy.backend)
    needed += ["catatonit"] if spec.pods.hold == "pause" else []
    needed += ["etcd"] if spec.control_plane.store == "etcd" else []
    return needed + (["nftables"] if spec.firewall == "kubernetes" else [])


def engine_config(spec: ClusterSpec, **more: Any) -> dict[str, Any]:
    """What the engine of this cluster is started with: parts by absolute paths, as it has another working directory."""
    dumped = spec.model_dump(mode="json", by_alias=True)
    dumped["cni"] = parts.absolute(spec.cni)
    dumped["proxy"]["mode"] = placed(spec.proxy.mode, "spec.proxy.mode") if spec.proxy.mode else ""
    for kind in ("underlay", "fabric"):
        if dumped[kind] is not None:
            dumped[kind]["name"] = parts.absolute(dumped[kind]["name"])
    if spec.fabric.exec:
        dumped["fabric"]["exec"][0] = parts.absolute_program(spec.fabric.exec[0])
    if spec.proxy.exec:
        dumped["proxy"]["exec"][0] = parts.absolute_program(spec.proxy.exec[0])
    return {
        "spec": dumped,
        "neighbour_limit": neighbour_limit(),
        "parts": [str(Path(folder)) for folder in parts.used()],
        "summary": {"nodes": len(spec.nodes), "underlay": spec.underlay_name, "fabric": spec.fabric.title},
        **more,
    }


def neighbour_limit() -> int:
    """How many neighbours the kernel remembers, for all namespaces together; its default inside a container."""
    try:
        return int(Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3").read_text())
    except OSError:
        return 1024
