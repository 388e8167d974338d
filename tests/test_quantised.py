"""Half precision and quantisation: the language model only; VKD still trains and text still stays."""

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from test_families import PAIRS

from vkdlib.benchmarks.pictures import to_png
from vkdlib.benchmarks.schema import text_twins
from vkdlib.masking import loss_gradient
from vkdlib.methods import make_method
from vkdlib.models import adapters
from vkdlib.models.loading import load
from vkdlib.models.parts import visual_parameters
from vkdlib.models.passes import visual_features
from vkdlib.packs.batch import collate
from vkdlib.packs.pack import make_pack
from vkdlib.pruning import image_inputs
from vkdlib.tasks import Tasks
from vkdlib.testbed.architectures import random_model
from vkdlib.testbed.build import make_processor
from vkdlib.testbed.recipe import ARCHITECTURES
from vkdlib.unlearning import unlearn

KINDS = {"nf4": Linear4bit, "int8": Linear8bitLt}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request, tmp_path_factory):
    """A model with random weights on disk."""
    folder = tmp_path_factory.mktemp(request.param)
    processor = make_processor(request.param)
    torch.manual_seed(0)
    random_model(request.param).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def make_tasks(loaded) -> Tasks:
    """Two people in noise, one to forget."""
    from PIL import Image

    noise = torch.Generator().manual_seed(0)
    packs = []
    for person in "ab":
        pixels = torch.randint(256, (64, 64, 3), generator=noise, dtype=torch.uint8)
        packs.append(make_pack(loaded.processor, PAIRS, to_png(Image.fromarray(pixels.numpy())), person))
    text = make_pack(loaded.processor, text_twins("Anna Bell", PAIRS))
    return Tasks((packs[0],), (packs[1],), (text,), (text,))


def answers(loaded, packs) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(**collate(packs, loaded.pad, loaded.dtype)["inputs"]).logits


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_language_model_is_quantised_and_vkd_trains(folder, kind):
    loaded = load(folder, quantise=kind, dtype=torch.bfloat16)
    quantised = {m for m in loaded.model.modules() if isinstance(m, KINDS[kind])}
    language = loaded.family.language(loaded.model)
    assert quantised == {m for m in language.modules() if isinstance(m, torch.nn.Linear)}
    assert len(quantised) == 4 * 7 and loaded.model.get_output_embeddings() not in quantised
    tasks = make_tasks(loaded)
    before = [answers(loaded, packs) for packs in (tasks.retain_qa, tasks.forget_vqa)]
    weights = {n: p.clone() for n, p in visual_parameters(loaded).items()}
    method = make_method("VKD", d_I=1.0)
    history, _ = unlearn(loaded, tasks, method, epochs=1, lr=1e-5)
    after = [answers(loaded, packs) for packs in (tasks.retain_qa, tasks.forget_vqa)]
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
    moved = [not torch.equal(p, weights[n]) for n, p in visual_parameters(loaded).items()]
    assert len(history) == 1 and all(moved)  # even by 1e-5


def test_gradients_pass_through_nf4(folder):
    """They are those of a model with the dequantised weights, also after an evaluation."""
    from bitsandbytes.functional import dequantize_4bit

    loaded, plain = load(folder, quantise="nf4"), load(folder)
    tasks = make_tasks(loaded)
    answers(loaded, tasks.retain_qa)
    linears = dict(plain.model.named_modules())
    for name, m in loaded.model.named_modules():
        if isinstance(m, Linear4bit):
            linears[name].weight.data = dequantize_4bit(m.weight.data, m.weight.quant_state).float()
    gradients = [
        loss_gradient(m, tasks.forget_vqa, visual_parameters(m)) for m in (loaded, plain)
    ]  # fmt: skip
    for name, expected in gradients[1].items():
        scale = max(expected.abs().max().item(), 1e-6)
        assert (gradients[0][name] - expected).abs().max() <= 1e-3 * scale, name


def test_half_precision_keeps_fp32_masters(folder):
    """The visual weights are those of the file, to the bit, and a step of 1e-5 moves them."""
    full, half = load(folder), load(folder, dtype=torch.bfloat16)
    for module in (half.family.tower(half.model), half.family.projector(half.model)):
        assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert {p.dtype for p in half.family.language(half.model).parameters()} == {torch.bfloat16}
    assert half.dtype == torch.bfloat16
    whole = dict(full.model.named_parameters())
    kept = [n for n, p in half.model.named_parameters() if p.dtype == torch.float32]
    assert all(torch.equal(dict(half.model.named_parameters())[n], whole[n]) for n in kept)
    packs = make_tasks(half).retain_vqa
    a, b = (visual_features(m, image_inputs(m, packs)) for m in (full, half))
    assert b.dtype == torch.bfloat16 and (a - b).abs().max() < 0.02 * a.abs().max()
    weights = {n: p.clone() for n, p in visual_parameters(half).items()}
    unlearn(half, make_tasks(half), make_method("VKD", prune=False), epochs=1, lr=1e-5)
    assert all(not torch.equal(p, weights[n]) for n, p in visual_parameters(half).items())


def test_a_layer_that_escapes_quantisation_is_noticed(folder, monkeypatch):
    """Skip lists are matched by name; one that matches too much must not pass."""
    from vkdlib.models import weights

    everything = weights.full_precision_names
    monkeypatch.setattr(weights, "full_precision_names", lambda *a: [*everything(*a), ".*q_proj"])
    with pytest.raises(RuntimeError, match="quantisation went wrong at .*q_proj"):
        load(folder, quantise="nf4")
    monkeypatch.setattr(weights, "full_precision_names", lambda *a: everything(*a)[:1])
    with pytest.raises(RuntimeError, match="quantisation went wrong at"):
        load(folder, quantise="nf4")


def test_unknown_quantisation():
    with pytest.raises(ValueError, match="quantise is 'nf5'; it must be one of None, nf4, int8"):
        load("anything", quantise="nf5")


def test_adapters_learn_beside_quantised_weights(folder):
    """What a baseline that trains the whole model is at 7B: the weights below it stay as they are."""
    loaded = load(folder, quantise="nf4", dtype=torch.bfloat16)
    tasks, method = make_tasks(loaded), make_method("GA_Diff", trained="lora")
    with pytest.raises(ValueError, match='use trained="lora"'):
        make_method("GA_Diff").scope(loaded)
    before = answers(loaded, tasks.forget_vqa)
    weights = {n: p.clone() for n, p in loaded.model.named_parameters()}
    scope = method.scope(loaded)
    assert torch.equal(answers(loaded, tasks.forget_vqa), before)
    for module in (loaded.family.language, loaded.family.tower, loaded.family.projector):
        assert set(module(loaded.model).parameters()) & set(scope.values())
    history, _ = unlearn(loaded, tasks, method, epochs=3, lr=1e-3)
    assert len(history) == 3 and not torch.equal(answers(loaded, tasks.forget_vqa), before)
    now = {n.replace(".base_layer", ""): p for n, p in loaded.model.named_parameters()}
    assert all(torch.equal(now[n], p) for n, p in weights.items())
    assert any(p.abs().sum() for n, p in scope.items() if "lora_B" in n)


def test_manu_prunes_half_precision_and_refuses_quantised_weights(folder):
    loaded = load(folder, dtype=torch.bfloat16)
    history, report = unlearn(loaded, make_tasks(loaded), make_method("MANU", share=0.2), epochs=1, lr=1e-3)
    assert history == [] and sum(report.values()) > 0
    with pytest.raises(ValueError, match="MANU sets weights to zero"):
        make_method("MANU").scope(load(folder, quantise="nf4"))


def test_adapters_are_not_merged_into_quantised_weights(folder):
    loaded = load(folder, quantise="nf4")
    make_method("GA", trained="lora").scope(loaded)
    with pytest.raises(ValueError, match="load the model without quantise"):
        adapters.merge_adapters(loaded.family.language(loaded.model))
