"""Figures from values: what is drawn, what it is called, and files that are the same for the same values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from mininetes.errors import BadInput
from mininetes.experiments import figures, grouping
from mininetes.experiments.figure_matrices import matrix_axes
from mininetes.experiments.figure_style import as_svg
from mininetes.experiments.results import Measurement, Row
from mininetes.experiments.statistics import Interval, Percentile

VALUES: figures.Table = {
    "iptables": {1000: [10.0, 11.0, 12.0], 10000: [50.0, 60.0, None]},
    "nftables": {1000: Interval(8, 7, 9), 10000: 8.5},
}
PUBLISHED = {"iptables": {1000: 20.0, 10000: 200.0}}


def names(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def drawn(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    return {str(each.get_label()): [tuple(at) for at in each.get_xydata()] for each in figure.axes[0].lines}


def row(cell: dict[str, Any], repetition: int, value: float | None, **labels: Any) -> Row:
    return Row("made", cell, repetition, Measurement("rtt_us", value, "us", labels))


def test_lines_are_medians_and_published_ones_are_beside_them() -> None:
    figure = figures.lines(VALUES, "A title", "services", "latency in us", published=PUBLISHED)
    assert names(figure) == ["iptables", "nftables", "iptables (published)"]
    assert drawn(figure) == {
        "iptables": [(1000, 11), (10000, 55)],
        "nftables": [(1000, 8), (10000, 8.5)],
        "iptables (published)": [(1000, 20), (10000, 200)],
    }
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_title(loc="left") == "A title"
    assert axes.get_ylim()[0] == 0
    assert [each.get_text() for each in axes.get_xticklabels()] == ["1,000", "10,000"]


def test_relative_lines_start_from_what_they_all_have() -> None:
    more: figures.Table = {**VALUES, "ipvs": {100: 3.0, 1000: 6.0}}
    lines = drawn(figures.lines(more, "", "services", "latency", published=PUBLISHED, relative=True))
    assert lines["iptables"] == [(1000, 1), (10000, 5)]
    assert lines["ipvs"] == [(100, 0.5), (1000, 1)]
    assert lines["iptables (published)"] == [(1000, 1), (10000, 10)]


def test_an_axis_is_logarithmic_only_where_it_can_be() -> None:
    zero: figures.Table = {"a": {0: 0.0, 10: 1.0}}
    axes = figures.lines(zero, "", "x", "y", log_x=True, log_y=True).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    axes = figures.lines(VALUES, "", "x", "y", log_y=True).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_bars_stand_beside_each_other_with_their_intervals() -> None:
    values: figures.Table = {"same node": {"static": [1.0, 2.0, 3.0], "vxlan": [4.0]}, "cross node": {"static": 5.0}}
    figure = figures.bars(values, "Title", "us", published={"cross node": {"static": 6.0}})
    axes = figure.axes[0]
    assert [each.get_height() for each in axes.patches] == [2, 4, 5]
    assert [each.get_text() for each in axes.get_xticklabels()] == ["static", "vxlan"]
    assert set(names(figure)) == {"same node", "cross node", "published"}
    assert drawn(figure)["published"] == [(pytest.approx(0.2), 6)]


def test_distributions_of_very_many_values_stay_small() -> None:
    figure = figures.distribution({"a": list(range(100_000)), "none": []}, "Title", "us")
    (curve,) = [each for each in figure.axes[0].lines if "median" in str(each.get_label())]
    assert "median 5e+04 µs, n = 100,000" in str(curve.get_label())
    assert len(curve.get_xydata()) <= 400
    assert len(as_svg(figure)) < 100_000


@pytest.mark.parametrize(
    "figure",
    [
        lambda: figures.lines({}, "", "", ""),
        lambda: figures.lines({"a": {1: [None]}}, "", "", ""),
        lambda: figures.bars({}, "", ""),
        lambda: figures.distribution({}, "", ""),
    ],
)
def test_where_nothing_was_measured_the_figure_says_so(figure: Any) -> None:
    assert "nothing was measured" in as_svg(figure())


def test_heat_maps_and_matrices_are_drawn_of_what_there_is() -> None:
    figure = figures.heat_map({("a", "b"): 1.0, ("b", "a"): 2.0}, "Title", unit="us")
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2"]
    cells = [{"source": "a", "target": "b", "verdict": "lost"}, {"source": "b", "target": "a", "verdict": "reached"}]
    rows = [Row("made", {}, 0, Measurement("reached", 1.0, "bool", labels)) for labels in cells]
    assert names(figures.matrix(rows, "Title")) == ["reached", "lost: expected and not reached"]
    assert matrix_axes([("a", "x"), ("b", "a")]) == (["a", "b"], ["a", "x"])


def test_a_thing_has_one_colour_in_every_figure() -> None:
    def colour(figure: Figure, name: str) -> Any:
        return next(each.get_color() for each in figure.axes[0].lines if each.get_label() == name)

    one = figures.lines({"nftables": {1: 1.0}}, "", "", "")
    other = figures.lines({"mine": {1: 1.0}, "iptables": {1: 1.0}, "nftables": {1: 1.0}}, "", "", "")
    assert colour(one, "nftables") == colour(other, "nftables")
    assert len({colour(other, name) for name in ("mine", "iptables", "nftables")}) == 3


def test_files_are_the_same_for_the_same_values(tmp_path: Path) -> None:
    def write(folder: str) -> dict[str, bytes]:
        (tmp_path / folder).mkdir()
        found = figures.save({"lines": figures.lines(VALUES, "A", "b", "c")}, tmp_path / folder)
        assert found == [tmp_path / folder / "lines.png"]
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    first = write("1")
    assert first == write("2")
    assert sorted(first) == ["lines.pdf", "lines.png", "lines.svg"]
    assert re.search(rb"<text[^>]*>iptables</text>", first["lines.svg"])


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_names_that_are_no_files_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="name of a figure"):
        figures.save({name: figures.lines({}, "", "", "")}, tmp_path)


def test_published_figures_become_lines_by_their_labels() -> None:
    known = [
        {"mode": "iptables", "services": 5000, "q": 50, "value": 47.0},
        {"mode": "iptables", "services": 5000, "q": 99, "value": 154.0},
        {"mode": "nftables", "services": 5000, "q": 50, "value": 12.0},
    ]
    found = figures.of_published(known, "mode", "services", where={"q": 50})
    assert found == {"iptables": {5000: 47.0}, "nftables": {5000: 12.0}}


def test_rows_are_grouped_with_one_value_for_each_repetition() -> None:
    one, other = {"mode": "a", "size": 2}, {"mode": "a", "size": 1}
    rows = [
        row(one, 0, 1.0, path="p"), row(one, 0, 3.0, path="p"), row(one, 1, 5.0, path="p"), row(one, 1, None, path="p"),
        row(other, 0, 7.0, path="p"), row(other, 0, 9.0, path="q"), row(other, 1, None, path="q"),
    ]  # fmt: skip
    assert grouping.reduced(rows, "rtt_us", "size", where={"path": "p"}) == {2: [2.0, 5.0], 1: [7.0]}
    assert grouping.reduced(rows, "rtt_us", "path", "size") == {("p", 2): [2.0, 5.0], ("p", 1): [7.0], ("q", 1): [9.0]}
    assert grouping.reduced(rows, "rtt_us", "size", statistic=Percentile(100), where={"path": "p"})[2] == [3.0, 5.0]
    assert list(grouping.series(rows, "rtt_us", "mode", "size", where={"path": "p"})["a"]) == [1, 2]
    assert grouping.reduced(rows, "other", "size") == {}


def test_cells_that_share_their_labels_keep_their_repetitions_apart() -> None:
    """Repetition 0 of two cells are two runs, also where the grouping does not tell the cells apart."""
    rows = [row({"mode": "a", "size": size}, 0, float(size)) for size in (1, 2, 3)]
    assert grouping.reduced(rows, "rtt_us", "mode") == {"a": [1.0, 2.0, 3.0]}
