"""What unlearning will take: what is trained, prepared and kept, and what goes through the model."""

import math

from vkdlib.benchmarks.pictures import open_image
from vkdlib.benchmarks.schema import Split
from vkdlib.experiments.pipeline import check_unlearning
from vkdlib.methods import make_method
from vkdlib.methods.base import Cost, Method, TaskSize
from vkdlib.models.dimensions import meta_model
from vkdlib.models.loaded import Loaded
from vkdlib.plan import memory
from vkdlib.plan.downloads import BENCHMARKS, GB, Row
from vkdlib.runs.configuration import Configuration, Machine
from vkdlib.unlearn import make_training

QUESTION_TOKENS = 30  # a question with its answer and the chat template around it; an estimate
IMAGE = (1024, 1024)  # pixels; assumed where the data are not at hand: about that of MLLMU-Bench's portraits


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
    trained = set(method.scope(loaded).values()) if method.trains else set()
    task = count_task(c, method, loaded, split)
    cost = method.cost(loaded, task)
    used = memory.weight_memory(parameters, c.dtype, c.quantise)
    used |= memory.optimiser_memory(memory.total(trained))
    at_once = packs_at_once(task, method, machine, processes)
    language = not trained.isdisjoint(loaded.family.language(loaded.model).parameters())
    used |= memory.activation_memory(loaded, at_once, task, c.dtype, machine.checkpointing, language)
    used |= memory.copy_memory(cost)
    return [
        *(("model", name, count, "parameters") for name, count in parameters.items()),
        *preparation_rows(cost),
        *training_rows(task, memory.total(trained), assumed=split is None),
        *(("memory", name, round(size / GB, 3), "GB") for name, size in used.items()),
        ("memory", "together", round(sum(used.values()) / GB, 2), "GB"),
        *feature_rows(cost, task, memory.bytes_of(c.dtype), processes),
    ]


def count_task(c: Configuration, method: Method, loaded: Loaded, split: Split | None) -> TaskSize:
    """How much there is to train on, in how many steps."""
    training = make_training(**c.training)
    if split:
        pictures = {
            name: [i for p in getattr(split, name) for i in p.pictures] for name in ("forget", "retain")
        }
        counts = {name: (len(some), sum(len(i.pairs) for i in some)) for name, some in pictures.items()}
        sizes = [open_image(i.image).size for some in pictures.values() for i in some]
    else:
        counts = {name: BENCHMARKS[c.benchmark][name][c.forget_ratio] for name in ("forget", "retain")}
        sizes = [IMAGE]
    (forget, forget_questions), (retain, retain_questions) = counts.values()
    tokens = [loaded.family.tokens(loaded.model.config, *size, c.max_pixels) for size in sizes]
    batch_size = min(training.batch_size, forget)
    return TaskSize(
        forget_pictures=forget,
        retain_pictures=retain,
        forget_questions=forget_questions,
        retain_questions=retain_questions,
        steps=training.steps(forget) if method.trains else 0,
        batch_size=batch_size,
        retain_batch=min(training.retain_batch or batch_size, retain),
        image_tokens=round(sum(tokens) / len(tokens)),  # of a picture on average
        question_tokens=QUESTION_TOKENS,
    )


def packs_at_once(task: TaskSize, method: Method, machine: Machine, processes: int) -> int:
    """Packs of each set on a device at a time."""
    share = math.ceil(max(task.batch_size, task.retain_batch) / processes)
    at_once = min(machine.micro_batch or share, share)
    return max(at_once, task.batch_size) if method.whole_batches else at_once


def preparation_rows(cost: Cost) -> list[Row]:
    """What goes through the model before the first step."""
    rows = []
    for name, (pictures, tokens) in cost.passes.items():
        rows.append(("preparation", f"{name}: pictures", pictures, "pictures"))
        rows.append(("preparation", f"{name}: tokens", round(pictures * tokens), "tokens"))
    return rows


def training_rows(task: TaskSize, trained: int, assumed: bool) -> list[Row]:
    """Steps, and what goes through the model in them.

    Args:
        trained: how many parameters are.
        assumed: whether pictures are taken to have the size IMAGE.
    """
    pictures = task.batch_size + task.retain_batch
    image = "tokens of an image"
    if assumed:
        image += " of {} x {} pixels, assumed".format(*IMAGE)
    return [
        ("training", "trained", trained, "parameters"),
        ("training", "steps", task.steps, "steps"),
        ("training", "pictures a step, to forget and to retain", pictures, "pictures"),
        ("training", image, task.image_tokens, "tokens"),
        ("training", "tokens of a pack", round(task.pack_tokens), "tokens"),
        ("training", "tokens in all", round(task.steps * pictures * task.pack_tokens), "tokens"),
    ]


def feature_rows(cost: Cost, task: TaskSize, width: int, processes: int) -> list[Row]:
    """Memory beside the device, `width` bytes a number: the teacher's features of the pictures seen here."""
    if not cost.features:
        return []
    seen = min(task.drawn, task.steps * math.ceil(task.retain_batch / processes))
    size = seen * cost.features * width
    return [("memory", "teacher's features, beside the device", round(size / GB, 3), "GB")]
