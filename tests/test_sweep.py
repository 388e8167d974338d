"""Sweeps: the grid, and names that are checked before anything runs."""

import pytest

from vkdlib import paths, sweep


def test_grid_is_crossed_and_added_up():
    wanted = {
        "experiment": "x",
        "parameters": {"seed": 1},
        "grid": [{"a": [1, 2], "b": [3, 4]}, {"a": 5}],
    }
    fixed = {"seed": 1, "experiment": "x"}
    expected = [{"a": a, "b": b} for a in (1, 2) for b in (3, 4)] + [{"a": 5}]
    assert sweep.points(wanted) == [fixed | point for point in expected]


def test_unknown_parameters_stop_before_anything_runs():
    notebook = paths.root() / "notebooks" / "04_run_unlearn.ipynb"
    sweep.check(notebook, [{"beta": 1.0, "seed": 2}])
    with pytest.raises(ValueError, match="04_run_unlearn.ipynb has no parameter 'betta'; it has: exp"):
        sweep.check(notebook, [{"betta": 1.0}])


def test_the_run_of_a_point_is_what_its_notebook_printed():
    import nbformat.v4 as v4

    cells = [v4.new_code_cell(outputs=[v4.new_output("stream", text=t)]) for t in TEXTS]
    assert sweep.run_hash(v4.new_notebook(cells=cells)) == "0123456789ab"
    with pytest.raises(ValueError, match="did not print"):
        sweep.run_hash(v4.new_notebook(cells=cells[:1]))


TEXTS = ["rerun fedcba987654\n", "VKD {}\nrun 0123456789ab {'pruned': 0.1}\n"]
