"""What a notebook shows of a split, a benchmark, a model and a run: short, and with faces."""

import re

import pandas as pd
import pytest

from vkdlib.runs.configuration import Configuration
from vkdlib.runs.store import open_run


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
        assert "50.0 <small>[" in html and "2 (2)" in html and html.count("<th>") == 6
