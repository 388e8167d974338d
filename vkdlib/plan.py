"""What a run will take, before it starts and before anything is downloaded.

The papers' checkpoints and data are known from `published.yaml`; a model is made without weights to count
its parts. Memory is an estimate: weights, gradients and AdamW's moments are exact, activations are those
that autograd must keep for a frozen language model.
"""

import functools
import math
from pathlib import Path

import pandas as pd
import torch
import yaml

from vkdlib import paths
from vkdlib.data import load_benchmark
from vkdlib.families import Family, family_of
from vkdlib.images import open_image
from vkdlib.methods import VKD
from vkdlib.models import Loaded, mlp_output

GB = 1e9
BITS = {"nf4": 4.13, "int8": 8.0}  # a weight with its share of scales
QUESTION_TOKENS = 30  # a question with its answer and the chat template around it; an estimate
IMAGE = (336, 336)  # pixels; assumed where the data are not at hand


@functools.cache
def published() -> dict:
    """The papers' models and benchmarks."""
    return yaml.safe_load((paths.PACKAGE / "published.yaml").read_text())


def without_weights(name: str) -> Loaded:
    """A model as it is, but on the meta device: parameters have shapes and no values.

    Args:
        name: one of the papers' checkpoints, or anything that `loading.load` takes.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    from vkdlib.loading import model_folder

    if name in published()["models"]:
        config = AutoConfig.for_model(**published()["models"][name])
    else:
        config = AutoConfig.from_pretrained(model_folder(name), trust_remote_code=False)
    with torch.device("meta"):
        return Loaded(AutoModelForImageTextToText.from_config(config), None, family_of(config), name)


def parts(loaded: Loaded) -> dict[str, int]:
    """Parameters of the vision tower, the projector, the language model's linear layers, and the rest."""
    family, model = loaded.family, loaded.model
    count = {"tower": _count(family.tower(model)), "projector": _count(family.projector(model))}
    if _inside(family, model):  # Qwen's merger is a part of its tower
        count["tower"] -= count["projector"]
    linear = [m for m in family.language(model).modules() if isinstance(m, torch.nn.Linear)]
    count["language linear"] = sum(_count(m) for m in linear)
    count["embeddings, norms, head"] = _count(model) - sum(count.values())
    return count


def data(benchmark: str, forget_ratio: int) -> tuple[dict[str, int], list[tuple[int, int]]]:
    """What there is to train on: pictures and questions (of all pictures together) to forget and to retain,
    and the pictures' sizes.

    A benchmark that would have to be downloaded is taken from what was published about it; the sizes are
    not known then.
    """
    known = published()["benchmarks"].get(benchmark)
    if known and not Path(benchmark).is_dir():
        if forget_ratio not in known["forget"]:
            ratios = ", ".join(map(str, known["forget"]))
            raise ValueError(f"forget_ratio is {forget_ratio}; {benchmark} has {ratios}")
        found, sizes = {name: known[name][forget_ratio] for name in ("forget", "retain")}, []
    else:
        split = load_benchmark(benchmark).split(forget_ratio)
        pictures = {n: [x for p in getattr(split, n) for x in p.pictures] for n in ("forget", "retain")}
        found = {n: (len(of), sum(len(x.pairs) for x in of)) for n, of in pictures.items()}
        sizes = [open_image(x.image).size for of in pictures.values() for x in of]
    counts = {f"{n} {what}": v for n, of in found.items() for what, v in zip(("pictures", "questions"), of)}
    return counts, sizes


def plan(
    model: str,
    benchmark: str,
    forget_ratio: int,
    method,
    *,
    epochs: float,
    batch_size: int,
    retain_batch: int | None = None,
    micro_batch: int | None = None,
    checkpointing: bool = False,
    dtype: str = "float32",
    quantise: str | None = None,
    processes: int = 1,
) -> pd.DataFrame:
    """Steps, tokens, trained parameters, memory by part, downloads of a run.

    Args:
        model: base or vanilla model; other arguments as `experiments.run` and its settings.
        method: from `methods.make_method`.
        processes: GPUs that share each step.
    Returns:
        columns part, item, value, unit. Memory is that of one device.
    """
    loaded = without_weights(model)
    count, (of, sizes) = parts(loaded), data(benchmark, forget_ratio)
    how = getattr(method, "trained", "visual")
    if how == "all" and (dtype != "float32" or quantise):
        raise ValueError('trained="all" needs dtype float32 and no quantise; or use trained="lora"')
    trained = sum(p.numel() for p in method.scope(loaded).values()) if method.trains else 0
    batch_size = min(batch_size, of["forget pictures"])
    retain_batch = retain_batch or batch_size
    steps = max(1, round(epochs * of["forget pictures"] / batch_size))
    tokens = [loaded.family.tokens(loaded.model.config, *size) for size in sizes or [IMAGE]]
    image = round(sum(tokens) / len(tokens))
    questions, pictures = (sum(v for k, v in of.items() if what in k) for what in ("questions", "pictures"))
    length = image + questions / pictures * QUESTION_TOKENS
    rows = [("model", name, n, "parameters") for name, n in count.items()]
    rows += [
        ("training", "trained", trained, "parameters"),
        ("training", "steps", steps, "steps"),
        ("training", "pictures a step, to forget and to retain", batch_size + retain_batch, "pictures"),
        ("training", "tokens of an image" + " of 336 x 336, assumed" * (not sizes), image, "tokens"),
        ("training", "tokens of a pack", round(length), "tokens"),
        ("training", "tokens in all", round(steps * (batch_size + retain_batch) * length), "tokens"),
    ]
    share = math.ceil(max(batch_size, retain_batch) / processes)
    at_once = min(micro_batch or share, share)
    used = memory(loaded, count, trained, at_once, length, image, checkpointing, dtype, quantise, how)
    rows += [("memory", name, round(size / GB, 3), "GB") for name, size in used.items()]
    rows += [("memory", "together", round(sum(used.values()) / GB, 2), "GB")]
    if isinstance(method, VKD) and method.beta:
        width = torch.finfo(getattr(torch, dtype)).bits // 8
        features = of["retain pictures"] * image * loaded.model.config.get_text_config().hidden_size * width
        rows += [("memory", "teacher's features, beside the device", round(features / GB, 3), "GB")]
    if model in published()["models"] and not Path(model).is_dir():
        rows += [("download", model, round(2 * sum(count.values()) / GB, 1), "GB")]
    if benchmark in published()["benchmarks"] and not Path(benchmark).is_dir():
        rows += [("download", benchmark, float("nan"), "GB, not published")]
    return pd.DataFrame(rows, columns=["part", "item", "value", "unit"])


def memory(
    loaded: Loaded, count: dict, trained: int, packs: int, length: float, image: int, checkpointing: bool,
    dtype: str, quantise: str | None, how: str = "visual",
) -> dict[str, float]:  # fmt: skip
    """Bytes on the device by part, for `packs` packs of `length` tokens at a time.

    A frozen linear layer keeps no input. What an LLM block keeps for the backward pass is, per token: two
    norms' inputs (fp32), queries, keys, values and their result, gate, up and the gate's activation; of a
    vision block likewise, and with trained MLPs their inputs too. Where the language model is trained (`how`
    is "all" or "lora"), its linear layers keep their inputs as well.
    """
    config, width = loaded.model.config, torch.finfo(getattr(torch, dtype)).bits // 8
    text, tower = config.get_text_config(), loaded.family.blocks(loaded.family.tower(loaded.model))
    side, inner = mlp_output(tower[-1]).weight.shape
    rows = packs * image * loaded.family.merge(config)
    wide = 4 * text.hidden_size + 3 * text.intermediate_size
    if how != "visual":
        wide += 2 * text.hidden_size + text.intermediate_size
    block = packs * length * (8 * text.hidden_size + width * wide)
    hidden = packs * length * text.hidden_size * width
    seen = rows * (8 * side + width * (6 * side + 3 * inner))
    kept = text.num_hidden_layers * hidden + block + len(tower) * rows * side * 4 + seen
    answers = packs * (length - image)
    bits = BITS.get(quantise, 8.0 * width)
    return {
        "visual weights, fp32": 4 * (count["tower"] + count["projector"]),
        "gradients, fp32": 4 * trained,
        "AdamW's moments, fp32": 8 * trained,
        "masks": 2 * trained,
        "language model": count["language linear"] * bits / 8,
        "embeddings, norms, head": count["embeddings, norms, head"] * width,
        "activations": kept if checkpointing else text.num_hidden_layers * block + len(tower) * seen,
        "logits": answers * text.vocab_size * (width + 8),
    }


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _inside(family: Family, model: torch.nn.Module) -> bool:
    """Whether the projector is a part of the vision tower."""
    return any(m is family.projector(model) for m in family.tower(model).modules())
