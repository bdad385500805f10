"""Asking one address from some places of a running cluster: for tests of people's own, over the control socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mininetes.errors import BadInput, one_of
from mininetes.probes.service_asking import Asking, AskOptions, ask_all

if TYPE_CHECKING:
    from mininetes.testbed.testbed import Testbed

_MOST_TIMES = 1000


async def ask_service(testbed: Testbed, request: dict[str, Any]) -> dict[str, Any]:
    """Connect ``times`` times from each of ``sources`` (nodes, ``pod/NAME``, clients); says what was heard.

    Raises BadInput for an unknown source or a number that cannot be.
    """
    if not 1 <= request["times"] <= _MOST_TIMES:
        raise BadInput("times", request["times"], f"1 to {_MOST_TIMES}")
    options = AskOptions(timeout_s=request["timeout_s"])
    places = {each.name: each for each in testbed.vantages()}
    for source in request["sources"]:
        if source not in places:
            raise BadInput("source", source, one_of(places, source))
    where = (request["address"], request["port"], request["protocol"], request["times"])
    heard = await ask_all(
        [Asking(places[source].netns, *where, one_by_one=False) for source in request["sources"]], options
    )
    return {
        "heard": [
            {
                "source": source,
                "replies": dict(each.replies),
                "seen": [[pod, client, times] for (pod, client), times in sorted(each.seen.items())],
            }
            for source, each in zip(request["sources"], heard, strict=True)
        ]
    }
