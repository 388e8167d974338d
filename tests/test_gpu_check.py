"""The GPU check, on small models and a CPU: what it would measure is what a step is."""

import gpu_check
import pytest
import torch
from bitsandbytes.nn import Linear4bit

from vkdlib.models.families import FAMILIES
from vkdlib.models.loaded import Loaded
from vkdlib.packs.batch import block_mask, collate, length
from vkdlib.testbed.architectures import random_model

SMALL = (64, 64)


@pytest.fixture(params=["llava", "qwen2-vl"])
def plan(request, monkeypatch):
    monkeypatch.setattr(gpu_check, "IMAGE", SMALL)
    for name, value in {"QUESTIONS": 3, "PACKS": 1, "STEPS": 1}.items():
        monkeypatch.setattr(gpu_check, name, value)
    model = random_model(request.param).to("meta")
    return Loaded(model, None, FAMILIES[model.config.model_type], request.param)


@pytest.mark.parametrize("precision", gpu_check.PRECISIONS)
def test_rows_of_a_step(plan, precision):
    rows = list(gpu_check.step_rows(plan, precision, "cpu"))
    assert [row["method"] for row in rows] == list(gpu_check.METHODS)
    assert all(row["seconds"] > 0 and row["memory_planned"] > 0 for row in rows)
    assert (
        rows[1]["memory_planned"] == rows[0]["memory_planned"]
    )  # nothing is planned yet for less activation


def test_models_are_as_they_are_loaded(plan):
    loaded = gpu_check.random_loaded(plan, "nf4", "cpu")
    layers = [m for m in loaded.family.language(loaded.model).modules() if isinstance(m, torch.nn.Linear)]
    assert layers and all(isinstance(m, Linear4bit) for m in layers)
    visual = loaded.family.tower(loaded.model).parameters()
    assert {p.dtype for p in visual} == {torch.float32} and loaded.dtype == torch.bfloat16


def test_packs_of_noise_are_packs(plan):
    loaded = gpu_check.random_loaded(plan, "bf16", "cpu")
    pack = gpu_check.random_pack(loaded, "a")
    batch = collate([pack], dtype=torch.bfloat16)
    logits = loaded.model(**batch["inputs"]).logits
    assert logits.isfinite().all() and length(pack) == len(pack.prefix) + 3 * 30
    assert pack.prefix.count(loaded.model.config.image_token_id) == pack.image_tokens == len(pack.prefix)


def test_both_kernels_compute_the_block_mask(plan):
    """Against SDPA with the mask that batches have."""
    pack = gpu_check.random_pack(plan, "a")
    questions = gpu_check.questions_of(pack)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, len(questions), 16) for _ in range(3))
    mask = block_mask(questions[None], torch.zeros_like(questions)[None])
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
    for attend in gpu_check.attention_kernels(questions, torch.float32).values():
        assert torch.allclose(attend(q, k, v), expected, atol=1e-5)


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a GPU with 80 GB; there is none here"):
        gpu_check.main()
