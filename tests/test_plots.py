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
    (tmp_path / "figures" / "data").mkdir(parents=True)
    records.to_csv(tmp_path / "figures" / "data" / "six.csv")
    contents = []
    for _ in range(2):
        figure, ax = plt.subplots()
        plots.column_dots(ax, records)
        plots.save_figure(figure, "six", "six")
        contents.append([(tmp_path / "figures" / f"six.{k}").read_bytes() for k in ("pdf", "png")])
    assert contents[0] == contents[1]
    assert sorted(f.name for f in (tmp_path / "figures").iterdir()) == ["data", "six.pdf", "six.png"]


def test_gallery_marks_right_and_wrong(benchmark):
    people = [(p.name, p.image) for p in benchmark.split(5).forget[:2]]
    figure = plots.gallery(people, "Who?", {"vanilla": [("Ann", True), ("", False)]})
    colours = [ax.texts[0].get_color() for ax in figure.axes]
    assert [t.get_text() for t in figure.axes[0].texts] == ["Ann", "vanilla:"]
    assert [t.get_text() for t in figure.axes[1].texts] == ["(nothing)"]
    assert colours[0] != colours[1]


def test_table_1_has_value_interval_and_n(records):
    table = tables.seed_table(records)
    assert table.loc["VKD", "Forget VQA (N=50)"] == "30.0 [21.0, 35.0]"
    assert list(table.index) == ["vanilla", "VKD"] and len(table.columns) == 6
    assert rendering.markdown(table).splitlines()[1] == "|---|---|---|---|---|---|---|"
    with pytest.raises(ValueError, match="several rows for one method; pass those of one setting and run"):
        tables.seed_table(pd.concat([records, records]))


def unseen(records, forget, retain):
    """Rows of unseen pictures, with these accuracies."""
    rows = records[(records.modality == "vqa") & (records.set != "real")]
    values = rows.set.map({"forget": forget, "retain": retain})
    unseen = rows.assign(set=rows.set.map({"forget": "test", "retain": "retain_unseen"}), value=values)
    return unseen.assign(low=values - 4, high=values + 4)


def test_the_forget_retain_plane_is_of_unseen_pictures_with_a_star_where_forgetting_should_end(records):
    never = records[records.method == "VKD"].assign(method="never-saw")
    vanilla, ours = (records[records.method == method] for method in ("vanilla", "VKD"))
    rows = [records, never, unseen(vanilla, 85, 88), unseen(ours, 35, 80), unseen(never, 24, 87)]
    ax = plots.forget_retain(plt.subplots()[1], pd.concat(rows))
    dots = {c.get_label(): c.lines[0] for c in ax.containers}
    assert {m: (d.get_xdata()[0], d.get_ydata()[0]) for m, d in dots.items()} == {
        "vanilla": (85, 88),
        "VKD": (35, 80),
        "never-saw": (24, 87),
    }
    assert [m for m, d in dots.items() if d.get_marker() == "*"] == ["never-saw"]
    assert ax.get_xlabel() == "forget VQA, unseen (%)" and ax.get_ylabel() == "retain VQA, unseen (%)"
    with pytest.raises(ValueError, match="several rows for one method"):
        plots.forget_retain(plt.subplots()[1], pd.concat([*rows, unseen(ours, 36, 81)]))


def test_the_forest_shows_which_differences_are_sure():
    rows = {"other": ["GA", "NPO"], "set": ["forget", "real"], "modality": "vqa", "kind": "classification",
            "metric": "accuracy", "difference": [-9.0, 2.0], "low": [-12.0, -3.0], "high": [-6.0, 7.0],
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


def test_curves_show_unseen_pictures_solid_and_seen_ones_dashed(records):
    ours = records[records.method == "VKD"]
    swept = []
    for beta in (4.0, 0.0, 1.0):
        rows = pd.concat([ours.assign(value=10 * beta), unseen(ours, 10 * beta + 5, 10 * beta + 9)])
        swept.append(rows.assign(beta=beta, low=rows.value - 2, high=rows.value + 3))
    ax = plots.column_curves(plt.subplots()[1], pd.concat(swept), "beta", smallest=1.0)
    lines = {line.get_label(): line for line in ax.lines if len(line.get_xdata()) == 3}
    assert len(lines) == 8
    assert all(line.get_xdata().tolist() == [0.0, 1.0, 4.0] for line in lines.values())
    seen, other = lines["Forget VQA"], lines["Forget VQA, unseen"]
    assert seen.get_ydata().tolist() == [0, 10, 40] and other.get_ydata().tolist() == [5, 15, 45]
    assert (seen.get_linestyle(), other.get_linestyle()) == ("--", "-")
    assert seen.get_color() == other.get_color() != lines["Retain VQA"].get_color()
    corners = [set(map(tuple, band.get_paths()[0].vertices.round(6))) for band in ax.collections]
    assert len(corners) == 3 and {(0.0, 3.0), (0.0, 8.0), (4.0, 43.0), (4.0, 48.0)} <= corners[0]
    assert ax.get_xscale() == "symlog" and ax.get_legend() is None
    labels = ax.get_legend_handles_labels()[1]
    assert labels == [*rows_by_title(pd.concat(swept)), "Chance"] and len(labels) == 9
    assert ax.get_title() == ""
    never = pd.concat([ours.assign(value=70.0), unseen(ours, 7.0, 80.0)]).assign(method="never-saw")
    ax = plots.column_curves(plt.subplots()[1], pd.concat([*swept, never]), "beta")
    (line,) = [line for line in ax.lines if line.get_label() == "Forget VQA, unseen: never-saw"]
    assert set(line.get_ydata()) == {7.0}


def test_curves_that_lie_on_one_another_at_the_top_are_named_and_not_drawn(records):
    ours = records[records.method == "VKD"]
    high = {("real", "qa"): 100.0, ("retain", "qa"): 99.5, ("forget", "qa"): 98.5}
    values = [high.get(place, 40.0) for place in zip(ours.set, ours.modality)]
    low = ours.assign(value=values, beta=3.0)
    swept = pd.concat([low.assign(value=low.value.clip(upper=100), beta=beta) for beta in (0.0, 1.0)] + [low])
    ax = plots.column_curves(plt.subplots()[1], swept, "beta", smallest=1.0)
    named = ax.get_title().replace("\n", " ")
    assert named == "above 98 everywhere: Forget QA; Retain QA; Real-world QA"
    drawn = [line.get_label() for line in ax.lines if len(line.get_xdata()) == 3]
    assert drawn == ["Forget VQA", "Retain VQA", "Real-world VQA"]
    dip = swept.assign(value=swept.value.where((swept.set != "real") | (swept.beta != 1.0), 90.0))
    ax = plots.column_curves(plt.subplots()[1], dip, "beta", smallest=1.0)
    assert "Real-world QA" in [line.get_label() for line in ax.lines] and "Real" not in ax.get_title()


def test_curves_of_losses_say_once_what_they_are():
    figure, axes = plt.subplots(1, 2, figsize=(6, 2))
    for ax in axes:
        plots.loss_curves(ax, pd.DataFrame({"step": [0, 1], "lr": [0.1, 0.1], "vkd": [2.0, 1.0]}))
    (said,) = figure.texts
    assert said.get_text().startswith("Each axis shows one run.")
    plots.caption(figure, "Other words.")
    assert [words.get_text() for words in figure.texts] == ["Other words."]


def test_one_legend_has_every_label_once():
    figure, axes = plt.subplots(1, 2)
    for ax, names in zip(axes, (["VKD", "GA"], ["GA", "NPO"])):
        for name in names:
            ax.plot([0, 1], label=name)
    plots.legend(figure, "upper center", 3)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["VKD", "GA", "NPO"]
