"""Neuron pruning, Eq. 6 to 8."""

import pytest
import torch

from vkdlib import pruning
from vkdlib.models.parts import deepest_blocks, live_blocks, mlp_output
from vkdlib.packs.batch import collate


def features(loaded, pack):
    with torch.no_grad():
        return loaded.model(**collate([pack])["inputs"]).logits


def test_zero_activation_equals_zero_columns_and_undo_is_exact(loaded, tasks):
    pack = tasks.forget_vqa[0]
    before = {n: p.clone() for n, p in loaded.model.state_dict().items()}
    original = features(loaded, pack)
    generator = torch.Generator().manual_seed(1)
    neurons = {
        i: torch.rand(mlp_output(live_blocks(loaded)[i]).in_features, generator=generator) < 0.3
        for i in deepest_blocks(loaded, 4)
    }
    hooks = [
        mlp_output(live_blocks(loaded)[i]).register_forward_pre_hook(
            lambda module, args, off=off: (args[0] * ~off,)
        )
        for i, off in neurons.items()
    ]
    by_activation = features(loaded, pack)
    for hook in hooks:
        hook.remove()
    saved = pruning.prune(loaded, neurons)
    by_column = features(loaded, pack)
    assert torch.allclose(by_activation, by_column, atol=1e-6)
    assert not torch.allclose(by_column, original, atol=1e-4)
    pruning.unprune(loaded, saved)
    assert all(torch.equal(before[n], p) for n, p in loaded.model.state_dict().items())


def test_importance_equals_a_direct_mean(loaded, tasks):
    """Eq. 6 against one image at a time, written out."""
    packs = [tasks.forget_vqa[0], tasks.forget_vqa[1].select([0])]  # 4 questions and 1
    found = pruning.importance(loaded, packs, layers=2, batch_size=2)
    outputs = {i: mlp_output(live_blocks(loaded)[i]) for i in found}
    for i in found:
        means = []
        for pack in packs:
            with torch.no_grad():
                z = pruning.activations(loaded, [pack], outputs)[i]
            means += [z.abs().flatten(0, -2).mean(0)] * len(pack.segments)
        assert torch.allclose(found[i], torch.stack(means).mean(0), atol=1e-6)


def test_text_gives_no_importance(loaded, tasks):
    assert all((v == 0).all() for v in pruning.importance(loaded, tasks.forget_qa).values())


def test_ratio_and_threshold_by_hand():
    f, r = {0: torch.tensor([0.0, 2.0, 1.0])}, {0: torch.tensor([0.0, 1.0, 4.0])}
    ratio = pruning.importance_ratio(f, r)
    assert ratio[0].tolist() == [0.0, 2.0, 0.25]
    qa = {0: torch.tensor([0.0, 3.0, 0.0])}
    assert pruning.importance_ratio(f, r, qa)[0].tolist() == [0.0, 0.5, 0.25]
    assert pruning.neurons_to_prune(ratio, 2.0)[0].tolist() == [False, True, False]


def test_the_dead_block_is_left_out(loaded):
    tower = loaded.family.tower(loaded.model)
    assert len(loaded.family.blocks(tower)) == 5
    assert list(deepest_blocks(loaded, 4)) == [0, 1, 2, 3]
    assert list(deepest_blocks(loaded)) == [2, 3]
    with pytest.raises(ValueError, match="layers is 5; untrained has 4 live vision blocks"):
        deepest_blocks(loaded, 5)


def test_dead_block_gets_no_gradient(loaded, tasks):
    batch = collate([tasks.forget_vqa[0]])
    loaded.model(**batch["inputs"]).logits.sum().backward()
    blocks = loaded.family.blocks(loaded.family.tower(loaded.model))
    assert all(p.grad is None for p in blocks[4].parameters())
    assert all(p.grad is not None for p in blocks[3].parameters())


def test_a_mask_of_another_model_is_refused(loaded):
    with pytest.raises(ValueError, match="block 3 has 384 neurons, the mask has shape \\(5,\\)"):
        pruning.prune(loaded, {3: torch.ones(5, dtype=torch.bool)})
