"""Records -> tables of text, with N and interval beside every number."""

from collections.abc import Sequence

import pandas as pd

from vkdlib.evaluation.compare import MARGIN, add_holm, differences
from vkdlib.evaluation.ways import CHANGES
from vkdlib.experiments.model_names import IDEALS
from vkdlib.reports.columns import (
    MEASURED,
    NAMES,
    Column,
    benchmark_names,
    is_control,
    record_columns,
)
from vkdlib.reports.rendering import NOT_SIGNIFICANT, OVER_FORGOTTEN
from vkdlib.runs.run_folder import Run
from vkdlib.system.checks import check_names

AS_IT_IS = "as it is"  # column of `change_table` for what was not changed
SMALLEST = "smallest difference"  # row of `main_table`
SAME_QUESTIONS = ("data", "forget_ratio", "draw", "select", "way", "protocol", "letters", "max_new_tokens")


def seed_table(records: pd.DataFrame, table: str = "vkd 1") -> pd.DataFrame:
    """A table of one run a method: value [95 % interval], N and people in the titles.

    Args:
        records: rows in the layout of figures/data, one benchmark, one run a method.
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
    numbers: pd.DataFrame, tests: pd.DataFrame | None = None, table: str = "vkd 1"
) -> pd.DataFrame:
    """A table over draws. "18.7 [10.3, 31.5] ±2.3" is the value over all answers of a row's runs, its 95 %
    interval with people as units, and the standard deviation of the runs' own values.

    As in the paper, the best unlearning method of a column is bold. But to forget more than a model that
    never saw the faces is no success: where a method over-forgets, it is marked OVER_FORGOTTEN and not bold.

    Args:
        numbers: from `answers.table_numbers`, of one model, benchmark and forget ratio.
        tests: from `answers.rival_tests`, of one method minus each other: where p_holm is 0.05 or more, the
            other method's cell is marked NOT_SIGNIFICANT.
        table: paper and number, as in paper/columns.yaml.
    Returns:
        a row "chance" (of multiple choice), then one row a method, in the order of the numbers; with tests
        also SMALLEST: the difference from another method that would have been found with 80 % power, in the
        column's unit, as the median over methods and their range. N, people and runs in the titles.
    Raises:
        ValueError: several models, benchmarks or forget ratios, or several rows of a method; or the tests are
            of others.
    """
    _check_one_task(numbers, tests)
    cells = {}
    for column in record_columns(numbers, table):
        rows = column.row_of_each(numbers, ["method"]).set_index("method")
        cells[column.heading(rows)] = _main_cells(column, rows, None if tests is None else column.rows(tests))
    last = [] if tests is None else [SMALLEST]
    return pd.DataFrame(cells).reindex(["chance", *numbers.method.unique(), *last]).fillna("")


def change_table(numbers: pd.DataFrame, title: str, table: str) -> pd.DataFrame:
    """One column of a table as a grid: a row a method, a column for each change that was made to its model or
    its questions. Of "VKD, int8" the change is "int8".

    Args:
        numbers: from `answers.table_numbers`, of one model, benchmark and forget ratio.
        title: of the column.
        table: paper and number, as in paper/columns.yaml.
    Returns:
        cells as "18.7 [10.3, 31.5]", with OVER_FORGOTTEN where it is said; "" where no row is.
    Raises:
        ValueError: the numbers have no such column.
    """
    columns = {column.title: column for column in record_columns(numbers, table)}
    check_names(f"the table {table}", [title], columns)
    rows = columns[title].row_of_each(numbers, ["method"])
    names = rows.method.str.partition(", ")
    marks = rows.over_forgotten.astype(bool).map({True: OVER_FORGOTTEN, False: ""})
    cells = _intervals(columns[title], rows) + marks
    grid = pd.DataFrame({"method": names[0], "change": names[2].replace("", AS_IT_IS), "cell": cells})
    wide = grid.pivot(index="method", columns="change", values="cell")
    return wide.loc[grid.method.unique(), grid.change.unique()].fillna("").rename_axis(columns=None)


def style_numbers(numbers: pd.DataFrame, group: str) -> pd.DataFrame:
    """VQA on unseen pictures by method and style.

    Args:
        numbers: from `answers.table_numbers`, of one model, benchmark and forget ratio.
        group: "Forget" or "Retain".
    Returns:
        methods down; ("value", style) in per cent, ("text", style) with its interval; AS_IT_IS comes first.
    """
    parts = {}
    for column in record_columns(numbers, "vkd views"):
        if column.title.startswith(group):
            style = column.kind.removeprefix("classification").removeprefix(", ") or AS_IT_IS
            rows = column.row_of_each(numbers, ["method"]).set_index("method")
            parts["value", style], parts["text", style] = rows.value, _intervals(column, rows)
    return pd.DataFrame(parts).reindex(numbers.method.unique())


def _check_one_task(records: pd.DataFrame, tests: pd.DataFrame | None) -> None:
    """Raise ValueError unless records and tests are of one model, benchmark and forget ratio."""
    fields = ["model", "benchmark", "forget_ratio"]
    for field, values in pd.concat([records, tests]).filter(fields).items():
        if len(names := values.dropna().unique()) > 1:
            raise ValueError(f"records and tests of several {field}s: {', '.join(f'{n}' for n in names)}")


def _main_cells(column: Column, rows: pd.DataFrame, tests: pd.DataFrame | None) -> pd.Series:
    """The cells of a column of `main_table`, by method."""
    over = rows.index[rows.over_forgotten.astype(bool)] if "over_forgotten" in rows else rows.index[:0]
    texts = _intervals(column, rows)
    if "deviation" in rows:
        texts += number_texts(rows.deviation, f" ±{{:.{column.decimals}f}}")
    if not column.is_rate:
        rivals = rows.value.drop([*over, *filter(is_control, rows.index)]).round(column.decimals)
        best = rivals.index[
            rivals == (rivals.min() if column.less else rivals.max())
        ]  # equal if they look so
        texts[best] = "**" + texts[best] + "**"
    texts[over] += OVER_FORGOTTEN
    if tests is not None:
        texts[texts.index.isin(tests.query("p_holm >= 0.05").other)] += NOT_SIGNIFICANT
        texts[SMALLEST] = _smallest(column, tests)
    return pd.concat([number_texts(pd.Series({"chance": column.chance}, dtype=float), "{:.1f}"), texts])


def _smallest(column: Column, tests: pd.DataFrame) -> str:
    """The smallest differences of some tests, as "6.1 (4.0 to 9.3)"; "" where no answer differs."""
    sizes = tests.smallest[tests.differ > 0].dropna() / column.scale
    if sizes.empty:
        return ""
    low, middle, high = (f"{size:.{column.decimals}f}" for size in (sizes.min(), sizes.median(), sizes.max()))
    return f"{middle} ({low} to {high})" if len(sizes) > 1 else middle


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


def curve_table(numbers: pd.DataFrame, x: str, table: str = "vkd 1") -> pd.DataFrame:
    """The columns of a table at each value of a setting, each with its 95 % interval.

    Args:
        numbers: from `answers.table_numbers`, of one model and benchmark.
        x: column with the setting's value; rows without one are left out.
        table: paper and number, as in paper/columns.yaml.
    Returns:
        one row a value, ascending; N, people and runs in the titles.
    """
    cells, numbers = {}, numbers.dropna(subset=[x]).sort_values(x)
    for column in record_columns(numbers, table):
        rows = column.row_of_each(numbers, [x]).set_index(x)
        cells[column.heading(rows)] = _intervals(column, rows)
    return pd.DataFrame(cells).rename("{:g}".format).rename_axis(x)


def reductions(forget: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """How far each row of a table is below vanilla in a column of what is to be forgotten, and what it has in
    one of what is to be kept, in points.

    Args:
        forget, kept: MEASURED in points, by row of the table.
    Returns:
        by row: ("reduction", ...) and ("kept", ...) with MEASURED; the ends are those of the row's own value.
    Raises:
        ValueError: there is no vanilla, which the others are below.
    """
    check_names("what is to be forgotten", ["vanilla"], forget.index)
    below = forget.value["vanilla"] - forget[MEASURED]
    below = below.rename(columns={"low": "high", "high": "low"})[MEASURED]
    return pd.concat({"reduction": below, "kept": kept[MEASURED]}, axis=1, join="inner")


def pattern_distances(
    numbers: pd.DataFrame, published: pd.DataFrame, row: str, table: str = "vgid 3"
) -> pd.Series:
    """How far the pattern of each of our rows is from a published one. A pattern is the change from vanilla
    in every column that the paper prints, as a share of vanilla's value; the distance is the mean difference
    of these shares, in per cent.

    Args:
        numbers: from `answers.table_numbers`, of one model, benchmark and forget ratio.
        published: the paper's table, from `published.published_table`.
        row: of the published table.
    Returns:
        row of our table -> distance, ascending, without vanilla.
    """
    columns = [column for column in record_columns(numbers, table) if column.title in published]
    ours = pd.DataFrame(
        {c.title: c.row_of_each(numbers, ["method"]).set_index("method").value for c in columns}
    )
    theirs = published[list(ours)].astype(float)
    gaps = 100 * (ours / ours.loc["vanilla"] - theirs.loc[row] / theirs.loc["vanilla"])
    return gaps.abs().mean(axis=1).drop("vanilla").sort_values().rename_axis(None)


def shares_of_vanilla(numbers: pd.DataFrame, table: str) -> pd.DataFrame:
    """What each row tells of forget people beyond never-saw that is asked alike, in per cent of what vanilla
    tells beyond never-saw, both without an instruction and under the same attack.

    Args:
        numbers: from `answers.table_numbers`, of one model, benchmark and forget ratio; with vanilla and
            never-saw under each attack.
        table: as in paper/columns.yaml.
    Returns:
        rows by the titles of columns in which less is better; NaN where vanilla tells less than MARGIN
        points more than never-saw. Vanilla without an instruction and never-saw have no row.
    """
    columns = [column for column in record_columns(numbers, table) if column.less]
    told = pd.DataFrame({c.title: c.points(numbers).set_index("method").value for c in columns})
    check_names("the record", ["vanilla", "never-saw"], told.index)
    shares = {}
    for row in told.index:
        name, _, way = row.partition(", ")
        attack = way if way in CHANGES["attack"] else way.rpartition(", ")[2]
        attack = f", {attack}" if attack in CHANGES["attack"] else ""
        if name in IDEALS or row == f"vanilla{attack}":
            continue
        alike = f"never-saw, {way}" if f"never-saw, {way}" in told.index else f"never-saw{attack}"
        could = told.loc[f"vanilla{attack}"] - told.loc[f"never-saw{attack}"]
        shares[row] = 100 * (told.loc[row] - told.loc[alike]) / could.where(could >= MARGIN)
    return pd.DataFrame(shares).T


def evidence(cases: pd.DataFrame) -> pd.DataFrame:
    """What stands behind each verdict, one row a case, the cases of a claim together: what was measured (in
    points; of "best at" the setting's value; of a slope also the change of the line) with its 95 % interval,
    and the one with runs as units; p, and Holm's over the table; questions, people, of how many the answers
    differ, the smallest difference that p would have found with 80 % power (in points), and runs. "–" stands
    where there is none.

    Args:
        cases: rows of figures/data/claims.csv, from `claims.judge`; with a column "published", the paper's
            own difference of the two rows stands beside ours.
    """
    cases = sort_rows(cases, "claim", cases.claim.unique())
    test = cases.test.str.split(",").str[0]
    line = "last − first (line: " + cases.statistic.map("{:.3g}".format) + ")"
    test = test.mask(test == "slope", line)
    number = cases.difference.fillna(cases.change).fillna(cases.statistic).round(9)
    low, high, low_runs, high_runs = (
        number_texts(cases[end], "{:.1f}") for end in ("low", "high", "low_runs", "high_runs")
    )
    rows = cases.ours.astype(str) + " − " + cases.other.astype(str)
    runs = cases.runs_ours + " " + cases.runs_other.fillna("")
    numbers = {
        "what": test.where(cases.difference.isna(), rows),
        "measured": number.map("{:.3g}".format),
        "95 % interval": ("[" + low + ", " + high + "]").where(cases.low.notna(), ""),
        "over runs": ("[" + low_runs + ", " + high_runs + "]").where(cases.low_runs.notna(), ""),
        "published": cases.get("published"),
        "p": number_texts(cases.p.where(cases.differ > 0), "{:.2g}"),
        "p (Holm)": number_texts(cases.p_holm.where(cases.differ > 0), "{:.2g}"),
        "N": number_texts(cases.n, "{:.0f}"),
        "people": number_texts(cases.people, "{:.0f}"),
        "differ": number_texts(cases.differ, "{:.0f}"),
        "smallest": number_texts(cases.smallest.where(cases.differ > 0), "{:.1f}"),
        "runs": runs.map(lambda hashes: len(set(hashes.split()))),
    }
    table = cases[["claim", "source", "model", "benchmark", "column"]].replace(NAMES)
    table["benchmark"] = benchmark_names(cases)
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


def compare(run_a: Run, run_b: Run, table: str = "vkd 1") -> pd.DataFrame:
    """The first run's scores minus the second's, question by question, in the columns of a table.

        columns = table_columns("vkd 1", "mllmu")
        plots.forest(ax, compare(run_a, run_b), "the first run", columns)

    Args:
        run_a, run_b: finished runs that were asked the same questions in one way (SAME_QUESTIONS).
        table: paper and number, as in paper/columns.yaml.
    Returns:
        one row a column, as `evaluation.compare.differences` has them: difference in points, its interval, p,
        p_holm over the columns; `other` is the second run's method.
    Raises:
        ValueError: they were not asked the same questions, or nothing that the table counts.
    """
    for name, run in {"run_a": run_a, "run_b": run_b}.items():
        if not isinstance(run, Run):
            raise ValueError(f"{name} is {run!r}; it must be a run, as vkdlib.unlearn and read_run return")
    a, b = run_a.configuration, run_b.configuration
    for name in SAME_QUESTIONS:
        if getattr(a, name) != getattr(b, name):
            values = f"{getattr(a, name)!r} of {run_a.hash}, {getattr(b, name)!r} of {run_b.hash}"
            raise ValueError(f"the runs were not asked the same questions in one way: {name} is {values}")
    rows = []
    for column in record_columns(run_a.records(), table):
        ours, theirs = (column.answers(run.predictions) for run in (run_a, run_b))
        rows.append(differences(ours, {run_b.configuration.method: theirs}).assign(metric=column.metric))
    return add_holm(pd.concat(rows, ignore_index=True), ["other"])
