"""Metrics: published vectors, closed forms, and the layout of summaries."""

import json
import math
import unicodedata

import pandas as pd
import pytest
import scipy.stats

from vkdlib.evaluation import metrics
from vkdlib.evaluation.tokens import Tokenizer
from vkdlib.reports import columns

# gold, prediction, ROUGE-L F, recall, precision, BLEU (rouge-score 0.1.2 with stemmer; nltk, method 1)
VECTORS = [
    ("the cats were running in gardens", "a cat runs in the garden",
     0.666667, 0.666667, 0.666667, 0.04854918),
    ("alpha beta gamma delta", "alpha gamma delta epsilon", 0.75, 0.75, 0.75, 0.18803015),
    ("Dr. Zoë O'Neil, aged 42!", "zoe o neil aged 42", 0.727273, 0.666667, 0.8, 0.0537285),
    ("same words here", "same words here", 1, 1, 1, 0.56234133),
    ("He was born in 1980.", "he was born 1980", 0.888889, 0.8, 1, 0.1323217),
    ("any", "", 0, 0, 0, 0),
]  # fmt: skip


@pytest.mark.parametrize("gold, answer, f, recall, precision, bleu", VECTORS)
def test_rouge_and_bleu(gold, answer, f, recall, precision, bleu):
    assert metrics.rouge_l(gold, answer) == pytest.approx(f, abs=1e-6)
    assert metrics.rouge_l(gold, answer, "recall") == pytest.approx(recall, abs=1e-6)
    assert metrics.rouge_l(gold, answer, "precision") == pytest.approx(precision, abs=1e-6)
    assert metrics.bleu(gold, answer) == pytest.approx(bleu, abs=1e-7)


# The same sentence twice, and one that shares some words with it: (text, other, ROUGE-L F).
SCRIPTS = [
    ("Она работает врачом в Осло.", "она работает врачом в Лиме", 0.8),
    ("她是一名医生", "她是一名律师", 4 / 6),
    ("वह एक डॉक्टर है।", "वह एक वकील है", 0.75),
    ("هي طبيبة في القاهرة", "هي طبيبة في بغداد", 0.75),
    ("เธอเป็นแพทย์", "เธอเป็นครู", None),
    ("彼女は医者です。", "彼女は弁護士です。", None),
    ("그녀는 의사입니다.", "그녀는 변호사입니다.", 0.5),
    ("Η Άννα ζει στην Αθήνα.", "η άννα ζει στο Παρίσι", 0.6),
    ("היא רופאה", "היא מורה", 0.5),
    ("Öö", "Ää", 0.0),
    ("Anna живёт в Oslo, 1985", "anna живёт в Lima, 1985", 0.8),
]


@pytest.mark.parametrize("text, other, score", SCRIPTS)
def test_equal_texts_score_one_in_any_script(text, other, score):
    assert metrics.rouge_l(text, text) == 1.0
    assert metrics.rouge_l(text, text.upper()) == 1.0
    assert metrics.rouge_l(text, "") == 0.0
    if score is not None:
        assert metrics.rouge_l(text, other) == pytest.approx(score)
    assert metrics.rouge_l(text, other) < 1


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("text", [
    "Мой йод, её ёж", "그녀는 의사입니다.", "彼女はデザイナーです。", "Η Άννα ζει στην Αθήνα, ᾧ",
    "क़लम और ज़मीन", "Її їжак", "1985, Oslo: её", "й\u0323", "の か\u3099 が",
])  # fmt: skip
def test_the_unicode_form_of_other_scripts_changes_no_score(text, form):
    written = unicodedata.normalize(form, text)
    for gold, answer in ((text, written), (written, text)):
        assert metrics.rouge_l(gold, answer) == 1
        assert metrics.bleu(gold, answer) == metrics.bleu(text, text)
    words = Tokenizer().tokenize
    assert words(written) == words(text)


def test_vowel_signs_count():
    """Python takes the marks of Devanagari for no letters; without them these would be one word."""
    assert metrics.rouge_l("की", "कि") == 0.0


def test_latin_text_scores_as_rouge_score_has_it():
    """To the last digit, with its stemmer: accents and signs part words, as they do there."""
    from rouge_score.rouge_scorer import RougeScorer

    stock = RougeScorer(["rougeL"], use_stemmer=True)
    texts = [text for vector in VECTORS for text in vector[:2]]
    texts += ["Zoë Müller-Núñez’s running, m² — 5 µm", "ﬁve ＡＢ ①Ⅳ ½ K x̃ ᴬ ẞ", "cafe\u0301s were closing"]
    texts += ["Ação, Łódź: “the dancers’ dances”", "x_y __ 3.14 $5 50%", "\u200bzero width\u00ad"]
    for gold in texts:
        for answer in texts:
            assert metrics.rouge_l(gold, answer) == stock.score(gold, answer)["rougeL"].fmeasure


def test_a_share_of_independent_questions_by_hand():
    """Wilson (1927) of 10 of 50, whose people are one question each, with Student's t."""
    t, p, n = 2.009575, 0.2, 50
    middle = (p + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * (p * (1 - p) / n + t * t / (4 * n * n)) ** 0.5
    found = metrics.share_interval([1.0] * 10 + [0.0] * 40, range(50))
    assert found == pytest.approx((middle - half, middle + half), abs=1e-6)
    # Five people of ten questions each, one of whom is right: 10 of 50. With one more, who is right 5 times,
    # the share is 1/4, and its variance 6/5 * (7.5² + 4 * 2.5² + 2.5²) / 60².
    n = 0.25 * 0.75 / (6 / 5 * (7.5**2 + 5 * 2.5**2) / 60**2)
    t = 2.776445
    middle = (p + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * (p * (1 - p) / n + t * t / (4 * n * n)) ** 0.5
    found = metrics.share_interval([1.0] * 10 + [0.0] * 40, [i // 10 for i in range(50)])
    assert found == pytest.approx((middle - half, middle + half), abs=1e-6)


@pytest.mark.parametrize("each", (1, 3, 5, 15))
def test_at_either_end_a_share_lies_in_its_interval(each):
    for people in range(2, 120):
        names = [i // each for i in range(each * people)]
        assert metrics.share_interval([1.0] * len(names), names)[1] == 1
        assert metrics.share_interval([0.0] * len(names), names)[0] == 0


def test_the_interval_does_not_jump_where_one_answer_changes():
    """At 0 %, at 100 %, and where everybody is right as often."""
    people = [i // 4 for i in range(200)]
    for right in ([0.0] * 200, [1.0] * 200, [1.0, 0.0, 1.0, 0.0] * 50):
        a, b = (metrics.share_interval(values, people) for values in (right, [1 - right[0], *right[1:]]))
        assert a == pytest.approx(b, abs=0.015)


def test_clustering_widens_the_interval_when_people_differ():
    """Five people who know all, five who know nothing: 50 answers are worth ten."""
    values, people = [1.0] * 25 + [0.0] * 25, [str(i // 5) for i in range(50)]
    low, high = metrics.share_interval(values, people)
    alone = metrics.share_interval(values, range(50))
    assert high - low > 1.5 * (alone[1] - alone[0])


def predictions():
    row = {"set": "forget", "modality": "vqa", "options": None, "bleu": None, "gold": "A"}
    return pd.DataFrame(
        [row | {"kind": "classification", "person": str(i % 3), "answer": "A" if i else "",
                "question": str(i), "score": float(i > 0)} for i in range(4)]
        + [row | {"kind": "generation", "person": str(i), "answer": "x", "question": f"g{i}",
                  "score": 0.25 * i, "bleu": 0.5} for i in range(3)]
    )  # fmt: skip


def test_summary():
    table = metrics.summarise(predictions()).set_index("metric")
    assert table.loc["accuracy", ["value", "n"]].tolist() == [75.0, 4]
    assert table.loc["unparsable", "value"] == 25.0
    assert table.loc["rouge_l", ["value", "n"]].tolist() == [0.25, 3]
    assert table.loc["accuracy", "people"] == 3
    low, high = metrics.share_interval([0.0, 1.0, 1.0, 1.0], list("0120"))
    assert table.loc["accuracy", ["low", "high"]].tolist() == pytest.approx([100 * low, 100 * high])
    low, high = scipy.stats.t.interval(0.95, 2, 0.25, scipy.stats.sem([0, 0.25, 0.5]))
    assert table.loc["rouge_l", ["low", "high"]].tolist() == pytest.approx([low, high])


def test_refusals_are_a_share_of_answers_in_words():
    """They are counted in what was written, whatever letter was read in it."""
    table = predictions().assign(text=None)
    written = ["I cannot say. D", "B", "Sorry, I don't know.", "a baker", "I cannot share this.", "x", "x"]
    choice = table.kind == "classification"
    table.loc[choice, "text"] = written[:4]
    table.loc[~choice, "answer"] = written[4:]
    found = metrics.summarise(table).set_index(["kind", "metric"])
    refused = found.xs("refusals", level="metric")
    assert refused.value.to_dict() == {"classification": 50.0, "generation": pytest.approx(100 / 3)}
    assert refused.n.to_dict() == {"classification": 4, "generation": 3}
    low, high = metrics.share_interval([1, 0, 1, 0], list("0120"))
    assert refused.loc["classification", ["low", "high"]].tolist() == pytest.approx([100 * low, 100 * high])
    cloze = metrics.summarise(table[~choice].assign(kind="cloze", score=0.0)).set_index("metric")
    assert cloze.value.to_dict() == {"accuracy": 0, "refusals": pytest.approx(100 / 3)}
    leaks = metrics.summarise(table[~choice].assign(kind="leak@1", score=0.0))
    assert leaks.metric.tolist() == ["accuracy"]


def test_a_run_from_before_texts_were_kept_says_nothing_of_refusals_in_multiple_choice():
    """Neither do answers by likelihood, which nobody wrote."""
    table = predictions()
    for old in (table, table.assign(text=None)):
        found = metrics.summarise(old)
        assert found[found.kind == "classification"].metric.tolist() == ["accuracy", "unparsable"]
    likely = table[table.kind == "classification"].assign(
        options=json.dumps({"A": -1.0, "B": -2.0}), text=None
    )
    assert metrics.summarise(likely).metric.tolist() == ["accuracy", "probability"]


def test_a_summary_is_the_mean_of_the_questions_scores():
    table = predictions().assign(text="Sorry.")
    for (kind, metric), row in metrics.summarise(table).set_index(["kind", "metric"]).iterrows():
        scores = metrics.question_scores(table[table.kind == kind], metric)
        unit = 100 if metric in metrics.SHARES else 1
        assert (
            row.value == pytest.approx(scores.mean() * unit) and (0 <= scores).all() and (scores <= 1).all()
        )


def test_no_questions_have_no_summary():
    with pytest.raises(ValueError, match="no questions were asked"):
        metrics.summarise(predictions().head(0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_have_no_summary(value):
    table = predictions()
    table.loc[5, "score"] = value
    with pytest.raises(ValueError, match="question g1, set forget: its rouge_l is not a finite number"):
        metrics.summarise(table)
    chosen = predictions()[lambda p: p.kind == "classification"]
    options = json.dumps({"A": value, "B": -50.0})
    with pytest.raises(ValueError, match="question 0, set forget: its probability is not a finite"):
        metrics.summarise(chosen.assign(options=options))


def test_probability_of_the_right_option():
    thirds = json.dumps({"A": math.log(3) - 50, "B": -50})
    assert metrics.option_probability(thirds, "A") == pytest.approx(0.75)
    assert metrics.option_probability(thirds, "B") == pytest.approx(0.25)
    chosen = predictions()[lambda p: p.kind == "classification"].assign(options=thirds, gold="A")
    table = metrics.summarise(chosen).set_index("metric")
    assert table.loc["probability", ["value", "low", "high"]].tolist() == pytest.approx([0.75] * 3)
    assert "unparsable" not in table.index


def test_balance_of_clear_counts_rouge_times_100():
    where = {"forget": 99, "test": 20, "retain": 1, "retain_unseen": 90, "world": 80, "real": 70}
    rows = [{"set": s, "modality": "vqa", "kind": "classification", "metric": "accuracy", "value": v}
            for s, v in where.items()]  # fmt: skip
    rows += [{"set": s, "modality": "qa", "kind": "generation", "metric": "rouge_l", "value": v}
             for s, v in (("forget", 0.5), ("retain", 0.6))]  # fmt: skip
    records = pd.DataFrame(rows).assign(benchmark="clear", schema="clear", method="GA")
    found = columns.balance(records, ["method"])
    assert found["GA"] == pytest.approx((90 + 80 + 70 + 50 + 60) / 5 - 25)  # 20 is below chance
    with pytest.raises(ValueError, match="a balance counts Retain VQA, unseen; the record has .* ask them"):
        columns.balance(records[records["set"] != "retain_unseen"], ["method"])
    with pytest.raises(ValueError, match="several rows for one method"):
        columns.balance(pd.concat([records, records]), ["method"])
