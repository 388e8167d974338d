"""The VGID paper's sentences: every one is judged, on the columns and rows that it is about."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up_runs import in_words, made_up_answers

from vkdlib.benchmarks.wording import PROMPTS
from vkdlib.evaluation.ways import make_way
from vkdlib.methods import make_method
from vkdlib.reports import answers, claims, columns, findings, tables
from vkdlib.reports.paper import published
from vkdlib.runs import records

TOPICS = [
    f"vgid_{name}"
    for name in (
        *("interventions", "table3", "ratios", "readings", "perturbation", "perturbation_alone", "prompts"),
        "reverse",
    )
]
OURS = ("vgid_readings", "vgid_perturbation_alone")  # of no table of the paper
SECTIONS = {
    "interventions": ("3.2", "3.3"),
    "table3": ("4.2", "4.3", "4.4"),
    "perturbation": ("4.5", "A.3.3"),
}
SECTIONS |= {"readings": ("3.4",), "perturbation_alone": SECTIONS["perturbation"]}
SECTIONS |= {"prompts": ("4.6",), "reverse": ("4.7",), "ratios": ("4.2", "4.3", "4.4")}
TOLD = {  # row -> what is told of forget people, and what is kept of others, on all pictures and in all kinds
    "never-saw": (0.25, 1),
    "GA_Diff": (0.25, 0.5),
    "ICU-T": (0.75, 1),
    "Noise-T": (0.5, 1),
    "VGID": (0.25, 1),
    "vanilla, strict": (0.75, 1),
    "vanilla, noise": (0.5, 1),
    "vanilla, noise, strict": (0.25, 1),
    "VGID, reversed at the end": (0.25, 1),
    "VGID, reversed": (0.25, 1),
    "VGID, strict, reversed": (0.25, 1),
}
TOLD |= {
    f"never-saw, {way}": (0.25, 1) for way in ("declarative", "polite", "strict", "noise", "noise, strict")
}
TOLD |= {
    f"never-saw, {way}": (0.25, 1)
    for way in ("reversed at the end", "strict, reversed at the end", "reversed", "strict, reversed")
}


def facts_of(row):
    """What a record says of a run in a row of a table, by its name."""
    method, *rest = row.split(", ")
    teacher = {"VGID": ("noise", "strict"), "ICU-T": ("none", "strict"), "Noise-T": ("noise", "none")}
    if method not in teacher:
        return {"method": method, "way": ", ".join(rest) or "shown"}
    facts = dict(zip(("perturbation", "prompt"), teacher[method])) | {"method": "VGID", "way": "shown"}
    if rest and "reversed" in rest[-1]:  # what is before it is a way of asking, too
        return facts | {"way": ", ".join(rest)}
    for part in rest:
        if "=" in part:
            name, value = part.split("=")
            facts[name] = int(value) if name == "top_k" else value
        elif part.startswith("gaussian"):
            facts |= {"perturbation": "gaussian", "sigma": float(part.split()[1])}
        else:
            facts["prompt" if part in PROMPTS else "perturbation"] = part
    return facts


def answers_of(forget, retain, draw, people):
    """Predictions in which so much is right of forget people, and of others."""
    told = {"forget": forget, "test": forget}
    words = in_words(made_up_answers(lambda group, modality, number: told.get(group, retain), draw, people))
    cloze = words[(words.kind == "cloze") & (words.set == "test")]
    leaks = [cloze.assign(kind=k, question=cloze.question + k) for k in ("leak@1", "leak@16")]
    return pd.concat([words, *leaks], ignore_index=True)


def runs_of(topic, told=TOLD, draws=2, people=6):
    """A record and its predictions: runs of each row of a topic."""
    rows, predictions = [], {}
    for row in topic.order:
        forget, retain = told.get(row, (1, 1))
        for draw in range(draws):
            run = f"{row} {draw}"
            predictions[run] = answers_of(forget, retain, draw, people)
            for column in columns.table_columns(topic.table, "mllmu"):
                where = dict(zip(columns.COUNTED, (*column.questions, column.metric)))
                rows.append(where | facts_of(row) | {"draw": draw, "run": run, "value": 0.5})
    labels = {"model": "m", "benchmark": "own/mllmu", "schema": "mllmu", "forget_ratio": 5, "replicate": 0}
    labels["seed"] = 0
    return pd.DataFrame(rows).assign(**labels), predictions


def tables_of(monkeypatch, name, *arguments):
    record, predictions = runs_of(answers.read_topic(name), *arguments)
    monkeypatch.setattr(records, "read_records", lambda name: record)
    monkeypatch.setattr(records, "read_predictions", lambda name: predictions)
    return answers.answered_tables(name)


@pytest.mark.parametrize("name", TOPICS)
def test_rows_are_what_runs_can_be(name):
    """A row that no method or way of asking makes would never be found."""
    topic = answers.read_topic(name)
    assert topic.paper == "VGID"
    for row in topic.order:
        facts = {"sigma": None} | facts_of(row)
        make_way(facts["way"])
        if facts["method"] == "VGID":
            make_method("VGID", **{k: facts[k] for k in ("perturbation", "sigma", "prompt")})
        elif row not in ("vanilla", "never-saw") and facts["way"] == "shown":
            make_method(facts["method"])
    record, _ = runs_of(topic, draws=1)
    assert list(answers.row_names(record, topic.rows).unique()) == topic.order
    assert {row for one in topic.claims for row in one["rows"]} <= set(topic.order)
    sections = SECTIONS[name.removeprefix("vgid_")]
    for one in topic.claims:
        assert one["source"].removeprefix("ours, of ").startswith(sections), one["source"]


@pytest.mark.parametrize("name", [name for name in TOPICS if name not in OURS])
def test_rows_that_the_paper_prints_are_among_ours(name):
    topic = answers.read_topic(name)
    printed = published.published_table(topic.table, "LLaVA-1.5-7B", "MLLMU-Bench")
    further = {"vanilla, declarative", "vanilla, polite"} if topic.beside else set()
    if name == "vgid_reverse":  # the same attack before the question
        further = {row for row in topic.order if row.endswith(", reversed")}
    never = {row for row in topic.order if claims.is_ideal(row)}
    assert set(printed.index) <= set(topic.order)
    assert set(topic.order) - set(printed.index) == never | further and "never-saw" in never
    ways = {row.partition(", ")[2] for row in topic.order if row.startswith("vanilla, ")}
    assert never == {"never-saw", *(f"never-saw, {way}" for way in ways)}  # asked in every way


@pytest.mark.parametrize("name", [name for name in TOPICS if name not in ("vgid_table3", "vgid_ratios")])
def test_every_claim_is_judged_in_every_column(monkeypatch, name):
    topic = answers.read_topic(name)
    judged = claims.judge(tables_of(monkeypatch, name, TOLD, 1, 3))
    expected = [(one["claim"], title) for one in topic.claims for title in one["columns"]]
    assert list(zip(judged.claim, judged.column)) == expected
    assert set(judged.paper) == {"VGID"} and judged.verdict.isin(claims.VERDICTS).all()
    cases = judged.assign(record=name, over_forgotten="")
    assert findings.sentences(cases).count("\n") == len(topic.claims) - 1
    assert set(findings.LABELS["judged"].get(name, ())).isdisjoint(
        f"vgid {table.split()[1]}" for table in findings.tables_without_claims(cases)["vgid"]
    )


def test_verdicts_on_table_3(monkeypatch):
    judged = claims.judge(tables_of(monkeypatch, "vgid_table3")).set_index(["claim", "column"])
    topic = answers.read_topic("vgid_table3")
    assert list(judged.index) == [(one["claim"], title) for one in topic.claims for title in one["columns"]]
    verdicts = judged.groupby("claim").verdict.agg(set)
    better = [
        f"VGID balances forgetting and keeping of faces better than {m}" for m in ("GA", "GA_Diff", "RMU")
    ]
    for claim in (*better, "GA_Diff forgets faces", "GA_Diff loses other faces"):
        assert verdicts[claim] == {"holds"}, claim
    for claim in ("VGID keeps other faces", "GA forgets faces"):
        assert verdicts[claim] == {"cannot tell"}, claim  # nobody of a dozen differs; others might
    assert verdicts["a teacher shown noise alone teaches it less well than one with both"] == {"holds"}
    gap = judged.loc[better[0]].difference
    assert gap["Retain class minus Forget class"] == pytest.approx(75)
    assert gap["Retain ROUGE-L, unseen minus Forget ROUGE-L, unseen"] == pytest.approx(75)
    assert gap["Retain BLEU minus Forget BLEU"] == pytest.approx(37.5)  # BLEU has scores of its own
    others = judged.loc[better[1]].difference
    assert others[~others.index.str.contains("BLEU")].tolist() == pytest.approx([50] * 6)


def test_numbers_of_every_column_are_its_own(monkeypatch):
    tables = tables_of(monkeypatch, "vgid_table3", TOLD, 1, 3)
    numbers = answers.table_numbers(tables).query("method == 'ICU-T' and set == 'test'")
    assert numbers.set_index(["kind", "metric"]).value.to_dict() == {
        ("cloze", "accuracy"): 75,
        ("classification", "accuracy"): 75,
        ("classification", "unparsable"): 25,
        ("generation", "rouge_l"): 0.75,
        ("generation", "bleu"): 0.375,
        ("generation", "refusals"): 25,
        ("leak@1", "accuracy"): 75,
        ("leak@16", "accuracy"): 75,
    }
    tests = answers.rival_tests(tables)
    assert set(tests.metric) == {"accuracy", "rouge_l", "bleu"}  # a rate is not compared
    one = tests[(tests.other == "ICU-T") & (tests.set == "test")].set_index(["kind", "metric"]).difference
    assert one.to_dict() == {
        ("cloze", "accuracy"): -50,
        ("classification", "accuracy"): -50,
        ("generation", "rouge_l"): -50,
        ("generation", "bleu"): -25,
        ("leak@1", "accuracy"): -50,
        ("leak@16", "accuracy"): -50,
    }
    rivals = tests.groupby(columns.COUNTED).other.nunique()
    assert set(rivals) == {len(answers.read_topic("vgid_table3").order) - 3}


def test_an_attack_that_brings_nothing_back(monkeypatch):
    less, hardly = "under attack VGID tells less than the prompt", "under attack VGID tells hardly more"
    beyond = "under attack VGID tells no more than a model that never saw the faces, under the same attack"

    def verdicts(claim, told):
        return set(judge_one(monkeypatch, "vgid_reverse", told, claim).verdict)

    assert verdicts(less, TOLD) == {"holds"}
    assert verdicts(hardly, TOLD) == {"cannot tell"}  # nobody of a dozen differs
    attacked = TOLD | {"VGID, reversed at the end": (1, 1)}
    assert verdicts(hardly, attacked) == verdicts(beyond, attacked) == {"does not hold"}
    assert verdicts(less, attacked) == {"cannot tell"}


def test_who_refuses_has_not_over_forgotten(monkeypatch):
    """VGID refuses what never-saw guesses; where it says something else instead, that is over-forgetting."""
    told = TOLD | {"never-saw": (0.5, 1), "VGID": (0, 1)}
    claim, forgets = (
        "VGID leaves no more of the faces than never having seen them",
        "VGID forgets faces, in every kind of question",
    )
    (table,) = tables_of(monkeypatch, "vgid_table3", told)
    named = [one for one in table.topic.claims if one["claim"] in (claim, forgets)]
    table = replace(table, topic=replace(table.topic, claims=named))
    cases = claims.judge([table])
    assert set(cases.verdict) == {"holds"} and set(cases.over_forgotten) == {""}
    refused = {"answer": "I cannot share this.", "text": "I cannot share this."}
    for run in table.runs("VGID"):
        table.answers[run] = table.answers[run].replace(refused, "a baker")
    cases = claims.judge([replace(table)])
    assert set(cases.verdict) == {"over-forgotten"} and set(cases.over_forgotten) == {"VGID"}


def judge_one(monkeypatch, topic, told, claim):
    """The cases of one claim."""
    (table,) = tables_of(monkeypatch, topic, told)
    claims_ = [one for one in table.topic.claims if one["claim"] == claim]
    return claims.judge([replace(table, topic=replace(table.topic, claims=claims_))]).set_index("column")


def test_to_refuse_what_never_saw_guesses_is_no_better_balance(monkeypatch):
    """NPO reaches never-saw exactly; VGID refuses everything and keeps as much: neither is better. Where NPO
    tells more than never-saw, VGID is."""
    claim = "VGID balances forgetting and keeping of faces better than NPO"
    told = TOLD | {"never-saw": (0.5, 1), "NPO": (0.5, 1), "VGID": (0, 1)}
    cases = judge_one(monkeypatch, "vgid_table3", told, claim)
    written = [title for title in cases.index if "class" not in title]
    assert (cases.difference[written] == 0).all() and "holds" not in set(cases.verdict[written])
    told |= {"VGID": (0, 0.75)}
    cases = judge_one(monkeypatch, "vgid_table3", told, claim)
    assert set(cases.verdict[written]) == {"does not hold"}
    cases = judge_one(monkeypatch, "vgid_table3", told | {"NPO": (0.75, 0.75)}, claim)
    assert set(cases.verdict[written]) == {"holds"}
    assert cases.difference["Retain cloze minus Forget cloze"] == pytest.approx(25)


def test_who_tells_less_than_a_row_at_never_saw_has_not_forgotten_more(monkeypatch):
    claim = "a teacher shown noise alone teaches it less well than one with both"
    told = TOLD | {"never-saw": (0.5, 1), "Noise-T": (0.5, 1), "VGID": (0, 1)}
    assert set(judge_one(monkeypatch, "vgid_table3", told, claim).verdict) == {"already forgotten"}
    told |= {"Noise-T": (1, 1)}
    assert set(judge_one(monkeypatch, "vgid_table3", told, claim).verdict) == {"holds"}


def test_a_row_stands_beside_never_saw_that_is_asked_alike(monkeypatch):
    (table,) = tables_of(monkeypatch, "vgid_reverse", TOLD, 1, 2)
    beside = {row: table.ideal(table.runs(row)) for row in table.records.row.unique()}
    assert beside["VGID"] == beside["vanilla"] == "never-saw"
    assert beside["VGID, strict, reversed"] == "never-saw, strict, reversed"
    assert beside["vanilla, strict, reversed at the end"] == "never-saw, strict, reversed at the end"
    (table,) = tables_of(monkeypatch, "vgid_table3", TOLD, 1, 2)
    assert table.ideal(table.runs("ICU-T")) == "never-saw"  # the record's only one


def test_what_comes_back_is_a_share_of_what_could(monkeypatch):
    told = TOLD | {"vanilla, reversed at the end": (0.75, 1), "VGID, reversed at the end": (0.5, 1)}
    told |= {"vanilla, reversed": (0.25, 1)}
    (table,) = tables_of(monkeypatch, "vgid_reverse", told, 1, 2)
    shares = tables.shares_of_vanilla(answers.table_numbers([table]), "vgid 6")
    assert shares.loc["VGID, reversed at the end", "Forget cloze"] == pytest.approx(50)
    assert shares.loc["vanilla, strict", "Forget cloze"] == pytest.approx(200 / 3)
    assert np.isnan(shares.loc["VGID, reversed", "Forget cloze"])  # vanilla tells nothing there
    assert "vanilla" not in shares.index and "never-saw" not in shares.index


def test_rows_of_vgid_are_its_teachers():
    usual = {
        "perturbation": "noise",
        "prompt": "strict",
        "positions": "gold",
        "top_k": np.nan,
        "turn": "user",
    }
    rows = [
        {},
        {"perturbation": "none"},
        {"prompt": "none"},
        {"perturbation": "none", "prompt": "polite"},
        {"perturbation": "gaussian", "sigma": 0.2, "prompt": "declarative"},
        {"positions": "first", "top_k": 50.0},
        {"turn": "system", "way": "reversed"},
    ]
    record = pd.DataFrame([{"method": "VGID", "way": "shown"} | usual | row for row in rows])
    record = pd.concat([record, pd.DataFrame([{"method": "GA", "way": "noise, strict"}])], ignore_index=True)
    assert answers.row_names(record, "teachers").tolist() == [
        "VGID",
        "ICU-T",
        "Noise-T",
        "ICU-T, polite",
        "VGID, gaussian 0.2, declarative",
        "VGID, positions=first, top_k=50",
        "VGID, turn=system, reversed",
        "GA, noise, strict",
    ]
    few = record[["method", "way", "perturbation", "prompt"]]
    with pytest.raises(ValueError, match="the teachers of a row of the record do not make a name.*gaussian"):
        answers.row_names(few, "teachers")
    few = few[few.perturbation != "gaussian"]
    assert answers.row_names(few, "teachers").iloc[4] == "VGID"  # what was not swept is as usual
    with pytest.raises(ValueError, match="the record has no 'prompt'; it has: method, way, perturbation"):
        answers.row_names(few.drop(columns="prompt"), "teachers")
    with pytest.raises(ValueError, match="the teachers of a row of the record do not make a name"):
        answers.row_names(few.assign(prompt=None), "teachers")


def test_a_published_balance_is_that_of_its_two_columns():
    table = published.published_table("vgid 3", "LLaVA-1.5-7B", "MLLMU-Bench")
    cases = pd.DataFrame({"ours": "VGID", "other": ["vanilla", "GA", "never-saw"]})
    cases["column"] = "Retain ROUGE-L minus Forget ROUGE-L"
    found = published.published_differences(table, columns.table_columns("vgid 3", "mllmu"), cases)
    assert found == ["+31.6", "+30.2", ""]  # 44.1 - 49.6 - (20.0 - 57.1); 44.1 - 50.6 - (20.0 - 56.7)
