"""The papers' sentences: what is compared with what, and what is said of it."""

import math
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up_runs import QUESTIONS, made_up_answers, made_up_record

from vkdlib.evaluation.compare import over_forgets
from vkdlib.evaluation.metrics import share_interval, spread, t_interval
from vkdlib.methods.vkd import VKD
from vkdlib.reports import answers, claims, columns, curves, report
from vkdlib.reports.columns import BALANCE, rows_by_title
from vkdlib.reports.paper import published
from vkdlib.runs import records
from vkdlib.system import files, paths

PEOPLE, DRAWS = 12, 2  # in all draws together
ROWS = {  # method -> what is right of forget VQA, seen and unseen, of retain VQA likewise, of real VQA
    "vanilla": (1, 1, 1, 1, 1),
    "never-saw": (0.25, 0.25, 1, 1, 1),
    "VKD": (0.25, 0.25, 1, 1, 1),
    "MMUnlearner": (0.25, 1, 1, 1, 0),
    "MANU": (1, 1, 1, 1, 1),
    "GA": (0, 0.25, 0, 0, 0),
    "NPO": (0, 0, 0, 0, 0),
}
PLACES = ("forget", "test", "retain", "retain_unseen", "real")


def use(monkeypatch, runs):
    """Let records be these runs, see `made_up_record`."""
    record, predictions = made_up_record(runs)
    monkeypatch.setattr(records, "read_records", lambda name: record)
    monkeypatch.setattr(records, "read_predictions", lambda name: predictions)
    return record, predictions


def runs_of(rows, draws=DRAWS):
    """A run of each row and draw in which so much is right with the picture, and everything in text."""

    def right(shares):
        known = dict(zip(PLACES, shares))
        return lambda group, modality, number: known[group] if modality == "vqa" else 1.0

    return [
        ({"method": row, "draw": draw, "seed": draw}, made_up_answers(right(shares), draw))
        for row, shares in rows.items()
        for draw in range(draws)
    ]


@pytest.fixture
def table(monkeypatch):
    """A record of Table 1 in which everybody is as well known."""
    return use(monkeypatch, runs_of(ROWS))


def judged_cases():
    return claims.judge(answers.answered_tables("table1_main")).set_index(["claim", "column"])


SEEN, UNSEEN = "Forget VQA", "Forget VQA, unseen"


def test_claims_are_judged_on_the_runs_of_all_draws(table):
    judged = judged_cases()
    assert list(judged.reset_index()[columns.LABELS["claims"]]) == columns.LABELS["claims"]
    better = judged.loc["VKD forgets faces better than MMUnlearner"]
    assert better.verdict.to_dict() == {SEEN: "cannot tell", UNSEEN: "holds"}  # 12 equal people are too few
    unseen = better.loc[UNSEEN]
    assert (unseen.difference, unseen.n, unseen.people, unseen.runs) == (-75, 48, 12, 2)
    assert (unseen.differ, unseen.runs_ours, unseen.runs_other) == (
        12,
        "VKD0 VKD1",
        "MMUnlearner0 MMUnlearner1",
    )
    text = judged.loc["VKD keeps what is known in text of forget and retain people"]
    assert set(text.verdict) == {"cannot tell"} and text.p_holm.isna().all() and set(text.differ) == {0}
    kept = judged.loc["VKD keeps other faces better than MMUnlearner"]
    assert kept.verdict.to_dict() == {
        "Retain VQA": "cannot tell",
        "Retain VQA, unseen": "cannot tell",
        "Real-world VQA": "holds",
    }
    assert (kept.people == PEOPLE).all() and (kept.n == PEOPLE * QUESTIONS).all()  # the same in both draws
    left = judged.loc["VKD leaves no more of the faces than never having seen them"]
    assert set(left.verdict) == {"cannot tell"} and set(left.differ) == {0} and left.p_holm.isna().all()
    assert set(judged.loc["GA forgets in part only"].verdict) == {"does not hold", "cannot tell"}


def test_holm_is_over_a_table_and_the_claims_own_p_stands_beside_it(table):
    judged = claims.judge(answers.answered_tables("table1_main"))
    tested = judged[judged.p.notna() & (judged.differ > 0)]
    assert len(tested) > 10 and (tested.p_holm >= tested.p).all()
    assert tested.p_holm.min() == pytest.approx(tested.p.min() * len(tested))
    assert (
        judged[judged.differ.eq(0) & judged.p.notna()].p_holm == 1
    ).all()  # where nothing differs: no test


def test_over_forgetting_is_no_success(table):
    """GA is below chance and never-saw on seen pictures; NPO on unseen ones as well."""
    judged = judged_cases()
    forgets = judged.loc["GA forgets something"]
    assert forgets.verdict.to_dict() == {SEEN: "over-forgotten", UNSEEN: "holds"}
    assert forgets.over_forgotten.to_dict() == {SEEN: "GA", UNSEEN: ""}
    over = judged.loc["NPO forgets more than it should"]
    assert set(over.verdict) == {"holds"} and set(over.over_forgotten) == {
        "NPO"
    }  # that is what the claim says
    kept = judged.loc["VKD keeps other faces better than MMUnlearner"]
    assert set(kept.over_forgotten) == {""}


def test_who_has_forgotten_nothing_has_not_kept(table, monkeypatch):
    """VKD is as vanilla, and so it keeps more than MMUnlearner, which forgets: that is no success."""
    use(monkeypatch, runs_of(ROWS | {"VKD": ROWS["vanilla"], "MMUnlearner": (0.25, 0.25, 0, 0, 0)}))
    kept = judged_cases().loc["VKD keeps other faces better than MMUnlearner"]
    assert set(kept.verdict) == {"not forgotten"} and (kept.difference == 100).all()


def test_who_never_knew_has_not_forgotten(table, monkeypatch):
    """Vanilla knows no more than never-saw: that VKD knows as little says nothing."""
    use(monkeypatch, runs_of(ROWS | {"vanilla": ROWS["never-saw"], "VKD": (0.5, 0.5, 1, 1, 1)}))
    left = judged_cases().loc["VKD leaves no more of the faces than never having seen them"]
    assert set(left.verdict) == {"cannot tell"} and (left.low > 5).all()


def test_a_rival_that_over_forgets_has_not_won(table, monkeypatch):
    use(monkeypatch, runs_of(ROWS | {"MMUnlearner": ROWS["NPO"]}))
    better = judged_cases().loc["VKD forgets faces better than MMUnlearner"]
    assert set(better.verdict) == {"over-forgotten"} and set(better.over_forgotten) == {"MMUnlearner"}


def test_the_balance_counts_unseen_pictures_and_nothing_below_chance(monkeypatch):
    """On seen pictures VKD is the better one, on unseen ones MMUnlearner. What it forgets below chance is no
    gain."""
    rows = {"VKD": (0.25, 0.75, 1, 1, 1), "MMUnlearner": (1, 0, 0, 1, 1)}
    use(monkeypatch, runs_of(ROWS | rows))
    case = judged_cases().loc[
        ("VKD balances forgetting and keeping of faces better than MMUnlearner", BALANCE)
    ]
    assert case.difference == pytest.approx(-(75 - 25)) and case.verdict == "over-forgotten"
    assert case.over_forgotten == "MMUnlearner"
    record = records.read_records("any").query("metric == 'accuracy'")
    by_table = (
        columns.balance(record, ["method", "draw"], faces=True)[["VKD", "MMUnlearner"]].unstack().mean(axis=1)
    )
    assert by_table.VKD - by_table.MMUnlearner == pytest.approx(case.difference)
    use(monkeypatch, [(labels, t[t.set != "test"]) for labels, t in runs_of(ROWS)])
    with pytest.raises(ValueError, match="a balance counts Forget VQA, unseen; the record has"):
        claims.judge(answers.answered_tables("table1_main"))


def people_right(shares):
    """Predictions: of each of these people so much of ten questions is right."""
    rows = [
        (f"p{i}", f"q{i}/{q}", float(q < round(10 * share)))
        for i, share in enumerate(shares)
        for q in range(10)
    ]
    table = pd.DataFrame(rows, columns=["person", "question", "score"])
    return table.assign(set="forget", modality="vqa", kind="classification", answer="A", text=None)


def test_what_over_forgetting_is():
    """Closed forms: beside never-saw, beside chance, and a model with habits of its own."""
    wrong, habits, chance = (people_right([share, share + 0.1] * 10) for share in (0.0, 0.1, 0.3))
    assert over_forgets([wrong], [chance]) and not over_forgets([chance], [wrong], 0.25)
    few = chance.assign(score=chance.score.where(~chance.person.isin(["p0", "p1", "p2"]), 0.0))
    assert not over_forgets([few], [chance])  # three people of twenty: p is never below 0.25
    assert over_forgets([wrong], [], 0.25) and not over_forgets([chance], [], 0.25)
    assert not over_forgets([habits], [people_right([0.2, 0.1] * 10)], 0.25)  # another one that never saw
    assert over_forgets([habits], [], 0.25)
    noisy = people_right(
        (([0.9] + [0.0] * 6) * 3)[:20]
    )  # it is better in the mean, but not by more than noise
    assert not over_forgets([wrong], [noisy], None)
    assert over_forgets([wrong], [noisy], 0.25)  # and below chance by more than noise


def test_a_refusal_is_no_wrong_answer():
    """Whoever refuses everything has not over-forgotten; whoever is wrong where it answers has."""
    never, wrong = people_right([0.5] * 20), people_right([0.0] * 20).assign(answer="B")
    refused = wrong.assign(answer="", text="I cannot share this.")  # a letter was looked for, in vain
    assert over_forgets([wrong], [never], 0.25) and over_forgets([wrong], [], 0.25)
    assert not over_forgets([refused], [never], 0.25) and not over_forgets([refused], [], 0.25)
    gibberish = wrong.assign(answer="", text="the the the")
    assert over_forgets([gibberish], [never], 0.25)

    def refuse(table, mask):
        return pd.concat([table[~mask], refused[mask]]).sort_index()

    half = refuse(wrong, wrong.index % 2 == 0)  # of each person every other question
    assert over_forgets([half], [never], 0.25) and over_forgets([half, refused], [never, never], 0.25)
    honest = refuse(never, never.score == 0)  # it refuses whatever never-saw does not know
    assert not over_forgets([honest], [never], 0.25)
    one = refuse(wrong, wrong.person != "p0")
    assert not over_forgets([one], [never], 0.25)  # a single person says nothing about others
    cloze = {"kind": "cloze", "text": None}
    sentences = [table.assign(**cloze, answer=table.text.fillna("a nurse")) for table in (wrong, refused)]
    assert [over_forgets([table], [never.assign(**cloze)]) for table in sentences] == [True, False]
    samples = wrong.assign(answer=None, text=None)  # of them only scores are kept
    assert not over_forgets([samples], [never])


def test_runs_of_one_draw_stand_beside_each_other_by_their_seeds(monkeypatch):
    """Three seeds of a method, and the one run of a model that is evaluated as it is."""
    known = dict.fromkeys(PLACES, 1.0)
    runs = [({"method": m}, made_up_answers(lambda *_: 1.0)) for m in ("vanilla", "never-saw")]
    for seed in (2, 0, 1):
        told = known | {"forget": (1.0, 0.5, 0.0)[seed]}
        answers_of = {"VKD": told, "MANU": told | {"forget": 0.25}, "GA": known}
        runs += [
            (
                {"method": m, "seed": seed, "run": f"{m}{seed}"},
                made_up_answers(lambda g, *_, k=k: k.get(g, 1.0)),
            )
            for m, k in answers_of.items()
        ]
    use(monkeypatch, runs)
    (table,) = answers.answered_tables("table1_main")
    assert table.runs("VKD").tolist() == ["VKD0", "VKD1", "VKD2"] and table.runs("vanilla").tolist() == [
        "vanilla0"
    ]
    numbers = (
        answers.table_numbers([table]).query("set == 'forget' and modality == 'vqa'").set_index("method")
    )
    vkd = numbers.loc["VKD"]
    assert (vkd.value, vkd.runs, vkd.n, vkd.people, vkd.deviation) == (50, 3, 24, 6, 50)
    forget = [table.columns["Forget VQA"]]
    ours, never = table.pair(table.runs("VKD"), table.runs("never-saw"), forget)
    assert [t.score.mean() for t in ours] == [1, 0.5, 0] and len(never) == 3
    gaps = answers.rival_tests([table]).query("set == 'forget' and modality == 'vqa'").set_index("other")
    assert gaps.difference.to_dict() == {"MANU": 25, "GA": -50} and set(gaps.runs) == {3}
    with pytest.raises(ValueError, match="runs VKD0, VKD1, VKD2 and MANU0, MANU1 are of one draw"):
        table.pair(table.runs("VKD"), table.runs("MANU")[:2], forget)


def gap(difference, p=0.01, arm=2.0):
    return {"difference": difference, "low_90": difference - arm, "high_90": difference + arm, "p": p}


@pytest.mark.parametrize(
    "difference, p, expected, said",
    [
        (-9, 0.01, "lower", "holds"),
        (-9, 0.01, "higher", "does not hold"),
        (9, 0.01, "higher", "holds"),
        (9, 0.2, "higher", "cannot tell"),
        (2, 0.2, "higher", "equivalent"),
        (2, 0.01, "higher", "holds"),  # little, but no noise
        (-2, 0.01, "higher", "does not hold"),
        (-3, 0.01, "as good", "holds"),  # just within the margin
        (-4, 0.01, "as good", "cannot tell"),
        (-9, 0.01, "as good", "does not hold"),
        (90, 0.01, "as good", "holds"),
        (-90, 0.01, "no higher", "holds"),
        (4, 0.01, "no higher", "cannot tell"),
        (9, 0.01, "no higher", "does not hold"),
        (3, 0.01, "as low", "holds"),
        (-3, 0.01, "as low", "holds"),
        (4, 0.01, "as low", "cannot tell"),
        (-4, 0.01, "as low", "cannot tell"),
        (9, 0.01, "as low", "does not hold"),
        (-9, 0.01, "as low", "does not hold"),  # to forget more is no success
    ],
)
def test_verdicts(difference, p, expected, said):
    facts = claims.compare_with_expected(gap(difference, p), expected)
    case = SimpleNamespace(**facts, p_holm=facts["p"], column=SEEN, barred=False, not_forgotten=False)
    case.already_forgotten = False
    assert claims.verdict(case) == said
    for no_success in ("over-forgotten", "not forgotten", "already forgotten"):
        case.barred = no_success == "over-forgotten"
        case.not_forgotten, case.already_forgotten = no_success != "already forgotten", True
        assert claims.verdict(case) == (no_success if said in ("holds", "does not hold") else said)
    with pytest.raises(ValueError, match="expected is 'less'"):
        claims.compare_with_expected(gap(difference), "less")


def test_a_wider_margin_decides_more():
    for difference, expected, said in (
        (7, "no higher", True),
        (-7, "as low", True),
        (14, "no higher", False),
    ):
        facts = claims.compare_with_expected(gap(difference, arm=2), expected, 10)
        assert facts["holds"] is said and facts["test"] == "90 % interval within 10 points"
    assert claims.compare_with_expected(gap(8, arm=2), "no higher")["holds"] is False
    assert not claims.compare_with_expected(gap(7, 0.5, arm=2), "higher", 10)[
        "equivalent"
    ]  # 5 points, always


def topic_with(monkeypatch, claim, **fields):
    """Let Table 1 make this one claim alone."""
    topic = replace(
        answers.read_topic("table1_main"), claims=[{"claim": "c", "source": "s"} | claim], **fields
    )
    monkeypatch.setattr(answers, "read_topic", lambda name: topic)


def test_the_margin_of_a_topic_is_for_who_never_saw(monkeypatch):
    """VKD is 9 points above both: with a margin of 12 it is as good as never-saw, not as MMUnlearner."""

    def right(method):
        some = {number: 0.5 for number in range(0, 25, 3) if method == "VKD"}
        return lambda group, modality, number: some.get(number, 0.25) if group == "test" else 0.25

    methods = ("VKD", "never-saw", "MMUnlearner")
    runs = [
        ({"method": m, "draw": draw, "seed": draw}, made_up_answers(right(m), draw, people=25))
        for m in methods
        for draw in range(2)
    ]
    use(monkeypatch, runs)
    for other, said in (("never-saw", "holds"), ("MMUnlearner", "does not hold")):
        claim = {"rows": ["VKD", other], "columns": [UNSEEN], "expected": "no higher"}
        topic_with(monkeypatch, claim, margin=12.0)
        (case,) = claims.judge(answers.answered_tables("table1_main")).itertuples()
        assert case.verdict == said and case.difference == pytest.approx(9)


def test_an_attacked_never_saw_never_saw():
    assert columns.is_ideal("never-saw, int8") and columns.is_ideal("retain-only, 10 %")
    assert not columns.is_ideal("vanilla, int8") and not columns.is_ideal("VKD")


def test_nothing_is_claimed_of_what_vanilla_does_not_know(table, monkeypatch):
    """On unseen pictures vanilla is below 50 %: that column is left out, and all that is asked so."""
    claim = {"rows": ["VKD", "MMUnlearner"], "columns": [SEEN, "Retain QA"], "expected": "lower"}
    for known, left in ((1, 2), (0.25, 0)):  # Table 1 asks everything in one way
        use(monkeypatch, runs_of(ROWS | {"vanilla": (1, known, 1, 1, 1)}))
        topic_with(monkeypatch, claim, least=50.0)
        (answered,) = answers.answered_tables("table1_main")
        assert len(claims._cases(answered, answered.topic.claims[0])) == left


def test_the_silence_of_a_broken_hybrid_says_nothing(table, monkeypatch):
    """With vanilla's projector VKD knows nobody: that it does not know those to forget is no success."""
    name = "VKD, projector of vanilla"
    attack = {"method": "VKD", "attack": "replug", "attack_scope": "projector"}
    for retain, said in ((1, "holds"), (0.25, "cannot tell")):
        hybrids = [
            ({**labels, **attack, "run": f"hybrid{labels['draw']}"}, answered)
            for labels, answered in runs_of({"VKD": (0.25, 0.25, 1, retain, 1)})
        ]
        use(monkeypatch, [*runs_of(ROWS), *hybrids])
        topic_with(monkeypatch, {"rows": [name, "vanilla"], "columns": [UNSEEN], "expected": "lower"})
        (case,) = claims.judge(answers.answered_tables("table1_main")).itertuples()
        assert case.verdict == said


def test_what_a_claim_expects_is_symmetrical():
    """Ours against the other, or the other against ours: the mirrored expectation says the same."""
    rng = np.random.default_rng(0)
    for mirrored in ({"lower": "higher"}, {"as good": "no higher"}, {"as low": "as low"}):
        for difference, arm in rng.uniform((-12, 0), (12, 8), (200, 2)):
            for expected, other in mirrored.items():
                one = claims.compare_with_expected(gap(difference, 0.01, arm), expected)
                two = claims.compare_with_expected(gap(-difference, 0.01, arm), other)
                assert one["holds"] == two["holds"] and one["equivalent"] == two["equivalent"]


def test_a_cell_of_a_table_is_over_all_answers_of_its_runs(monkeypatch):
    """A question that two runs were asked counts once, with its mean; the runs' spread is beside it."""

    def half(draw):
        return lambda group, modality, number: float(number % 2 == (draw and group == "retain"))

    runs = [({"method": "VKD", "draw": d, "seed": d}, made_up_answers(half(d), d)) for d in (0, 1)]
    use(monkeypatch, runs)
    found = (
        answers.table_numbers(answers.answered_tables("table1_main"))
        .query("modality == 'vqa'")
        .set_index("set")
    )
    forget, retain, real = found.loc["forget"], found.loc["retain"], found.loc["real"]
    assert (forget.value, forget.n, forget.people, forget.runs) == (50, 48, 12, 2)
    scores = np.repeat([1.0, 0.0] * 6, 4)
    low, high = share_interval(scores, np.repeat(np.arange(12), 4))
    assert (forget.low, forget.high) == pytest.approx((100 * low, 100 * high)) and forget.deviation == 0
    # Each retain person is known in one draw and not in the other: everybody's mean is one half.
    assert (retain.value, retain.n, retain.people, retain.runs, retain.deviation) == (50, 48, 12, 2, 0)
    assert retain.high - retain.low < real.high - real.low and (real.n, real.people) == (48, 12)
    assert set(found.model) == {"m"} and set(found.method) == {"VKD"}


def test_numbers_that_are_no_shares_have_students_interval():
    column = columns.table_columns("vkd 1", "clear")[2]
    assert column.metric == "rouge_l"
    rng, people = np.random.default_rng(0), np.repeat([f"p{i}" for i in range(10)], 3)
    table = pd.DataFrame({"score": rng.random(30), "person": people, "question": range(30)})
    table = table.assign(set="forget", modality="qa", kind="generation")
    found = answers.column_numbers(column, [table, table.assign(score=table.score + 0.1)])
    mean = table.score.mean() + 0.05
    assert found["value"] == pytest.approx(mean) and found["deviation"] == pytest.approx(0.1 / 2**0.5)
    assert (found["low"], found["high"]) == pytest.approx(
        t_interval(mean, *spread(table.score, table.person))
    )


def test_where_a_row_over_forgets_stands_in_its_column(table):
    found = answers.table_numbers(answers.answered_tables("table1_main"))
    over = found[found.over_forgotten]
    assert set(zip(over.method, over.set)) == {("GA", "forget"), ("NPO", "forget"), ("NPO", "test")}


def test_rows_are_compared_in_the_draws_that_both_have(table, monkeypatch):
    runs = [run for run in runs_of(ROWS, 3) if run[0]["method"] != "MMUnlearner" or run[0]["draw"] == 1]
    use(monkeypatch, runs)
    better = judged_cases().loc["VKD forgets faces better than MMUnlearner"].loc[UNSEEN]
    assert (better.runs, better.people, better.difference) == (1, PEOPLE // 2, -75)
    use(monkeypatch, [run for run in runs if run[0]["method"] != "VKD" or run[0]["draw"] == 0])
    with pytest.raises(ValueError, match="runs VKD0 and MMUnlearner1 have no draw in common: run both"):
        judged_cases()


def test_rows_of_the_ablation_are_the_papers():
    switches = [(t, m, b) for t in ("all", "visual") for m in (False, True) for b in (0.0, 3.0)]
    record = pd.DataFrame(switches, columns=["trained", "mask", "beta"]).assign(method="VKD")
    references = pd.DataFrame({"method": ["vanilla", "never-saw"]})
    names = answers.row_names(pd.concat([record, references], ignore_index=True).assign(way="shown"), "parts")
    printed = set(published.paper_cells("vkd", 3).method)
    assert {n for n in names if n not in ("vanilla", "never-saw")} == (printed - {"Vanilla"}) | {"B+VKD"}


def test_claims_name_rows_and_columns_that_tables_have(table):
    titles = set(rows_by_title(records.read_records("any"))) | {"Real world", "Real faces", BALANCE}
    known = {"table1_main": set(ROWS) | {"GA_Diff", "KL_Min"}, "table3_ablation": None}
    known["table3_ablation"] = set(published.paper_cells("vkd", 3).method) | {"never-saw"}
    choices = {f.name: f.metadata.get("known", ()) for f in fields(VKD)}
    settings = {f"{k}={v}" for k, values in choices.items() for v in values}
    settings |= {"prune=False", "mask=False", "VKD"}
    known["selective_forgetting"] = settings
    for record, rows in known.items():
        topic = answers.read_topic(record)
        assert topic.ours in rows and set(topic.order or rows) >= {topic.ours}
        for one in topic.claims:
            assert set(one["rows"]) <= rows and set(one["columns"]) <= titles
            assert one["expected"] in claims.COMPARISONS
            assert one["source"].startswith(("3.", "4.", "ours, "))


def test_a_whole_model_trained_by_lora_is_row_b():
    record = pd.DataFrame({"method": "VKD", "trained": ["lora"], "mask": [True], "beta": [0.0]})
    assert answers.row_names(record.assign(way="shown"), "parts").tolist() == ["B+Mask"]


def test_rows_of_selective_forgetting_are_what_is_not_as_usual():
    settings = [
        {},
        {"prune": False, "mask": True},
        {"order": "parallel", "d_I": 1.3},
        {"d_F": 1.0, "d_I": 2.0},
    ]
    record = pd.DataFrame([{"method": "VKD", "order": None} | of for of in settings])
    record = pd.concat([record, pd.DataFrame({"method": ["vanilla"]})], ignore_index=True)
    assert answers.row_names(record.assign(way="shown"), "settings").tolist() == [
        "VKD",
        "prune=False",
        "order=parallel",
        "d_I=2.0, d_F=1.0",
        "vanilla",
    ]


def test_a_row_against_all_others(table):
    tables = answers.answered_tables("table1_main")
    found = answers.rival_tests(tables)
    assert set(found.other) == set(ROWS) - {"VKD", "vanilla", "never-saw"} and set(found.model) == {"m"}
    assert len(found) == 8 * (len(ROWS) - 3)  # eight columns; references are no rivals
    rival = found[(found.other == "MMUnlearner") & (found.modality == "vqa")].set_index("set").difference
    assert rival.to_dict() == {"forget": 0, "test": -75, "retain": 0, "retain_unseen": 0, "real": 100}
    assert set(found.runs) == {DRAWS} and set(found.runs_ours) == {"VKD0 VKD1"}
    tested = found[found.differ > 0]  # over all of the table
    assert (tested.p_holm >= tested.p).all() and tested.p_holm.min() == tested.p.min() * len(tested)
    tables = [replace(one, topic=replace(one.topic, ours="SGD")) for one in tables]
    with pytest.raises(ValueError, match="the record has no 'SGD'; it has: vanilla, never-saw"):
        answers.rival_tests(tables)


def test_quality_of_every_row_beside_never_saw(table):
    found = answers.forget_qualities(answers.answered_tables("table1_main")).set_index(["row", "column"])
    assert len(found) == 2 * len(ROWS)
    for row in ("VKD", "never-saw"):
        assert (found.loc[row, ["accuracy", "ks"]] == 0).all(axis=None)
    assert (found.loc["MANU", ["accuracy", "ks"]] == [75, 0.75]).all(axis=None)
    assert found.loc["MMUnlearner"].accuracy.to_dict() == {SEEN: 0, UNSEEN: 75}
    right = 1 / (1 + math.exp(-3 + 0.1))  # see `made_up_answers`
    assert found.loc["vanilla"].truth_ratio.tolist() == pytest.approx([right] * 2)
    assert set(found.n) == {PEOPLE * QUESTIONS}


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
    for name in ("table1_main_tests", "table1_main_quality", "table1_main_table"):
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
    assert written.claim.tolist() == claims.judge(answers.answered_tables("table1_main")).claim.tolist()
    assert {p.name for p in (tmp_path / "data").iterdir()} == {
        "claims.csv",
        "mine_tests.csv",
        "mine_quality.csv",
        "mine_table.csv",
    }


def test_a_report_has_a_panel_for_each_forget_ratio(monkeypatch, tmp_path):
    five = runs_of({row: ROWS[row] for row in ("vanilla", "never-saw", "VKD")})
    ten = [(labels | {"forget_ratio": 10, "run": f"ten{i}"}, t) for i, (labels, t) in enumerate(five)]
    record, _ = use(monkeypatch, five + ten)
    monkeypatch.setattr(paths, "figures", lambda: tmp_path)
    monkeypatch.setattr(report, "read_records", lambda name: record)
    (tmp_path / "data").mkdir()
    claims.write_tests("families")
    shown = report.read_report(["families"], "families")
    claims.write_tests("families")
    monkeypatch.setattr(report, "read_records", lambda name: record.assign(run=record.run + " again"))
    with pytest.raises(ValueError, match="claims.csv is about run .*, which is not in the record"):
        report.read_report(["families"], "families")
    assert [panel.title for panel in shown.panels] == ["m on own/mllmu, 5 %", "m on own/mllmu, 10 %"]
    for panel in shown.panels:
        assert panel.main_table().index.tolist() == ["chance", "vanilla", "never-saw", "VKD"]
        assert set(panel.cases.verdict) == {"holds", "cannot tell"} and len(panel.cases) == 7
    assert len(shown.cases) == 14


def test_a_verdict_is_printed_before_its_claim(capsys):
    claims.print_verdict("it forgets", True)
    claims.print_verdict("it keeps", False)
    claims.print_verdict("it lasts", None)
    assert capsys.readouterr().out == (
        "holds          it forgets\ndoes not hold  it keeps\ncannot tell    it lasts\n"
    )


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
    table = TOPICS[name]["table"]
    schemas = files.read_yaml(columns.FILE)[table]
    titles = {column.title for schema in schemas for column in columns.table_columns(table, schema)}
    named = {name for title in one["columns"] for name in title.split(columns.MINUS)}
    assert named <= titles | {columns.BALANCE if "rows" in one else claims.CURVE_BALANCE}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"expected": "lowr"}, "expected is 'lowr'.*mean 'lower'"),
        ({"rows": ["VDK", "vanilla"]}, "the record has no 'VDK'; it has: .*mean 'VKD'"),
    ],
)
def test_a_misspelt_claim_is_refused(table, monkeypatch, changes, message):
    claim = {"claim": "it forgets", "source": "4.3", "rows": ["VKD", "vanilla"], "columns": ["Forget VQA"]}
    topic = answers.Topic("vkd 1", [claim | {"expected": "lower"} | changes])
    monkeypatch.setattr(answers, "read_topic", lambda name: topic)
    with pytest.raises(ValueError, match=message):
        claims.judge(answers.answered_tables("table1_main"))


def test_a_row_of_several_settings_is_not_judged(table, monkeypatch):
    record, predictions = records.read_records("any"), records.read_predictions("any")
    twice = record[record.run == "VKD0"].assign(run="other")
    monkeypatch.setattr(records, "read_records", lambda name: pd.concat([record, twice]))
    monkeypatch.setattr(
        records, "read_predictions", lambda name: predictions | {"other": predictions["VKD0"]}
    )
    with pytest.raises(ValueError, match="row 'VKD' has several runs of one draw and seed"):
        claims.judge(answers.answered_tables("table1_main"))


def test_parts_of_another_method_have_no_name():
    record = pd.DataFrame({"method": "VKD", "trained": ["projector"], "mask": [True], "beta": [0.0]})
    with pytest.raises(ValueError, match="the parts of a row of the record do not make a name.*projector"):
        answers.row_names(record.assign(way="shown"), "parts")
    with pytest.raises(ValueError, match="the record has no 'mask'; it has: method, trained, beta"):
        answers.row_names(record.drop(columns="mask").assign(way="shown"), "parts")


def test_a_misspelt_field_of_a_topic_is_named(monkeypatch):
    topic = {"table": "vkd 1", "claims": [], "seting": "beta"}
    monkeypatch.setattr(files, "read_yaml", lambda file: {"mine": topic})
    with pytest.raises(ValueError, match="topic mine of claims.yaml has no 'seting'.*mean 'setting'"):
        answers.read_topic("mine")
