"""The baselines: each loss against its closed form, what moves, what is pruned."""

import copy
import hashlib
import inspect
import math
from dataclasses import asdict, dataclass

import pytest
import torch
import torch.nn.functional as F

import vkdlib
from vkdlib.benchmarks.wording import PROMPTS, REFUSALS, REVERSAL
from vkdlib.losses import IGNORE, answer_kl, npo_loss
from vkdlib.methods import METHODS, make_method
from vkdlib.methods.base import ORIGINS, Method, ascend
from vkdlib.methods.manu import (
    MANU,
    four_statistics,
    modality_scores,
    moments,
    neuron_statistics,
    projections,
    top_share,
)
from vkdlib.models.loaded import weights_hash
from vkdlib.models.parts import language_blocks, live_blocks, mlp_output, visual_parameters
from vkdlib.models.passes import answer_logprobs_by_pack, batch_nll
from vkdlib.packs.batch import collate
from vkdlib.plan.run import plan_run
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.deltas import apply_delta, changed_weights, save_delta
from vkdlib.system.checks import setting
from vkdlib.tasks import Steps, Tasks
from vkdlib.unlearning import combine, unlearn

TRAINED = [name for name, method in METHODS.items() if method.trains]


def method_of(name, **settings):
    return make_method(name, **({"reference": "vanilla"} if name == "NPO" else {}), **settings)


def gradients(loaded, tasks, method, batch=None):
    """The combined gradient of one step: name in the model -> tensor; and the named losses."""
    parameters = method.scope(loaded)
    prepared = method.prepare(loaded, tasks, Steps())
    losses = combine(loaded, method, prepared, parameters, batch or tasks.batch(0, 2, 0))
    found = {n: p.grad for n, p in loaded.model.named_parameters() if p.grad is not None}
    loaded.model.zero_grad()
    return found, losses


def gradient_of(loaded, loss):
    loaded.model.zero_grad()
    loss.backward()
    found = {n: p.grad.clone() for n, p in loaded.model.named_parameters() if p.grad is not None}
    loaded.model.zero_grad()
    return found


def assert_close(got, expected, tolerance=1e-5):
    largest = max(g.abs().max().item() for g in expected.values())
    for name in expected.keys() | got.keys():
        e, g = (of.get(name, torch.zeros(())) for of in (expected, got))
        assert torch.allclose(*torch.broadcast_tensors(g, e), atol=tolerance * largest), name


def copied(loaded):
    return type(loaded)(copy.deepcopy(loaded.model), loaded.processor, loaded.family, loaded.name)


def test_ga_and_ga_diff_are_the_signed_losses(loaded, tasks):
    batch = tasks.batch(0, 2, 0)
    up = gradient_of(loaded, -batch_nll(loaded, batch.forget_vqa))
    assert_close(gradients(loaded, tasks, make_method("GA"))[0], up)
    both = gradient_of(loaded, batch_nll(loaded, batch.retain_vqa) - batch_nll(loaded, batch.forget_vqa))
    assert_close(gradients(loaded, tasks, make_method("GA_Diff"))[0], both)
    keep = batch_nll(loaded, batch.retain_vqa)
    both = gradient_of(loaded, 2 * keep - batch_nll(loaded, batch.forget_vqa))
    assert_close(gradients(loaded, tasks, make_method("GA_Diff", weight=2.0))[0], both)


def test_ga_diff_is_vkd_without_its_parts(loaded, tasks):
    """Eq. 2 with everything trained, but for what it asks in text."""
    silent = Tasks(tasks.forget_vqa, tasks.retain_vqa, (), ())
    plain = make_method("VKD", alpha=1.0, beta=0.0, prune=False, mask=False, trained="all")
    assert_close(gradients(loaded, silent, plain)[0], gradients(loaded, silent, make_method("GA_Diff"))[0])


def test_text_counts_when_the_language_model_is_trained(loaded, tasks):
    plain = {"beta": 0.0, "prune": False, "mask": False}
    _, visual = gradients(loaded, tasks, make_method("VKD", **plain))
    got, losses = gradients(loaded, tasks, make_method("VKD", alpha=1.5, trained="all", **plain))
    assert visual.keys() == {"forget_vqa", "retain_vqa"}
    assert losses.keys() == {"forget_vqa", "retain_vqa", "forget_qa", "retain_qa"}
    batch = tasks.batch(0, 2, 0)
    f, r, fq, rq = (batch_nll(loaded, packs) for packs in vars(batch).values() if packs)
    assert_close(got, gradient_of(loaded, -1.5 * f + r + fq + rq))


def test_kl_is_that_of_torch_and_counts_answer_tokens_only():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    targets = torch.tensor([[1, 2, IGNORE, 3, IGNORE], [4, IGNORE, IGNORE, IGNORE, IGNORE]])
    p, q = teacher.softmax(-1), student.softmax(-1)
    by_hand = (p * (p / q).log()).sum(-1)[targets != IGNORE].mean()
    assert torch.allclose(answer_kl(student, teacher, targets), by_hand)
    assert answer_kl(teacher, teacher, targets).item() == pytest.approx(0, abs=1e-6)


def test_kl_min_starts_as_ga_and_then_pulls_back(loaded, tasks):
    """At the vanilla model the KL is at its minimum; away from it, it is that to a second model."""
    method, vanilla = make_method("KL_Min"), copied(loaded)
    up = gradients(loaded, tasks, make_method("GA"))[0]
    got, losses = gradients(loaded, tasks, method)
    assert losses["retain_kl"] == pytest.approx(0, abs=1e-6)
    assert_close(got, up, 1e-4)
    prepared = method.prepare(loaded, tasks, Steps())
    with torch.no_grad():
        for p in loaded.model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    batch = tasks.batch(0, 2, 0)
    loss, _ = method.keep_terms(loaded, batch, batch, prepared.teacher)
    asked = collate(batch.retain_vqa)
    wanted = vanilla.model(**asked["inputs"]).logits
    expected = answer_kl(loaded.model(**asked["inputs"]).logits, wanted, asked["targets"])
    assert expected.item() > 1e-4
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    heavy, _ = make_method("KL_Min", weight=2.0).keep_terms(loaded, batch, batch, prepared.teacher)
    assert heavy.item() == pytest.approx(2 * expected.item(), rel=1e-5)


def test_npo_closed_form_and_limit():
    now, then = torch.tensor([-1.0, -5.0]), torch.tensor([-2.0, -5.0])
    by_hand = [2 / 0.4 * math.log(1 + (math.exp(n - t)) ** 0.4) for n, t in zip(now, then)]
    assert npo_loss(now, then, 0.4).item() == pytest.approx(sum(by_hand) / 2, rel=1e-6)
    now.requires_grad_(True)
    npo_loss(now, then, 1e-4).backward()
    assert torch.allclose(now.grad, torch.full((2,), 0.5), atol=1e-3)  # of the mean log-probability: GA


def test_npo_asks_its_reference_once_and_per_question(loaded, tasks):
    reference = answer_logprobs_by_pack(loaded, tasks.forget_vqa, 2)
    assert {k: len(v) for k, v in reference.items()} == {p.key: 4 for p in tasks.forget_vqa}
    inputs = collate([tasks.forget_vqa[0].select([2])])
    logp = F.log_softmax(loaded.model(**inputs["inputs"]).logits[0], -1)
    alone = logp.gather(1, inputs["targets"][0, :, None]).sum().item()
    assert reference[tasks.forget_vqa[0].key][2].item() == pytest.approx(alone, rel=1e-5)
    losses = gradients(loaded, tasks, make_method("NPO", reference="vanilla", beta=0.4))[1]
    assert losses["npo"] == pytest.approx(2 / 0.4 * math.log(2), rel=1e-6)  # model = reference
    with pytest.raises(ValueError, match="name or folder"):
        make_method("NPO").prepare(loaded, tasks, Steps())


def test_npo_with_another_model_as_reference(loaded, tasks, tmp_path):
    oracle = copied(loaded)
    with torch.no_grad():
        for p in oracle.model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    oracle.model.save_pretrained(tmp_path / "oracle")
    oracle.processor.save_pretrained(tmp_path / "oracle")
    method = make_method("NPO", reference=str(tmp_path / "oracle"))
    reference = method.prepare(loaded, tasks, Steps(2)).teacher
    expected = answer_logprobs_by_pack(oracle, tasks.forget_vqa, 2)
    assert all(torch.allclose(reference[k], v, atol=1e-3) for k, v in expected.items())
    vanilla = answer_logprobs_by_pack(loaded, tasks.forget_vqa, 2)
    assert any(not torch.allclose(reference[k], v, atol=1e-2) for k, v in vanilla.items())
    with pytest.raises(ValueError, match="beta is 0"):
        make_method("NPO", beta=0)


def test_adapters_are_masked_by_what_can_be_judged(loaded, tasks):
    """A has no gradient where B is zero: a mask on it would ban it from forgetting for the whole run."""
    for method in (
        make_method("MMUnlearner", trained="lora"),
        make_method("VKD", trained="lora", prune=False),
    ):
        mask = method.prepare(loaded, tasks, Steps()).mask
        assert mask and all("lora_B" in n for n in mask) and any(m.any() for m in mask.values())
        assert {n for n in method.scope(loaded) if "lora_B" in n} == set(mask)


def test_mmunlearner_masks_the_forget_term_alone(loaded, tasks):
    method = make_method("MMUnlearner", alpha=1.5)
    mask = method.prepare(loaded, tasks, Steps()).mask
    assert set(mask) == set(method.scope(loaded))
    assert any("language_model" in n and m.any() for n, m in mask.items())
    assert any("vision_tower" in n and m.any() for n, m in mask.items())
    batch = tasks.batch(0, 2, 0)
    up = gradient_of(loaded, -1.5 * batch_nll(loaded, batch.forget_vqa))
    down = gradient_of(loaded, batch_nll(loaded, batch.retain_vqa))
    got = gradients(loaded, tasks, method)[0]
    assert_close(got, {n: mask[n] * up[n] + down[n] for n in up})


def test_mmunlearners_mask_compares_means_of_squared_batch_gradients(loaded, tasks):
    """Vision weights with the retain people's pictures alone, others with these and the text as one set."""
    batches_of = lambda packs: [packs[i : i + 2] for i in range(0, len(packs), 2)]  # noqa: E731
    squares = lambda batch: {n: g**2 for n, g in gradient_of(loaded, batch_nll(loaded, batch)).items()}  # noqa: E731
    forget, pictures, text = (
        [squares(batch) for batch in batches_of(packs)]
        for packs in (tasks.forget_vqa, tasks.retain_vqa, (*tasks.forget_qa, *tasks.retain_qa))
    )
    mask = make_method("MMUnlearner").prepare(loaded, tasks, Steps(2)).mask
    vision = [n for n in mask if "vision" in n or "projector" in n]
    assert 0 < len(vision) < len(mask)
    for name, m in mask.items():
        zero = torch.zeros(m.shape)
        above = sum(g.get(name, zero) for g in forget) / len(forget)
        kept = pictures if name in vision else pictures + text
        below = sum(g.get(name, zero) for g in kept) / len(kept)
        clear = (above / below - 1).abs() > 1e-3  # else rounding decides
        assert torch.equal((m & (above > 0))[clear], ((above >= below) & (above > 0))[clear]), name


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("trained", ["visual", "all"])
def test_every_method_trains_what_it_says(loaded, tasks, name, trained):
    method = method_of(name, trained=trained)
    before = copy.deepcopy(loaded.model.state_dict())
    history, _ = unlearn(loaded, tasks, method, epochs=4 / 3, lr=1e-2, batch_size=2)
    assert len(history) == 2
    moved = {n for n, p in loaded.model.state_dict().items() if not torch.equal(p, before[n])}
    assert any("language_model" in n for n in moved) == (trained == "all")
    blocks = loaded.family.blocks(loaded.family.tower(loaded.model))
    assert len(blocks) > len(live_blocks(loaded))  # there is a dead one
    assert not any(f"layers.{len(blocks) - 1}." in n and "vision" in n for n in moved)


@pytest.mark.parametrize("name", TRAINED)
def test_micro_batches_change_no_gradient(loaded, tasks, name):
    method = method_of(name)
    prepared = method.prepare(loaded, tasks, Steps())
    with torch.no_grad():  # away from where KL and NPO start
        for p in method.scope(loaded).values():
            p.mul_(1.01)
    found = []
    for size in (None, 1):
        combine(loaded, method, prepared, method.scope(loaded), tasks.batch(0, 3, 0), size)
        found.append({n: p.grad.clone() for n, p in loaded.model.named_parameters() if p.grad is not None})
        loaded.model.zero_grad()
    assert_close(found[1], found[0], 1e-4)


@pytest.mark.parametrize("name", ["GA_Diff", "KL_Min", "MMUnlearner"])
def test_adapters_alone_move_and_are_kept_in_a_run(loaded, tasks, name, tmp_path):
    vanilla, inputs = copied(loaded), collate(tasks.retain_vqa)["inputs"]
    answers_before, base_hash = loaded.model(**inputs).logits, weights_hash(loaded.model.state_dict())
    method = method_of(name, trained="lora")
    scope = method.scope(loaded)
    assert torch.equal(loaded.model(**inputs).logits, answers_before)  # they start at zero
    for part in ("language_model", "vision_tower", "projector"):
        assert any(part in n for n in scope), part
    before = {n: p.detach().clone() for n, p in loaded.model.named_parameters()}
    unlearn(loaded, tasks, method, epochs=4 / 3, lr=1e-2, batch_size=2)
    delta = changed_weights(loaded, before)
    assert delta and all("lora_" in n for n in delta) and set(delta) <= set(scope)
    save_delta(tmp_path / "delta.safetensors", delta, base_hash)
    apply_delta(vanilla, tmp_path / "delta.safetensors")
    assert torch.equal(vanilla.model(**inputs).logits, loaded.model(**inputs).logits)
    assert not torch.equal(loaded.model(**inputs).logits, answers_before)


def test_pruned_neurons_and_adapters_exclude_each_other():
    with pytest.raises(ValueError, match="set prune=False"):
        make_method("VKD", trained="lora")
    assert make_method("VKD", trained="lora", prune=False)


def test_half_precision_is_refused_for_the_whole_model(loaded):
    loaded.model.get_input_embeddings().bfloat16()
    with pytest.raises(ValueError, match='trained="all" needs the whole model in fp32'):
        make_method("GA").scope(loaded)
    assert make_method("GA", trained="visual").scope(loaded)
    with pytest.raises(ValueError, match="trained is 'language'"):
        make_method("GA", trained="language").scope(loaded)


def test_manu_measures_every_token_of_both_modalities(loaded, tasks):
    outputs = projections(loaded, 1)
    last = mlp_output(language_blocks(loaded)[-1])
    caught = []
    hook = last.register_forward_pre_hook(lambda _, args: caught.append(args[0][0].detach()))
    for p in tasks.forget_qa:
        loaded.model(**collate([p])["inputs"])
    hook.remove()
    z = torch.cat(caught)
    fired = (z.abs() > 0.1).float().mean(0)
    expected = torch.stack([z.abs().mean(0), fired, z.std(0, correction=0), z.square().mean(0).sqrt()])
    got = neuron_statistics(loaded, tasks.forget_qa, outputs, 3)  # padded together
    assert set(got) == {f"language.{len(language_blocks(loaded)) - 1}"}
    assert torch.allclose(next(iter(got.values())).float(), expected, atol=1e-5)
    assert set(neuron_statistics(loaded, tasks.forget_vqa, outputs, 2)) == set(outputs)


def test_manu_counts_a_picture_as_often_as_it_is_asked_about(loaded, tasks):
    """Packed or not: k questions with a picture are k packs of one, answers that share a question, too."""
    first, *others = tasks.forget_vqa
    first = first.select([0, *range(len(first.segments))])  # the same question twice
    packs = [first, others[0].select([1, 2]), others[1].select([3])]
    alone = [p.select([i]) for p in packs for i in range(len(p.segments))]
    outputs = projections(loaded, None)
    packed, single = (neuron_statistics(loaded, p, outputs, 3) for p in (packs, alone))
    unlike = neuron_statistics(loaded, [*packs, others[1]], outputs, 3)
    for name, expected in single.items():
        assert torch.allclose(packed[name], expected, rtol=1e-4, atol=1e-6), name
        assert not torch.allclose(unlike[name], expected, rtol=1e-4, atol=1e-6), name


def test_manus_four_statistics_of_a_layer_by_hand():
    """Two neurons, four tokens."""
    z = torch.tensor([[3.0, 0.05], [-1.0, -0.05], [1.0, 0.05], [1.0, 0.35]])
    sums = moments(z[:3], torch.ones(3)) + moments(z[3:], torch.ones(1))
    mean, frequency, deviation, root = four_statistics(sums).tolist()
    assert mean == pytest.approx([1.5, 0.125])
    assert frequency == [1.0, 0.25]
    assert deviation == pytest.approx(
        [math.sqrt(2), math.sqrt(0.0225)]
    )  # z² is 3 and 0.0325, means 1 and 0.1
    assert root == pytest.approx([math.sqrt(3), math.sqrt(0.0325)])
    counts = torch.tensor([2, 0, 1, 3])
    assert torch.allclose(moments(z, counts), moments(z.repeat_interleave(counts, 0), torch.ones(6)))


def test_manu_scores_and_picks():
    ones = torch.ones(4, 2)
    kept = [{"a": ones, "b": ones}, {"a": ones}]
    scores = modality_scores([{"a": 2 * ones, "b": ones}, {"a": 4 * ones}], kept, [1, 0, 1, 1])
    assert torch.allclose(scores["a"].float(), torch.tensor([9.0, 9.0]), atol=1e-3)
    assert torch.allclose(scores["b"].float(), torch.tensor([3.0, 3.0]), atol=1e-3)
    above = torch.tensor([[1.0], [7.0], [1.0], [1.0]])
    for weights, expected in (([1, 0, 1, 1], 3.0), ([0, 1, 0, 0], 7.0)):
        found = modality_scores([{"a": above}], [{"a": torch.ones(4, 1)}], weights)["a"]
        assert found.item() == pytest.approx(expected, abs=1e-3)
    chosen = top_share({"a": torch.tensor([1.0, 5.0]), "b": torch.tensor([4.0, 0.0])}, 0.5)
    assert {n: c.tolist() for n, c in chosen.items()} == {"a": [False, True], "b": [True, False]}


def test_manu_prunes_and_trains_nothing(loaded, tasks):
    before = copy.deepcopy(loaded.model.state_dict())
    history, report = unlearn(loaded, tasks, MANU(share=0.1), epochs=5, lr=1e-2, batch_size=2)
    assert history == [] and set(report) == {"pruned_vision", "pruned_language"}
    zeroed = 0
    for weight in MANU(share=0.1).scope(loaded).values():
        zeroed += int((weight == 0).all(0).sum())
    outputs = projections(loaded, None).values()
    assert zeroed == round(0.1 * sum(m.in_features for m in outputs))
    moved = {n for n, p in loaded.model.state_dict().items() if not torch.equal(p, before[n])}
    names = {p: n for n, p in loaded.model.named_parameters()}
    assert moved <= {names[m.weight] for m in outputs}
    with pytest.raises(ValueError, match="share is 2"):
        make_method("MANU", share=2)
    with pytest.raises(ValueError, match="there must be four"):
        make_method("MANU", statistic_weights=[1, 1, 1])
    with pytest.raises(ValueError, match="layers is 9; untrained has . live vision blocks"):
        make_method("MANU", layers=9).scope(loaded)


DEFAULTS = {  # of version 0.2.0
    "GA": {"trained": "all"},
    "GA_Diff": {"trained": "all", "weight": 1.0},
    "KL_Min": {"trained": "all", "weight": 1.0},
    "NPO": {"trained": "all", "beta": 0.4, "reference": "never-saw"},
    "PO": {"trained": "all", "beta": 0.1, "refusals": REFUSALS},
    "RMU": {"trained": "all", "scale": 5.0, "gamma": 1200.0, "block": None},
    "VGID": {"trained": "all", "alpha": 1.0, "beta": 1.0, "perturbation": "noise", "sigma": None}
    | {"prompt": "strict", "turn": "user", "positions": "gold", "top_k": None},
    "MANU": {"share": 0.02, "statistic_weights": (2.0, 0.0, 2.0, 2.0), "layers": None},
    "MMUnlearner": {"trained": "all", "alpha": 1.0, "threshold": 1.0},
    "VKD": {"alpha": 1.25, "beta": 0.3, "prune": True, "mask": True, "d_I": 2.0, "d_F": 1.0, "layers": None}
    | {"fisher": "summed", "mask_scope": "forget", "reduction": "mean", "trained": "visual"}
    | {"order": "prune, mask", "target": "projector"}
    | {"prune_by": "forget people", "mask_by": "forget people"}
    | {"keep": "answers", "unlabelled": 0.0, "views": 1},
}


def test_defaults_belong_to_a_version():
    """A run's name tells what was given and the version: other defaults need another version."""
    assert vkdlib.__version__ == "0.2.0"
    assert {name: asdict(method()) for name, method in METHODS.items()} == DEFAULTS
    texts = "\n".join((*REFUSALS, *PROMPTS.values(), REVERSAL))  # what the names of settings stand for
    assert hashlib.sha256(texts.encode()).hexdigest()[:8] == "e84272a4"


@dataclass(frozen=True)
class Biases(Method):
    """L = -strength L_vqa^f, on biases alone."""

    origin = "our reading"
    strength: float = setting(1.0, low=0)

    def scope(self, loaded):
        return {n: p for n, p in visual_parameters(loaded).items() if n.endswith("bias")}

    def forget_terms(self, loaded, part, batch, teacher):
        loss, named = ascend(self, loaded, part, batch, teacher)
        return self.strength * loss, named


def test_a_new_method_is_a_class_and_a_line_in_the_registry(loaded, tasks, monkeypatch):
    monkeypatch.setitem(METHODS, "Biases", Biases)
    method = make_method("Biases", strength=2)
    before = {n: p.clone() for n, p in loaded.model.named_parameters()}
    history, _ = unlearn(loaded, tasks, method, epochs=1, lr=1e-3)
    moved = {n for n, p in loaded.model.named_parameters() if not torch.equal(p, before[n])}
    assert len(history) == 1 and moved and all(n.endswith("bias") for n in moved)
    c = Configuration(method="Biases", settings={"strength": 2}, training={"epochs": 1, "lr": 1e-3})
    plan = plan_run(c)
    value = plan.set_index(["part", "item"]).value
    assert value["training", "trained"] == sum(p.numel() for p in method.scope(loaded).values())
    assert "preparation" not in set(plan.part) and value["memory", "masks"] == 0
    with pytest.raises(ValueError, match="strength is -1; it must be a number 0 or more"):
        make_method("Biases", strength=-1)


@pytest.mark.parametrize("name, method", METHODS.items())
def test_every_method_fulfils_the_contract_by_itself(name, method):
    assert method.__bases__ == (Method,) and method.origin in ORIGINS
    assert method.describe().startswith(("L = ", "Zero the share")) and "\n" not in method.describe()
    signature = inspect.signature(Method.prepare)
    assert list(inspect.signature(method.prepare).parameters) == list(signature.parameters)


WRONG_SETTINGS = [
    ("VKD", {"prune": "False"}, "prune is 'False'; it must be True or False"),
    ("VKD", {"prune": "no"}, "prune is 'no'; it must be True or False"),
    ("VKD", {"mask": 1}, "mask is 1; it must be True or False"),
    ("VKD", {"d_I": math.nan}, "d_I is nan; it must be a number 0 or more"),
    ("VKD", {"d_I": math.inf}, "d_I is inf; it must be a number 0 or more, and finite"),
    ("VKD", {"d_I": -1}, "d_I is -1; it must be a number 0 or more"),
    ("VKD", {"d_F": math.nan}, "d_F is nan; it must be a number 0 or more"),
    ("VKD", {"alpha": math.nan}, "alpha is nan; it must be a number 0 or more"),
    ("VKD", {"alpha": -1}, "alpha is -1; it must be a number 0 or more"),
    ("VKD", {"beta": math.inf}, "beta is inf; it must be a number 0 or more"),
    ("VKD", {"beta": math.nan}, "beta is nan; it must be a number 0 or more"),
    ("VKD", {"beta": "0.3"}, "beta is '0.3'; it must be a number 0 or more$"),
    ("VKD", {"layers": 0}, "layers is 0; it must be a whole number 1 or more"),
    ("VKD", {"layers": 2.5}, "layers is 2.5; it must be a whole number 1 or more"),
    ("VKD", {"fisher": "sumed"}, "fisher is 'sumed'; .*did you mean 'summed'"),
    ("VKD", {"order": "mask prune"}, "order is 'mask prune'; .*did you mean 'mask, prune'"),
    ("VKD", {"target": "projektor"}, "target is 'projektor'; .*did you mean 'projector'"),
    (
        "VKD",
        {"mask_by": "chance"},
        "mask_by is 'chance'; it must be one of forget people, other people, random",
    ),
    ("VKD", {"prune": False, "prune_by": "random"}, "prune_by is 'random', and prune is False: leave one"),
    ("VKD", {"trained": "visuel"}, "trained is 'visuel'; .*did you mean 'visual'"),
    ("GA", {"trained": None}, "trained is None; it must be one of visual, all, lora"),
    ("NPO", {"beta": math.nan}, "beta is nan; it must be a number above 0"),
    ("NPO", {"reference": ""}, "reference is ''; it must be text"),
    ("MANU", {"share": math.nan}, "share is nan; it must be a number 0 or more and 1 or less"),
    (
        "MANU",
        {"statistic_weights": [1, math.nan, 1, 1]},
        r"statistic_weights\[1\] is nan; it must be a number",
    ),
    ("MANU", {"statistic_weights": 2.0}, "statistic_weights is 2.0; it must be a list"),
    ("MMUnlearner", {"threshold": math.nan}, "threshold is nan; it must be a number 0 or more"),
    ("VGID", {"perturbation": "nois"}, "perturbation is 'nois'; it must be one of .*did you mean 'noise'"),
    ("VGID", {"perturbation": None}, "perturbation is None; it must be one of noise, gaussian, white, none"),
    ("VGID", {"prompt": "strickt"}, "prompt is 'strickt'; it must be one of declarative, .*'strict'"),
    ("VGID", {"positions": "golden"}, "positions is 'golden'; it must be one of gold, first, teacher"),
    ("VGID", {"turn": "assistant"}, "turn is 'assistant'; it must be one of user, system"),
    ("VGID", {"perturbation": "gaussian"}, "sigma is None; it must be a number 0 or more"),
    ("VGID", {"perturbation": "gaussian", "sigma": -0.2}, "sigma is -0.2; it must be a number 0 or more"),
    ("VGID", {"perturbation": "gaussian", "sigma": math.nan}, "sigma is nan; it must be a number 0 or more"),
    ("VGID", {"sigma": 0.2}, "sigma is 0.2, and perturbation is 'noise': leave one of them out"),
    ("VGID", {"sigma": 0.2, "perturbation": "none"}, "sigma is 0.2, and perturbation is 'none'"),
    ("VGID", {"prompt": "none", "turn": "system"}, "turn is 'system', and prompt is 'none': leave one"),
    ("VGID", {"prompt": "none", "perturbation": "none"}, "are both 'none': .* nothing would be forgotten"),
    ("VGID", {"top_k": 0}, "top_k is 0; it must be a whole number 1 or more"),
    ("VGID", {"top_k": 2.5}, "top_k is 2.5; it must be a whole number"),
    ("VGID", {"alpha": math.nan}, "alpha is nan; it must be a number 0 or more"),
    ("VGID", {"teacher": "testbed/llava/base"}, "VGID has no 'teacher'"),  # it is vanilla, and nothing else
    ("VGID", {"reference": "never-saw"}, "VGID has no 'reference'"),
    ("PO", {"refusals": []}, "refusals is empty: give at least one refusal to prefer"),
    ("PO", {"refusals": "No."}, "refusals is 'No.'; it must be a list"),
    ("PO", {"refusals": ["No.", " "]}, r"refusals\[1\] is ' '; it must be text"),
    ("PO", {"beta": 0}, "beta is 0; it must be a number above 0"),
    ("RMU", {"scale": 0}, "scale is 0; it must be a number above 0"),
    ("RMU", {"gamma": -1}, "gamma is -1; it must be a number 0 or more"),
    ("RMU", {"block": 0}, "block is 0; it must be a whole number 1 or more"),
    ("VKD", {"betta": 1}, "VKD has no 'betta'; .*did you mean 'beta'"),
    ("vkd", {}, "method is 'vkd'; .*did you mean 'VKD'"),
]


@pytest.mark.parametrize("name, settings, message", WRONG_SETTINGS)
def test_settings_of_another_type_or_out_of_range_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        make_method(name, **settings)


def test_whole_numbers_are_numbers_and_lists_are_tuples():
    assert make_method("VKD", beta=1).beta == 1
    assert make_method("MANU", statistic_weights=[1, 1, 1, 1]).statistic_weights == (1, 1, 1, 1)
