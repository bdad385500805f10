"""The scheduler: gives each pod without a node one, as kube-scheduler does with its default plugins."""

from mininetes.agents.scheduler.agent import Scheduler

__all__ = ["Scheduler"]
