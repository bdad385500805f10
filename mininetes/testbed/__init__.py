"""A whole cluster: composes lab, network, fabric, pods and probes, and waits until it is ready."""
