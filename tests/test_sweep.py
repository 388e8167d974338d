"""Sweeps: the grid, what is checked before anything runs, what is done, and what failed."""

import queue

import nbformat
import nbformat.v4 as v4
import pytest
import yaml

from vkdlib import grid, paths, runs, sweep

NOTEBOOK = paths.root() / "notebooks" / "04_run_unlearn.ipynb"


def test_grid_is_crossed_and_added_up():
    wanted = {
        "experiment": "x",
        "parameters": {"seed": 1},
        "grid": [{"a": [1, 2], "b": [3, 4]}, {"a": 5}, {"a": [1], "b": 3}],
    }
    fixed = {"seed": 1, "experiment": "x"}
    expected = [{"a": a, "b": b} for a in (1, 2) for b in (3, 4)] + [{"a": 5}]
    assert grid.points(wanted) == [fixed | point for point in expected]  # the last is there already


def test_ranges_and_axes_that_go_together():
    assert grid.axis("beta", {"linspace": [0, 1, 3]}) == [{"beta": 0.0}, {"beta": 0.5}, {"beta": 1.0}]
    assert grid.axis("lr", {"logspace": [0.001, 0.1, 3]}) == [{"lr": 0.001}, {"lr": 0.01}, {"lr": 0.1}]
    assert grid.axis("lr, epochs", [[0.1, 5], [0.2, 9]]) == [
        {"lr": 0.1, "epochs": 5},
        {"lr": 0.2, "epochs": 9},
    ]
    with pytest.raises(ValueError, match="does not give a value to each"):
        grid.axis("lr, epochs", [[0.1], [0.2, 9]])
    with pytest.raises(ValueError, match="neither linspace nor logspace"):
        grid.axis("lr", {"range": [0, 1, 3]})


@pytest.mark.parametrize(
    "point, message",
    [
        ({"betta": 1.0}, "04_run_unlearn.ipynb has no parameter 'betta'; it has: exp"),
        ({"seed": "two"}, "seed is 'two'; it must be of type int"),
        ({"seed": 1.5}, "seed is 1.5"),
        (yaml.safe_load("lr: 1e-5"), "lr is '1e-5'; it must be of type float .YAML wants a dot"),
        ({"seed": True}, "seed is True"),
        ({"kinds": "cloze"}, "kinds is 'cloze'; it must be of type list"),
        ({"forget_ratio": None}, "forget_ratio is None"),
    ],
)
def test_wrong_parameters_stop_before_anything_runs(point, message):
    grid.check(NOTEBOOK, [{"beta": 1, "seed": 2, "prune": True, "lr": None, "kinds": ["cloze"]}])
    with pytest.raises(ValueError, match=message):
        grid.check(NOTEBOOK, [{"beta": 1.0}, point])


def test_a_sweep_names_what_is_missing_or_unknown(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("notebook: a.ipynb\nexperiment: x\ngrid: []\n")
    with pytest.raises(ValueError, match="s.yaml has no field 'record'"):
        grid.read(file)
    file.write_text("notebook: a\nexperiment: x\ngrid: []\nrecord: r\nworkers: 2\n")
    with pytest.raises(ValueError, match="s.yaml: field 'workers' is not known"):
        grid.read(file)


def test_the_run_of_a_point_is_what_its_notebook_printed():
    cells = [v4.new_code_cell(outputs=[v4.new_output("stream", text=t)]) for t in TEXTS]
    assert sweep.run_hash(v4.new_notebook(cells=cells)) == "0123456789ab"
    with pytest.raises(ValueError, match="did not print"):
        sweep.run_hash(v4.new_notebook(cells=cells[:1]))


TEXTS = ["rerun fedcba987654\n", "VKD {}\nrun 0123456789ab {'pruned': 0.1}\n"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two points of vanilla (one asks for no kind of question: it fails), run by two workers."""
    root = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VKDLIB_RUNS", str(root / "runs"))
        patch.setattr(paths, "figures", lambda: root / "figures")
        file = root / "notebooks" / "sweeps" / "s.yaml"
        file.parent.mkdir(parents=True)
        (root / "notebooks" / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
        wanted = {"notebook": NOTEBOOK.name, "experiment": "s", "record": "s"}
        wanted |= {"parameters": {"method": "vanilla"}}
        wanted |= {"grid": [{"kinds": [["cloze"]], "forget_ratio": [5, 7]}]}
        file.write_text(yaml.safe_dump(wanted))
        yield root, file, sweep.execute(file, workers=2)


def test_a_failed_point_says_where_and_the_others_go_on(swept):
    root, file, failed = swept
    assert [p.parameters["forget_ratio"] for p in failed] == [7]
    assert "ValueError: forget_ratio is 7" in failed[0].error and failed[0].error.startswith("cell ")
    assert len(runs.find("s")) == 1
    assert not (root / "figures" / "data" / "s.csv").exists()  # no record of half a sweep
    report = (root / "runs" / "s" / "notebooks" / "report.md").read_text()
    assert runs.find("s")[0].hash in report and "forget_ratio is 7" in report
    assert failed[0].executed.name in report


def test_what_is_done_is_not_run_again(swept, capsys, monkeypatch):
    root, file, _ = swept
    wanted = yaml.safe_load(file.read_text())
    wanted["grid"][0]["forget_ratio"] = [5]
    file.write_text(yaml.safe_dump(wanted))
    ran = []
    monkeypatch.setattr(sweep.Point, "execute", lambda self, *_: ran.append(self))
    assert sweep.execute(file) == [] and ran == []
    assert "1 points, 1 done, 0 to do" in capsys.readouterr().out
    assert len(runs.read_records("s")) == len(runs.find("s")[0].records())
    point = sweep.Point(root / "notebooks" / NOTEBOOK.name, grid.points(wanted)[0], root / "runs/s/notebooks")
    assert point.run == runs.find("s")[0]
    other = sweep.Point(point.notebook, point.parameters | {"seed": 1}, point.folder)
    assert other.executed != point.executed and other.run is None
    monkeypatch.setattr(sweep, "_today", lambda start: ("other data", "weights"))
    assert point.run is None  # the data are not those of the run


def test_a_dry_run_lists_what_is_left(swept, capsys, monkeypatch):
    root, file, _ = swept
    wanted = yaml.safe_load(file.read_text())
    wanted["grid"][0]["forget_ratio"] = [5, 10]
    file.write_text(yaml.safe_dump(wanted))
    monkeypatch.setattr(sweep.Point, "execute", lambda *_: pytest.fail("it ran"))
    assert sweep.main([str(file), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "2 points, 1 done, 1 to do" in printed and "'forget_ratio': 10" in printed
    assert "by the points already there" in printed


def test_a_notebook_that_was_killed_is_no_result(swept, monkeypatch):
    root, file, _ = swept
    point = sweep.Point(
        root / "notebooks" / NOTEBOOK.name, {"experiment": "s", "seed": 9}, root / "runs/s/notebooks"
    )
    point.executed.write_text('{"cells": [')
    assert point.run is None
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("1")]), point.executed)
    point.log.write_text("Executing\nRuntimeError: the kernel died\n")
    assert point.run is None and point.error.endswith("said: RuntimeError: the kernel died")
    point.executed.unlink()
    point.log.unlink()
    assert point.error.endswith("ended early; the last it said: nothing")


def test_a_point_runs_in_its_slot_with_typed_parameters(swept, monkeypatch):
    root, *_ = swept
    called = {}
    monkeypatch.setattr(
        sweep.subprocess, "run", lambda command, env, **_: called.update(env, command=command)
    )
    monkeypatch.setattr(sweep.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(sweep.os, "cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    parameters = {"experiment": "s", "lr": 1e-05, "seed": 2, "kinds": ["cloze"], "prune": False, "beta": None}
    sweep.Point(root / "notebooks" / NOTEBOOK.name, parameters, root).execute(3, 4)
    assert called["CUDA_VISIBLE_DEVICES"] == "6" and called["OMP_NUM_THREADS"] == "2"
    given = called["command"][called["command"].index("-y") + 1]
    assert yaml.safe_load(given) == parameters and isinstance(yaml.safe_load(given)["lr"], float)


def test_a_kernel_that_died_before_any_cell_gets_one_more_try(swept, monkeypatch):
    root, *_ = swept
    point = sweep.Point(
        root / "notebooks" / NOTEBOOK.name, {"experiment": "s", "seed": 7}, root / "runs/s/notebooks"
    )
    tried = []
    monkeypatch.setattr(sweep.Point, "execute", lambda self, slot, workers: tried.append(slot))
    slots = queue.SimpleQueue()
    slots.put(3)
    sweep.in_slot(slots, 1, point)
    assert tried == [3, 3] and slots.get() == 3
