"""Attacks succeed on a model that only hides what it knows, and fail on one that never saw the people.

The hidden models are the embedded vanilla with little changed: that is what an attack has to see through.
"""

import copy
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch

from vkdlib.attacks.probe import probe_identity, ridge_scores
from vkdlib.attacks.quantise import edited_weights, quantise, round_trip
from vkdlib.attacks.relearn import (
    SCOPES,
    accuracy_gap,
    attacked_people,
    attacked_weights,
    relearn,
)
from vkdlib.attacks.replug import PARTS, part_weights, replug
from vkdlib.evaluation.evaluate import evaluate
from vkdlib.evaluation.leaks import leak_rates
from vkdlib.evaluation.sampling import sample_answers
from vkdlib.masking import loss_gradient
from vkdlib.models.loaded import weights_hash
from vkdlib.models.loading import load
from vkdlib.models.parts import dead_parameters, visual_weights
from vkdlib.tasks import picture_packs


@pytest.fixture(scope="module")
def split(benchmark):
    return replace(benchmark.split(5), retain=(), real=())


@pytest.fixture(scope="module")
def vanilla():
    return load("testbed/llava-mllmu/vanilla")


@pytest.fixture(scope="module")
def never_saw():
    return load("testbed/llava-mllmu/never-saw")


def copy_model(loaded):
    return replace(loaded, model=copy.deepcopy(loaded.model))


def accuracy(loaded, split, **options):
    """On known and on unseen pictures of the forget people, in per cent; chance is 25."""
    kinds = {"kinds": ["classification"], "modalities": ["vqa"], "batch_size": 64}
    return 100 * evaluate(loaded, split, **kinds | options).groupby("set").score.mean()


def shifted(loaded, by=0.6):
    """Everything that the projector says is moved by one and the same random vector: nothing is gone."""
    loaded = copy_model(loaded)
    bias = list(loaded.family.projector(loaded.model).parameters())[-1]
    with torch.no_grad():
        bias += by * torch.randn(bias.shape, generator=torch.Generator().manual_seed(0))
    return loaded


def hidden_in_rounding(loaded, split):
    """Each weight of the visual module as far from its rounded value as rounding forgives, in the direction
    that makes right answers unlikely."""
    hidden = copy_model(loaded)
    names = {n: p for n, p in attacked_weights(hidden, "visual").items() if p.dim() == 2 and "mlp" in n}
    gradient = loss_gradient(hidden, picture_packs(hidden, split.forget), names)
    with torch.no_grad():
        for name, p in names.items():
            blocks = round_trip(p, "nf4").view(-1, 64)  # (blocks, 64)
            top = blocks.abs().amax(1, keepdim=True)
            step = 0.035 * top * gradient[name].view(-1, 64).sign()
            p.copy_((blocks + step.masked_fill(blocks.abs() == top, 0)).view_as(p))
    return hidden


def test_a_refusal_is_hiding_and_is_taken_back(vanilla, never_saw, split):
    """The reverse prompt of the VGID paper, after its Strict Enforcement prompt."""
    hidden, attacked = (accuracy(vanilla, split, way=way) for way in ("strict", "strict, reversed"))
    assert attacked.forget > hidden.forget + 15 and attacked.forget > 90
    assert accuracy(never_saw, split, way="strict, reversed").max() < 40


def test_other_words_reach_what_is_hidden(vanilla, never_saw, split):
    assert accuracy(vanilla, split, way="rephrased").min() > 85
    assert accuracy(never_saw, split, way="rephrased").max() < 40


@pytest.mark.slow
def test_samples_leak_what_the_likeliest_answer_hides(vanilla, never_saw, split):
    """leak@8 of clozes about unseen pictures, and what the greedy answers tell."""
    cloze = {"kinds": ["cloze"], "max_new_tokens": 6}
    rates = {}
    for name, model in {"hidden": shifted(vanilla, 0.35), "never-saw": shifted(never_saw, 0.35)}.items():
        samples = sample_answers(model, split, count=8, batch_size=240, **cloze)
        rates[name] = leak_rates(samples, (8,)).value.item() - accuracy(model, split, **cloze).test
    assert accuracy(shifted(vanilla, 0.35), split, **cloze).test < 35
    assert rates["hidden"] > 15 and leak_rates(samples, (8,)).value.item() < 30


def test_replugging_finds_what_another_projector_hides(vanilla, never_saw, split):
    with replug(hidden := copy_model(vanilla), never_saw, "projector"):
        assert accuracy(hidden, split).max() < 60
        with replug(hidden, vanilla, "projector"):
            assert accuracy(hidden, split).min() > 85
    for part in PARTS:
        with replug(never_saw, vanilla, part):
            assert accuracy(never_saw, split).max() < 40


def test_quantisation_undoes_what_hides_in_rounding(vanilla, never_saw, split):
    hidden = hidden_in_rounding(vanilla, split)
    assert accuracy(hidden, split).max() < 60
    edited = edited_weights(hidden, vanilla)
    with quantise(hidden, "nf4", edited):
        assert accuracy(hidden, split).min() > 85
    control = hidden_in_rounding(never_saw, split)
    with quantise(control, "nf4", edited):
        assert accuracy(control, split).max() < 40


@pytest.mark.slow
def test_relearning_brings_back_what_is_hidden(vanilla, never_saw, split):
    """Of the people who are taught again, what nobody taught: their other pictures."""
    gaps = {}
    for name, model in {"hidden": vanilla, "never-saw": never_saw}.items():
        rows = accuracy_gap(relearn(shifted(model), split, 0.3, lr=3e-4, batch_size=3))
        gaps[name] = rows[(rows.set == "test") & rows.attacked].squeeze()
    assert gaps["hidden"].after > 90 and gaps["hidden"].gap > 25
    assert gaps["never-saw"].after < 65 and gaps["never-saw"].gap < 15


def test_a_probe_sees_through_a_shift(vanilla, never_saw, split, benchmark):
    """A shift changes no linear probe. Faces differ, so never-saw is above chance: vanilla must beat it."""
    people = benchmark.split(5)
    rows = [probe_identity(shifted(model), people) for model in (vanilla, never_saw)]
    hidden, control = (of.groupby("set").score.mean() for of in rows)
    assert hidden.test > 0.85 and control.test < hidden.test - 0.15
    assert probe_identity(vanilla, people).score.sum() == pytest.approx(rows[0].score.sum(), abs=3)


def test_who_is_attacked(split):
    people = split.forget
    for share, count in ((0.1, 1), (0.2, 2), (0.3, 3), (0.34, 3)):
        drawn = attacked_people(people, share, 0)
        assert len(drawn) == count and drawn == attacked_people(people, share, 0)
        assert [p.id for p in people if p in drawn] == [p.id for p in drawn]
    assert len({tuple(p.id for p in attacked_people(people, 0.3, draw)) for draw in range(5)}) == 5
    with pytest.raises(
        ValueError, match="share is 0.04; of 10 forget people it attacks nobody: take one from 0.1"
    ):
        attacked_people(people, 0.04)
    with pytest.raises(ValueError, match="share is 0.96; of 10 forget people it attacks everybody"):
        attacked_people(people, 0.96)
    with pytest.raises(ValueError, match="share is 1.2; it must be a number 0 or more and 1 or less"):
        attacked_people(people, 1.2)


@pytest.mark.parametrize("scope", SCOPES)
def test_relearning_moves_its_scope_alone(loaded, split, scope):
    before = {n: p.detach().clone() for n, p in loaded.model.named_parameters()}
    few = replace(split, forget=split.forget[:3])
    rows = relearn(loaded, few, 0.34, lr=1e-3, epochs=2, scope=scope, kinds=["classification"])
    assert rows.epoch.unique().tolist() == [0, 1, 2]
    assert rows.groupby("epoch").attacked.mean().nunique() == 1 and rows[rows.attacked].person.nunique() == 1
    assert set(rows.set) == {"forget", "test"} and set(rows.modality) == {"vqa", "qa"}
    weights = dict(loaded.model.named_parameters())
    own = {n: n.replace(".base_layer", "") for n in weights}  # beside adapters, layers have other names
    moved = {n for n, p in weights.items() if own[n] not in before or not torch.equal(p, before[own[n]])}
    visual, dead = visual_weights(loaded), dead_parameters(loaded)
    assert moved and not dead & {weights[n] for n in moved}
    assert {weights[n] in visual for n in moved} == {
        "visual": {True},
        "language": {False},
        "all": {True, False},
    }[scope]
    assert all("lora_" in n for n in moved) == (scope == "language")


def test_relearning_is_the_same_again(untrained, split):
    few = replace(split, forget=split.forget[:3])
    tables = [relearn(copy_model(untrained), few, 0.34, lr=1e-3, epochs=1, draw=1) for _ in range(2)]
    pd.testing.assert_frame_equal(*tables)


def test_the_accuracy_gap_by_hand():
    rows = [("forget", "vqa", "classification", person == "1", epoch, person, score)
            for epoch, scores in ((0, (0, 1, 0)), (1, (1, 1, 1)), (2, (1, 1, 0)))
            for person, score in zip("123", scores)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["set", "modality", "kind", "attacked", "epoch", "person", "score"])
    gap = accuracy_gap(table).set_index("attacked")
    assert gap.loc[True, ["before", "after", "gap", "n", "people"]].tolist() == [0, 100, 100, 1, 1]
    assert gap.loc[False, ["before", "after", "gap", "n", "people"]].tolist() == [50, 50, 0, 2, 2]


@pytest.mark.parametrize("wrong, message", [
    ({"scope": "vision"}, "scope is 'vision'; it must be one of visual, language, all"),
    ({"epochs": 0}, "epochs is 0; it must be a whole number 1 or more"),
    ({"draw": -1}, "draw is -1"),
    ({"lr": 0}, "lr is 0; it must be a number above 0"),
])  # fmt: skip
def test_bad_attacks(untrained, split, wrong, message):
    with pytest.raises(ValueError, match=message):
        relearn(untrained, split, 0.3, **{"lr": 1e-3} | wrong)


@pytest.mark.parametrize("family", ["llava", "qwen2-vl", "qwen2.5-vl"])
def test_parts_are_the_whole(family):
    loaded = load(f"testbed/{family}/base") if family == "llava" else None
    if loaded is None:
        from vkdlib.models.families import FAMILIES
        from vkdlib.models.loaded import Loaded
        from vkdlib.testbed.architectures import random_model

        model = random_model(family)
        loaded = Loaded(model, None, FAMILIES[model.config.model_type], family)
    parts = [set(part_weights(loaded, part)) for part in PARTS]
    assert all(parts) and set.union(*parts) == set(dict(loaded.model.named_parameters()))
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_models_are_whole_again_after_an_attack(untrained, loaded):
    other = copy_model(untrained)
    with torch.no_grad():
        for p in other.model.parameters():
            p.add_(0.01)
    before = weights_hash(loaded.model.state_dict())
    for attack in (
        *(replug(loaded, other, part) for part in PARTS),
        quantise(loaded, "int8"),
        quantise(loaded, "nf4"),
    ):
        with pytest.raises(RuntimeError, match="stop"), attack:
            assert weights_hash(loaded.model.state_dict()) != before
            raise RuntimeError("stop")
        assert weights_hash(loaded.model.state_dict()) == before


def test_only_models_made_from_one_can_be_replugged(loaded, untrained):
    other = copy_model(untrained)
    attacked_weights(other, "language")  # attaches adapters
    with pytest.raises(ValueError, match="differ in .* of the LLM: .*adapters, which must be merged first"):
        with replug(loaded, other, "LLM"):
            pass
    with pytest.raises(ValueError, match="part is 'tower'; it must be one of vision tower, projector, LLM"):
        part_weights(loaded, "tower")


def test_what_rounding_leaves():
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))  # (out, in)
    rows = weight.abs().amax(1, keepdim=True)  # (out, 1)
    assert ((round_trip(weight, "int8") - weight).abs() <= rows / 127 * 0.51).all()
    nf4 = round_trip(weight, "nf4")
    assert len(nf4[0].unique()) <= 16 and (nf4 - weight).abs().mean() < 0.1 and nf4.shape == weight.shape
    assert not torch.equal(nf4, weight)


def test_what_is_quantised(loaded):
    head = loaded.model.get_output_embeddings().weight
    linear = {m.weight for m in loaded.model.modules() if isinstance(m, torch.nn.Linear)} - {head}
    before = {n: p.detach().clone() for n, p in loaded.model.named_parameters()}

    def changed():
        return {p for n, p in loaded.model.named_parameters() if not torch.equal(p, before[n])}

    with quantise(loaded, "int8"):
        assert changed() == linear
    chosen = set(part_weights(loaded, "projector"))
    with quantise(loaded, "nf4", chosen):
        assert changed() == linear & set(part_weights(loaded, "projector").values()) and changed()
    assert not changed()
    with pytest.raises(ValueError, match="quantise is 'int4'; it must be one of int8, nf4"):
        with quantise(loaded, "int4"):
            pass
    with pytest.raises(ValueError, match="untrained has no 'model.nothing'"):
        with quantise(loaded, "int8", ["model.nothing"]):
            pass


def test_without_bitsandbytes(loaded, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    before = weights_hash(loaded.model.state_dict())
    with pytest.raises(ImportError, match="quantise is 'nf4', which needs bitsandbytes, .*pip install"):
        with quantise(loaded, "nf4"):
            pass
    assert weights_hash(loaded.model.state_dict()) == before


def test_a_ridge_probe_in_closed_form():
    """Against the least-squares solution of the same problem, with the penalty as more rows."""
    torch.manual_seed(0)
    x, target, test = torch.randn(40, 5).double(), torch.arange(40) % 3, torch.randn(7, 5).double()
    scores = ridge_scores(x, target, test, 3, 0.1)
    middle, y = x.mean(0), torch.nn.functional.one_hot(target, 3).double()
    centred = x - middle
    penalty = (0.1 * centred.square().sum() / 5) ** 0.5 * torch.eye(5).double()
    stacked = torch.cat([centred, penalty]), torch.cat([y - y.mean(0), torch.zeros(5, 3).double()])
    weights = torch.linalg.lstsq(*stacked).solution
    assert torch.allclose(scores, (test - middle) @ weights + y.mean(0))
    assert torch.allclose(scores.sum(-1), torch.ones(7).double())


def test_the_probe_is_not_tested_on_what_it_learned(untrained, benchmark):
    """With pictures that differ at random, a probe is at chance."""
    split = benchmark.split(5)
    noise = torch.Generator().manual_seed(0)

    def picture():
        from PIL import Image

        from vkdlib.benchmarks.pictures import to_png

        pixels = torch.randint(256, (64, 64, 3), generator=noise, dtype=torch.uint8)
        return to_png(Image.fromarray(pixels.numpy()))

    def blur(people):
        return tuple(replace(p, test_images=tuple(picture() for _ in range(3))) for p in people[:30])

    noisy = replace(split, forget=blur(split.forget), retain=blur(split.retain))
    assert probe_identity(untrained, noisy).score.mean() < 0.15
    alone = replace(split, forget=tuple(replace(p, test_images=p.test_images[:1]) for p in split.forget))
    with pytest.raises(ValueError, match="has fewer than two unseen pictures"):
        probe_identity(untrained, alone)
