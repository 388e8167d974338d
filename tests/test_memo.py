"""Passes before the first step are made once for all runs of a process that have them in common."""

import copy
from dataclasses import replace

import pytest
import torch

from vkdlib.masking import fisher
from vkdlib.methods import make_method
from vkdlib.methods.vkd import teacher_features
from vkdlib.models import memo
from vkdlib.models.parts import live_blocks, visual_parameters
from vkdlib.pruning import importance
from vkdlib.tasks import Steps, Tasks

METHODS = [("VKD", {"d_I": 1.05}), ("MANU", {}), ("MMUnlearner", {"trained": "visual"})]


@pytest.fixture(scope="module")
def tasks(tasks):
    """One person to forget and three to retain, with two questions each."""
    sets = vars(tasks).items()
    return Tasks(
        *(tuple(p.select([0, 1]) for p in packs[: 1 if "forget" in name else 3]) for name, packs in sets)
    )


def twin(loaded):
    """The same model, loaded again."""
    return replace(loaded, model=copy.deepcopy(loaded.model))


def watch(loaded, passes):
    """Count passes through the vision tower."""
    live_blocks(loaded)[0].register_forward_pre_hook(lambda *_: passes.append(1))
    return loaded


def prepare(loaded, tasks, name, settings):
    """What a method prepares, its passes, and the model's weights afterwards."""
    passes, model = [], twin(loaded)
    prepared = make_method(name, **settings).prepare(watch(model, passes), tasks, Steps(2))
    return prepared, len(passes), model.model.state_dict()


def same(a, b):
    """Whether mappings of tensors are equal to the last bit."""
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("name, settings", METHODS, ids=[name for name, _ in METHODS])
def test_a_second_run_makes_no_pass_and_gets_the_same_bits(untrained, tasks, name, settings, monkeypatch):
    first, passes, weights = prepare(untrained, tasks, name, settings)
    again, none, same_weights = prepare(untrained, tasks, name, settings)
    assert passes > 0 and none == 0
    monkeypatch.setattr(memo, "ROOM", 0)  # nothing is kept, nothing looked for
    anew, more, as_before = prepare(untrained, tasks, name, settings)
    assert more == passes
    for other, its_weights in ((again, same_weights), (anew, as_before)):
        assert same(weights, its_weights) and same(first.report, other.report)
        assert same(first.mask or {}, other.mask or {}) and same(first.teacher, other.teacher)


@pytest.mark.parametrize("setting", [{"alpha": 3.0}, {"beta": 0.1}, {"d_F": 2.0}, {"mask_scope": "update"}])
def test_what_no_pass_depends_on_needs_none(untrained, tasks, setting):
    prepare(untrained, tasks, "VKD", {"d_I": 1.05})
    assert prepare(untrained, tasks, "VKD", {"d_I": 1.05} | setting)[1] == 0


def test_another_threshold_of_pruning_needs_another_mask(untrained, tasks):
    """The mask is that of the pruned model; importance and teacher are the vanilla model's."""
    _, passes, _ = prepare(untrained, tasks, "VKD", {"d_I": 1.05})
    masks = 1 + 2  # batches of 2 of the people to forget and to retain
    assert prepare(untrained, tasks, "VKD", {"d_I": 1.01})[1] == masks < passes


def change_weight(loaded, tasks):
    with torch.no_grad():
        next(loaded.model.parameters()).view(-1)[0] += 1
    return tasks


def change_order(loaded, tasks):
    return Tasks(*(tuple(reversed(packs)) for packs in vars(tasks).values()))


def change_pixel(loaded, tasks):
    first, *others = tasks.retain_vqa
    pixels = first.image["pixel_values"].clone()
    pixels.view(-1)[0] += 1
    return replace(tasks, retain_vqa=(replace(first, image={"pixel_values": pixels}), *others))


def change_question(loaded, tasks):
    first, *others = tasks.retain_vqa
    return replace(tasks, retain_vqa=(first.select([0]), *others))


def change_config(loaded, tasks):
    loaded.model.config.text_config.rms_norm_eps *= 2
    return tasks


CHANGES = [change_weight, change_order, change_pixel, change_question, change_config]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_other_content_is_computed_anew(loaded, tasks, change):
    passes = []
    watch(loaded, passes)

    def compute(tasks):
        importance(loaded, tasks.retain_vqa, batch_size=2)
        fisher(loaded, [tasks.retain_vqa], visual_parameters(loaded), batch_size=2)
        return len(passes)

    once = compute(tasks)
    assert once == 4 and compute(tasks) == once
    assert compute(change(loaded, tasks)) == 2 * once


@pytest.mark.parametrize(
    "setting", [{"kind": "batch"}, {"batch_size": 1}, {"parameters": 2}], ids=lambda setting: [*setting][0]
)
def test_another_setting_is_computed_anew(loaded, tasks, setting):
    parameters = visual_parameters(loaded)
    if "parameters" in setting:
        setting = {"parameters": dict(list(parameters.items())[:2])}
    passes = []
    watch(loaded, passes)
    plain = {"parameters": parameters, "kind": "summed", "batch_size": 4}
    fisher(loaded, [tasks.retain_vqa], **plain)
    once = len(passes)
    fisher(loaded, [tasks.retain_vqa], parameters)  # the same, spelled otherwise
    assert len(passes) == once
    fisher(loaded, [tasks.retain_vqa], **plain | setting)
    assert len(passes) > once


def test_who_changes_a_result_changes_no_other(untrained, tasks):
    first = teacher_features(untrained, tasks.retain_vqa)
    kept = copy.deepcopy(first)
    for features in first.values():
        features.zero_()
    assert same(teacher_features(untrained, tasks.retain_vqa), kept)


def test_what_was_used_last_is_kept_as_long_as_there_is_room(untrained, monkeypatch):
    weights, calls = sum(p.nbytes for p in untrained.model.parameters()), []

    @memo.memo
    def work(loaded, number):
        calls.append(number)
        return {"half": torch.full((weights // 8,), float(number))}  # of the room

    monkeypatch.setattr(memo, "ROOM", weights)
    results = [work(untrained, number)["half"][0].item() for number in (0, 1, 0, 2, 0, 1)]
    assert results == [0, 1, 0, 2, 0, 1] and calls == [0, 1, 2, 1]  # 1 was longest ago when 2 came
    assert len(memo.RESULTS) == 2
