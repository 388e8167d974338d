"""Sweeps: the grid, what is checked before anything runs, what is done, and what failed."""

import contextlib
import json
import shutil
import signal
import subprocess
import time

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
from vkdlib.runs import store
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.records import read_predictions, read_records
from vkdlib.runs.run import Run
from vkdlib.sweep import child, execute, finished, grid, here
from vkdlib.system import paths

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
    seeds = grid.axis("seed", {"linspace": [0, 2, 3]})
    assert seeds == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    grid.check(NOTEBOOK, seeds)  # whole numbers stay so
    for scale, ends in (
        ("range", [0, 1, 3]),
        ("linspace", 3),
        ("linspace", [0, 1]),
        ("logspace", [0, 10, 5]),
    ):
        with pytest.raises(ValueError, match=f"axis 'lr': {{'{scale}.* neither linspace nor logspace"):
            grid.axis("lr", {scale: ends})


@pytest.mark.parametrize(
    "point, message",
    [
        ({"betta": 1.0}, "04_run_unlearn.ipynb has no parameter 'betta'; it has: exp"),
        ({"seed": "two"}, "seed is 'two'; it must be of type int"),
        ({"seed": 1.5}, "seed is 1.5"),
        (yaml.safe_load("lr: 1e-5"), "lr is '1e-5'; it must be of type float .YAML wants a dot"),
        ({"seed": True}, "seed is True"),
        ({"seed": False}, "seed is False"),
        ({"prune": 1}, "prune is 1"),
        ({"kinds": "cloze"}, "kinds is 'cloze'; it must be of type list"),
        ({"forget_ratio": None}, "forget_ratio is None"),
        ({"kinds": ["cloze", "clozze"]}, "kinds is 'clozze'; known are classification, cloze, generation"),
        ({"method": "VKDD"}, "method is 'VKDD'; known are GA, "),
        ({"preset": "testbedd"}, "preset is 'testbedd'; known are testbed, "),
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
    whole = {"notebook": "a", "experiment": "x", "grid": [{"seed": 1}], "record": "r"}
    for field, wrong in {"columns": "beta", "parameters": None, "grid": {"seed": 1}, "record": 3}.items():
        file.write_text(yaml.safe_dump(whole | {field: wrong}))
        with pytest.raises(ValueError, match=f"s.yaml: {field} is "):
            grid.read(file)
    for nothing in ([], [{"seed": []}], ["seed"]):
        file.write_text(yaml.safe_dump(whole | {"grid": nothing}))
        with pytest.raises(ValueError, match="s.yaml: grid has no points"):
            grid.read(file)


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
    assert grid.points(grid.read(file)) == [same | {"beta": 0.0}, same | {"beta": 1.0}]
    assert grid.read(file)["columns"] == ["beta"] and grid.read(file)["record"] == "y"
    grid.check(NOTEBOOK, grid.points(grid.read(file)))
    file.write_text(yaml.safe_dump({k: v for k, v in own.items() if k != "record"}))
    with pytest.raises(ValueError, match="y.yaml has no field 'record'"):
        grid.read(file)  # else it would overwrite the base's
    file.write_text(yaml.safe_dump(own | {"base": "z.yaml"}))
    with pytest.raises(ValueError, match="y.yaml: base is 'z.yaml'; there is no such file"):
        grid.read(file)
    file.write_text(yaml.safe_dump(own | {"base": "y.yaml"}))
    with pytest.raises(ValueError, match="y.yaml builds upon itself"):
        grid.read(file)


def test_columns_that_could_not_be_written_stop_before_anything_runs():
    grid.check(NOTEBOOK, [{}], ["beta"])
    with pytest.raises(ValueError, match="has no parameter 'betta'"):
        grid.check(NOTEBOOK, [{}], ["betta"])
    with pytest.raises(ValueError, match="kinds is a list, which cannot be a column"):
        grid.check(NOTEBOOK, [{}], ["kinds"])


def test_the_run_of_a_point_is_what_its_notebook_printed(monkeypatch):
    point = execute.Point(NOTEBOOK, {}, NOTEBOOK.parent)
    cells = [v4.new_code_cell(outputs=[v4.new_output("stream", text=t)]) for t in TEXTS]
    monkeypatch.setattr(execute.Point, "content", v4.new_notebook(cells=cells))
    assert point.run_hash == "0123456789ab"
    monkeypatch.setattr(execute.Point, "content", v4.new_notebook(cells=cells[:1]))
    assert point.run_hash is None


TEXTS = ["rerun fedcba987654\n", "VKD {}\nrun 0123456789ab {'pruned': 0.1}\n"]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Two points of vanilla (one asks for no kind of question: it fails), run by two workers."""
    root, people = tmp_path_factory.mktemp("sweep"), few_people(tmp_path_factory.mktemp("people") / "mllmu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VKDLIB_RUNS", str(root / "runs"))
        patch.setattr(paths, "figures", lambda: root / "figures")
        file = root / "notebooks" / "sweeps" / "s.yaml"
        file.parent.mkdir(parents=True)
        (root / "notebooks" / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
        wanted = {"notebook": NOTEBOOK.name, "experiment": "s", "record": "s"}
        wanted |= {"parameters": {"method": "vanilla", "benchmark": str(people)}}
        wanted |= {"grid": [{"kinds": [["cloze"]], "forget_ratio": [5, 7]}]}
        file.write_text(yaml.safe_dump(wanted))
        yield root, file, execute.execute(file, workers=2)


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
    assert [p.parameters["forget_ratio"] for p in failed] == [7]
    number, said = failed[0].error.removeprefix("cell ").split(": ", 1)
    assert said.startswith("ValueError: forget_ratio is 7")
    executed = nbformat.read(failed[0].executed, 4)
    (cell,) = (c for c in executed.cells if any(o.output_type == "error" for o in c.get("outputs", [])))
    assert cell.execution_count == int(number)  # as Jupyter shows it
    assert len(store.finished_runs("s")) == 1
    assert not (root / "figures" / "data" / "s.csv").exists()  # no record of half a sweep
    report = (root / "runs" / "s" / "notebooks" / "s.md").read_text()
    assert store.finished_runs("s")[0].hash in report and "forget_ratio is 7" in report
    assert failed[0].executed.name in report


def test_what_is_done_is_not_run_again(swept, capsys, monkeypatch):
    root, file, _ = swept
    wanted = yaml.safe_load(file.read_text())
    wanted["grid"][0]["forget_ratio"] = [5]
    file.write_text(yaml.safe_dump(wanted))
    ran = []
    monkeypatch.setattr(execute.Point, "execute", lambda self, *_: ran.append(self))
    assert execute.execute(file) == [] and ran == []
    assert "1 points, 1 done, 0 to do" in capsys.readouterr().out
    assert len(read_records("s")) == len(store.finished_runs("s")[0].records())
    ((hash, answers),) = read_predictions("s").items()
    (run,) = store.finished_runs("s")
    assert hash == run.hash and len(answers) == len(run.predictions)
    (point,) = execute.points(file)
    assert execute.run_of(point) == store.finished_runs("s")[0]
    other = execute.Point(point.notebook, point.parameters | {"seed": 1}, point.folder)
    assert other.executed != point.executed and execute.run_of(other) is None

    def gone(*of):
        raise FileNotFoundError("no such model")

    for name in ("_data", "_weights"):
        for answer in (lambda *of: "other", gone):
            with monkeypatch.context() as changed:
                changed.setattr(finished, name, answer)
                assert execute.run_of(point) is None  # the data or the weights are not those of the run
        assert execute.run_of(point)


def test_a_sweep_ends_as_it_began(swept, monkeypatch):
    """Whatever happens to its file meanwhile; what is no more of today's data has no place in a record."""
    root, file, _ = swept
    wanted = yaml.safe_load(file.read_text())
    wanted["grid"][0]["forget_ratio"] = [5]
    file.write_text(yaml.safe_dump(wanted))
    edited = yaml.safe_dump(wanted | {"record": "other", "columns": ["betta"]})
    monkeypatch.setattr(execute, "write_report", lambda *_: file.write_text(edited))
    assert execute.execute(file) == []
    assert len(read_records("s")) == len(store.finished_runs("s")[0].records())
    assert not (root / "figures" / "data" / "other.csv").exists()
    (root / "figures" / "data" / "s.csv").unlink()
    file.write_text(yaml.safe_dump(wanted))
    monkeypatch.setattr(
        execute, "write_report", lambda *_: monkeypatch.setattr(finished, "_data", lambda *_: "new")
    )
    (point,) = execute.execute(file)
    assert "not of today's data" in point.error
    assert not (root / "figures" / "data" / "s.csv").exists()


def test_a_folder_of_data_is_named_from_where_the_notebook_is(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "notebooks").mkdir()
    looked = []
    monkeypatch.setattr(finished, "_data", lambda name, revision: looked.append(name) or "x")
    c = Configuration(benchmark="../data", data="x", model="mine")
    assert finished.up_to_date(Run("e", c, tmp_path), 0.0, tmp_path / "notebooks")
    assert looked == [str(tmp_path / "notebooks" / "../data")]


@pytest.mark.parametrize("of", ["model", "retain_only", "reference"])
def test_a_model_that_was_made_again_since_is_another(of, tmp_path, monkeypatch):
    """The point's notebook is executed again then, and looks at the weights."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(finished, "_data", lambda *_: "x")
    names = {"model": "on/hub", "retain_only": None, "reference": "vanilla"} | {of: "../models"}
    reference = names.pop("reference")
    c = Configuration(benchmark="b", data="x", settings={"reference": reference}, **names)
    run = Run("e", c, tmp_path)
    began = time.time()
    assert finished.up_to_date(run, began, tmp_path / "notebooks")
    time.sleep(0.01)
    (tmp_path / "models" / "model.safetensors").write_bytes(b"other")
    assert not finished.up_to_date(run, began, tmp_path / "notebooks")
    assert finished.up_to_date(run, time.time() + 1, tmp_path / "notebooks")


def test_a_dry_run_lists_what_is_left(swept, capsys, monkeypatch):
    root, file, _ = swept
    wanted = yaml.safe_load(file.read_text())
    wanted["grid"][0]["forget_ratio"] = [5, 10]
    file.write_text(yaml.safe_dump(wanted))
    monkeypatch.setattr(execute.Point, "execute", lambda *_: pytest.fail("it ran"))
    assert execute.main([str(file), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "2 points, 1 done, 1 to do" in printed
    (done_one,), (left,) = (
        [s for s in printed.splitlines() if s.startswith(w)] for w in ("  done:", "  to do:")
    )
    assert "'forget_ratio': 5" in done_one and done_one.endswith(f"run {store.finished_runs('s')[0].hash}")
    assert "'forget_ratio': 10" in left
    assert "by points that were run before" in printed


def test_another_preset_is_another_point(monkeypatch):
    points = [{"preset": "testbed"}, {}, {"preset": "testbed-clear"}]
    known = grid.check(NOTEBOOK, points)
    assert known["preset"] is None and known["alpha"] is None and known["kinds"][0] == "classification"
    assert grid.literal("Path.home()") is None
    plain, clear = (presets.point_values(known | point) for point in (points[0], points[2]))
    names = {execute.Point(NOTEBOOK, {}, NOTEBOOK.parent, values).executed for values in (plain, clear, {})}
    assert len(names) == 3 and plain["training"]["lr"] == 1e-3
    assert presets.point_values(known) == plain  # the one that fits


def test_a_notebook_that_was_killed_is_no_result(swept, monkeypatch):
    root, file, _ = swept
    point = execute.Point(
        root / "notebooks" / NOTEBOOK.name, {"experiment": "s", "seed": 9}, root / "runs/s/notebooks"
    )
    point.executed.write_text('{"cells": [')
    assert execute.run_of(point) is None
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("1")]), point.executed)
    point.log.write_text("Executing\nRuntimeError: the kernel died\n")
    assert execute.run_of(point) is None and point.error.endswith("said: RuntimeError: the kernel died")
    point.executed.unlink()
    point.log.unlink()
    assert point.error == "not begun"


def test_a_notebook_that_failed_after_its_run_has_failed(swept, monkeypatch):
    (point, _) = execute.points(swept[1])[:2]
    assert execute.run_of(point)
    made = point.content
    for change, said in (
        ({"exception": True}, "cell 2: ValueError: no figure"),
        ({"end_time": None}, "the notebook's process ended early"),
    ):
        broken = nbformat.from_dict(made)
        broken.metadata.papermill |= change
        error = v4.new_output("error", ename="ValueError", evalue="no figure")
        broken.cells.append(v4.new_code_cell(outputs=[error] if "exception" in change else []))
        broken.cells = [c for c in broken.cells if c.cell_type == "code"][-2:]
        monkeypatch.setattr(execute.Point, "content", broken)
        assert execute.run_of(point) is None and point.error.startswith(said)
    monkeypatch.setattr(execute.Point, "content", made)
    monkeypatch.setattr(finished, "_data", lambda *_: "other")
    assert execute.run_of(point) is None and "not of today's data" in point.error


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
    monkeypatch.setattr(here.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(here.torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert here.share(1, 3) == {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    monkeypatch.setattr(here.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    shares = [here.share(slot, 4) for slot in range(4)]
    assert [s["CUDA_VISIBLE_DEVICES"] for s in shares] == ["4", "6", "4", "6"]
    assert shares[0]["OMP_NUM_THREADS"] == "2"
    assert here.share(0, 1)["CUDA_VISIBLE_DEVICES"] == "4,6"  # for a point with several processes
    monkeypatch.setattr(here.torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [here.share(slot, 2)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["0,2", "1,3"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what one asks for oneself
    assert here.share(0, 2)["OMP_NUM_THREADS"] == "1"


def test_a_point_is_executed_with_typed_parameters(swept, monkeypatch, tmp_path):
    parameters = {"experiment": "s", "lr": 1e-05, "seed": 2, "kinds": ["cloze"], "prune": False, "beta": None}
    point, called = execute.Point(NOTEBOOK, parameters, tmp_path), {}
    monkeypatch.setattr(subprocess, "run", lambda command, **options: called.update(options, c=command))
    point.execute({"VKDLIB_RUNS": "there"}, 5)
    assert called["stdin"] == 5 and called["env"]["VKDLIB_RUNS"] == "there" and "PATH" in called["env"]
    given = []
    monkeypatch.setattr(child.papermill, "execute_notebook", lambda *task, **_: given.extend(task))
    child.execute(**json.loads(called["c"][-1]))
    assert given == [str(NOTEBOOK), str(point.executed), parameters] and isinstance(given[2]["lr"], float)


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
        child.execute("n.ipynb", str(executed), ".", {})
        assert len(tried) == times
    monkeypatch.setattr(child, "FileLock", lambda file: contextlib.nullcontext())
    other("finished")  # long ago: whoever starts a point anew has a reason
    child.execute("n.ipynb", str(executed), ".", {})
    assert len(tried) == 3


def test_a_kernel_that_died_gets_one_more_try(monkeypatch, tmp_path):
    tried = []

    def die(*task, **options):
        tried.append(task)
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(child.papermill, "execute_notebook", die)
    with pytest.raises(RuntimeError):
        child.execute("n.ipynb", str(tmp_path / "out.ipynb"), ".", {})
    assert len(tried) == 2


def test_an_error_that_the_kernel_did_not_tell_is_known_by_its_answer(tmp_path):
    """A message that is lost now and then, on a busy machine."""
    lose = "get_ipython()._showtraceback = lambda *_: None\n"
    notebook = v4.new_notebook(cells=[v4.new_code_cell(lose + "raise ValueError('too long')")])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    point = execute.Point(tmp_path / "n.ipynb", {}, tmp_path)
    point.log.write_text("")  # it was begun
    with pytest.raises(papermill.PapermillExecutionError):
        child.execute(str(point.notebook), str(point.executed), str(tmp_path), {})
    assert point.error == "cell 1: ValueError: too long"


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
    (failed,) = execute.execute(file)
    assert failed.error.startswith("the notebook's process ended early")
    assert gone([int((home / "runs" / "papermill_1").read_text())])  # its notebook
    assert execute.execute(file) == [] and len(store.finished_runs("tiny")) == 1


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

    monkeypatch.setattr(execute, "attempt", stopped)
    monkeypatch.setattr(execute, "write_report", in_pieces)
    assert execute.main([str(swept[1])]) == 130
    assert "the same command goes on from here" in capsys.readouterr().out


def test_failures_are_shown_as_they_happen(swept, capsys, monkeypatch):
    root, file, _ = swept
    everything = execute.points(file)[:1] * 2
    shown = []
    monkeypatch.setattr(execute, "ended", lambda *_: (p for p in everything))
    monkeypatch.setattr(execute, "run_of", lambda p: None)
    monkeypatch.setattr("tqdm.std.tqdm.set_postfix", lambda self, **numbers: shown.append(numbers))
    assert execute.attempt(everything, 1, None, "s") == everything
    assert shown == [{"failed": 1}, {"failed": 2}]
    assert capsys.readouterr().out.count("failed: {'benchmark': ") == 2


def test_a_sweep_from_a_cell_of_a_notebook(tmp_path, monkeypatch):
    """Its progress is a widget there, and a failed point is told."""
    file = tiny_sweep(tmp_path, seeds=[0], faults=[[1, "error"]])
    for name, place in {"RUNS": tmp_path / "runs", "ROOT": tmp_path, "PROGRESS": 1}.items():
        monkeypatch.setenv(f"VKDLIB_{name}", str(place))
    cell = f"""
from vkdlib.sweep import execute, finished
finished.up_to_date = lambda *_: True
print("failed:", [p.parameters["seed"] for p in execute.execute({str(file)!r})])
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
    (point,) = execute.points(file)
    notebook = file.parent.parent / "tiny.ipynb"
    changed = nbformat.read(notebook, 4)
    changed.cells[1].source = "raise ValueError('half edited')"
    nbformat.write(changed, notebook)
    assert execute.attempt([point], 1, None, "tiny") == [] and execute.run_of(point)
    (other,) = execute.points(file)
    assert other.executed != point.executed and execute.run_of(other) is None


def test_the_time_left_is_that_of_points_of_the_same_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path))
    assert finished.expected_time([], 2) == "nothing to do"
    points = [
        execute.Point(NOTEBOOK, {"method": m}, tmp_path / "x" / "notebooks") for m in ("VKD", "GA", "VKD")
    ]
    assert finished.expected_time(points, 1) == "how long a point takes is not known yet"
    assert finished.expected_time(points, 2, 4.0).startswith(
        "about 6 minutes with 2 workers, by what the sweep"
    )
    for number, seconds in enumerate((10, 600)):  # the shorter one only found its run
        made = {"parameters": {"method": "VKD"}, "duration": seconds}
        folder = tmp_path / "other" / "notebooks"
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(v4.new_notebook(metadata={"papermill": made}), folder / f"{number}.ipynb")
    (folder / "damaged.ipynb").write_text("{")
    said = finished.expected_time(points, 2)
    assert said.startswith("about 15 minutes with 2 workers") and said.endswith(
        "; 1 are of kinds that were not run before"
    )
    assert finished.expected_time(points, 2, 4.0).startswith(
        "about 12 minutes with 2 workers, by what the sweep"
    )
    large = execute.Point(NOTEBOOK, {"method": "VKD", "model": "llava-7b"}, tmp_path / "x" / "notebooks")
    assert finished.expected_time([large], 1) == "how long a point takes is not known yet"
    said = finished.expected_time([points[0], large], 1)
    assert said == (
        "about 10 minutes with 1 workers, by points that were run before; "
        "not counting 1, with models that were not run before"
    )
