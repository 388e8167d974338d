"""The committed numbers of the second edition: their layout and traces. And what tells editions apart."""

import json
import random
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from made_up_runs import made_up_answers, made_up_record

from vkdlib.evaluation.metrics import summarise
from vkdlib.experiments.model_names import CONTROLS
from vkdlib.experiments.presets import fitting_preset, preset
from vkdlib.methods import METHODS
from vkdlib.reports import answers, claims
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.records import check_starts, read_predictions, read_records, write_records
from vkdlib.runs.run_folder import RECORD, Run
from vkdlib.sweep import grid
from vkdlib.system import paths
from vkdlib.system.files import read_yaml

SWEEPS = sorted((paths.root() / "notebooks" / "sweeps").glob("*.yaml"))
TOPICS = read_yaml(answers.FOLDER / "claims.yaml")
DRAWS = 5
SOME = [12, pytest.param(None, marks=pytest.mark.slow, id="all")]  # runs whose numbers are counted anew
FIRST = [1, pytest.param(None, marks=pytest.mark.slow, id="all")]  # tables whose claims are judged anew


def made(names):
    """Those of these records that are there, and not of the first edition."""
    files = {name: paths.figures() / "data" / f"{name}.csv" for name in names}
    return [
        name
        for name, file in files.items()
        if file.exists() and set(RECORD) <= set(pd.read_csv(file, nrows=0))
    ]


RECORDS = made(["quickstart", *(grid.read_sweep(file)["record"] for file in SWEEPS)])
ANSWERED = made(TOPICS)  # with every answer, and with claims


def run_of(**values):
    return Run("x", Configuration(model="m", benchmark="own/mllmu", schema="mllmu", **values), paths.runs())


def record_of(monkeypatch, *configurations):
    """The records of runs with these configurations, and made-up answers."""
    monkeypatch.setattr(Run, "predictions", made_up_answers(lambda *where: 0.5))
    return [run_of(**values).records() for values in configurations]


def test_a_record_is_read_as_it_was_written(monkeypatch, tmp_path):
    monkeypatch.setenv("VKDLIB_ROOT", str(tmp_path))
    tables = record_of(monkeypatch, {"seed": 1, "draw": 1}, {"method": "vanilla"})
    write_records("mine", tables)
    table = read_records("mine")
    assert list(table) == RECORD and len(table) == sum(map(len, tables))
    assert set(table.draw) == {0, 1} and set(table.replicate) == {0}
    assert table.run.str.fullmatch("[0-9a-f]{12}").all() and set(table.people) == {6, 12}


def test_a_record_of_the_first_edition_is_not_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("VKDLIB_ROOT", str(tmp_path))
    write_records("mine", record_of(monkeypatch, {}))
    file = tmp_path / "figures" / "data" / "mine.csv"
    pd.read_csv(file).drop(columns=["draw", "replicate", "people"]).to_csv(file, index=False)
    said = r"mine.csv is a record of the first edition.*draw, replicate, people.*make mine"
    with pytest.raises(ValueError, match=said):
        read_records("mine")
    with pytest.raises(FileNotFoundError, match="other.csv: no such record"):
        read_records("other")


def test_runs_of_several_editions_are_not_mixed(monkeypatch, tmp_path):
    """Vanilla and what is unlearned from it have one start; references and replicates have others."""
    old, new = {"data": "a", "weights": "b"}, {"data": "a", "weights": "c"}
    ten = {"method": "retain-only", "forget_ratio": 10}
    tables = record_of(
        monkeypatch,
        old,
        old | {"method": "vanilla"},
        old | {"method": "GA", "draw": 3},
        new | {"method": "never-saw"},
        new | {"replicate": 1},
        new | ten,
        {"weights": "d", "method": "retain-only"},
    )
    whole = pd.concat(tables)
    assert whole.start.nunique() == 3
    check_starts(whole, "mine")
    check_starts(pd.concat([*tables, tables[0].assign(model="other", start="?")]), "mine")
    monkeypatch.setenv("VKDLIB_ROOT", str(tmp_path))
    said = r"mine.csv: runs of m on own/mllmu \(replicate 0, from .* started from 2 different data or weights"
    for mixed in (
        new | {"draw": 1},
        old | {"data": "?", "draw": 1},
        old | {"method": "never-saw", "draw": 1},
    ):
        write_records("mine", [*tables, *record_of(monkeypatch, mixed)])
        with pytest.raises(ValueError, match=said):
            read_records("mine")


def test_made_up_records_have_the_layout_of_all():
    record, _ = made_up_record([({"method": "VKD"}, made_up_answers(lambda *where: 1.0))])
    assert set(record) == set(RECORD)


@pytest.fixture(params=RECORDS)
def record(request):
    return read_records(request.param)


def test_layout(record):
    assert list(record.columns[: len(RECORD)]) == RECORD
    assert set(record.set) <= {"forget", "retain", "test", "retain_unseen", "real", "world"}
    assert set(record.modality) <= {"vqa", "qa"} and (record.people <= record.n).all()
    assert record.run.str.fullmatch("[0-9a-f]{12}").all() and record.start.str.fullmatch("[0-9a-f]{12}").all()
    assert ((record.low <= record.value + 1e-3) & (record.value <= record.high + 1e-3)).all()


def test_accuracies_are_whole_numbers_of_questions(record):
    rows = record[record.metric == "accuracy"]
    hits = rows.value * rows.n / 100
    assert ((hits - hits.round()).abs() < 0.01).all()


@pytest.mark.parametrize("name", ANSWERED)
def test_every_row_has_every_draw_and_people_to_forget_of_its_own(name):
    """Fifty people: five draws of ten. A map of two thresholds may have fewer."""
    record = read_records(name)
    record = record.assign(row=answers.row_names(record, answers.read_topic(name).rows))
    record = record[~record.row.str.contains("d_I|d_F") & (record.forget_ratio == 5)]
    setting = [answers.read_topic(name).setting or "replicate"]
    draws = record.groupby([*answers.TASK, "row", *setting], dropna=False).draw.nunique()
    assert set(draws) == {DRAWS}
    assert {"vanilla", "never-saw"} <= set(record.row)
    people = {run: set(t.person[t.set == "forget"]) for run, t in read_predictions(name).items()}
    for _, runs in record.groupby(["model", "benchmark", "row", *setting], dropna=False):
        forgotten = [person for run in runs.run.unique() for person in people[run]]
        assert len(forgotten) == len(set(forgotten)) == 50


@pytest.mark.parametrize("count", SOME)
@pytest.mark.parametrize("name", ANSWERED)
def test_every_number_of_a_record_is_counted_from_its_answers(name, count):
    record, tables = read_records(name), read_predictions(name)
    assert set(tables) == set(record.run)
    runs = random.Random(len(record)).sample(sorted(tables), count or len(tables))
    record = record[record.run.isin(runs)]
    where = ["run", "set", "modality", "kind", "metric"]
    counted = pd.concat(summarise(tables[run]).assign(run=run) for run in runs)
    counted = counted.set_index(where)[["value", "n", "people", "low", "high"]].sort_index()
    written = record.set_index(where)[["value", "n", "people", "low", "high"]].sort_index()
    if "refusals" not in set(record.metric):  # of a record from before they were counted
        counted = counted.drop("refusals", level="metric", errors="ignore")
    pd.testing.assert_frame_equal(written, counted, rtol=0, atol=2e-4, check_dtype=False)


@pytest.mark.parametrize("count", FIRST)
@pytest.mark.parametrize("name", ANSWERED)
def test_what_is_said_of_a_table_follows_from_its_answers(name, count):
    tables = answers.answered_tables(name)[:count]
    tasks = [tuple(table.task.values()) for table in tables]
    written, shown = claims.read_claims().query("record == @name"), claims.read_tests(f"{name}_table")
    written, shown = (t[t[answers.TASK].apply(tuple, axis=1).isin(tasks)] for t in (written, shown))
    judged, numbers = claims.judge(tables), answers.table_numbers(tables)
    for field in ("verdict", "n", "people", "differ", "over_forgotten"):
        assert written[field].tolist() == judged[field].tolist()
    for field in ("difference", "statistic", "smallest"):
        np.testing.assert_allclose(written[field], judged[field].astype(float), rtol=1e-4, atol=1e-3)
    for field in ("value", "low", "high", "n", "people", "runs", "over_forgotten"):
        np.testing.assert_allclose(
            shown[field].astype(float), numbers[field].astype(float), rtol=1e-4, atol=1e-3
        )


@pytest.mark.parametrize("name", ANSWERED)
def test_what_is_said_of_a_table_was_measured_on_its_runs(name):
    known, cases = set(read_records(name).run), claims.read_claims().query("record == @name")
    named = [*cases.runs_ours, *cases.runs_other.dropna()]
    if answers.read_topic(name).ours:
        tests = claims.read_tests(f"{name}_tests")
        named += [*tests.runs_ours, *tests.runs_other]
        assert set(" ".join(claims.read_tests(f"{name}_quality").hashes).split()) == known
    assert named and set(" ".join(named).split()) <= known
    assert set(cases.claim) == {one["claim"] for one in answers.read_topic(name).claims}


def meant(point):
    """What a point is, as 04_run_unlearn has it: of its preset, unless it says otherwise."""
    method, benchmark = point["method"], point.get("benchmark", "testbed/mllmu")
    name = point.get("preset") or fitting_preset(point.get("model"), benchmark)
    rest = {k: v for k, v in point.items() if k not in ("experiment", "preset")}
    if method in CONTROLS:
        return json.dumps(rest, sort_keys=True)
    own = {f.name for m in METHODS.values() for f in fields(m)}
    given = {k: rest.pop(k) for k in list(rest) if k in own}
    steps = {k: rest.pop(k) for k in list(rest) if k in preset(name, "training")}
    full = [rest, preset(name, "method", method, **given), preset(name, "training", method, **steps)]
    return json.dumps(full, sort_keys=True)


@pytest.mark.parametrize("name", [name for name in RECORDS if name != "quickstart"])
def test_the_sweep_of_a_record_makes_its_runs(name):
    """A preset that changes must not make two of its points one."""
    sweep = grid.read_sweep(paths.root() / "notebooks" / "sweeps" / f"{name}.yaml")
    points = grid.grid_points(sweep)
    assert len({meant(point) for point in points}) == read_records(name).run.nunique()
