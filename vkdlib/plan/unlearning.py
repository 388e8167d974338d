"""What a run will take, before anything is downloaded: from published facts; its memory is an estimate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from vkdlib.benchmarks.pictures import open_image
from vkdlib.benchmarks.schema import KINDS, Split
from vkdlib.methods.base import Cost, Method, TaskSize
from vkdlib.models.adapters import adapter_weights
from vkdlib.models.dimensions import meta_model
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import DTYPES, QUANTISATIONS
from vkdlib.models.passes import check_training_dtype
from vkdlib.plan import memory
from vkdlib.plan.downloads import BENCHMARKS, GB, Row, downloads
from vkdlib.plan.evaluation import COLUMNS, evaluation_rows, find_split
from vkdlib.system.checks import number, one_of
from vkdlib.unlearn import Training

QUESTION_TOKENS = 30  # a question with its answer and the chat template around it; an estimate
IMAGE = (1024, 1024)  # pixels; assumed where the data are not at hand: about that of MLLMU-Bench's portraits


@dataclass(frozen=True)
class Amounts:
    """What a run goes through.

    Attributes:
        task: how much there is to train on.
        steps: of training; 0 for a method that does not train.
        batch_size, retain_batch: pictures to forget and to retain in a step.
        at_once: of each set on a device at a time.
        processes: GPUs that share each step.
    """

    task: TaskSize
    steps: int
    batch_size: int
    retain_batch: int
    at_once: int
    processes: int


def plan_unlearning(
    model: str,
    benchmark: str,
    forget_ratio: int,
    method: Method,
    training: Training,
    *,
    dtype: str = "float32",
    quantise: str | None = None,
    max_pixels: int | None = None,
    kinds: Sequence[str] = KINDS,
    select: bool = False,
    revision: str | None = None,
    data_revision: str | None = None,
    processes: int = 1,
) -> pd.DataFrame:
    """Trained parameters, preparation, steps, tokens, memory by part of a run, and what it evaluates.

    Args:
        model: base or vanilla model; other arguments as `experiments.run` and its settings.
        method: from `methods.make_method`.
        training: from `unlearn.make_training`.
        processes: GPUs that share each step.
    Returns:
        columns COLUMNS. Memory is that of one device.
    Raises:
        ValueError: `experiments.run` would refuse it.
    """
    one_of("dtype", dtype, DTYPES)
    one_of("quantise", quantise, QUANTISATIONS)
    check_training_dtype(dtype)
    number("processes", processes, 1, whole=True)
    split = find_split(benchmark, forget_ratio, data_revision, select)
    loaded = meta_model(model, revision)
    parameters = memory.count_parameters(loaded)  # before a method attaches adapters
    trained = method.scope(loaded) if method.trains else {}
    language = language_trained(loaded, trained)
    if language and not adapter_weights(loaded.model) and (dtype != "float32" or quantise):
        raise ValueError('trained="all" needs dtype float32 and no quantise; or use trained="lora"')
    counts = count_pictures(split, benchmark, forget_ratio)
    image_tokens = count_image_tokens(loaded, split, max_pixels)
    amounts = count_amounts(counts, image_tokens, method, training, processes)
    task, cost = amounts.task, method.cost(loaded, amounts.task)
    size = memory.total(trained.values())
    used = memory.weight_memory(parameters, dtype, quantise) | memory.optimiser_memory(size)
    used |= memory.activation_memory(
        loaded, amounts.at_once, task.image_tokens, task.pack_tokens, dtype, training.checkpointing, language
    )
    rows = [("model", name, count, "parameters") for name, count in parameters.items()]
    rows += preparation_rows(cost)
    rows += training_rows(amounts, size, assumed=split is None)
    rows += memory_rows(used | memory.copy_memory(cost))
    rows += feature_rows(cost, amounts, memory.bytes_of(dtype))
    rows += evaluation_rows(split, kinds)
    rows += downloads(model, benchmark, revision, data_revision)
    return pd.DataFrame(rows, columns=COLUMNS)


def language_trained(loaded: Loaded, trained: dict) -> bool:
    """Whether weights of the language model are trained, or adapters on it."""
    language = set(loaded.family.language(loaded.model).parameters())
    return any(p in language for p in trained.values())


def count_pictures(split: Split | None, benchmark: str, forget_ratio: int) -> dict[str, int]:
    """Pictures, and training questions about all of them, by the fields of `TaskSize`.

    Args:
        split: None takes what was published about the benchmark.
    """
    counts = {}
    for name in ("forget", "retain"):
        if split:
            pictures = [picture for p in getattr(split, name) for picture in p.pictures]
            numbers = len(pictures), sum(len(picture.pairs) for picture in pictures)
        else:
            numbers = BENCHMARKS[benchmark][name][forget_ratio]
        counts[f"{name}_pictures"], counts[f"{name}_questions"] = numbers
    return counts


def count_image_tokens(loaded: Loaded, split: Split | None, max_pixels: int | None) -> int:
    """Tokens of a picture, on average over those to train on; of one of IMAGE where they are not here."""
    sizes = [IMAGE]
    if split:
        pictures = [picture for p in (*split.forget, *split.retain) for picture in p.pictures]
        sizes = [open_image(picture.image).size for picture in pictures]
    tokens = [loaded.family.tokens(loaded.model.config, *size, max_pixels) for size in sizes]
    return round(sum(tokens) / len(tokens))


def count_amounts(
    counts: dict[str, int], image_tokens: int, method: Method, training: Training, processes: int
) -> Amounts:
    """What a run goes through.

    Args:
        counts: from `count_pictures`.
    """
    batch_size = min(training.batch_size, counts["forget_pictures"])
    retain_batch = min(training.retain_batch or batch_size, counts["retain_pictures"])
    steps = training.steps(counts["forget_pictures"]) if method.trains else 0
    drawn = min(counts["retain_pictures"], steps * retain_batch)
    share = math.ceil(max(batch_size, retain_batch) / processes)
    at_once = min(training.micro_batch or share, share)
    if method.whole_batches:
        at_once = max(at_once, batch_size)
    task = TaskSize(**counts, drawn=drawn, image_tokens=image_tokens, question_tokens=QUESTION_TOKENS)
    return Amounts(task, steps, batch_size, retain_batch, at_once, processes)


def preparation_rows(cost: Cost) -> list[Row]:
    """What goes through the model before the first step."""
    rows = []
    for name, (pictures, tokens) in cost.passes.items():
        rows.append(("preparation", f"{name}: pictures", pictures, "pictures"))
        rows.append(("preparation", f"{name}: tokens", round(pictures * tokens), "tokens"))
    return rows


def training_rows(amounts: Amounts, trained: int, assumed: bool) -> list[Row]:
    """Steps, and what goes through the model in them.

    Args:
        trained: how many parameters are.
        assumed: whether pictures are taken to have the size IMAGE.
    """
    task, pictures = amounts.task, amounts.batch_size + amounts.retain_batch
    image = "tokens of an image"
    if assumed:
        image += " of {} x {} pixels, assumed".format(*IMAGE)
    tokens = round(amounts.steps * pictures * task.pack_tokens)
    return [
        ("training", "trained", trained, "parameters"),
        ("training", "steps", amounts.steps, "steps"),
        ("training", "pictures a step, to forget and to retain", pictures, "pictures"),
        ("training", image, task.image_tokens, "tokens"),
        ("training", "tokens of a pack", round(task.pack_tokens), "tokens"),
        ("training", "tokens in all", tokens, "tokens"),
    ]


def memory_rows(used: dict[str, float]) -> list[Row]:
    """Memory of one device by part, and together.

    Args:
        used: bytes.
    """
    rows = [("memory", name, round(size / GB, 3), "GB") for name, size in used.items()]
    return [*rows, ("memory", "together", round(sum(used.values()) / GB, 2), "GB")]


def feature_rows(cost: Cost, amounts: Amounts, width: int) -> list[Row]:
    """Memory beside the device, `width` bytes a number: the teacher's features of the pictures seen here."""
    if not cost.features:
        return []
    seen = min(amounts.task.drawn, amounts.steps * math.ceil(amounts.retain_batch / amounts.processes))
    size = seen * cost.features * width
    return [("memory", "teacher's features, beside the device", round(size / GB, 3), "GB")]
