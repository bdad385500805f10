"""A stand-in for a kube-proxy binary: lists what there is through its kubeconfig again and again, and writes rules.

outside_kube_proxy.py [--proxy-mode MODE] [--defect no-hairpin|no-affinity]    KUBECONFIG and NODE_NAME are given

It writes what our compilers say, so that what differs from them is the defect alone; it takes nothing away at its end.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
import os
import ssl
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))

from mininetes.agents.kubeproxy.compiling import compiler
from mininetes.agents.kubeproxy.configuration import kube_proxy_config
from mininetes.agents.kubeproxy.iptables_applier import IptablesApplier
from mininetes.agents.kubeproxy.nftables_applier import NftablesApplier
from mininetes.agents.kubeproxy.restoring import NodeTools
from mininetes.agents.kubeproxy.services import key_of
from mininetes.agents.kubeproxy.view_builder import ViewBuilder, node_facts
from mininetes.kernel.features import complete_path
from mininetes.kernel.processes import Namespaces

PATHS = ("/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices", "/api/v1/nodes")
LOOK_S = 0.2


class Api:
    """Lists by path, as the kubeconfig has it."""

    def __init__(self) -> None:
        facts = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        cluster, user = facts["clusters"][0]["cluster"], facts["users"][0]["user"]
        self._server, self._token = cluster["server"], user["token"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)

    def items(self, path: str) -> list[dict[str, Any]]:
        asked = urllib.request.Request(self._server + path, headers={"Authorization": f"Bearer {self._token}"})
        with urllib.request.urlopen(asked, timeout=5, context=self._tls) as answer:
            found: list[dict[str, Any]] = json.load(answer)["items"]
        return found


def defective(defect: str, obj: dict[str, Any]) -> dict[str, Any]:
    """A service as one with that defect takes it."""
    if defect == "no-affinity" and "sessionAffinity" in obj["spec"]:
        return {**obj, "spec": {**obj["spec"], "sessionAffinity": "None"}}
    return obj


def rules(mode: Any, defect: str, lists: list[list[dict[str, Any]]]) -> Any:
    services, slices, nodes = lists
    (node,) = [each for each in nodes if each["metadata"]["name"] == os.environ["NODE_NAME"]]
    config = kube_proxy_config({"clusterCIDR": "10.244.0.0/16"})
    builder = ViewBuilder(node_facts(node), mode, config)
    for each in services:
        builder.set_service(key_of(each), defective(defect, each))
    for each in slices:
        builder.set_slice(key_of(each), each)
    builder.refresh()
    ruleset: Any = compiler(mode)(builder.view())
    if defect == "no-hairpin":
        chains = dict(ruleset.chains)
        for chain, lines in chains.items():
            if chain[1].startswith("KUBE-SEP-"):
                chains[chain] = tuple(line for line in lines if "KUBE-MARK-MASQ" not in line)
        ruleset = dataclasses.replace(ruleset, chains=chains)
    return ruleset


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--proxy-mode", default="iptables")
    options.add_argument("--defect", default="")
    options.add_argument("--fail", action="store_true")
    chosen = options.parse_args()
    if chosen.fail:
        print("this is the first line", "and here is why it does not work", sep="\n", flush=True)
        sys.exit(3)
    complete_path()
    tools = NodeTools(Namespaces())
    applier: Any = NftablesApplier(tools) if chosen.proxy_mode == "nftables" else IptablesApplier(tools)
    tools.run("iptables", "-t", "nat", "-N", "MY-OWN-CHAIN", check=False)
    api, last = Api(), None
    while True:
        lists = [api.items(path) for path in PATHS]
        seen = [[each["metadata"]["resourceVersion"] for each in found] for found in lists[:2]]
        if seen != last:
            applier.whole(rules(chosen.proxy_mode, chosen.defect, lists))
            print("rules written", flush=True)
            last = seen
        time.sleep(LOOK_S)


if __name__ == "__main__":
    main()
