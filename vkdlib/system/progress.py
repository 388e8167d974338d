"""One progress bar for all long work: rate and remaining time, silent when told so."""

import os
from collections.abc import Iterable


def silent() -> bool:
    """VKDLIB_PROGRESS=0 in the environment silences every bar."""
    return os.environ.get("VKDLIB_PROGRESS", "1") == "0"


def bar(items: Iterable, description: str, **options) -> Iterable:
    """Wrap `items` in a progress bar for a terminal or a notebook.

    That it is silent is passed on explicitly, because notebook bars ignore tqdm's own switch.
    """
    from tqdm.auto import tqdm

    return tqdm(items, desc=description, disable=silent(), leave=False, **options)


def silence_transformers() -> None:
    """Do without the bars that transformers shows while weights are downloaded and read, when told so."""
    if silent():
        from transformers.utils import logging

        logging.disable_progress_bar()
