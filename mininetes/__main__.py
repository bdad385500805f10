"""``python -m mininetes``: the same as the command `mininetes`."""

from mininetes.cli import main

main()
