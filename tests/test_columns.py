"""Columns of tables are data: a new table is one entry, and what is misspelt in it is named."""

import itertools

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml

from vkdlib.benchmarks.schema import KINDS, MODALITIES
from vkdlib.reports import columns, plots, report, tables
from vkdlib.reports.paper import published
from vkdlib.reports.paper.published import paper_cells, published_table


def records(values: dict[tuple, float], metric="accuracy", **labels) -> pd.DataFrame:
    """Rows of two methods with a value for each (set, modality, kind); the second has 5 points less."""
    rows = [
        {"set": s, "modality": m, "kind": k, "value": value - 5 * (method == "VKD"), "method": method}
        for (s, m, k), value in values.items()
        for method in ("vanilla", "VKD")
    ]
    task = {
        "metric": metric,
        "model": "m",
        "benchmark": "own",
        "schema": "mllmu",
        "forget_ratio": 5,
        "seed": 0,
        "way": "shown",
    }
    return pd.DataFrame(rows).assign(n=50, **task | labels).assign(low=0.0, high=100.0, over_forgotten=False)


CHOICE = {(s, m, "classification"): 90.0 for s in ("forget", "retain", "real") for m in ("vqa", "qa")}


def with_columns(monkeypatch, tmp_path, **entries):
    """paper/columns.yaml with one table more, "own 1"."""
    file = tmp_path / "columns.yaml"
    tables = yaml.safe_load(columns.FILE.read_text()) | {"own 1": {"mllmu": entries}}
    file.write_text(yaml.safe_dump(tables, sort_keys=False))
    monkeypatch.setattr(columns, "FILE", file)


def test_a_new_table_is_one_entry(monkeypatch, tmp_path):
    """Another paper's columns: two in which less is better, one without chance."""
    with_columns(
        monkeypatch,
        tmp_path,
        Seen={"counts": ["forget", "vqa", "cloze", "accuracy"], "less": True},
        Unseen={"counts": ["test", "vqa", "classification", "accuracy"], "less": True},
        Kept={"counts": ["retain", "vqa", "generation", "rouge_l"], "other_faces": True},
    )
    asked = {("forget", "vqa", "cloze"): 40.0, ("test", "vqa", "classification"): 20.0}
    told = records({("retain", "vqa", "generation"): 0.75}, "rouge_l").assign(value=[0.75, 0.5])
    record = pd.concat([records(asked | CHOICE), told])
    record["over_forgotten"] = (record.method == "VKD") & (record.set != "retain")
    table = tables.main_table(record, table="own 1")
    assert list(table) == ["Seen (N=50)", "Unseen (N=50)", "Kept (N=50)"]
    assert table.loc["VKD"].tolist() == [
        "35.0 [0.0, 100.0]↓",
        "15.0 [0.0, 100.0]↓",
        "**0.500 [0.000, 100.000]**",
    ]
    assert table.loc["chance"].tolist() == ["", "25.0", ""]
    scores = columns.balance(record, ["method"], table="own 1")
    assert scores["vanilla"] == 75 - (40 + 25) / 2 and scores["VKD"] == 50 - (35 + 25) / 2  # 20, 15: chance
    dots = plots.column_dots(plt.subplots()[1], record, "own 1").containers
    assert sorted(dot.lines[0].get_ydata()[0] for dot in dots) == [15, 20, 35, 40, 50, 75]
    assert plots.forget_retain(plt.subplots()[1], record, "own 1").get_xlabel() == "seen (%)"


def test_a_balance_counts_unseen_pictures():
    """What is left of the pictures that were unlearnt, and kept of those that were shown, is not counted."""
    unseen = {("test", "vqa", "classification"): 60.0, ("retain_unseen", "vqa", "classification"): 80.0}
    record = records(CHOICE | unseen)
    kept = {"vanilla": (80 + 90) / 2, "VKD": (75 + 85) / 2}
    faces = columns.balance(record, ["method"], faces=True)
    assert faces.to_dict() == {"vanilla": kept["vanilla"] - 60, "VKD": kept["VKD"] - 55}
    everything = columns.balance(record, ["method"])
    assert everything.vanilla == (80 + 90 + 3 * 90) / 5 - 60
    other = record.assign(
        value=record.value.where(~record.set.isin(["forget", "retain"]) | (record.modality == "qa"), 0)
    )
    assert columns.balance(other, ["method"]).equals(everything)
    with pytest.raises(
        ValueError, match="a balance counts Forget VQA, unseen, Retain VQA, unseen; the record"
    ):
        columns.balance(records(CHOICE), ["method"])


def test_every_seen_column_that_is_not_counted_has_an_unseen_twin():
    for table, schemas in TABLES.items():
        for schema in schemas:
            all_of = {column.title: column for column in columns.table_columns(table, schema)}
            for title, column in all_of.items():
                if "," in column.kind:  # asked again
                    assert not column.balance
                    continue
                if column.kind.startswith("leak"):  # sampled on unseen pictures alone
                    continue
                twin = all_of.get(title + columns.UNSEEN)
                assert column.balance == (twin is None) and column.published != ["test", "vqa"]
                assert twin is None or (twin.less, twin.other_faces) == (column.less, column.other_faces)


TABLES = yaml.safe_load(columns.FILE.read_text())
ENTRIES = [
    (t, s, title) for t, schemas in TABLES.items() for s, titles in schemas.items() for title in titles
]
PARTS = ("taught", "others", "to come")
KNOWN = {
    "set": ("forget", "retain", "test", "retain_unseen", "real", "world"),
    "modality": MODALITIES,
    "kind": (*KINDS, "leak@1", "leak@16", "gain", "identity"),
    "metric": ("accuracy", "unparsable", "rouge_l", "bleu", "refusals", "gain"),
}


@pytest.mark.parametrize("table, schema, title", ENTRIES)
def test_a_column_counts_what_there_is(table, schema, title):
    """A misspelt one would never have a row, and be left out of its table."""
    entry = TABLES[table][schema][title]
    assert {"counts"} <= set(entry) <= {"counts", "less", "other_faces", "balance", "published", "again"}
    assert len(entry["counts"]) == len(KNOWN)
    of_set, comma, part = entry["counts"][0].partition(
        ", "
    )  # the people of a set whom an attacker knows, say
    assert part in (PARTS if comma else [""])
    counts = [of_set, *entry["counts"][1:]]
    assert all(value in values for value, values in zip(counts, KNOWN.values()))
    assert {entry.get(name, False) for name in ("less", "other_faces", "balance")} <= {True, False}
    if "published" in entry:
        assert set(entry["published"]) <= {"forget", "retain", "real", "vqa", "qa"}


def test_tables_and_schemas_have_names():
    with pytest.raises(ValueError, match="table is 'vkd 7'; it must be one of vkd 1, vkd 3"):
        columns.table_columns("vkd 7", "mllmu")
    with pytest.raises(
        ValueError, match="schema of a benchmark in vkd 1 is 'tofu'; it must be one of mllmu, clear"
    ):
        columns.table_columns("vkd 1", "tofu")


def test_the_schema_is_not_guessed():
    """Whatever sets are asked about: MLLMU-Bench's columns are not those of a benchmark unknown here."""
    record = records(CHOICE)
    assert tables.seed_table(record).shape == (2, 6)
    with pytest.raises(ValueError, match="the record has no column schema; add it: mllmu or clear"):
        tables.seed_table(record.drop(columns="schema"))
    with pytest.raises(ValueError, match="schema of a benchmark in vkd 1 is 'tofu'"):
        tables.seed_table(record.assign(schema="tofu"))


@pytest.mark.parametrize("table", [tables.seed_table, tables.main_table], ids=["seed", "main"])
def test_nothing_is_shown_of_nothing(table):
    record = records(CHOICE)
    with pytest.raises(ValueError, match="the record is empty"):
        table(record[:0])
    with pytest.raises(ValueError, match="the record has no row of any column of vkd 1"):
        table(record.assign(kind="cloze"))
    unknown = record.assign(value=record.value.where((record.method == "VKD") | (record["set"] != "retain")))
    with pytest.raises(ValueError, match="Retain VQA is NaN in 1 rows, first of .*'method': 'vanilla'"):
        table(unknown)


def test_every_published_column_is_found():
    """Every number of the papers' tables that have an entry stands in one column of it."""
    for model, benchmark in [
        (m, b) for m in ("LLaVA-1.5-7B", "Qwen2-VL-7B") for b in ("MLLMU-Bench", "CLEAR")
    ]:
        table = published_table("vkd 1", model, benchmark)
        cells = paper_cells("vkd", 1).query("model == @model and benchmark == @benchmark")
        assert sorted(table.to_numpy().ravel()) == sorted(cells.value)
    unnamed = {table: "LLaVA-1.5-7B" for table in ("vkd 3", "vgid 1", "vgid 2", "vgid 4", "vgid 5", "vgid 6")}
    for table, model in unnamed.items():
        found = published_table(table, model, "MLLMU-Bench").to_numpy().ravel()
        assert sorted(found) == sorted(paper_cells(*table.split()).value)
    for table, model in itertools.product((3, 8, 9), ("LLaVA-1.5-7B", "LLaVA-1.5-13B", "Qwen2.5-VL-3B")):
        found = published_table(f"vgid {table}", model, "MLLMU-Bench").to_numpy().ravel()
        assert sorted(found) == sorted(paper_cells("vgid", table).query("model == @model").value)


def test_rows_of_vgids_tables_have_our_names():
    tables = {n: published_table(f"vgid {n}", "LLaVA-1.5-7B", "MLLMU-Bench") for n in (2, 3, 4, 5, 6)}
    strict = tables[2].loc["vanilla, strict"]
    assert strict.equals(tables[6].loc["vanilla, strict"]) and strict["Forget ROUGE-L"] == "0.462"
    assert tables[6].loc["VGID, reversed at the end", "Forget cloze, unseen"] == "15.21"
    ours = tables[3].loc["VGID"]
    assert ours.equals(tables[4].loc["VGID"]) and ours.equals(tables[5].loc["VGID"])
    assert tables[4].loc["VGID, gaussian 0.8", "Retain class"] == "52.60"
    assert [published.table_at("vgid 3", ratio) for ratio in (5, 10, 15)] == ["vgid 3", "vgid 8", "vgid 9"]
    assert published.table_at("vkd 1", 10) == "vkd 1"


@pytest.mark.parametrize("table", [t for t in yaml.safe_load(columns.FILE.read_text()) if t[:4] == "vgid"])
def test_a_rate_is_no_score(table):
    """Nothing is better in it, chance has none, and no balance counts it."""
    found = columns.table_columns(table, "mllmu")
    rates = [column for column in found if column.is_rate]
    assert rates and not any(c.less or c.other_faces or c.chance for c in rates)
    assert {(c.scale, c.decimals) for c in rates} == {(1, 1)}
    rows = [dict(zip(columns.COUNTED, (*c.questions, c.metric))) | {"value": 20 * c.less} for c in found]
    record = pd.DataFrame(rows).assign(schema="mllmu", method="VGID", n=9, low=0.0, high=9.0)
    counted = columns.balance_columns(record, table)
    assert counted and not any(c.is_rate for c in counted)
    shown = tables.seed_table(record, table)
    assert shown["Forget refusals (N=9)"].tolist() == ["0.0 [0.0, 9.0]"]
    assert "**" not in tables.main_table(record, table=table)["Forget refusals (N=9)"]["VGID"]
    assert "**" in tables.main_table(record, table=table)["Forget ROUGE-L (N=9)"]["VGID"]


def test_a_report_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("VKDLIB_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nothing.csv"):
        report.read_report(["nothing"], "table1_main")
    (tmp_path / "figures" / "data").mkdir(parents=True)
    record = records(CHOICE).assign(draw=0, replicate=0, way="shown", start="a")
    monkeypatch.setattr(report, "read_records", lambda name: record)
    with pytest.raises(
        FileNotFoundError, match="nothing_table.csv: no such file; run the record's notebook with"
    ):
        report.read_report(["nothing"], "table1_main")
    monkeypatch.setattr(report, "read_records", lambda name: record.assign(method="SGD"))
    with pytest.raises(ValueError, match="the table has no 'SGD'; it has: vanilla, never-saw"):
        report.read_report(["nothing"], "table1_main")
    monkeypatch.setattr(report, "read_records", lambda name: record)
    with pytest.raises(ValueError, match="no claims are known of 'table_1': name the topic"):
        report.read_report(["nothing"], "table_1")
    monkeypatch.setattr(report, "read_records", lambda name: record.assign(start=name))
    with pytest.raises(
        ValueError, match="one, two: runs of m on own .* started from 2 different data or weights"
    ):
        report.read_report(["one", "two"], "table1_main")
    monkeypatch.setattr(report, "read_records", lambda name: record)
    (tmp_path / "figures" / "data" / "nothing_table.csv").write_text("method,model,benchmark\n")
    claims_file = tmp_path / "figures" / "data" / "claims.csv"
    claims_file.write_text("record,claim,over_forgotten\nother,it forgets,\n")
    with pytest.raises(ValueError, match="claims.csv is of the first edition, for it has no column paper"):
        report.read_report(["nothing"], "fig2_beta")
    pd.DataFrame({"record": ["other"]} | dict.fromkeys(columns.LABELS["claims"], "?")).to_csv(claims_file)
    with pytest.raises(ValueError, match="claims.csv has no row about nothing"):
        report.read_report(["nothing"], "fig2_beta")


def test_what_is_asked_again_has_columns_of_its_own():
    table = {column.title: column for column in columns.table_columns("vkd 4", "mllmu")}
    assert len(table) == len(columns.table_columns("vkd 4", "mllmu")) == 6 * 6 + 6
    twin = table["Others VQA, epoch 2, unseen"]
    assert twin.questions == ("test, others", "vqa", "classification, epoch 2") and not twin.balance
    views = [column.title for column in columns.table_columns("vkd views", "mllmu")]
    assert views[:2] == ["Forget VQA, unseen", "Forget VQA, grey, unseen"] and len(views) == 20
