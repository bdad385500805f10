"""The command line: thin commands over the layers below. ``main`` is the entry of `mininetes` and `mn8s`."""

from mininetes.cli.main import main

__all__ = ["main"]
