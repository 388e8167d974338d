"""Presets: which one fits, what it gives a method, and what a point of a sweep is by it."""

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
        ("testbed/qwen2-vl", "testbed/clear", "testbed-clear"),
        ("testbed/qwen2.5-vl", "testbed/mllmu", "testbed"),
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


def test_what_a_point_is_by_its_preset():
    point = {"preset": None, "method": "GA", "model": None, "benchmark": "testbed/mllmu", "lr": None}
    values = presets.point_values(point)
    assert values["training"]["lr"] == 1e-5 and values["method"] == {"trained": "all"}
    assert values == presets.point_values(point | {"preset": "testbed"})
    assert values != presets.point_values(point | {"benchmark": "testbed/clear"})
    own = presets.point_values(point | {"lr": 0.1})
    assert own["training"] == values["training"] | {"lr": 0.1} and "machine" not in own
    assert presets.point_values({"seed": 1}) == {}
