"""What a method costs: operations at the papers' dimensions, seconds on a small model, memory.

An epoch takes every forget and every retain question once. The peers' code asks single questions, each with
its picture; here all questions about a picture share a pack. The two are the same method.
"""

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch

from vkdlib.benchmarks.pictures import picture_size
from vkdlib.experiments.presets import PRESETS, preset
from vkdlib.masking import Hold
from vkdlib.methods import METHODS, make_method
from vkdlib.methods.base import Method, TaskSize
from vkdlib.models import memo
from vkdlib.models.dimensions import meta_model
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import segment_logprobs, trainable
from vkdlib.packs.batch import length
from vkdlib.packs.pack import Pack, batches
from vkdlib.plan import memory
from vkdlib.plan.downloads import BENCHMARKS, GB
from vkdlib.plan.operations import Image, count_operations
from vkdlib.plan.unlearning import IMAGE, QUESTION_TOKENS
from vkdlib.system.checks import number, one_of
from vkdlib.tasks import Steps, Tasks
from vkdlib.unlearning import combine

QUESTIONS = ("single", "packs")
MODELS = {preset(name, "model")["model"]: name for name in PRESETS if name.startswith("paper-")}
NAMES = {kind: name for name, kind in METHODS.items()}  # of methods
EFFICIENCY = "method model questions keep operations preparation total memory_planned".split()
MEASURED = [*EFFICIENCY[:-1], "seconds", "memory_planned", "memory_measured"]  # table2_efficiency.csv
WITHOUT = "VKD without distillation"  # row of the paper's Table 2
UNFROZEN = "VKD with the whole model"  # ours: what freezing alone saves
BEYOND = "features, unlabelled"  # kept by, of VKD beyond the paper
RUNGS = {  # of the ladder -> method, its settings, how questions are put
    "GA_Diff, whole model, single questions": ("GA_Diff", {"trained": "all"}, "single"),
    "packs": ("GA_Diff", {"trained": "all"}, "packs"),
    "LLM frozen (VKD)": ("VKD", {}, "packs"),
    'keep="features"': ("VKD", {"keep": "features"}, "packs"),
}


def published_size(
    loaded: Loaded, benchmark: str, forget_ratio: int, questions: str, max_pixels: int | None = None
) -> TaskSize:
    """How much an epoch of a published benchmark is; of a question's length there is an estimate alone.

    Args:
        questions: "single": each with its own picture; "packs".
    Raises:
        ValueError: no such benchmark, ratio or way.
    """
    one_of("benchmark", benchmark, BENCHMARKS)
    one_of("questions", questions, QUESTIONS)
    one_of("forget_ratio", forget_ratio, BENCHMARKS[benchmark]["forget"])
    sets = [BENCHMARKS[benchmark][name][forget_ratio] for name in ("forget", "retain")]
    forget, retain = (asked if questions == "single" else pictures for pictures, asked in sets)
    return TaskSize(
        forget_pictures=forget,
        retain_pictures=retain,
        questions=sum(asked for _, asked in sets),
        steps=retain,  # of one picture each: an epoch draws them all
        batch_size=1,
        retain_batch=1,
        image_tokens=loaded.family.tokens(loaded.model.config, *IMAGE, max_pixels),
        question_tokens=QUESTION_TOKENS,
        unlabelled_pictures=retain,
    )


def training_size(size: TaskSize, training: Mapping) -> TaskSize:
    """How many pictures a whole training takes, each counted as often as it comes, as if it were an epoch.

    Args:
        size: how much there is to train on.
        training: arguments of `Training`: epochs, batch_size and retain_batch count.
    """
    forget = training["epochs"] * size.forget_pictures
    retain = forget * (training["retain_batch"] or training["batch_size"]) / training["batch_size"]
    questions = size.questions * (forget + retain) / size.pictures  # each with as many as before
    return replace(size, forget_pictures=forget, retain_pictures=retain, questions=questions)


def table_methods(questions: str) -> Iterator[tuple[str, str, Method]]:
    """The rows of Table 2: name, what is kept by, and the method; baselines train the whole model.

    Args:
        questions: one of QUESTIONS. Pictures without a label have none, and so come with packs alone.
    """
    one_of("questions", questions, QUESTIONS)
    for name in METHODS:
        yield name, "answers", make_method(name, **({"reference": "vanilla"} if name == "NPO" else {}))
    yield WITHOUT, "answers", make_method("VKD", beta=0.0)
    yield UNFROZEN, "answers", make_method("VKD", trained="all")
    yield "VKD", "features", make_method("VKD", keep="features")
    if questions == "packs":
        yield "VKD", BEYOND, make_method("VKD", keep="features", unlabelled=1.0)


def efficiency_table(
    model: str, benchmark: str = "MLLMMU/MLLMU-Bench", forget_ratio: int = 5
) -> pd.DataFrame:
    """Every method at a checkpoint's true dimensions, see `table_methods`.

    Args:
        model: one of MODELS.
    Returns:
        columns EFFICIENCY: operations of an epoch and, apart, of the preparation; `total`: of the preparation
        and all steps that the preset has; `memory_planned` in GB, of one question or pack of each set at a
        time, everything in fp32.
    """
    one_of("model", model, MODELS)
    rows, loaded = [], meta_model(model)
    for questions in QUESTIONS:
        for name, keep, method in table_methods(questions):
            row = {"method": name, "model": model, "questions": questions, "keep": keep}
            rows.append(row | costs(loaded, method, benchmark, forget_ratio, questions))
    return pd.DataFrame(rows, columns=EFFICIENCY)


def ladder(model: str, benchmark: str = "MLLMMU/MLLMU-Bench", forget_ratio: int = 5) -> pd.DataFrame:
    """From the peers' way to ours, rung by rung.

    Returns:
        columns rung; operations of an epoch; times and step: how many times fewer than on the first rung, and
        than on the one before.
    """
    one_of("model", model, MODELS)
    loaded = meta_model(model)
    counts = [
        costs(loaded, make_method(name, **settings), benchmark, forget_ratio, questions)["operations"]
        for name, settings, questions in RUNGS.values()
    ]
    table = pd.DataFrame({"rung": list(RUNGS), "operations": counts})
    before = table.operations.shift(fill_value=counts[0])
    return table.assign(times=counts[0] / table.operations, step=before / table.operations)


def costs(
    loaded: Loaded, method: Method, benchmark: str, forget_ratio: int, questions: str
) -> dict[str, float]:
    """Values of EFFICIENCY of a method on one of MODELS."""
    max_pixels = preset(MODELS[loaded.name], "model")["max_pixels"]
    size = published_size(loaded, benchmark, forget_ratio, questions, max_pixels)
    training = preset(MODELS[loaded.name], "training", NAMES[type(method)])
    return operation_counts(loaded, method, size, (IMAGE, max_pixels), training) | {
        "memory_planned": planned_memory(loaded, method, size) / GB
    }


def operation_counts(
    loaded: Loaded, method: Method, size: TaskSize, image: Image, training: Mapping
) -> dict[str, int]:
    """Operations of a method, as EFFICIENCY has them.

    Args:
        training: arguments of `Training`, by which the total counts.
    """
    counts = count_operations(loaded, method, size, image, training_size(size, training))
    total = counts["preparation"] + counts["training"]
    return {"operations": counts["epoch"], "preparation": counts["preparation"], "total": total}


def planned_memory(
    loaded: Loaded,
    method: Method,
    size: TaskSize,
    packs: int = 1,
    dtype: str = "float32",
    quantise: str | None = None,
) -> float:
    """Bytes on a device with so many pictures of each set at a time, see `memory`.

    Args:
        loaded: without adapters, which the method attaches.
        dtype, quantise: as of `loading.load`.
    """
    parameters = memory.count_parameters(loaded)
    weights = set(method.scope(loaded).values()) if method.trains else set()
    language = not weights.isdisjoint(loaded.family.language(loaded.model).parameters())
    used = memory.weight_memory(parameters, dtype, quantise)
    used |= memory.training_memory(memory.total(weights), method.cost(loaded, size))
    used |= memory.activation_memory(loaded, packs, size, dtype, False, language)
    return sum(used.values())


def time_epochs(
    loaded: Loaded, tasks: Tasks, methods: Mapping[str, tuple[Method, str]], steps: int = 10, repeats: int = 3
) -> pd.DataFrame:
    """Seconds of an epoch, cut into so many steps of one size; all methods in turn in this one process.

    Args:
        loaded, tasks, methods, repeats: as of `time_steps`.
    Returns:
        columns name, preparation and epoch, in seconds, and ratio: epoch by that of the first method.
    """
    number("steps", steps, 1, whole=True)

    def slices(asked: Tasks) -> tuple[int, int]:
        return tuple(math.ceil(len(packs) / steps) for packs in (asked.forget_vqa, asked.retain_vqa))

    table = time_steps(loaded, tasks, methods, slices, repeats)
    return table.assign(epoch=steps * table.step)[["name", "preparation", "epoch", "ratio"]]


def time_steps(
    loaded: Loaded,
    tasks: Tasks,
    methods: Mapping[str, tuple[Method, str]],
    sizes: Callable[[Tasks], tuple[int, int]],
    repeats: int = 3,
) -> pd.DataFrame:
    """Seconds of a step; all methods in turn in this one process.

    Args:
        loaded: a small model. It stays as it is; each method trains a copy.
        tasks: in packs.
        methods: name -> method, and how questions are put (QUESTIONS).
        sizes: of tasks as a method is asked them, how many packs a step takes to forget and to retain.
        repeats: steps of each method that are timed, after one that is not.
    Returns:
        columns name, preparation and step, in seconds, and ratio: step by that of the first method. Both step
        and ratio come from medians over repeats.
    """
    number("repeats", repeats, 1, whole=True)
    preparation, take, seconds = {}, {}, {name: [] for name in methods}
    for name, (method, questions) in methods.items():
        one_of("questions", questions, QUESTIONS)
        asked = single_tasks(tasks) if questions == "single" else tasks
        memo.RESULTS.clear()  # what another method computed is to be computed again
        start = time.perf_counter()
        take[name] = stepper(copy_model(loaded), asked, method, *sizes(asked))
        preparation[name] = time.perf_counter() - start
        take[name](0)
    for step in range(1, repeats + 1):
        for name in methods:
            start = time.perf_counter()
            take[name](step)
            seconds[name].append(time.perf_counter() - start)
    table = pd.DataFrame({"name": list(methods), "preparation": preparation.values()})
    table["step"] = [statistics.median(seconds[name]) for name in methods]
    return table.assign(ratio=table.step / table.step[0])


def measured_table(loaded: Loaded, tasks: Tasks, steps: int = 10, repeats: int = 3) -> pd.DataFrame:
    """Every method that trains on a small model, in turn in this one process.

    Args:
        tasks: in packs, with unlabelled pictures.
        steps, repeats: as of `time_epochs`.
    Returns:
        columns MEASURED: operations as `efficiency_table` counts them, seconds of an epoch; memory is NaN.
        The total is of the steps that the testbed's presets have.
    """
    plan, rows, methods = replace(loaded, model=copy_model(loaded).model.to("meta")), [], {}
    for questions in QUESTIONS:
        size, image = tasks_size(single_tasks(tasks) if questions == "single" else tasks)
        for name, keep, method in table_methods(questions):
            if method.trains:
                methods[name, questions, keep] = method, questions
                beyond = "-beyond" if keep == BEYOND else ""
                training = preset(f"testbed{beyond}", "training", NAMES[type(method)])
                row = {"method": name, "model": loaded.name, "questions": questions, "keep": keep}
                rows.append(row | operation_counts(plan, method, size, image, training))
    times = time_epochs(loaded, tasks, methods, steps, repeats)
    return pd.DataFrame(rows).assign(seconds=times.epoch).reindex(columns=MEASURED)


def tasks_size(tasks: Tasks) -> tuple[TaskSize, tuple[tuple[int, int], None]]:
    """How much an epoch of tasks is, and the size of their pictures, which all have the same."""
    packs = (*tasks.forget_vqa, *tasks.retain_vqa)
    questions, image = sum(len(p.segments) for p in packs), packs[0].image_tokens
    words = sum(length(p) - image for p in packs) / questions
    retain = len(tasks.retain_vqa)
    counts = (len(tasks.forget_vqa), retain, questions, retain, 1, 1, image, words, len(tasks.unlabelled))
    return TaskSize(*counts), (picture_size(packs[0].file), None)


def stepper(
    loaded: Loaded, tasks: Tasks, method: Method, batch_size: int, retain_batch: int
) -> Callable[[int], None]:
    """A function that takes the step of a number; the method is prepared before it is returned.

    Args:
        batch_size, retain_batch: packs to forget and to retain in a step.
    """
    parameters = method.scope(loaded)
    with trainable(loaded, parameters):
        prepared = method.prepare(loaded, tasks, Steps(batch_size))
    optimiser = torch.optim.AdamW(parameters.values(), lr=1e-6)
    hold = Hold(parameters, prepared.held)

    def take(step: int) -> None:
        with trainable(loaded, parameters):  # which forgets gradients at its end
            combine(loaded, method, prepared, parameters, tasks.batch(step, batch_size, 0, retain_batch))
            optimiser.step()
            hold.restore()

    return take


def single_tasks(tasks: Tasks) -> Tasks:
    """The same tasks with each question in a pack of its own."""
    return Tasks(*map(single_packs, vars(tasks).values()))


def single_packs(packs: Sequence[Pack]) -> tuple[Pack, ...]:
    """The same questions, each in a pack of its own; pictures without questions are left out."""
    return tuple(replace(p.select([i]), key=f"{p.key} {i}") for p in packs for i in range(len(p.segments)))


@torch.inference_mode()
def time_multiple_choice(
    loaded: Loaded, packs: Sequence[Pack], batch_size: int = 64, repeats: int = 3
) -> dict[str, float]:
    """Seconds in which log-probabilities of all answers are computed, "packs" against "single", and the
    "ratio" of medians. Both take turns, after one round that is not timed.

    Args:
        packs: of pictures, with every option of every question as an answer.
        batch_size: answers at a time, in both.
    """
    number("repeats", repeats, 1, whole=True)
    each = max(1, round(batch_size * len(packs) / sum(len(p.segments) for p in packs)))
    ways = {"single": list(batches(single_packs(packs), batch_size)), "packs": list(batches(packs, each))}
    seconds = {name: [] for name in ways}
    for _ in range(1 + repeats):
        for name, groups in ways.items():
            start = time.perf_counter()
            for group in groups:
                segment_logprobs(loaded, group)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    return medians | {"ratio": medians["single"] / medians["packs"]}


def copy_model(loaded: Loaded) -> Loaded:
    """The same model once more."""
    return replace(loaded, model=copy.deepcopy(loaded.model))
