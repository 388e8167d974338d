"""The papers' real architectures, without weights: parameters by part, paths, live layers, plans."""

from dataclasses import replace

import pytest
from PIL import Image

from vkdlib.benchmarks.pictures import to_png
from vkdlib.benchmarks.schema import KINDS
from vkdlib.evaluation.evaluate import evaluate
from vkdlib.experiments import presets
from vkdlib.masking import FISHERS, Hold
from vkdlib.methods import METHODS, make_method
from vkdlib.methods.base import TaskSize
from vkdlib.models.dimensions import meta_model
from vkdlib.models.families import FAMILIES
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import live_blocks, mlp_output, visual_parameters
from vkdlib.packs.batch import length
from vkdlib.packs.pack import Pack, make_pack
from vkdlib.plan import memory
from vkdlib.plan.run import count_questions, plan_run
from vkdlib.runs.configuration import Configuration, Machine
from vkdlib.tasks import Steps, Tasks
from vkdlib.testbed.build import make_processor
from vkdlib.testbed.recipe import ARCHITECTURES

CLIP_MLP = 2 * 1024 * 4096 + 4096 + 1024
QWEN2_MLP = 2 * 1280 * 5120 + 5120 + 1280
QWEN25_MLP = 3 * (1280 * 3420) + 2 * 3420 + 1280


def merger(out: int, norm: int) -> int:
    return norm + 5120 * 5120 + 5120 + 5120 * out + out


# name: billions of parameters on the model's card, live blocks, trained parameters, tokens of 336 x 336
REAL = {
    "llava-hf/llava-1.5-7b-hf": (7.06, 23, 12 * CLIP_MLP + 1025 * 4096 + 4097 * 4096, 576),
    "llava-hf/llava-1.5-13b-hf": (13.35, 23, 12 * CLIP_MLP + 1025 * 5120 + 5121 * 5120, 576),
    "Qwen/Qwen2-VL-7B-Instruct": (8.29, 32, 16 * QWEN2_MLP + merger(3584, 2 * 1280), 144),
    "Qwen/Qwen2.5-VL-3B-Instruct": (3.75, 32, 16 * QWEN25_MLP + merger(2048, 1280), 144),
}


CLIP = 3 * 14**2 * 1024 + (1 + 577) * 1024 + 24 * (4 * 1025 * 1024 + CLIP_MLP + 4 * 1024) + 4 * 1024


def qwen_tower(mlp: int, norm: int) -> int:
    return 2 * 3 * 14**2 * 1280 + 32 * (1281 * 3 * 1280 + 1281 * 1280 + mlp + 2 * norm)


def llama_linear(blocks: int, width: int, inner: int) -> int:
    return blocks * (4 * width * width + 3 * width * inner)


def qwen_linear(blocks: int, width: int, keys: int, inner: int) -> int:
    """Queries, keys and values have biases; several heads share keys and values."""
    return blocks * ((width + 1) * (width + 2 * keys) + width * width + 3 * width * inner)


# Parameters written out from the published dimensions: tower, projector, the language model's linear layers,
# and its words (twice, where those read and those written are not the same) and norms.
PARTS = {
    "llava-hf/llava-1.5-7b-hf": (
        CLIP,
        1025 * 4096 + 4097 * 4096,
        llama_linear(32, 4096, 11008),
        2 * 32064 * 4096 + 65 * 4096,
    ),
    "llava-hf/llava-1.5-13b-hf": (
        CLIP,
        1025 * 5120 + 5121 * 5120,
        llama_linear(40, 5120, 13824),
        2 * 32064 * 5120 + 81 * 5120,
    ),
    "Qwen/Qwen2-VL-7B-Instruct": (
        qwen_tower(QWEN2_MLP, 2 * 1280),
        merger(3584, 2 * 1280),
        qwen_linear(28, 3584, 4 * 128, 18944),
        2 * 152064 * 3584 + 57 * 3584,
    ),
    "Qwen/Qwen2.5-VL-3B-Instruct": (
        qwen_tower(QWEN25_MLP, 1280),
        merger(2048, 1280),
        qwen_linear(36, 2048, 2 * 128, 11008),
        151936 * 2048 + 73 * 2048,
    ),
}
LLAVA_PATHS = ("model.vision_tower", "model.multi_modal_projector", "model.vision_tower.encoder.layers")
QWEN_PATHS = ("model.visual", "model.visual.merger", "model.visual.blocks")


@pytest.fixture(scope="module", params=REAL)
def real(request) -> Loaded:
    return meta_model(request.param)


def test_parameters_by_part(real):
    billions, _, _, _ = REAL[real.name]
    everything = sum(p.numel() for p in real.model.parameters())
    assert round(everything / 1e9, 2) == billions
    count = memory.count_parameters(real)
    assert sum(count.values()) == everything
    assert all(p.is_meta for p in real.model.parameters())


def test_parameters_by_part_are_those_of_the_dimensions(real):
    assert tuple(memory.count_parameters(real).values()) == PARTS[real.name]


def test_paths_of_the_parts(real):
    names = {module: name for name, module in real.model.named_modules()}
    family = real.family
    tower, projector, blocks = LLAVA_PATHS if "llava" in real.name else QWEN_PATHS
    assert names[family.tower(real.model)] == tower
    assert names[family.projector(real.model)] == projector
    assert names[family.language(real.model)] == "model.language_model"
    assert names[family.blocks(family.tower(real.model))] == blocks
    last = "fc2" if family is not FAMILIES["qwen2_5_vl"] else "down_proj"
    for number, block in enumerate(family.blocks(family.tower(real.model))):
        assert names[family.mlp(block)] == f"{blocks}.{number}.mlp"
        assert names[mlp_output(block)] == f"{blocks}.{number}.mlp.{last}"


def test_live_layers_and_what_is_trained(real):
    _, live, trained, _ = REAL[real.name]
    assert len(live_blocks(real)) == live
    scope = visual_parameters(real)
    assert sum(p.numel() for p in scope.values()) == trained
    names = {id(p): n for n, p in real.model.named_parameters()}
    for p in scope.values():
        name = names[id(p)]
        assert ".mlp." in name or "projector" in name or "merger" in name
        assert "language_model" not in name and "layers.23" not in name


def test_a_336_pixel_image_in_a_pack(real):
    """The real image processor's settings, with the testbed's words."""
    tokens = REAL[real.name][3]
    assert real.family.tokens(real.model.config, 336, 336) == tokens
    picture = to_png(Image.new("RGB", (336, 336), "red"))
    processor = real_processor(real)
    processor.tokenizer.model_max_length = real.model.config.get_text_config().max_position_embeddings
    pack = make_pack(processor, [("Who is it?", "Anna Bell"), ("What job?", "nurse")], picture)
    assert pack.image_tokens == tokens
    assert length(pack) < tokens + 60


def real_processor(real: Loaded):
    vision = real.model.config.vision_config
    if real.family is FAMILIES["llava"]:
        from transformers import LlavaProcessor
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        ours = make_processor("llava")
        side = {"height": vision.image_size, "width": vision.image_size}
        return LlavaProcessor(
            CLIPImageProcessorPil(size={"shortest_edge": vision.image_size}, crop_size=side),
            ours.tokenizer,
            patch_size=vision.patch_size,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            image_token="<image>",
            chat_template=ours.chat_template,
        )
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from vkdlib.models.qwen import QwenImageProcessor

    images = Qwen2VLImageProcessorPil(patch_size=vision.patch_size, merge_size=vision.spatial_merge_size)
    return QwenImageProcessor(
        images, make_processor("qwen2-vl").tokenizer, chat_template=ARCHITECTURES["qwen2-vl"]["template"]
    )


def make_plan(name, benchmark="MLLMMU/MLLMU-Bench", method="VKD", settings=None, processes=1, **changes):
    """By the preset, but for the method's settings."""
    parts = {part: presets.preset(name, part) for part in ("model", "training", "machine")}
    for values in parts.values():
        values |= {k: changes.pop(k) for k in list(changes) if k in values}
    task = {"benchmark": benchmark, "method": method, "settings": settings or {}}
    c = Configuration(**task, training=parts["training"], **parts["model"] | changes)
    return plan_run(c, Machine(**parts["machine"]), processes).set_index(["part", "item"]).value


def embedded_plan(method="VKD", settings=None, **training):
    """Of LLaVA on MLLMU-Bench, 5 % to forget."""
    c = Configuration(method=method, settings=settings or {}, training=training)
    return plan_run(c).set_index(["part", "item"]).value


PAPER = [n for n in presets.PRESETS if n.startswith("paper-")]
COUNTS = {"MLLMMU/MLLMU-Bench": (25, 475), "therem/CLEAR": (188, 3580)}  # pictures


@pytest.mark.parametrize("benchmark", COUNTS)
@pytest.mark.parametrize("name", PAPER)
def test_plans_at_paper_scale(name, benchmark):
    """Nothing is downloaded; what the plan says follows from the preset and the published counts."""
    found = make_plan(name, benchmark)
    forget, retain = COUNTS[benchmark]
    steps = round(5 * forget / 4)
    assert found["training", "steps"] == steps and 4 * steps < retain
    image = found["training", "tokens of an image of 1024 x 1024 pixels, assumed"]
    assert image == 576  # Qwen's by max_pixels
    width = {"7b": 4096, "13b": 5120}.get(
        name.removeprefix("paper-llava-1.5-"), 3584 if "7b" in name else 2048
    )
    features = found["memory", "teacher's features, beside the device"]
    assert features == pytest.approx(4 * steps * 576 * width * 2 / 1e9, abs=1e-3)
    passes = found["preparation"]
    for what, pictures in {
        "importance, Eq. 6": forget + retain,
        "the teacher's features, Eq. 4": 4 * steps,
    }.items():
        assert passes[f"{what}: pictures"] == pictures and passes[f"{what}: tokens"] == pictures * 576
    assert passes["Fisher information, Eq. 9: pictures"] == forget + retain
    assert passes["Fisher information, Eq. 9: tokens"] > (forget + retain) * 600
    trained = found["training", "trained"]
    assert found["memory", "AdamW's moments, fp32"] == pytest.approx(8 * trained / 1e9, abs=1e-3)
    whole = found["model"].sum()
    assert found["download"].iloc[0] == pytest.approx(2 * whole / 1e9, abs=0.06)
    assert 6 < found["memory", "together"] < 24  # GB: one card
    more = make_plan(name, benchmark, checkpointing=False)
    assert more["memory", "activations"] > 3 * found["memory", "activations"]
    assert (
        make_plan(name, benchmark, quantise=None)["memory", "language model"]
        > 3 * found["memory", "language model"]
    )
    shared = make_plan(name, benchmark, micro_batch=None, processes=4)["memory", "activations"]
    assert shared < make_plan(name, benchmark, micro_batch=None)["memory", "activations"]
    free = make_plan(name, benchmark, max_pixels=None)
    grown = free["memory", "activations"] > 1.5 * found["memory", "activations"]
    assert grown == ("qwen" in name) and free["memory", "together"] < 24


TABLE_7 = {"epochs": 16, "lr": 2e-5, "batch_size": 4}  # of the VGID paper, with its one epoch's steps


@pytest.mark.parametrize("name", [n for n in presets.PRESETS if n.startswith("vgid-")])
@pytest.mark.parametrize("method", METHODS)
def test_the_vgid_papers_runs_have_a_plan(name, method):
    """Every method by Table 7, with about as many steps as its 381 pairs in batches of 4. Adapters' output
    layer is no copy; what is kept of the teacher is the output layer's input."""
    c, machine = presets.configure(name, method, benchmark="MLLMMU/MLLMU-Bench")
    assert {k: c.training[k] for k in TABLE_7} == TABLE_7 and c.protocol == "generate"
    if method not in ("VKD", "MANU"):
        assert c.settings["trained"] == "lora"
    if method == "VKD":  # its pruned neurons and adapters exclude each other; it trains the visual module
        assert "trained" not in c.settings
    if method == "NPO":
        assert c.settings["reference"] == "vanilla"
    if method == "MANU":
        c = replace(c, quantise=None)
    found = plan_run(c, machine).set_index(["part", "item"]).value
    assert found["training", "steps"] == (0 if method == "MANU" else 100)
    if method == "VGID":
        assert {k: c.settings[k] for k in ("perturbation", "prompt", "positions")} == {
            "perturbation": "noise", "prompt": "strict", "positions": "gold"}  # fmt: skip
        passes = found["preparation"]
        assert passes["the teacher's answers, Eq. 2: pictures"] == 400
        assert passes["vanilla's answers, Eq. 4: pictures"] == 400
        assert found["memory", "copies of weights, fp32"] == 0
        kept = found["memory", "teacher's features, beside the device"]
        assert 0 < kept < 1e-3 * 400 * 2 * 32 * 30 * 5120 * 2 / 1e6  # GB; 15 questions of 30 tokens each
        assert 5 < found["memory", "together"] < 24


def test_what_is_known_of_downloads():
    found = make_plan("paper-llava-1.5-7b", revision="abc", data_revision="def")["download"]
    assert list(found.index) == [
        "llava-hf/llava-1.5-7b-hf, revision abc",
        "MLLMMU/MLLMU-Bench, forget_15",
        "MLLMMU/MLLMU-Bench, retain_95",
        "MLLMMU/MLLMU-Bench, the rest, revision def",
    ]
    assert found.iloc[1:3].tolist() == [0.0349, 0.226] and found.isna().tolist() == [False] * 3 + [True]
    found = make_plan("paper-llava-1.5-7b", "therem/CLEAR")["download"]
    assert found.index[-1] == "therem/CLEAR, the rest, newest revision: name one" and len(found) == 2


def test_float16_is_no_plan():
    with pytest.raises(ValueError, match="dtype is float16"):
        make_plan("paper-llava-1.5-7b", dtype="float16")


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"dtype": "fp16"}, "dtype is 'fp16'; it must be one of"),
        ({"quantise": "nf5"}, "quantise is 'nf5'; it must be one of .*did you mean 'nf4'"),
        ({"processes": 0}, "processes is 0; it must be a whole number 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number 1 or more"),
        ({"micro_batch": -1}, "micro_batch is -1; it must be a whole number 1 or more"),
        ({"kinds": ["clozed"]}, r"kinds\[0\] is 'clozed'; .*did you mean 'cloze'"),
    ],
)
def test_what_a_run_would_refuse_has_no_plan(wrong, message):
    with pytest.raises(ValueError, match=message):
        make_plan("paper-llava-1.5-7b", **wrong)


def test_features_of_vision_blocks_are_planned_too():
    """LLaVA-1.5: 576 tokens of 4096 numbers from the projector, of 1024 from each of 12 blocks."""
    row = ("memory", "teacher's features, beside the device")
    projector, layers, both = (
        make_plan("paper-llava-1.5-7b", settings={"target": target})[row]
        for target in ("projector", "layers", "both")
    )
    assert layers == pytest.approx(projector * 12 * 1024 / 4096, rel=0.01)
    assert both == pytest.approx(projector + layers, rel=0.01)


def test_plans_of_baselines():
    """Adapters: rank 16 on every linear layer that is read. The whole model: not in half precision."""
    name = "paper-llava-1.5-7b"
    vkd, lora = make_plan(name), make_plan(name, method="GA_Diff", settings={"trained": "lora"})
    text = 32 * (4 * 2 * 4096 + 3 * (4096 + 11008))
    vision = 23 * (4 * 2 * 1024 + 2 * (1024 + 4096))
    assert lora["training", "trained"] == 16 * (text + vision + (1024 + 4096) + 2 * 4096)
    assert lora["memory", "activations"] > vkd["memory", "activations"]
    assert ("memory", "teacher's features, beside the device") not in lora
    with pytest.raises(ValueError, match='use trained="lora"'):
        make_plan(name, method="GA_Diff")
    whole = make_plan(name, method="GA_Diff", dtype="float32", quantise=None)
    dead = 4 * (1024 * 1024 + 1024) + CLIP_MLP + 4 * 1024
    assert whole["training", "trained"] == whole["model"].sum() - dead
    assert make_plan(name, method="MANU")["training", "trained"] == 0


def test_presets_of_baselines():
    assert presets.preset("testbed", "method", "GA") == {"trained": "all"}
    chosen = presets.BY_METHOD["testbed"]["GA"]["training"]["lr"][0]
    assert presets.preset("testbed", "training", "GA")["lr"] == chosen
    assert presets.preset("testbed", "training", "GA", lr=1e-4)["lr"] == 1e-4
    usual, same, other = (presets.configure("testbed", "GA", lr=lr)[0] for lr in (None, chosen, 0.1))
    assert usual == same != other == replace(usual, training=usual.training | {"lr": 0.1})
    lora = {"trained": "lora", "beta": 0.1, "reference": "retain-only"}
    assert presets.preset("paper-qwen2-vl-7b", "method", "NPO", beta=0.1) == lora
    assert presets.preset("testbed", "method", "MANU", share=0.1) == {"share": 0.1}


def test_every_value_of_a_preset_has_a_source():
    for name in presets.PRESETS:
        table = presets.sources(name)
        assert table.source.str.len().min() > 3
        parts = {"model", "data", "method", "baselines", "training", "evaluation", "machine"}
        chosen = {f"{part} of {m}" for m, of in presets.BY_METHOD.get(name, {}).items() for part in of}
        assert set(table.part) == parts | chosen
        assert not (chosen and name.startswith("paper"))


def test_the_plan_of_the_testbed_counts_what_is_there(loaded):
    found = embedded_plan(epochs=50, lr=1e-3, batch_size=5, retain_batch=15)
    assert found["model"].sum() == sum(p.numel() for p in loaded.model.parameters())
    assert found["training", "trained"] == sum(p.numel() for p in visual_parameters(loaded).values())
    assert found["training", "steps"] == 100 and "download" not in found
    with pytest.raises(ValueError, match="forget_ratio is 7; MLLMMU/MLLMU-Bench has 5, 10, 15"):
        make_plan("testbed", forget_ratio=7)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_plan_on_the_testbed(method):
    """Whole models train in fp32, as they are loaded, whatever the shipped files have."""
    settings = presets.preset("testbed", "method", method)
    found = embedded_plan(method, settings, **presets.preset("testbed", "training", method))
    trains = make_method(method).trains
    assert (found["training", "trained"] > 0) == trains
    if trains:
        shorter = embedded_plan(method, settings, epochs=1, lr=1e-3, batch_size=5)
        assert found["memory", "activations"] == pytest.approx(3 * shorter["memory", "activations"], rel=0.01)


def test_memory_of_weights_is_exact(loaded):
    """What the plan says of a model in memory, against its tensors."""
    count = memory.count_parameters(loaded)
    assert sum(count.values()) == sum(p.numel() for p in loaded.model.parameters())
    exact = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
    assert sum(memory.weight_memory(count, "float32", None).values()) == exact


METHODS = [
    *(("VKD", {"fisher": kind, "target": target}) for kind in FISHERS for target in ("projector", "both")),
    ("VKD", {"order": "parallel"}),
    *(("VKD", {off: False}) for off in ("prune", "mask")),
    ("VKD", {"beta": 0}),
    ("VKD", {"mask_scope": "update"}),
    ("VKD", {"mask_scope": "update", "prune": False}),
    ("VKD", {"trained": "all"}),
    ("VKD", {"keep": "features"}),
    ("KL_Min", {"trained": "visual"}),
    ("GA_Diff", {}),
    ("NPO", {"reference": "vanilla"}),
    *(("VGID", {"perturbation": kind, "trained": t}) for kind in ("noise", "white") for t in ("all", "lora")),
    ("VGID", {"beta": 0}),
    ("VGID", {"positions": "first"}),
    ("PO", {}),
    ("RMU", {}),
    ("RMU", {"gamma": 0}),
    ("MMUnlearner", {"trained": "lora"}),
    ("MANU", {}),
]


@pytest.mark.parametrize("name, settings", METHODS)
def test_preparation_and_copies_are_those_of_the_method(loaded, tasks, name, settings):
    """Pictures that pass the vision tower before the first step, and bytes of what is then kept."""
    method, shown = make_method(name, **settings), []
    scope = method.scope(loaded)
    embedded = loaded.family.tower(loaded.model)
    embedded.register_forward_pre_hook(
        lambda _, args, kwargs: shown.append(len((*args, *kwargs.values())[0])), with_kwargs=True
    )
    forget, retain = len(tasks.forget_vqa), len(tasks.retain_vqa)
    cost = method.cost(loaded, TaskSize(forget, retain, 4 * (forget + retain), 1, 3, retain, 16, 30))
    bytes_kept = memory.training_memory(0, cost)
    prepared = method.prepare(loaded, tasks, Steps(3))
    assert sum(each.pictures for each in cost.passes.values()) == sum(shown)
    held = Hold(scope, prepared.held).entries
    masks = [*(prepared.mask or {}).values(), *(where for _, where, _ in held)]
    copied = [value for _, _, value in held]
    own = loaded.model.get_output_embeddings()
    head = prepared.teacher.get("head", own)
    copied += [] if head is own else head.parameters()
    copied += prepared.teacher.values() if name == "KL_Min" else []
    assert bytes_kept["masks"] == sum(m.numel() for m in masks)
    assert bytes_kept["copies of weights, fp32"] == sum(4 * value.numel() for value in copied)
    if name in ("VGID", "RMU"):  # of VGID the plan counts a question's tokens with its answer's
        kept = [t.numel() for part in ("forget", "norms", "retain")
                for t in prepared.teacher.get(part, {}).values()]  # fmt: skip
        assert 0 < sum(kept) <= cost.forget_features + retain * cost.features


@pytest.mark.parametrize("epochs", [0.5, 4, 12.5, 13, 50])
def test_the_teacher_is_asked_about_pictures_that_are_drawn(epochs):
    """Against the batches themselves: 10 pictures to forget, 190 to retain, 5 and 15 in a step."""
    packs = {
        n: tuple(Pack((), (), {}, f"{n}{i}") for i in range(size)) for n, size in (("f", 10), ("r", 190))
    }
    tasks = Tasks(packs["f"], packs["r"], (), ())
    steps = round(epochs * 10 / 5)
    drawn = {p.key for step in range(steps) for p in tasks.batch(step, 5, 0, 15).retain_vqa}
    found = embedded_plan(epochs=epochs, lr=1e-3, batch_size=5, retain_batch=15)
    assert found["preparation", "the teacher's features, Eq. 4: pictures"] == len(drawn)


@pytest.mark.parametrize("kinds", [KINDS, ["classification"]])
def test_the_questions_are_those_asked(untrained, benchmark, kinds):
    split = benchmark.split(5)
    few = replace(split, forget=split.forget[:2], retain=split.retain[:2], real=split.real[:1])
    rows = evaluate(untrained, few, kinds=kinds, max_new_tokens=1)
    asked = {name: n for name, n in count_questions(few, kinds).items() if n}
    assert asked == rows.groupby("set").size().to_dict()


def test_what_a_reference_takes():
    found = plan_run(Configuration(method="vanilla", kinds=["classification"]))
    assert set(found.part) == {"evaluation"} and found.set_index("item").value["forget"] == 10 * 2 * 5
    chosen = plan_run(Configuration(method="vanilla", select=True))
    assert set(chosen["item"]) and chosen.value.sum() != found.value.sum()
    far = plan_run(Configuration(model="llava-hf/llava-1.5-7b-hf", benchmark="therem/CLEAR", method="base"))
    assert far.part.tolist() == ["evaluation", "download", "download"]
    assert far.value.isna().tolist() == [True, False, True]
