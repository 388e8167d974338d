"""What a run has to download, as far as sizes were published."""

import math
from collections.abc import Collection
from pathlib import Path

from vkdlib.models.dimensions import dimensions, meta_model
from vkdlib.plan.memory import count_parameters
from vkdlib.system import paths
from vkdlib.system.files import read_yaml

GB = 1e9
Row = tuple[str, str, float, str]  # of a plan: part, item, value, unit
BENCHMARKS = read_yaml(paths.PACKAGE / "plan" / "benchmarks.yaml")


def to_download(published: Collection[str], name: str) -> bool:
    """Whether a name is one of the published ones and no folder of that name is here."""
    return name in published and not Path(name).is_dir()


def downloads(model: str, benchmark: str, revision: str | None, data_revision: str | None) -> list[Row]:
    """Rows of a plan: what has to be downloaded, and of which commit."""
    rows = []
    if to_download(dimensions(), model):
        size = 2 * sum(count_parameters(meta_model(model)).values())  # in half precision
        rows += [(f"{model}, {_commit(revision)}", round(size / GB, 1), "GB")]
    if to_download(BENCHMARKS, benchmark):
        sizes = BENCHMARKS[benchmark].get("bytes", {})
        rows += [(f"{benchmark}, {name}", size / GB, "GB") for name, size in sizes.items()]
        rows += [(f"{benchmark}, the rest, {_commit(data_revision)}", math.nan, "GB, not published")]
    return [("download", *row) for row in rows]


def _commit(revision: str | None) -> str:
    return f"revision {revision}" if revision else "newest revision: name one"
