"""Loading: what is refused, and with which words."""

import json
import shutil

import pytest
import torch

from vkdlib.models import loading
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
    with pytest.raises(ValueError, match="copy: its weights are damaged"):
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
