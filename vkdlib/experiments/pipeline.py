"""One run: check it, load the model, unlearn (or not), ask the questions, keep the answers.

On several GPUs: `accelerate launch -m vkdlib.experiments RUN.yaml`. The file has the fields of
`Configuration` and `Machine`, `experiment` and `gate`. Each process holds the whole model. The processes
share the batches and the questions.
"""

import contextlib
import functools
import shutil
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import torch

from vkdlib.attacks.attack import attack_model, check_attack
from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.schema import Benchmark, Split
from vkdlib.benchmarks.strangers import EMBEDDED_STRANGERS, check_strangers, read_strangers, strangers_hash
from vkdlib.evaluation.evaluate import check_questions, evaluate
from vkdlib.evaluation.leaks import COUNTS, leak_scores
from vkdlib.evaluation.sampling import sample_answers
from vkdlib.experiments import model_names
from vkdlib.experiments.continual import make_requests, series_predictions, unlearn_requests
from vkdlib.experiments.memorisation import require_memorisation
from vkdlib.experiments.model_names import CONTROLS, IDEALS, reference_model
from vkdlib.experiments.presets import preset
from vkdlib.methods import METHODS, make_method
from vkdlib.models.folders import files_hash, processor_hash
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.models.passes import check_training_dtype
from vkdlib.runs.configuration import Configuration, Machine
from vkdlib.runs.deltas import apply_delta, changed_weights
from vkdlib.runs.run_folder import Run
from vkdlib.runs.store import open_run
from vkdlib.system import paths, processes
from vkdlib.system.checks import check_names, flag, folder_name, one_of
from vkdlib.system.files import blame_file, read_yaml
from vkdlib.tasks import make_tasks
from vkdlib.unlearning import Training, make_training, unlearn


def run(
    experiment: str, configuration: Configuration, machine: Machine | None = None, gate: bool = True
) -> Run:
    """Do one run, or find it if it was done before. A model is unlearned once, in whatever ways it is asked.

    Args:
        experiment: name of the folder that keeps it.
        configuration: what makes the run what it is.
        machine: what fits the machine; it makes no other run.
        gate: refuse to unlearn a model that has not memorised the faces (see `memorisation`); the embedded
            ones have. It makes no other run, either.
    """
    machine = machine or Machine()
    for value, record in ((configuration, Configuration), (machine, Machine)):
        if not isinstance(value, record):
            raise TypeError(f"{value!r} is no {record.__name__}: make one of it with {record.__name__}(...)")
    check_run(experiment, configuration, gate)
    unlearns = configuration.method not in CONTROLS
    if gate and unlearns and not configuration.model.startswith("testbed/"):
        require_memorisation(functools.partial(run, experiment, machine=machine), configuration)
    loaded, split, configuration = load_model_and_task(normalise(configuration))
    if unlearns and configuration != configuration.usual:
        loaded, unlearns = load_unlearned(run(experiment, configuration.usual, machine, gate)), False
    with open_together(experiment, configuration) as this:
        if not processes.broadcast(this.done):
            options = (configuration.kinds, configuration.protocol, configuration.way)
            check_questions(loaded.processor, split, *options)
            unlearn_all = unlearn_series if configuration.requests else unlearn_model
            results = unlearn_all(this, loaded, split, machine) if unlearns else {}
            ask = ask_attacked if configuration.attack else ask_model
            series = results.pop("series", None)
            predictions = pd.concat([ask(loaded, split, configuration, machine), series], ignore_index=True)
            if processes.rank_and_size()[0] == 0:
                this.finish(predictions, **results)
    return this


def check_run(experiment: str, c: Configuration, gate: bool) -> None:
    """Raise ValueError for a run that could not be done, before anything is loaded."""
    folder_name("experiment", experiment)
    flag("gate", gate)
    one_of("method", c.method, [*METHODS, *CONTROLS])
    model_names.check_model_names(c)
    if c.method in CONTROLS and (c.settings or c.training):
        names = ", ".join(c.settings | c.training)
        raise ValueError(f"{c.method!r} is evaluated as it is: leave settings and training out ({names})")
    if c.teacher != "vanilla" and not c.requests:
        raise ValueError(f"teacher is {c.teacher!r}, and requests is 0: only a series of requests has one")
    if c.method not in CONTROLS:
        check_unlearning(c)
    ideals = {c.method, model_names.reference_kind(c)} & set(IDEALS)
    if "retain-only" in ideals and not c.retain_only and (c.select or c.draw):
        people = "selection people" if c.select else f"those of draw {c.draw}"
        raise ValueError(f"retain-only hides the people of draw 0, not {people}: choose never-saw")
    check_attack(c)
    model_names.check_model_options(c)
    reference_model(c)


def check_unlearning(c: Configuration) -> None:
    """Raise ValueError for settings, training or a precision that nothing can be unlearned with."""
    elsewhere = ["seed", *(f.name for f in fields(Machine))]  # fields of their own
    check_names("training", c.training, [f.name for f in fields(Training) if f.name not in elsewhere])
    make_training(**c.training)
    check_training_dtype(c.dtype)
    method = make_method(c.method, **c.settings)
    if getattr(method, "trained", None) == "all" and (c.dtype != "float32" or c.quantise):
        raise ValueError('trained="all" needs dtype float32 and no quantise; or use trained="lora"')
    if method.unlabelled and not c.strangers:
        raise ValueError(
            f"unlabelled is {method.unlabelled}, and strangers is not given: name a folder of pictures of "
            f"people outside of the benchmark, or {EMBEDDED_STRANGERS}"
        )


def normalise(c: Configuration) -> Configuration:
    """The same run with no more than its result depends on, so that a longer spelling finds the same run.

    It leaves out a setting that no preset gives and that is the method's default, and a model without use.
    """
    settings, strangers = {}, None
    if c.method not in CONTROLS:
        strangers = c.strangers if make_method(c.method, **c.settings).unlabelled else None
        named, default = preset("testbed", "method", c.method), vars(make_method(c.method))
        settings = {k: v for k, v in c.settings.items() if k in named or v != default[k]}
    if c.method in CONTROLS:
        c = replace(c, requests=0, teacher="vanilla")
    retain_only = c.retain_only if model_names.needs_retain_only(c) else None
    return replace(c, settings=settings, retain_only=retain_only, strangers=strangers)


def load_model_and_task(c: Configuration) -> tuple[Loaded, Split, Configuration]:
    """Model and task of a run, and its configuration with the identities of both.

    The benchmark comes first: it is smaller, and a wrong name is more often its.
    """
    benchmark = load_benchmark(c.benchmark, c.data_revision)
    split = pose_task(benchmark, c)
    if (
        c.model.startswith("testbed/")
        and c.method != "base"
        and Path(c.benchmark).name.partition("-")[0] != benchmark.schema
    ):
        raise ValueError(
            f"benchmark {c.benchmark} has the schema {benchmark.schema}: an embedded model is chosen by the "
            f"last name of its benchmark, so rename the folder to {benchmark.schema}, or name your own model"
        )
    strangers = read_strangers(c.strangers) if c.strangers else {}
    check_strangers(strangers, (*benchmark.people.values(), *benchmark.real, *benchmark.world))
    loaded = model_names.load_starting_model(c)
    reference = reference_model(c)
    c = replace(
        c,
        schema=benchmark.schema,
        data=benchmark.hash,
        strangers_data=strangers_hash(strangers) if strangers else None,
        weights=weights_hash(loaded.model.state_dict()),
        # Whoever edits a folder's processor makes another model of it.
        processor=processor_hash(loaded.name) if Path(loaded.name).is_dir() else None,
        reference_weights=files_hash(reference) if reference else None,
    )
    return loaded, split, c


def pose_task(benchmark: Benchmark, c: Configuration) -> Split:
    """Who is to be forgotten and retained.

    Raises:
        ValueError: the benchmark has no such ratio or draw, no questions of these kinds, or nobody whom
            every draw retains.
    """
    split = benchmark.split(c.forget_ratio, 0 if c.select else c.draw)
    split = split.for_selection(c.draw) if c.select else split
    reported = split.reported()
    if not any(person.questions for person in reported["retain"]):
        raise ValueError(
            f"{c.benchmark} asks nothing about people whom every draw retains: {len(split.retain)} are "
            f"retained in this one, and each is for selection ({len(split.selection)}), forgotten in another "
            f"draw or at another ratio ({len(split.candidates)}), or without questions. Add people with "
            "questions, or forget fewer"
        )
    people = [person for group in reported.values() for person in group]
    kinds = sorted({question.kind for person in people for question in person.questions})
    if not set(kinds) & set(c.kinds):
        raise ValueError(
            f"{c.benchmark} has no questions of kinds {list(c.kinds)}; it has: {', '.join(kinds)}"
        )
    return split


@contextlib.contextmanager
def open_together(experiment: str, c: Configuration) -> Iterator[Run]:
    """`open_run` in the first process; the others wait for it to have written the run."""
    if processes.rank_and_size()[0] == 0:
        with open_run(experiment, c) as this:
            yield this
    else:
        yield Run(experiment, c, paths.runs())
    processes.broadcast(None)


def unlearn_model(this: Run, loaded: Loaded, split: Split, machine: Machine) -> dict:
    """Unlearn in place.

    Returns:
        history, report (with the "seconds" of the training, since its last checkpoint), delta and steps, as
        `Run.finish` takes them.
    """
    c = this.configuration
    reference = reference_model(c)
    method = make_method(c.method, **c.settings | ({"reference": reference} if reference else {}))
    scope = set(method.scope(loaded).values())
    before = {n: p.detach().cpu().clone() for n, p in loaded.model.named_parameters() if p in scope}
    strangers = read_strangers(c.strangers) if c.strangers else {}
    tasks = make_tasks(loaded, split, c.qa_image, method.views, tuple(strangers.values()))
    regime = make_training(**c.training)
    steps = regime.steps(len(tasks.forget_vqa)) if method.trains and regime.stop_at is None else None
    arguments = c.training | {"seed": c.seed, "folder": this.partial}
    arguments |= {"micro_batch": machine.micro_batch, "checkpointing": machine.checkpointing}
    start = time.perf_counter()
    with enough_memory("training", "micro_batch"):
        history, report = unlearn(loaded, tasks, method, **arguments)
    report = report | {"seconds": time.perf_counter() - start}
    delta = changed_weights(loaded, before)
    return {"history": history, "report": report, "delta": delta, "steps": steps}


def unlearn_series(this: Run, loaded: Loaded, split: Split, machine: Machine) -> dict:
    """Unlearn in place, request by request; a series that was killed goes on.

    Returns:
        history (what each request spent, see `unlearn_requests`), report ("steps" and "seconds" of all
        requests together), delta, and "series": multiple choice before the first request and after each, see
        `series_predictions`.
    """
    c, folder = this.configuration, this.partial / "series"
    reference = reference_model(c)
    method = make_method(c.method, **c.settings | ({"reference": reference} if reference else {}))
    scope = set(method.scope(loaded).values())
    before = {n: p.detach().cpu().clone() for n, p in loaded.model.named_parameters() if p in scope}
    strangers = read_strangers(c.strangers) if c.strangers else {}
    rows, spent = unlearn_requests(
        loaded,
        split,
        method,
        make_requests(split.forget, c.requests),
        teacher=c.teacher,
        unlabelled=tuple(strangers.values()),
        folder=folder,
        evaluation={"kinds": ["classification"], "batch_size": machine.evaluation_batch},
        **c.training | {"seed": c.seed, "micro_batch": machine.micro_batch},
    )
    report, delta = spent[["steps", "seconds"]].sum().to_dict(), changed_weights(loaded, before)
    shutil.rmtree(folder)
    history = spent.to_dict("records")
    return {"history": history, "report": report, "delta": delta, "series": series_predictions(rows)}


def ask_model(loaded: Loaded, split: Split, c: Configuration, machine: Machine) -> pd.DataFrame:
    """The answers to all questions, see `evaluate`. Of samples, a row a question and k: its kind is "leak@k",
    its score the probability that k answers hold the secret."""
    options = {name: getattr(c, name) for name in ("kinds", "protocol", "letters", "max_new_tokens", "way")}
    options |= {"batch_size": machine.evaluation_batch}
    with enough_memory("evaluation", "evaluation_batch"):
        answers = evaluate(loaded, split, **options)
        if not c.samples:
            return answers
        options = {name: options[name] for name in ("max_new_tokens", "way", "batch_size")}
        samples = sample_answers(loaded, split, kinds=["cloze"], count=c.samples, **options)
    leaks = [leak_scores(samples, k).assign(kind=f"leak@{k}") for k in COUNTS if k <= c.samples]
    return pd.concat([answers, *leaks], ignore_index=True)


def ask_attacked(loaded: Loaded, split: Split, c: Configuration, machine: Machine) -> pd.DataFrame:
    """The answers under attack, see `attack_model`."""
    vanilla = functools.partial(
        model_names.load_starting_model, replace(c, method="vanilla", settings={}, training={})
    )
    with enough_memory("the attack", "evaluation_batch"):
        return attack_model(c, loaded, vanilla, split, machine.evaluation_batch)


@contextlib.contextmanager
def enough_memory(work: str, field: str) -> Iterator[None]:
    """Within: running out of memory names the parameter to lower.

    Args:
        work: what is done, for the message.
        field: parameter that makes it need less.
    Raises:
        MemoryError: torch could not allocate, on the GPU or on the CPU.
    """
    try:
        yield
    except RuntimeError as error:
        gpu = isinstance(error, torch.OutOfMemoryError)
        if not gpu and "can't allocate memory" not in str(error):
            raise
        place = "GPU" if gpu else "machine"
        raise MemoryError(f"{work} does not fit into the memory of the {place}: lower {field}") from error


def load_unlearned(run: Run) -> Loaded:
    """The model a run ended with: its vanilla model and the changed weights.

    Raises:
        RunError: the run, or the one that unlearned its model, is not whole.
    """
    c = run.configuration
    if c.method not in CONTROLS:
        run = replace(run, configuration=c.usual)
    loaded = model_names.load_starting_model(c)
    run.check()
    delta = run.folder / "delta.safetensors"
    if delta.exists():
        apply_delta(loaded, delta)
    return loaded


def run_together(*arguments) -> Run:
    """`run(*arguments)` in one of the processes that a launcher of accelerate started."""
    processes.join_group()
    return run(*arguments)


def read_run_file(file: Path | str) -> tuple[str, Configuration, Machine, bool]:
    """Arguments of `run` from a YAML file: `experiment`, `gate`, fields of `Configuration` and `Machine`.

    Raises:
        ValueError: one line that names the file: a field is missing, not known, or has a value that is not
            allowed.
    """
    values = {"gate": True} | read_yaml(file)
    with blame_file(file):
        check_names("a run", values, ["experiment", *vars(Configuration()), *vars(Machine()), "gate"])
        if "experiment" not in values:
            raise ValueError("experiment is missing: name the folder that keeps the run")
        experiment, gate = values.pop("experiment"), values.pop("gate")
        machine = Machine(**{name: values.pop(name) for name in vars(Machine()) if name in values})
        c = Configuration(**values)
        check_run(experiment, c, gate)
    return experiment, c, machine, gate
