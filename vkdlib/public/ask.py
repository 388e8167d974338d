"""Ask a model, or the model that a run ended with, anything about any picture."""

import functools
from collections.abc import Sequence
from pathlib import Path

import PIL.Image

from vkdlib.benchmarks.pictures import open_image, to_png
from vkdlib.benchmarks.schema import MAX_NEW_TOKENS
from vkdlib.evaluation.evaluate import generate
from vkdlib.experiments.pipeline import load_unlearned
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import load
from vkdlib.runs.run_folder import Run
from vkdlib.runs.store import read_run
from vkdlib.system import checks

Model = Loaded | Run | str | Path
Picture = str | Path | bytes | PIL.Image.Image | None


def ask(
    model: Model,
    picture: Picture | Sequence[Picture],
    question: str | Sequence[str],
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> str | list[str]:
    """The greedy answer to a question about a picture, in the model's own words.

    Args:
        model: a loaded model, a finished run, or a name that `load` takes. The last model that was named, or
            whose run was given, stays in memory.
        picture: path or bytes of a PNG or JPEG file, or a PIL image; None asks in text alone. A list asks
            about each of them.
        question: a list asks each of them: of one picture, or each of its own.
        max_new_tokens: of an answer.
    Returns:
        the answer; a list of answers where a list was given.
    Raises:
        FileNotFoundError: there is no such picture, model or run.
        ValueError: a picture cannot be decoded, lists are not equally long, or a question is no text.
    """
    max_new_tokens = checks.whole_number("max_new_tokens", max_new_tokens, 1)
    lists = [value for value in (picture, question) if isinstance(value, list | tuple)]
    if {len(value) for value in lists} == {0} or len({len(value) for value in lists}) > 1:
        lengths = " and ".join(str(len(value)) for value in lists)
        raise ValueError(f"picture and question are lists of {lengths}; they must be equally long, 1 or more")
    count = len(lists[0]) if lists else 1
    pictures, questions = (
        list(value) if isinstance(value, list | tuple) else [value] * count for value in (picture, question)
    )
    for text in questions:
        checks.text("question", text)
    images = [picture_bytes(value) for value in pictures]
    loaded = model_of(model)
    answers = [
        generate(loaded, [text], image and [image], max_new_tokens)[0]
        for text, image in zip(questions, images)
    ]
    return answers if lists else answers[0]


def picture_bytes(picture: Picture) -> bytes | None:
    """The file of a picture, which can be decoded; None stays None.

    Raises:
        FileNotFoundError, ValueError: see `ask`.
    """
    if picture is None:
        return None
    if isinstance(picture, PIL.Image.Image):
        return to_png(picture.convert("RGBA") if picture.has_transparency_data else picture.convert("RGB"))
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
