"""Tables of a record with every answer behind them: their numbers, their differences, their quality.

A row of a table has several runs, one a draw and replicate. Together they are asked about the people of all
draws, who are the units of every interval and test. A question that several runs were asked counts once, with
the mean of its scores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from vkdlib.evaluation import compare
from vkdlib.evaluation.metrics import share_interval, spread, t_interval
from vkdlib.experiments.presets import preset
from vkdlib.methods import METHODS
from vkdlib.reports.columns import LABELS, Column, is_control, record_columns
from vkdlib.reports.paper.published import FOLDER
from vkdlib.runs import records
from vkdlib.system import checks, files

TASK = ["model", "benchmark", "forget_ratio"]
REPETITIONS = ["draw", "replicate"]
NEVER_SAW = "never-saw"


@dataclass(frozen=True)
class Topic:
    """What a paper says of a table or figure: an entry of paper/claims.yaml. Its head explains the fields."""

    table: str
    claims: list[dict]
    rows: str = "method"
    ours: str | None = None
    order: list[str] | None = None
    setting: str | None = None


def read_topic(name: str) -> Topic:
    """A topic of paper/claims.yaml.

    Raises:
        ValueError: there is no such topic.
    """
    topics = files.read_yaml(FOLDER / "claims.yaml")
    if name not in topics:
        names = ", ".join(topics)
        raise ValueError(f"no claims are known of {name!r}: name the topic that is meant, one of {names}")
    return checks.make(Topic, f"topic {name} of claims.yaml", topics[name])


def row_names(record: pd.DataFrame, naming: str) -> pd.Series:
    """Name of the table's row that each row of a record belongs to.

    Args:
        naming: "method": the method; "parts": the name in Table 3 of the VKD paper, as "F+Mask", by columns
            "trained", "mask" and "beta"; "settings": what is not as usual, as "mask=False". If questions were
            put in another way than usual, the name ends with it.
    """
    checks.one_of("how rows are named", naming, ROW_NAMES)
    names = record.method.where(record.method != "VKD", ROW_NAMES[naming](record))
    names += record.way.map(LABELS["ways"]).fillna(", " + record.way)
    if names.isna().any():
        row = record[names.isna()].iloc[0].dropna().to_dict()
        raise ValueError(f"the {naming} of a row of the record do not make a name: {row}")
    return names


def _parts(record: pd.DataFrame) -> pd.Series:
    """B (the whole model is trained) or F (the language model is frozen), +Mask, +VKD."""
    checks.check_names("the record", ("trained", "mask", "beta"), record.columns)
    trained = record.trained.map({"all": "B", "lora": "B", "visual": "F"})
    mask = record["mask"].map({True: "+Mask", False: ""})
    return trained + mask + (record.beta > 0).map({True: "+VKD", False: ""})


def usual_settings() -> dict:
    """The settings of VKD in selective forgetting that stand in no name: those of the preset."""
    return {"qa_image": None, **vars(METHODS["VKD"]()), **preset("testbed", "method")}


def _settings(record: pd.DataFrame) -> pd.Series:
    """What is not as usual, "VKD" where all is."""
    usual = usual_settings()
    settings = record[[column for column in record if column in usual]]
    names = [
        ", ".join(f"{k}={v}" for k, v in row.items() if not pd.isna(v) and v != usual[k])
        for row in settings.to_dict("records")
    ]
    return pd.Series(names, record.index).replace("", "VKD")


ROW_NAMES = {"method": lambda record: record.method, "parts": _parts, "settings": _settings}


@dataclass(frozen=True)
class AnsweredTable:
    """A table of a record, of one model, benchmark and forget ratio, with every answer behind it.

    Attributes:
        task: model, benchmark, forget_ratio.
        topic: what the paper says of it.
        records: its part of the record, with the name of the table's row in `row`.
        columns: title -> column of the paper's table.
        answers: hash of a run -> its predictions.
    """

    task: dict
    topic: Topic
    records: pd.DataFrame
    columns: dict[str, Column]
    answers: dict[str, pd.DataFrame]

    def runs(self, row: str) -> pd.Series:
        """Hashes of a row's runs, by draw and replicate.

        Raises:
            ValueError: there is no such row, or it has several runs of one draw.
        """
        checks.check_names("the record", [row], self.records.row.unique())
        return run_of_each_draw(self.records[self.records.row == row], row)

    def predictions(self, runs: Sequence[str], columns: Sequence[Column]) -> list[pd.DataFrame]:
        """The predictions of runs, in some columns."""
        tables = [self.answers[run] for run in runs]
        return [pd.concat(column.about(table) for column in columns).sort_index() for table in tables]

    def pair(
        self, ours: pd.Series, other: pd.Series, columns: Sequence[Column]
    ) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
        """The predictions of two rows' runs in some columns, draw by draw: those draws that both have.

        Raises:
            ValueError: they have none in common.
        """
        both = ours.index.intersection(other.index)
        if both.empty:
            raise ValueError(
                f"runs {', '.join(ours)} and {', '.join(other)} have no draw in common: run both"
            )
        return self.predictions(ours[both], columns), self.predictions(other[both], columns)

    def over_forgets(self, runs: pd.Series, column: Column) -> bool:
        """Whether runs, together, over-forget (`compare.over_forgets`) in a column in which less is better.
        They stand beside never-saw, if the table has it, and chance."""
        ours, never = self.predictions(runs, [column]), []
        if NEVER_SAW in set(self.records.row):
            ours, never = self.pair(runs, self.runs(NEVER_SAW), [column])
        return compare.over_forgets(ours, never, column.chance and column.chance / 100)


def run_of_each_draw(rows: pd.DataFrame, name: str) -> pd.Series:
    """Hashes of the runs in some rows of a record, by draw and replicate.

    Args:
        name: of the table's row, for an error.
    Raises:
        ValueError: there are several runs of one draw.
    """
    runs = rows.drop_duplicates("run").set_index(REPETITIONS).run.sort_index()
    if runs.index.has_duplicates:
        raise ValueError(f"row {name!r} has several runs of one draw; keep those of one setting and one seed")
    return runs


def answered_tables(record: str, topic: str | None = None) -> list[AnsweredTable]:
    """The tables of a record: one for each model, benchmark and forget ratio.

    Args:
        topic: what it is about, if not its own name: "table1_main" for one at paper scale.
    Raises:
        FileNotFoundError: the record, or its predictions, are not there: run its sweep.
        ValueError: there is no such topic, or the record is of the first edition.
    """
    meaning = read_topic(topic or record)
    table, answers = records.read_records(record), records.read_predictions(record)
    tables = []
    for values, part in table.assign(row=row_names(table, meaning.rows)).groupby(TASK, sort=False):
        columns = {column.title: column for column in record_columns(part, meaning.table)}
        tables.append(AnsweredTable(dict(zip(TASK, values)), meaning, part, columns, answers))
    return tables


def table_numbers(tables: Sequence[AnsweredTable]) -> pd.DataFrame:
    """The numbers of tables: of each row (of a curve: at each value of its setting) over all its runs.

    Returns:
        model, benchmark, forget_ratio, schema, method (the table's row), the setting of a curve, set,
        modality, kind, metric, hashes (of its runs), and of `column_numbers`; over_forgotten: see
        `compare.over_forgets`.
    """
    rows = []
    for table in tables:
        keys = ["row", table.topic.setting] if table.topic.setting else ["row"]
        checks.check_names("the record", keys, table.records.columns)
        for values, part in table.records.groupby(keys, sort=False, dropna=False):
            facts = table.task | {"schema": part.schema.iloc[0]} | dict(zip(["method", *keys[1:]], values))
            runs = run_of_each_draw(part, values[0])
            facts["hashes"] = " ".join(runs)
            rows += [facts | numbers for numbers in _row_numbers(table, values[0], runs)]
    return pd.DataFrame(rows)


def _row_numbers(table: AnsweredTable, row: str, runs: pd.Series) -> Iterator[dict]:
    """The numbers of a row of a table in each of its columns."""
    for column in table.columns.values():
        answers = table.predictions(runs, [column])
        if any(map(len, answers)):
            where = dict(zip(("set", "modality", "kind", "metric"), (*column.questions, column.metric)))
            over = column.less and not is_control(row) and table.over_forgets(runs, column)
            yield where | column_numbers(column, answers) | {"over_forgotten": over}


def column_numbers(column: Column, answers: Sequence[pd.DataFrame]) -> dict:
    """What runs' answers in a column say, as a record has it: accuracy in per cent, ROUGE-L from 0 to 1.

    Args:
        answers: a table a run.
    Returns:
        value; low, high: 95 % interval with people as units (`metrics.share_interval`; of what is no share,
        `metrics.t_interval`); n (questions, each once), people, runs; deviation: standard deviation of the
        runs' own values, NaN of one run.
    """
    pooled = compare.pool_runs(answers)
    unit = 100 / column.scale
    value, share = pooled.score.mean(), column.metric == "accuracy"
    low, high = (
        share_interval(pooled.score, pooled.person)
        if share
        else t_interval(value, *spread(pooled.score, pooled.person))
    )
    counts = {"n": len(pooled), "people": pooled.person.nunique(), "runs": len(answers)}
    deviation = pd.Series([table.score.mean() for table in answers]).std()
    return {
        "value": value * unit,
        "low": low * unit,
        "high": high * unit,
        **counts,
        "deviation": deviation * unit,
    }


def rival_tests(tables: Sequence[AnsweredTable]) -> pd.DataFrame:
    """Our row of each table minus each other method's, in the table's columns, over the draws that both have.

    Returns:
        `compare.differences` with model, benchmark, forget ratio, runs (how many of each), runs_ours and
        runs_other; p_holm over all of a table.
    """
    tests = []
    for table in tables:
        ours, columns = table.runs(table.topic.ours), list(table.columns.values())
        for row in table.records.row.unique():
            if not is_control(row) and row != table.topic.ours:
                other = table.runs(row)
                a, b = table.pair(ours, other, columns)
                hashes = {"runs": len(a), "runs_ours": " ".join(ours), "runs_other": " ".join(other)}
                tests.append(compare.differences(a, {row: b}).assign(**hashes, **table.task))
    return compare.add_holm(pd.concat(tests, ignore_index=True), TASK)


def forget_qualities(tables: Sequence[AnsweredTable]) -> pd.DataFrame:
    """Forget VQA of each row beside never-saw's, on seen and on unseen pictures (`compare.forget_quality`).

    Returns:
        one row a table's row and column: model, benchmark, forget ratio, row, column (its title), hashes (of
        its runs), and what `compare.forget_quality` says.
    """
    qualities = []
    for table in tables:
        never = table.runs(NEVER_SAW)
        for column in (c for c in table.columns.values() if c.less and c.chance):
            for row in table.records.row.unique():
                runs = table.runs(row)
                facts = table.task | {"row": row, "column": column.title, "hashes": " ".join(runs)}
                pair = table.pair(runs, never, [column])
                qualities.append(facts | compare.forget_quality(*pair, column.set))
    return pd.DataFrame(qualities)
