"""``fabric: {exec: [...]}``: an outside program on each node carries the packets between them, and we plan nothing."""

from __future__ import annotations

import shutil
from types import ModuleType

from mininetes.errors import BadInput
from mininetes.kernel.netstate import NetState
from mininetes.spec_sections import FabricSpec
from mininetes.testbed.fabric import Fabric, FabricPlan, FabricView, fabric_of


def outside_fabric(spec: FabricSpec) -> Fabric:
    """A fabric with an empty plan. Its one parameter is pods' ``mtu``, which we cannot know. Raises BadInput."""
    module = ModuleType(spec.title)

    def plan(view: FabricView, mtu: int = 0) -> FabricPlan:
        return FabricPlan({host: NetState() for host in view.underlay.hosts}, mtu or view.mtu)

    module.plan = plan  # type: ignore[attr-defined]
    module.CONNECTS_NODES = True  # type: ignore[attr-defined]
    module.AGENT = module.__name__  # type: ignore[attr-defined]
    if shutil.which(spec.exec[0]) is None:
        raise BadInput("spec.fabric.exec", spec.exec[0], "a program that can be executed")
    return fabric_of(module, spec.title, spec.parameters)
