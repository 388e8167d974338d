"""What is known of the papers' checkpoints without a download (`dimensions.yaml`)."""

import functools

import torch

from vkdlib.models.families import family_of
from vkdlib.models.loaded import Loaded
from vkdlib.system import paths
from vkdlib.system.files import read_yaml


@functools.cache
def dimensions() -> dict[str, dict]:
    """The papers' checkpoints: name on the Hub -> configuration."""
    return read_yaml(paths.PACKAGE / "models" / "dimensions.yaml")


def meta_model(name: str, revision: str | None = None) -> Loaded:
    """A model as it is, but on the meta device: parameters have shapes and no values.

    Args:
        name: one of the papers' checkpoints, or anything that `loading.load` takes.
        revision: commit on the Hub; the papers' checkpoints are known without.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    from vkdlib.models.folders import model_folder

    if name in dimensions():
        config = AutoConfig.for_model(**dimensions()[name])
    else:
        folder = model_folder(name, revision)
        config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
    with torch.device("meta"):  # in fp32, as `loading.load` reads it, whatever the files have
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    return Loaded(model, None, family_of(config), name)
