"""Tables of text as Markdown, LaTeX and HTML."""

import re

import pandas as pd

from vkdlib.reports.columns import LABELS

NOT_SIGNIFICANT, OVER_FORGOTTEN = "≈", "↓"
LATEX = str.maketrans(LABELS["latex"])
BOLD = re.compile(r"\*\*(.*?)\*\*")


def markdown(table: pd.DataFrame) -> str:
    """A GitHub table."""
    lines = [[table.index.name or "", *table.columns], *table.reset_index().to_numpy()]
    rows = ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    rows.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join(rows)


def html(table: pd.DataFrame, title: str = "") -> str:
    """An HTML table below its title; what is bold stays bold."""
    bold = table.astype(str).replace(BOLD, r"<b>\1</b>", regex=True)
    return (f"<h4>{title}</h4>" if title else "") + bold.to_html(escape=False, border=0)


def latex(table: pd.DataFrame, caption: str = "") -> str:
    """A LaTeX table as wide as the text, in the style of booktabs (packages booktabs and graphicx)."""
    escaped = table.reset_index(names=table.index.name or "").astype(str).rename(columns=_escape)
    rows = escaped.map(_escape).to_latex(index=False, escape=False)
    title = f"\\caption{{{_escape(caption)}}}\n" if caption else ""
    return f"\\begin{{table}}\n{title}\\resizebox{{\\textwidth}}{{!}}{{%\n{rows}}}\n\\end{{table}}\n"


def _escape(text: str) -> str:
    """Text with LaTeX's commands for signs and for bold."""
    return BOLD.sub(r"\\textbf{\1}", text.translate(LATEX))
