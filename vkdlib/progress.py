"""One progress bar for all long work: rate and remaining time, silent when told so."""

import os
from collections.abc import Iterable


def bar(items: Iterable, description: str, **options) -> Iterable:
    """Wrap `items` in a progress bar for a terminal or a notebook.

    VKDLIB_PROGRESS=0 in the environment silences every bar. It is passed on explicitly, because
    notebook bars ignore tqdm's own switch.
    """
    from tqdm.auto import tqdm

    silent = os.environ.get("VKDLIB_PROGRESS", "1") == "0"
    return tqdm(items, desc=description, disable=silent, leave=False, **options)
