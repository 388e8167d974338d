"""What the README and 99_findings say was found: their sentences, held against the committed records."""

import ast
import importlib
import re
import textwrap

import faults
import nbformat
import pandas as pd
import pytest

import vkdlib
from vkdlib.reports import claims, findings, rendering, tables
from vkdlib.runs.records import read_records
from vkdlib.system import paths
from vkdlib.unlearning import make_training

LLAVA, QWEN = "testbed/llava", "testbed/qwen2-vl"


def outputs() -> str:
    """What 99_findings says."""
    notebook = nbformat.read(paths.root() / "notebooks" / "99_findings.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [(output.get("data", {}), output.get("text")) for output in outputs]
    return "\n".join(
        data.get("text/markdown") or data.get("text/plain") or text or "" for data, text in shown
    )


@pytest.fixture
def readme():
    return (paths.root() / "README.md").read_text()


def test_readme_quotes_the_record(readme):
    table = tables.seed_table(read_records("quickstart")).T[["vanilla", "never-saw", "VKD"]]
    assert rendering.markdown(table) in readme


def test_the_map_from_equations_leads_to_functions():
    text = re.sub(r'"[^"]*"', "", vkdlib.__doc__)
    equations = text.split("Where the VKD paper")[0]
    names = set(re.findall(r"\b(?:[a-z_]+\.)+[a-zA-Z_]+\b", equations))
    names = {name for name in names if not name.endswith((".py", ".ipynb"))}
    assert len(names) > 10
    for name in names:
        module, _, function = name.removeprefix("vkdlib.").rpartition(".")
        assert hasattr(importlib.import_module(f"vkdlib.{module}".rstrip(".")), function), name
    for paper, last in zip(equations.split("In the VGID paper"), (11, 15)):
        numbers = re.findall(r"Eq\. (\d+)(?: to (\d+))?", paper)
        covered = {n for first, end in numbers for n in range(int(first), int(end or first) + 1)}
        assert covered == set(range(2, last + 1))


def test_the_example_of_the_package_is_valid():
    example = vkdlib.__doc__.split("between the steps:")[1].split("From equation")[0]
    calls = [node for node in ast.walk(ast.parse(textwrap.dedent(example))) if isinstance(node, ast.Call)]
    names = {name: call for call in calls if (name := ast.unparse(call.func)) != "print"}
    training = names["vkdlib.unlearning.unlearn"].keywords
    assert make_training(**{k.arg: ast.literal_eval(k.value) for k in training}).epochs == 50
    assert eval(ast.unparse(names["vkdlib.methods.make_method"])).beta == 3
    for name in names:
        assert name.split("(")[0].startswith("vkdlib.") and callable(eval(name.split("(")[0])), name


@pytest.fixture
def judged():
    """The committed cases."""
    return claims.read_claims()


def made_up_cases():
    rows = [
        ("VKD is good", LLAVA, "testbed/mllmu", "Retain VQA", "cannot tell", 10, 2),
        ("VKD is good", QWEN, "testbed/mllmu", "Retain VQA", "holds", 10, 8),
        ("VKD is good", LLAVA, "own", "Retain VQA", "cannot tell", 32, 4),
    ]
    names = ["claim", "model", "benchmark", "column", "verdict", "people", "differ"]
    return pd.DataFrame(rows, columns=names).assign(over_forgotten="", source="4.3", forget_ratio=5)


def test_a_claim_that_nobody_made_is_refused():
    cases = made_up_cases()
    assert set(findings.cases_of_claim(cases, "VKD is good").claim) == {"VKD is good"}
    with pytest.raises(ValueError, match="the claim is 'typo'; it must be one of VKD is good"):
        findings.cases_of_claim(cases, "typo")


def test_a_sentence_says_how_often_and_where():
    cases = made_up_cases()
    said = "**VKD is good**: holds in 1 of 3 cases (Qwen2-VL on MLLMU-Bench); we cannot tell in 2 "
    assert (
        findings.claim_sentence(cases)
        == said + "(LLaVA on MLLMU-Bench; LLaVA on own; 2 to 4 of 10 to 32 people differ). *4.3*"
    )
    assert findings.claim_sentence(cases[1:2]) == "**VKD is good**: holds. *4.3*"
    assert findings.claim_sentence(cases[::2].assign(verdict="does not hold")) == (
        "**VKD is good**: does not hold in either case. *4.3*"
    )
    alike = cases.assign(verdict=["equivalent", "holds", "over-forgotten"], over_forgotten=["", "", "VKD"])
    assert findings.claim_sentence(alike) == (
        "**VKD is good**: holds in 1 of 3 cases (Qwen2-VL on MLLMU-Bench); "
        "is over-forgetting in 1 (LLaVA on own); "
        "there is no difference of 5 points in 1 (LLaVA on MLLMU-Bench). *4.3* "
        "There is over-forgetting in 1 of 3 cases."
    )


def test_a_sentence_says_what_becomes_of_pictures_that_were_never_trained_on():
    cases = made_up_cases().assign(verdict="holds")
    unseen = cases.assign(column="Retain VQA, unseen", verdict=["does not hold", "holds", "does not hold"])
    both = findings.claim_sentence(pd.concat([cases, unseen]))
    assert both == (
        "**VKD is good**: holds in all 3 cases; on pictures that were never trained on: holds in 1 of 3 "
        "cases (Qwen2-VL on MLLMU-Bench); does not hold in 2 (LLaVA on MLLMU-Bench; LLaVA on own). *4.3*"
    )
    assert findings.claim_sentence(unseen[1:2]) == (
        "**VKD is good**: on pictures that were never trained on: holds. *4.3*"
    )


def test_every_verdict_has_a_phrase():
    assert set(findings.VERDICTS) == set(claims.VERDICTS)


def test_every_verdict_and_every_case_is_in_the_notebook(judged):
    text = outputs()
    for _, cases in judged.groupby("record"):
        assert findings.sentences(cases) in text
        evidence = tables.evidence(cases).drop(columns="source")
        assert len(evidence) == len(cases) and evidence.to_string() in text
    assert "not judged yet, VKD paper: Table 2, Table 4" in text


def test_every_case_has_questions_and_people(judged):
    assert judged[["n", "people"]].notna().all(axis=None)
    judged = judged.query("forget_ratio == 5")
    people = (
        judged.query("model == @LLAVA and benchmark == 'testbed/mllmu'").groupby("column").people.unique()
    )
    assert people["Forget VQA"].tolist() == people["Forget VQA, unseen"].tolist() == [50]
    for title in ("Faces kept - forgotten", "Balance"):
        assert people[title].tolist() == [32]  # the real-world people limit it


def test_what_is_said_of_the_machinery_was_measured():
    notebook = nbformat.read(paths.root() / "notebooks" / "99_findings.ipynb", as_version=4)
    heading = "## What the machinery survives, and what it costs"
    (cell,) = (c.source for c in notebook.cells if c.source.startswith(heading))
    assert " ".join(cell.removeprefix(heading).split()) == " ".join(machinery())


def machinery():
    table = pd.read_csv(paths.figures() / "data" / "faults.csv").set_index("fault")
    assert set(table.index) == {*faults.FROM_OUTSIDE, *faults.FROM_INSIDE}
    (times,) = set(table.times)
    damaged = table.index.str.contains("cut off|flipped bit")
    assert set(table.deleted[damaged]) == {times} and set(table.deleted[~damaged]) == {0}
    silent = [name for name, (_, said) in faults.FROM_OUTSIDE.items() if said is None]
    assert set(table.clean_errors.drop(silent)) == {times}
    cost = pd.read_csv(paths.figures() / "data" / "overhead.csv")
    assert (cost.done == cost.points).all()
    (lost,) = cost[cost.ratio.isna()].itertuples()
    assert lost.how == "dask, 2 workers, one killed" and lost.executed == lost.points + 1  # begun twice
    cost = cost.dropna(subset="ratio")
    (points,) = set(cost.points)
    ratio = cost.groupby("how").ratio.median()
    took = cost.pivot(index="round", columns="how", values="seconds")
    more = took.sub(took.papermill, axis=0).median()
    return [
        "Both were measured on an earlier version, and not again since.",
        f"One small run on a CPU was disturbed in {len(table)} ways: kills, full disks, damaged files, a NaN "
        "and a lack of memory put into a step, Ctrl-C.",
        f"Each was tried {times} times, at random moments where there is a choice.",
        f"In {table.recovered.sum()} of {table.times.sum()} trials the same command recovered, and in "
        f"{table.equal.sum()} with the same bits as the undisturbed run.",
        "Where a file was damaged, the message first said what to delete (`make faults`).",
        f"{points} points that do next to nothing take papermill's own command {took.papermill.median():.0f} "
        f"seconds.",
        f"A sweep takes {more.sweep:.0f} more ({ratio.sweep:.1f} times as long), and one on a Dask worker "
        f"{more.dask:.0f} more ({ratio.dask:.1f} times), the start of the cluster included.",
        "This leaves out the check that data and weights are today's.",
        f"Of {lost.points} points on 2 workers, one of which is killed, all {lost.done} end (`make "
        f"overhead`).",
    ]
