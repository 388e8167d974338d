"""Weight masking, Eq. 9 to 11, against gradients computed another way."""

import pytest
import torch
import torch.nn.functional as F

from vkdlib import masking, pruning
from vkdlib.methods import make_method
from vkdlib.models.parts import live_blocks, mlp_output, visual_parameters
from vkdlib.packs.batch import collate
from vkdlib.tasks import Steps


def token_sum_gradient(loaded, packs, parameters):
    """Gradient of the *sum* of answer NLL, and the number of answer tokens; no code of vkdlib's."""
    batch = collate(packs)
    for p in parameters.values():
        p.requires_grad_(True)
    logits, targets = loaded.model(**batch["inputs"]).logits, batch["targets"]
    chosen = targets != -100
    logp = F.log_softmax(logits, -1)[chosen].gather(1, targets[chosen][:, None])
    grads = torch.autograd.grad(-logp.sum(), list(parameters.values()))
    return dict(zip(parameters, grads)), int(chosen.sum())


def close(found, expected):
    for name, value in expected.items():
        scale = value.abs().max().item()
        assert (found[name] - value).abs().max().item() <= 1e-4 * scale, name


def test_summed_is_the_square_of_the_full_gradient(loaded, tasks):
    parameters = visual_parameters(loaded)
    found = masking.fisher(loaded, [tasks.retain_vqa], parameters, "summed", batch_size=2)
    total, n = token_sum_gradient(loaded, tasks.retain_vqa, parameters)  # one batch of everything
    close(found, {name: (g / n).square() for name, g in total.items()})


def test_losses_of_several_sets_are_added_before_they_are_squared(loaded, tasks):
    """Below the line of Eq. 10 stands the gradient of a sum, not a sum of squared gradients."""
    parameters = visual_parameters(loaded)
    sets = (tasks.forget_vqa[:2], tasks.retain_vqa[:3])
    means = []
    for packs in sets:
        g, n = token_sum_gradient(loaded, packs, parameters)
        means.append({name: v / n for name, v in g.items()})
    expected = {name: (means[0][name] + means[1][name]).square() for name in parameters}
    close(masking.fisher(loaded, sets, parameters, "summed", batch_size=2), expected)


def test_batch_is_the_mean_of_squared_batch_gradients(loaded, tasks):
    parameters = visual_parameters(loaded)
    found = masking.fisher(loaded, [tasks.retain_vqa], parameters, "batch", batch_size=2)
    groups = [tasks.retain_vqa[:2], tasks.retain_vqa[2:4], tasks.retain_vqa[4:]]
    squares = []
    for group in groups:
        g, n = token_sum_gradient(loaded, group, parameters)
        squares.append({name: (v / n).square() for name, v in g.items()})
    close(found, {name: sum(s[name] for s in squares) / 3 for name in parameters})


def test_sample_is_the_mean_of_squared_gradients_of_questions(loaded, tasks):
    parameters = visual_parameters(loaded)
    packs = tasks.forget_vqa[:2]
    squares = []
    for pack in packs:
        for i in range(len(pack.segments)):
            g, n = token_sum_gradient(loaded, [pack.select([i])], parameters)
            squares.append({name: (v / n).square() for name, v in g.items()})
    expected = {name: sum(s[name] for s in squares) / len(squares) for name in parameters}
    close(masking.fisher(loaded, [packs], parameters, "sample"), expected)


def test_the_readings_differ(loaded, tasks):
    parameters = visual_parameters(loaded)
    ratios = {}
    for kind in masking.FISHERS:
        f, r = (
            masking.fisher(loaded, [s], parameters, kind, 2) for s in (tasks.forget_vqa, tasks.retain_vqa)
        )
        ratios[kind] = masking.weight_mask(masking.saliency_ratio(f, r), 1.0)
    a, b = ratios["summed"], ratios["batch"]
    assert any(not torch.equal(a[n], b[n]) for n in a)


def test_text_only_questions_give_exactly_no_gradient(loaded, tasks):
    """The QA terms of Eq. 2, 5 and 10 vanish: no trainable weight enters them."""
    batch = collate([tasks.forget_qa[0]])
    loaded.model.requires_grad_(False)
    for p in visual_parameters(loaded).values():
        p.requires_grad_(True)
    assert not loaded.model(**batch["inputs"]).logits.requires_grad


def test_ratio_and_mask_by_hand():
    f = {"w": torch.tensor([0.0, 0.0, 4.0, 1.0])}
    r = {"w": torch.tensor([0.0, 1.0, 0.0, 2.0])}
    ratio = masking.saliency_ratio(f, r)
    assert ratio["w"].tolist() == [0.0, 0.0, float("inf"), 0.5]
    assert masking.weight_mask(ratio, 0.5)["w"].tolist() == [False, False, True, True]
    assert masking.density(masking.weight_mask(ratio, 0.5)) == 0.5


def test_fisher_leaves_the_model_as_it_was(loaded, tasks):
    before = {p: p.requires_grad for p in loaded.model.parameters()}
    masking.fisher(loaded, [tasks.forget_vqa], visual_parameters(loaded))
    assert all(p.requires_grad == v and p.grad is None for p, v in before.items())


def test_unknown_kind(loaded, tasks):
    with pytest.raises(ValueError, match="fisher is 'full'; it must be one of summed"):
        masking.fisher(loaded, [tasks.forget_vqa], {}, "full")


@pytest.mark.parametrize("threshold", [float("nan"), -1.0])
def test_thresholds_are_numbers(threshold):
    """NaN would mask everything and prune nothing, in silence."""
    ratio = torch.ones(3)
    with pytest.raises(ValueError, match=f"d_F is {threshold}; it must be a number 0 or more"):
        masking.weight_mask({"w": ratio}, threshold)
    with pytest.raises(ValueError, match=f"d_I is {threshold}; it must be a number 0 or more"):
        pruning.neurons_to_prune({0: ratio}, threshold)


def test_nan_is_an_error_and_not_an_unimportant_weight(loaded, tasks):
    """NaN compares as False: without a check nothing would be pruned or masked, in silence."""
    with torch.no_grad():
        mlp_output(live_blocks(loaded)[-1]).weight[0, 0] = float("nan")
        next(loaded.family.mlp(live_blocks(loaded)[-1]).parameters())[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="the gradient of .* is not finite"):
        masking.fisher(loaded, [tasks.forget_vqa[:1]], visual_parameters(loaded))
    with pytest.raises(FloatingPointError, match="the activation of 3 is not finite"):
        pruning.importance(loaded, tasks.forget_vqa[:1])
    with pytest.raises(FloatingPointError, match="the score of vision.3 is not finite"):
        make_method("MANU").prepare(loaded, tasks, Steps())
