"""Volumes as files below a pod's folder, and what is refused."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from mininetes.agents.kubelet import volumes
from mininetes.agents.kubelet.environment import ConfigError
from mininetes.agents.shim import pod_mounts

OBJECTS = {("configmaps", "m"): {"data": {"a": "1", "b": "2"}}, ("configmaps", "no"): None}
FOLDER = "/var/lib/kubelet/pods/u/volumes"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "node"
    monkeypatch.setattr(volumes, "node_path", lambda _, path: f"{root}{path}")
    return root


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


def test_modes_are_those_that_were_asked_for(root: Path) -> None:
    def modes(**wanted: Any) -> dict[str, int]:
        binds({"configMap": {"name": "m", **wanted}}, {"mountPath": "/x"})
        folder = root / FOLDER[1:] / "kubernetes.io~configmap/v"
        return {each.name: each.stat().st_mode & 0o777 for each in folder.iterdir()}

    assert modes() == {"a": 0o644, "b": 0o644}
    assert modes(defaultMode=0o755) == {"a": 0o755, "b": 0o755}
    items = [{"key": "a", "path": "a", "mode": 0o400}, {"key": "b", "path": "b"}]
    assert modes(defaultMode=0o700, items=items) == {"a": 0o400, "b": 0o700}


def test_what_a_sub_path_lacks_is_made(root: Path) -> None:
    ((source, _, _),) = binds({"emptyDir": {}}, {"mountPath": "/x", "subPath": "a/b"})
    assert source == f"{FOLDER}/kubernetes.io~empty-dir/v/a/b"
    assert Path(f"{root}{source}").is_dir()


@pytest.mark.parametrize("kind", ["", "DirectoryOrCreate", "FileOrCreate"])
def test_what_a_host_path_lacks_is_made_where_the_node_has_its_own_files(kind: str, root: Path) -> None:
    (root / "var/log").mkdir(parents=True)
    ((source, _, _),) = binds({"hostPath": {"path": "/var/log/new", "type": kind}}, {"mountPath": "/x"})
    assert source == "/var/log/new"
    made = root / "var/log/new"
    assert made.is_file() if kind == "FileOrCreate" else made.is_dir()
    assert not Path("/var/log/new").exists()


def test_what_lies_in_the_run_folder_of_a_node_is_given_as_the_lab_has_it(root: Path) -> None:
    found = binds({"hostPath": {"path": "/run/new"}}, {"mountPath": "/x"}, {"mountPath": "/y", "subPath": "sub"})
    assert found == [(f"{root}/run/new", "/x", False), (f"{root}/run/new/sub", "/y", False)]
    assert (root / "run/new/sub").is_dir()


@pytest.mark.parametrize("kind", ["", "DirectoryOrCreate", "FileOrCreate"])
def test_nothing_is_made_on_the_host(kind: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing"  # not below the node's own files
    with pytest.raises(ConfigError, match="does not exist, and is not made: it would be on the host") as refused:
        binds({"hostPath": {"path": str(missing), "type": kind}}, {"mountPath": "/x"})
    assert str(refused.value).startswith(f'MountVolume.SetUp failed for volume "v" : {missing} does not exist')
    assert not missing.exists()


def test_types_of_host_paths_are_checked(tmp_path: Path) -> None:
    folder, file, sock = tmp_path, tmp_path / "file", tmp_path / "socket"
    file.write_text("x")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(sock))
    good = {"Directory": folder, "File": file, "Socket": sock, "CharDevice": Path("/dev/null")}
    for kind, path in {**good, "DirectoryOrCreate": folder, "FileOrCreate": file}.items():
        assert binds({"hostPath": {"path": str(path), "type": kind}}, {"mountPath": "/x"}) == [(str(path), "/x", False)]
    wrong = {
        "Directory": (file, "a directory"),
        "DirectoryOrCreate": (file, "a directory"),
        "File": (folder, "a file"),
        "FileOrCreate": (folder, "a file"),
        "Socket": (file, "a socket file"),
        "CharDevice": (file, "a character device"),
        "BlockDevice": (tmp_path / "none", "a block device"),
    }
    for kind, (path, what) in wrong.items():
        with pytest.raises(ConfigError) as refused:
            binds({"hostPath": {"path": str(path), "type": kind}}, {"mountPath": "/x"})
        said = f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {path} is not {what}'
        assert str(refused.value) == said
    with pytest.raises(ConfigError, match="Odd is an invalid volume type"):
        binds({"hostPath": {"path": str(file), "type": "Odd"}}, {"mountPath": "/x"})


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


@pytest.mark.parametrize(
    "folder", ["/", "/optdata", "/etcetera", "/var/library", "/var", "/usr", "/opt/.host/var/lib/x"]
)
def test_folders_of_the_host_are_told_from_those_of_the_lab(folder: str) -> None:
    assert not pod_mounts._is_of_the_lab(folder)
    assert all(pod_mounts._is_of_the_lab(each) for each in ("/opt", "/opt/x", "/var/lib/x", "/run/x"))
