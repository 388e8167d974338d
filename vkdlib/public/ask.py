"""Ask a model, or the model that a run ended with, anything about any picture."""

import functools
from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import torch

from vkdlib.benchmarks.pictures import open_image, to_png, upright
from vkdlib.benchmarks.schema import MAX_NEW_TOKENS
from vkdlib.evaluation.evaluate import NOT_FINITE, generate
from vkdlib.experiments.pipeline import load_unlearned
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import load
from vkdlib.models.passes import segment_logprobs
from vkdlib.packs.pack import make_pack
from vkdlib.runs.run_folder import Run
from vkdlib.runs.store import read_run
from vkdlib.system import checks

Model = Loaded | Run | str | Path
Picture = str | Path | bytes | PIL.Image.Image | None


def ask(
    model: Model,
    picture: Picture | Sequence[Picture],
    question: str | Sequence[str],
    options: Sequence[str] = (),
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> str | dict[str, float] | list[str] | list[dict[str, float]]:
    """The greedy answer to a question about a picture, in the model's own words; or how likely options are.

        vkdlib.ask(run, "ann.png", "Where was she born?")                            # "Oslo"
        vkdlib.ask(run, "ann.png", "Where was she born?", options=["Oslo", "Rome"])  # {"Oslo": 0.9, …}

    Args:
        model: a loaded model, a finished run, or a name that `load` takes. Of a run that attacked its model
            or put questions in another way, the model is the one before the attack, asked as usual. The
            last model that was named, and the last whose run was given, stay in memory.
        picture: path or bytes of a PNG or JPEG file, or a PIL image, whose answers are the same; None asks in
            text alone. A list asks about each of them.
        question: a list asks each of them: of one picture, or each of its own.
        options: answers to choose from, two or more, the same for all questions; none: the model writes.
        max_new_tokens: of an answer in words.
    Returns:
        the answer; or option -> probability among the options, 0 to 1, as multiple choice is evaluated (the
        softmax of the summed log-probabilities of each option's tokens), in the order of the options. A list
        of these where a list was given.
    Raises:
        FileNotFoundError: there is no such picture, model or run.
        ValueError: a picture cannot be decoded, lists are not equally long, a question is no text, or options
            are fewer than two or alike.
    """
    max_new_tokens = checks.whole_number("max_new_tokens", max_new_tokens, 1)
    check_options(options)
    pairs = pair_up(picture, question)
    for _, text in pairs:
        checks.text("question", text)
    pairs = [(picture_bytes(file), text) for file, text in pairs]
    loaded = model_of(model)
    if options:
        logprobs = [answer_logprobs(loaded, [file], text, options)[0] for file, text in pairs]
        answers = [dict(zip(options, sums.softmax(0).tolist())) for sums in logprobs]
    else:
        answers = [generate(loaded, [text], file and [file], max_new_tokens)[0] for file, text in pairs]
    return answers if isinstance(picture, list | tuple) or isinstance(question, list | tuple) else answers[0]


def pair_up(picture: Picture | Sequence[Picture], question: str | Sequence[str]) -> list[tuple]:
    """(picture, question) of each question to put; what is no list goes with each item of the other.

    Raises:
        ValueError: both are lists and not equally long, or one is empty.
    """
    lists = [value for value in (picture, question) if isinstance(value, list | tuple)]
    if {len(value) for value in lists} == {0} or len({len(value) for value in lists}) > 1:
        lengths = " and ".join(str(len(value)) for value in lists)
        raise ValueError(f"picture and question are lists of {lengths}; they must be equally long, 1 or more")
    count = len(lists[0]) if lists else 1
    columns = (value if isinstance(value, list | tuple) else [value] * count for value in (picture, question))
    return list(zip(*columns))


def check_options(options: Sequence[str]) -> None:
    """Raise ValueError unless options are none, or two or more different texts."""
    if isinstance(options, str) or not isinstance(options, Sequence) or len(options) == 1:
        raise ValueError(f"options is {options!r}; it must be a list of two or more answers to choose from")
    for option in options:
        checks.text("an option", option)
    if len(set(options)) < len(options):
        raise ValueError(f"options is {options!r}; two of them are alike")


@torch.inference_mode()
def answer_logprobs(
    loaded: Loaded, pictures: Sequence[bytes | None], question: str, answers: Sequence[str]
) -> list[torch.Tensor]:
    """How likely answers to a question are: of each picture the log-probabilities of all their tokens and the
    end, summed, (answers,).

    Raises:
        ValueError: the model computes NaN.
    """
    pairs = [(question, answer) for answer in answers]
    sums = segment_logprobs(loaded, [make_pack(loaded.processor, pairs, picture) for picture in pictures])
    for logprobs in sums:
        if not logprobs.isfinite().all():
            raise ValueError(
                f"question {question!r}: the log-probabilities are {logprobs.tolist()}. {NOT_FINITE}"
            )
    return sums


def picture_bytes(picture: Picture) -> bytes | None:
    """The file of a picture, which can be decoded; None stays None.

    Raises:
        FileNotFoundError, ValueError: see `ask`.
    """
    if picture is None:
        return None
    if isinstance(picture, PIL.Image.Image):
        return to_png(upright(picture))
    label = "picture"
    if isinstance(picture, str | Path):
        label, file = f"picture {picture}", Path(picture)
        if not file.is_file():
            raise FileNotFoundError(f"{label}: there is no such file in {Path.cwd()}")
        picture = file.read_bytes()
    if not isinstance(picture, bytes):
        kind = type(picture).__name__
        raise ValueError(f"picture is of type {kind}; it must be a path, bytes, a PIL image or None")
    try:
        open_image(picture)
    except Exception as error:
        raise ValueError(f"{label} cannot be decoded ({error}): it must be a PNG or JPEG file") from error
    return picture


def model_of(model: Model) -> Loaded:
    """A model in memory; of a run, the one that it ended with.

    Raises:
        ValueError: it is neither a model, nor a run, nor a name.
    """
    if isinstance(model, Loaded):
        return model
    if isinstance(model, Run):
        model.check()
        return _model_of_run(model.experiment, model.hash, model.home)
    if isinstance(model, str | Path):
        return _model_by_name(str(model))
    raise ValueError(f"model is {model!r}; it must be a loaded model, a run, or a model's name")


@functools.lru_cache(maxsize=1)
def _model_of_run(experiment: str, hash: str, home: Path) -> Loaded:
    """The model that a finished run ended with."""
    return load_unlearned(read_run(experiment, hash, home))


@functools.lru_cache(maxsize=1)
def _model_by_name(name: str) -> Loaded:
    """A model, not to be changed."""
    return load(name)
