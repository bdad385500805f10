"""What the engine asks of the kernel: namespaces, netlink, processes, desired state, features."""
