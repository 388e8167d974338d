"""Seconds and peak memory of a step at the papers' true dimensions, beside the plan; two attention kernels.

    python tests/gpu_check.py     # -> figures/data/gpu.csv; also `make gpu-check`; a GPU of 80 GB, 8 minutes

Weights and pictures are random: what is measured does not depend on them. A step takes PACKS pictures to
forget and as many to retain, each with QUESTIONS questions, as MLLMU-Bench has on average.
"""

import functools
import gc
import statistics
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn

from vkdlib.methods import make_method
from vkdlib.methods.base import TaskSize
from vkdlib.models import weights
from vkdlib.models.dimensions import meta_model
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import visual_weights
from vkdlib.packs.pack import Pack, Segment
from vkdlib.plan.downloads import GB
from vkdlib.plan.efficiency import planned_memory, stepper
from vkdlib.plan.unlearning import IMAGE, QUESTION_TOKENS
from vkdlib.system import files, paths
from vkdlib.tasks import Tasks

NAMES = ("llava-hf/llava-1.5-7b-hf", "Qwen/Qwen2-VL-7B-Instruct")
PRECISIONS = ("bf16", "nf4")
METHODS = {  # row -> method, settings; adapters come last, because they stay in the model
    "VKD": ("VKD", {}),
    "VKD, features only": ("VKD", {"keep": "features"}),
    "GA_Diff with LoRA": ("GA_Diff", {"trained": "lora"}),
}
PACKS, QUESTIONS, STEPS, MAX_PIXELS = 2, 15, 3, 451584
ROWS = "what model precision method seconds memory_planned memory_measured device".split()


def random_loaded(plan: Loaded, precision: str, device: str) -> Loaded:
    """A model with random weights: bf16, or NF4 in the language model's linear layers; the visual module in
    fp32, as `loading.load` has it."""
    from transformers import AutoModelForImageTextToText

    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(plan.model.config, dtype=torch.bfloat16)
    model.config.get_text_config().use_cache = False
    words = types.SimpleNamespace(tokenizer=types.SimpleNamespace(pad_token_id=0))  # there is no text
    loaded = replace(plan, model=model.eval(), processor=words)
    for p in visual_weights(loaded):
        p.data = p.data.float()
    if precision == "nf4":
        quantise_linear(loaded)
    weights.mix_precision(loaded, torch.bfloat16, device)
    return loaded


def quantise_linear(loaded: Loaded) -> None:
    """Put NF4 layers in place of the language model's linear layers, one by one."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for parent in list(loaded.family.language(loaded.model).modules()):
        for name, old in list(parent.named_children()):
            if type(old) is nn.Linear:
                sizes = (old.in_features, old.out_features, old.bias is not None)
                new = Linear4bit(*sizes, compute_dtype=torch.bfloat16, quant_type="nf4", device="meta")
                values = old.weight.data
                new.weight = Params4bit(values, requires_grad=False, quant_type="nf4").to(values.device)
                new.bias = old.bias
                setattr(parent, name, new.train())  # see `weights.check_quantised`


def random_pack(loaded: Loaded, key: str) -> Pack:
    """A picture of noise with questions of random words."""
    family, config = loaded.family, loaded.model.config
    draw = torch.Generator().manual_seed(len(key))
    image = dict(family.meta_image(config, IMAGE, MAX_PIXELS))
    image.pop("position_ids", None)  # the tower computes them
    inputs = {n: torch.rand(t.shape, generator=draw) if t.is_meta else t for n, t in image.items()}
    count = family.tokens(config, *IMAGE, MAX_PIXELS)
    positions = [range(count)]
    if "image_grid_thw" in inputs:  # M-RoPE: time, row, column
        _, rows, columns = (inputs["image_grid_thw"][0] // config.vision_config.spatial_merge_size).tolist()
        positions = torch.cartesian_prod(
            torch.arange(1), torch.arange(rows), torch.arange(columns)
        ).T.tolist()
    token = config.image_token_id
    words = torch.randint(1000, (QUESTIONS, QUESTION_TOKENS), generator=draw)
    words[words == token] += 1  # no other picture
    segments = tuple(Segment(tuple(ids), QUESTION_TOKENS // 2) for ids in words.tolist())
    return Pack((token,) * count, segments, inputs, key, count, tuple(map(tuple, positions)))


def random_tasks(loaded: Loaded) -> Tasks:
    """PACKS pictures to forget, and as many to retain."""
    sets = [tuple(random_pack(loaded, f"{name}{n}") for n in range(PACKS)) for name in ("forget", "retain")]
    return Tasks(*sets, (), ())


def measure(work: Callable[[], None], device: str) -> tuple[float, float]:
    """Median seconds of some work, after one round that is not timed, and its peak memory in GB (NaN without
    a GPU)."""
    gpu, seconds = device.startswith("cuda"), []
    work()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(STEPS):
        start = time.perf_counter()
        work()
        if gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), torch.cuda.max_memory_allocated() / GB if gpu else float("nan")


def step_rows(plan: Loaded, precision: str, device: str) -> Iterator[dict]:
    """Rows of all METHODS on a model with random weights.

    Args:
        plan: the model on the meta device.
    """
    loaded = random_loaded(plan, precision, device)
    tasks = random_tasks(loaded)
    one = tasks.forget_vqa[0]
    sizes = (PACKS, PACKS, 2 * PACKS * QUESTIONS, 1, PACKS, PACKS, one.image_tokens, QUESTION_TOKENS)
    for row, (method_name, settings) in METHODS.items():
        method = make_method(method_name, **settings)
        take = stepper(loaded, tasks, method, PACKS, PACKS)
        seconds, memory = measure(functools.partial(take, 0), device)
        del take
        kind = {"bf16": None, "nf4": "nf4"}[precision]
        planned = planned_memory(plan, method, TaskSize(*sizes), PACKS, "bfloat16", kind) / GB
        facts = {"what": "step", "model": plan.name, "precision": precision, "method": row}
        yield facts | {"seconds": seconds, "memory_planned": planned, "memory_measured": memory}
        gc.collect()


def questions_of(pack: Pack) -> Tensor:
    """Number of the question of each token, 0 for those of the picture: (T,)."""
    numbers = [0] * len(pack.prefix)
    for n, segment in enumerate(pack.segments, 1):
        numbers += [n] * len(segment.ids)
    return torch.tensor(numbers)


def attention_kernels(questions: Tensor, dtype: torch.dtype) -> dict[str, Callable]:
    """The block mask of a pack as a dense matrix for SDPA, and as a rule for FlexAttention.

    Args:
        questions: from `questions_of`, (T,), on the device.
    Returns:
        kernel -> function of queries, keys and values, (B, heads, T, channels) each.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    count = len(questions)

    def rule(b, h, row, column):
        own = (questions[column] == 0) | (questions[column] == questions[row])
        return own & (row >= column)

    place = torch.arange(count, device=questions.device)
    visible = rule(0, 0, place[:, None], place[None])  # (T, T)
    dense = torch.zeros(visible.shape, dtype=dtype, device=questions.device)
    dense = dense.masked_fill(~visible, torch.finfo(dtype).min)[None, None]  # (1, 1, T, T)
    blocks = create_block_mask(rule, None, None, count, count, device=str(questions.device))
    flex = torch.compile(flex_attention) if questions.is_cuda else flex_attention
    return {
        "SDPA, dense mask": lambda q, k, v: nn.functional.scaled_dot_product_attention(q, k, v, dense),
        "FlexAttention": lambda q, k, v: flex(q, k, v, block_mask=blocks),
    }


def attention_rows(loaded: Loaded, device: str) -> Iterator[dict]:
    """Forward and backward through one layer's attention on PACKS packs, by either kernel."""
    text, pack = loaded.model.config.get_text_config(), random_pack(loaded, "attention")
    questions, heads = questions_of(pack).to(device), text.num_attention_heads
    shape, dtype = (PACKS, heads, len(questions), text.hidden_size // heads), torch.bfloat16
    q, k, v = (torch.randn(shape, dtype=dtype, device=device, requires_grad=True) for _ in range(3))

    def there_and_back(attend: Callable) -> None:
        attend(q, k, v).sum().backward()

    for kernel, attend in attention_kernels(questions, dtype).items():
        seconds, memory = measure(functools.partial(there_and_back, attend), device)
        row = {"what": "attention", "model": loaded.name, "precision": "bf16", "method": kernel}
        yield row | {"seconds": seconds, "memory_measured": memory}


def main() -> None:
    """Measure all; print and write the record."""
    if not torch.cuda.is_available():
        raise SystemExit("gpu_check needs a GPU with 80 GB; there is none here. Plans need none: vkdlib.plan")
    device, rows = "cuda", []
    for name in NAMES:
        plan = meta_model(name)
        rows += attention_rows(plan, device)
        for precision in PRECISIONS:
            rows += step_rows(meta_model(name), precision, device)
            gc.collect()
            torch.cuda.empty_cache()
    table = pd.DataFrame(rows).assign(device=torch.cuda.get_device_name())[ROWS]
    print(table.to_string(index=False))
    files.make_folder(paths.figures() / "data")
    with files.whole_file(paths.figures() / "data" / "gpu.csv") as temporary:
        table.to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
