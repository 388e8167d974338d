"""Records of runs that nobody did, in the layout of figures/data: answers are as right as a test wants."""

import json
from collections.abc import Callable

import pandas as pd

QUESTIONS = 4  # of each person, about each picture and in text
PLACES = [("forget", "vqa"), ("forget", "qa"), ("test", "vqa"), ("retain", "vqa"), ("retain", "qa")]
PLACES += [("retain_unseen", "vqa"), ("real", "vqa"), ("real", "qa")]
OPTIONS = {1.0: json.dumps({"A": -0.1, "B": -3}), 0.0: json.dumps({"A": -1, "B": -0.5})}


def made_up_answers(right: Callable[[str, str, int], float], draw: int = 0, people: int = 6) -> pd.DataFrame:
    """Predictions of a run. Each draw forgets people of its own; the others are the same in all draws, and
    twice as many. With 6 and two draws there are 12 of each, for whom sign flips are exact and fast.

    Args:
        right: (set, modality, number of a person) -> how much of their questions is right, 0 to 1.
    """
    rows = []
    for group, modality in PLACES:
        forget = group in ("forget", "test")
        for number in range(people * (1 if forget else 2)):
            person = f"f{draw}-{number}" if forget else f"{group[:4]}-{number}"
            for q in range(QUESTIONS):
                score = float(q < round(right(group, modality, number) * QUESTIONS))
                row = {"set": group, "modality": modality, "kind": "classification", "person": person}
                row |= {"question": f"{person}/{modality}/{q}", "answer": "A" if score else "B", "gold": "A"}
                rows.append(row | {"score": score, "bleu": None, "options": OPTIONS[score]})
    return pd.DataFrame(rows)


def in_words(predictions: pd.DataFrame) -> pd.DataFrame:
    """The questions about pictures of `made_up_answers`, answered in words: with a letter, and once more as
    clozes and as sentences. A wrong one is a refusal, which has no letter. BLEU is half of ROUGE-L."""
    vqa = predictions[predictions.modality == "vqa"].assign(options=None, bleu=float("nan"), text=None)
    right = vqa.score == 1
    words = pd.Series("a nurse", vqa.index).where(right, "I cannot share this.")
    choice = vqa.assign(answer=vqa.answer.where(right, ""), text=vqa.answer.where(right, words))
    cloze = vqa.assign(kind="cloze", answer=words, question=vqa.question + "/cloze")
    sentence = vqa.assign(kind="generation", answer=words, bleu=vqa.score / 2, question=vqa.question + "/own")
    return pd.concat([choice, cloze, sentence], ignore_index=True)


def made_up_record(runs: list[tuple[dict, pd.DataFrame]]) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """A record with the accuracies of runs, and hash -> predictions.

    Args:
        runs: what tells each apart (method, draw, ...; run: its hash), and its predictions.
    """
    task = {"experiment": "x", "model": "m", "benchmark": "own/mllmu", "schema": "mllmu", "forget_ratio": 5}
    task |= {"draw": 0, "replicate": 0, "seed": 0, "way": "shown", "metric": "accuracy", "start": "5" * 12}
    rows, answers = [], {}
    for labels, table in runs:
        facts = task | labels
        facts["run"] = facts.get("run", f"{facts['method']}{facts['draw']}")
        answers[facts["run"]] = table
        for (group, modality), part in table.groupby(["set", "modality"], sort=False):
            value = 100 * part.score.mean()
            row = {
                "set": group,
                "modality": modality,
                "kind": part.kind.iloc[0],
                "value": value,
                "n": len(part),
            }
            row |= {"people": part.person.nunique(), "low": value - 5, "high": value + 5}
            rows.append(facts | row)
    return pd.DataFrame(rows), answers
