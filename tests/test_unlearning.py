"""VKD as a whole: one combined gradient, what moves and what must not, the invariance of text."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from vkdlib import pruning
from vkdlib.methods import make_method, vkd
from vkdlib.methods.vkd import teacher_features
from vkdlib.models.loading import load
from vkdlib.models.parts import live_blocks, mlp_output, visual_parameters
from vkdlib.models.passes import batch_nll, packs_nll, record_features
from vkdlib.packs.batch import collate
from vkdlib.packs.pack import Pack
from vkdlib.tasks import Steps, Tasks, make_tasks
from vkdlib.unlearning import make_training, unlearn

QUIET = {"d_I": 1.05, "d_F": 1.0}


def run(loaded, tasks, steps=1, lr=1e-3, method=None, **training):
    chosen = method or make_method("VKD", **QUIET)
    before = {n: p.clone() for n, p in chosen.scope(loaded).items()}
    epochs = steps * 2 / 3  # rounds over 3 people, 2 a step
    history, report = unlearn(loaded, tasks, chosen, epochs=epochs, lr=lr, batch_size=2, **training)
    assert len(history) == steps
    return before, chosen.scope(loaded), history, report


def test_only_vision_mlps_and_projector_move(loaded, tasks):
    whole = copy.deepcopy(loaded.model.state_dict())
    run(loaded, tasks, steps=2)
    names = {p: n for n, p in loaded.model.named_parameters()}
    scope = {names[p] for p in visual_parameters(loaded).values()}
    assert all(".mlp." in n or "multi_modal_projector" in n for n in scope)
    moved = {n for n, p in loaded.model.state_dict().items() if not torch.equal(p, whole[n])}
    assert moved == scope
    assert all(p.grad is None for p in loaded.model.parameters())


def test_text_only_answers_are_bit_identical(loaded, tasks):
    batch = collate(tasks.forget_qa)["inputs"]
    before = loaded.model(**batch).logits
    run(loaded, tasks, steps=3, lr=1e-2)
    after = loaded.model(**batch).logits
    assert torch.equal(before, after)


def test_one_step_is_the_combined_gradient(loaded, tasks, monkeypatch):
    """-m ⊙ alpha ∇L_f + ∇L_r + beta ∇L_VKD, as the optimiser gets it from `unlearn`, against the
    gradients of the three terms computed here by other means."""
    method = make_method("VKD", alpha=1.5, beta=0.7, prune=False, d_F=1.0)
    twin = type(loaded)(copy.deepcopy(loaded.model), loaded.processor, loaded.family, loaded.name)
    mask, parameters = method.choose_weights(twin, tasks, Steps(2)), method.scope(twin)
    twin.model.requires_grad_(False)
    for p in parameters.values():
        p.requires_grad_(True)

    def nll(packs):
        b = collate(packs)
        logits = twin.model(**b["inputs"]).logits.flatten(0, 1)
        return F.nll_loss(F.log_softmax(logits, -1), b["targets"].flatten(), ignore_index=-100)

    # At the teacher itself the distillation has no gradient: let it stand a little aside.
    aside = {k: t + 0.1 * t.sign() for k, t in teacher_features(loaded, tasks.retain_vqa).items()}
    monkeypatch.setattr(vkd, "teacher_features", lambda *_: aside)
    batch = tasks.batch(0, 2, 0)
    pixels = torch.cat([p.image["pixel_values"] for p in batch.retain_vqa])
    student = torch.cat(list(twin.model.get_image_features(pixel_values=pixels).pooler_output))
    distance = ((student - torch.cat([aside[p.key] for p in batch.retain_vqa])) ** 2).mean()
    terms = [nll(batch.forget_vqa), nll(batch.retain_vqa), distance]
    f, r, v = (torch.autograd.grad(t, list(parameters.values())) for t in terms)

    names, got = {p: n for n, p in method.scope(loaded).items()}, {}
    step = torch.optim.AdamW.step

    def watched(self):
        got.update({names[p]: p.grad.clone() for g in self.param_groups for p in g["params"]})
        return step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    run(loaded, tasks, 1, 1e-3, method)
    assert any((~m).any() for m in mask.values()) and any(m.any() for m in mask.values())
    for i, name in enumerate(parameters):
        expected = -1.5 * mask[name] * f[i] + r[i] + 0.7 * v[i]
        assert torch.allclose(got[name], expected, atol=1e-5 * expected.abs().max().item()), name


def test_masked_weights_do_not_move_in_update_scope(loaded, tasks):
    method = make_method("VKD", mask_scope="update", d_F=1.0, prune=False)
    mask = method.choose_weights(loaded, tasks, Steps(2))
    before, after, *_ = run(loaded, tasks, 20, 1e-2, method, weight_decay=0.1)
    assert any(m.any() for m in mask.values()) and any((~m).any() for m in mask.values())
    for name, m in mask.items():
        assert torch.equal(before[name][~m], after[name][~m]), name
    assert any(not torch.equal(before[n][m], after[n][m]) for n, m in mask.items())


def test_in_forget_scope_masked_weights_move_by_the_other_terms(loaded, tasks):
    method = make_method("VKD", prune=False, d_F=1e30)  # hardly anything is salient
    before, after, _, report = run(loaded, tasks, 1, 1e-3, method)
    assert report["mask_density"] < 0.01
    assert all(not torch.equal(before[n], after[n]) for n in before)


def test_pruned_neurons_stay_pruned(loaded, tasks):
    method = make_method("VKD", **QUIET)
    neurons = method.choose_neurons(loaded, tasks, Steps())
    assert any(n.any() for n in neurons.values())
    *_, report = run(loaded, tasks, 3, 1e-2, method, weight_decay=0.1)
    for i, chosen in neurons.items():
        assert (mlp_output(live_blocks(loaded)[i]).weight[:, chosen] == 0).all()
    assert report["pruned"] == pytest.approx(
        sum(int(n.sum()) for n in neurons.values()) / sum(n.numel() for n in neurons.values())
    )


def test_teacher_is_the_vanilla_model_and_is_asked_once(loaded, tasks, monkeypatch):
    asked = []
    original = vkd.teacher_features
    monkeypatch.setattr(vkd, "teacher_features", lambda *args: asked.append(original(*args)) or asked[-1])
    expected = original(loaded, tasks.retain_vqa)
    run(loaded, tasks, steps=4)
    assert len(asked) == 1
    assert all(torch.equal(asked[0][k], v) for k, v in expected.items())


def test_the_teacher_is_asked_about_those_alone_who_will_be_seen(loaded, tasks, monkeypatch):
    asked, original = [], vkd.teacher_features

    def counted(model, packs, *others):
        asked.extend(packs)
        return original(model, packs, *others)

    monkeypatch.setattr(vkd, "teacher_features", counted)
    run(loaded, tasks, steps=1)
    seen = {p.key for p in tasks.batch(0, 2, 0).retain_vqa}
    assert {p.key for p in asked} == seen and len(asked) == len(seen) < len(tasks.retain_vqa)


def test_caught_features_are_the_models_own(untrained, tasks):
    batch = collate(tasks.retain_vqa[:3])
    with torch.no_grad(), record_features(untrained) as caught:
        untrained.model(**batch["inputs"])
    teacher = teacher_features(untrained, tasks.retain_vqa[:3])
    assert torch.allclose(caught[0], torch.cat(list(teacher.values())), atol=1e-6)


@pytest.mark.parametrize("target", ["layers", "both"])
def test_distillation_from_the_vision_blocks(loaded, untrained, tasks, target):
    """After a step, the distance is that of the tower's own hidden states, and of the projector's output."""
    method = make_method("VKD", target=target, layers=1, beta=2.0)
    *_, history, _ = run(copy.deepcopy(loaded), tasks, 2, 1e-3, method)
    run(loaded, tasks, 1, 1e-3, method)
    pixels = torch.cat([p.image["pixel_values"] for p in tasks.batch(1, 2, 0).retain_vqa])
    seen = []
    for model in (loaded.model, untrained.model):
        features = model.get_image_features(pixel_values=pixels, output_hidden_states=True)
        last = len(live_blocks(loaded))  # hidden state 0 is the embedding
        seen.append((features.hidden_states[last], torch.cat(list(features.pooler_output))))
    blocks, projector = (((a - b) ** 2).mean().item() for a, b in zip(*seen))
    expected = blocks if target == "layers" else (blocks + projector) / 2
    assert history[1]["vkd"] == pytest.approx(expected, rel=1e-4) and projector > 0
    assert history[0]["vkd"] == 0 and abs(blocks / projector - 1) > 0.1
    with pytest.raises(ValueError, match="target is 'eyes'"):
        make_method("VKD", target="eyes")


def test_blank_images_let_the_qa_terms_in(loaded, tasks, benchmark):
    split = benchmark.split(5)
    from dataclasses import replace

    split = replace(split, forget=split.forget[:3], retain=split.retain[:2])
    blank = make_tasks(loaded, split, qa_image="blank")
    *_, history, _ = run(loaded, blank, method=make_method("VKD", prune=False, mask=False))
    assert {"forget_qa", "retain_qa"} <= set(history[0])
    *_, history, _ = run(loaded, tasks, method=make_method("VKD", prune=False, mask=False))
    assert set(history[0]) == {"step", "lr", "forget_vqa", "retain_vqa", "vkd"}
    with pytest.raises(ValueError, match="qa_image is 'noise'"):
        make_tasks(loaded, split, qa_image="noise")


@pytest.mark.parametrize("choice", vkd.CHOICES)
def test_interrupted_unlearning_resumes_bit_identically(loaded, tasks, tmp_path, monkeypatch, choice):
    """Whoever chose what is pruned and masked: a control draws the same again."""
    start = copy.deepcopy(loaded.model.state_dict())
    method = make_method("VKD", prune_by=choice, mask_by=choice, **QUIET)
    run(loaded, tasks, steps=6, lr=1e-2, method=method, seed=1)
    whole = copy.deepcopy(loaded.model.state_dict())
    loaded.model.load_state_dict(start)
    from vkdlib.methods.vkd import VKD

    calls, original = [], VKD.forget_terms

    def failing(self, *args):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(VKD, "forget_terms", failing)
    with pytest.raises(KeyboardInterrupt):
        run(loaded, tasks, steps=6, lr=1e-2, method=method, seed=1, folder=tmp_path, checkpoint_every=2)
    loaded.model.load_state_dict(start)
    run(loaded, tasks, steps=6, lr=1e-2, method=method, seed=1, folder=tmp_path, checkpoint_every=2)
    assert len(calls) == 7  # four steps, the interruption, two more steps
    assert all(torch.equal(p, whole[n]) for n, p in loaded.model.state_dict().items())


def test_a_checkpoint_of_another_model_or_of_other_people_is_refused(loaded, tasks, tmp_path):
    start = copy.deepcopy(loaded.model.state_dict())
    method = make_method("GA", trained="visual")
    options = {"method": method, "folder": tmp_path, "checkpoint_every": 1}
    run(loaded, tasks, **options)
    fewer = replace(tasks, retain_vqa=tasks.retain_vqa[1:])
    loaded.model.load_state_dict(start)
    with pytest.raises(ValueError, match="checkpoint.safetensors belongs to another training"):
        run(loaded, fewer, **options)
    loaded.model.load_state_dict(start)
    with torch.no_grad():
        next(loaded.model.model.language_model.parameters()).mul_(2)  # no weight that the method trains
    with pytest.raises(ValueError, match="checkpoint.safetensors belongs to another training"):
        run(loaded, tasks, **options)


def test_a_checkpoint_is_known_by_named_fields(loaded, tasks, tmp_path):
    """Parts of a step change no result, so they are not among them."""
    start, method = copy.deepcopy(loaded.model.state_dict()), make_method("GA", trained="visual")
    run(loaded, tasks, method=method, folder=tmp_path, seed=3)
    with safe_open(tmp_path / "checkpoint.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["identity"])["training"]
    assert facts["method"] == "GA" and facts["settings"] == {"trained": "visual"}
    assert facts["seed"] == 3 and facts["batch_size"] == 2 and len(facts["data"]) == 64
    loaded.model.load_state_dict(start)
    run(loaded, tasks, method=method, folder=tmp_path, seed=3, micro_batch=1)


@pytest.mark.parametrize("method", [make_method("GA"), make_method("VKD", **QUIET)], ids=["GA", "VKD"])
def test_unlearning_ends_at_a_level(loaded, tasks, method, tmp_path):
    """With the steps that the same training takes to get there, whether or not it was killed on its way."""
    start = copy.deepcopy(loaded.model.state_dict())
    level = packs_nll(loaded, tasks.forget_vqa, 2) + 0.1
    regime = {"epochs": 40, "lr": 1e-2, "batch_size": 3, "checkpoint_every": 1}  # a step is a round
    history, _ = unlearn(loaded, tasks, method, stop_at=level, folder=tmp_path, **regime)
    losses = [row["forget_vqa"] for row in history]
    assert 1 < len(losses) < 40 and max(losses[:-1]) < level <= losses[-1]
    end = copy.deepcopy(loaded.model.state_dict())
    for folder in (None, tmp_path):
        loaded.model.load_state_dict(start)
        steps = {"epochs": len(history)} if folder is None else {"epochs": 40, "stop_at": level}
        unlearn(loaded, tasks, method, folder=folder, **regime | steps)
        assert all(torch.equal(p, end[n]) for n, p in loaded.model.state_dict().items())


def test_a_method_that_does_not_ascend_cannot_end_at_a_level(tasks):
    with pytest.raises(ValueError, match="stop_at is 2, and NPO does not raise the loss .*: leave it out"):
        unlearn(None, tasks, make_method("NPO"), epochs=1, lr=1e-3, stop_at=2.0)  # no model is looked at


def test_packs_nll_is_the_mean_over_answer_tokens(loaded, tasks):
    whole = batch_nll(loaded, tasks.forget_vqa).item()
    assert packs_nll(loaded, tasks.forget_vqa, 2) == pytest.approx(whole, rel=1e-5)


def test_every_round_sees_everybody_once(tasks):
    many = Tasks((), tuple(Pack((), (), {}, str(i)) for i in range(200)), (), ())
    for turn in range(2):
        steps = range(turn * 40, (turn + 1) * 40)
        shown = [p for step in steps for p in many.batch(step, 5, 0).retain_vqa]
        assert sorted(p.key for p in shown) == sorted(p.key for p in many.retain_vqa)
        assert {p.round for p in shown} == {turn}
    rounds = [[p.round for p in tasks.batch(step, 2, 0).forget_vqa] for step in range(3)]
    assert rounds == [[0, 0], [0, 1], [1, 1]]  # of three pictures, two a step
    orders = {tuple(p.key for p in tasks.batch(0, 5, seed).retain_vqa) for seed in range(5)}
    assert len(orders) > 1


def test_clear_errors(loaded, tasks):
    with pytest.raises(
        ValueError, match="method is 'VDK'; it must be one of GA, .*VKD, VGID .did you mean 'VKD'"
    ):
        make_method("VDK")
    with pytest.raises(ValueError, match="VKD has no 'gamma'; it has: alpha, beta"):
        make_method("VKD", gamma=1)
    with pytest.raises(ValueError, match="mask_scope is 'all'"):
        make_method("VKD", mask_scope="all")
    with pytest.raises(ValueError, match="schedule is 'cosine'; it must be one of constant"):
        run(loaded, tasks, schedule="cosine")
    with pytest.raises(ValueError, match="epochs is 0.0; it must be a number above 0"):
        run(loaded, tasks, steps=0)
    empty = type(tasks)((), tasks.retain_vqa, (), ())
    with pytest.raises(ValueError, match="there is nobody to forget"):
        run(loaded, empty)
    with pytest.raises(ValueError, match="model is 'testbed/llava-mllmu/best'; it must be one of testbed"):
        load("testbed/llava-mllmu/best")


def test_the_mask_in_parallel_is_that_of_the_vanilla_model(loaded, tasks):
    vanilla_mask = make_method("VKD", **QUIET).choose_weights(loaded, tasks, Steps())
    parallel = make_method("VKD", order="parallel", **QUIET).prepare(loaded, tasks, Steps())
    assert parallel.report["pruned"] > 0
    assert all(torch.equal(parallel.mask[n], m) for n, m in vanilla_mask.items())
    pruned_mask = make_method("VKD", **QUIET).choose_weights(
        loaded, tasks, Steps()
    )  # of what is pruned by now
    assert any(not torch.equal(pruned_mask[n], m) for n, m in vanilla_mask.items())
    for setting in ("order", "fisher", "reduction"):
        with pytest.raises(ValueError, match=f"{setting} is 'no'"):
            make_method("VKD", **{setting: "no"})


def test_random_controls_are_as_dense_layer_by_layer_and_follow_from_the_seed(loaded, tasks):
    plain, control = (
        make_method("VKD", **QUIET),
        make_method("VKD", prune_by="random", mask_by="random", **QUIET),
    )
    for name in ("choose_neurons", "choose_weights"):
        chosen = getattr(plain, name)(loaded, tasks, Steps())
        drawn = [getattr(control, name)(loaded, tasks, Steps(seed=seed)) for seed in (0, 0, 1)]
        assert any(0 < m.sum() < m.numel() for m in chosen.values())
        for key, m in chosen.items():
            assert {int(d[key].sum()) for d in drawn} == {int(m.sum())} and drawn[0][key].shape == m.shape
            assert torch.equal(drawn[0][key], drawn[1][key])
        for other in (chosen, drawn[2]):
            assert any(not torch.equal(drawn[0][key], other[key]) for key in chosen)


def test_other_people_take_the_forget_peoples_place(loaded, tasks):
    """As many retain people; those to forget take no part; nobody is on both sides."""
    drawn = tasks.other_people(0)
    people = {name: [p.key.partition("/")[0] for p in packs] for name, packs in vars(drawn).items()}
    real = {name: {p.key.partition("/")[0] for p in packs} for name, packs in vars(tasks).items()}
    assert len(people["forget_vqa"]) == len(real["forget_vqa"]) and len(people["retain_vqa"]) == 2
    for name in ("vqa", "qa"):
        assert {*people[f"forget_{name}"], *people[f"retain_{name}"]} == real[f"retain_{name}"]
        assert set(people[f"forget_{name}"]) == set(people["forget_vqa"])
    assert not set(people["forget_vqa"]) & set(people["retain_vqa"])
    assert len({tuple(p.key for p in tasks.other_people(seed).forget_vqa) for seed in range(9)}) > 1
    control = make_method("VKD", prune_by="other people", mask_by="other people", **QUIET)
    for name in ("choose_neurons", "choose_weights"):
        found = getattr(control, name)(loaded, tasks, Steps(seed=0))
        expected = getattr(make_method("VKD", **QUIET), name)(loaded, drawn, Steps())
        assert all(torch.equal(found[key], m) for key, m in expected.items())
    with pytest.raises(ValueError, match="there are 3 retain people: 3 cannot take the place"):
        replace(tasks, retain_vqa=tasks.retain_vqa[:3]).other_people(0)


def test_masking_first_prunes_what_fine_tuning_gave(loaded, tasks):
    """The same as fine-tuning without pruning, and pruning that model."""
    by_hand = type(loaded)(copy.deepcopy(loaded.model), loaded.processor, loaded.family, loaded.name)
    how = {"epochs": 2, "lr": 1e-2, "batch_size": 2}
    _, report = unlearn(loaded, tasks, make_method("VKD", order="mask, prune", **QUIET), **how)
    plain = make_method("VKD", prune=False, **QUIET)
    unlearn(by_hand, tasks, plain, **how)
    tuned = copy.deepcopy(by_hand.model.state_dict())
    neurons = plain.choose_neurons(by_hand, tasks, Steps(2))
    pruning.prune(by_hand, neurons)
    found = loaded.model.state_dict()
    assert all(torch.equal(found[n], p) for n, p in by_hand.model.state_dict().items())
    assert any(not torch.equal(found[n], p) for n, p in tuned.items())
    chosen = torch.cat(list(neurons.values()))
    assert report["pruned"] == pytest.approx(chosen.float().mean().item()) and chosen.any()
    assert "mask_density" in report


NEEDED = {"epochs": 1, "lr": 1e-3}  # what is always needed
WRONG_TRAINING = [
    ({"epochs": 0}, "epochs is 0; it must be a number above 0"),
    ({"epochs": math.nan}, "epochs is nan; it must be a number above 0"),
    ({"lr": 0}, "lr is 0; it must be a number above 0"),
    ({"lr": math.nan}, "lr is nan"),
    ({"lr": math.inf}, "lr is inf"),
    ({"lr": "1e-5"}, "lr is '1e-5'; .* write a dot, as in 1.0e-5"),
    ({"batch_size": 0}, "batch_size is 0; it must be a whole number 1 or more"),
    ({"batch_size": 2.5}, "batch_size is 2.5; it must be a whole number"),
    ({"retain_batch": 0}, "retain_batch is 0; it must be a whole number 1 or more"),
    ({"micro_batch": -1}, "micro_batch is -1; it must be a whole number 1 or more"),
    ({"micro_batch": 0}, "micro_batch is 0"),
    ({"checkpoint_every": 0}, "checkpoint_every is 0; it must be a whole number 1 or more"),
    ({"stop_at": 0}, "stop_at is 0; it must be a number above 0"),
    ({"weight_decay": -0.1}, "weight_decay is -0.1; it must be a number 0 or more"),
    ({"seed": "0"}, "seed is '0'; it must be a whole number"),
    ({"checkpointing": "no"}, "checkpointing is 'no'; it must be True or False"),
    ({"schedule": "liner"}, "schedule is 'liner'; .*did you mean 'linear'"),
    ({"learning_rate": 1e-5}, "training has no 'learning_rate'; it has: epochs, lr"),
]


@pytest.mark.parametrize("wrong, message", WRONG_TRAINING, ids=lambda value: str(value)[:30])
def test_wrong_arguments_are_refused_before_anything_is_computed(tasks, wrong, message):
    with pytest.raises(ValueError, match=message):
        make_training(**NEEDED | wrong)
    with pytest.raises(ValueError, match=message):
        unlearn(None, tasks, None, **NEEDED | wrong)  # no model and no method: neither is looked at


def test_the_name_of_a_method_is_no_method(tasks):
    with pytest.raises(ValueError, match="method is 'VKD'; it must be one from methods.make_method"):
        unlearn(None, tasks, "VKD", **NEEDED)


def test_what_is_needed_is_named():
    with pytest.raises(ValueError, match="training has no lr"):
        make_training(epochs=1)


def test_tasks_that_cannot_be_told_apart_are_refused(loaded, tasks):
    twice = replace(tasks, retain_vqa=(*tasks.retain_vqa, tasks.retain_vqa[0]))
    with pytest.raises(ValueError, match="retain_vqa has 2 packs of key"):
        unlearn(loaded, twice, make_method("VKD"), **NEEDED)
    both = replace(tasks, retain_vqa=(*tasks.retain_vqa, tasks.forget_vqa[0]))
    with pytest.raises(ValueError, match="is both to forget and to retain"):
        unlearn(loaded, both, make_method("VKD"), **NEEDED)
    with pytest.raises(ValueError, match="there is nobody to retain"):
        unlearn(loaded, replace(tasks, retain_vqa=()), make_method("VKD"), **NEEDED)


@pytest.mark.parametrize("size", [-1, 0])
def test_parts_of_no_pack_are_refused(tasks, size):
    """Of -1 packs there would be no part: a step that trains nothing."""
    with pytest.raises(ValueError, match=f"micro_batch is {size}"):
        list(tasks.parts(size))


def test_a_folder_may_be_text(loaded, tasks, tmp_path):
    method = make_method("GA", trained="visual")
    unlearn(loaded, tasks, method, folder=str(tmp_path / "run"), checkpoint_every=1, **NEEDED)
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
