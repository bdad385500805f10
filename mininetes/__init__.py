"""Mininetes: Kubernetes cluster networking, emulated on one Linux kernel with Mininet."""

__version__ = "0.1.0"
