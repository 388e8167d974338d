"""Sweeps: the grid, what is checked before anything runs, what is done, and what failed."""

import contextlib
import json
import shutil
import signal
import time
from dataclasses import dataclass, replace

import nbformat
import nbformat.v4 as v4
import pandas as pd
import papermill
import psutil
import pytest
import yaml
from conftest import start_sweep, tiny_sweep
from faults import few_people
from nbclient import NotebookClient

from vkdlib.experiments import presets
from vkdlib.methods import METHODS
from vkdlib.methods.ga import GA
from vkdlib.runs import store
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.records import read_predictions, read_records
from vkdlib.runs.run_folder import RECORD, Run
from vkdlib.sweep import child, execute, grid, local, results
from vkdlib.sweep.point import KEEP_MEMORY, Point, Worker
from vkdlib.sweep.results import Result, point_result, printed_hash
from vkdlib.sweep.sweep import check_points, further_columns, literal, load_sweep, run_identity
from vkdlib.system import paths

NOTEBOOK = paths.root() / "notebooks" / "04_run_unlearn.ipynb"
SWEEPS = sorted((paths.root() / "notebooks" / "sweeps").glob("*.yaml"))


def test_grid_is_crossed_and_added_up():
    wanted = {
        "experiment": "x",
        "parameters": {"seed": 1},
        "grid": [{"a": [1, 2], "b": [3, 4]}, {"a": 5}, {"a": [1], "b": 3}],
    }
    fixed = {"seed": 1, "experiment": "x"}
    expected = [{"a": a, "b": b} for a in (1, 2) for b in (3, 4)] + [{"a": 5}]
    assert grid.grid_points(wanted) == [fixed | point for point in expected]  # the last is there already


def test_ranges_and_axes_that_go_together():
    assert grid.axis_points("beta", {"linspace": [0, 1, 3]}) == [{"beta": 0.0}, {"beta": 0.5}, {"beta": 1.0}]
    assert grid.axis_points("lr", {"logspace": [0.001, 0.1, 3]}) == [{"lr": 0.001}, {"lr": 0.01}, {"lr": 0.1}]
    assert grid.axis_points("lr, epochs", [[0.1, 5], [0.2, 9]]) == [
        {"lr": 0.1, "epochs": 5},
        {"lr": 0.2, "epochs": 9},
    ]
    with pytest.raises(ValueError, match="does not give a value to each"):
        grid.axis_points("lr, epochs", [[0.1], [0.2, 9]])
    seeds = grid.axis_points("seed", {"linspace": [0, 2, 3]})
    assert seeds == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    check_points(NOTEBOOK, seeds)  # whole numbers stay so
    for scale, ends in (
        ("range", [0, 1, 3]),
        ("linspace", 3),
        ("linspace", [0, 1]),
        ("logspace", [0, 10, 5]),
    ):
        with pytest.raises(ValueError, match=f"axis 'lr': {{'{scale}.* neither linspace nor logspace"):
            grid.axis_points("lr", {scale: ends})


@pytest.mark.parametrize(
    "point, message",
    [
        ({"betta": 1.0}, "04_run_unlearn.ipynb has no 'betta'; it has: .*did you mean 'beta'"),
        ({"seed": "two"}, "seed is 'two'; it must be a whole number"),
        ({"seed": 1.5}, "seed is 1.5"),
        (
            yaml.safe_load("lr: 1e-5"),
            "lr is '1e-5'; it must be a number.* .YAML reads 1e-5 as text: write a dot",
        ),
        ({"seed": True}, "seed is True"),
        ({"seed": False}, "seed is False"),
        ({"prune": 1}, "prune is 1"),
        ({"kinds": "cloze"}, "kinds is 'cloze'; it must be a list"),
        ({"forget_ratio": None}, "forget_ratio is None"),
        (yaml.safe_load("beta: .nan"), "beta is nan; it must be a number, and finite"),
        (yaml.safe_load("lr: .inf"), "lr is inf; it must be a number, and finite"),
    ],
)
def test_wrong_parameters_stop_before_anything_runs(point, message):
    check_points(NOTEBOOK, [{"beta": 1, "seed": 2, "prune": True, "lr": None, "kinds": ["cloze"]}])
    with pytest.raises(ValueError, match=message):
        check_points(NOTEBOOK, [{"beta": 1.0}, point])


def test_a_sweep_names_what_is_missing_or_unknown(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("notebook: a.ipynb\nexperiment: x\ngrid: []\n")
    with pytest.raises(ValueError, match="s.yaml: the sweep has no field 'record'"):
        grid.read_sweep(file)
    file.write_text("notebook: a\nexperiment: x\ngrid: []\nrecord: r\ncolums: []\n")
    with pytest.raises(ValueError, match="s.yaml: a sweep has no 'colums'; .*did you mean 'columns'"):
        grid.read_sweep(file)
    whole = {"notebook": "a", "experiment": "x", "grid": [{"seed": 1}], "record": "r"}
    for field, wrong in {"columns": "beta", "parameters": None, "grid": {"seed": 1}, "record": 3}.items():
        file.write_text(yaml.safe_dump(whole | {field: wrong}))
        with pytest.raises(ValueError, match=f"s.yaml: {field} is "):
            grid.read_sweep(file)
    for entries, message in (
        ([], "grid is empty"),
        ([{"seed": 1}, {"seed": []}], "axis 'seed' has no values"),
        ([{"seed": 1}, "seed"], "grid has the entry 'seed'"),
        ([{"seed, beta": [[1, 2.0]], "beta": [1.0]}], "grid has two axes of one name"),
    ):
        file.write_text(yaml.safe_dump(whole | {"grid": entries}))
        with pytest.raises(ValueError, match=f"s.yaml: {message}"):
            load_sweep(file)


WRONG = [  # of a point, which a run would refuse, too
    ("forget_ratio: 7", "forget_ratio is 7; testbed/mllmu has 5, 10, 15"),
    ("fisher: sumed", "did you mean 'summed'"),
    ("order: prune", "did you mean 'prune, mask'"),
    ("target: layer", "did you mean 'layers'"),
    ("trained: al", "did you mean 'all'"),
    ("schedule: liner", "did you mean 'linear'"),
    ("protocol: generat", "did you mean 'generate'"),
    ("kinds: [[clozze]]", "did you mean 'cloze'"),
    ("method: VKDD", "did you mean 'VKD'"),
    ("preset: testbedd", "did you mean 'testbed'"),
    ("model: testbed/lava", "did you mean 'testbed/llava'"),
    ("{model: nowhere, preset: testbed}", "model is 'nowhere'; there is no such folder"),
    ("model: nowhere", "preset is not given, and the model nowhere does not say which one fits"),
    ("benchmark: testbed/mlmu", "did you mean 'testbed/mllmu'"),
    ("benchmark: ../nowhere", "../nowhere: no such folder"),
    ("beta: .nan", "beta is nan; it must be a number, and finite"),
    ("lr: .inf", "lr is inf; it must be a number, and finite"),
    ("beta: -1.0", "beta is -1"),
    ("lr: 1e-5", "write a dot, as in 1.0e-5"),
    ("betta: 1.0", "did you mean 'beta'"),
    ("retain_only: /nope", "retain_only is '/nope'; there is no such folder"),
    ("gate: maybe", "gate is 'maybe'; it must be True or False"),
    ("seed: 1180591620717411303424", "seed is 1180591620717411303424; it must be a whole number"),
    ("epochs: 0", "epochs is 0; it must be a number above 0"),
    ("settings: [{betta: 1}]", "VKD has no 'betta'; "),
    ("settings: 3", "settings is 3; it must be names and values"),
    ("layers: 99", "layers is 99; testbed/llava-mllmu/vanilla has 4 live vision blocks"),
    ("{method: MANU, layers: 99}", "layers is 99; testbed/llava-mllmu/vanilla has"),
    ("max_pixels: 5000", "max_pixels is 5000; "),
    ("{model: testbed/qwen2-vl, max_pixels: 5}", "max_pixels is 5; "),
    ("revision: abc", "revision is 'abc', a commit on the Hub; the model testbed/llava-mllmu/vanilla is not"),
    ("{method: NPO, reference: vanila}", "reference is 'vanila'; there is no such folder"),
    ("{method: NPO, reference: vanila}", "did you mean 'vanilla'"),
    ("{method: NPO, reference: testbed/llava-mlmu/vanilla}", "did you mean 'testbed/llava-mllmu/vanilla'"),
    ("evaluation_batch: -1", "evaluation_batch is -1; it must be a whole number 1 or more"),
]


@pytest.mark.parametrize("line, message", WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_point_is_one_line_before_anything_runs(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "notebooks" / "sweeps" / "s.yaml"
    file.parent.mkdir(parents=True)
    (tmp_path / "notebooks" / NOTEBOOK.name).symlink_to(NOTEBOOK)
    fields = f"notebook: {NOTEBOOK.name}\nexperiment: s\nrecord: s\n"
    file.write_text(f"{fields}grid:\n  - seed: [0, 1]\n  - {line}\n")
    assert execute.main([str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{file}: ") and message in said and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        ("- a\n- b\n", "s.yaml holds ['a', 'b']"),
        ("just text", "s.yaml holds 'just text'"),
        ("a: [1\n", "s.yaml, line 2, is not YAML: expected"),
        ("", "s.yaml: the sweep has no field 'notebook'"),
        (None, "s.yaml cannot be read"),
        ("notebook: n\nexperiment: a/b\nrecord: r\ngrid: [seed: 1]\n", "s.yaml: experiment is 'a/b'"),
        ("notebook: n\nexperiment: a\nrecord: ../r\ngrid: [seed: 1]\n", "s.yaml: record is '../r'"),
        (
            "notebook: n\nexperiment: a\nrecord: r\ngrid: [seed: 1]\ncore_minutes: -3\n",
            "s.yaml: core_minutes is -3; it must be a whole number above 0",
        ),
        ("notebook: n\nexperiment: a\nrecord: r\ngrid: [seed: 1]\n", "s.yaml: notebook is 'n'"),
    ],
)
def test_a_wrong_file_is_one_line(content, message, tmp_path, capsys):
    file = tmp_path / "s.yaml"
    if content is not None:
        file.write_text(content)
    assert execute.main([str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(str(tmp_path)) and message in said and said.count("\n") == 1


@pytest.mark.parametrize("variable", ["VKDLIB_RUNS", "VKDLIB_CACHE"])
def test_a_folder_that_cannot_be_written_is_one_line(variable, home, monkeypatch, capsys):
    monkeypatch.setenv(variable, "/dev/null/place")
    file = home / "notebooks" / "sweeps" / "s.yaml"
    file.parent.mkdir(parents=True)
    (home / "notebooks" / NOTEBOOK.name).symlink_to(NOTEBOOK)
    file.write_text(f"notebook: {NOTEBOOK.name}\nexperiment: s\nrecord: s\ngrid: [{{seed: [0, 1]}}]\n")
    presets.cached_benchmark.cache_clear()
    assert execute.main([str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("/dev/null/place") and "could not be made" in said and said.count("\n") == 1


def test_a_sweep_upon_another(tmp_path):
    """At paper scale, for example: what it says takes the place of parameters and axes."""
    base = {"notebook": NOTEBOOK.name, "experiment": "x", "record": "x", "columns": ["beta"]}
    base |= {"parameters": {"forget_ratio": 5, "preset": "testbed"}}
    base |= {"grid": [{"model, benchmark": [["a", "b"], ["c", "b"]], "beta": [0.0, 1.0]}]}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(base))
    file = tmp_path / "y.yaml"
    own = {"base": "x.yaml", "experiment": "y", "record": "y"}
    own |= {"instead": {"preset": "paper-qwen2-vl-7b", "model": "mine"}}
    file.write_text(yaml.safe_dump(own))
    same = {"forget_ratio": 5, "benchmark": "b", "experiment": "y"} | own["instead"]
    assert grid.grid_points(grid.read_sweep(file)) == [same | {"beta": 0.0}, same | {"beta": 1.0}]
    assert grid.read_sweep(file)["columns"] == ["beta"] and grid.read_sweep(file)["record"] == "y"
    check_points(NOTEBOOK, grid.grid_points(grid.read_sweep(file)))
    file.write_text(yaml.safe_dump({k: v for k, v in own.items() if k != "record"}))
    with pytest.raises(ValueError, match="y.yaml: the sweep has no field 'record'"):
        grid.read_sweep(file)  # else it would overwrite the base's
    file.write_text(yaml.safe_dump(own | {"base": "z.yaml"}))
    with pytest.raises(ValueError, match="y.yaml: base is 'z.yaml'; there is no such file"):
        grid.read_sweep(file)
    file.write_text(yaml.safe_dump(own | {"base": "y.yaml"}))
    with pytest.raises(ValueError, match="y.yaml: the sweep builds upon itself"):
        grid.read_sweep(file)


def test_columns_of_a_record():
    """What differs between points, but what every record has, and lists; and what the file names."""
    defaults = check_points(NOTEBOOK, [])
    points = [{"seed": 0, "lr": 0.1, "select": True}, {"seed": 1, "kinds": ["cloze"], "select": True}]
    assert further_columns(points, [], defaults) == ["lr"]
    assert further_columns(points, ["pruned", "select"], defaults) == ["pruned", "select", "lr"]
    with pytest.raises(ValueError, match="no 'betta'; .*did you mean 'beta'"):
        further_columns(points, ["betta"], defaults)
    with pytest.raises(ValueError, match="kinds is a list, which cannot be a column"):
        further_columns(points, ["kinds"], defaults)


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_record_has_the_columns_of_its_sweep(file, tmp_path, monkeypatch):
    """Those of today's records were named one by one; three parameters beside them differ, too."""
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path))
    sweep, record = load_sweep(file), read_records(file.stem)
    more = {"preset", "reference", "prune"} - {*record}
    assert set(sweep.columns) - more == set(record) - set(RECORD)


@dataclass(frozen=True)
class NewMethod(GA):
    """A method with a setting that notebook 04 does not name."""

    patience: float = 1.0


def test_a_sweep_over_a_setting_of_a_new_method(monkeypatch):
    monkeypatch.setitem(METHODS, "New", NewMethod)
    points = [{"method": "New", "settings": {"patience": p}, "preset": "testbed"} for p in (1.5, 2.5)]
    points = [point | {"experiment": "x"} for point in points]
    defaults = check_points(NOTEBOOK, points)
    runs = [run_identity(defaults | point, NOTEBOOK.parent) for point in points]
    assert [run["settings"]["patience"] for run in runs] == [1.5, 2.5]
    assert further_columns(points, [], defaults) == ["patience"]
    assert further_columns(points[:1], ["patience"], defaults) == ["patience"]
    run = Run("x", Configuration(method="New"), paths.runs())
    monkeypatch.setattr(Run, "report", {})
    assert execute.column_values(run, points[0], ["patience"]) == {"patience": 1.5}


def test_the_run_of_a_point_is_what_its_notebook_printed():
    cells = [v4.new_code_cell(outputs=[v4.new_output("stream", text=t)]) for t in TEXTS]
    assert printed_hash(v4.new_notebook(cells=cells)) == "0123456789ab"
    assert printed_hash(v4.new_notebook(cells=cells[:1])) is None


TEXTS = ["rerun fedcba987654\n", "VKD {}\nrun 0123456789ab {'pruned': 0.1}\n"]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Two points of vanilla, run by two workers; the folder of the second one's model is empty: it fails."""
    root, people = tmp_path_factory.mktemp("sweep"), few_people(tmp_path_factory.mktemp("people") / "mllmu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VKDLIB_RUNS", str(root / "runs"))
        patch.setattr(paths, "figures", lambda: root / "figures")
        file = root / "notebooks" / "sweeps" / "s.yaml"
        file.parent.mkdir(parents=True)
        (root / "notebooks" / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
        wanted = {"notebook": NOTEBOOK.name, "experiment": "s", "record": "s"}
        wanted |= {
            "parameters": {
                "method": "vanilla",
                "benchmark": str(people),
                "forget_ratio": 15,
                "preset": "testbed",
            }
        }
        (root / "notebooks" / "empty").mkdir()
        wanted |= {"grid": [{"kinds": [["cloze"]], "model": ["testbed/llava", "empty"]}]}
        file.write_text(yaml.safe_dump(wanted))
        yield root, file, execute.run_sweep(file, workers=2)


@pytest.fixture
def swept(executed, tmp_path_factory):
    """The sweep as it ended, whatever the test before has changed: tests come in any order."""
    root, kept = executed[0], tmp_path_factory.mktemp("kept") / "sweep"
    shutil.copytree(root, kept)
    yield executed
    shutil.rmtree(root)
    shutil.move(kept, root)


def test_a_failed_point_says_where_and_the_others_go_on(swept):
    root, file, failed = swept
    assert [f.point.parameters["model"] for f in failed] == ["empty"]
    number, said = failed[0].error.removeprefix("cell ").split(": ", 1)
    assert "Error: " in said and "empty" in said
    executed = nbformat.read(failed[0].point.executed, 4)
    (cell,) = (c for c in executed.cells if any(o.output_type == "error" for o in c.get("outputs", [])))
    assert cell.execution_count == int(number)  # as Jupyter shows it
    assert len(store.finished_runs("s")) == 1
    assert not (root / "figures" / "data" / "s.csv").exists()  # no record of half a sweep
    report = (root / "runs" / "s" / "notebooks" / "s.md").read_text()
    assert store.finished_runs("s")[0].hash in report and " ".join(said.split()).replace("|", r"\|") in report
    assert failed[0].point.executed.name in report


def test_what_is_done_is_not_run_again(swept, capsys, monkeypatch):
    root, file, _ = swept
    wanted = yaml.safe_load(file.read_text())
    wanted["grid"][0]["model"] = ["testbed/llava"]
    file.write_text(yaml.safe_dump(wanted))
    ran = []
    monkeypatch.setattr(Worker, "execute", lambda _, point: ran.append(point))
    assert execute.run_sweep(file) == [] and ran == []
    assert "1 points, 1 done, 0 to do" in capsys.readouterr().out
    assert len(read_records("s")) == len(store.finished_runs("s")[0].records())
    ((hash, answers),) = read_predictions("s").items()
    assert hash == store.finished_runs("s")[0].hash and len(answers) == len(
        store.finished_runs("s")[0].predictions
    )
    (point,) = load_sweep(file).points
    assert point_result(point).run == store.finished_runs("s")[0]
    other = replace(point, parameters=point.parameters | {"seed": 1})
    assert other.executed != point.executed and point_result(other).run is None

    def gone(*of):
        raise FileNotFoundError("no such model")

    for name in ("_data", "_weights"):
        for answer in (lambda *of: "other", gone):
            with monkeypatch.context() as changed:
                changed.setattr(results, name, answer)
                assert point_result(point).run is None  # the data or the weights are not those of the run
        assert point_result(point).run


def test_a_sweep_ends_as_it_began(swept, monkeypatch):
    """Whatever happens to its file meanwhile; what is no more of today's data has no place in a record."""
    root, file, _ = swept
    wanted = yaml.safe_load(file.read_text())
    wanted["grid"][0]["model"] = ["testbed/llava"]
    file.write_text(yaml.safe_dump(wanted))
    edited = yaml.safe_dump(wanted | {"record": "other", "columns": ["betta"]})
    monkeypatch.setattr(execute, "write_report", lambda *_: file.write_text(edited))
    assert execute.run_sweep(file) == []
    assert len(read_records("s")) == len(store.finished_runs("s")[0].records())
    assert not (root / "figures" / "data" / "other.csv").exists()
    (root / "figures" / "data" / "s.csv").unlink()
    file.write_text(yaml.safe_dump(wanted))
    monkeypatch.setattr(execute, "sweep_state", lambda sweep, _: [Result(p, None) for p in sweep.points])
    monkeypatch.setattr(
        execute, "run_points", lambda *_: monkeypatch.setattr(results, "_data", lambda *_: "")
    )
    (failed,) = execute.run_sweep(file)
    assert "not of today's data" in failed.error
    assert not (root / "figures" / "data" / "s.csv").exists()


def test_a_folder_of_data_is_named_from_where_the_notebook_is(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "notebooks").mkdir()
    looked = []
    monkeypatch.setattr(results, "_data", lambda name, revision: looked.append(name) or "x")
    c = Configuration(benchmark="../data", data="x", model="mine")
    assert results.is_current(Run("e", c, tmp_path), 0.0, tmp_path / "notebooks")
    assert looked == [str(tmp_path / "notebooks" / "../data")]


@pytest.mark.parametrize("of", ["model", "retain_only", "reference"])
def test_a_model_that_was_made_again_since_is_another(of, tmp_path, monkeypatch):
    """The point's notebook is executed again then, and looks at the weights."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(results, "_data", lambda *_: "x")
    names = {"model": "on/hub", "retain_only": None, "reference": "vanilla"} | {of: "../models"}
    reference = names.pop("reference")
    c = Configuration(benchmark="b", data="x", settings={"reference": reference}, **names)
    run = Run("e", c, tmp_path)
    began = time.time()
    assert results.is_current(run, began, tmp_path / "notebooks")
    time.sleep(0.01)
    (tmp_path / "models" / "model.safetensors").write_bytes(b"other")
    assert not results.is_current(run, began, tmp_path / "notebooks")
    assert results.is_current(run, time.time() + 1, tmp_path / "notebooks")


def test_a_dry_run_lists_what_is_left(swept, capsys, monkeypatch):
    root, file, _ = swept
    wanted = yaml.safe_load(file.read_text())
    wanted["grid"][0]["model"] = "testbed/llava"
    wanted["grid"].append(wanted["grid"][0] | {"seed": 1})
    file.write_text(yaml.safe_dump(wanted))
    monkeypatch.setattr(Worker, "execute", lambda *_: pytest.fail("it ran"))
    begun = root / "runs" / "s" / "0123456789ab.part"
    begun.mkdir()
    (begun / "history.csv").write_text("step,loss\n0,2.0\n")
    (begun / "checkpoint.safetensors").write_bytes(b"weights")
    assert execute.main([str(file), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "2 points, 1 done, 1 to do" in printed
    assert f"runs: {root / 'runs' / 's'}; record, once all are done: " in printed
    assert "run 0123456789ab was interrupted, and goes on at step 1" in printed
    (done_one,), (left,) = (
        [s for s in printed.splitlines() if s.startswith(w)] for w in ("  done:", "  to do:")
    )
    assert "'seed'" not in done_one and done_one.endswith(f"run {store.finished_runs('s')[0].hash}")
    assert "'seed': 1" in left
    assert printed.splitlines()[1].endswith("minutes with 1 workers, by the points that are done")


def test_another_preset_is_another_point():
    points = [{"preset": "testbed"}, {}, {"preset": "testbed-clear"}]
    known = check_points(NOTEBOOK, points)
    assert known["preset"] is None and known["alpha"] is None and known["kinds"][0] == "classification"
    assert literal("Path.home()") is None
    plain, clear = (run_identity(known | point, NOTEBOOK.parent) for point in (points[0], points[2]))
    names = {
        Point(NOTEBOOK, {}, NOTEBOOK.parent, NOTEBOOK.parent, run).executed for run in (plain, clear, {})
    }
    assert len(names) == 3 and plain["training"] != clear["training"]
    assert run_identity(known, NOTEBOOK.parent) == plain  # the one that fits
    assert run_identity(known | {"evaluation_batch": 3, "micro_batch": 1}, NOTEBOOK.parent) == plain
    assert run_identity({"seed": 1}, NOTEBOOK.parent) == {}  # a notebook of another kind
    with pytest.raises(ValueError, match="preset is 'mine'; it must be one of testbed"):
        run_identity(known | {"preset": "mine"}, NOTEBOOK.parent)


def test_a_notebook_that_was_killed_is_no_result(swept, monkeypatch):
    root, file, _ = swept
    notebook = root / "notebooks" / NOTEBOOK.name
    point = Point(notebook, {"experiment": "s", "seed": 9}, root / "runs/s/notebooks", notebook.parent)
    point.executed.write_text('{"cells": [')
    assert point_result(point).run is None
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("1")]), point.executed)
    point.log.write_text("Executing\nRuntimeError: the kernel died\n")
    result = point_result(point)
    assert result.run is None and result.error.endswith("said: RuntimeError: the kernel died")
    point.executed.unlink()
    point.log.unlink()
    assert point_result(point).error == "not begun"


def test_a_notebook_that_failed_after_its_run_has_failed(swept, monkeypatch):
    point = load_sweep(swept[1]).points[0]
    assert point_result(point).run
    made = nbformat.read(point.executed, 4)
    for change, said in (
        ({"exception": True}, "cell 2: ValueError: no figure"),
        ({"end_time": None}, "the notebook's process ended early"),
    ):
        broken = nbformat.from_dict(made)
        broken.metadata.papermill |= change
        error = v4.new_output("error", ename="ValueError", evalue="no figure")
        broken.cells.append(v4.new_code_cell(outputs=[error] if "exception" in change else []))
        broken.cells = [c for c in broken.cells if c.cell_type == "code"][-2:]
        nbformat.write(broken, point.executed)
        result = point_result(point)
        assert result.run is None and result.error.startswith(said)
    nbformat.write(made, point.executed)
    monkeypatch.setattr(results, "_data", lambda *_: "other")
    assert point_result(point).run is None and "not of today's data" in point_result(point).error


@pytest.mark.slow
def test_two_sweeps_of_the_same_points_share_them(home):
    """They wait for the same last point, and end at the same moment."""
    file = tiny_sweep(home, seeds=[0, 1], faults=[[2, "slow"]])
    both = [start_sweep(file) for _ in range(2)]
    said = [one.communicate()[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert [f.read_text().count("once") for f in sorted(home.glob("runs/ran_*"))] == [1, 1, 1]
    data = home / "figures" / "data"
    kept = pd.read_parquet(data / "tiny.parquet"), pd.read_csv(data / "tiny.csv")
    assert [table.run.nunique() for table in kept] == [3, 3] and len(list(data.iterdir())) == 2


def test_the_machine_is_shared_out(monkeypatch):
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(local.torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert local.machine_share(1, 3) == {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    monkeypatch.setattr(local.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    shares = [local.machine_share(slot, 4) for slot in range(4)]
    assert [s["CUDA_VISIBLE_DEVICES"] for s in shares] == ["4", "6", "4", "6"]
    assert shares[0]["OMP_NUM_THREADS"] == "2"
    assert local.machine_share(0, 1)["CUDA_VISIBLE_DEVICES"] == "4,6"  # for a point with several processes
    monkeypatch.setattr(local.torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [local.machine_share(slot, 2)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["0,2", "1,3"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what one asks for oneself
    assert local.machine_share(0, 2)["OMP_NUM_THREADS"] == "1"


def test_a_point_is_executed_with_typed_parameters(monkeypatch, tmp_path):
    parameters = {"experiment": "s", "lr": 1e-05, "seed": 2, "kinds": ["cloze"], "prune": False, "beta": None}
    point, given = Point(NOTEBOOK, parameters, tmp_path, NOTEBOOK.parent), []
    monkeypatch.setattr(child.papermill, "execute_notebook", lambda *task, **_: given.extend(task))
    task = json.loads(json.dumps(point.task))
    assert task.pop("log") == str(point.log)
    child.execute_notebook(**task)
    assert given == [str(NOTEBOOK), str(point.executed), parameters] and isinstance(given[2]["lr"], float)


def test_a_process_has_its_share_and_keeps_its_memory(monkeypatch):
    for name in KEEP_MEMORY:
        monkeypatch.delenv(name, raising=False)
    environment = Worker({"VKDLIB_RUNS": "there"}).environment
    assert environment["VKDLIB_RUNS"] == "there" and "PATH" in environment
    assert KEEP_MEMORY.items() <= environment.items()
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")  # what one asks for oneself
    assert Worker({}).environment["MALLOC_TRIM_THRESHOLD_"] == "7"
    makefile = (paths.root() / "Makefile").read_text()  # which sets the same
    assert all(f"export {name} := {value}\n" in makefile for name, value in KEEP_MEMORY.items())


DIRTY = """
import os, random, sys, warnings
import matplotlib.pyplot as plt
import numpy
state = {
    "pid": os.getpid(),
    "left": "leftover" in globals() or len(get_ipython().user_ns["In"]) > 4,
    "place": [os.getcwd(), sys.path[-1], os.environ.get("LEFT")],
    "figures": plt.get_fignums(),
    "style": plt.rcParams["font.size"],
    "numbers": [random.random(), numpy.random.rand()],
}
leftover, number = 1, 2
os.environ["LEFT"] = "left"
os.chdir("/")
sys.path.append("left")
plt.plot([0, 1])
plt.rcParams["font.size"] = 99
random.seed(0)
numpy.random.seed(0)
warnings.warn("said once")
"""
SAID = """
import json
warnings.simplefilter("ignore")
print(json.dumps(state))
"""


def test_a_point_finds_the_process_as_the_first_did(home):
    """All three are executed by one process, in one kernel."""
    file = tiny_sweep(home, seeds=[0, 1, 2])
    notebook = file.parent.parent / "tiny.ipynb"
    changed = nbformat.read(notebook, 4)
    changed.cells[1:] = [v4.new_code_cell(DIRTY), v4.new_code_cell(SAID)]
    nbformat.write(changed, notebook)
    points = load_sweep(file).points
    execute.run_points(points, 1, None, "tiny")
    made = [nbformat.read(point.executed, 4).cells for point in points]
    states = [json.loads(cells[-1].outputs[0].text) for cells in made]
    assert len({state.pop("pid") for state in states}) == 1
    assert len({tuple(state.pop("numbers")) for state in states}) == 3
    assert states[0] == states[1] == states[2] and not states[0]["left"] and not states[0]["figures"]
    for cells in made:
        outputs = cells[-2].outputs
        assert any("said once" in str(output) for output in outputs)
        assert sum("image/png" in str(output) for output in outputs) == 1
        assert [cell.execution_count for cell in cells] == [1, 2, 3, 4]


def test_the_process_after_a_failed_point_is_another(home):
    file = tiny_sweep(home, seeds=[0], faults=[[1, "error"], [2, ""]])
    points, seen = load_sweep(file).points, []
    worker = Worker(paths.places())
    with contextlib.closing(worker):
        for point in points:
            worker.execute(point)
            seen.append(worker.process and worker.process.pid)
            assert not worker.process or len(psutil.Process(seen[-1]).children(recursive=True)) == 1
    assert seen[1] is None and seen[0] != seen[2] and gone([seen[0], seen[2]])
    assert [bool(point_result(point).run) for point in points] == [True, False, True]
    texts = [point.log.read_text() for point in points]
    assert ["out of luck" in text for text in texts] == [False, True, False]
    worker.execute(points[1])  # it is closed
    assert point_result(points[1]).run is None


def test_what_another_sweep_did_meanwhile_is_not_done_again(monkeypatch, tmp_path):
    """Its notebook would be empty when that sweep looks at it."""
    executed, tried = tmp_path / "out.ipynb", []

    def other(kind):
        """The lock comes free when another process has written its notebook."""
        made = {"exception": kind == "failed", "end_time": None if kind == "killed" else "now"}
        nbformat.write(v4.new_notebook(metadata={"papermill": made}), executed)
        return contextlib.nullcontext()

    monkeypatch.setattr(child.papermill, "execute_notebook", lambda *task, **_: tried.append(task))
    for kind, times in (("finished", 0), ("failed", 1), ("killed", 2)):
        monkeypatch.setattr(child, "FileLock", lambda file, kind=kind: other(kind))
        child.execute_notebook("n.ipynb", str(executed), ".", {})
        assert len(tried) == times
    monkeypatch.setattr(child, "FileLock", lambda file: contextlib.nullcontext())
    other("finished")  # long ago: whoever starts a point anew has a reason
    child.execute_notebook("n.ipynb", str(executed), ".", {})
    assert len(tried) == 3


def test_a_kernel_that_died_gets_one_more_try(monkeypatch, tmp_path):
    tried = []

    def die(*task, **options):
        tried.append(task)
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(child.papermill, "execute_notebook", die)
    with pytest.raises(RuntimeError):
        child.execute_notebook("n.ipynb", str(tmp_path / "out.ipynb"), ".", {})
    assert len(tried) == 2


def test_an_error_that_the_kernel_did_not_tell_is_known_by_its_answer(tmp_path):
    """A message that is lost now and then, on a busy machine."""
    lose = "get_ipython()._showtraceback = lambda *_: None\n"
    notebook = v4.new_notebook(cells=[v4.new_code_cell(lose + "raise ValueError('too long')")])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    point = Point(tmp_path / "n.ipynb", {}, tmp_path, tmp_path)
    point.log.write_text("")  # it was begun
    with pytest.raises(papermill.PapermillExecutionError):
        child.execute_notebook(str(point.notebook), str(point.executed), str(tmp_path), {})
    assert point_result(point).error == "cell 1: ValueError: too long"


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_and_the_sweep_goes_on(home, capsys):
    """The second point hangs at first, the third loses its kernel."""
    file = tiny_sweep(home, seeds=[0], faults=[[1, "hang"], [2, "kernel"]])
    process = start_sweep(file, "--workers", "2")
    while not (home / "runs" / "hang_1").exists() or not store.finished_runs("tiny"):
        assert process.poll() is None
        time.sleep(0.1)
    children = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGINT)
    said = process.communicate()[0]
    assert process.returncode == 130
    assert said.endswith("stopped: what is finished is kept, and the same command goes on from here\n")
    assert len(children) >= 2 and gone(children)
    before = len(store.finished_runs("tiny"))
    assert execute.main([str(file), "--workers", "2"]) == 0
    assert f"3 points, {before} done" in capsys.readouterr().out
    assert {run.configuration.seed for run in store.finished_runs("tiny")} == {0, 1, 2}


def test_a_point_whose_process_is_killed_is_tried_by_the_next_command(home):
    file = tiny_sweep(home, faults=[[1, "papermill"]])
    (failed,) = execute.run_sweep(file)
    assert failed.error.startswith("the notebook's process ended early")
    assert gone([int((home / "runs" / "papermill_1").read_text())])  # its notebook
    assert execute.run_sweep(file) == [] and len(store.finished_runs("tiny")) == 1


def gone(pids):
    """Whether processes end within ten minutes."""
    deadline = time.time() + 600
    while (left := [pid for pid in pids if psutil.pid_exists(pid)]) and time.time() < deadline:
        time.sleep(0.1)
    return not left


def test_a_stop_is_told_though_no_report_can_be_written(swept, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    def in_pieces(*_):
        raise ModuleNotFoundError("a module that was being imported when it came")

    monkeypatch.setattr(execute, "run_points", stopped)
    monkeypatch.setattr(execute, "write_report", in_pieces)
    assert execute.main([str(swept[1])]) == 130
    assert "the same command goes on from here" in capsys.readouterr().out


def test_failures_are_shown_as_they_happen(swept, capsys, monkeypatch):
    root, file, _ = swept
    finished, failed = load_sweep(file).points
    points, shown, lines = [failed, finished, failed], [], []
    monkeypatch.setattr("tqdm.std.tqdm.set_postfix", lambda self, **numbers: shown.append(numbers))
    monkeypatch.setattr("tqdm.std.tqdm.write", lambda _, line: lines.append((len(shown), line)))
    monkeypatch.setattr(execute, "ending_points", lambda *_: (p for p in points))
    execute.run_points(points, 1, None, "s")
    assert shown == [{"failed": 1}, {"failed": 1}, {"failed": 2}]
    assert [number for number, _ in lines] == [0, 2]  # each before the next point ends
    assert all(line.startswith("failed: {'benchmark': ") and "empty" in line for _, line in lines)


def test_a_sweep_from_a_cell_of_a_notebook(tmp_path, monkeypatch):
    """Its progress is a widget there, and a failed point is told."""
    file = tiny_sweep(tmp_path, seeds=[0], faults=[[1, "error"]])
    for name, place in {"RUNS": tmp_path / "runs", "ROOT": tmp_path, "PROGRESS": 1}.items():
        monkeypatch.setenv(f"VKDLIB_{name}", str(place))
    cell = f"""
from vkdlib.sweep import execute, results
results.is_current = lambda *_: True
print("failed:", [f.point.parameters["seed"] for f in execute.run_sweep({str(file)!r})])
"""
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell)])
    done = NotebookClient(notebook, kernel_name="python3", timeout=None).execute()
    outputs = done.cells[0].outputs
    assert "out of luck" in str(outputs) and "failed: [1]" in str(outputs)
    views = [o.data["application/vnd.jupyter.widget-view+json"] for o in outputs if "data" in o]
    states = done.metadata.widgets["application/vnd.jupyter.widget-state+json"].state
    texts = [str(state.state.get("value")) for state in states.values()]
    assert views and any(text.startswith("tiny") and text.endswith("100%") for text in texts)


def test_an_edited_notebook_changes_no_point_of_a_sweep_that_runs(home):
    file = tiny_sweep(home, seeds=[0])
    (point,) = load_sweep(file).points
    notebook = file.parent.parent / "tiny.ipynb"
    changed = nbformat.read(notebook, 4)
    changed.cells[1].source = "raise ValueError('half edited')"
    nbformat.write(changed, notebook)
    execute.run_points([point], 1, None, "tiny")
    assert point_result(point).run
    (other,) = load_sweep(file).points
    assert other.executed != point.executed and point_result(other).run is None


def test_the_time_left_is_that_of_the_points_that_are_done():
    run = Run("x", Configuration(), NOTEBOOK)
    point = Point(NOTEBOOK, {}, NOTEBOOK.parent, NOTEBOOK.parent)
    left, done = Result(point, None), [Result(point, run, seconds=s) for s in (120.0, 240.0)]
    assert results.expected_time(done, 2, 4) == "nothing to do"
    assert results.expected_time([left], 1, None) == "how long a point takes is not known yet"
    assert results.expected_time([left] * 3, 2, 12) == (
        "about 6 minutes with 2 workers, by what the sweep took where it was made"
    )
    assert results.expected_time([*done, *[left] * 4], 2, 12) == (
        "about 6 minutes with 2 workers, by the points that are done"
    )


def test_each_point_is_judged_once(swept, monkeypatch):
    """When a sweep starts; and all once more when it has run some."""
    root, file, _ = swept
    judged, look = [], results.point_result
    monkeypatch.setattr(results, "point_result", lambda point: judged.append(point) or look(point))
    monkeypatch.setattr(Worker, "execute", lambda *_: None)
    (left,) = execute.run_sweep(file)
    assert judged == 2 * load_sweep(file).points
    wanted = yaml.safe_load(file.read_text())
    wanted["grid"][0]["model"] = ["testbed/llava"]
    file.write_text(yaml.safe_dump(wanted))
    judged.clear()
    assert execute.run_sweep(file) == [] and judged == load_sweep(file).points
