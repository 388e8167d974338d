"""The papers' models and benchmarks, as far as they are known without a download (`published.yaml`)."""

import functools
import math
from pathlib import Path

import torch
import yaml

from vkdlib import paths
from vkdlib.families import family_of
from vkdlib.memory import parts
from vkdlib.models import Loaded

GB = 1e9


@functools.cache
def published() -> dict:
    """The papers' models and benchmarks."""
    return yaml.safe_load((paths.PACKAGE / "published.yaml").read_text())


def without_weights(name: str, revision: str | None = None) -> Loaded:
    """A model as it is, but on the meta device: parameters have shapes and no values.

    Args:
        name: one of the papers' checkpoints, or anything that `loading.load` takes.
        revision: commit on the Hub; the papers' checkpoints are known without.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    from vkdlib.loading import model_folder

    if name in published()["models"]:
        config = AutoConfig.for_model(**published()["models"][name])
    else:
        folder = model_folder(name, revision)
        config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
    with torch.device("meta"):  # in fp32, as `loading.load` reads it, whatever the files have
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    return Loaded(model, None, family_of(config), name)


def far(what: str, name: str) -> bool:
    """Whether it is a published model or benchmark, and no folder here has its name."""
    return name in published()[what] and not Path(name).is_dir()


def downloads(
    model: str, benchmark: str, revision: str | None, data_revision: str | None
) -> list[tuple[str, float, str]]:
    """What has to be downloaded, of which commit: (what, size, unit), as far as sizes are known."""
    rows = []
    if far("models", model):
        size = 2 * sum(parts(without_weights(model)).values())
        rows += [(f"{model}, {_commit(revision)}", round(size / GB, 1), "GB")]
    if far("benchmarks", benchmark):
        sizes = published()["benchmarks"][benchmark].get("bytes", {})
        rows += [(f"{benchmark}, {name}", size / GB, "GB") for name, size in sizes.items()]
        rows += [(f"{benchmark}, the rest, {_commit(data_revision)}", math.nan, "GB, not published")]
    return rows


def _commit(revision: str | None) -> str:
    return f"revision {revision}" if revision else "newest revision: name one"
