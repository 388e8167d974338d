"""Whole runs: killed and resumed, found again, loaded back, and damaged."""

import time
from dataclasses import replace

import pytest
import torch
from conftest import begin
from faults import few_people
from safetensors.torch import load_file

from vkdlib import experiments
from vkdlib.experiments import model_names, pipeline
from vkdlib.models import loading
from vkdlib.runs import deltas, store
from vkdlib.runs.configuration import Configuration, Machine
from vkdlib.system import paths
from vkdlib.tasks import Tasks

TRAINING = {"epochs": 1, "lr": 1e-4}
POINT = {
    "forget_ratio": 15,
    "training": {"epochs": 6, "lr": 1e-3, "batch_size": 2, "checkpoint_every": 2},
    "settings": {"mask": False, "layers": 1},
    "kinds": ["classification"],
}


def run(people, drawn):
    """The run; of each batch that is drawn a line goes into the file `drawn`."""
    batch = Tasks.batch

    def noted(self, step, *rest):
        with open(drawn, "a") as lines:
            lines.write(f"{step}\n")
        return batch(self, step, *rest)

    Tasks.batch = noted
    experiments.run("killed", Configuration(benchmark=str(people), **POINT))


def begun(home, people):
    """`run` in a process of its own."""
    return begin(run, people, home / "drawn", VKDLIB_RUNS=str(home))


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Two people to forget and few others: a folder laid out as MLLMU-Bench."""
    return few_people(tmp_path_factory.mktemp("people") / "mllmu")


@pytest.fixture(scope="module")
def whole(people, tmp_path_factory):
    """An undisturbed run: its folder."""
    home = tmp_path_factory.mktemp("whole")
    begun(home, people).join()
    (done,) = home.glob("killed/*/DONE")
    return done.parent


def test_a_killed_run_ends_with_the_same_bits(whole, people, tmp_path):
    process = begun(tmp_path, people)
    while not list(tmp_path.glob("killed/*.part/checkpoint.safetensors")):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert not list(tmp_path.glob("killed/*/DONE"))
    (tmp_path / "drawn").unlink()
    begun(tmp_path, people).join()
    drawn = (tmp_path / "drawn").read_text().split()
    # Each step's batch is drawn once to know whom the teacher is asked about, and once in the step itself.
    assert drawn.count("5") == 2 and drawn.count("0") == 1  # it went on, not afresh
    again = tmp_path / "killed" / whole.name
    a, b = load_file(whole / "delta.safetensors"), load_file(again / "delta.safetensors")
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    assert (whole / "history.csv").read_text() == (again / "history.csv").read_text()
    assert not (again / "checkpoint.safetensors").exists()


def found(whole, monkeypatch):
    monkeypatch.setenv("VKDLIB_RUNS", str(whole.parent.parent))
    return store.finished_runs("killed")[0]


def test_a_finished_run_is_found_and_its_model_loads(whole, monkeypatch):
    run = found(whole, monkeypatch)
    assert run.folder == whole
    unlearned, vanilla = experiments.load_unlearned(run), loading.load("testbed/llava-mllmu/vanilla")
    changed = deltas.changed_weights(unlearned, dict(vanilla.model.named_parameters()))
    delta = load_file(whole / "delta.safetensors")
    assert changed.keys() == delta.keys()
    assert all(torch.equal(changed[n], delta[n]) for n in delta)
    assert all("layers.3.mlp" in n or "multi_modal_projector" in n for n in delta)


def test_a_damaged_or_missing_delta_is_noticed(whole, monkeypatch):
    run, file = found(whole, monkeypatch), whole / "delta.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-8])
    with pytest.raises(paths.RunError, match="delta.safetensors was changed"):
        experiments.load_unlearned(run)
    file.unlink()
    with pytest.raises(paths.RunError, match="delta.safetensors is missing"):
        experiments.load_unlearned(run)
    file.write_bytes(content)


def test_a_draw_is_of_selection_people_and_an_experiment_is_a_folder():
    with pytest.raises(ValueError, match="draw is 5; at 5 per cent testbed/mllmu has draws 0 to 4"):
        experiments.run("x", Configuration(method="vanilla", draw=5))
    with pytest.raises(ValueError, match="draw is 4; there are 4 of 10 selection people each"):
        experiments.run("x", Configuration(method="vanilla", draw=4, select=True))
    with pytest.raises(ValueError, match="experiment is '../x'; it names a folder"):
        experiments.run("../x", Configuration(method="vanilla"))


def test_an_embedded_model_is_not_taken_for_other_data(people, tmp_path):
    (tmp_path / "clear").symlink_to(people)
    with pytest.raises(ValueError, match="clear has the schema mllmu: an embedded model is chosen by"):
        clear = str(tmp_path / "clear")
        experiments.run("x", Configuration(method="vanilla", benchmark=clear, forget_ratio=15))


def test_references_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="retain-only hides the people of draw 0, not selection people"):
        experiments.run("x", Configuration(method="retain-only", select=True))
    with pytest.raises(ValueError, match="not those of draw 2: choose never-saw"):
        experiments.run("x", Configuration(method="retain-only", draw=2))
    with pytest.raises(ValueError, match="some/model is a vanilla model"):
        experiments.run("x", Configuration(model="some/model", method="retain-only"))
    with pytest.raises(ValueError, match="llava-1.5-7b-hf does not know the people .* make a vanilla model"):
        experiments.run("x", Configuration(model="llava-hf/llava-1.5-7b-hf", training=TRAINING))
    with pytest.raises(ValueError, match="forget_ratio is 7"):
        experiments.run("x", Configuration(forget_ratio=7, training=TRAINING))


def test_fields_at_their_default_leave_no_trace():
    """Else a new field would rename the runs that were finished before there was one."""
    assert Configuration().identity == {} == Configuration(revision=None, max_new_tokens=50).identity
    assert Configuration(seed=0, draw=1, training={"lr": 0.1}).identity == {
        "draw": 1,
        "training": {"lr": 0.1},
    }


def test_a_run_is_asked_as_it_says(tmp_path, monkeypatch):
    def answer(*_, **options):
        asked.append(options)
        raise InterruptedError

    asked = []
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(pipeline, "evaluate", answer)
    with pytest.raises(InterruptedError):
        c = Configuration(
            method="vanilla", way="none", max_new_tokens=7, kinds=["cloze"], protocol="generate"
        )
        experiments.run("x", c, Machine(evaluation_batch=3))
    options = {"kinds": ("cloze",), "protocol": "generate", "way": "none", "letters": "alone"}
    assert asked == [options | {"max_new_tokens": 7, "batch_size": 3}]


def test_a_methods_own_settings_spelt_out_are_the_same_run():
    """Of those that no preset gives; the others are always named."""

    def named(method, settings):
        return pipeline.normalise(Configuration(method=method, settings=settings)).settings

    assert named("VKD", {"beta": 0, "trained": "visual", "order": "prune, mask"}) == {"beta": 0}
    assert named("VKD", {"trained": "all", "target": "both"}) == {"trained": "all", "target": "both"}
    assert named("VKD", {"alpha": 1.25, "target": "both"}) == {"alpha": 1.25, "target": "both"}
    assert named("GA", {"trained": "all"}) == {"trained": "all"}  # presets give it
    assert named("NPO", {"reference": "vanilla"}) == {"reference": "vanilla"}


@pytest.mark.parametrize("work, field", [("unlearn", "micro_batch"), ("evaluate", "evaluation_batch")])
def test_too_little_memory_names_what_to_lower(tmp_path, monkeypatch, work, field):
    def exhaust(*args, **kwargs):
        torch.empty(1 << 50)

    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(pipeline, work, exhaust)
    method = "VKD" if work == "unlearn" else "vanilla"
    with pytest.raises(MemoryError, match=f"memory of the machine: lower {field}"):
        training = TRAINING if work == "unlearn" else {}
        experiments.run("x", Configuration(method=method, training=training))
    assert store.finished_runs("x") == []


def test_other_errors_are_not_taken_for_memory():
    with pytest.raises(RuntimeError, match="shape"), pipeline.enough_memory("training", "batch_size"):
        torch.ones(2).view(3)


def test_what_a_method_is_compared_with():
    npo = Configuration(method="NPO", forget_ratio=10)
    assert model_names.reference_model(npo) == "testbed/llava-mllmu/never-saw"
    retain_only = replace(npo, settings={"reference": "retain-only"})
    assert model_names.reference_model(retain_only) == "testbed/llava-mllmu/retain-only-10"
    for kind, name in (("vanilla", None), ("a/folder", "a/folder")):
        assert model_names.reference_model(replace(npo, settings={"reference": kind})) == name
    hidden = model_names.reference_model(replace(npo, select=True))
    assert hidden == "testbed/llava-mllmu/never-saw-selection"
    with pytest.raises(ValueError, match="name the never-saw one"):
        model_names.reference_model(replace(npo, model="some/folder"))
    named = replace(npo, model="some/folder", retain_only="a/folder")
    assert model_names.reference_model(named) == "a/folder"
    for method in ("VKD", "vanilla"):
        assert model_names.reference_model(Configuration(method=method)) is None
