"""Label and field selectors."""

from __future__ import annotations

from typing import Any

import pytest

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.resources import by_name
from mininetes.apiserver.selectors import FieldSelector, LabelSelector

LABELS = {"app": "web", "tier": "front", "n": "5", "empty": "", "example.com/x": "y"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        (" app = web ", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("other!=x", True),
        ("other=x", False),
        ("app", True),
        ("other", False),
        ("!other", True),
        ("!app", False),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db,x)", True),
        ("app notin (web)", False),
        ("other notin (x)", True),
        ("other in (x)", False),
        ("n>4", True),
        ("n>5", False),
        ("n<6", True),
        ("n<5", False),
        ("app>1", False),
        ("empty=", True),
        ("empty!=", False),
        ("empty in (,a)", True),
        ("example.com/x=y", True),
        ("app=web,tier=front,!other", True),
        ("app=web,tier=back", False),
    ],
)
def test_label_selectors(text: str, matches: bool) -> None:
    assert LabelSelector.parse(text).matches(LABELS) is matches


def test_labels_that_are_not_there_are_none() -> None:
    assert LabelSelector.parse("!a").matches(None)
    assert not LabelSelector.parse("a").matches(None)


@pytest.mark.parametrize(
    "text", ["a=b c", "a in b", "a in (b", "=a", "a,,b", "a,", "a=b=c", "a>x", "-a=b", "a=-b", "a in (b c)", "!", "a b"]
)
def test_label_selectors_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ApiError, match="unable to parse requirement") as refused:
        LabelSelector.parse(text)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "db"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}, False),
    ],
)
def test_selectors_of_specs(selector: dict[str, Any] | None, matches: bool) -> None:
    assert LabelSelector.of(selector).matches(LABELS) is matches


def test_a_selector_as_text_can_be_read_again() -> None:
    selector = {
        "matchLabels": {"b": "1", "a": "2"},
        "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["y", "x"]},
            {"key": "d", "operator": "DoesNotExist"},
            {"key": "e", "operator": "Exists"},
            {"key": "f", "operator": "NotIn", "values": ["z"]},
        ],
    }
    text = str(LabelSelector.of(selector))
    assert text == "a=2,b=1,c in (x,y),!d,e,f notin (z)"
    assert str(LabelSelector.parse(text)) == text


POD = {
    "metadata": {"name": "a", "namespace": "default"},
    "spec": {"nodeName": "node1", "hostNetwork": True},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=a", True),
        ("metadata.name==b", False),
        ("metadata.namespace!=kube-system", True),
        ("spec.nodeName=node1,status.phase!=Failed,status.phase!=Succeeded", True),
        ("spec.nodeName=", False),
        ("spec.hostNetwork=true", True),
        ("status.podIP=", True),
        ("status.nominatedNodeName!=x", True),
    ],
)
def test_field_selectors(text: str, matches: bool) -> None:
    assert FieldSelector.parse(text, by_name("pods")).matches(POD) is matches


def test_what_is_not_set_counts_as_kubernetes_counts_it() -> None:
    assert FieldSelector.parse("spec.unschedulable=false", by_name("nodes")).matches({"metadata": {}, "spec": {}})
    assert FieldSelector.parse("source=kubelet", by_name("events")).matches({"source": {"component": "kubelet"}})


def test_values_with_commas_are_written_with_backslashes() -> None:
    selector = FieldSelector.parse(r"metadata.name=a\,b", by_name("pods"))
    assert selector.matches({"metadata": {"name": "a,b"}})


def test_the_name_that_is_asked_for_can_be_told() -> None:
    selector = FieldSelector.parse("metadata.name=a,spec.nodeName!=b", by_name("pods"))
    assert selector.value_of("metadata.name") == "a"
    assert selector.value_of("spec.nodeName") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spec.image=x", "field label not supported: spec.image"),
        ("metadata.labels.app=x", "field label not supported: metadata.labels.app"),
        ("metadata.name", "invalid selector"),
        ("metadata.name=a=b", "invalid selector"),
        (",", "invalid selector"),
    ],
)
def test_field_selectors_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        FieldSelector.parse(text, by_name("pods"))
    assert refused.value.code == 400
