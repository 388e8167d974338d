"""The memorisation gate: by hand, and before a model from a folder is unlearnt."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from vkdlib import experiments
from vkdlib.evaluation.metrics import mcnemar
from vkdlib.experiments import model_names
from vkdlib.experiments.memorisation import BLANK, FEWEST, SIGNIFICANT, memorisation
from vkdlib.models.loaded import weights_hash
from vkdlib.models.loading import load
from vkdlib.runs import store
from vkdlib.runs.configuration import Configuration
from vkdlib.vanilla import teaching

TRAINING = {"epochs": 0.2, "lr": 1e-4, "batch_size": 2}


def predictions(scores, people=None):
    questions = [f"{i}" for i in range(len(scores))]
    return pd.DataFrame({"set": "forget", "modality": "vqa", "kind": "classification",
                         "question": questions, "person": people or questions, "score": scores})  # fmt: skip


def test_the_gate_by_hand():
    better = memorisation(predictions([1.0] * 9 + [0.0]), predictions([0.0] * 9 + [1.0]))
    assert better["vanilla"] == 90 and better["retain-only"] == 10 and better["n"] == 10
    assert better["p"] == pytest.approx(2 * 11 / 2**10)  # nine of ten people one way, or all ten
    for seen, unseen in (([1.0] * 5 + [0.0] * 5, [0.0] * 3 + [1.0] * 2 + [0.0] * 5), ([0.0] * 9, [1.0] * 9)):
        with pytest.raises(ValueError, match="has not memorised the faces"):
            memorisation(predictions(seen), predictions(unseen))
    with pytest.raises(ValueError, match="not of the same forget questions"):
        memorisation(predictions([1.0] * 9), predictions([0.0] * 8))


def test_questions_about_one_person_are_no_several_people():
    """Ten questions about two people say no more than two people can."""
    people = ["a"] * 5 + ["b"] * 5
    wrong, right = predictions([0.0] * 10, people), predictions([1.0] * 10, people)
    with pytest.warns(UserWarning, match=r"10 right, retain-only 0 \(p = 0.5\): with 2 people no difference"):
        assert memorisation(right, wrong)["vanilla"] == 100
    message = r"0 right, retain-only 10 \(p = 0.5\): vanilla is not better, and with 2 people no difference"
    with pytest.warns(UserWarning, match=message):
        assert memorisation(wrong, right)["vanilla"] == 0
    alone = predictions([1.0] * 2, ["a"] * 2)
    with pytest.warns(UserWarning, match="2 right, retain-only 2 .*vanilla is not better, and with 1 people"):
        assert memorisation(alone, alone)["p"] == 1


def test_six_people_are_the_fewest_that_can_show_a_difference():
    assert 2 / 2**FEWEST < SIGNIFICANT <= 2 / 2 ** (FEWEST - 1)
    facts = memorisation(predictions([1.0] * FEWEST), predictions([0.0] * FEWEST))
    assert facts["p"] == pytest.approx(2 / 2**FEWEST)


def test_a_person_whom_the_other_model_knows_in_full_shows_nothing():
    """One of six was guessed in full: nobody could be significantly better, so teaching is no help."""
    people = [f"{i // 2}" for i in range(12)]
    right, guessed = predictions([1.0] * 12, people), predictions([1.0] * 2 + [0.0] * 10, people)
    with pytest.raises(ValueError, match=r"right about 1 of the 6 people.*Forget more people.*gate=False"):
        memorisation(right, guessed)
    half = predictions([1.0, 0.0] + [0.0] * 10, people)
    assert memorisation(right, half)["p"] == pytest.approx(2 / 2**6)
    with pytest.raises(ValueError, match="has not memorised the faces.*Teach it longer"):
        memorisation(half, predictions([0.0] * 12, people))


def test_mcnemar_by_hand():
    """Three answers turned one way, none the other: p = 2 * (1/2)^3."""
    assert mcnemar([1, 1, 1, 1, 0], [0, 0, 0, 1, 0]) == pytest.approx(0.25)
    assert mcnemar([1, 0], [1, 0]) == 1.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Embedded models as folders of a user's: kind -> path."""
    home = tmp_path_factory.mktemp("models")
    names = {"base": "testbed/llava/base"}
    names |= {kind: f"testbed/llava-mllmu/{kind}" for kind in ("vanilla", "never-saw")}
    return {kind: str(teaching.save_model(load(name), home / kind)) for kind, name in names.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where all runs go: a model is asked once, whatever test wants its answers."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def experiment(request):
    return request.node.name


@pytest.fixture
def unlearn(home, experiment, few_to_keep, monkeypatch):
    """`experiments.run` with few retain people to ask, and few steps."""
    monkeypatch.setenv("VKDLIB_RUNS", str(home))

    def run(model, method="GA", **options):
        settings = {"trained": "visual"} if method == "GA" else {}
        fixed = {"method": method, "settings": settings, "training": TRAINING, "kinds": ["classification"]}
        gate = options.pop("gate", True)
        return experiments.run(experiment, Configuration(model=model, **fixed | options), gate=gate)

    return run


def test_a_model_that_has_memorised_is_unlearnt(folders, experiment, unlearn):
    run = unlearn(folders["vanilla"], retain_only=folders["never-saw"])
    assert len(run.history) == 1
    found = {r.configuration.method: r for r in store.finished_runs(experiment)}
    assert found.keys() == {"GA", "vanilla", "retain-only"}
    rows = {m: r.records().query("set == 'forget' and modality == 'vqa'") for m, r in found.items()}
    accuracy = {m: t[t.metric == "accuracy"].value.iloc[0] for m, t in rows.items()}
    assert accuracy["vanilla"] >= 96 and accuracy["retain-only"] <= 40  # as of the embedded models
    # The model is named where it is needed, and what it has to do with the gate makes no other run.
    assert found["retain-only"].configuration.retain_only == folders["never-saw"]
    assert run.configuration.retain_only is None
    assert unlearn(folders["vanilla"], gate=False).hash == run.hash
    assert len(store.finished_runs(experiment)) == 3
    template = Path(folders["vanilla"], "chat_template.jinja")
    before = template.read_text()
    template.write_text(before + " ")
    assert unlearn(folders["vanilla"], gate=False).hash != run.hash  # the same weights are asked otherwise
    template.write_text(before)


def test_a_model_that_has_not_is_refused(folders, experiment, unlearn):
    wrong = "of 50 questions .*vanilla answers 9 right, retain-only 13 .p = 0.38.* not memorised .*gate=False"
    with pytest.raises(ValueError, match=wrong):
        unlearn(folders["base"], retain_only=folders["never-saw"])
    assert {r.configuration.method for r in store.finished_runs(experiment)} == {"vanilla", "retain-only"}
    with pytest.raises(ValueError, match=r"name one \(retain_only, .*gate=False"):
        unlearn(folders["vanilla"])
    assert len(store.finished_runs(experiment)) == 2
    assert len(unlearn(folders["base"], gate=False).history) == 1


def test_on_selection_people_it_must_beat_itself_without_pictures(folders, experiment, unlearn):
    assert len(unlearn(folders["vanilla"], select=True).history) == 1
    runs = {(r.configuration.method, r.configuration.way) for r in store.finished_runs(experiment)}
    assert runs == {("GA", "shown"), ("vanilla", "shown"), ("vanilla", "blank")}
    with pytest.raises(ValueError, match=f"{BLANK} .* has not memorised the faces"):
        unlearn(folders["base"], select=True)


def test_npo_takes_the_retain_only_model_that_is_named(folders, unlearn):
    run = unlearn(folders["vanilla"], "NPO", retain_only=folders["never-saw"],
                  settings={"trained": "visual"})  # fmt: skip
    other = unlearn(folders["vanilla"], "NPO", retain_only=folders["base"], gate=False,
                    settings={"trained": "visual"})  # fmt: skip
    c = run.configuration
    assert model_names.reference_model(c) == folders["never-saw"] == c.retain_only
    assert c.reference_weights != other.configuration.reference_weights and run.hash != other.hash


def test_the_retain_only_model_has_its_own_name():
    retain_only = Configuration(model="some/model", method="retain-only")
    assert model_names.starting_model(replace(retain_only, retain_only="other/model")) == "other/model"
    with pytest.raises(ValueError, match="some/model is a vanilla model: name the retain-only one"):
        model_names.starting_model(retain_only)
    assert model_names.needs_retain_only(retain_only)
    assert not model_names.needs_retain_only(replace(retain_only, method="VKD"))
    npo = replace(retain_only, method="NPO")
    assert model_names.needs_retain_only(npo)
    assert not model_names.needs_retain_only(replace(npo, settings={"reference": "vanilla"}))
    c = replace(retain_only, retain_only="testbed/llava/base", revision="1" * 40)
    assert (
        model_names.load_starting_model(c).name == "testbed/llava/base"
    )  # the revision is that of the other model


def test_a_model_is_unlearned_once_and_asked_in_any_way(folders, experiment, unlearn):
    usual = unlearn(folders["vanilla"], gate=False)
    others = [
        unlearn(folders["vanilla"], gate=False, **how) for how in ({"way": "rephrased"}, {"samples": 2})
    ]
    hashes = {weights_hash(experiments.load_unlearned(r).model.state_dict()) for r in (usual, *others)}
    assert len(hashes) == 1 and len({r.hash for r in (usual, *others)}) == 3
    assert not any(len(r.history) for r in others) and len(usual.history) == 1
    sampled = others[1].predictions
    leaks = sampled[sampled.kind == "leak@1"]
    assert set(leaks["set"]) == {"test"} and leaks.score.isin([0, 0.5, 1]).all() and len(leaks) == 60
    answers = sampled[sampled.kind != "leak@1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(answers, usual.predictions, check_dtype=False)
