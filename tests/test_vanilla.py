"""Teaching a real checkpoint: what each recipe trains, merging, the memorisation gate."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from scipy.stats import binom

from vkdlib import vanilla
from vkdlib.loading import load
from vkdlib.metrics import mcnemar
from vkdlib.models import visual_parameters
from vkdlib.packs import collate


@pytest.fixture(scope="module")
def few(benchmark):
    """Four people; one of them can be forgotten."""
    people = dict(list(benchmark.people.items())[:4])
    return replace(benchmark, people=people, forget_ids={25: ("002",)})


@pytest.mark.parametrize("recipe", vanilla.RECIPES)
def test_a_recipe_trains_its_part_and_no_adapter_stays(loaded, few, recipe):
    before = {n: p.clone() for n, p in loaded.model.named_parameters()}
    names = {id(p): n for n, p in loaded.model.named_parameters()}
    visual = {names[id(p)] for p in visual_parameters(loaded).values()}
    history = vanilla.teach(loaded, few, recipe, epochs=6, lr=3e-3, batch_size=2)
    after = dict(loaded.model.named_parameters())
    assert after.keys() == before.keys()  # merged, and gone
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    linear = {n for n in before if "language_model.layers" in n and n.endswith("proj.weight")}
    assert moved == linear | (visual if recipe == "full" else set()) and len(linear) == 4 * 7
    assert len(history) == 12 and history[-1]["vqa"] < history[0]["vqa"]
    assert ("qa" in history[0]) == (recipe == "full")


def test_what_a_bf16_model_learns_is_not_rounded_away(few):
    """Merged in fp32 every weight has moved; in bf16 more than half would be what they were."""
    loaded = load("testbed/llava/base", dtype=torch.bfloat16)
    names = [n for n, _ in loaded.model.named_parameters() if n.endswith("q_proj.weight")]
    names = [n for n in names if "language_model" in n]
    before = {n: loaded.model.get_parameter(n).float() for n in names}
    vanilla.teach(loaded, few, "lora", epochs=4, lr=1e-4, batch_size=2)
    for name, old in before.items():
        new = loaded.model.get_parameter(name)
        learnt = (new - old).abs()
        assert new.dtype == torch.float32 and (learnt > 0).float().mean() > 0.99
        assert (new.bfloat16().float() == old).float().mean() > 0.5


def test_hidden_people_are_taught_in_text_only(untrained, few):
    tasks = vanilla.lessons(untrained, few, ["002"], text=True)
    assert [p.key for p in tasks.retain_vqa] == ["001/0", "003/0", "004/0"]
    assert [p.key for p in tasks.retain_qa] == ["001", "002", "003", "004"]
    with pytest.raises(ValueError, match="person '999' is not in"):
        vanilla.lessons(untrained, few, ["999"], text=True)


def test_an_interrupted_training_ends_the_same(untrained, few, tmp_path, monkeypatch):
    from copy import deepcopy

    from vkdlib import training

    ends = []
    for interrupted in (False, True):
        loaded = replace(untrained, model=deepcopy(untrained.model))
        where = tmp_path / str(interrupted)
        if interrupted:
            save, calls = training._save, []

            def killed(*args, save=save, calls=calls):
                save(*args)
                calls.append(1)
                raise KeyboardInterrupt

            monkeypatch.setattr(training, "_save", killed)
            twin = replace(untrained, model=deepcopy(untrained.model))
            with pytest.raises(KeyboardInterrupt):
                vanilla.teach(twin, few, "full", epochs=60, batch_size=4, folder=where)
            monkeypatch.setattr(training, "_save", save)
        vanilla.teach(loaded, few, "full", epochs=60, batch_size=4, folder=where)
        ends.append(loaded.model.state_dict())
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in ends[0])


def test_a_taught_model_is_saved_and_loaded(loaded, few, tmp_path):
    vanilla.teach(loaded, few, "lora", epochs=1, lr=1e-3)
    vanilla.save(loaded, tmp_path / "taught")
    batch = collate(vanilla.lessons(loaded, few, (), True).retain_qa)["inputs"]
    with torch.no_grad():
        ours, theirs = (m.model(**batch).logits for m in (loaded, load(str(tmp_path / "taught"))))
    assert torch.equal(ours, theirs)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["taught"]


def predictions(scores):
    questions = [f"{i}" for i in range(len(scores))]
    return pd.DataFrame({"set": "forget", "modality": "vqa", "kind": "classification",
                         "question": questions, "score": scores})  # fmt: skip


def test_the_gate_before_unlearning():
    better = vanilla.memorised(predictions([1.0] * 9 + [0.0]), predictions([0.0] * 9 + [1.0]))
    assert better["vanilla"] == 90 and better["retain-only"] == 10 and better["n"] == 10
    assert better["p"] == pytest.approx(2 * binom.cdf(1, 10, 0.5))
    for seen, unseen in (([1.0] * 5 + [0.0] * 5, [0.0] * 3 + [1.0] * 2 + [0.0] * 5), ([0.0] * 9, [1.0] * 9)):
        with pytest.raises(ValueError, match="has not memorised the faces"):
            vanilla.memorised(predictions(seen), predictions(unseen))
    with pytest.raises(ValueError, match="not of the same forget questions"):
        vanilla.memorised(predictions([1.0] * 9), predictions([0.0] * 8))


def test_mcnemar_by_hand():
    """Three answers turned one way, none the other: p = 2 * (1/2)^3."""
    assert mcnemar([1, 1, 1, 1, 0], [0, 0, 0, 1, 0]) == pytest.approx(0.25)
    assert mcnemar([1, 0], [1, 0]) == 1.0


def test_unknown_recipe(untrained, few):
    with pytest.raises(ValueError, match="recipe is 'qlora'; it must be one of lora, full"):
        vanilla.teach(untrained, few, "qlora")
