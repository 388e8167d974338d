"""Records -> tables of text, with N and interval beside every number."""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from vkdlib.experiments.model_names import CONTROLS
from vkdlib.reports.columns import MEASURED, Column, record_columns
from vkdlib.reports.paper.published import published_difference
from vkdlib.reports.rendering import NOT_SIGNIFICANT, OVER_FORGOTTEN

# Model and benchmark -> the paper's table, as `published_table` has it, and its columns.
Published = Mapping[tuple[str, str], tuple[pd.DataFrame, Sequence[Column]]]


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
        rows = column.rows(records).set_index("method")
        if rows.index.has_duplicates:
            raise ValueError(f"{column.title}: several rows for one method; pass the records of one seed")
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
        rows = column.rows(records)
        ties = () if tests is None else set(column.about(tests).query("p_holm >= 0.05").other)
        cells[column.heading(rows)] = _main_cells(column, rows, over_forgotten, ties)
    return pd.DataFrame(cells).reindex(["chance", *records.method.unique()])


def _check_one_task(records: pd.DataFrame, tests: pd.DataFrame | None) -> None:
    """Raise ValueError unless records and tests are of one model, benchmark and forget ratio."""
    for field in ("model", "benchmark", "forget_ratio"):
        values = records[field].unique()
        if len(values) > 1:
            raise ValueError(f"records of several {field}s: {', '.join(map(str, values))}")
        if tests is not None and field in tests and set(tests[field]) != set(values):
            others = ", ".join(map(str, tests[field].unique()))
            raise ValueError(f"the tests are of another {field} than the records: {others}")


def _main_cells(
    column: Column, rows: pd.DataFrame, over_forgotten: Collection[str], ties: Collection[str]
) -> pd.Series:
    """The cells of a column of `main_table`, by method; `ties`: whose difference may be noise."""
    if rows.duplicated(["method", "seed"]).any():
        raise ValueError(f"{column.title}: several rows for one method and seed; pass those of one setting")
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


def beside_published(ours: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
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


def seed_ranges(records: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean, smallest and largest value over seeds, and how many seeds there are.

    Args:
        by: columns that tell cells apart, for example ["forget_ratio", "method", "set", "modality"].
    """
    ranges = records.groupby(list(by), sort=False).value.agg(["mean", "min", "max", "count"])
    return ranges.rename(columns={"count": "seeds"}).reset_index()


def curve_table(records: pd.DataFrame, x: str, table: str = "vkd 1") -> pd.DataFrame:
    """The columns of a table at each value of a setting: mean over seeds (lowest-highest).

    Args:
        records: rows in the layout of figures/data, one model and benchmark.
        x: column with the setting's value.
        table: paper and number, as in paper/columns.yaml.
    Returns:
        one row a value, in the order of the records; N in the titles.
    """
    cells = {}
    for column in record_columns(records, table):
        rows = column.rows(records)
        fine, rough = (".1f", ".0f") if column.metric == "accuracy" else (".3f", ".3f")
        cells[column.heading(rows)] = {
            f"{value:g}": f"{seeds.mean():{fine}} ({seeds.min():{rough}}-{seeds.max():{rough}})"
            for value, seeds in rows.groupby(x, sort=False).value
        }
    return pd.DataFrame(cells).rename_axis(x)


def claim_table(judged: pd.DataFrame, published: Published | None = None) -> pd.DataFrame:
    """Claims to be read: one row a test, those of a claim together, with the paper's words, what was
    measured, and the verdict.

    Args:
        judged: rows of figures/data/claims.csv, from `claims.judge_table` (differences of two rows of a
            table, in points) or from `curves.judge_curves` (a statistic of a curve).
        published: the paper's own difference of the two rows stands in a column "published".
    """
    judged = in_order(judged, "claim", judged.claim.unique())
    rows = judged.to_dict("records")
    table = judged[["claim", "source", "model", "benchmark", "column"]].copy()
    for field in ("model", "benchmark"):
        table[field] = table[field].str.removeprefix("testbed/")
    if published is not None:
        table["published"] = [_published_difference(row, published) for row in rows]
    table["measured"] = [_measurement(row) for row in rows]
    table["N"] = number_texts(judged.n, "{:.0f}")
    table["p"] = number_texts(judged.p_holm.where(judged.differ > 0), "{:.2g}")
    over = judged.get("over_forgotten", pd.Series("", judged.index)).fillna("")
    table["verdict"] = judged.verdict.where(over == "", judged.verdict + "; over-forgotten: " + over)
    repeated = table.duplicated(["claim", "source"])
    table[["claim", "source"]] = table[["claim", "source"]].mask(repeated, "")
    return table.set_index("claim")


def in_order(table: pd.DataFrame, column: str, values: Sequence[str]) -> pd.DataFrame:
    """The rows that have one of the values in a column, in the order of the values."""
    rows = table[table[column].isin(values)]
    return rows.sort_values(column, key=lambda names: names.map(list(values).index), kind="stable")


def number_texts(numbers: pd.Series, form: str) -> pd.Series:
    """Numbers as text; "" where there is none."""
    return numbers.map(form.format, na_action="ignore").fillna("")


def _measurement(row: dict) -> str:
    """What a test measured: a difference of two rows with its interval, or a statistic of a curve."""
    if pd.notna(row.get("difference")):
        interval = f"[{row['low']:+.1f}, {row['high']:+.1f}]"
        return f"{row['ours']} - {row['other']}: {row['difference']:+.1f} {interval}"
    statistic = f"{row['test']}: {row['statistic']:.3g}"
    if pd.notna(row.get("change")):
        return f"{row['change']:+.1f} from first to last; {statistic}"
    return statistic


def _published_difference(row: dict, published: Published) -> str:
    """The difference of a claim's two rows as the paper prints them, in points; "" where it does not."""
    table, columns = published.get((row["model"], row["benchmark"]), (pd.DataFrame(), []))
    if not {row["ours"], row["other"]} <= set(table.index):
        return ""
    return f"{published_difference(table, columns, row['ours'], row['other'])[row['column']]:+.1f}"
