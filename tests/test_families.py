"""Every family: packs equal separate sequences, positions are the model's own, parts are found."""

import copy
import doctest
from dataclasses import replace
from unittest import mock

import pytest
import torch
from conftest import loss_and_gradients
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

from vkdlib.benchmarks.made_up import portraits
from vkdlib.benchmarks.pictures import to_png
from vkdlib.evaluation.evaluate import generate
from vkdlib.methods import make_method
from vkdlib.methods.vkd import teacher_features
from vkdlib.models import adapters, families
from vkdlib.models.families import FAMILIES
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import load
from vkdlib.models.parts import linear_layers, live_blocks, mlp_output, visual_parameters
from vkdlib.models.passes import rows_by_image, visual_features
from vkdlib.packs.batch import collate
from vkdlib.packs.pack import Segment, make_pack
from vkdlib.pruning import image_inputs, importance
from vkdlib.tasks import Tasks
from vkdlib.testbed import train
from vkdlib.testbed.architectures import random_model
from vkdlib.testbed.build import make_processor
from vkdlib.unlearning import unlearn

# model type: the embedded model whose processor and sizes a small one gets, and what is different in it
TYPES = {
    "llava": ("llava", {}),
    "qwen2_vl": ("qwen2-vl", {}),
    "qwen2_5_vl": ("qwen2.5-vl", {}),
    "vipllava": ("llava", {"vision_feature_layer": [-2, -4, 1]}),
}
PAIRS = [("What is the name of this person?", "Anna Bell"), ("What is the job of this person?", "nurse"),
         ("Who is it?", "a baker who plays the violin")]  # fmt: skip
SIZES = {3: (64, 64), 2: (96, 48), 1: (32, 112)}  # questions about a picture: its width and height
SHARPER = 4


def noise(size: tuple[int, int]) -> bytes:
    """A picture in which every pixel has a colour of its own."""
    width, height = size
    seeded = torch.Generator().manual_seed(width)
    pixels = torch.randint(256, (height, width, 3), generator=seeded, dtype=torch.uint8)
    return to_png(Image.fromarray(pixels.numpy()))


@pytest.fixture(scope="module", autouse=True)
def records():
    """Families that are not in FAMILIES: the example in the docstring."""
    with mock.patch.dict(FAMILIES):
        for example in doctest.DocTestParser().get_examples(families.__doc__):
            exec(example.source, vars(families))
        yield


@pytest.fixture(scope="module", params=TYPES)
def model(request, records):
    """Random weights."""
    like, different = TYPES[request.param]
    processor = make_processor(like)
    config = random_model(like).config.to_dict() | different
    config = AutoConfig.for_model(**config | {"model_type": request.param})
    torch.manual_seed(0)
    made = AutoModelForImageTextToText.from_config(config).eval()
    return Loaded(made, processor, families.family_of(config), request.param)


@pytest.fixture(scope="module")
def packs(model):
    """Three pictures of different sizes with 3, 2 and 1 questions."""
    return [make_pack(model.processor, PAIRS[:n], noise(size), str(n)) for n, size in SIZES.items()]


@pytest.mark.parametrize("with_image", [True, False])
def test_packed_equals_separate_sequences(model, packs, with_image):
    if not with_image:
        packs = [make_pack(model.processor, PAIRS[:n], person=str(n)) for n in (3, 2, 1)]
    single = [p.select([i]) for p in packs for i in range(len(p.segments))]
    packed, gradients = loss_and_gradients(model.model, packs)
    unpacked, expected = loss_and_gradients(model.model, single)
    assert packed == pytest.approx(unpacked, rel=1e-5)
    assert gradients.keys() == expected.keys()
    for name, g in expected.items():
        assert (gradients[name] - g).abs().max() <= 1e-4 * max(g.abs().max().item(), 1e-3), name


def test_a_single_question_equals_the_stock_path(model, packs):
    """The processor's own image inputs and the model's own positions and mask."""
    text = make_pack(model.processor, PAIRS[:1])
    for pack in [*packs, text]:
        batch = collate([pack.select([0])])
        inputs = dict(batch["inputs"])
        for ours in ("position_ids", "attention_mask"):
            del inputs[ours]
        if model.family.token_types:
            of_image = (inputs["input_ids"] == model.processor.image_token_id).long()
            assert not pack.image or torch.equal(inputs["mm_token_type_ids"], of_image)
            inputs["mm_token_type_ids"] = of_image
        with torch.no_grad():
            stock = model.model(**inputs, attention_mask=torch.ones_like(inputs["input_ids"])).logits
            assert torch.allclose(model.model(**batch["inputs"]).logits, stock, atol=1e-5)


@pytest.mark.parametrize("first", ["text", "image"])
def test_text_and_pictures_cannot_share_a_batch(model, packs, first):
    mixed = [packs[0], make_pack(model.processor, PAIRS)]
    with pytest.raises(ValueError, match="packs with and without an image cannot share a batch"):
        collate(mixed if first == "image" else mixed[::-1])


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


def test_neurons_are_what_goes_into_the_last_linear_layer_to_run(model, packs):
    """Found by type, it is in the MLP that the record names, and stays what it is when it has an adapter."""
    for block in live_blocks(model):
        ran, linear = [], [m for m in block.modules() if isinstance(m, torch.nn.Linear)]
        hooks = [m.register_forward_hook(lambda m, *_, ran=ran: ran.append(m)) for m in linear]
        visual_features(model, image_inputs(model, packs))
        for hook in hooks:
            hook.remove()
        assert mlp_output(block) is ran[-1]
        assert set(linear_layers(block)) == set(linear) == set(ran)
        assert mlp_output(block) in set(model.family.mlp(block).modules())
    block = copy.deepcopy(live_blocks(model)[-1])
    before = list(linear_layers(block))
    adapters.attach_adapters([block])
    assert adapters.adapter_weights(block) and list(linear_layers(block)) == before


def test_rows_of_the_tower_become_tokens(model, packs):
    """What the record says of sizes, against what comes out."""
    block = live_blocks(model)[-1]
    for pack in packs:
        inputs = image_inputs(model, [pack])
        rows = len(visual_features(model, inputs, block))
        tokens = len(visual_features(model, inputs))
        assert rows - tokens * model.family.patches_per_token(model.model.config) in (
            0,
            1,
        )  # CLIP's class token
        width, height = SIZES[int(pack.key)]
        assert tokens == pack.image_tokens == model.family.tokens(model.model.config, width, height)


def test_rows_are_those_of_the_images(model, packs):
    """Together as alone; Qwen has one row a patch."""
    block = live_blocks(model)[-1]
    alone = [len(visual_features(model, image_inputs(model, [pack]), block)) for pack in packs]
    assert rows_by_image(packs, sum(alone)) == alone
    if "image_grid_thw" in packs[0].image:
        assert alone == [int(pack.image["image_grid_thw"].prod()) for pack in packs]


def sharpened(model: Loaded) -> Loaded:
    """With larger weights: random ones of the usual size write the same words whatever they see."""
    large = copy.deepcopy(model.model)
    with torch.no_grad():
        for p in large.parameters():
            p.mul_(SHARPER)
    return replace(model, model=large)


def test_generation_does_not_depend_on_the_batch(model):
    """Prompts of different length, pictures of different size: padded on the left, the same as one by one;
    and in text after pictures, whose positions a model might remember."""
    loaded = sharpened(model)
    questions = ["Who?", "What is the name of this person, and what is the job?", "Who is it?"]
    images = [noise(size) for size in SIZES.values()]
    together = generate(loaded, questions, images, 12)
    text = generate(loaded, questions, None, 12)
    assert together == [generate(loaded, [q], [i], 12)[0] for q, i in zip(questions, images)]
    assert text == [generate(loaded, [q], None, 12)[0] for q in questions]
    assert text == generate(replace(loaded, model=copy.deepcopy(loaded.model)), questions, None, 12)
    assert together != text and together != generate(loaded, questions, images[::-1], 12)


class Untold:
    """A processor that does not say which tokens are an image's."""

    def __init__(self, processor):
        self.processor = processor

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, **options):
        inputs = self.processor(**options)
        inputs.pop("mm_token_type_ids", None)
        return inputs


def test_generation_needs_no_type_ids_of_the_processor(model):
    loaded = sharpened(model)
    questions, images = ["Who?", "Who is it?"], [noise((64, 64)), noise((96, 48))]
    untold = replace(loaded, processor=Untold(loaded.processor))
    assert generate(loaded, questions, images, 12) == generate(untold, questions, images, 12)


def test_generation_is_greedy_decoding_by_packs(model):
    """The most likely token one after the other, with our positions and mask instead of the model's own."""
    loaded, tokenizer = sharpened(model), model.processor.tokenizer
    question, image = PAIRS[0][0], noise((96, 48))
    for shown in (image, None):
        ids = []
        for _ in range(6):
            pack = make_pack(loaded.processor, [(question, "x")], shown)
            (segment,) = pack.segments
            asked = (*segment.ids[: segment.answer], *ids)
            pack = replace(pack, segments=(Segment((*asked, 0), len(asked)),))
            with torch.no_grad():
                ids.append(loaded.model(**collate([pack])["inputs"]).logits[0, -1].argmax().item())
            if ids[-1] == tokenizer.eos_token_id:
                break
        expected = tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert generate(loaded, [question], shown and [shown], 6) == [expected]


def test_vkd_unlearns_and_text_stays_bit_identical(model, packs):
    loaded = replace(model, model=copy.deepcopy(model.model))
    text = make_pack(loaded.processor, [("What is the job of Anna Bell?", "nurse")], person="3")
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


def test_a_model_is_on_one_device():
    with pytest.raises(ValueError, match='device is "auto"; a model is never spread over devices'):
        load("testbed/llava/base", device="auto")


def test_testbed_portraits_are_sixteen_tokens(model):
    identity = portraits.draw_identities(1, "test")[0]
    views = train.process_pictures(
        model.processor, [portraits.render(identity, v) for v in ("canonical", "a")]
    )
    with torch.no_grad():
        tower = train.tower_tokens(model, views)
        images = {name: torch.cat([view[name] for view in views]) for name in views[0]}
        tokens = visual_features(model, images).unflatten(0, (2, -1))
    assert tokens.shape == (2, 16, 128) and tower.shape[0] == 2 and tower.shape[2] == 128
    assert not torch.allclose(tokens[0], tokens[1])
