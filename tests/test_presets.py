"""Presets: which one fits, what it gives a method, and what a point of a sweep is by it."""

import math
from dataclasses import replace

import pytest

from vkdlib.benchmarks.made_up.cache import benchmark_folder
from vkdlib.experiments import presets
from vkdlib.methods import METHODS, make_method


def test_changes_take_the_place_of_the_presets_values():
    assert presets.preset("testbed", "method", beta=None) == presets.preset("testbed", "method")
    assert presets.preset("testbed", "method", beta=0)["beta"] == 0
    assert presets.preset("paper-llava-1.5-7b", "model", quantise="none")["quantise"] is None
    assert presets.preset("testbed", "method", prune=False)["prune"] is False


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


def test_a_trial_takes_nothing_that_was_chosen():
    own = presets.BY_METHOD["testbed"]["VKD"]
    used, _ = presets.configure("testbed", "VKD")
    trial, _ = presets.configure("testbed", "VKD", select=True, lr=0.5)
    values = {field: value for field, (value, _) in presets.PRESETS["testbed"]["method"].items()}
    assert own["method"].items() <= used.settings.items() and used.training["lr"] == own["training"]["lr"]
    assert trial.settings == values != used.settings and trial.training["lr"] == 0.5
