"""Every family: packs equal separate sequences, positions are the model's own, parts are found."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import loss_and_gradients
from PIL import Image

from vkdlib.families import FAMILIES
from vkdlib.images import to_png
from vkdlib.loading import load
from vkdlib.methods import make_method
from vkdlib.methods.vkd import teacher_features
from vkdlib.models import Loaded, live_blocks, visual_features, visual_parameters
from vkdlib.packs import collate, make_pack
from vkdlib.pruning import image_inputs, importance
from vkdlib.tasks import Tasks
from vkdlib.testbed import portraits, train
from vkdlib.testbed.architectures import ARCHITECTURES, IMAGE_TOKENS
from vkdlib.testbed.build import make_processor
from vkdlib.unlearn import unlearn

TYPES = {"llava": "llava", "qwen2-vl": "qwen2_vl", "qwen2.5-vl": "qwen2_5_vl"}
PAIRS = [("What is the name of this person?", "Anna Bell"), ("What is the job of this person?", "nurse"),
         ("Who is it?", "a baker who plays the violin")]  # fmt: skip


@pytest.fixture(scope="module", params=TYPES)
def model(request):
    """Random weights."""
    processor = make_processor(request.param)
    torch.manual_seed(0)
    made = ARCHITECTURES[request.param].model(processor.tokenizer).eval()
    return Loaded(made, processor, FAMILIES[TYPES[request.param]], request.param)


@pytest.fixture(scope="module")
def packs(model):
    """Three pictures of different sizes with 3, 2 and 1 questions."""
    noise = torch.Generator().manual_seed(0)
    packs = []
    for n, (width, height) in zip((3, 2, 1), [(64, 64), (96, 48), (32, 112)]):
        pixels = torch.randint(256, (height, width, 3), generator=noise, dtype=torch.uint8)
        packs.append(make_pack(model.processor, PAIRS[:n], to_png(Image.fromarray(pixels.numpy())), str(n)))
    return packs


def test_packed_equals_separate_sequences(model, packs):
    single = [p.select([i]) for p in packs for i in range(len(p.segments))]
    packed, gradients = loss_and_gradients(model.model, packs)
    unpacked, expected = loss_and_gradients(model.model, single)
    assert packed == pytest.approx(unpacked, rel=1e-5)
    assert gradients.keys() == expected.keys()
    for name, g in expected.items():
        assert (gradients[name] - g).abs().max() <= 1e-4 * max(g.abs().max().item(), 1e-3), name


def test_a_single_question_equals_the_stock_path(model, packs):
    """The processor's own inputs and the model's own positions and mask."""
    for pack in packs:
        batch = collate([pack.select([0])])
        inputs = dict(batch["inputs"])
        for ours in ("position_ids", "attention_mask"):
            del inputs[ours]
        with torch.no_grad():
            stock = model.model(**inputs, attention_mask=torch.ones_like(inputs["input_ids"])).logits
            assert torch.allclose(model.model(**batch["inputs"]).logits, stock, atol=1e-5)


def test_pictures_of_different_size_share_a_batch(model, packs):
    together = visual_features(model, image_inputs(model, packs))
    alone = torch.cat([visual_features(model, p.image) for p in packs])
    assert len(together) == sum(p.image_tokens for p in packs)
    assert torch.allclose(together, alone, atol=1e-5)
    last = live_blocks(model)[-1]  # which has more rows than the projector
    by_picture = [list(teacher_features(model, packs, size, last).values()) for size in (3, 1)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*by_picture, strict=True))
    assert all(
        torch.allclose(a, b, atol=1e-5)
        for a, b in zip(importance(model, packs).values(), importance(model, packs, batch_size=1).values())
    )


def test_scope_is_vision_mlps_and_projector(model):
    everything = dict(model.model.named_parameters())
    names = {id(p): n for n, p in everything.items()}
    found = {names[id(p)] for p in visual_parameters(model, 4).values()}
    mlps = {n for n in everything if ".mlp." in n and "language_model" not in n}
    tower_mlps = {n for n in mlps if "layers." in n or "blocks." in n}
    dead = {n for n in tower_mlps if "layers.4." in n}
    projector = {n for n in everything if "projector" in n or "merger" in n}
    assert found == tower_mlps - dead | projector


def test_vkd_unlearns_and_text_stays_bit_identical(model, packs):
    loaded = replace(model, model=copy.deepcopy(model.model))
    text = make_pack(loaded.processor, [("What is the job of Anna Bell?", "nurse")], key="3")
    tasks = Tasks(tuple(packs[:1]), tuple(packs[1:]), (text,), (text,))
    asked = [collate([text])["inputs"], collate(packs)["inputs"]]
    with torch.no_grad():
        before = [loaded.model(**inputs).logits for inputs in asked]
    history, report = unlearn(loaded, tasks, make_method("VKD", d_I=1.0), epochs=3, lr=1e-3)
    with torch.no_grad():
        after = [loaded.model(**inputs).logits for inputs in asked]
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
    assert 0 < report["pruned"] < 1 and 0 < report["mask_density"] < 1
    assert history[0]["vkd"] > 0 and history[-1]["forget_vqa"] > history[0]["forget_vqa"]


def test_saved_and_loaded(model, packs, tmp_path):
    model.model.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    again = load(str(tmp_path))
    assert again.family is model.family
    red = to_png(Image.new("RGB", (64, 64), "red"))
    a, b = (make_pack(m.processor, PAIRS, red) for m in (again, model))
    assert (a.prefix, a.segments, a.image_tokens) == (b.prefix, b.segments, 16)
    assert a.image.keys() == b.image.keys()
    assert all(torch.equal(a.image[name], b.image[name]) for name in a.image)


def test_testbed_portraits_are_sixteen_tokens(model):
    identity = portraits.draw_identities(1, "test")[0]
    views = train.pictures(model.processor, [portraits.render(identity, v) for v in ("canonical", "a")])
    with torch.no_grad():
        tokens = train.image_tokens(model.model, views)
    assert tokens.shape == (2, IMAGE_TOKENS, train.model_width(model.model))
    assert not torch.allclose(tokens[0], tokens[1])
