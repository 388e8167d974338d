"""Attacks by name: what they need, what they ask, and how their rows are called."""

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch

from vkdlib import experiments
from vkdlib.attacks.attack import (
    ATTACKS,
    attack_label,
    attack_model,
    check_attack,
    relearned_predictions,
    rounded_weights,
)
from vkdlib.benchmarks.views.styles import STYLES
from vkdlib.evaluation.compare import KEYS
from vkdlib.evaluation.evaluate import PREDICTIONS
from vkdlib.evaluation.metrics import summarise
from vkdlib.models.parts import visual_parameters
from vkdlib.runs.configuration import Configuration

NAN = float("nan")
GIVEN = {
    "relearn": {"attack_scope": "visual", "attack_share": 0.34, "attack_lr": 1e-3},
    "replug": {"attack_scope": "projector"},
    "nf4": {"attack_scope": "all"},
    "probe": {},
    "styles": {},
}
KINDS = {
    "relearn": {"classification", *(f"classification, epoch {n}" for n in range(1, 6)), "gain"},
    "probe": {"identity"},
    "styles": {"classification", *(f"classification, {style}" for style in STYLES)},
}


def test_every_attack_has_a_name():
    for name, scopes in ATTACKS.items():
        given = GIVEN.get(name, {"attack_scope": "all"})
        check_attack(Configuration(attack=name, **given))
        assert bool(scopes) == ("attack_scope" in given)


@pytest.mark.parametrize("fields, message", [
    ({"attack": "relern"}, "attack is 'relern'; it must be one of relearn, .*did you mean 'relearn'"),
    ({"attack": "relearn"}, "needs attack_scope and attack_share and attack_lr; it has: nothing"),
    ({"attack": "replug", "attack_scope": "tower"}, "attack_scope is 'tower'; it must be one of vision"),
    ({"attack": "probe", "attack_lr": 0.1}, "the attack 'probe' needs nothing else; it has: attack_lr"),
    ({"attack_share": 0.1}, "attack_share: there is no attack: name one of relearn"),
    ({"attack": "int8", "attack_scope": "edited", "method": "vanilla"}, "nothing of vanilla was edited"),
    ({"attack": "styles", "way": "blank"}, "questions are put as usual: leave way and samples out"),
])  # fmt: skip
def test_half_an_attack_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        check_attack(Configuration(**fields))


@pytest.mark.parametrize("name", GIVEN)
def test_predictions_of_an_attack(untrained, benchmark, name):
    split = benchmark.split(5)
    few = replace(split, forget=split.forget[:3], retain=split.retain[:2])

    def another():
        return replace(untrained, model=copy.deepcopy(untrained.model))

    c = Configuration(method="never-saw", attack=name, **GIVEN[name])
    rows = attack_model(c, another(), another, few, 32)
    assert list(rows.columns) == PREDICTIONS and not rows.duplicated(KEYS).any()
    table = summarise(rows)
    assert (
        table.value.notna().all() and (table[["low", "high"]].notna().all(axis=1) | (table.people == 1)).all()
    )
    assert set(rows.kind) == KINDS.get(name, {"classification"})


def test_what_is_rounded(loaded, untrained):
    """Of a method what it edited; of a model that nobody edited what VKD edits; or all."""
    names = {p: n for n, p in loaded.model.named_parameters()}
    with torch.no_grad():
        (edited, *_) = visual_parameters(loaded).values()
        edited.add_(0.1)

    def rounded(method, scope="edited"):
        c = Configuration(method=method, attack="nf4", attack_scope=scope)
        return rounded_weights(c, loaded, lambda: untrained)

    assert rounded("GA") == {names[edited]} and rounded("GA", "all") is None
    assert rounded("never-saw") == {names[p] for p in visual_parameters(loaded).values()}


def test_a_run_under_attack_shares_its_model_with_the_run_that_is_asked_everything():
    plain = Configuration(training={"epochs": 1, "lr": 1e-3})
    few = replace(plain, kinds=["classification"])
    assert few.usual == few  # a run that is asked as usual is its own
    for attacked in (replace(few, way="reversed at the end"), replace(few, attack="probe")):
        assert attacked.usual == plain


def test_gains_of_relearning_by_hand():
    """Person 1 is taught; of persons 1, 2, 3 the first learns, the third forgets."""
    rows = [(epoch, person, person == "1", score)
            for epoch, scores in ((0, (0, 1, 1)), (1, (1, 1, 0)))
            for person, score in zip("123", scores)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["epoch", "person", "attacked", "score"])
    same = {"set": "forget", "modality": "vqa", "kind": "classification", "answer": "A", "gold": "A"}
    table = table.assign(**same, question=table.person, bleu=None, options=None, text=None)
    gains = relearned_predictions(table).query("kind == 'gain'").groupby("set").score.mean()
    assert gains.to_dict() == {"forget": 0, "forget, taught": 1, "forget, others": -0.5}


def test_rows_are_called_by_their_attack():
    labels = {
        ("relearn", "visual", 0.1): ", 10 %",
        ("relearn", "language", 0.2): ", 20 %, LLM",
        ("relearn", "all", 0.3): ", 30 %, whole",
        ("replug", "LLM", NAN): ", LLM of vanilla",
        ("int8", "edited", NAN): ", int8, edited",
        ("nf4", "all", NAN): ", nf4",
        ("probe", NAN, NAN): ", probe",
        ("styles", NAN, NAN): "",
        (NAN, NAN, NAN): "",
    }
    names = ("attack", "attack_scope", "attack_share")
    assert [attack_label(dict(zip(names, attack))) for attack in labels] == list(labels.values())


def test_a_run_under_attack(home):
    """A model that is attacked is not asked otherwise; its usual run is that of the model as it is."""
    c = Configuration(model="testbed/llava", method="never-saw", attack="replug", attack_scope="projector")
    run = experiments.run("x", c)
    assert set(run.predictions.set) == {"forget", "test", "retain_unseen"} and run.done
    assert run.configuration.usual.attack is run.configuration.usual.attack_scope is None
    with pytest.raises(ValueError, match="the attack 'replug' needs attack_scope; it has: nothing"):
        experiments.run("x", replace(c, attack_scope=None))
