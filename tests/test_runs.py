"""Run folders: identity, completeness, tampering, two processes on one run."""

import functools
import json
import re
import shutil
import time
from dataclasses import replace
from importlib.metadata import version
from unittest import mock

import pandas as pd
import pytest
import torch
from conftest import begin, full_disk

import vkdlib
from vkdlib.models.loaded import weights_hash
from vkdlib.runs import deltas, store
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.records import read_predictions, read_records, write_predictions, write_records
from vkdlib.runs.run_folder import RECORD
from vkdlib.system import paths
from vkdlib.system.files import read_json

CONFIG = Configuration(model="m", benchmark="b", schema="mllmu")


def predictions():
    return pd.DataFrame(
        {"set": "forget", "kind": "classification", "modality": "vqa", "person": ["1", "2"],
         "question": ["a", "b"], "answer": ["A", "B"], "gold": ["A", "A"], "score": [1.0, 0.0],
         "bleu": None, "options": ['{"A": -1, "B": -2}', '{"A": -2, "B": -1}']}
    )  # fmt: skip


def finished(home, config=CONFIG):
    with store.open_run("test", config, home) as run:
        run.finish(predictions(), [{"step": 0, "lr": 0.1, "loss": 2.0}], {"pruned": 0.5})
    return run


def test_round_trip(tmp_path):
    run = finished(tmp_path)
    assert run.done and not run.partial.exists()
    who = run.predictions[["model", "method", "seed"]].drop_duplicates()
    assert who.values.tolist() == [["m", "VKD", 0]]
    pd.testing.assert_frame_equal(run.predictions.iloc[:, 3:], predictions())
    assert run.history.loss.tolist() == [2.0] and run.report == {"pruned": 0.5}
    record = run.records(beta=0.3).iloc[0]
    assert list(run.records().columns) == RECORD
    assert (record.value, record.n, record.run, record.beta) == (50.0, 2, run.hash, 0.3)
    assert [r.hash for r in store.finished_runs("test", tmp_path)] == [run.hash]


def test_the_environment_is_no_part_of_the_identity(tmp_path):
    run = finished(tmp_path)
    environment = read_json(run.folder / "env.json")
    assert environment["processes"] == "1" and not hasattr(run.configuration, "processes")
    for package in ("torch", "accelerate", "peft", "bitsandbytes"):
        assert environment[package] == version(package)


def test_identity_is_the_configuration(tmp_path):
    run = finished(tmp_path)
    with store.open_run("test", Configuration(benchmark="b", model="m", schema="mllmu"), tmp_path) as same:
        assert same.done and same.hash == run.hash
    with store.open_run("test", replace(CONFIG, seed=1), tmp_path) as other:
        assert not other.done and other.hash != run.hash


def test_a_run_is_found_under_another_experiment(tmp_path):
    run = finished(tmp_path)
    with store.open_run("other", CONFIG, tmp_path) as same:
        assert same.done and same.folder == tmp_path / "other" / run.hash
    assert same.records().experiment.unique().tolist() == ["other"]
    pd.testing.assert_frame_equal(same.predictions, run.predictions)
    (run.folder / "metrics.json").write_text("{}")
    (same.folder / "metrics.json").write_text("{}")
    with store.open_run("third", CONFIG, tmp_path) as another:  # no damaged run is taken over
        assert not another.done and not another.partial.exists()


@pytest.mark.parametrize("kept", range(6))
def test_killed_while_it_is_copied_from_another_experiment(tmp_path, monkeypatch, kept):
    """Whichever file was the last: the next one copies again, or computes."""
    assert len(list(finished(tmp_path).folder.iterdir())) == 6
    copied, copy = [], shutil.copy2

    def dying(source, target, **options):
        if len(copied) == kept:
            raise KeyboardInterrupt
        copied.append(source)
        return copy(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", functools.partial(shutil.copytree, copy_function=dying))
        patch.setattr(shutil, "copy", dying)
        with pytest.raises(KeyboardInterrupt), store.open_run("other", CONFIG, tmp_path):
            pytest.fail("it was not killed")
    with store.open_run("other", CONFIG, tmp_path) as same:
        assert same.done and len(same.predictions) == 2


def test_what_code_made_a_run_is_on_record(tmp_path):
    told = json.loads((finished(tmp_path).folder / "env.json").read_text())
    assert re.fullmatch("[0-9a-f]{12}", told["code"]) and told["vkdlib"] == vkdlib.__version__


def test_another_version_of_the_library_is_another_run(tmp_path, monkeypatch):
    finished(tmp_path)
    monkeypatch.setattr("vkdlib.__version__", "9.9.9")
    assert store.finished_runs("test", tmp_path) == []


def test_all_finished_runs_as_a_table(tmp_path):
    assert store.runs_table(tmp_path).empty and store.runs_table(tmp_path, seed=0).empty
    trained = replace(CONFIG, settings={"beta": 0.3}, training={"lr": 0.1}, kinds=["cloze"])
    a, b = finished(tmp_path), finished(tmp_path, trained)
    with store.open_run("other", replace(CONFIG, seed=1), tmp_path) as other:
        other.finish(predictions())
    table = store.runs_table(tmp_path)
    assert table.groupby("experiment").run.apply(set).to_dict() == {
        "test": {a.hash, b.hash},
        "other": {other.hash},
    }
    assert table.set_index("run").loc[b.hash, ["beta", "lr", "method"]].tolist() == [0.3, 0.1, "VKD"]
    assert store.runs_table(tmp_path, beta=0.3, method="VKD").run.tolist() == [b.hash]
    assert store.runs_table(tmp_path, kinds=("cloze",), experiment="test").run.tolist() == [b.hash]
    none = store.runs_table(tmp_path, seed=7)
    assert none.empty and list(none) == list(table)
    assert set(store.runs_table(tmp_path, qa_image=None).run) == {a.hash, b.hash, other.hash}
    with pytest.raises(
        ValueError, match="a run has no 'betta'; it has: experiment, run, .*did you mean 'beta'"
    ):
        store.runs_table(tmp_path, betta=1)
    (a.folder / "config.json").write_text("{")
    with pytest.warns(UserWarning, match=f"{a.hash}.config.json is damaged"):
        assert set(store.runs_table(tmp_path).run) == set(table.run) - {a.hash}


@pytest.mark.parametrize("name", ["predictions.parquet", "metrics.json", "history.csv"])
def test_tampering_and_loss_are_noticed(tmp_path, name):
    run = finished(tmp_path)
    file = run.folder / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(paths.RunError, match=f"{name} was changed since the run ended: delete"):
        run.predictions  # noqa: B018
    file.unlink()
    with pytest.raises(paths.RunError, match=f"{name} is missing"):
        with store.open_run("test", CONFIG, tmp_path):
            pass


def test_an_unfinished_folder_is_no_run_and_is_replaced(tmp_path):
    run = finished(tmp_path)
    (run.folder / "DONE").unlink()
    assert store.finished_runs("test", tmp_path) == []
    assert finished(tmp_path).done
    assert len(store.finished_runs("test", tmp_path)) == 1


def test_killed_between_done_and_its_name(tmp_path, monkeypatch):
    killed = mock.Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr("vkdlib.runs.run_folder.os.rename", killed)
    with pytest.raises(KeyboardInterrupt):
        finished(tmp_path)
    monkeypatch.undo()
    with store.open_run("test", CONFIG, tmp_path) as run:
        assert run.done
    assert len(run.predictions) == 2


def test_a_failed_run_leaves_nothing_that_looks_done(tmp_path):
    with pytest.raises(RuntimeError, match="out of luck"):
        with store.open_run("test", CONFIG, tmp_path):
            raise RuntimeError("out of luck")
    assert store.finished_runs("test", tmp_path) == []


@pytest.mark.parametrize(
    "size, name", [(10, "config.json"), (1000, "predictions.parquet"), (8000, "delta.safetensors")]
)
def test_a_full_disk_makes_no_run(tmp_path, size, name):
    def write():
        with store.open_run("test", CONFIG, tmp_path) as run:
            if not run.done:
                run.finish(predictions(), delta={"w": torch.zeros(5000)})
        return run

    with (
        full_disk(size),
        pytest.raises(OSError, match=f"{name} could not be written .* make room or give access"),
    ):
        write()
    assert store.finished_runs("test", tmp_path) == [] and not list(tmp_path.rglob("*.tmp"))
    assert write().done and len(store.finished_runs("test", tmp_path)) == 1


def do_or_find(home, number):
    """A run that takes a while; the file of that number says whether it was done or found."""
    with store.open_run("test", Configuration(seed=1), home) as run:
        (home / number).write_text("found" if run.done else "did")
        if not run.done:
            time.sleep(0.5)
            run.finish(predictions())


def test_two_processes_do_one_run_once(tmp_path):
    two = [begin(do_or_find, tmp_path, number) for number in "01"]
    for process in two:
        process.join()
    assert sorted((tmp_path / number).read_text() for number in "01") == ["did", "found"]


def test_delta_round_trip_and_wrong_model(loaded, tmp_path):
    before = {n: p.detach().clone() for n, p in loaded.model.named_parameters()}
    base = weights_hash(loaded.model.state_dict())
    name = "model.multi_modal_projector.linear_1.weight"
    with torch.no_grad():
        loaded.model.state_dict()[name].add_(1)
    delta = deltas.changed_weights(loaded, before)
    assert list(delta) == [name]
    deltas.save_delta(tmp_path / "delta.safetensors", delta, base)
    changed = {n: p.clone() for n, p in loaded.model.state_dict().items()}
    with pytest.raises(paths.RunError, match="load the vanilla model that the run started from"):
        deltas.apply_delta(loaded, tmp_path / "delta.safetensors")
    loaded.model.load_state_dict(before, strict=False)
    deltas.apply_delta(loaded, tmp_path / "delta.safetensors")
    assert all(torch.equal(p, changed[n]) for n, p in loaded.model.state_dict().items())


def test_no_pickle_anywhere(tmp_path):
    run = finished(tmp_path)
    kinds = {f.suffix for f in run.folder.iterdir()}
    assert kinds <= {".json", ".csv", ".parquet", ".safetensors", ""}
    assert Configuration(**read_json(run.folder / "config.json")) == CONFIG


def test_interrupted_trainings_are_known_by_their_last_step(tmp_path):
    whole = finished(tmp_path)
    with store.open_run("test", replace(CONFIG, seed=1), tmp_path) as begun:
        begun.partial.mkdir()
        (begun.partial / "history.csv").write_text("step,lr,loss\n0,1.0,2.0\n1,1.0,1.5\n")
    assert store.interrupted_runs("test", tmp_path) == {}  # there is nothing to go on from
    (begun.partial / "checkpoint.safetensors").write_bytes(b"weights")
    assert store.interrupted_runs("test", tmp_path) == {begun.hash: 2}
    assert whole.done and store.interrupted_runs("nothing", tmp_path) == {}


def test_missing_record_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VKDLIB_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nothing.csv: no such record"):
        read_records("nothing")
    file = write_records("some", [finished(tmp_path).records()])
    read = read_records("some").set_index("metric").value
    assert file.exists() and read.to_dict() == {"accuracy": 50.0, "probability": 0.5}
    write_records("some", [finished(tmp_path).records(lr=lr) for lr in (3e-5, 1e-5)])
    table = read_records("some")
    assert sorted(table.lr.unique()) == [1e-5, 3e-5] and "50.0000" in file.read_text()


def test_predictions_of_a_record_are_those_of_its_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("VKDLIB_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="some.parquet: no such record"):
        read_predictions("some")
    made = [finished(tmp_path), finished(tmp_path, replace(CONFIG, seed=1))]
    told = predictions().assign(options='{"A": -0.123449, "B": -2}')
    with store.open_run("test", replace(CONFIG, seed=2), tmp_path) as run:
        run.finish(told)
    write_predictions("some", [*made, run])
    read = read_predictions("some")
    assert set(read) == {run.hash for run in (*made, run)}
    for one in made:
        pd.testing.assert_frame_equal(read[one.hash], predictions().astype({"bleu": float}))
    assert set(read[run.hash].options) == {'{"A": -0.1234, "B": -2}'}
