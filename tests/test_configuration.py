"""A run's configuration: what it is made of, and what is refused before anything is loaded."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from vkdlib import experiments
from vkdlib.benchmarks.schema import Benchmark
from vkdlib.experiments import __main__ as command
from vkdlib.experiments import pipeline, presets
from vkdlib.models import folders
from vkdlib.runs import store
from vkdlib.runs.configuration import Configuration, Machine
from vkdlib.runs.run_folder import Run
from vkdlib.system import processes
from vkdlib.system.files import file_hash, read_json, write_json
from vkdlib.system.paths import RunError
from vkdlib.unlearning import Training

ANSWERS = pd.DataFrame(
    {"set": "forget", "kind": "cloze", "modality": "vqa", "person": ["1"], "question": ["q"], "answer": "A",
     "gold": "A", "score": 1.0, "bleu": None, "options": None}
)  # fmt: skip
LOSSES = [{"step": step, "lr": 0.1, "loss": 2.0} for step in range(3)]


def test_equal_numbers_are_the_same_run(tmp_path):
    a, b = (
        Configuration(settings={"beta": beta}, training={"epochs": epochs, "lr": 0.5})
        for beta, epochs in ((3, 50.0), (3.0, 50))
    )
    assert a == b and Run("x", a, tmp_path).hash == Run("x", b, tmp_path).hash
    assert Configuration(settings={"prune": True}).settings["prune"] is True
    assert Configuration(settings={"beta": 0.3}) != Configuration(settings={"beta": 0.31})


def test_a_setting_may_be_a_list_of_numbers(tmp_path):
    weights = ([1, 0, 1, 1], (1.0, 0.0, 1.0, 1.0), [np.int64(1), 0, 1, 1])
    runs = [Configuration(method="MANU", settings={"statistic_weights": w}) for w in weights]
    assert len({Run("x", c, tmp_path).hash for c in runs}) == 1 and runs[0] == runs[1] == runs[2]
    pipeline.check_run("x", replace(runs[0], training={"epochs": 1, "lr": 0.1}), True)
    given, _ = presets.configure("testbed", "MANU", statistic_weights=[1, 0, 1, 1])
    assert given.settings["statistic_weights"] == (1, 0, 1, 1)
    assert Run("x", Configuration(seed=np.int64(3)), tmp_path).hash == (
        Run("x", Configuration(seed=3), tmp_path).hash
    )
    told = Configuration(method="PO", settings={"refusals": ["No.", "Never."]})
    assert told.settings["refusals"] == ("No.", "Never.") and told == Configuration(
        **json.loads(json.dumps(vars(told)))
    )
    for wrong in ([1, "a"], [[1]], [True]):
        with pytest.raises(
            ValueError, match=r"statistic_weights\[.\] in settings is .*; it must be a number"
        ):
            Configuration(method="MANU", settings={"statistic_weights": wrong})


def test_a_run_is_of_a_configuration():
    with pytest.raises(TypeError, match="'VKD'} is no Configuration: make one of it with Configuration"):
        experiments.run("x", {"method": "VKD"})
    with pytest.raises(TypeError, match="1} is no Machine"):
        experiments.run("x", Configuration(), {"micro_batch": 1})


def test_no_setting_of_a_method_has_the_name_of_a_runs_field():
    """Both are columns of a record, and parameters of one notebook."""
    others = [f.name for record in (Configuration, Machine, Training) for f in fields(record)]
    assert not set(presets.SETTINGS) & set(others)


def test_kinds_have_one_order_and_a_path_is_text(tmp_path):
    c = Configuration(kinds=["generation", "classification"], model=tmp_path, retain_only=Path("a"))
    assert c.kinds == ("classification", "generation")
    assert (c.model, c.retain_only) == (str(tmp_path), "a")


def test_what_is_written_is_read_again():
    c = Configuration(method="NPO", settings={"reference": "vanilla"}, kinds=["cloze"], schema="clear")
    assert Configuration(**json.loads(json.dumps(vars(c)))) == c
    assert c.flat["reference"] == "vanilla" and c.flat["schema"] == "clear" and "settings" not in c.flat


WRONG = [
    ({"kinds": "classification"}, "kinds is 'classification'; it must be a list"),
    ({"kinds": ["clasification"]}, "'clasification'; .*did you mean 'classification'"),
    ({"kinds": []}, "kinds is empty; it must name some of classification, "),
    ({"protocol": "likelyhood"}, "protocol is 'likelyhood'; .*did you mean 'likelihood'"),
    ({"max_new_tokens": -1}, "max_new_tokens is -1; it must be a whole number 1 or more"),
    ({"seed": -1}, "seed is -1; it must be a whole number 0 or more"),
    ({"seed": 1.5}, "seed is 1.5"),
    ({"draw": -1}, "draw is -1"),
    ({"select": "no"}, "select is 'no'; it must be True or False"),
    ({"forget_ratio": 0}, "forget_ratio is 0; it must be a whole number 1 or more and 99 or less"),
    ({"forget_ratio": "5"}, "forget_ratio is '5'"),
    ({"qa_image": "grey"}, "qa_image is 'grey'; it must be one of blank"),
    ({"max_pixels": 0}, "max_pixels is 0"),
    ({"model": ""}, "model is ''"),
    ({"settings": {"beta": float("nan")}}, "beta in settings is nan; it must be a number, and finite"),
    ({"settings": ["beta"]}, "settings is .*; it must be names and values"),
    ({"training": {"lr": float("inf")}}, "lr in training is inf; it must be a number, and finite"),
    (
        {"forget_ratio": float("nan")},
        "forget_ratio is nan; it must be a whole number 1 or more and 99 or less, and finite",
    ),
    (
        {"seed": -float("inf")},
        "seed is -inf; it must be a whole number 0 or more and 4294967295 or less, and finite",
    ),
    ({"seed": 2**70}, "seed is 1180591620717411303424; it must be a whole number 0 or more and 4294967295"),
]


@pytest.mark.parametrize("fields, message", WRONG, ids=lambda value: str(value)[:40])
def test_a_configuration_checks_itself(fields, message):
    with pytest.raises(ValueError, match=message):
        Configuration(**fields)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"micro_batch": -1}, "micro_batch is -1; it must be a whole number 1 or more"),
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"evaluation_batch": -1}, "evaluation_batch is -1; it must be a whole number 1 or more"),
        ({"evaluation_batch": 0}, "evaluation_batch is 0"),
        ({"checkpointing": "yes"}, "checkpointing is 'yes'"),
    ],
)
def test_what_fits_no_machine(fields, message):
    with pytest.raises(ValueError, match=message):
        Machine(**fields)


@pytest.fixture
def nothing_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(
        pipeline.model_names, "load_starting_model", lambda c: pytest.fail("the model was loaded")
    )


TRAINING = {"epochs": 1, "lr": 1e-4}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"method": "vkd"}, "method is 'vkd'; .*did you mean 'VKD'"),
        ({"method": "retain only"}, "method is 'retain only'; .*did you mean 'retain-only'"),
        ({"settings": {"betta": 1}}, "VKD.* has no .*'betta'.*did you mean 'beta'"),
        ({"method": "GA", "settings": {"beta": 1}}, "GA.* has no .*'beta'"),
        (
            {"method": "vanilla", "settings": {"beta": 1}},
            "'vanilla' is evaluated as it is: leave settings and training out .beta",
        ),
        ({"training": TRAINING | {"learning_rate": 1}}, "has no 'learning_rate'; it has: .*lr"),
        ({"training": {"lr": 1e-4}}, "training has no epochs"),
        ({"training": TRAINING | {"micro_batch": 2}}, "training has no 'micro_batch'"),
        ({"training": TRAINING | {"seed": 2}}, "training has no 'seed'"),
        ({"method": "GA", "dtype": "bfloat16"}, 'trained="all" needs dtype float32'),
        ({"training": TRAINING | yaml.safe_load("lr: 1e-5")}, "lr is '1e-5'.*write a dot"),
        ({"training": TRAINING | {"epochs": 0}}, "epochs is 0"),
        ({"settings": {"prune": "no"}}, "prune is 'no'; it must be True or False"),
        ({"settings": {"d_I": -1}}, "d_I is -1"),
        ({"dtype": "fp16"}, "dtype is 'fp16'; it must be one of float32"),
        ({"quantise": "nf5"}, "quantise is 'nf5'; .*did you mean 'nf4'"),
        ({"benchmark": "testbed/mlmu"}, "testbed/mlmu.* testbed/mllmu, testbed/clear"),
        ({"benchmark": "testbed/mlmu", "model": "testbed/lava"}, "did you mean 'testbed/llava'"),
        ({"forget_ratio": 7}, "forget_ratio is 7; .* has 5, 10, 15"),
        ({"select": True, "draw": 99}, "draw is 99; there are "),
        (
            {"retain_only": "/nope"},
            "retain_only is '/nope'; there is no such folder, and an id of the Hub is",
        ),
        (
            {"retain_only": "testbed/llava-mllmu/retain-onyl-5"},
            "did you mean 'testbed/llava-mllmu/retain-only-5'",
        ),
        ({"model": "/nope"}, "model is '/nope'; there is no such folder"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_wrong_run_is_refused_before_the_model_is_loaded(fields, message, nothing_is_loaded):
    if fields.get("method") != "vanilla":
        fields = {"training": TRAINING} | fields
    with pytest.raises(ValueError, match=message):
        experiments.run("x", Configuration(**fields), gate=False)


def test_kinds_that_a_benchmark_does_not_ask_are_refused(nothing_is_loaded):
    c = Configuration(benchmark="testbed/clear", kinds=["cloze"], method="vanilla")
    with pytest.raises(
        ValueError, match="testbed/clear has no questions of .*cloze.*; it has: classification"
    ):
        experiments.run("x", c)


def test_a_benchmark_of_which_nobody_is_retained_in_every_draw_is_refused(nothing_is_loaded, monkeypatch):
    """Retain columns would be empty: all who are left are for selection, or forgotten in another draw."""
    split = Benchmark.split

    def small(self, ratio, draw=0):
        whole = split(self, ratio, draw)
        return replace(whole, retain=tuple(p for p in whole.retain if p.id in whole.candidates))

    monkeypatch.setattr(Benchmark, "split", small)
    with pytest.raises(ValueError, match="nothing about people whom every draw retains: 40 are retained"):
        experiments.run("x", Configuration(method="vanilla"))


@pytest.mark.parametrize("place", ["", "x"])
def test_a_place_for_runs_that_cannot_be_written(place, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path / "file" / place))
    with pytest.raises(OSError, match="could not be made .*VKDLIB_RUNS"):
        with store.open_run("x", Configuration()):
            pass


def test_a_lock_that_cannot_be_written(tmp_path):
    run = Run("x", Configuration(), tmp_path)
    (tmp_path / ".locks" / f"{run.hash}.lock").mkdir(parents=True)
    with pytest.raises(OSError, match="lock could not be written .*VKDLIB_RUNS"):
        with store.open_run("x", Configuration(), tmp_path):
            pass


# Results that are none.


def test_a_run_without_answers_or_with_steps_missing_is_never_finished(tmp_path):
    for results, flaw in (
        ({"predictions": ANSWERS[:0]}, "no questions were asked"),
        ({"predictions": ANSWERS, "history": LOSSES, "steps": 4}, "holds 3 of 4 steps"),
        ({"predictions": ANSWERS, "steps": 1}, "holds 0 of 1 steps"),
        ({"predictions": ANSWERS, "history": [{"step": 0, "lr": 0.1}]}, "holds steps without a loss"),
    ):
        with (
            pytest.raises((RunError, ValueError), match=flaw),
            store.open_run("x", Configuration(), tmp_path) as run,
        ):
            run.finish(**results)
        assert not run.done and store.finished_runs("x", tmp_path) == []
    with store.open_run("x", Configuration(), tmp_path) as run:
        assert not run.done
        run.finish(ANSWERS, LOSSES, steps=3)
    assert run.done


def without_answers(folder):
    pd.read_parquet(folder / "predictions.parquet")[:0].to_parquet(folder / "predictions.parquet")


def without_steps(folder):
    pd.read_csv(folder / "history.csv")[:1].to_csv(folder / "history.csv", index=False)


def without_losses(folder):
    pd.read_csv(folder / "history.csv")[["step", "lr"]].to_csv(folder / "history.csv", index=False)


@pytest.mark.parametrize("harm", [without_answers, without_steps, without_losses])
def test_such_a_run_on_disk_is_not_used(harm, tmp_path):
    """As older versions left them: DONE says that every file is as it was."""
    with store.open_run("old", Configuration(), tmp_path) as run:
        run.finish(ANSWERS, LOSSES, steps=3)
    harm(run.folder)
    write_json(run.folder / "DONE", {f.name: file_hash(f) for f in run.folder.iterdir() if f.name != "DONE"})
    flaw = f"{run.hash} holds .*, and is no result: delete {run.folder}, run again"
    with pytest.warns(UserWarning, match=flaw):
        assert store.finished_runs("old", tmp_path) == []
    for read in (store.read_run, lambda *_: store.open_run("old", Configuration(), tmp_path).__enter__()):
        with pytest.raises(RunError, match=flaw):
            read("old", run.hash, tmp_path)
    with store.open_run("new", Configuration(), tmp_path) as other:  # not copied either
        assert not other.done
    shutil.rmtree(run.folder)
    with store.open_run("old", Configuration(), tmp_path) as again:
        assert not again.done
        again.finish(ANSWERS, LOSSES, steps=3)
    assert len(again.predictions) == 1 and [r.hash for r in store.finished_runs("old", tmp_path)] == [
        run.hash
    ]


def test_home_may_be_text(tmp_path):
    with store.open_run("x", Configuration(), str(tmp_path)) as run:
        run.finish(ANSWERS)
    assert store.read_run("x", run.hash, str(tmp_path)) == run == store.finished_runs("x", str(tmp_path))[0]
    assert len(store.runs_table(str(tmp_path))) == 1


def test_a_run_of_another_versions_fields_is_not_found(tmp_path):
    with store.open_run("x", Configuration(), tmp_path) as run:
        run.finish(ANSWERS)
    write_json(run.folder / "config.json", read_json(run.folder / "config.json") | {"precision": None})
    assert store.finished_runs("x", tmp_path) == []
    with pytest.raises(FileNotFoundError, match="made by another version of vkdlib"):
        store.read_run("x", run.hash, tmp_path)


# RUN.yaml


def test_a_file_names_the_fields_of_a_run(tmp_path):
    file = tmp_path / "run.yaml"
    values = {"experiment": "x", "seed": 1, "kinds": ["cloze"], "micro_batch": 2, "gate": False}
    values |= {"training": TRAINING}
    file.write_text(yaml.safe_dump(values))
    c = Configuration(seed=1, kinds=["cloze"], training=TRAINING)
    assert pipeline.read_run_file(file) == ("x", c, Machine(micro_batch=2), False)
    for change, message in (
        ({"sed": 1}, "a run has no 'sed'; .*did you mean 'seed'"),
        ({"gate": "no"}, "gate is 'no'; it must be True or False"),
        ({"experiment": "a/b"}, "experiment is 'a/b'; it names a folder"),
    ):
        file.write_text(yaml.safe_dump(values | change))
        with pytest.raises(ValueError, match=f"^{file}: {message}"):
            pipeline.read_run_file(file)


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "cannot be read"),
        ("a: [", "is not YAML"),
        ("- experiment", "it must hold names and values"),
        ("experiment: x\nsed: 1", "a run has no 'sed'"),
        ("experiment: x\nmethod: vkd", "method is 'vkd'"),
        ("experiment: x\ngate: maybe", "gate is 'maybe'; it must be True or False"),
        ("seed: 1", "experiment is missing"),
    ],
)
def test_a_wrong_file_is_one_line(text, message, tmp_path, capsys):
    file = tmp_path / "run.yaml"
    if text is not None:
        file.write_text(text)
    assert command.main([str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(str(file)) and message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "text, message",
    [
        ("method: vanilla\nforget_ratio: 7", "FILE: .*ratio.* 7"),
        ("method: vanilla\nbenchmark: /nope", "FILE: /nope: no such folder"),
        ("method: retain-only\nforget_ratio: 15", "FILE: testbed/llava-mllmu/retain-only-15 is not shipped"),
        ("method: vanilla", "/dev/null/runs/x could not be made"),
    ],
)
def test_a_run_that_cannot_be_done_is_one_line(text, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VKDLIB_RUNS", "/dev/null/runs")
    monkeypatch.setattr(folders, "cached_models", lambda smol: tmp_path)
    monkeypatch.setattr(processes, "join_group", lambda: (0, 1))
    file = tmp_path / "run.yaml"
    file.write_text(f"experiment: x\n{text}\n")
    assert command.main([str(file)]) == 2
    said = capsys.readouterr().err
    assert re.match(message.replace("FILE", str(file)), said) and said.count("\n") == 1


def test_help_is_no_error():
    done = subprocess.run(
        [sys.executable, "-m", "vkdlib.experiments", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "YAML: experiment, gate, fields of" in done.stdout
