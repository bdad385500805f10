"""The controller manager: the loops that make the cluster what its objects say, as kube-controller-manager's do."""

from mininetes.agents.controllers.agent import ControllerManager
from mininetes.agents.controllers.settings import ControllerSettings

__all__ = ["ControllerManager", "ControllerSettings"]
