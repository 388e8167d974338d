"""Figures say what they show, and follow from today's data."""

import base64
import io

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image

from vkdlib.reports import plots
from vkdlib.reports.columns import LABELS
from vkdlib.reports.style.figure import drawn_from, fingerprints, in_words, inline_picture
from vkdlib.runs.records import read_records
from vkdlib.system import files, paths

TOPICS = files.read_yaml(paths.PACKAGE / "reports" / "paper" / "claims.yaml")
COMMITTED = sorted(f for f in paths.figures().iterdir() if f.suffix in (".pdf", ".png", ".tex"))
# Figures and tables of the first edition, which do not say what they follow from -> the record that has to be
# made again before they can. Whoever draws one again takes it from here.
FORMER = {
    "anatomy_features": "foundation",
    "anatomy_neuron_people": "foundation",
    "anatomy_neurons": "foundation",
    "fig2_beta": "fig2_beta",
    "fig3_alpha": "fig3_alpha",
    "quickstart_gallery": "quickstart",
    "quickstart_table1": "quickstart",
    "selective_forgetting_thresholds": "selective_forgetting",
    "table1_forest": "table1_main",
    "table1_forget_retain": "table1_main",
    "table1_main": "table1_main",
    "table3_ablation": "table3_ablation",
    "table3_forest": "table3_ablation",
    "table3_forget_retain": "table3_ablation",
}


def is_of_today(record: str) -> bool:
    """Whether a record is there and of this edition."""
    try:
        return len(read_records(record)) > 0
    except (FileNotFoundError, ValueError):
        return False


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.name)
def test_a_committed_figure_follows_from_its_data(file):
    said = drawn_from(file)
    if file.stem in FORMER and not said:
        record = FORMER[file.stem]
        assert not is_of_today(record), f"{record} was made again, and {file.name} was not: run its notebook"
        return
    assert said, f"{file.name} does not say what it was drawn from: save it with plots.save_figure"
    assert file.stem not in FORMER, f"{file.name} was drawn again: take it from FORMER"
    names = [entry.rpartition(" ")[0] for entry in said.split(", ")]
    assert said == fingerprints(names), f"{file.name} is older than its data: run its notebook again"


def test_nothing_is_waited_for_that_is_not_there():
    assert set(FORMER) <= {file.stem for file in COMMITTED}


@pytest.fixture
def figure(tmp_path, monkeypatch):
    """A figure of made-up data, and the folder that it is saved in."""
    monkeypatch.setenv("VKDLIB_ROOT", str(tmp_path))
    (tmp_path / "figures" / "data").mkdir(parents=True)
    pd.DataFrame({"β": [0, 1], "value": [3, 4]}).to_csv(tmp_path / "figures" / "data" / "curve.csv")
    plots.use_style()
    drawn, axes = plt.subplots(1, 2, figsize=(5, 3))
    for ax, name in zip(axes, ("LLaVA (small)", "Qwen2-VL")):
        ax.plot([0, 1], [3, 4], label="Forget VQA")
        ax.set(title=name, xlabel="β", ylabel="accuracy (%)")
    plots.legend(drawn, "upper center", 2)
    plots.caption(drawn, "Bands: 95 % intervals. Forget VQA (N=250, 50 people).")
    yield drawn
    plt.close(drawn)


def test_a_changed_record_is_noticed(figure):
    plots.save_figure(figure, "curve", "curve", "reports/paper/published.csv")
    saved = [paths.figures() / f"curve.{kind}" for kind in ("pdf", "png")]
    before = fingerprints(["curve", "reports/paper/published.csv"])
    assert [drawn_from(file) for file in saved] == [before, before] and before.count(",") == 1
    (paths.figures() / "data" / "curve.csv").write_text("β,value\n0,3\n")
    assert fingerprints(["curve", "reports/paper/published.csv"]) != before


def test_a_figure_names_its_data(figure):
    with pytest.raises(ValueError, match="figure 'curve' names no data"):
        plots.save_figure(figure, "curve")
    with pytest.raises(FileNotFoundError, match="gone"):
        plots.save_figure(figure, "curve", "gone")
    assert not list(paths.figures().glob("curve*"))


def test_a_figure_is_put_in_words(figure):
    words = "LLaVA (small). Qwen2-VL. accuracy (%) against β. Forget VQA. "
    words += "Bands: 95 % intervals. Forget VQA (N=250, 50 people)."
    assert in_words(figure) == words
    figure.axes[0].text(0, 3, "chance")
    figure.axes[0].text(0, 4, "62/80")
    words = words.replace("(small).", "(small): chance.")
    assert in_words(figure) == words
    plots.save_figure(figure, "curve", "curve")
    assert Image.open(paths.figures() / "curve.png").text["Description"] == words


def test_a_notebook_shows_a_figure_as_large_as_it_is_at_200_dpi(figure):
    text, said = inline_picture(figure)
    picture = Image.open(io.BytesIO(base64.b64decode(text)))
    assert said["alt"] == in_words(figure) and picture.size[0] / said["width"] == pytest.approx(
        200 / 96, 0.02
    )
    assert 4.5 < picture.size[0] / 200 < 5.5 and picture.mode == "P"


def test_nothing_overlaps_in_a_figure(figure):
    """Legend above, caption below, axes between them."""
    figure.draw_without_rendering()
    caption = next(text for text in figure.texts if text.get_gid() == "caption").get_window_extent()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert caption.y1 <= min(box.y0 for box in boxes)
    assert figure.legends[0].get_window_extent().y0 >= max(box.y1 for box in boxes) - 1


def test_all_text_has_nine_points(figure):
    figure.draw_without_rendering()  # which makes the ticks
    texts = figure.findobj(lambda artist: hasattr(artist, "get_fontsize") and artist.get_text())
    assert len(texts) > 10 and {text.get_fontsize() for text in texts} == {9.0}


@pytest.mark.parametrize("topic", [name for name, topic in TOPICS.items() if "order" in topic])
def test_rows_that_are_drawn_together_have_colours_of_their_own(topic):
    rows = {row.split(", blank")[0].split(", no pic")[0] for row in TOPICS[topic]["order"]}
    coloured = [LABELS["colours"][row] for row in rows if row in LABELS["colours"]]
    assert len(set(coloured)) == len(coloured)
