"""What `apply` sends, by what was applied before."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from mininetes.apiserver.patches import apply_patch
from mininetes.apiserver.resources import by_kind
from mininetes.cli.applying import LAST_APPLIED, patch_to, remembering

POD = by_kind("v1", "Pod")


def config(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


def pod(*names: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    containers = [{"name": name, "image": "x", "ports": [{"containerPort": 80}]} for name in names]
    metadata = {"name": "p", **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (config(a="b"), config(c="d")),
        (config(a="b", c="d"), config(a="e")),
        (pod("one", "two"), pod("two")),
        (pod("one"), pod("one", "two")),
        (pod("one", labels={"a": "b", "c": "d"}), pod("one", labels={"c": "e"})),
        (pod("one", labels={"a": "b"}), pod("one")),
    ],
)
def test_what_a_manifest_no_longer_has_goes(before: dict[str, Any], now: dict[str, Any]) -> None:
    kind = by_kind(now["apiVersion"], now["kind"])
    there = remembering(before)
    there["status"] = {"set": "by the server"}
    patch = patch_to(remembering(now), there)
    after = apply_patch("application/strategic-merge-patch+json", kind, there, orjson.dumps(patch))
    assert after.pop("status") == {"set": "by the server"}
    annotations = after["metadata"].pop("annotations")
    assert list(annotations) == [LAST_APPLIED]
    assert {k: v for k, v in after.items() if v} == now


def test_what_others_added_stays() -> None:
    there = remembering(pod("one"))
    there["spec"]["nodeName"] = "node1"
    there["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    patch = patch_to(remembering(pod("one")), there)
    after = apply_patch("application/strategic-merge-patch+json", POD, there, orjson.dumps(patch))
    assert after == there


def test_an_object_that_was_not_applied_is_laid_over() -> None:
    wanted = remembering(config(c="d"))
    assert patch_to(wanted, config(a="b")) == wanted
