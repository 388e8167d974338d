"""Presets: which one fits, what it gives a method, and what a point of a sweep is by it."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from vkdlib.benchmarks.made_up.cache import benchmark_folder
from vkdlib.experiments import pipeline, presets
from vkdlib.methods import METHODS, make_method
from vkdlib.sweep import grid
from vkdlib.system import paths
from vkdlib.unlearning import make_training


def test_changes_take_the_place_of_the_presets_values():
    assert presets.preset("testbed", "method", beta=None) == presets.preset("testbed", "method")
    assert presets.preset("testbed", "method", beta=0)["beta"] == 0
    assert presets.preset("paper-llava-1.5-7b", "model", quantise="none")["quantise"] is None
    assert presets.preset("testbed", "method", prune=False)["prune"] is False


def test_a_setting_that_may_be_none_in_words_keeps_the_word():
    """A record tells "none" from a column that a method does not have."""
    noise_t, _ = presets.configure("testbed", "VGID", prompt="none")
    icu_t, _ = presets.configure("testbed", "VGID", settings={"perturbation": "none"})
    assert (noise_t.settings["prompt"], noise_t.settings["perturbation"]) == ("none", "noise")
    assert (icu_t.settings["prompt"], icu_t.settings["perturbation"]) == ("strict", "none")
    assert make_method("VGID", **noise_t.settings).prompt == "none"
    assert presets.configure("testbed", "VGID", top_k="none")[0].settings["top_k"] is None
    assert presets.configure("testbed", "VGID", quantise="none")[0].quantise is None


def test_teachers_of_vgid_have_choices_of_their_own(monkeypatch):
    own = {"training": {"lr": [0.5, "made up"]}}
    choices = presets.BY_METHOD["testbed-vgid"]
    monkeypatch.setitem(presets.BY_METHOD, "testbed-vgid", choices | {"ICU-T": own})
    vgid = presets.preset("testbed-vgid", "training", "VGID")["lr"]
    for settings, lr in (
        ({"perturbation": "none"}, 0.5),
        ({"perturbation": "noise", "prompt": "strict"}, vgid),
        ({"perturbation": "noise", "prompt": "none"}, vgid),  # it has none: VGID's
    ):
        assert presets.configure("testbed-vgid", "VGID", settings=settings)[0].training["lr"] == lr
    assert presets.configure("testbed-vgid", "VGID", perturbation="none")[0].training["lr"] == 0.5
    trial = presets.configure("testbed-vgid", "VGID", perturbation="none", select=True)[0]
    assert trial.training == presets.preset("testbed-vgid", "training", "VGID", chosen=False)
    gaussian = ("VGID", "gaussian", "none")
    assert presets.row_name(*gaussian) == "Noise-T" and presets.row_name("GA", "none") == "GA"


def test_tiny_models_answer_by_likelihood_and_smol_by_letter():
    """The recipe of the tiny ones has no questions that are answered by a letter."""
    recipes = paths.PACKAGE / "testbed" / "recipes"
    for name, taught in (("recipe", False), ("smol", True)):
        assert ("letter:" in (recipes / f"{name}.yaml").read_text()) == taught
    tiny = ("testbed-vgid", "testbed-vgid-qwen2.5-vl")
    assert {presets.preset(name, "evaluation")["protocol"] for name in tiny} == {"likelihood"}
    assert presets.preset("testbed-vgid-smol", "evaluation")["protocol"] == "generate"


def test_a_weight_that_is_as_usual_makes_no_other_run():
    """So that the runs of before there was one keep their names."""
    for method in ("GA_Diff", "KL_Min"):
        usual, one, two = (
            pipeline.normalise(presets.configure("testbed", method, settings=settings)[0]).identity
            for settings in ({}, {"weight": 1.0}, {"weight": 2.0})
        )
        assert usual == one != two and "weight" not in usual["settings"]


SWEEPS = paths.root() / "notebooks" / "sweeps"


def test_an_attackers_vkd_on_selection_people_is_that_of_table_1():
    """Trials take nothing that was chosen, so that this sweep names it."""
    points = grid.grid_points(grid.read_sweep(SWEEPS / "relearning_selection.yaml"))
    values = [{k: p[k] for k in ("settings", "epochs", "lr")} for p in points if p["method"] == "VKD"]
    table, _ = presets.configure("testbed", "VKD")
    for own in values:
        trial, _ = presets.configure("testbed", "VKD", select=True, **own)
        assert (trial.settings, trial.training) == (table.settings, table.training)
    assert len(values) == 24


@pytest.mark.parametrize("name", ["vgid_selection", "vgid_selection_smol", "smol_selection"])
def test_trials_have_equal_budgets_and_name_their_rates(name):
    """ICU-T and Noise-T have trials of their own where there is one round."""
    counts = Counter()
    for point in grid.grid_points(grid.read_sweep(SWEEPS / f"{name}.yaml")):
        if point["method"] not in ("vanilla", "never-saw"):
            settings = point.get("settings", {})
            row = presets.row_name(point["method"], settings.get("perturbation"), settings.get("prompt"))
            counts[row, point.get("model")] += 1
            assert point["select"] and ("lr" in point or "share" in point)
    assert len(set(counts.values())) == 1
    assert ({"ICU-T", "Noise-T"} <= {row for row, _ in counts}) == (name == "vgid_selection_smol")


def test_vgid_of_both_papers_is_that_of_its_own_table():
    """So that nothing is trained twice."""
    runs = {}
    for name in ("vgid_table3", "both_papers", "attacks"):
        for point in grid.grid_points(grid.read_sweep(SWEEPS / f"{name}.yaml")):
            if point["method"] == "VGID" and point["model"] == "testbed/llava" and not point.get("select"):
                named = {k: v for k, v in point.items() if k not in ("preset", "method", "experiment")}
                c, _ = presets.configure(point["preset"], "VGID", **named)
                runs.setdefault(name, set()).add((point["experiment"], str(c.usual.identity)))
    assert runs["attacks"] < runs["both_papers"] < runs["vgid_table3"]


def test_a_value_that_was_not_chosen_says_so():
    table = presets.sources("testbed").set_index(["part", "field"])
    assert table.source["training of VGID", "lr"].startswith("ours, not chosen yet")
    assert table.source["training of GA", "lr"] == presets.TRIALS
    own = {name: value for name, (value, _) in presets.BY_METHOD["testbed"]["NPO"]["method"].items()}
    assert presets.preset("testbed", "method", "NPO") == {"trained": "all", "reference": "never-saw"} | own
    assert presets.preset("testbed", "method", "PO") == {"trained": "all"}
    before = presets.preset("testbed", "training", "VKD")
    assert presets.preset("testbed", "training", "GA") != before == presets.preset("testbed", "training")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_method_has_every_setting_that_a_preset_gives_it(name, method):
    assert make_method(method, **presets.preset(name, "method", method))


def test_a_model_that_is_evaluated_as_it_is_has_no_settings():
    assert presets.preset("testbed", "method", "vanilla", beta=3.0) == {}
    assert presets.preset("testbed", "training", "retain-only", lr=0.1) == {}
    assert presets.preset("testbed", "model", "vanilla")["model"] == "testbed/llava"


@pytest.mark.parametrize(
    "names, message",
    [
        (("testbedd", "method"), r"preset is 'testbedd'; .*did you mean 'testbed'"),
        (("testbed", "methods"), r"part is 'methods'; it must be one of model, data, .*'method'"),
        (("testbed", "method", "vkd"), r"method is 'vkd'; .*did you mean 'VKD'"),
    ],
)
def test_a_misspelt_preset_part_or_method_is_named(names, message):
    with pytest.raises(ValueError, match=message):
        presets.preset(*names)


@pytest.mark.parametrize(
    "model, benchmark, name",
    [
        (None, "testbed/mllmu", "testbed"),
        ("testbed/llava", "testbed/clear", "testbed-clear"),
        ("testbed/qwen2-vl", "testbed/mllmu", "testbed-qwen2-vl"),
        ("testbed/qwen2-vl", "testbed/clear", "testbed-qwen2-vl-clear"),
        ("testbed/qwen2.5-vl", "testbed/mllmu", "testbed-qwen2-vl"),
        ("llava-hf/llava-1.5-7b-hf", "MLLMMU/MLLMU-Bench", "paper-llava-1.5-7b"),
    ],
)
def test_the_preset_that_fits(model, benchmark, name):
    assert presets.fitting_preset(model, benchmark) == name


def test_the_schema_decides_and_not_the_folders_name(tmp_path):
    (tmp_path / "my-mllmu").symlink_to(benchmark_folder("clear"))
    assert presets.fitting_preset("testbed/llava", str(tmp_path / "my-mllmu")) == "testbed-clear"


def test_a_preset_is_not_guessed():
    with pytest.raises(ValueError, match="the model some/folder does not say .* one of testbed, .*paper-"):
        presets.fitting_preset("some/folder", "testbed/mllmu")
    with pytest.raises(ValueError, match="testbed/mlmu.*testbed/mllmu"):
        presets.fitting_preset("testbed/llava", "testbed/mlmu")


def test_a_preset_that_does_not_fit_is_said():
    said = presets.misfit("testbed", "testbed/llava", "testbed/clear")
    assert said == "preset testbed was not chosen for testbed/llava on testbed/clear: testbed-clear was"
    assert presets.misfit("testbed-clear", "testbed/llava", "testbed/clear") is None
    vgid = ("testbed-vgid-qwen2.5-vl", "testbed/qwen2.5-vl", "testbed/mllmu")
    assert presets.misfit(*vgid) is None and presets.misfit(vgid[0], "testbed/llava", vgid[2])
    assert presets.misfit("paper-llava-1.5-7b", "../runs/llava-vanilla", "MLLMMU/MLLMU-Bench") is None


def test_the_run_of_a_preset():
    c, machine = presets.configure("testbed", "GA", lr=None, benchmark="testbed/clear", micro_batch=2)
    assert c.training == presets.preset("testbed", "training", "GA")
    assert c.settings == {"trained": "all"} and c.protocol == "likelihood" and machine.micro_batch == 2
    assert (c.model, c.benchmark) == ("testbed/llava", "testbed/clear")
    other, _ = presets.configure("testbed", "GA", lr=0.1, benchmark="testbed/clear", seed=3)
    assert other == replace(c, training=c.training | {"lr": 0.1}, seed=3)
    assert "micro_batch" not in c.identity and c.identity != other.identity
    paper, machine = presets.configure("paper-llava-1.5-7b", "VKD", model="a/folder", quantise="none", beta=1)
    assert (paper.model, paper.dtype, paper.quantise, paper.settings["beta"]) == (
        "a/folder",
        "bfloat16",
        None,
        1,
    )
    assert machine.checkpointing and presets.configure("testbed", "vanilla")[0].settings == {}


def test_further_settings_take_the_place_of_others():
    c, _ = presets.configure("testbed", "MANU", share=0.1, settings={"share": 0.2, "layers": 2})
    assert c.settings == {"share": 0.2, "layers": 2}
    same, _ = presets.configure("testbed", "VKD", settings={})
    assert same == presets.configure("testbed", "VKD")[0]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"settings": {"betta": 1}}, "VKD has no 'betta'; .*did you mean 'beta'"),
        ({"settings": 3}, "settings is 3; it must be names and values"),
        ({"training": {"lr": 1}}, "a run has no 'training'"),
        ({"betta": 1}, "a run has no 'betta'; .*did you mean 'beta'"),
        ({"evaluation_batch": 0}, "evaluation_batch is 0"),
        ({"protocol": "guess"}, "protocol is 'guess'"),
        ({"lr": math.inf}, "lr in training is inf; it must be a number, and finite"),
    ],
)
def test_a_wrong_value_makes_no_run(values, message):
    with pytest.raises(ValueError, match=message):
        presets.configure("testbed", "VKD", **values)


@pytest.mark.parametrize("name", ["testbed", "testbed-qwen2-vl"])
@pytest.mark.parametrize("people", [1, 3, 5, 7, 10, 12])
def test_fewer_people_to_forget_make_as_many_steps(name, people):
    training = presets.preset(name, "training", "VKD")
    epochs = presets.epochs_for(name, "VKD", people)
    assert make_training(**training | {"epochs": epochs}).steps(people) == make_training(**training).steps(10)
    assert presets.epochs_for(name, "VKD", 10) == training["epochs"]


def test_epochs_are_of_a_method_and_of_somebody():
    with pytest.raises(ValueError, match="method is 'vanilla'"):
        presets.epochs_for("testbed", "vanilla", 3)
    with pytest.raises(ValueError, match="people is 0"):
        presets.epochs_for("testbed", "VKD", 0)


def test_settings_that_nobody_chose_are_named(monkeypatch):
    monkeypatch.setitem(presets.BY_METHOD, "testbed-smol", {"VKD": {"training": {"lr": [0.001, "ours"]}}})
    task = ("testbed-smol", "testbed/smol", "testbed/mllmu-100")
    assert "nothing was chosen for GA_Diff in testbed-smol yet" in presets.misfit(*task, "GA_Diff")
    assert presets.misfit(*task, "VKD") is None and presets.misfit(*task, "never-saw") is None


@pytest.mark.parametrize("model", ["smol", "smol-plain", "smol-llm"])
def test_models_around_smollm2_have_one_preset(model):
    assert presets.fitting_preset(f"testbed/{model}", "testbed/mllmu-100") == "testbed-smol"


def test_a_trial_takes_nothing_that_was_chosen():
    used, _ = presets.configure("testbed", "VKD")
    trial, _ = presets.configure("testbed", "VKD", select=True, lr=0.5)
    values = {field: value for field, (value, _) in presets.PRESETS["testbed"]["method"].items()}
    assert used.settings == presets.preset("testbed", "method") and used.training["lr"] != 0.5
    assert trial.settings == values != used.settings and trial.training["lr"] == 0.5
