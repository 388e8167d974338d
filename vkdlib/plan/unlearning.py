"""What a run will take, before anything is downloaded: from `published` facts; `memory` is an estimate."""

import math
from collections.abc import Sequence

import pandas as pd
import torch

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.pictures import open_image
from vkdlib.benchmarks.schema import KINDS, Split
from vkdlib.methods import MANU, NPO, VKD, MMUnlearner
from vkdlib.models.dimensions import meta_model
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import check_training_dtype
from vkdlib.plan.downloads import BENCHMARKS, GB, downloads, far
from vkdlib.plan.memory import copies, memory, parts

QUESTION_TOKENS = 30  # a question with its answer and the chat template around it; an estimate
IMAGE = (1024, 1024)  # pixels; assumed where the data are not at hand: about that of MLLMU-Bench's portraits
COLUMNS = ["part", "item", "value", "unit"]


def data(benchmark: str, forget_ratio: int, split: Split | None) -> tuple[dict[str, int], list]:
    """What there is to train on: pictures and questions (of all pictures together) to forget and to retain,
    and the pictures' sizes.

    Args:
        split: None takes what was published about the benchmark; the sizes are not known then.
    """
    if split:
        pictures = {n: [x for p in getattr(split, n) for x in p.pictures] for n in ("forget", "retain")}
        found = {n: (len(of), sum(len(x.pairs) for x in of)) for n, of in pictures.items()}
        sizes = [open_image(x.image).size for of in pictures.values() for x in of]
    else:
        known = BENCHMARKS[benchmark]
        found, sizes = {name: known[name][forget_ratio] for name in ("forget", "retain")}, []
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
    max_pixels: int | None = None,
    kinds: Sequence[str] = KINDS,
    select: bool = False,
    revision: str | None = None,
    data_revision: str | None = None,
    processes: int = 1,
) -> pd.DataFrame:
    """Trained parameters, preparation, steps, tokens, memory by part of a run, and its `evaluation`.

    Args:
        model: base or vanilla model; other arguments as `experiments.run` and its settings.
        method: from `methods.make_method`.
        processes: GPUs that share each step.
    Returns:
        columns COLUMNS. Memory is that of one device.
    Raises:
        ValueError: `experiments.run` would refuse it.
    """
    check_training_dtype(dtype)
    how = getattr(method, "trained", "visual")
    if how == "all" and (dtype != "float32" or quantise):
        raise ValueError('trained="all" needs dtype float32 and no quantise; or use trained="lora"')
    split = _split(benchmark, forget_ratio, data_revision, select)
    loaded = meta_model(model, revision)
    count, (of, sizes) = parts(loaded), data(benchmark, forget_ratio, split)
    trained = sum(p.numel() for p in method.scope(loaded).values()) if method.trains else 0
    batch_size = min(batch_size, of["forget pictures"])
    retain_batch = min(retain_batch or batch_size, of["retain pictures"])
    steps = max(1, round(epochs * of["forget pictures"] / batch_size)) if method.trains else 0
    tokens = [loaded.family.tokens(loaded.model.config, *size, max_pixels) for size in sizes or [IMAGE]]
    image = round(sum(tokens) / len(tokens))
    questions, pictures = (sum(v for k, v in of.items() if what in k) for what in ("questions", "pictures"))
    length = image + questions / pictures * QUESTION_TOKENS
    drawn = min(of["retain pictures"], steps * retain_batch)
    rows = [("model", name, n, "parameters") for name, n in count.items()]
    for name, (shown, read) in preparation(loaded, method, of, drawn, image, length).items():
        amounts = (("pictures", shown), ("tokens", round(read)))
        rows += [("preparation", f"{name}: {what}", n, what) for what, n in amounts]
    assumed = " of {} x {} pixels, assumed".format(*IMAGE) * (not sizes)
    rows += [
        ("training", "trained", trained, "parameters"),
        ("training", "steps", steps, "steps"),
        ("training", "pictures a step, to forget and to retain", batch_size + retain_batch, "pictures"),
        ("training", "tokens of an image" + assumed, image, "tokens"),
        ("training", "tokens of a pack", round(length), "tokens"),
        ("training", "tokens in all", round(steps * (batch_size + retain_batch) * length), "tokens"),
    ]
    share = math.ceil(max(batch_size, retain_batch) / processes)
    at_once = min(micro_batch or share, share)
    if whole_batches(method):
        at_once = max(at_once, batch_size)
    used = memory(loaded, count, trained, at_once, length, image, checkpointing, dtype, quantise, how)
    used |= copies(loaded, method)
    rows += [("memory", name, round(size / GB, 3), "GB") for name, size in used.items()]
    rows += [("memory", "together", round(sum(used.values()) / GB, 2), "GB")]
    if isinstance(method, VKD) and method.beta:
        width = torch.finfo(getattr(torch, dtype)).bits // 8
        mine = min(drawn, steps * math.ceil(retain_batch / processes))
        features = mine * image * loaded.model.config.get_text_config().hidden_size * width
        rows += [("memory", "teacher's features, beside the device", round(features / GB, 3), "GB")]
    rows += _evaluated(split, kinds, downloads(model, benchmark, revision, data_revision))
    return pd.DataFrame(rows, columns=COLUMNS)


def preparation(
    loaded: Loaded, method, of: dict[str, int], drawn: int, image: int, length: float
) -> dict[str, tuple[int, float]]:
    """What pictures go through the model before the first step: what for -> (pictures, tokens), in all.
    Questions in text, which only methods that train the language model ask then, are not counted.

    Args:
        of: from `data`.
        drawn: retain pictures that any step takes; the teacher is asked about no other.
        image, length: tokens of a picture, and of a pack. The vision tower alone reads no questions.
    """
    every, asked = (of[f"forget {what}"] + of[f"retain {what}"] for what in ("pictures", "questions"))
    whole = (every, every * length)
    if isinstance(method, VKD):
        found = {}
        if method.beta:
            taught = drawn * len(method.compared(loaded))
            found["the teacher's features, Eq. 4"] = (taught, taught * image)
        if method.prune:
            found["importance, Eq. 6"] = (every, every * image)
        if method.mask:  # reading "sample": one question at a time, each with its picture
            single = (asked, asked * (image + QUESTION_TOKENS))
            found["Fisher information, Eq. 9"] = single if method.fisher == "sample" else whole
        return found
    if isinstance(method, NPO):
        return {"the reference's answers": (n := of["forget pictures"], n * length)}
    if isinstance(method, MMUnlearner):
        return {"Fisher information": whole}
    return {"neurons' statistics": whole} if isinstance(method, MANU) else {}


def whole_batches(method) -> bool:
    """Whether preparation needs whole batches, whatever `micro_batch` is: their gradients are squared."""
    by_batch = isinstance(method, VKD) and method.mask and method.fisher == "batch"
    return by_batch or isinstance(method, MMUnlearner)


def evaluation(
    model: str,
    benchmark: str,
    forget_ratio: int,
    *,
    kinds: Sequence[str] = KINDS,
    select: bool = False,
    revision: str | None = None,
    data_revision: str | None = None,
) -> pd.DataFrame:
    """Questions asked and downloads: all that there is to say of a model that is evaluated as it is.

    Returns:
        columns COLUMNS.
    """
    split = _split(benchmark, forget_ratio, data_revision, select)
    rows = _evaluated(split, kinds, downloads(model, benchmark, revision, data_revision))
    return pd.DataFrame(rows, columns=COLUMNS)


def questions(split: Split, kinds: Sequence[str] = KINDS) -> dict[str, int]:
    """How many questions `evaluate` asks, by set: in the test set, those with a picture, about each of a
    person's other pictures."""
    found = {}
    for name, people in split.reported().items():
        asked = [(p, q) for p in people for q in p.questions if q.kind in kinds]
        views = [len(p.test_images) if q.modality == "vqa" else 0 for p, q in asked]
        found[name] = sum(views) if name == "test" else len(asked)
    return found


def _split(benchmark: str, forget_ratio: int, revision: str | None, select: bool) -> Split | None:
    """The task; None if the benchmark is a published one that would have to be downloaded."""
    if not far(BENCHMARKS, benchmark):
        split = load_benchmark(benchmark, revision).split(forget_ratio)
        return split.for_selection() if select else split
    known = BENCHMARKS[benchmark]["forget"]
    if forget_ratio not in known:
        ratios = ", ".join(map(str, known))
        raise ValueError(f"forget_ratio is {forget_ratio}; {benchmark} has {ratios}")
    return None


def _evaluated(split: Split | None, kinds: Sequence[str], sizes: list[tuple]) -> list[tuple]:
    """Rows of `evaluation`."""
    unknown = ("all sets", math.nan, "questions, known once the data are here")
    asked = [(name, n, "questions") for name, n in questions(split, kinds).items()] if split else [unknown]
    return [("evaluation", *row) for row in asked] + [("download", *row) for row in sizes]
