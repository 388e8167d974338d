"""The progress bar of all long work: rate and remaining time. VKDLIB_PROGRESS=0 hides it."""

import os
from collections.abc import Iterable


def hides_bars() -> bool:
    """Whether VKDLIB_PROGRESS=0 in the environment hides all bars."""
    return os.environ.get("VKDLIB_PROGRESS", "1") == "0"


def bar(items: Iterable, description: str, **options) -> Iterable:
    """Wrap `items` in a progress bar for a terminal or a notebook.

    `disable` is passed to tqdm because bars in notebooks ignore tqdm's own switch.
    """
    from tqdm.auto import tqdm

    return tqdm(items, desc=description, disable=hides_bars(), leave=False, **options)


def silence_transformers() -> None:
    """Hide the bars that transformers shows while it reads weights, if all bars are hidden."""
    if hides_bars():
        from transformers.utils import logging

        logging.disable_progress_bar()
