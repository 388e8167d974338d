"""Records -> tables of text, with N and interval beside every number."""

from collections.abc import Collection, Mapping

import pandas as pd

from vkdlib.experiments.start import AS_THEY_ARE
from vkdlib.reports.columns import BALANCE, CHANCE, FACES, LOWER, six_columns
from vkdlib.reports.published import published

PRINTED = {"Vanilla": "vanilla", "MMU": "MMUnlearner", "Ours": "VKD"}  # the paper's names -> ours
NOT_SIGNIFICANT, OVER_FORGOTTEN = "≈", "↓"


def table_1(records: pd.DataFrame) -> pd.DataFrame:
    """The six columns of the VKD paper's Table 1: value [95 % interval], N in the title.

    Accuracy in per cent; for CLEAR's questions in text ROUGE-L F from 0 to 1.

    Args:
        records: rows in the layout of figures/data, one benchmark, one seed a method.
    Returns:
        one row a method, in the order of the records.
    """
    table = {}
    for title, rows in six_columns(records).items():
        cells = rows.set_index("method")
        if cells.index.has_duplicates:
            raise ValueError(f"{title}: several rows for one method; pass the records of one seed")
        n = "/".join(map(str, sorted(cells.n.unique())))
        table[f"{title} (N={n})"] = cells.apply(cell, axis=1)
    return pd.DataFrame(table).reindex(records.method.unique())


def cell(row: pd.Series) -> str:
    """A value with its interval, as "28.0 [17.5, 41.7]"; three decimals from 0 to 1."""
    places = 1 if row.metric == "accuracy" else 3
    return f"{row.value:.{places}f} [{row.low:.{places}f}, {row.high:.{places}f}]"


def main_table(
    records: pd.DataFrame, p: pd.DataFrame | None = None, over_forgotten: Collection[str] = ()
) -> pd.DataFrame:
    """Table 1 over seeds: "18.7 [10.3, 31.5] ±2.3" is the mean over seeds, the mean of the seeds' 95 %
    intervals (how much the questions leave open) and the seeds' standard deviation (what chance in training
    does).

    As in the paper, the best unlearning method of a column is bold: the lowest forget VQA, the highest of
    all else. But forgetting more than a model that never saw the faces is no success: forget VQA of the rows
    that are named is marked OVER_FORGOTTEN, and not bold.

    Args:
        records: rows in the layout of figures/data of one model, benchmark and forget ratio.
        p: from `compare.differences`, of VKD and each other method: its rows with p_holm of 0.05 and more
            are marked NOT_SIGNIFICANT in the other method's cell.
        over_forgotten: methods that `claims.below` finds, as in figures/data/<record>_quality.csv.
    Returns:
        a row "chance" (of multiple choice), then one row a method, in the order of the records; N in the
        titles.
    Raises:
        ValueError: several models, benchmarks or forget ratios, or several rows of a method and seed;
            or `p` is of others.
    """
    for column in ("model", "benchmark", "forget_ratio"):
        if records[column].nunique() > 1:
            raise ValueError(f"records of several {column}s: {', '.join(map(str, records[column].unique()))}")
        if p is not None and column in p and set(p[column]) != set(records[column]):
            raise ValueError(f"p is of another {column}: {', '.join(map(str, p[column].unique()))}")
    noise = set()
    if p is not None:
        even = p[p.p_holm >= 0.05]
        noise = {tuple(row) for row in even[["other", "set", "modality", "kind"]].itertuples(index=False)}
    table = {}
    for title, rows in six_columns(records).items():
        if rows.duplicated(["method", "seed"]).any():
            raise ValueError(f"{title}: several rows for one method and seed; pass those of one setting")
        one = rows.iloc[0]
        places = 1 if one.metric == "accuracy" else 3
        by_method = rows.groupby("method", sort=False)
        means = by_method[["value", "low", "high"]].mean()
        unlearned = means.value.round(places).drop(AS_THEY_ARE, errors="ignore")  # as equal as they look
        over = set(over_forgotten) - set(AS_THEY_ARE) if title == LOWER else set()
        eligible = unlearned.drop(over, errors="ignore")
        best = eligible.min() if title == LOWER else eligible.max()
        cells = {"chance": f"{CHANCE:.1f}" if one.metric == "accuracy" else ""}
        for method, mean in means.iterrows():
            text = cell(pd.Series({**mean, "metric": one.metric}))
            if by_method.seed.nunique()[method] > 1:
                text += f" ±{by_method.value.std()[method]:.{places}f}"
            if method in eligible and eligible[method] == best:
                text = f"**{text}**"
            text += OVER_FORGOTTEN * (method in over)
            cells[method] = text + NOT_SIGNIFICANT * ((method, one.set, one.modality, one.kind) in noise)
        table[f"{title} (N={'/'.join(map(str, sorted(rows.n.unique())))})"] = pd.Series(cells)
    return pd.DataFrame(table).reindex(["chance", *records.method.unique()])


def published_table_1(model: str, benchmark: str) -> pd.DataFrame:
    """Table 1 as the VKD paper prints it, under our names of methods and columns, for showing beside ours.

    Args:
        model: "LLaVA-1.5-7B" or "Qwen2-VL-7B".
        benchmark: "MLLMU-Bench" or "CLEAR".
    """
    cells = published("vkd", 1).query("model == @model and benchmark == @benchmark")
    if cells.empty:
        raise ValueError(f"Table 1 has no {model} on {benchmark}")
    return _printed(cells, clear=benchmark == "CLEAR")


def published_table_3() -> pd.DataFrame:
    """Table 3 (LLaVA-1.5-7B on MLLMU-Bench) as the VKD paper prints it, like `published_table_1`."""
    return _printed(published("vkd", 3))


def _printed(cells: pd.DataFrame, clear: bool = False) -> pd.DataFrame:
    """One row a method, under our names of methods and columns (CLEAR has its own, see
    `metrics.six_columns`)."""
    titles = cells.set.replace("real", "real-world").str.capitalize() + " " + cells.modality.str.upper()
    if clear:
        titles = titles.replace({"Real-world VQA": "Real world", "Real-world QA": "Real faces"})
    cells = cells.assign(title=titles, method=cells.method.replace(PRINTED))
    wide = cells.pivot(index="method", columns="title", values="value")
    return wide.loc[cells.method.unique(), cells.title.unique()]


def beside_published(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Our table with the paper's number, marked as published, after each of our columns.

    Args:
        ours: from `main_table`; its titles begin with those of `theirs`.
        theirs: from `published_table_1`.
    """
    table = {}
    for title in ours:
        table[title] = ours[title]
        plain = title.split(" (N=")[0]
        if plain in theirs:
            table[f"{plain}, published"] = theirs[plain].reindex(ours.index).fillna("")
    return pd.DataFrame(table)


def over_seeds(records: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean, smallest and largest value over seeds, and how many seeds there are.

    Args:
        by: columns that tell cells apart, for example ["forget_ratio", "method", "set", "modality"].
    """
    found = records.groupby(by, sort=False).value.agg(["mean", "min", "max", "count"])
    return found.rename(columns={"count": "seeds"}).reset_index()


def curves(records: pd.DataFrame, x: str) -> pd.DataFrame:
    """The six columns of Table 1 at each value of a setting: mean over seeds (lowest-highest).

    Args:
        records: rows in the layout of figures/data, one model and benchmark.
        x: column with the setting's value.
    Returns:
        one row a value, in the order of the records; N in the titles.
    """
    table = {}
    for title, rows in six_columns(records).items():
        of = over_seeds(rows, [x])
        fine, rough = (".1f", ".0f") if (rows.metric == "accuracy").all() else (".3f", ".3f")
        cells = [f"{m:{fine}} ({a:{rough}}-{b:{rough}})" for m, a, b in zip(of["mean"], of["min"], of["max"])]
        table[f"{title} (N={rows.n.iloc[0]})"] = pd.Series(cells, of[x].map("{:g}".format))
    return pd.DataFrame(table)


def markdown(table: pd.DataFrame) -> str:
    """A GitHub table."""
    columns = [table.index.name or "", *map(str, table.columns)]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join([str(i), *map(str, row)]) + " |" for i, row in zip(table.index, table.values)]
    return "\n".join(lines)


def claims(
    judged: pd.DataFrame, printed: Mapping[tuple[str, str], pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Claims to be read: one row a test, those of a claim together, with the paper's words, what was
    measured, and the verdict.

    Args:
        judged: rows of figures/data/claims.csv, from `claims.judge` (differences of two rows of a table, in
            points) or from `curves.judge_curves` (a statistic of a curve).
        printed: model and benchmark -> the paper's table (`published_table_1`): its own difference of the two
            rows stands in a column "published".
    """
    judged = pd.concat([judged[judged.claim == claim] for claim in judged.claim.unique()])
    shown = judged[["claim", "source", "model", "benchmark", "column"]].copy()
    for where in ("model", "benchmark"):
        shown[where] = shown[where].str.removeprefix("testbed/")
    tested = judged.p_holm.notna() & (judged.differ > 0)
    measured, p = [], judged.p_holm.map("{:.2g}".format).where(tested, "")
    for row in judged.itertuples():
        if pd.isna(getattr(row, "difference", None)):
            change = getattr(row, "change", None)
            ends = "" if pd.isna(change) else f"{change:+.1f} from first to last; "
            measured.append(f"{ends}{row.test}: {row.statistic:.3g}")
        else:
            gap = f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
            measured.append(f"{row.ours} - {row.other}: {gap}")
    over = judged.get("over_forgotten", pd.Series("", judged.index)).fillna("")
    asked = judged.n.map("{:.0f}".format).where(judged.n.notna(), "")
    shown = shown.assign(measured=measured, N=asked, p=p)
    if printed is not None:
        shown.insert(5, "published", [_printed_difference(row, printed) for row in judged.itertuples()])
    shown["verdict"] = judged.verdict.where(over == "", judged.verdict + "; over-forgotten: " + over)
    again = shown.duplicated(["claim", "source"])
    shown[["claim", "source"]] = shown[["claim", "source"]].mask(again, "")
    return shown.set_index("claim")


def _printed_difference(row, printed: Mapping[tuple[str, str], pd.DataFrame]) -> str:
    """The difference of a claim's two rows as the paper prints them, in points; "" where it does not."""
    table = printed.get((row.model, row.benchmark))
    if table is None or not {row.ours, row.other} <= set(table.index):
        return ""
    gap = table.loc[row.ours].astype(float) - table.loc[row.other].astype(float)
    if "Real world" in gap:  # CLEAR's questions in text are judged by ROUGE-L
        gap[["Forget QA", "Retain QA"]] *= 100
    gap[BALANCE] = gap.reindex(FACES).mean() - gap[LOWER]
    return f"{gap[row.column]:+.1f}"


def latex(table: pd.DataFrame, caption: str = "") -> str:
    """A LaTeX table as wide as the text, in the style of booktabs (packages booktabs and graphicx)."""
    escaped = table.reset_index(names=table.index.name or "").astype(str)
    escaped.columns = [_escape(c) for c in escaped.columns]
    rows = escaped.map(_escape).to_latex(index=False, escape=False)
    title = f"\\caption{{{_escape(caption)}}}\n" if caption else ""
    return f"\\begin{{table}}\n{title}\\resizebox{{\\textwidth}}{{!}}{{%\n{rows}}}\n\\end{{table}}\n"


def _escape(text: str) -> str:
    signs = {"_": r"\_", "%": r"\%", "&": r"\&", "±": r"$\pm$", "β": r"$\beta$"}
    signs |= {NOT_SIGNIFICANT: r"$^{\approx}$", OVER_FORGOTTEN: r"$^{\downarrow}$"}
    for sign, command in signs.items():
        text = text.replace(sign, command)
    bold = text.startswith("**")
    return r"\textbf{" + text.replace("**", "", 1).replace("**", "}", 1) if bold else text


def html(table: pd.DataFrame) -> str:
    """An HTML table; what is bold stays bold."""
    shown = table.astype(str).replace(r"\*\*(.*?)\*\*", r"<b>\1</b>", regex=True)
    return shown.to_html(escape=False, border=0)
