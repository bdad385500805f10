"""Messages made from a template are those that pyroute2 would encode."""

from __future__ import annotations

import pytest

from mininetes.kernel import rtnl


@pytest.mark.parametrize("destination", ["10.244.2.0/24", "1.2.3.3/32", "2.0.0.0/8", "3.3.3.3/32", "1.1.1.1/32"])
@pytest.mark.parametrize("gateway", ["192.168.1.12", "1.1.1.1", "2.2.2.2", "3.3.3.3"])
@pytest.mark.parametrize("index", [2, 1000, 0x01010101, 0x02020202])
def test_a_route_from_the_template_is_the_one_that_pyroute2_encodes(destination: str, gateway: str, index: int) -> None:
    text, _, prefix = destination.partition("/")
    body = rtnl._route_head(int(prefix))
    body["scope"] = rtnl.RT_SCOPE_UNIVERSE
    body["attrs"] = [("RTA_DST", text), ("RTA_GATEWAY", gateway), ("RTA_OIF", index)]
    body["header"] = {"type": rtnl.RTM_NEWROUTE, "flags": 0, "sequence_number": 0, "pid": 0}
    body.encode()
    assert rtnl.route(destination, [(gateway, index)]).body == bytes(body.data)[16:]
