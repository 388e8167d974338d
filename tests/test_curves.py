"""Curves over a setting: closed cases of each kind of claim."""

import numpy as np
import pandas as pd
import pytest
from made_up_runs import QUESTIONS as MADE_UP
from made_up_runs import made_up_answers, made_up_record

from vkdlib.reports import answers, claims, curves, tables
from vkdlib.reports.answers import answered_tables
from vkdlib.runs import records

BETAS = [0.0, 0.1, 0.3, 1.0, 3.0]
PEOPLE, QUESTIONS = 10, 10
PLACES = {"Forget": "forget", "Retain": "retain", "Real-world": "real"}
UNSEEN = {"forget": "test", "retain": "retain_unseen"}


def record_of(monkeypatch, shapes, draws=(0, 1, 2), noise=0, never=None):
    """A record in which each column, and its unseen twin, has these accuracies at BETAS, in per cent.

    Everybody answers the first so many of their questions; with noise some person answers one less. `never`
    is how much never-saw answers of everything; None: there is none."""
    rows, predictions = [], {}
    known = {"experiment": "x", "model": "m", "benchmark": "mllmu", "schema": "mllmu", "replicate": 0}
    known |= {"forget_ratio": 5, "metric": "accuracy", "way": "shown", "seed": 0}
    wheres = [(title, PLACES[title.split()[0]], title.split()[1].lower()) for title in shapes]
    wheres += [
        (title, UNSEEN[group], how) for title, group, how in wheres if group in UNSEEN and how == "vqa"
    ]
    for draw in draws:
        for k, beta in enumerate([*BETAS, None] + ["never"] * (never is not None)):
            tables = []
            for title, group, modality in wheres:
                of = {"set": group, "modality": modality, "kind": "classification"}
                percent = shapes[title][k] if k < len(BETAS) else 100 if beta is None else never
                right = percent / 100 * QUESTIONS
                luck = np.random.default_rng([draw, k, len(title)])
                given = [
                    of
                    | {
                        "person": f"p{p}",
                        "question": f"{p}/{q}",
                        "score": float(q < right - worse),
                        "answer": "A",
                    }
                    for p, worse in enumerate(luck.random(PEOPLE) < noise)
                    for q in range(QUESTIONS)
                ]
                method = "VKD" if k < len(BETAS) else "vanilla" if beta is None else "never-saw"
                value = beta if k < len(BETAS) else None
                mean = 100 * np.mean([answer["score"] for answer in given])
                rows.append(known | of | {"run": f"{draw}-{k}", "draw": draw, "beta": value, "method": method}
                            | {"value": mean})  # fmt: skip
                tables += given
            predictions[f"{draw}-{k}"] = pd.DataFrame(tables)
    monkeypatch.setattr(records, "read_records", lambda name: pd.DataFrame(rows))
    monkeypatch.setattr(records, "read_predictions", lambda name: predictions)
    return pd.DataFrame(rows)


def judge(record, topic="fig2_beta"):
    """Its claims, judged."""
    return claims.judge(answered_tables(record, topic))


def scores_of(rows):
    """Scores and people of one column of that record."""
    return curves.column_answers(rows, "beta", records.read_predictions("x"))


FLAT = {f"{who} QA": [90] * 5 for who in PLACES}


def test_claims_about_beta(monkeypatch):
    shapes = {"Forget VQA": [20, 40, 60, 80, 90], "Retain VQA": [50, 60, 70, 80, 90]}
    record_of(monkeypatch, shapes | {"Real-world VQA": [50, 70, 90, 70, 50]} | FLAT)
    judged = judge("fig2_beta").set_index(["claim", "column"])
    at_first = judged.index.get_level_values("claim").str.startswith("distillation at first")
    (first,) = judged[at_first].itertuples()
    assert (first.verdict, first.statistic, first.change) == ("equivalent", 0, 0)  # up, and down again
    judged = judged[~at_first]
    many = {"Retain VQA": "", "Retain VQA, unseen": ""}
    assert judged.droplevel("claim").verdict.to_dict() | many == many | {
        "Forget VQA": "does not hold",  # it rises
        "Forget VQA, unseen": "does not hold",
        "Real-world VQA": "holds",
        "Forget QA": "holds",
        "Retain QA": "holds",
        "Real-world QA": "holds",
        "Balance": "does not hold",  # 0 is best, where forget VQA is below chance
    }
    retain = judged.xs("Retain VQA", level="column")
    assert retain.verdict.tolist() == ["holds"] * 3 and retain.statistic.tolist() == [-50, 40, 40]
    assert set(retain.runs_ours.str.split().map(len)) == {3 * len(BETAS)}
    peak = judged.xs("Real-world VQA", level="column").iloc[0]
    assert (peak.statistic, peak.runs, peak.people, peak.n) == (0.3, 3, PEOPLE, 100)
    assert peak.p == pytest.approx(3 * 2 / 2**PEOPLE)  # each of three could have been it
    assert judged.xs("Forget QA", level="column").p_holm.isna().all()  # an interval decides
    assert set(judged.xs("Forget QA", level="column").differ) == {0}


def test_what_is_noise_and_what_is_too_small(monkeypatch):
    shapes = {"Retain VQA": [90] * 5, "Real-world VQA": [80, 90, 90, 90, 90], "Forget VQA": [50] * 5}
    record = record_of(monkeypatch, shapes | FLAT, noise=0.5)
    of = lambda title: record[record["set"] == PLACES[title]].query("modality == 'vqa'")  # noqa: E731
    assert curves.answer_facts(*scores_of(of("Retain")), "rises")["p"] > 0.05
    found = curves.answer_facts(*scores_of(of("Real-world")), "peaks")
    assert found["p"] > 0.05 or not found["holds"]
    judged = judge("fig2_beta").set_index(["claim", "column"])
    noisy = judged.loc["the more distillation, the more other faces are kept", "Retain VQA"]
    assert noisy.verdict in ("equivalent", "cannot tell") and noisy.differ > 0


def test_a_best_value_at_an_end_is_no_peak(monkeypatch):
    kept = FLAT | {"Retain VQA": [90] * 5}
    record_of(monkeypatch, {"Real-world VQA": [50, 60, 70, 80, 90], "Forget VQA": [30] * 5} | kept)
    judged = judge("fig2_beta").query("expected != 'rises'").set_index("column")
    assert judged.loc["Real-world VQA"].verdict == "does not hold"
    assert set(judged.loc["Forget VQA"].verdict) == {"equivalent"}
    assert judged.loc["Balance"].verdict == "does not hold"
    record_of(monkeypatch, {"Real-world VQA": [50, 60, 90, 60, 50], "Forget VQA": [30] * 5} | kept)
    judged = judge("fig2_beta").query("expected != 'rises'").set_index("column")
    assert judged.loc[["Real-world VQA", "Balance"]].verdict.tolist() == ["holds", "holds"]
    assert judged.loc["Balance"].statistic == 0.3


def test_where_more_is_forgotten_than_by_never_saw(monkeypatch):
    """It is said beside the claims in which to forget is a success, as far as they go."""
    shapes = {"Forget VQA": [0, 0, 10, 20, 40], "Retain VQA": [50, 60, 70, 80, 90]}
    record_of(monkeypatch, shapes | {"Real-world VQA": [90] * 5} | FLAT, never=20)
    judged = judge("fig2_beta")
    forgetting = judged.column.isin(["Forget VQA", "Forget VQA, unseen", "Balance"])
    assert set(judged.over_forgotten[forgetting]) == {"beta = 0, 0.1, 0.3"}
    assert set(judged.over_forgotten[~forgetting]) == {""}
    table = tables.evidence(judged)
    assert (table["over-forgotten"] == "beta = 0, 0.1, 0.3").sum() == forgetting.sum()
    best = table[table.column == "Balance"].iloc[0]
    assert (best.p, best.N, best.people) == ("–", "300", "10")  # three columns of faces, no p
    slopes = table[table.what.str.startswith("last − first (line: ")]
    assert "40" in set(slopes.measured) and "100" in set(slopes.N)


def test_a_fall_that_ends_in_over_forgetting_is_no_success(monkeypatch):
    """The balance counts nothing below chance, and is not barred."""
    kept = FLAT | {"Retain VQA": [90] * 5, "Real-world VQA": [60, 70, 90, 80, 70]}
    for last, verdict, over in ((20, "holds", ""), (0, "over-forgotten", "beta = 3")):
        record_of(monkeypatch, kept | {"Forget VQA": [90, 70, 50, 30, last]}, never=20)
        falls = judge("fig2_beta").query("expected == 'falls'")
        assert set(falls.verdict) == {verdict} and set(falls.over_forgotten) == {over}
    balance = judge("fig2_beta").query("column == 'Balance'").iloc[0]
    assert balance.over_forgotten == "beta = 3" and balance.verdict in (
        "holds",
        "does not hold",
        "in some draws",
    )


def test_another_record_is_judged_by_the_claims_of_a_figure(monkeypatch):
    shapes = {"Retain VQA": [50, 60, 70, 80, 90], "Forget VQA": [30] * 5, "Real-world VQA": [90] * 5}
    record_of(monkeypatch, shapes | FLAT)
    assert judge("fig2_beta_7b").equals(judge("fig2_beta"))
    with pytest.raises(
        ValueError, match="no claims are known of 'fig2_beta_7b': name the topic that is meant"
    ):
        judge("fig2_beta_7b", topic=None)


def test_a_slope_counts_as_far_as_the_claim_goes(monkeypatch):
    one = {"claim": "c", "source": "s", "columns": ["Retain VQA"], "expected": "rises", "up_to": 1.0}
    record_of(monkeypatch, {"Retain VQA": [50, 60, 70, 80, 0]})
    for up_to, verdict in ((1.0, "holds"), (3.0, "does not hold")):
        topic = answers.Topic("vkd 1", [one | {"up_to": up_to}], setting="beta")
        monkeypatch.setattr(answers, "read_topic", lambda name, topic=topic: topic)
        assert judge("x").verdict.tolist() == [verdict]


def test_best_in_every_draw_by_more_than_nothing(monkeypatch):
    kept = FLAT | {"Real-world VQA": [90] * 5}
    record = record_of(monkeypatch, {"Retain VQA": [80] * 5, "Forget VQA": [30] * 5} | kept)
    better = (record["set"] == "retain_unseen") & (record.beta == 0.1)
    record.loc[better, "value"] = 83  # a point and a half of balance
    assert curves.optimum(curves.draw_balances(record, "beta"))["holds"] is False  # one point is none
    assert curves.shortfall(curves.draw_balances(record, "beta"), 3.0)["holds"] is True
    record.loc[better & (record.draw == 1), "value"] = 95  # seven and a half
    found = curves.optimum(curves.draw_balances(record, "beta"))
    assert found["holds"] is None and found["statistic"] == 0.1
    found = curves.shortfall(curves.draw_balances(record, "beta"), 3.0)
    assert found["holds"] is None and found["statistic"] == pytest.approx((7.5 + 1.5 + 1.5) / 3)


def test_luck_of_another_value_in_every_draw_is_no_optimum(monkeypatch):
    kept = FLAT | {"Real-world VQA": [90] * 5}
    record = record_of(monkeypatch, {"Retain VQA": [80] * 5, "Forget VQA": [30] * 5} | kept)
    for draw, beta in ((0, 0.1), (1, 0.3), (2, 1.0)):
        lucky = record["set"] == "retain_unseen"
        record.loc[lucky & (record.draw == draw) & (record.beta == beta), "value"] = 95
    assert curves.optimum(curves.draw_balances(record, "beta"))["holds"] is False
    assert curves.shortfall(curves.draw_balances(record, "beta"), 3.0)["holds"] is True
    with pytest.raises(ValueError, match="needs two draws, three values of beta"):
        curves.draw_balances(record.query("draw == 0"), "beta")


def test_draws_may_forget_people_of_their_own():
    """Then a balance has questions of one draw, and questions of all."""

    def answers_of(draw, beta):
        return made_up_answers(lambda group, *_: beta if group == "retain" else 0.5, draw, people=3)

    runs = [
        ({"method": "VKD", "beta": beta, "draw": draw, "run": f"{draw}-{beta}"}, answers_of(draw, beta))
        for draw in range(2)
        for beta in (0.0, 1.0)
    ]
    record, predictions = made_up_record(runs)
    scores, people = curves.column_answers(record[record.modality == "vqa"], "beta", predictions)
    assert scores.loc["forget"].shape == scores.loc["retain"].shape == (6 * MADE_UP, 2)
    assert set(people.groupby(level="set").nunique()) == {6}
    assert scores.groupby(level="set").mean().loc["retain"].tolist() == [0, 100]
    with pytest.raises(ValueError, match="not every value of beta has the same questions and draws"):
        curves.column_answers(record[record.run != "1-0.0"], "beta", predictions)
    others = record[~record.run.isin(["1-0.0", "0-1.0"]) & (record["set"] == "retain")]  # each value once
    with pytest.raises(ValueError, match="not every value of beta has the same questions and draws"):
        curves.column_answers(others, "beta", predictions)


def test_half_a_curve_is_not_judged(monkeypatch):
    record = record_of(monkeypatch, {"Retain VQA": [80] * 5})
    with pytest.raises(ValueError, match="not every value of beta has the same questions and draws"):
        scores_of(record[(record.draw != 1) | (record.beta != 3.0)])
    whole = records.read_predictions("x")
    fewer = {run: table[:-QUESTIONS] if run.endswith("-4") else table for run, table in whole.items()}
    with pytest.raises(ValueError, match="not every value of beta has the same questions"):
        curves.column_answers(record, "beta", fewer)
    with pytest.raises(ValueError, match="a peak needs at least three values"):
        curves.answer_facts(*scores_of(record[~(record.beta > 0.1)]), "peaks")


def test_flat_is_a_matter_of_points(monkeypatch):
    record = record_of(monkeypatch, {"Retain VQA": [90, 90, 90, 80, 90]})
    found = curves.answer_facts(*scores_of(record), "flat")
    assert (found["test"], found["statistic"], found["differ"]) == ("within 2 points", 10, 10)
    assert found["holds"] is False
    assert curves.answer_facts(*scores_of(record_of(monkeypatch, {"Retain VQA": [90] * 5})), "flat")["holds"]
    unsure = record_of(monkeypatch, {"Retain VQA": [90] * 5}, draws=[0], noise=0.2)
    assert curves.answer_facts(*scores_of(unsure), "flat")["holds"] is None


def test_every_claim_about_a_curve_can_be_tested():
    for record in ("fig2_beta", "fig3_alpha"):
        for one in answers.read_topic(record).claims:
            assert (
                one["expected"] in (*curves.ANSWER_TESTS, *curves.BALANCE_TESTS)
                and one["columns"]
                and one["source"].startswith("4.3")
            )


def test_a_setting_or_a_value_that_was_not_swept_is_named(monkeypatch):
    record = record_of(
        monkeypatch, {"Retain VQA": [90] * 5, "Forget VQA": [30] * 5, "Real-world VQA": [90] * 5} | FLAT
    )
    monkeypatch.setattr(records, "read_records", lambda name: record.rename(columns={"beta": "betta"}))
    with pytest.raises(ValueError, match="the setting of the topic is 'beta'.*mean 'betta'"):
        judge("x")
    with pytest.raises(
        ValueError, match="the value of beta that a claim calls good is 1.25; it must be one of 0.0, 0.1"
    ):
        curves.shortfall(curves.draw_balances(record, "beta"), 1.25)


def test_what_a_curve_cannot_show_is_not_expected_of_it(monkeypatch):
    record_of(monkeypatch, {"Retain VQA": [90] * 5})
    claim = {"claim": "c", "source": "s", "columns": ["Retain VQA"], "expected": "has an optimum"}
    topic = answers.Topic("vkd 1", [claim], setting="beta")
    monkeypatch.setattr(answers, "read_topic", lambda name: topic)
    with pytest.raises(ValueError, match="what 'c' expects of this column is 'has an optimum'.*rises, falls"):
        judge("x")
