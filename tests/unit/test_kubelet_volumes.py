"""Volumes as files below a pod's folder, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mininetes.agents.kubelet import volumes
from mininetes.agents.kubelet.environment import ConfigError

OBJECTS = {("configmaps", "m"): {"data": {"a": "1", "b": "2"}}, ("configmaps", "no"): None}
FOLDER = "/var/lib/kubelet/pods/u/volumes"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(volumes, "node_path", lambda _, path: f"{tmp_path}{path}")
    return tmp_path


def binds(volume: dict[str, Any], *mounts: dict[str, Any]) -> list[volumes.Bind]:
    pod = {
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {
            "containers": [{"name": "c", "volumeMounts": [{"name": "v", **mount} for mount in mounts]}],
            "volumes": [{"name": "v", **volume}],
        },
    }
    assert volumes.are_wanted(pod)
    return volumes.prepare("node1", pod, OBJECTS)


def test_a_config_map_becomes_files(root: Path) -> None:
    source = f"{FOLDER}/kubernetes.io~configmap/v"
    found = binds({"configMap": {"name": "m"}}, {"mountPath": "/etc/app/"}, {"mountPath": "/x", "subPath": "a"})
    assert found == [(source, "/etc/app", True), (f"{source}/a", "/x", True)]
    assert {each.name: each.read_text() for each in Path(f"{root}{source}").iterdir()} == {"a": "1", "b": "2"}


def test_items_choose_keys_and_names(root: Path) -> None:
    binds({"configMap": {"name": "m", "items": [{"key": "a", "path": "d/e"}]}}, {"mountPath": "/x"})
    assert (Path(f"{root}{FOLDER}") / "kubernetes.io~configmap/v/d/e").read_text() == "1"


def test_folders_of_the_node_and_empty_ones(root: Path) -> None:
    assert binds({"hostPath": {"path": "/srv"}}, {"mountPath": "/x", "readOnly": True}) == [("/srv", "/x", True)]
    ((source, _, read_only),) = binds({"emptyDir": {}}, {"mountPath": "/x"})
    assert Path(f"{root}{source}").is_dir()
    assert not read_only


@pytest.mark.parametrize(
    ("volume", "mount", "text"),
    [
        ({"configMap": {"name": "no"}}, {}, 'configmap "no" not found'),
        ({"configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}}, {}, 'configmap "m" has no key "z"'),
        ({"configMap": {"name": "m", "items": [{"key": "a", "path": "../../z"}]}}, {}, "leads out of the volume"),
        ({"emptyDir": {}}, {"subPath": "../x"}, 'subPath "../x" leads out of volume "v"'),
        ({"nfs": {"server": "s"}}, {}, 'volume "v" is nfs: the volumes known here are configMap, secret'),
        ({"emptyDir": {}}, {"name": "w"}, 'there is no volume "w"'),
    ],
)
def test_what_cannot_be_had_is_named(volume: dict[str, Any], mount: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        binds(volume, {"mountPath": "/x", **mount})
    assert text in str(refused.value)


def test_an_optional_one_may_be_missing() -> None:
    assert len(binds({"configMap": {"name": "no", "optional": True}}, {"mountPath": "/x"})) == 1


def test_the_credentials_that_kubernetes_adds_are_left_out() -> None:
    mount = {"name": "kube-api-access-x", "mountPath": "/var/run/secrets"}
    assert not volumes.are_wanted({"spec": {"containers": [{"name": "c", "volumeMounts": [mount]}]}})
