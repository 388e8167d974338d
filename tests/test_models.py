"""Loading: what is refused, and with which words."""

import json
import logging
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from vkdlib.models import folders, loading, weights
from vkdlib.models.loaded import weights_hash
from vkdlib.models.parts import live_blocks
from vkdlib.system import paths

VANILLA = paths.CHECKPOINTS / "llava-mllmu" / "vanilla"


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped vanilla model."""
    return shutil.copytree(VANILLA, tmp_path / "copy")


def test_a_folder_loads_like_the_embedded_name(folder):
    a, b = loading.load(str(folder)), loading.load("testbed/llava-mllmu/vanilla")
    assert weights_hash(a.model.state_dict()) == weights_hash(b.model.state_dict())
    assert a.dtype == torch.float32 and not a.model.training
    assert type(a.processor.image_processor).__name__ == "CLIPImageProcessorPil"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_tampered_shipped_files_are_refused(monkeypatch, tmp_path, name):
    shutil.copytree(paths.CHECKPOINTS, tmp_path / "shipped")
    file = tmp_path / "shipped" / "llava-mllmu" / "vanilla" / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / "shipped")
    with pytest.raises(ValueError, match=f"{name} is not the file of .*manifest.json"):
        loading.load("testbed/llava-mllmu/vanilla")


def test_remote_code_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"}
    config |= {"model_type": "evil", "auto_map": classes}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('remote code was run')")
    with pytest.raises(ValueError, match="trust_remote_code|model type `evil`"):
        loading.load(str(folder))


def test_the_context_limit_is_the_models(folder):
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"model_max_length": int(1e30)}))
    assert loading.load(str(folder)).processor.tokenizer.model_max_length == 256


def test_truncated_weights_are_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="copy: the weights of .*copy cannot be used"):
        loading.load(str(folder))


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="copy: .*safetensors"):
        loading.load(str(folder))


def test_unknown_family(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "blip"}))
    with pytest.raises(ValueError, match="model type 'blip' is not known; vkdlib knows llava, qwen2_vl"):
        loading.load(str(folder))


def test_live_blocks_follow_the_configuration(loaded):
    for layer, live in ((-2, 4), (-1, 5), (3, 3), ([-2, 3], 4)):
        loaded.model.config.vision_feature_layer = layer
        assert len(live_blocks(loaded)) == live


def test_manifest_names_every_shipped_file():
    manifest = json.loads((paths.CHECKPOINTS / "manifest.json").read_text())
    shipped = {str(f.parent.relative_to(paths.CHECKPOINTS)) for f in paths.CHECKPOINTS.rglob("*.safetensors")}
    assert shipped == set(manifest["models"])
    assert sum(f.stat().st_size for f in paths.CHECKPOINTS.rglob("*") if f.is_file()) < 60e6


def change_weights(folder: Path, change) -> None:
    """Put change(name, tensor), a dict, in place of each tensor of a model's file."""
    changed = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        changed |= change(name, tensor)
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})


def without(end):
    return lambda name, tensor: {} if name.endswith(end) else {name: tensor}


def cut(end):
    return lambda name, tensor: {name: tensor[:-1].contiguous() if name.endswith(end) else tensor}


def with_one(value, end):
    def change(name, tensor):
        if name.endswith(end):
            tensor.view(-1)[5] = value
        return {name: tensor}

    return change


DOWN, PROJECTOR = "layers.2.mlp.down_proj.weight", "linear_2.weight"
WRONG_WEIGHTS = [
    (without(PROJECTOR), f"other weights .*missing: model.multi_modal_projector.{PROJECTOR}"),
    (without(DOWN), f"other weights .*missing: model.language_model.{DOWN}"),
    (without("embed_tokens.weight"), "missing: lm_head.weight, model.language_model.embed_tokens.weight"),
    (lambda name, tensor: {f"x.{name}": tensor}, "missing: .* and [0-9]+ more; unknown: x.language_model"),
    (lambda name, tensor: {name: tensor, f"{name}.lora_A": tensor.clone()}, "unknown: .*lora_A.* more"),
    (cut(PROJECTOR), rf"of another shape: model.*{PROJECTOR} is \(127, 128\), not \(128, 128\)"),
    (with_one(math.nan, PROJECTOR), f"multi_modal_projector.{PROJECTOR} in .* is NaN or infinite"),
    (with_one(-math.inf, DOWN), f"{DOWN} in .* is NaN or infinite somewhere: restore the file"),
]


@pytest.mark.parametrize("change, message", WRONG_WEIGHTS)
def test_a_folder_with_other_weights_is_refused(folder, change, message):
    """transformers makes up what is missing, at random."""
    change_weights(folder, change)
    with pytest.raises(ValueError, match=message) as caught:
        loading.load(str(folder))
    assert str(folder / "model.safetensors") in str(caught.value)


@pytest.mark.parametrize("quantise", ["nf4", "int8"])
@pytest.mark.parametrize(
    "change, message",
    [
        (without(DOWN), f"missing: model.language_model.{DOWN}"),
        (cut(DOWN), rf"{DOWN} is \(127, 384\), not \(128, 384\)"),
        (with_one(math.nan, DOWN), f"{DOWN} in .* is NaN or infinite"),
    ],
)
def test_quantised_weights_are_checked_too(folder, quantise, change, message):
    change_weights(folder, change)
    with pytest.raises(ValueError, match=message):
        loading.load(folder, quantise=quantise)


def test_older_names_of_weights_are_known(folder):
    """As published checkpoints have them; with the logits' layer written down though it is tied, a buffer of
    CLIP's that is no weight now, and positions of a rotary embedding."""
    expected = weights_hash(loading.load(folder).model.state_dict())
    old = {"model.language_model": "language_model.model", "model.vision_tower": "vision_tower.vision_model"}
    old |= {"model.multi_modal": "multi_modal"}

    def rename(name, tensor):
        named = name
        for new, before in old.items():
            named = named.replace(new, before)
        tied = {"language_model.lm_head.weight": tensor.clone()} if "embed_tokens" in name else {}
        return {named: tensor} | tied

    change_weights(folder, rename)
    tensors = load_file(folder / "model.safetensors")
    tensors["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    tensors["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert weights_hash(loading.load(folder).model.state_dict()) == expected


def test_weights_without_a_value_are_finite(tmp_path):
    tensors = {"empty": torch.zeros(0), "count": torch.tensor(3), "largest": torch.full((2,), 3e38)}
    save_file(tensors, tmp_path / "model.safetensors")
    weights.check_weights_finite("a model", tmp_path)


def change_json(file: Path, **changes) -> None:
    """Set fields of a JSON file; None takes a field away."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"patch_size": None}, "has no patch_size; the model's is 16: add it there"),
        ({"vision_feature_select_strategy": None}, "has no vision_feature_select_strategy; .* is 'default'"),
        ({"num_additional_image_tokens": None}, "a picture takes 15 tokens, the model makes 16 of it"),
        ({"num_additional_image_tokens": 3}, "a picture takes 18 tokens, the model makes 16 of it"),
        ({"patch_size": 32}, "a picture takes 4 tokens, the model makes 16 of it"),
        ({"vision_feature_select_strategy": "full"}, "a picture takes 17 tokens, the model makes 16 of it"),
    ],
)
def test_a_processor_that_does_not_fit_the_model_is_refused(folder, changes, message):
    change_json(folder / "processor_config.json", **changes)
    with pytest.raises(ValueError, match=f"copy/processor_config.json.* {message}"):
        loading.load(folder)


@pytest.mark.parametrize("setting", ["patch_size", "merge_size", "temporal_patch_size"])
def test_a_processor_of_pictures_of_any_size_must_fit_too(tmp_path, setting):
    folder = shutil.copytree(paths.CHECKPOINTS / "qwen2-vl" / "base", tmp_path / "copy")
    file = folder / "processor_config.json"
    images = json.loads(file.read_text())["image_processor"]
    change_json(file, image_processor=images | {setting: images[setting] * 2})
    with pytest.raises(ValueError, match="copy/processor_config.json"):
        loading.load(folder)


def test_a_folder_that_was_quantised_before_is_refused(folder):
    change_json(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ValueError, match="copy is quantised already .quantization_config .*: gptq.: take"):
        loading.load(folder)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dtype": "fp16"}, "dtype is 'fp16'; it must be one of float32, bfloat16, float16$"),
        ({"dtype": torch.float64}, "dtype is 'float64'; it must be one of float32"),
        ({"device": "gpu"}, "device is 'gpu'; it must be cpu, cuda .the first GPU., cuda:1 … or mps"),
        ({"device": "mps"}, "device is 'mps'; there is no such GPU"),
        ({"device": "cuda:99"}, "device is 'cuda:99'; there are [0-9] GPUs here"),
        ({"max_pixels": -1}, "max_pixels is -1; it must be a whole number 1 or more"),
    ],
)
def test_arguments_are_looked_at_first(options, message):
    with pytest.raises(ValueError, match=message):
        loading.load("no/model", **options)


def test_types_and_places_by_any_name(folder):
    for dtype in ("bfloat16", torch.bfloat16):
        loaded = loading.load(folder, dtype=dtype, device=torch.device("cpu"))
        assert loaded.dtype == torch.bfloat16 and loaded.precision["dtype"] == "bfloat16"
        assert loaded.name == str(folder)


@pytest.mark.parametrize(
    "name, error, message",
    [
        ("/nope", FileNotFoundError, "model /nope: there is no such folder"),
        ("./nope", FileNotFoundError, "there is no such folder"),
        ("some/where/else", FileNotFoundError, "there is no such folder"),
        ("models/nope", FileNotFoundError, "model models/nope: no such folder here, and not to be had"),
        (str(VANILLA / "config.json"), FileNotFoundError, "is a file: name the folder that it is in"),
        (
            "testbed/lava/base",
            ValueError,
            "'testbed/lava/base'; .*did you mean 'testbed/llava/base'",
        ),
    ],
)
def test_a_model_that_is_not_there(name, error, message):
    for model in (name, Path(name)):
        with pytest.raises(error, match=message):
            loading.load(model)


def test_a_model_that_is_not_trained_yet(monkeypatch, tmp_path):
    monkeypatch.setenv("VKDLIB_CACHE", str(tmp_path))
    command = "build --only llava-mllmu/retain-only-15"
    with pytest.raises(FileNotFoundError, match=f"retain-only-15 is not shipped, .*{command}"):
        folders.model_folder("testbed/llava-mllmu/retain-only-15")


def test_weights_that_are_whole_numbers(folder):
    weights = load_file(folder / "model.safetensors")
    key = next(key for key in weights if key.endswith("linear_2.weight"))
    weights[key] = weights[key].to(torch.int8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{key} in .* is of type torch.int8, no floating-point number"):
        loading.load(str(folder))


def test_the_tokenizer_of_another_model(folder):
    shutil.copy(paths.CHECKPOINTS / "qwen2-vl" / "base" / "tokenizer.json", folder)
    with pytest.raises(ValueError, match="the tokenizer of .* has 2405 tokens, the model's embedding 2400"):
        loading.load(str(folder))


def test_another_image_token(folder):
    config = json.loads((folder / "config.json").read_text())
    config["image_token_index"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="the image token is 4 by .*, and 5 by config.json"):
        loading.load(str(folder))


def test_the_file_that_is_wrong_is_blamed(folder):
    """Neither the processor's for what is in config.json, nor the weights for what is in the processor's."""
    template = folder / "chat_template.jinja"
    content = template.read_text()
    template.unlink()
    with pytest.raises(ValueError, match=f"model {folder}: {folder} has no chat template, .*: add its file"):
        loading.load(folder)
    template.write_text(content)
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    images = settings["image_processor"] | {"image_mean": [math.nan, 0.5, 0.5]}
    change_json(file, image_processor=images)
    with pytest.raises(
        ValueError, match="processor_config.json .* pixels .* NaN or infinite: correct image_mean"
    ):
        loading.load(folder)
    file.write_text(json.dumps(settings))
    change_json(folder / "config.json", vision_feature_layer=-9)
    with pytest.raises(ValueError, match="vision_feature_layer is -9 in .*copy/config.json; .* has 5 blocks"):
        loading.load(folder)


@pytest.mark.parametrize("setting", ["pad_token", "eos_token"])
def test_a_tokenizer_without_a_token_that_is_needed(setting, folder):
    """Without pad_token a run would unlearn to its end, and fail when the questions are asked."""
    change_json(folder / "tokenizer_config.json", **{setting: None})
    with pytest.raises(ValueError, match=f"{folder}/tokenizer_config.json has no {setting}, .*: name one"):
        loading.load(folder)


def test_a_model_has_a_name():
    with pytest.raises(ValueError, match="model is ''; it must be text"):
        loading.load("")


def test_one_line_says_what_is_missing(folder):
    """transformers warns of missing weights at length, before they are refused."""
    change_weights(folder, without(PROJECTOR))
    records, handler = [], logging.Handler()
    handler.emit = records.append
    logging.getLogger("transformers").addHandler(handler)
    level = transformers_logging.get_verbosity()
    try:
        with pytest.raises(ValueError, match="missing"):
            loading.load(folder)
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert not records and transformers_logging.get_verbosity() == level


@pytest.mark.parametrize("file, content, message", [
    ("tokenizer.json", "{", "the processor or tokenizer of .* cannot be used"),
    ("tokenizer.json", None, "the processor or tokenizer of .* cannot be used"),
    ("config.json", "{}", "the config.json of .* cannot be used"),
])  # fmt: skip
def test_files_that_no_library_can_read_are_named(folder, file, content, message):
    (folder / file).unlink()
    if content:
        (folder / file).write_text(content)
    with pytest.raises(ValueError, match=f"model {folder}: {message}"):
        loading.load(str(folder))
