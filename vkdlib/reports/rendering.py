"""Tables of text as Markdown and LaTeX, and as a notebook shows them; and warnings."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator

import pandas as pd

from vkdlib.reports.columns import LABELS
from vkdlib.system.html import BOLD, table_html

NOT_SIGNIFICANT, OVER_FORGOTTEN = "≈", "↓"
LATEX = str.maketrans(LABELS["latex"])


def markdown(table: pd.DataFrame) -> str:
    """A GitHub table."""
    lines = [[table.index.name or "", *table.columns], *table.reset_index().to_numpy()]
    rows = ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    rows.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join(rows)


class Tables:
    """Tables as a notebook shows them: as HTML to people, as text to those who compare its outputs.

    Args:
        tables: (title, table) each; "" is no title.
        index: whether the names of rows are shown.
    """

    def __init__(self, tables: Iterable[tuple[str, pd.DataFrame]], index: bool = True):
        self.tables, self.index = list(tables), index

    def _repr_html_(self) -> str:
        return "".join(table_html(table, title, self.index) for title, table in self.tables)

    def __repr__(self) -> str:
        parts = (f"{title}\n{table.to_string(index=self.index)}" for title, table in self.tables)
        return "\n\n".join(part.strip("\n") for part in parts)


def show(table: pd.DataFrame | pd.Series, title: str = "", index: bool = True) -> None:
    """Show a table in a notebook, see `Tables`."""
    from IPython.display import display

    display(Tables([(title, pd.DataFrame(table))], index))


@contextlib.contextmanager
def printed_warnings() -> Iterator[None]:
    """Within: what a user is warned of is printed once, without its place in the code, so that it stays among
    a notebook's results."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for message in dict.fromkeys(str(warning.message) for warning in said):
                print(f"Note: {message}")


def latex(table: pd.DataFrame, caption: str = "") -> str:
    """A LaTeX table as wide as the text, in the style of booktabs (packages booktabs and graphicx)."""
    escaped = table.reset_index(names=table.index.name or "").astype(str).rename(columns=_escape)
    rows = escaped.map(_escape).to_latex(index=False, escape=False)
    title = f"\\caption{{{_escape(caption)}}}\n" if caption else ""
    return f"\\begin{{table}}\n{title}\\resizebox{{\\textwidth}}{{!}}{{%\n{rows}}}\n\\end{{table}}\n"


def _escape(text: str) -> str:
    """Text with LaTeX's commands for signs and for bold."""
    return BOLD.sub(r"\\textbf{\1}", text.translate(LATEX))
