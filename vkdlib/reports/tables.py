"""Records -> tables of text, with N and interval beside every number."""

from collections.abc import Collection, Sequence

import pandas as pd

from vkdlib.experiments.model_names import CONTROLS
from vkdlib.reports.columns import MEASURED, NAMES, Column, record_columns
from vkdlib.reports.rendering import NOT_SIGNIFICANT, OVER_FORGOTTEN


def seed_table(records: pd.DataFrame, table: str = "vkd 1") -> pd.DataFrame:
    """A table of one seed: value [95 % interval], N in the titles.

    Args:
        records: rows in the layout of figures/data, one benchmark, one seed a method.
        table: paper and number, as in paper/columns.yaml.
    Returns:
        one row a method, in the order of the records; accuracies in per cent, ROUGE-L from 0 to 1.
    """
    cells = {}
    for column in record_columns(records, table):
        rows = column.row_of_each(records, ["method"]).set_index("method")
        cells[column.heading(rows)] = _intervals(column, rows)
    return pd.DataFrame(cells).reindex(records.method.unique())


def main_table(
    records: pd.DataFrame,
    tests: pd.DataFrame | None = None,
    over_forgotten: Collection[str] = (),
    table: str = "vkd 1",
) -> pd.DataFrame:
    """A table over seeds. "18.7 [10.3, 31.5] ±2.3" is the mean over seeds, the mean of the seeds' 95 %
    intervals (how much the questions leave open) and the seeds' standard deviation (what chance in training
    does).

    As in the paper, the best unlearning method of a column is bold. But to forget more than a model that
    never saw the faces is no success: the methods in `over_forgotten` are marked OVER_FORGOTTEN where less
    is better, and are not bold there.

    Args:
        records: rows in the layout of figures/data of one model, benchmark and forget ratio.
        tests: from `compare.differences`, of one method minus each other: where p_holm is 0.05 or more, the
            other method's cell is marked NOT_SIGNIFICANT.
        over_forgotten: methods that over-forget (`claims.over_forgets`), as in
            figures/data/<record>_quality.csv.
        table: paper and number, as in paper/columns.yaml.
    Returns:
        a row "chance" (of multiple choice), then one row a method, in the order of the records; N in the
        titles.
    Raises:
        ValueError: several models, benchmarks or forget ratios, or several rows of a method and seed;
            or the tests are of others.
    """
    _check_one_task(records, tests)
    cells = {}
    for column in record_columns(records, table):
        rows = column.row_of_each(records, ["method", "seed"])
        ties = () if tests is None else set(column.about(tests).query("p_holm >= 0.05").other)
        cells[column.heading(rows)] = _main_cells(column, rows, over_forgotten, ties)
    return pd.DataFrame(cells).reindex(["chance", *records.method.unique()])


def _check_one_task(records: pd.DataFrame, tests: pd.DataFrame | None) -> None:
    """Raise ValueError unless records and tests are of one model, benchmark and forget ratio."""
    fields = ["model", "benchmark", "forget_ratio"]
    for field, values in pd.concat([records, tests]).filter(fields).items():
        if len(names := values.dropna().unique()) > 1:
            raise ValueError(f"records and tests of several {field}s: {', '.join(f'{n}' for n in names)}")


def _main_cells(
    column: Column, rows: pd.DataFrame, over_forgotten: Collection[str], ties: Collection[str]
) -> pd.Series:
    """The cells of a column of `main_table`, by method; `ties`: whose difference may be noise."""
    over = set(over_forgotten) - set(CONTROLS) if column.less else set()
    seeds = rows.groupby("method", sort=False)
    means = seeds[MEASURED].mean()
    deviations = number_texts(seeds.value.std(), f" ±{{:.{column.decimals}f}}")
    texts = _intervals(column, means) + deviations
    rivals = means.value.drop(over | set(CONTROLS), errors="ignore").round(column.decimals)
    best = rivals.index[rivals == (rivals.min() if column.less else rivals.max())]  # equal if they look so
    texts[best] = "**" + texts[best] + "**"
    texts[texts.index.isin(over)] += OVER_FORGOTTEN
    texts[texts.index.isin(ties)] += NOT_SIGNIFICANT
    return pd.concat([number_texts(pd.Series({"chance": column.chance}, dtype=float), "{:.1f}"), texts])


def _intervals(column: Column, rows: pd.DataFrame) -> pd.Series:
    """Values with their intervals, as "28.0 [17.5, 41.7]"."""
    texts = rows[MEASURED].map(f"{{:.{column.decimals}f}}".format)
    return texts.value + " [" + texts.low + ", " + texts.high + "]"


def add_paper_numbers(ours: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Our table with the paper's number, marked as published, after each of our columns.

    Args:
        ours: from `main_table`; its titles begin with those of `published`.
        published: from `published.published_table`.
    """
    columns = {}
    for heading in ours:
        columns[heading] = ours[heading]
        title = heading.split(" (N=")[0]
        if title in published:
            columns[f"{title}, published"] = published[title].reindex(ours.index).fillna("")
    return pd.DataFrame(columns)


def curve_table(records: pd.DataFrame, x: str, table: str = "vkd 1") -> pd.DataFrame:
    """The columns of a table at each value of a setting: mean over seeds (lowest-highest).

    Args:
        records: rows in the layout of figures/data, one model and benchmark.
        x: column with the setting's value; rows without one are left out.
        table: paper and number, as in paper/columns.yaml.
    Returns:
        one row a value, in the order of the records; N in the titles.
    """
    cells, records = {}, records.dropna(subset=[x])
    for column in record_columns(records, table):
        rows = column.rows(records)
        fine, rough = (".1f", ".0f") if column.metric == "accuracy" else (".3f", ".3f")
        cells[column.heading(rows)] = {
            f"{value:g}": f"{seeds.mean():{fine}} ({seeds.min():{rough}}-{seeds.max():{rough}})"
            for value, seeds in rows.groupby(x, sort=False).value
        }
    return pd.DataFrame(cells).rename_axis(x)


def evidence(cases: pd.DataFrame) -> pd.DataFrame:
    """What stands behind each verdict, one row a case, the cases of a claim together: what was measured (in
    points; of "best at" the setting's value; of a slope also the change of the line) with its 95 % interval;
    Holm's p; questions, people and runs. "–" stands where there is none.

    Args:
        cases: rows of figures/data/claims.csv, from `claims.judge`; with a column "published", the paper's
            own difference of the two rows stands beside ours.
    """
    cases = sort_rows(cases, "claim", cases.claim.unique())
    test = cases.test.str.split(",").str[0]
    line = "last − first (line: " + cases.statistic.map("{:.3g}".format) + ")"
    test = test.mask(test == "slope", line)
    number = cases.difference.fillna(cases.change).fillna(cases.statistic).round(9)
    low, high = (number_texts(cases[end], "{:.1f}") for end in ("low", "high"))
    rows = cases.ours.astype(str) + " − " + cases.other.astype(str)
    runs = cases.runs_ours + " " + cases.runs_other.fillna("")
    numbers = {
        "what": test.where(cases.difference.isna(), rows),
        "measured": number.map("{:.3g}".format),
        "95 % interval": ("[" + low + ", " + high + "]").where(cases.low.notna(), ""),
        "published": cases.get("published"),
        "p": number_texts(cases.p_holm.where(cases.differ > 0), "{:.2g}"),
        "N": number_texts(cases.n, "{:.0f}"),
        "people": number_texts(cases.people, "{:.0f}"),
        "runs": runs.map(lambda hashes: len(set(hashes.split()))),
    }
    table = cases[["claim", "source", "model", "benchmark", "column"]].replace(NAMES)
    table = table.assign(**{name: values for name, values in numbers.items() if values is not None})
    table = table.replace("", "–").assign(verdict=cases.verdict)
    table["over-forgotten"] = cases.over_forgotten
    repeated = table.duplicated(["claim", "source"])
    table[["claim", "source"]] = table[["claim", "source"]].mask(repeated, "")
    return table.set_index("claim")


def sort_rows(table: pd.DataFrame, column: str, values: Sequence[str]) -> pd.DataFrame:
    """The rows that have one of the values in a column, in the order of the values."""
    rows = table[table[column].isin(values)]
    return rows.sort_values(column, key=lambda names: names.map(list(values).index), kind="stable")


def number_texts(numbers: pd.Series, form: str) -> pd.Series:
    """Numbers as text; "" where there is none."""
    return numbers.map(form.format, na_action="ignore").fillna("")
