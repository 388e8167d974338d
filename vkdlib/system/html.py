"""Tables as HTML: no row is wrapped, numbers stand below each other, intervals are in smaller type."""

import html
import re
from collections.abc import Sequence
from itertools import zip_longest

import pandas as pd

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# As " [9.8, 30.8] ±2.1" and " (4.0 to 9.3)".
INTERVAL = re.compile(r" (\[-?[\d.]+, -?[\d.]+\](?: ±[\d.]+)?|\(-?[\d.]+ to -?[\d.]+\))")
BOLD = re.compile(r"\*\*(.*?)\*\*")
# Characters that are in no text stand for tags until everything else is escaped.
TAGS = {"\ue000": "<b>", "\ue001": "</b>", "\ue002": "<small>", "\ue003": "</small>", "\ue004": ""}
EDGE = "\ue004"  # pandas strips the blanks at the edges of a cell
# Blanks as wide as a digit, and as a full stop; and one at which no line ends.
FIGURE_SPACE, STOP_SPACE, NO_BREAK = "\u2007", "\u2008", "\u00a0"
NONE = "–"  # stands where there is no number
STYLE = """<style>
table.vkdlib { font-variant-numeric: tabular-nums }
table.vkdlib td, table.vkdlib th { text-align: right; white-space: nowrap }
table.vkdlib thead th { white-space: normal; vertical-align: bottom }
</style>
"""


def table_html(table: pd.DataFrame, title: str = "", index: bool = True) -> str:
    """A table below its title.

    Args:
        table: of numbers, or of texts such as "**28.0 [17.5, 41.7] ±2.3**", whose asterisks mean bold.
        index: whether the names of its rows are shown.
    """
    cells = table.apply(lambda column: _cells(column) if column.dtype == object else column)
    with pd.option_context("display.max_colwidth", None):  # else long texts are cut off
        rows = cells.to_html(border=0, classes="vkdlib", na_rep=NONE, index=index)
    for character, tag in TAGS.items():
        rows = rows.replace(character, tag)
    return STYLE + (f"<h4>{html.escape(title)}</h4>" if title else "") + rows


def _cells(column: pd.Series) -> pd.Series:
    """A column with characters for tags; if one of its texts holds an interval, in texts below each other."""
    words = column.map(lambda value: isinstance(value, str))  # (rows,)
    shown = column.astype(object)
    shown[words] = [_tagged(text) for text in column[words]]
    if any(map(INTERVAL.search, column[words])):
        numbers = words & column.astype(str).str.match(r"\**-?\d")  # (rows,)
        shown[numbers] = align(list(shown[numbers]))
    return shown


def _tagged(text: str) -> str:
    return INTERVAL.sub(f"{NO_BREAK}\ue002\\1\ue003", BOLD.sub("\ue000\\1\ue001", text))


def align(texts: Sequence[str]) -> list[str]:
    """Texts in which the first, second, … numbers take the same room, and which are all equally long."""
    numbers = [NUMBER.findall(text) for text in texts]
    widths = [max(map(len, group)) for group in zip_longest(*numbers, fillvalue="")]
    padded = [_pad_numbers(text, widths) for text in texts]
    plain = ["".join(character for character in text if character not in TAGS) for text in padded]
    longest = max(plain, key=len)
    rests = [longest[len(text) :] for text in plain]
    return [f"{EDGE}{text}\ue002{_blanks(rest)}\ue003" for text, rest in zip(padded, rests)]


def _blanks(text: str) -> str:
    """Blanks about as wide as a text of numbers in brackets."""
    wide = {character: FIGURE_SPACE for character in text if character.isalnum() or character in "±≈↓"}
    wide |= {character: NO_BREAK for character in text if character.isspace()}
    return "".join(wide.get(character, STOP_SPACE) for character in text)


def _pad_numbers(text: str, widths: Sequence[int]) -> str:
    width = iter(widths)
    return NUMBER.sub(lambda number: number[0].rjust(next(width), FIGURE_SPACE), text)
