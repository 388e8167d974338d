"""What is loaded for a run: of which commit, with pictures how large, in which type."""

import json
import warnings

import pandas as pd
import pytest
import torch
from conftest import few_tasks
from PIL import Image

from vkdlib import experiments
from vkdlib.benchmarks.load import DataError, load_benchmark
from vkdlib.benchmarks.made_up.cache import benchmark_folder
from vkdlib.benchmarks.pictures import to_png
from vkdlib.experiments import model_names, pipeline, presets
from vkdlib.methods import make_method
from vkdlib.models import loaded, loading
from vkdlib.models.dimensions import meta_model
from vkdlib.models.families import FAMILIES
from vkdlib.packs.pack import make_pack
from vkdlib.plan.unlearning import IMAGE
from vkdlib.runs.configuration import Configuration
from vkdlib.system import paths
from vkdlib.testbed.build import make_processor
from vkdlib.unlearning import unlearn

OLD, NEW = "1" * 40, "2" * 40
ANSWER = {"set": "forget", "kind": "cloze", "modality": "vqa", "person": "1", "question": "q", "answer": "A",
          "gold": "A", "score": 1.0, "bleu": None, "options": None}  # fmt: skip
PAIRS = [("Who is it?", "Anna Bell")]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the Hub with two commits of a model and two of a dataset; the branch is at the second."""
    models = {OLD: paths.CHECKPOINTS / "llava/base", NEW: paths.CHECKPOINTS / "llava-mllmu/vanilla"}
    data = {OLD: benchmark_folder("mllmu"), NEW: benchmark_folder("clear")}
    for kind, commits in (("models--some--model", models), ("datasets--some--data", data)):
        (tmp_path / kind / "snapshots").mkdir(parents=True)
        (tmp_path / kind / "refs").mkdir()
        (tmp_path / kind / "refs" / "main").write_text(NEW)
        for commit, folder in commits.items():
            (tmp_path / kind / "snapshots" / commit).symlink_to(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(pipeline, "evaluate", lambda *_, **__: pd.DataFrame([ANSWER]))


def test_a_run_is_of_the_commits_it_names(hub):
    task = {"model": "some/model", "benchmark": "some/data", "method": "vanilla"}
    hashes = {}
    for commit, model, data in (
        (OLD, "testbed/llava/base", "testbed/mllmu"),
        (NEW, "testbed/llava-mllmu/vanilla", "testbed/clear"),
    ):
        weights = loaded.weights_hash(loading.load(model).model.state_dict())
        hashes[commit] = (weights, len(load_benchmark(data).people))
    c = experiments.run("x", Configuration(**task, revision=OLD, data_revision=NEW)).configuration
    assert (c.revision, c.data_revision, c.weights) == (OLD, NEW, hashes[OLD][0])
    assert model_names.load_starting_model(c).name == "some/model"
    newest = experiments.run("x", Configuration(**task)).configuration
    assert (newest.weights, newest.data, newest.schema) == (hashes[NEW][0], c.data, "clear")
    assert not {"revision", "data_revision"} & set(newest.identity)
    old = experiments.run("x", Configuration(**task, data_revision=OLD)).configuration
    assert old.data != newest.data and old.revision is None
    for commit in (OLD, NEW):
        assert len(load_benchmark("some/data", commit).people) == hashes[commit][1]
    with pytest.raises(FileNotFoundError, match="some/model"):
        experiments.run("x", Configuration(**task, revision="3" * 40))


def test_a_revision_of_what_is_not_on_the_hub_is_refused(tmp_path):
    for name in ("testbed/llava-mllmu/vanilla", str(tmp_path)):
        for wanted in (loading.load, meta_model):
            with pytest.raises(
                ValueError, match="revision is 'abc', a commit on the Hub; the model .*: leave"
            ):
                wanted(name, revision="abc")
    for source in ("testbed/mllmu", str(tmp_path)):
        with pytest.raises(
            DataError, match="data_revision is 'abc', but .* is not from the Hub: leave it out"
        ):
            load_benchmark(source, "abc")


@pytest.fixture
def published_settings(tmp_path):
    """A Qwen2-VL processor's folder: settings as published with the checkpoint, the testbed's words."""
    make_processor("qwen2-vl").save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").unlink()
    settings = {"image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 3136, "max_pixels": 12845056}
    settings |= {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(tmp_path)


def test_large_pictures_are_made_as_small_as_the_preset_says(published_settings):
    name = "paper-qwen2-vl-7b"
    limit = presets.preset(name, "model")["max_pixels"]
    family, config = FAMILIES["qwen2_vl"], meta_model("Qwen/Qwen2-VL-7B-Instruct").model.config
    free, capped = (family.processor(published_settings, pixels) for pixels in (None, limit))
    for p in (free, capped):
        p.tokenizer.model_max_length = 10000

    def pack(processor, size):
        return make_pack(processor, PAIRS, to_png(Image.new("RGB", size, "red")))

    for size in ((1024, 1024), (1500, 700), (3000, 300), (673, 690)):
        tokens = pack(capped, size).image_tokens
        assert 0.8 * 576 < tokens <= 576 and tokens == family.tokens(config, *size, limit)
        assert pack(free, size).image_tokens == family.tokens(config, *size) > tokens
    assert pack(free, IMAGE).image_tokens == 1369
    for size in ((336, 336), (200, 640), (672, 672)):
        a, b = pack(free, size), pack(capped, size)
        assert a.prefix == b.prefix and torch.equal(a.image["pixel_values"], b.image["pixel_values"])


def test_the_limit_reaches_a_runs_model():
    tokens = []
    for given in ({}, {"max_pixels": 32 * 32}):
        loaded = model_names.load_starting_model(
            Configuration(model="testbed/qwen2-vl", method="vanilla", **given)
        )
        portrait = to_png(Image.new("RGB", (64, 64), "red"))
        tokens.append(make_pack(loaded.processor, PAIRS, portrait).image_tokens)
    assert tokens == [16, 4]


def test_limits_that_cannot_be_kept_are_refused(published_settings):
    with pytest.raises(ValueError, match="max_pixels is 1024; .*vanilla makes every picture the same size"):
        loading.load("testbed/llava-mllmu/vanilla", max_pixels=1024)
    with pytest.raises(ValueError, match="max_pixels is 784; .* no picture smaller than 3136 pixels: raise"):
        FAMILIES["qwen2_vl"].processor(published_settings, 784)


def test_float16_is_for_evaluation_alone(monkeypatch):
    words = "dtype is float16, .*: choose bfloat16 or float32"
    loaded = loading.load("testbed/llava-mllmu/vanilla", dtype=torch.float16)
    with pytest.raises(ValueError, match=words):
        unlearn(loaded, few_tasks(loaded), make_method("VKD"), epochs=1, lr=1e-4)
    monkeypatch.setattr(pipeline, "load_model_and_task", lambda configuration: pytest.fail("it was loaded"))
    with pytest.raises(ValueError, match=words):
        experiments.run("x", Configuration(dtype="float16", training={"epochs": 1, "lr": 1e-4}))
    with pytest.raises(pytest.fail.Exception, match="it was loaded"):
        experiments.run("x", Configuration(method="vanilla", dtype="float16"))


@pytest.mark.parametrize("progress", ["0", "1"])
def test_bars_of_transformers_obey_the_same_switch(progress, monkeypatch, capsys):
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", True)
    monkeypatch.setenv("VKDLIB_PROGRESS", progress)
    loading.load("testbed/llava/base")
    assert ("Loading weights" in capsys.readouterr().err) == (progress == "1")


@pytest.mark.parametrize(
    "capabilities, fast",
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, False),
        ({}, True),
    ],
)
def test_a_processor_without_bf16_is_named(capabilities, fast, tmp_path, loaded, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    loaded.model.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loading.load(tmp_path, dtype="bfloat16", device="cpu")
    assert any("float32" in str(w.message) for w in caught) is not fast
