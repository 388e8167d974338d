"""What unlearning will take: what is trained, prepared and kept, and what goes through the model."""

import math

from vkdlib.benchmarks.pictures import open_image
from vkdlib.benchmarks.schema import Split
from vkdlib.benchmarks.strangers import read_strangers
from vkdlib.experiments.pipeline import check_unlearning
from vkdlib.methods import make_method
from vkdlib.methods.base import Cost, Method, TaskSize
from vkdlib.models.dimensions import meta_model
from vkdlib.models.loaded import Loaded
from vkdlib.plan import memory
from vkdlib.plan.downloads import BENCHMARKS, GB, Row
from vkdlib.runs.configuration import Configuration, Machine
from vkdlib.unlearning import make_training

QUESTION_TOKENS = 30  # an estimate: a question with its answer and the chat template around it
IMAGE = (1024, 1024)  # pixels; about the size of MLLMU-Bench's portraits, assumed where the data are not here


def unlearning_rows(
    c: Configuration, machine: Machine, model: str, split: Split | None, processes: int
) -> list[Row]:
    """Parameters, preparation, steps, tokens and memory.

    Args:
        model: name of the vanilla model, or of one of the papers' checkpoints.
        split: the task; None takes what was published about the benchmark.
    """
    check_unlearning(c)
    method, loaded = make_method(c.method, **c.settings), meta_model(model, c.revision)
    parameters = memory.count_parameters(loaded)  # before a method attaches adapters
    weights = set(method.scope(loaded).values()) if method.trains else set()
    trained, task = memory.total(weights), count_task(c, method, loaded, split)
    cost, at_once = method.cost(loaded, task), packs_at_once(task, method, machine, processes)
    language = not weights.isdisjoint(loaded.family.language(loaded.model).parameters())
    used = memory.weight_memory(parameters, c.dtype, c.quantise)
    used |= memory.training_memory(trained, cost)
    used |= memory.activation_memory(loaded, at_once, task, c.dtype, machine.checkpointing, language)
    used["together"] = sum(used.values())
    if cost.features or cost.forget_features:
        most = task.steps * math.ceil(task.retain_batch / processes)  # on one device
        pictures = min(task.drawn, most)
        pictures += min(task.drawn_unlabelled, most) if method.unlabelled else 0
        numbers = pictures * cost.features + cost.forget_features
        used["teacher's features, beside the device"] = numbers * memory.bytes_of(c.dtype)
    return [
        *(("model", name, count, "parameters") for name, count in parameters.items()),
        *preparation_rows(cost),
        *training_rows(task, trained, assumed=split is None),
        *(("memory", name, round(size / GB, 3), "GB") for name, size in used.items()),
    ]


def count_task(c: Configuration, method: Method, loaded: Loaded, split: Split | None) -> TaskSize:
    """How much there is to train on, in how many steps."""
    training, sets = make_training(**c.training), ("forget", "retain")
    if split:
        pictures = [[i for p in getattr(split, name) for i in p.pictures if i.pairs] for name in sets]
        counts = [(len(group), sum(len(i.pairs) for i in group)) for group in pictures]
        sizes = [open_image(i.image).size for group in pictures for i in group]
    else:
        counts, sizes = [BENCHMARKS[c.benchmark][name][c.forget_ratio] for name in sets], [IMAGE]
    (forget, forget_questions), (retain, retain_questions) = counts
    tokens = [loaded.family.tokens(loaded.model.config, *size, c.max_pixels) for size in sizes]
    batch_size = min(training.batch_size, forget)
    strangers = read_strangers(c.strangers) if method.unlabelled else {}
    return TaskSize(
        forget_pictures=forget,
        retain_pictures=retain,
        questions=forget_questions + retain_questions,
        steps=training.steps(forget) if method.trains else 0,
        batch_size=batch_size,
        retain_batch=min(training.retain_batch or batch_size, retain),
        image_tokens=round(sum(tokens) / len(tokens)),  # mean over pictures
        question_tokens=QUESTION_TOKENS,
        unlabelled_pictures=len(strangers),
    )


def packs_at_once(task: TaskSize, method: Method, machine: Machine, processes: int) -> int:
    """Packs of each set on a device at a time."""
    share = math.ceil(max(task.batch_size, task.retain_batch) / processes)
    at_once = min(machine.micro_batch or share, share)
    return max(at_once, task.batch_size) if method.whole_batches else at_once


def preparation_rows(cost: Cost) -> list[Row]:
    """What goes through the model before the first step."""
    rows = []
    for name, (pictures, tokens, _) in cost.passes.items():
        rows.append(("preparation", f"{name}: pictures", pictures, "pictures"))
        rows.append(("preparation", f"{name}: tokens", round(pictures * tokens), "tokens"))
    return rows


def training_rows(task: TaskSize, trained: int, assumed: bool) -> list[Row]:
    """Steps, and what goes through the model in them.

    Args:
        trained: number of trained parameters.
        assumed: the size of pictures is not known, and IMAGE is taken.
    """
    pictures = task.batch_size + task.retain_batch
    size = " of {} x {} pixels, assumed".format(*IMAGE) if assumed else ""
    rows = [
        ("trained", trained, "parameters"),
        ("steps", task.steps, "steps"),
        ("pictures a step, to forget and to retain", pictures, "pictures"),
        (f"tokens of an image{size}", task.image_tokens, "tokens"),
        ("tokens of a pack", round(task.pack_tokens), "tokens"),
        ("tokens in all", round(task.steps * pictures * task.pack_tokens), "tokens"),
    ]
    return [("training", *row) for row in rows]
