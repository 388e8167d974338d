"""VGID, PO and RMU against a second implementation: by question, without packs, by the stock path."""

import copy
import math
import random
from dataclasses import replace

import pytest
import torch
from conftest import random_llava
from PIL import Image

from vkdlib.benchmarks.pictures import open_image, to_png
from vkdlib.benchmarks.views import perturb as perturbing
from vkdlib.benchmarks.views.perturb import perturb
from vkdlib.benchmarks.wording import PROMPTS, REFUSALS
from vkdlib.evaluation.evaluate import generate
from vkdlib.methods import make_method
from vkdlib.methods.rmu import random_direction, rmu_loss, states_loss, steering_target
from vkdlib.methods.vgid import VGID
from vkdlib.models.families import FAMILIES
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import activation_checkpoints
from vkdlib.packs.pack import make_pack
from vkdlib.tasks import Steps, Tasks
from vkdlib.testbed.architectures import random_model
from vkdlib.testbed.build import make_processor
from vkdlib.unlearning import combine, unlearn

PAIRS = [("What is the name of this person?", "Anna Bell"), ("What is the job of this person?", "nurse"),
         ("Who is it?", "a baker who plays the violin")]  # fmt: skip
SIZES = {"1": (64, 64), "2/0": (96, 48), "3": (32, 112), "4/1": (64, 64)}  # key: width and height
SEED = 3


def picture(key: str) -> bytes:
    """Of colours by chance, another for each key."""
    width, height = SIZES[key]
    seeded = torch.Generator().manual_seed(int(key[0]))
    colours = torch.randint(256, (height, width, 3), generator=seeded, dtype=torch.uint8)
    return to_png(Image.fromarray(colours.numpy()))


@pytest.fixture(scope="module", params=["llava", "qwen2-vl", "qwen2.5-vl"])
def family_model(request):
    """Random weights, larger than usual: else all distributions are nearly the same."""
    torch.manual_seed(0)
    model = random_model(request.param).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    family = FAMILIES[model.config.model_type]
    return Loaded(model, make_processor(request.param), family, request.param)


@pytest.fixture(scope="module")
def llava():
    return random_llava()


def make_tasks(loaded) -> Tasks:
    """Two pictures to forget and two to retain, with 3 and 2 questions."""
    packs = []
    for key in SIZES:
        person, _, number = key.partition("/")
        number = int(number) if number else None
        pairs = PAIRS[: 2 + len(packs) % 2]
        packs.append(make_pack(loaded.processor, pairs, picture(key), person, number))
    return Tasks(tuple(packs[:2]), tuple(packs[2:]), (), ())


def twin(loaded) -> Loaded:
    return replace(loaded, model=copy.deepcopy(loaded.model))


def separate(loaded, question, answer, file, system=""):
    """Inputs of one question with its answer as the processor makes them, and where the answer begins."""
    processor = loaded.processor
    user = [{"type": "image"}, {"type": "text", "text": question}]
    turns = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    turns.append({"role": "user", "content": user})
    before = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    blank = "" if before.endswith("\n") else " "
    whole = f"{before}{blank}{answer}{processor.tokenizer.eos_token}"
    asked, inputs = (
        processor(text=[text], images=[open_image(file)], return_tensors="pt") for text in (before, whole)
    )
    if loaded.family.token_types:
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == processor.image_token_id).long()
    return dict(inputs), asked["input_ids"].shape[1]


def log_probabilities(loaded, question, answer, file, system=""):
    """Of every word at each token of an answer: (tokens, V); and the tokens."""
    inputs, start = separate(loaded, question, answer, file, system)
    logits = loaded.model(**inputs).logits[0, start - 1 : -1]
    return logits.double().log_softmax(-1), inputs["input_ids"][0, start:]


def forward_kl(teacher, student, top_k=None):
    """Of each token: (tokens,)."""
    p, q = teacher.exp(), student.exp()
    if top_k:
        best = p.topk(top_k, -1).indices
        p, q = (torch.cat([d.gather(-1, best), 1 - d.gather(-1, best).sum(-1, keepdim=True)], -1)
                for d in (p, q))  # fmt: skip
    return (p * (p / q).log()).sum(-1)


def second_vgid(student, vanilla, batch, settings, round=1):
    """Eq. 2 to 5, question by question: L_forget and L_retain.

    Args:
        round: how often the pictures were shown before.
    """
    s = vars(VGID(**settings))
    told = PROMPTS.get(s["prompt"], "")
    system, line = (told, "") if s["turn"] == "system" else ("", told)
    forget, retain = [], []
    for pack in batch.forget_vqa:
        file = pack.file
        if s["perturbation"] != "none":
            constant = s["perturbation"] == "white"
            name = f"{SEED} {pack.key}" + ("" if constant else f" in round {round}")
            file = perturb(pack.file, s["perturbation"], name, s["sigma"])
        for question, answer in pack.pairs:
            asked = f"{line}\n{question}" if line else question
            if s["positions"] == "teacher":
                name = f"{SEED} {pack.key} in round 0"
                first = perturb(pack.file, "noise", name)
                answer = generate(vanilla, [asked], [first], system=system)[0]
            with torch.no_grad():
                teacher, tokens = log_probabilities(vanilla, asked, answer, file, system)
            model, same = log_probabilities(student, question, answer, pack.file)
            assert tokens.tolist() == same.tolist()
            kl = forward_kl(teacher, model, s["top_k"])
            forget.append(kl[:1] if s["positions"] == "first" else kl)
    for pack in batch.retain_vqa:
        for question, answer in pack.pairs:
            with torch.no_grad():
                teacher, _ = log_probabilities(vanilla, question, answer, pack.file)
            model, _ = log_probabilities(student, question, answer, pack.file)
            retain.append(forward_kl(teacher, model, s["top_k"]))
    return torch.cat(forget).mean(), torch.cat(retain).mean()


def moved(loaded) -> Loaded:
    """The model some way from where it started, so that no term is at its minimum."""
    other = twin(loaded)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in other.model.parameters():
            p.mul_(1 + 0.02 * torch.randn(p.shape, generator=generator))
    return other


def compare_gradients(vanilla, student, method, tasks, batch, second):
    """The combined gradient of one step, and that of a second implementation's loss."""
    parameters = method.scope(student)
    prepared = method.prepare(vanilla, tasks, Steps(2, seed=SEED, forget_packs=batch.forget_vqa))
    losses = combine(student, method, prepared, parameters, batch, micro_batch=1)
    found = {n: p.grad.clone() for n, p in student.model.named_parameters() if p.grad is not None}
    student.model.zero_grad()
    second().backward()
    expected = {n: p.grad.clone() for n, p in student.model.named_parameters() if p.grad is not None}
    student.model.zero_grad()
    assert found.keys() == expected.keys()
    largest = max(g.abs().max().item() for g in expected.values())
    for name, g in expected.items():
        assert (found[name] - g).abs().max().item() <= 1e-4 * largest, name
    return losses


SETTINGS = [
    {},
    {"alpha": 0.5, "beta": 2.0, "prompt": "polite"},
    {"perturbation": "none"},  # ICU-T
    {"prompt": "none"},  # Noise-T
    {"perturbation": "white", "prompt": "declarative"},
    {"perturbation": "gaussian", "sigma": 0.4},
    {"positions": "first"},
    {"positions": "teacher"},
    {"top_k": 5},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_loss_and_gradient_are_those_of_a_second_implementation(family_model, settings):
    """Away from vanilla, in a later round."""
    tasks, student = make_tasks(family_model), moved(family_model)
    check_vgid(family_model, student, tasks, settings)


def test_an_instruction_in_a_system_turn(family_model):
    tasks, settings = make_tasks(family_model), {"turn": "system"}
    if family_model.name == "llava":
        before = copy.deepcopy(family_model.model.state_dict())
        with pytest.raises(ValueError, match="chat template has no system turn"):
            unlearn(family_model, tasks, make_method("VGID", **settings), epochs=1, lr=1.0)
        after = family_model.model.state_dict()
        assert all(torch.equal(after[name], w) for name, w in before.items())
    else:
        check_vgid(family_model, moved(family_model), tasks, settings)


def check_vgid(vanilla, student, tasks, settings):
    method, batch = make_method("VGID", **settings), tasks.batch(1, 2, SEED)
    forget, retain = second_vgid(student, vanilla, batch, settings)
    losses = compare_gradients(
        vanilla, student, method, tasks, batch, lambda: method.alpha * forget + method.beta * retain
    )
    assert losses["forget_kl"] == pytest.approx(forget.item(), rel=1e-3)
    assert losses["retain_kl"] == pytest.approx(retain.item(), rel=1e-3)
    assert forget.item() > 1e-3 and retain.item() > 1e-3


def test_whole_steps_are_those_of_a_second_implementation(family_model):
    """Three steps of AdamW: the noise is another in each, the teacher stays vanilla."""
    tasks, ours, theirs = make_tasks(family_model), twin(family_model), twin(family_model)
    method = make_method("VGID", trained="all")
    history, _ = unlearn(ours, tasks, method, epochs=3, lr=1e-4, batch_size=2, weight_decay=0.1, seed=SEED)
    parameters = list(method.scope(theirs).values())
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.1)
    for step in range(3):
        forget, retain = second_vgid(theirs, family_model, tasks.batch(step, 2, SEED), {}, step)
        assert history[step]["forget_kl"] == pytest.approx(forget.item(), rel=5e-3)
        assert history[step]["retain_kl"] == pytest.approx(retain.item(), rel=5e-3, abs=1e-6)
        optimiser.zero_grad()
        (forget + retain).backward()
        optimiser.step()
    assert history[2]["retain_kl"] > 1e-5 and len({row["forget_kl"] for row in history}) == 3
    before = dict(family_model.model.named_parameters())
    pairs = [(p, q, before[n]) for (n, p), q in zip(ours.model.named_parameters(), theirs.model.parameters())]
    gap, way = (sum((a - b).square().sum().item() for a, b in ab) for ab in (
        [(p, q) for p, q, _ in pairs], [(q, v) for _, q, v in pairs]))  # fmt: skip
    assert 0 < way and gap < 1e-2 * way


def test_the_teacher_is_vanilla_whatever_becomes_of_the_model(llava):
    """What is kept of it makes vanilla's own distributions after steps that changed every weight."""
    tasks, loaded = make_tasks(llava), twin(llava)
    method = make_method("VGID")
    prepared = method.prepare(loaded, tasks, Steps(2))
    unlearn(loaded, tasks, make_method("GA"), epochs=3, lr=1e-2, batch_size=2)
    for pack in tasks.retain_vqa:
        with torch.no_grad():
            kept = prepared.teacher["head"](prepared.teacher["retain"][pack.key]).log_softmax(-1)
            answers = [log_probabilities(llava, q, a, pack.file)[0] for q, a in pack.pairs]
        assert torch.allclose(kept.double(), torch.cat(answers), atol=1e-4)


@pytest.mark.parametrize("name", ["VGID", "PO", "RMU", "NPO"])
def test_another_teacher_is_whom_a_method_agrees_with(llava, name):
    """As in a series of requests, where the student has forgotten others already."""
    tasks, student = make_tasks(llava), moved(llava)
    method = make_method(name, **({"reference": "vanilla"} if name == "NPO" else {}))
    expected, own, given = (
        method.prepare(loaded, tasks, Steps(2, seed=SEED, teacher=teacher))
        for loaded, teacher in ((llava, None), (student, None), (student, llava))
    )
    batch = tasks.batch(0, 2, SEED)
    losses = [
        sum(of(student, batch, batch, p.teacher)[0].item() for of in (method.forget_terms, method.keep_terms))
        for p in (expected, own, given)
    ]
    assert losses[2] == pytest.approx(losses[0], rel=1e-5) != losses[1]


@pytest.mark.parametrize("trained", ["all", "lora", "visual"])
def test_the_output_layer_alone_is_copied_and_only_where_it_is_trained(llava, trained):
    tasks, loaded = make_tasks(llava), twin(llava)
    prepared = make_method("VGID", trained=trained).prepare(loaded, tasks, Steps(2))
    own = prepared.teacher["head"] is loaded.model.get_output_embeddings()
    assert own == (trained != "all")
    numbers = sum(t.numel() for part in ("forget", "retain") for t in prepared.teacher[part].values())
    tokens = sum(len(s.ids) - s.answer for packs in (tasks.forget_vqa, tasks.retain_vqa)
                 for p in packs for s in p.segments)  # fmt: skip
    assert numbers == tokens * 128


@pytest.mark.parametrize(
    "settings, constant",
    [
        ({}, False),
        ({"perturbation": "gaussian", "sigma": 0.2}, False),
        ({"perturbation": "gaussian", "sigma": 0}, True),
        ({"perturbation": "white"}, True),
        ({"perturbation": "none"}, True),
    ],
    ids=str,
)
def test_a_teacher_that_says_the_same_is_asked_once(llava, settings, constant):
    tasks, rounds = make_tasks(llava), 3
    shown = [p for step in range(rounds) for p in tasks.batch(step, 2, 0).forget_vqa]
    steps = Steps(2, forget_packs=shown)
    found = make_method("VGID", **settings).prepare(llava, tasks, steps).teacher["forget"]
    assert len(found) == (1 if constant else rounds) * 2
    if not constant:
        states = [found[f"1 in round {number}"] for number in range(rounds)]
        assert not torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])


def test_probabilities_of_true_answers_are_those_of_a_second_implementation(llava):
    """Of the longest answer about each picture, at its first token and behind it."""
    tasks, method, found = make_tasks(llava), make_method("VGID", positions="first"), {}
    for name in ("vanilla", "teacher"):
        first, later = [], []
        for pack in tasks.forget_vqa:
            question, answer = max(pack.pairs, key=lambda pair: len(pair[1]))
            file = pack.file
            if name == "teacher":
                question = f"{PROMPTS['strict']}\n{question}"
                file = perturb(pack.file, "noise", f"{SEED} {pack.key} in round 0")
            with torch.no_grad():
                log_p, tokens = log_probabilities(llava, question, answer, file)
            p = log_p.gather(1, tokens[:, None])[:, 0].exp()
            first.append(p[:1])
            later.append(p[1:])
        found[name] = {"first token": torch.cat(first).mean(), "later tokens": torch.cat(later).mean()}
    ours = method.gold_probabilities(llava, tasks.forget_vqa, SEED)
    for name, parts in found.items():
        assert ours[name] == pytest.approx({part: p.item() for part, p in parts.items()}, rel=1e-3)


def test_another_seed_draws_other_noise(llava):
    tasks = make_tasks(llava)
    states = [
        make_method("VGID").prepare(llava, tasks, Steps(2, seed=seed)).teacher["forget"]["1 in round 0"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


@pytest.mark.parametrize("name", ["VGID", "PO", "RMU"])
def test_interrupted_unlearning_resumes_bit_identically(llava, name, tmp_path, monkeypatch):
    """With noise drawn in each step, refusals, a direction."""
    tasks, how = make_tasks(llava), {"epochs": 3, "lr": 1e-3, "batch_size": 1, "seed": SEED}
    whole, cut = twin(llava), twin(llava)
    method = make_method(name)
    history, _ = unlearn(whole, tasks, method, **how)
    calls, original = [], type(method).forget_terms

    def failing(self, *args):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(type(method), "forget_terms", failing)
    how |= {"folder": tmp_path, "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        unlearn(cut, tasks, method, **how)
    cut = twin(llava)
    again, _ = unlearn(cut, tasks, method, **how)
    assert len(calls) == 7 and again == history  # four steps, the interruption, two more
    state = cut.model.state_dict()
    assert all(torch.equal(p, state[n]) for n, p in whole.model.state_dict().items())


def test_what_the_teacher_writes_does_not_depend_on_checkpointing(family_model):
    """Layers that compute activations twice would write without a memory."""
    tasks, method = make_tasks(family_model), make_method("VGID", positions="teacher")
    plain = method.prepare(family_model, tasks, Steps(2)).teacher["packs"]
    with activation_checkpoints(family_model):
        again = method.prepare(family_model, tasks, Steps(2)).teacher["packs"]
    assert {key: p.pairs for key, p in plain.items()} == {key: p.pairs for key, p in again.items()}
    assert any(p.pairs != q.pairs for p, q in zip(plain.values(), tasks.forget_vqa))


def test_a_teacher_that_says_nothing_is_refused(llava, monkeypatch):
    monkeypatch.setattr("vkdlib.evaluation.evaluate.generate", lambda loaded, questions, *_, **__: [""] * 9)
    with pytest.raises(ValueError, match="the teacher says nothing to 'What is the name .* choose gold"):
        make_method("VGID", positions="teacher").prepare(llava, make_tasks(llava), Steps(2))


def refused(loaded, method, message, tasks=None):
    """Nothing is trained: the weights are as before, to the bit."""
    before = copy.deepcopy(loaded.model.state_dict())
    with pytest.raises(ValueError, match=message):
        unlearn(loaded, tasks or make_tasks(loaded), method, epochs=1, lr=1.0)
    assert all(torch.equal(w, before[name]) for name, w in loaded.model.state_dict().items())


def test_what_does_not_fit_the_model_is_refused_before_anything_is_trained(llava, monkeypatch):
    size = len(llava.model.get_output_embeddings().weight)
    refused(llava, make_method("VGID", top_k=size + 1), f"top_k is {size + 1}; the vocabulary .* has {size}")
    refused(llava, make_method("RMU", block=5), "block is 5; untrained has 4 language blocks")
    control = make_method("PO", refusals=["No </s> way."])
    refused(llava, control, "the answer 'No </s> way.' of person '1' holds </s>, a control token")
    tasks = make_tasks(llava)
    monkeypatch.setattr(llava.processor.tokenizer, "model_max_length", 90)
    told = "a question of person '2', picture 0 with the instruction 'You are .* needs 95 tokens, .* takes 90"
    refused(llava, make_method("VGID"), told, tasks)
    monkeypatch.undo()
    monkeypatch.setattr(perturbing, "open_image", lambda _: Image.new("RGB", (0, 4)))
    perturb.cache_clear()
    refused(llava, make_method("VGID"), r"picture of person '2', picture 0 has no size \(0 x 4", tasks)


def second_po(student, vanilla, batch, method):
    """Eq. 9, question by question."""
    losses = []
    for pack in batch.forget_vqa:
        rng = random.Random(f"{SEED} {pack.key} refusals")
        for question, answer in pack.pairs:
            gains = []
            for said in (rng.choice(REFUSALS), answer):
                (now, tokens), (then, _) = (
                    log_probabilities(m, question, said, pack.file) for m in (student, vanilla)
                )
                gains.append((now - then.detach()).gather(1, tokens[:, None]).sum())
            losses.append(torch.log1p((-method.beta * (gains[0] - gains[1])).exp()))
    return torch.stack(losses).mean()


def test_po_is_that_of_a_second_implementation(family_model):
    tasks, student, method = make_tasks(family_model), moved(family_model), make_method("PO", beta=0.3)
    batch = tasks.batch(1, 2, SEED)
    second = second_po(student, family_model, batch, method)
    losses = compare_gradients(family_model, student, method, tasks, batch, lambda: second)
    assert losses["po"] == pytest.approx(second.item(), rel=1e-3) and losses["po"] != math.log(2)


def test_each_question_gets_a_refusal_of_the_list_for_the_whole_run(llava):
    tasks, method = make_tasks(llava), make_method("PO", refusals=["No.", "Never."])
    drawn = [method.preference_pack(llava, tasks.forget_vqa[1], seed).pairs for seed in range(20)]
    assert drawn[0] == method.preference_pack(llava, tasks.forget_vqa[1], 0).pairs
    for pairs in drawn:
        assert [pair for pair in pairs[1::2]] == list(tasks.forget_vqa[1].pairs)
        assert [question for question, _ in pairs[::2]] == [question for question, _ in pairs[1::2]]
    refusals = [tuple(answer for _, answer in pairs[::2]) for pairs in drawn]
    assert set(sum(refusals, ())) == {"No.", "Never."} and len(set(refusals)) > 2


def second_rmu(student, vanilla, batch, method, block):
    """Eq. 12 to 15, question by question; hidden states as transformers returns them."""
    width = student.model.config.get_text_config().hidden_size
    u = random_direction(width, SEED).double()
    sums, counts = {"forget": 0.0, "retain": 0.0}, {"forget": 0, "retain": 0}
    for name, packs in (("forget", batch.forget_vqa), ("retain", batch.retain_vqa)):
        for pack in packs:
            for question, answer in pack.pairs:
                inputs, _ = separate(student, question, answer, pack.file)
                h, reference = (
                    m.model(**inputs, output_hidden_states=True).hidden_states[block][0].double()
                    for m in (student, vanilla)
                )
                reference = reference.detach()
                target = method.scale * reference.norm(dim=1)[:, None] * u if name == "forget" else reference
                sums[name] = sums[name] + (h - target).square().sum()
                counts[name] += len(h)
    return sums["forget"] / counts["forget"], sums["retain"] / counts["retain"]


@pytest.mark.parametrize("block", [None, 2])
def test_rmu_is_that_of_a_second_implementation(family_model, block):
    tasks, student = make_tasks(family_model), moved(family_model)
    method, batch = make_method("RMU", block=block, gamma=7.0, scale=2.0), tasks.batch(1, 2, SEED)
    forget, retain = second_rmu(student, family_model, batch, method, block or 1)
    losses = compare_gradients(family_model, student, method, tasks, batch, lambda: forget + 7 * retain)
    assert losses["forget_states"] == pytest.approx(forget.item(), rel=1e-3)
    assert losses["retain_states"] == pytest.approx(retain.item(), rel=1e-3) and retain.item() > 0


def test_rmus_direction_is_uniform_on_the_sphere():
    """Of length 1; the mean of a coordinate is 0 and of its square 1/d; all quadrants come equally often."""
    drawn = torch.stack([random_direction(3, seed) for seed in range(4000)])
    assert torch.allclose(drawn.norm(dim=1), torch.ones(4000), atol=1e-6)
    assert drawn.mean(0).abs().max() < 0.05 and (drawn.square().mean(0) - 1 / 3).abs().max() < 0.03
    quadrants = (drawn > 0).long() @ torch.tensor([4, 2, 1])
    assert torch.bincount(quadrants, minlength=8).min() > 400
    heights = drawn[:, 0].sort().values  # Archimedes: a coordinate is uniform from -1 to 1
    assert (heights - torch.linspace(-1, 1, 4000)).abs().max() < 0.06
    assert torch.equal(random_direction(3, 5), random_direction(3, 5))


def test_rmus_equations_by_hand():
    target = steering_target(torch.tensor([2.0, 0.0]), torch.tensor([0.6, -0.8]), 5.0)
    assert torch.allclose(target, torch.tensor([[6.0, -8.0], [0.0, 0.0]]))
    states = torch.tensor([[6.0, -7.0], [3.0, 4.0]])  # squared distances 1 and 25
    assert states_loss(states, target, torch.tensor([3, 1])).item() == pytest.approx((3 * 1 + 25) / 4)
    assert rmu_loss(2.0, 3.0, 10.0) == 32
    with pytest.raises(ValueError, match=r"states \(2, 2\) and target \(1, 2\)"):
        states_loss(states, target[:1], torch.ones(2))
