"""Tables of text as Markdown, LaTeX and HTML."""

import pandas as pd

NOT_SIGNIFICANT, OVER_FORGOTTEN = "≈", "↓"
LATEX = {
    "_": r"\_", "%": r"\%", "&": r"\&", "±": r"$\pm$", "β": r"$\beta$",
    NOT_SIGNIFICANT: r"$^{\approx}$", OVER_FORGOTTEN: r"$^{\downarrow}$",
}  # fmt: skip


def markdown(table: pd.DataFrame) -> str:
    """A GitHub table."""
    columns = [table.index.name or "", *map(str, table.columns)]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join([str(i), *map(str, row)]) + " |" for i, row in zip(table.index, table.values)]
    return "\n".join(lines)


def html(table: pd.DataFrame, title: str = "") -> str:
    """An HTML table below its title; what is bold stays bold."""
    bold = table.astype(str).replace(r"\*\*(.*?)\*\*", r"<b>\1</b>", regex=True)
    return (f"<h4>{title}</h4>" if title else "") + bold.to_html(escape=False, border=0)


def latex(table: pd.DataFrame, caption: str = "") -> str:
    """A LaTeX table as wide as the text, in the style of booktabs (packages booktabs and graphicx)."""
    escaped = table.reset_index(names=table.index.name or "").astype(str)
    escaped.columns = [_escape(c) for c in escaped.columns]
    rows = escaped.map(_escape).to_latex(index=False, escape=False)
    title = f"\\caption{{{_escape(caption)}}}\n" if caption else ""
    return f"\\begin{{table}}\n{title}\\resizebox{{\\textwidth}}{{!}}{{%\n{rows}}}\n\\end{{table}}\n"


def _escape(text: str) -> str:
    """Text with LaTeX's commands for signs, and for bold where the text begins with it."""
    for sign, command in LATEX.items():
        text = text.replace(sign, command)
    if text.startswith("**"):
        return r"\textbf{" + text.replace("**", "", 1).replace("**", "}", 1)
    return text
