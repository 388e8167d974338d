"""The papers' sentences: what is compared with what, and what is said of it."""

import math
from dataclasses import fields, replace
from types import SimpleNamespace

import pandas as pd
import pytest

from vkdlib.methods.vkd import VKD
from vkdlib.reports import claims, columns, curves
from vkdlib.reports.columns import BALANCE, rows_by_title
from vkdlib.reports.paper import published
from vkdlib.runs import records
from vkdlib.system import files, paths

PEOPLE, QUESTIONS = 12, 4
ROWS = {  # method -> right in forget VQA, retain VQA, real VQA; QA is always right
    "vanilla": (1, 1, 1),
    "retain-only": (0, 1, 1),
    "VKD": (0, 1, 1),
    "MMUnlearner": (1, 1, 0),
    "MANU": (1, 1, 1),
    "GA": (0, 0, 0),
    "NPO": (0, 0, 0),
}


@pytest.fixture
def table(monkeypatch):
    """A record of Table 1 in which every person is known by a method, or nobody."""
    seen = {"forget": 0, "retain": 1, "real": 2}
    predictions, record = {}, []
    for method, right in ROWS.items():
        for seed in (0,) if method in ("vanilla", "retain-only") else (0, 1):
            of = [
                (group, modality, "classification", f"{group}{p}", f"{group}{p}-{modality}{q}", score)
                for group, k in seen.items()
                for modality, score in (("vqa", float(right[k])), ("qa", 1.0))
                for p in range(PEOPLE)
                for q in range(QUESTIONS)
            ]
            columns = ["set", "modality", "kind", "person", "question", "score"]
            table = pd.DataFrame(of, columns=columns)
            options = table.score.map({1.0: '{"A": -0.1, "B": -3}', 0.0: '{"A": -1, "B": -0.5}'})
            predictions[f"{method}{seed}"] = table.assign(gold="A", options=options)
            for (group, modality), rows in predictions[f"{method}{seed}"].groupby(["set", "modality"]):
                record.append(
                    {
                        "experiment": "x",
                        "model": "m",
                        "benchmark": "mllmu",
                        "schema": "mllmu",
                        "forget_ratio": 5,
                        "method": method,
                    }
                    | {"seed": seed, "set": group, "modality": modality, "kind": "classification"}
                    | {"metric": "accuracy", "value": 100 * rows.score.mean(), "run": f"{method}{seed}"}
                )
    monkeypatch.setattr(records, "read_records", lambda name: pd.DataFrame(record))
    monkeypatch.setattr(records, "read_predictions", lambda name: predictions)


def test_claims_are_judged_on_the_runs_of_the_record(table):
    cases = claims.judge(claims.answered_tables("table1_main"))
    assert list(cases) == columns.LABELS["claims"] and cases.groupby("claim", sort=False).ngroups > 5
    judged = cases.set_index(["claim", "column"])
    forget = judged.loc["VKD forgets faces better than MMUnlearner", "Forget VQA"]
    assert (forget.difference, forget.n, forget.seeds, forget.verdict) == (-100, 48, 2, "holds")
    assert set(judged.people) == {PEOPLE}
    text = judged.loc["VKD keeps what is known in text of forget and retain people"]
    assert set(text.verdict) == {"holds"} and (text.low == 0).all()
    rivals = judged.loc["VKD keeps other faces better than MMUnlearner"]
    assert rivals.verdict.to_dict() == {"Retain VQA": "no answer differs", "Real-world VQA": "holds"}
    assert judged.loc["GA forgets in part only", "Forget VQA"].verdict == "no answer differs"
    assert set(judged.loc["NPO degrades other faces and text"].verdict) == {"holds", "no answer differs"}
    raw = 2 ** -(PEOPLE - 1)  # all twelve people differ in the same direction
    assert forget.p_holm == pytest.approx(raw)  # the claim's only row
    assert forget.differ == 48 and forget.over_forgotten == ""
    assert forget.runs_ours == "VKD0 VKD1" and forget.runs_other == "MMUnlearner0 MMUnlearner1"
    assert (rivals.p_holm == [1, pytest.approx(raw)]).all()  # where nothing differs there is no test
    unseen = judged.loc["VKD leaves no more of the faces than never having seen them"]
    assert set(unseen.verdict) == {"holds"} and set(unseen.differ) == {0} and unseen.p_holm.isna().all()


def test_to_forget_more_than_retain_only_is_marked(table, monkeypatch):
    """Retain-only knows half of the questions by other ways."""
    predictions = records.read_predictions("any")
    never = predictions["retain-only0"]
    lucky = (never.set == "forget") & (never.modality == "vqa") & never.question.str.contains("[01]$")
    changed = predictions | {"retain-only0": never.assign(score=never.score.where(~lucky, 1.0))}
    monkeypatch.setattr(records, "read_predictions", lambda name: changed)
    judged = claims.judge(claims.answered_tables("table1_main")).set_index(["claim", "column"])
    row = judged.loc["VKD forgets faces better than MMUnlearner", "Forget VQA"]
    assert row.verdict == "holds" and row.over_forgotten == "VKD"
    assert (judged.loc["VKD keeps other faces better than MMUnlearner"].over_forgotten == "").all()
    over = judged.loc["NPO forgets more than it should", "Forget VQA"]
    assert over.verdict == "holds" and over.over_forgotten == ""  # that is what the row says


@pytest.mark.parametrize(
    "difference, p, expected, said",
    [
        (-9, 0.01, "lower", "holds"),
        (-9, 0.01, "higher", "does not hold"),
        (9, 0.01, "higher", "holds"),
        (9, 0.2, "higher", "inside the noise"),
        (-3, 0.01, "as good", "holds"),  # within the margin
        (-7, 0.01, "as good", "inside the noise"),
        (-9, 0.01, "as good", "does not hold"),
        (-9, 0.01, "as low", "holds"),
        (4, 0.01, "as low", "inside the noise"),
        (9, 0.01, "as low", "does not hold"),
    ],
)
def test_verdicts(difference, p, expected, said):
    gap = {"difference": difference, "low": difference - 2, "high": difference + 3, "p": p}
    facts = claims.compare_with_expected(gap, expected)
    case = SimpleNamespace(holds=facts["holds"], p_holm=facts["p"], differ=9, column="Forget VQA")
    assert claims.verdict(case) == said
    with pytest.raises(ValueError, match="expected is 'less'"):
        claims.compare_with_expected(gap, "less")
    if expected in ("lower", "higher"):
        case.differ, case.p_holm = 0, 1.0  # as `compare.add_holm` has it
        assert claims.verdict(case) == "no answer differs"


def test_rows_of_the_ablation_are_the_papers():
    switches = [(t, m, b) for t in ("all", "visual") for m in (False, True) for b in (0.0, 3.0)]
    record = pd.DataFrame(switches, columns=["trained", "mask", "beta"]).assign(method="VKD")
    references = pd.DataFrame({"method": ["vanilla", "retain-only"]})
    names = claims.row_names(pd.concat([record, references], ignore_index=True), "parts")
    printed = set(published.paper_cells("vkd", 3).method)
    assert {n for n in names if n not in ("vanilla", "retain-only")} == (printed - {"Vanilla"}) | {"B+VKD"}


def test_claims_name_rows_and_columns_that_tables_have(table):
    titles = set(rows_by_title(records.read_records("any"))) | {"Real world", "Real faces", BALANCE}
    known = {"table1_main": set(ROWS) | {"GA_Diff", "KL_Min"}, "table3_ablation": None}
    known["table3_ablation"] = set(published.paper_cells("vkd", 3).method) | {"retain-only"}
    choices = {f.name: f.metadata.get("known", ()) for f in fields(VKD)}
    settings = {f"{k}={v}" for k, values in choices.items() for v in values}
    settings |= {"prune=False", "mask=False", "VKD"}
    known["selective_forgetting"] = settings
    for record, rows in known.items():
        topic = claims.read_topic(record)
        assert topic.ours in rows and set(topic.order or rows) >= {topic.ours}
        for one in topic.claims:
            assert set(one["rows"]) <= rows and set(one["columns"]) <= titles
            assert one["expected"] in ("lower", "higher", "as good", "as low")
            assert one["source"].startswith(("3.", "4.", "ours, "))


def test_a_whole_model_trained_by_lora_is_row_b():
    record = pd.DataFrame({"method": "VKD", "trained": ["lora"], "mask": [True], "beta": [0.0]})
    assert claims.row_names(record, "parts").tolist() == ["B+Mask"]


def test_rows_of_selective_forgetting_are_what_is_not_as_usual():
    settings = [
        {},
        {"prune": False, "mask": True},
        {"order": "parallel", "d_I": 1.3},
        {"d_F": 3.0, "d_I": 2.0},
    ]
    record = pd.DataFrame([{"method": "VKD", "order": None} | of for of in settings])
    record = pd.concat([record, pd.DataFrame({"method": ["vanilla"]})], ignore_index=True)
    assert claims.row_names(record, "settings").tolist() == [
        "VKD",
        "prune=False",
        "order=parallel",
        "d_I=2.0, d_F=3.0",
        "vanilla",
    ]


def test_a_row_against_all_others(table):
    tables = claims.answered_tables("table1_main")
    found = claims.rival_tests(tables)
    assert set(found.other) == set(ROWS) - {"VKD", "vanilla", "retain-only"} and set(found.model) == {"m"}
    assert len(found) == 6 * (len(ROWS) - 3)  # six columns; references are no rivals
    rival = found[(found.other == "MMUnlearner") & (found.modality == "vqa")].set_index("set").difference
    assert rival.to_dict() == {"forget": -100, "retain": 0, "real": 100}
    tables = [replace(one, topic=replace(one.topic, ours="SGD")) for one in tables]
    with pytest.raises(ValueError, match="the record has no 'SGD'; it has: vanilla, retain-only"):
        claims.rival_tests(tables)


def test_quality_of_every_run(table):
    found = claims.run_quality(claims.answered_tables("table1_main")).set_index("row")
    assert len(found) == 2 * len(ROWS) - 2
    assert (found.loc["VKD", ["accuracy", "ks"]] == 0).all(axis=None)
    assert (found.loc["MANU", ["accuracy", "ks"]] == [100, 1]).all(axis=None)
    right, wrong = (1 / (1 + math.exp(b - a)) for a, b in ((-0.1, -3), (-1, -0.5)))
    assert found.loc["vanilla"].truth_ratio == pytest.approx(right)
    assert found.loc["VKD"].truth_ratio.tolist() == pytest.approx([wrong] * 2)


def test_over_forgotten_is_one_thing_in_tables_and_claims(table):
    """More by the interval alone is not enough: with three people no p is below 0.25."""
    asked = [(f"p{i}", f"q{i}{j}", 1.0) for i in range(10) for j in range(5)]
    never = pd.DataFrame(asked, columns=["person", "question", "score"])
    never = never.assign(set="forget", modality="vqa", kind="classification")
    few, many = (never.assign(score=(~never.person.isin([f"p{i}" for i in range(n)])) * 1.0) for n in (3, 8))
    assert not claims.over_forgets([few], [never]) and claims.over_forgets([many], [never])
    assert not claims.run_quality(
        claims.answered_tables("table1_main")
    ).over_forgotten.any()  # retain-only knows nothing here


def test_what_is_written_again_replaces_its_own_rows_only(table, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "figures", lambda: tmp_path)
    (tmp_path / "data").mkdir()
    claims.write_tests("table1_main")
    first = pd.read_csv(tmp_path / "data" / "claims.csv")
    assert list(first.columns) == ["record", *columns.LABELS["claims"]] and set(first.record) == {
        "table1_main"
    }
    pd.concat([first.assign(verdict="?"), first.iloc[:1].assign(record="other")]).to_csv(
        tmp_path / "data" / "claims.csv", index=False
    )
    claims.write_tests("table1_main")
    again = pd.read_csv(tmp_path / "data" / "claims.csv")
    assert len(again) == len(first) + 1 and "?" not in set(again.verdict) and "other" in set(again.record)
    for name in ("table1_main_tests", "table1_main_quality"):
        assert len(pd.read_csv(tmp_path / "data" / f"{name}.csv"))


def test_claims_about_a_record_of_ones_own(table, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "figures", lambda: tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="no claims are known of 'mine': name the topic that is meant"):
        claims.write_tests("mine")
    assert not list((tmp_path / "data").iterdir())
    claims.write_tests("mine", topic="table1_main")
    written = pd.read_csv(tmp_path / "data" / "claims.csv")
    assert set(written.record) == {"mine"}
    assert written.claim.tolist() == claims.judge(claims.answered_tables("table1_main")).claim.tolist()
    assert {p.name for p in (tmp_path / "data").iterdir()} == {
        "claims.csv",
        "mine_tests.csv",
        "mine_quality.csv",
    }


def test_a_verdict_is_printed_before_its_claim(capsys):
    claims.print_verdict("it forgets", True)
    claims.print_verdict("it keeps", False)
    assert capsys.readouterr().out == "holds          it forgets\ndoes not hold  it keeps\n"


CURVES = (*curves.ANSWER_TESTS, *curves.BALANCE_TESTS)
TOPICS = files.read_yaml(published.FOLDER / "claims.yaml")
CLAIMS = [(name, one) for name, topic in TOPICS.items() for one in topic["claims"]]


@pytest.mark.parametrize("name, one", CLAIMS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_claim_has_what_is_known_and_nothing_else(name, one):
    """A misspelt column would not be judged, a misspelt field not be seen."""
    needed = {"claim", "source", "columns", "expected"} | ({"rows"} if "rows" in one else set())
    assert needed <= set(one) <= needed | {"up_to", "at"} and all(one[field] for field in needed)
    assert one["expected"] in (claims.COMPARISONS if "rows" in one else CURVES)
    assert len(one.get("rows", ("two", "rows"))) == 2 and ("at" in one) == (one["expected"] == "good at")
    schemas = files.read_yaml(columns.FILE)[TOPICS[name]["table"]]
    titles = {title for schema in schemas.values() for title in schema}
    assert set(one["columns"]) <= titles | {columns.BALANCE if "rows" in one else claims.CURVE_BALANCE}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"expected": "lowr"}, "expected is 'lowr'.*mean 'lower'"),
        ({"rows": ["VDK", "vanilla"]}, "the record has no 'VDK'; it has: .*mean 'VKD'"),
    ],
)
def test_a_misspelt_claim_is_refused(table, monkeypatch, changes, message):
    claim = {"claim": "it forgets", "source": "4.3", "rows": ["VKD", "vanilla"], "columns": ["Forget VQA"]}
    topic = claims.Topic("vkd 1", [claim | {"expected": "lower"} | changes])
    monkeypatch.setattr(claims, "read_topic", lambda name: topic)
    with pytest.raises(ValueError, match=message):
        claims.judge(claims.answered_tables("table1_main"))


def test_a_row_of_several_settings_is_not_judged(table, monkeypatch):
    record, predictions = records.read_records("any"), records.read_predictions("any")
    twice = record[record.run == "VKD0"].assign(run="other")
    monkeypatch.setattr(records, "read_records", lambda name: pd.concat([record, twice]))
    monkeypatch.setattr(
        records, "read_predictions", lambda name: predictions | {"other": predictions["VKD0"]}
    )
    with pytest.raises(ValueError, match="row 'VKD' has several runs of one seed"):
        claims.judge(claims.answered_tables("table1_main"))


def test_parts_of_another_method_have_no_name():
    record = pd.DataFrame({"method": "VKD", "trained": ["projector"], "mask": [True], "beta": [0.0]})
    with pytest.raises(ValueError, match="the parts of a row of the record do not make a name.*projector"):
        claims.row_names(record, "parts")
    with pytest.raises(ValueError, match="the record has no 'mask'; it has: method, trained, beta"):
        claims.row_names(record.drop(columns="mask"), "parts")


def test_a_misspelt_field_of_a_topic_is_named(monkeypatch):
    topic = {"table": "vkd 1", "claims": [], "seting": "beta"}
    monkeypatch.setattr(files, "read_yaml", lambda file: {"mine": topic})
    with pytest.raises(ValueError, match="topic mine of claims.yaml has no 'seting'.*mean 'setting'"):
        claims.read_topic("mine")
