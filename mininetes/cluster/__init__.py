"""The Mininet network of a cluster: nodes, routers, switches and links, and nothing of Kubernetes.

`underlay` reads a Topo into a plain description; `hosts` are Mininet's classes for what it
describes; `net` makes it real.
"""

import logging

import mininet.log  # noqa: F401 - makes Mininet's own class the one of all loggers that come after it

logging.setLoggerClass(logging.Logger)
