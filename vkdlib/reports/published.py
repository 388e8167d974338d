"""The two papers' published numbers: every cell of every table, as it is printed.

Each number was read twice, independently, and both readings were the same. Nothing is corrected: what looks
like a slip is what `audit` is for. `condition` tells rows of one method apart (epochs of an attack, with and
without an attack, what is trained); `value` is text, because the printed digits matter; empty cells of
`model`, `benchmark` and `forget_ratio` are not stated with the table.
"""

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "paper"
PAPERS = {
    "vkd": "Robust MLLM Unlearning via Visual Knowledge Distillation",
    "vgid": "VGID, Visual-Noise Guided In-Context Distillation",
}


def published(paper: str | None = None, table: int | None = None) -> pd.DataFrame:
    """Published cells: columns paper, table, model, benchmark, forget_ratio, method, condition, set,
    modality, kind, metric, value, spread, all text, and `number`, the value as a float (NaN for words).

    Args:
        paper: "vkd" or "vgid"; None: both.
        table: its number; None: all.
    Raises:
        ValueError: there is no such paper or table.
    """
    cells = pd.read_csv(FOLDER / "published.csv", dtype=str, keep_default_na=False)
    cells["number"] = pd.to_numeric(cells.value, errors="coerce")
    for column, wanted in (("paper", paper), ("table", table)):
        if wanted is not None:
            known = sorted(cells[column].unique())
            cells = cells[cells[column] == str(wanted)]
            if cells.empty:
                raise ValueError(f"{column} is {wanted!r}; there are: {', '.join(known)}")
    return cells.reset_index(drop=True)
