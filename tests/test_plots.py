"""Figures are drawn from records, and the same figure has the same bytes."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from vkdlib.reports import plots, rendering, tables
from vkdlib.reports.columns import rows_by_title, table_columns


@pytest.fixture
def records():
    rows = []
    for method, value in (("vanilla", 90.0), ("VKD", 30.0)):
        for group in ("forget", "retain", "real"):
            for modality in ("vqa", "qa"):
                rows.append(
                    {"method": method, "set": group, "modality": modality, "kind": "classification",
                     "metric": "accuracy", "value": value, "n": 50, "low": value - 9, "high": value + 5}
                )  # fmt: skip
    return pd.DataFrame(rows).assign(benchmark="testbed/mllmu", schema="mllmu")


def test_columns_of_clear(records):
    """VQA is an accuracy, QA is ROUGE-L; faces and world have columns of their own."""
    told = {"kind": "generation", "metric": "rouge_l", "value": 0.5, "low": 0.25, "high": 0.75}
    qa = records[(records.modality == "qa") & (records.set != "real")].assign(**told)
    world = records[(records.set == "real") & (records.modality == "vqa")].assign(set="world")
    clear = pd.concat([records, qa, world]).assign(benchmark="data/authors", schema="clear")
    table = tables.seed_table(clear)
    titles = [c.split(" (")[0] for c in table.columns]
    assert titles == ["Forget VQA", "Forget QA", "Retain VQA", "Retain QA", "Real world", "Real faces"]
    assert list(table.loc["VKD"])[:2] == ["30.0 [21.0, 35.0]", "0.500 [0.250, 0.750]"]
    heights = [c.lines[0].get_ydata()[0] for c in plots.column_dots(plt.subplots()[1], clear).containers]
    assert sorted(heights) == [30.0] * 4 + [50.0] * 4 + [90.0] * 4
    with pytest.raises(ValueError, match="records of several benchmarks"):
        tables.seed_table(pd.concat([records.assign(schema="mllmu"), clear]))


def test_columns_of_dots_show_every_record(records):
    ax = plots.column_dots(plt.subplots()[1], records)
    points = [line for line in ax.containers]
    assert len(points) == 12
    assert sorted(c.lines[0].get_ydata()[0] for c in points) == [30.0] * 6 + [90.0] * 6
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["vanilla", "VKD"]


def test_saved_figures_are_byte_stable(records, tmp_path, monkeypatch):
    monkeypatch.setenv("VKDLIB_ROOT", str(tmp_path))
    contents = []
    for _ in range(2):
        figure, ax = plt.subplots()
        plots.column_dots(ax, records)
        plots.save_figure(figure, "six")
        contents.append([(tmp_path / "figures" / f"six.{k}").read_bytes() for k in ("pdf", "png")])
    assert contents[0] == contents[1]
    assert sorted(f.name for f in (tmp_path / "figures").iterdir()) == ["six.pdf", "six.png"]


def test_gallery_marks_right_and_wrong(benchmark):
    people = [(p.name, p.image) for p in benchmark.split(5).forget[:2]]
    figure = plots.gallery(people, "Who?", {"vanilla": [("Ann", True), ("", False)]})
    colours = [t.get_color() for ax in figure.axes for t in ax.texts]
    assert [t.get_text() for t in figure.axes[1].texts] == ["vanilla: (nothing)"]
    assert colours[0] != colours[1]


def test_table_1_has_value_interval_and_n(records):
    table = tables.seed_table(records)
    assert table.loc["VKD", "Forget VQA (N=50)"] == "30.0 [21.0, 35.0]"
    assert list(table.index) == ["vanilla", "VKD"] and len(table.columns) == 6
    assert rendering.markdown(table).splitlines()[1] == "|---|---|---|---|---|---|---|"
    with pytest.raises(ValueError, match="several rows for one method; pass those of one setting or seed"):
        tables.seed_table(pd.concat([records, records]))


def test_the_forget_retain_plane_has_a_dot_a_method_and_a_star(records):
    never = records[records.method == "VKD"].assign(method="retain-only", value=20.0, low=11.0, high=25.0)
    seeds = pd.concat([records, records[records.method == "VKD"].assign(value=40.0), never])
    ax = plots.forget_retain(plt.subplots()[1], seeds)
    dots = {c.get_label(): c.lines[0] for c in ax.containers}
    assert {m: (d.get_xdata()[0], d.get_ydata()[0]) for m, d in dots.items()} == {
        "vanilla": (90.0, 90.0),
        "VKD": (35.0, 35.0),
        "retain-only": (20.0, 20.0),
    }
    assert [m for m, d in dots.items() if d.get_marker() == "*"] == ["retain-only"]
    assert ax.get_xlabel() == "forget VQA (%)" and ax.get_ylabel() == "retain VQA (%)"


def test_the_forest_shows_which_differences_are_sure():
    rows = {"other": ["GA", "NPO"], "set": ["forget", "real"], "modality": "vqa", "kind": "classification",
            "difference": [-9.0, 2.0], "low": [-12.0, -3.0], "high": [-6.0, 7.0],
            "p_holm": [0.01, 0.6]}  # fmt: skip
    ax = plots.forest(plt.subplots()[1], pd.DataFrame(rows), "VKD", table_columns("vkd 1", "mllmu"))
    points = [c.lines[0] for c in ax.containers]
    assert [(p.get_xdata()[0], p.get_ydata()[0]) for p in points] == [(-9.0, 0), (2.0, 1)]
    assert [p.get_markerfacecolor() == "white" for p in points] == [False, True]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["GA, Forget VQA", "NPO, Real-world VQA"]
    assert ax.get_xlabel() == "VKD minus the other (points)"
    clear = pd.DataFrame(rows).assign(set=["real", "world"])
    ax = plots.forest(plt.subplots()[1], clear, "VKD", table_columns("vkd 1", "clear"))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["GA, Real faces", "NPO, Real world"]


def test_curves_are_means_over_seeds_with_their_range(records):
    swept = [records[records.method == "VKD"].assign(value=10.0 * b + s, beta=b, seed=s)
             for b in (0.0, 1.0, 4.0) for s in (0, 2)]  # fmt: skip
    ax = plots.column_curves(plt.subplots()[1], pd.concat(swept), "beta", smallest=1.0)
    curves = [line for line in ax.lines if len(line.get_xdata()) == 3]
    assert len(curves) == 6
    for line in curves:
        assert line.get_xdata().tolist() == [0.0, 1.0, 4.0]
        assert line.get_ydata().tolist() == [1.0, 11.0, 41.0]
    corners = ax.collections[0].get_paths()[0].vertices
    assert {(0.0, 0.0), (0.0, 2.0), (4.0, 40.0), (4.0, 42.0)} <= set(map(tuple, corners.round(6)))
    assert ax.get_xscale() == "symlog" and ax.get_legend() is None
    labels = ax.get_legend_handles_labels()[1]
    assert labels == [*rows_by_title(records), "Chance"] and len(labels) == 7
    never = records[records.method == "VKD"].assign(method="retain-only", value=7.0)
    ax = plots.column_curves(plt.subplots()[1], pd.concat([*swept, never]), "beta")
    (line,) = [line for line in ax.lines if line.get_label() == "Forget VQA of retain-only"]
    assert set(line.get_ydata()) == {7.0} and ax.get_xlim()[0] < 0.5
