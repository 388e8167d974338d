"""Tables of a record with every answer behind them: their numbers, their differences, their quality.

A row of a table has several runs, one a draw and replicate. Together they are asked about the people of all
draws, who are the units of every interval and test. A question that several runs were asked counts once, with
the mean of its scores.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from vkdlib.attacks.attack import attack_label
from vkdlib.evaluation import compare
from vkdlib.evaluation.metrics import SHARES, share_interval, spread, t_interval
from vkdlib.experiments.presets import preset, row_name
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
    beside: str | None = None
    margin: float = compare.MARGIN
    least: float = 0.0

    @property
    def paper(self) -> str:
        """Whose topic it is: "VKD" or "VGID"."""
        return self.table.split()[0].upper()


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
        naming: "method": the method; "parts": of VKD the name in Table 3 of its paper, as "F+Mask", by
            columns "trained", "mask" and "beta"; "settings": of VKD what is not as usual, as "mask=False";
            "teachers": of VGID its teacher, as "ICU-T" or "VGID, white", by columns "perturbation", "sigma"
            and "prompt". If questions were put in another way than usual, the name ends with it, and if the
            model was attacked, with the attack (`attack_label`); of a series of requests, with how many
            people a request has, and the teacher if it is the last model. "additions": of VKD what it has
            beyond the paper, as "VKD+features+views", by columns "keep", "unlabelled" and "views".
    """
    checks.one_of("how rows are named", naming, ROW_NAMES)
    names = record.method.copy()
    if naming != "method":
        method, make_names = ROW_NAMES[naming]
        rows = record.method == method
        names[rows] = make_names(record[rows])
    names += record.way.map(LABELS["ways"]).fillna(", " + record.way)
    if "requests" in record:
        names += record.requests.map(lambda size: f", {size:g} by {size:g}" if size > 0 else "")
    if "teacher" in record:
        names += (record.teacher == "last").map({True: ", last teacher", False: ""})
    if "attack" in record:
        names += pd.Series(list(map(attack_label, record.to_dict("records"))), record.index, object)
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


def _additions(record: pd.DataFrame) -> pd.Series:
    """Retain pictures kept by their features, unlabelled pictures of strangers, altered views."""
    checks.check_names("the record", ("keep", "unlabelled", "views"), record.columns)
    parts = {
        "+features": record["keep"] == "features",
        "+strangers": record.unlabelled > 0,
        "+views": record.views > 1,
    }
    names = pd.Series("VKD", record.index, object)
    for part, there in parts.items():
        names += there.map({True: part, False: ""})
    return names


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


def _teachers(record: pd.DataFrame) -> pd.Series:
    """VGID with the paper's teacher; ICU-T has no perturbation, Noise-T no prompt. Then what is not as usual,
    as "VGID, gaussian 0.2, polite, positions=first"."""
    checks.check_names("the record", ("perturbation", "prompt"), record.columns)
    return pd.Series(list(map(_teacher_name, record.to_dict("records"))), record.index, object)


def _teacher_name(row: dict) -> str | None:
    """The name of a row of VGID; None if it does not say what its teacher is."""
    perturbation, prompt, usual = row["perturbation"], row["prompt"], METHODS["VGID"]()
    needed = [perturbation, prompt, *([row.get("sigma")] if perturbation == "gaussian" else [])]
    if any(map(pd.isna, needed)):
        return None
    name = row_name("VGID", perturbation, prompt)
    picture = f"gaussian {row['sigma']:g}" if perturbation == "gaussian" else perturbation
    parts = [part for part in (picture, prompt) if part not in ("none", usual.perturbation, usual.prompt)]
    open_questions = {k: row[k] for k in ("turn", "positions", "top_k") if not pd.isna(row.get(k))}
    parts += [f"{k}={_number(v)}" for k, v in open_questions.items() if v != getattr(usual, k)]
    return ", ".join([name, *parts])


def _number(value) -> str:
    """A setting as text; a whole number has no decimals, whatever its column had beside it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


# How rows are named -> the method whose rows have names of their own, and who makes them.
ROW_NAMES: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]] | None] = {
    "method": None,
    "parts": ("VKD", _parts),
    "settings": ("VKD", _settings),
    "additions": ("VKD", _additions),
    "teachers": ("VGID", _teachers),
}


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
        """Hashes of a row's runs, see `runs_of_draws`.

        Raises:
            ValueError: there is no such row, or it has several runs of one draw and seed.
        """
        checks.check_names("the record", [row], self.records.row.unique())
        return runs_of_draws(self.records[self.records.row == row], row)

    def predictions(self, runs: Sequence[str], columns: Sequence[Column]) -> list[pd.DataFrame]:
        """The answers of runs in some columns, which ask different questions, scored as the columns do."""
        tables = [self.answers[run] for run in runs]
        return [pd.concat(column.answers(table) for column in columns).sort_index() for table in tables]

    def pair(
        self, ours: pd.Series, other: pd.Series, columns: Sequence[Column]
    ) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
        """The predictions of two rows' runs in some columns, draw by draw: those draws that both have. See
        `seed_pairs` for several runs of one draw.

        Raises:
            ValueError: they have none in common.
        """
        both = ours.index.unique().intersection(other.index.unique())
        if both.empty:
            raise ValueError(
                f"runs {', '.join(ours)} and {', '.join(other)} have no draw in common: run both"
            )
        pairs = [pair for draw in both for pair in seed_pairs(list(ours[[draw]]), list(other[[draw]]))]
        a, b = zip(*pairs)
        return self.predictions(a, columns), self.predictions(b, columns)

    def ideal(self, runs: pd.Series) -> str | None:
        """The row of never-saw, put the same questions in the same way as a row's runs; as usual if the table
        has no such row, and None if it has no never-saw."""
        (way,) = self.records.way[self.records.run.isin(runs)].unique()
        names = [NEVER_SAW + LABELS["ways"].get(way, f", {way}"), NEVER_SAW]
        rows = set(self.records.row)
        return next((name for name in names if name in rows), None)

    def over_forgets(self, runs: pd.Series, column: Column) -> bool:
        """Whether runs, together, over-forget (`compare.over_forgets`) in a column in which less is better.
        They stand beside never-saw that is asked alike (`ideal`), if it was asked this, and chance. Each is
        judged once."""
        key = (*runs, column.title)
        if key not in self._over_forgetting:
            ours, never = self.predictions(runs, [column]), []
            ideal = self.ideal(runs)
            if ideal in set(column.rows(self.records).row):
                ours, never = self.pair(runs, self.runs(ideal), [column])
            chance = column.chance and column.chance / 100
            self._over_forgetting[key] = compare.over_forgets(ours, never, chance)
        return self._over_forgetting[key]

    @functools.cached_property
    def _over_forgetting(self) -> dict[tuple[str, ...], bool]:
        """What `over_forgets` has said."""
        return {}


def runs_of_draws(rows: pd.DataFrame, name: str) -> pd.Series:
    """Hashes of the runs in some rows of a record, by draw and replicate; those of one draw by their seeds.

    Args:
        name: of the table's row, for an error.
    Raises:
        ValueError: there are several runs of one draw and seed.
    """
    runs = rows.drop_duplicates("run").set_index([*REPETITIONS, "seed"]).run.sort_index()
    if runs.index.has_duplicates:
        raise ValueError(f"row {name!r} has several runs of one draw and seed; keep those of one setting")
    return runs.droplevel("seed")


def seed_pairs(ours: Sequence[str], other: Sequence[str]) -> list[tuple[str, str]]:
    """Which runs of one draw stand beside each other: by the order of their seeds. A row that has one run, as
    of a model that is evaluated as it is, has it beside each of the other's.

    Raises:
        ValueError: both have several, and not as many.
    """
    count = max(len(ours), len(other))
    if {len(ours), len(other)} - {1, count}:
        raise ValueError(
            f"runs {', '.join(ours)} and {', '.join(other)} are of one draw, and not as many: run all seeds"
        )
    return [(ours[i % len(ours)], other[i % len(other)]) for i in range(count)]


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
            runs = runs_of_draws(part, values[0])
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
        answers: a table a run, see `Column.answers`.
    Returns:
        value; low, high: 95 % interval with people as units (`metrics.share_interval`; of what is no share,
        `metrics.t_interval`); n (questions, each once), people, runs; deviation: standard deviation of the
        runs' own values, NaN of one run.
    """
    pooled = compare.pool_runs(answers)
    unit = 100 / column.scale
    value, share = pooled.score.mean(), column.metric in SHARES
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
    """Our row of each table minus each other method's, in each of the table's columns but rates, over the
    draws that both have.

    Returns:
        `compare.differences` with model, benchmark, forget ratio, metric, runs (how many of each), runs_ours
        and runs_other; p_holm over all of a table.
    """
    tests = []
    for table in tables:
        ours, columns = table.runs(table.topic.ours), [c for c in table.columns.values() if not c.is_rate]
        for row in table.records.row.unique():
            if not is_control(row) and row != table.topic.ours:
                other = table.runs(row)
                hashes = {"runs_ours": " ".join(ours), "runs_other": " ".join(other)}
                for column in columns:
                    a, b = table.pair(ours, other, [column])
                    facts = table.task | {"metric": column.metric, "runs": len(a)} | hashes
                    tests.append(compare.differences(a, {row: b}).assign(**facts))
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
