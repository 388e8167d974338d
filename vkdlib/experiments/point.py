"""One point of an experiment: load, unlearn (or not), evaluate, keep.

On several GPUs: `accelerate launch -m vkdlib.experiments point.yaml`, with the arguments of `run` in the
file. Each process holds the model; batches and questions are shared out.
"""

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.schema import KINDS, Split
from vkdlib.evaluation.evaluate import MAX_NEW_TOKENS, evaluate
from vkdlib.experiments.gate import look
from vkdlib.experiments.presets import preset
from vkdlib.experiments.start import REFERENCES, load_start, needs_retain_only, reference
from vkdlib.methods import make_method
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.models.loading import files_hash, settings_hash
from vkdlib.models.passes import check_training_dtype
from vkdlib.runs.deltas import apply_delta, changed_weights
from vkdlib.runs.run import Run
from vkdlib.runs.store import open_run
from vkdlib.system import paths, processes
from vkdlib.tasks import make_tasks
from vkdlib.unlearn import unlearn

FULL = {"dtype": "float32", "quantise": None}


def run(
    experiment: str,
    *,
    model: str = "testbed/llava",
    benchmark: str = "testbed/mllmu",
    forget_ratio: int = 5,
    method: str = "VKD",
    settings: dict | None = None,
    training: dict | None = None,
    qa_image: str | None = None,
    seed: int = 0,
    select: bool = False,
    draw: int = 0,
    revision: str | None = None,
    data_revision: str | None = None,
    precision: dict | None = None,
    max_pixels: int | None = None,
    retain_only: str | None = None,
    kinds: Sequence[str] = KINDS,
    protocol: str = "likelihood",
    max_new_tokens: int = MAX_NEW_TOKENS,
    micro_batch: int | None = None,
    checkpointing: bool = False,
    evaluation_batch: int = 64,
    gate: bool = True,
) -> Run:
    """Do one run, or find it if it was done before.

    Args:
        method: one of REFERENCES, or of `methods.METHODS`.
        settings: of the method, for example {"beta": 0}.
        training: arguments of `unlearn.unlearn`: epochs, lr, batch_size, retain_batch and so on.
        select: pose the task on selection people, to choose settings, instead of the reported ones.
        draw: which of the selection people to forget, see `Split.for_selection`.
        revision, data_revision: commits of model and benchmark on the Hub; None takes the newest.
        precision: how the model is loaded, {"dtype": "bfloat16", "quantise": "nf4"}; None: in full.
        max_pixels: of a picture, see `loading.load`.
        max_new_tokens: of an answer in words, see `evaluate.evaluate`.
        retain_only: name of the retain-only model beside `model`: the row "retain-only", NPO's reference, and
            what the gate compares with. None: the embedded one. A part of what makes a run that needs it.
        micro_batch, checkpointing, evaluation_batch: what fits the machine (see `unlearn`, `evaluate`); no
            result depends on it but by rounding, and they are no part of what makes the run.
        gate: whether to refuse to unlearn a model that has not memorised the faces (see `gate.look`); the
            embedded ones have. No part of what makes the run either.
    """
    if select and method == "retain-only":
        raise ValueError("retain-only hides the reported forget people, not the selection people")
    if method not in REFERENCES:
        check_training_dtype((precision or {}).get("dtype", "float32"))
    config = {
        "model": model,
        "benchmark": benchmark,
        "forget_ratio": forget_ratio,
        "method": method,
        "settings": named_settings(method, settings or {}),
        "training": training or {},
        "qa_image": qa_image,
        "seed": seed,
        "select": select,
        "draw": draw,
        "kinds": list(kinds),
        "protocol": protocol,
    }
    config |= _unusual(
        revision=revision,
        data_revision=data_revision,
        precision=precision if FULL | (precision or {}) != FULL else None,
        max_pixels=max_pixels,
        max_new_tokens=max_new_tokens if max_new_tokens != MAX_NEW_TOKENS else None,
        retain_only=retain_only if needs_retain_only(config) else None,
    )
    if gate and method not in REFERENCES and not model.startswith("testbed/"):
        look(functools.partial(run, experiment, evaluation_batch=evaluation_batch), config, retain_only)
    loaded, split = _start(config)
    with _open(experiment, config) as this:
        if not processes.from_first(this.done):
            fits = {"micro_batch": micro_batch, "checkpointing": checkpointing}
            _compute(this, loaded, split, evaluation_batch, **fits)
    return this


def named_settings(method: str, settings: dict) -> dict:
    """Settings as a configuration names them: without those that are the method's own and that no preset
    gives it, so that who spells them out finds the same run."""
    if method in REFERENCES:
        return settings
    given, own = preset("testbed", "method", method), vars(make_method(method))
    return {k: v for k, v in settings.items() if k in given or k not in own or v != own[k]}


def _unusual(**given) -> dict:
    """What was given: a configuration names what is not as usual, so that new arguments rename no old run."""
    return {name: value for name, value in given.items() if value is not None}


def _start(config: dict) -> tuple[Loaded, Split]:
    """Model and task of a run; the hashes of data and models are added to its configuration."""
    loaded = load_start(config)
    data = load_benchmark(config["benchmark"], config.get("data_revision"))
    config |= {"data": data.hash, "weights": weights_hash(loaded.model.state_dict())}
    if Path(loaded.name).is_dir():  # who edits its processor makes another model of it
        config["processor"] = settings_hash(loaded.name)
    if compared := reference(config):
        config["reference"] = files_hash(compared)
    split = data.split(config["forget_ratio"])
    return loaded, split.for_selection(config["draw"]) if config["select"] else split


def launched(point: dict) -> Run:
    """`run(**point)` in a process that a launcher of accelerate started."""
    processes.start()
    return run(**point)


@contextlib.contextmanager
def _open(experiment: str, config: dict) -> Iterator[Run]:
    """`open_run` in the first process; the others wait for it to have written the run."""
    if processes.processes()[0] == 0:
        with open_run(experiment, config) as this:
            yield this
    else:
        yield Run(experiment, json.loads(json.dumps(config)), paths.runs())
    processes.from_first(None)


def _compute(run: Run, loaded: Loaded, split: Split, evaluation_batch: int, **fits) -> None:
    """Unlearn, unless the method is a reference; evaluate; write the run."""
    c = run.config
    history, report, delta = [], {}, None
    if c["method"] not in REFERENCES:
        compared = {"reference": reference(c)} if reference(c) else {}
        chosen = make_method(c["method"], **c["settings"] | compared)
        scope = set(chosen.scope(loaded).values())
        trained = {n: p for n, p in loaded.model.named_parameters() if p in scope}
        before = {n: p.detach().cpu().clone() for n, p in trained.items()}
        tasks = make_tasks(loaded, split, c["qa_image"])
        with enough_memory("training", "micro_batch"):
            history, report = unlearn(
                loaded,
                tasks,
                chosen,
                seed=c["seed"],
                folder=run.partial,
                **c["training"],
                **fits,
            )
        delta = changed_weights(loaded, before)
    with enough_memory("evaluation", "evaluation_batch"):
        predictions = evaluate(
            loaded,
            split,
            kinds=c["kinds"],
            protocol=c["protocol"],
            way=REFERENCES.get(c["method"], "shown"),
            batch_size=evaluation_batch,
            max_new_tokens=c.get("max_new_tokens", MAX_NEW_TOKENS),
        )
    if processes.processes()[0] == 0:
        run.finish(predictions, history, report, delta, c["weights"])


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
    """The model a run ended with: its vanilla model and the changed weights."""
    loaded = load_start(run.config)
    run.check()
    delta = run.folder / "delta.safetensors"
    if delta.exists():
        apply_delta(loaded, delta)
    return loaded
