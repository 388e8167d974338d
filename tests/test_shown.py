"""What a notebook shows of a split, a benchmark, a model and a run: short, and with faces."""

import re
import warnings

import pandas as pd
import pytest

from vkdlib.benchmarks.schema import KINDS, MODALITIES
from vkdlib.evaluation.ways import queries
from vkdlib.reports.rendering import Tables, printed_warnings
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.store import open_run
from vkdlib.system.html import table_html


def test_what_is_printed_is_short(benchmark, untrained):
    split, person = benchmark.split(5), benchmark.people["001"]
    shown = [repr(thing) for thing in (split, benchmark, untrained, person, person.pictures[0])]
    assert all(len(text) < 160 and "\n" not in text for text in shown)
    assert "forget 10, retain 190, real 40" in shown[0] and "forget 5, 10, 15 %" in shown[1]
    assert "untrained: llava, " in shown[2] and "float32, cpu" in shown[2]


def test_a_notebook_shows_faces_and_counts(benchmark):
    html = benchmark.split(5)._repr_html_()
    assert html.count("<img") == 24 and "forget (10)" in html and "… 182 more" in html
    assert len(html) < 300_000
    assert benchmark._repr_html_().count("<img") == 16
    names = re.findall('title="(.*?)"', html)
    assert names[0] == benchmark.split(5).forget[0].name


def test_what_is_made_of_people_does_not_print_pictures(tasks, benchmark):
    assert repr(tasks).count("\n") == 0 and len(repr(tasks)) < 160
    assert f"forget_vqa {len(tasks.forget_vqa)}" in repr(tasks)
    (query, *_) = queries(benchmark.split(5), KINDS, MODALITIES, "shown")["forget"]
    assert "PNG" not in repr(query) and len(repr(query)) < 600
    pack = tasks.forget_vqa[0]
    counts = f"{pack.image_tokens} image tokens, {len(pack.segments)} questions"
    assert repr(pack) == f"<Pack {pack.key}: {counts}>"


NUMBERS = ["25.0", "**100.0 [98.0, 100.0] ±2.8**≈", "6.0 [1.0, 12.5]", "", "–"]


def shown_cells(html):
    """The cells of a table, without tags."""
    return [re.sub("<.*?>", "", cell) for cell in re.findall("<td>(.*?)</td>", html)]


def test_numbers_stand_below_each_other_and_keep_their_value():
    html = table_html(pd.DataFrame({"Forget VQA": NUMBERS}))
    one, best, two, empty, none = shown_cells(html)
    assert len(one) == len(best) == len(two) and (empty, none) == ("", "–")
    assert one.index(".") == best.index(".") == two.index(".")
    assert best.index("]") == two.index("]") and "<b>100.0\u00a0<small>[98.0," in html
    texts = [re.sub("[\u2007\u2008]", "", cell).replace("\u00a0", " ").strip() for cell in (one, best, two)]
    assert texts == [number.replace("*", "") for number in NUMBERS[:3]]


def test_no_row_is_wrapped_and_nothing_is_cut_or_run():
    long = "<script>" + "word " * 40
    html = table_html(pd.DataFrame({"a < b": [long, "x"], "n": [1.5, None]}), title="<T>")
    assert "td, table.vkdlib th { text-align: right; white-space: nowrap }" in html
    assert "&lt;script&gt;" + ("word " * 40).strip() in html and "<script>" not in html
    assert "<h4>&lt;T&gt;</h4>" in html and "a &lt; b" in html and "<td>–</td>" in html


def test_tables_are_text_to_who_compares_them():
    table = pd.DataFrame({"value": ["1 [0, 2]"] * 30}, [f"row {n}" for n in range(30)])
    shown = Tables([("Ours", table), ("", table)])
    assert repr(shown) == f"Ours\n{table.to_string()}\n\n{table.to_string()}"
    assert shown._repr_html_().count("<table") == 2


@pytest.mark.parametrize("done", [True, False])
def test_a_run_says_what_it_is_and_what_it_answers(tmp_path, done):
    configuration = Configuration(model="m", benchmark="b", method="GA")
    row = {
        "set": "forget",
        "kind": "classification",
        "modality": "vqa",
        "answer": "A",
        "gold": "A",
        "bleu": None,
    }
    rows = [row | {"person": str(i), "question": str(i), "score": float(i), "options": None} for i in (0, 1)]
    with open_run("x", configuration, tmp_path) as run:
        if done:
            run.finish(pd.DataFrame(rows), history=[{"loss": 1.0}])
    assert repr(run) == f"<Run {run.hash} of x: GA on m, b, {'finished' if done else 'not finished'}>"
    html = run._repr_html_()
    assert str(run.folder) in html and ("<td>accuracy</td>" in html) == done
    if done:
        first, others = html.split("<details>")
        assert "<th>forget VQA (N=2, 2 people)</th>" in first and "50.0\u00a0<small>[" in first
        assert "<td>forget VQA</td>" in others and "<th>classification</th>" in first


def test_warnings_are_printed_without_their_place(capsys):
    with printed_warnings():
        for text in ("few people", "few people", "three options"):
            warnings.warn(text, stacklevel=1)
        warnings.warn("of a library", DeprecationWarning, stacklevel=1)
    said = capsys.readouterr()
    assert said.out == "Note: few people\nNote: three options\n" and not said.err
    with pytest.raises(KeyError), printed_warnings():
        warnings.warn("before it stopped", stacklevel=1)
        raise KeyError
    assert capsys.readouterr().out == "Note: before it stopped\n"
