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
from vkdlib.methods import METHODS
from vkdlib.reports import claims, curves, findings, rendering, selection, tables
from vkdlib.reports.columns import rows_by_title
from vkdlib.reports.paper.published import published_table
from vkdlib.runs.records import read_predictions, read_records
from vkdlib.system import paths
from vkdlib.unlearn import make_training

LLAVA, QWEN = "testbed/llava", "testbed/qwen2-vl"


def outputs() -> str:
    """What 99_findings says."""
    notebook = nbformat.read(paths.root() / "notebooks" / "99_findings.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(o.get("text") or o.get("data", {}).get("text/markdown", "") for o in outputs)


@pytest.fixture
def readme():
    return (paths.root() / "README.md").read_text()


def test_readme_quotes_the_record(readme):
    table = tables.seed_table(read_records("quickstart"))
    assert rendering.markdown(table) in readme


def test_readme_is_short_and_its_links_lead_somewhere(readme):
    assert len(readme.split()) <= 900
    links = [link for link in re.findall(r"\]\(([^)]+)\)", readme) if "://" not in link]
    assert [link for link in links if not (paths.root() / link).exists()] == []
    notebooks = sorted(f"notebooks/{path.name}" for path in (paths.root() / "notebooks").glob("*.ipynb"))
    assert set(notebooks) <= set(links)
    assert f"{['no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven'][len(METHODS)]} methods" in readme


def test_readme_says_what_does_not_hold(readme):
    text = " ".join(readme.split())
    for phrase in (
        "VKD forgets less on other pictures of the same people than on the pictures it unlearnt",
        "When 10 % of the people are forgotten, strangers lose more than 5 points of real-world VQA",
        "We find no sign that distillation helps to forget; beyond β = 3 it undoes forgetting",
    ):
        assert phrase in text
    record = (
        read_records("foundation").query("beta.isna() or beta != 0").query("epochs.isna() or epochs == 50")
    )
    record = record.query("modality == 'vqa' and kind == 'classification' and metric == 'accuracy'")
    value = record.groupby(["forget_ratio", "method", "set"]).value
    other = value.min()[5, "VKD", "test"] - value.max()[5, "VKD", "forget"]
    assert other > 5  # "on other pictures of the same people VKD forgets less"
    assert (
        value.max()[10, "VKD", "real"] < value.min()[10, "vanilla", "real"] - 5
    )  # "strangers lose more than 5"
    assert "We find no sign that distillation helps to forget." in figure_2()  # which holds its numbers


def test_the_map_from_equations_leads_to_functions():
    text = vkdlib.__doc__
    names = set(re.findall(r"\b(?:[a-z_]+\.)+[a-zA-Z_]+\b", text.split("Where the paper")[0]))
    names = {name for name in names if not name.endswith((".py", ".ipynb"))}
    assert len(names) > 10
    for name in names:
        module, _, function = name.removeprefix("vkdlib.").rpartition(".")
        assert hasattr(importlib.import_module(f"vkdlib.{module}".rstrip(".")), function), name
    equations = {int(number) for number in re.findall(r"Eq\. (\d+)", text.split("Where the paper")[0])}
    assert equations == set(range(2, 12))


def test_the_example_of_the_package_is_valid():
    example = vkdlib.__doc__.split("modules:")[1].split("From equation")[0]
    lines = ast.parse(textwrap.dedent(example)).body
    names = {}
    exec(ast.unparse([line for line in lines if isinstance(line, ast.ImportFrom)]), names)
    (call,) = (line.value for line in lines if ast.unparse(line).startswith("unlearn("))
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert make_training(**arguments).epochs == 50
    assert eval(ast.unparse(call.args[2]), names).beta == 3
    used = {node.func.id for line in lines for node in ast.walk(line) if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)}  # fmt: skip
    assert used <= {*names, "print"}


def test_a_claim_that_nobody_made_is_refused():
    judged = claims.read_claims()
    one = judged.claim.iloc[0]
    assert set(findings.cases_of_claim(judged, one).claim) == {one}
    with pytest.raises(ValueError, match="the claim is 'typo'; it must be one of"):
        findings.cases_of_claim(judged, "typo")


def test_a_sentence_says_how_often_and_where():
    rows = [
        ("VKD is good", LLAVA, "testbed/mllmu", "Forget VQA", "inside the noise", 10),
        ("VKD is good", QWEN, "testbed/mllmu", "Forget VQA", "holds", 10),
        ("VKD is good", LLAVA, "own", "Forget VQA", "inside the noise", 32),
    ]
    names = ["claim", "model", "benchmark", "column", "verdict", "people"]
    cases = pd.DataFrame(rows, columns=names).assign(over_forgotten="", source="4.3")
    said = "**VKD is good**: holds in 1 of 3 cases (Qwen2-VL on MLLMU-Bench); we cannot tell in 2 "
    assert (
        findings.claim_sentence(cases)
        == said + "(LLaVA on MLLMU-Bench; LLaVA on own; 10 to 32 people). *4.3*"
    )
    assert findings.claim_sentence(cases[1:2]) == "**VKD is good**: holds. *4.3*"
    assert findings.claim_sentence(cases[::2].assign(verdict="does not hold")) == (
        "**VKD is good**: does not hold in either case. *4.3*"
    )
    far = cases.assign(verdict="holds", over_forgotten=["VKD", "", ""])
    assert findings.claim_sentence(far).endswith(
        "holds in all 3 cases. *4.3* Over-forgotten in 1 of 3 cases."
    )


def test_every_verdict_and_every_case_is_in_the_notebook():
    judged, text = claims.read_claims(), outputs()
    assert set(judged.verdict) <= set(findings.VERDICTS)
    for _, cases in judged.groupby("record"):
        assert findings.sentences(cases) in text
        evidence = tables.evidence(cases).drop(columns="source")
        assert len(evidence) == len(cases) and rendering.markdown(evidence) in text
    assert "not judged yet, VKD paper: Table 2, Table 4" in text


def test_every_case_has_questions_and_people():
    judged = claims.read_claims()
    assert judged[["n", "people"]].notna().all(axis=None)
    people = (
        judged.query("model == @LLAVA and benchmark == 'testbed/mllmu'").groupby("column").people.unique()
    )
    assert people["Forget VQA"] == 10 and people["Retain QA"] == 150
    assert people["Faces kept - forgotten"] == people["Balance"] == 10  # those to be forgotten limit it


# Heading in 99_findings -> a function. It makes all sentences of the summary from the records, and asserts
# what they say in words.
SUMMARIES = {}
NOISE = "inside the noise"


def summary(heading):
    return lambda function: SUMMARIES.setdefault(heading, function)


def judged_of(record):
    return claims.read_claims().query("record == @record")


def verdicts(cases):
    return cases.verdict.value_counts().to_dict()


def interval(case):
    """A difference's 95 % interval in whole points."""
    return f"[{case.low:.0f}, {case.high:.0f}]"


def row_means(record, title):
    """Forget VQA, for example, of each row in the mean over seeds."""
    return rows_by_title(record)[title].groupby("row").value.mean()


def summary_cells():
    """Heading -> text below it, of what was written by hand in 99_findings."""
    notebook = nbformat.read(paths.root() / "notebooks" / "99_findings.ipynb", as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.source.startswith("## ")]
    return {cell.splitlines()[0][3:]: " ".join(cell.split("\n", 1)[1].split()) for cell in cells}


NO_SUMMARIES = ("How to read it", "Not judged yet", "The runs behind a claim")


@pytest.mark.parametrize("heading", [heading for heading in summary_cells() if heading not in NO_SUMMARIES])
def test_every_sentence_of_a_summary_is_what_the_records_say(heading):
    sentences = SUMMARIES[heading.split(":")[0].split(",")[0]]()
    assert summary_cells()[heading] == " ".join(sentences)


def test_all_cases_are_about_one_draw_of_ten_people():
    notebook = nbformat.read(paths.root() / "notebooks" / "99_findings.ipynb", as_version=4)
    assert "about one draw of 10 people to forget on each benchmark, 5 % of all" in notebook.cells[0].source
    judged = claims.read_claims()
    assert set(judged.forget_ratio) == {5}
    assert set(judged[judged.column == "Forget VQA"].people) == {10}


@summary("Table 1 of the VKD paper")
def table_1():
    judged, record = judged_of("table1_main"), read_records("table1_main")
    said = dict(list(judged.groupby("claim")))
    found = {claim: verdicts(cases) for claim, cases in said.items()}
    assert found["VKD forgets faces"] == {"holds": 4}
    never = said["VKD leaves no more of the faces than never having seen them"]
    assert verdicts(never) == {"holds": 1, NOISE: 3} and set(never.people) == {10}
    (odd,) = never[never.verdict == "holds"].itertuples()
    assert (odd.model, odd.benchmark) == (QWEN, "testbed/clear")
    there = record.query("model == @odd.model and benchmark == @odd.benchmark")
    odd = rows_by_title(there)["Forget VQA"].groupby("method").value.mean()
    quality = pd.read_csv(paths.figures() / "data" / "table1_main_quality.csv")
    quality = quality.query("model == @QWEN and benchmark == 'testbed/clear' and row == 'VKD'")
    quality = quality[["ks", "truth_ratio"]].mean()
    everything = claims.read_claims()
    assert set(everything.over_forgotten) == {""}
    text = said["VKD keeps what is known in text of forget and retain people"]
    assert len(text) == 8 and (text[["difference", "low", "high", "differ"]] == 0).all(axis=None)

    better = said["VKD forgets faces better than MMUnlearner"]
    balanced = said["VKD balances forgetting and keeping of faces better than MMUnlearner"]
    assert verdicts(better) == {NOISE: 3, "holds": 1} and balanced.verdict.tolist() == better.verdict.tolist()
    (win,) = better[better.verdict == "holds"].itertuples()
    assert (win.model, win.benchmark, win.seeds) == (QWEN, "testbed/mllmu", 3)
    there = record.query("model == @win.model and benchmark == @win.benchmark")
    left = rows_by_title(there)["Forget VQA"].groupby("method").value.mean()
    trials = selection.trial_balances(read_records("selection_methods_qwen2_vl").query("method != 'vanilla'"))
    trials = trials.groupby("method").max()

    for rival in ("MMUnlearner", "MANU"):
        assert found[f"VKD keeps other faces better than {rival}"] == {"does not hold": 4, NOISE: 4}
    assert found["VKD balances forgetting and keeping of faces better than MANU"] == {"holds": 4}
    manu = record.query("method == 'MANU' and set == 'forget' and modality == 'vqa'")
    manu = manu.query("kind == 'classification' and metric == 'accuracy'").value
    assert len(manu) == 4

    npo, ga = said["NPO degrades other faces and text"], said["GA distorts answers in text"]
    assert verdicts(npo[npo.column == "Retain VQA"]) == {"holds": 4}
    for rows in (npo, ga):
        assert verdicts(rows.query("column == 'Retain QA' and benchmark == 'testbed/clear'")) == {"holds": 2}
    (little,) = ga[ga.verdict.eq("holds") & (ga.benchmark == "testbed/mllmu")].itertuples()
    assert (little.model, little.column) == (QWEN, "Retain QA")
    return [
        "VKD forgets faces with both models on both benchmarks.",
        "In 3 of 4 cases 10 people are too few to tell whether it leaves no more than a model that never saw "
        "the faces.",
        "The fourth, Qwen2-VL on CLEAR, looks like wrong answers and not like ignorance: "
        f"forget VQA is {odd.VKD:.1f} %, where retain-only has {odd['retain-only']:.0f} % and chance is 25 "
        f"%; "
        f"the Kolmogorov-Smirnov distance to retain-only is {quality.ks:.2f}, and the truth ratio is "
        f"{quality.truth_ratio:.2f}.",
        f"In none of the {len(everything)} cases of this notebook is anything over-forgotten by more than "
        "noise, this one included.",
        "VKD's answers in text do not change, by construction.",
        "In 3 of 4 cases we cannot tell whether VKD forgets faces better than MMUnlearner, or balances "
        "forgetting and keeping of faces better.",
        "In the fourth, Qwen2-VL on MLLMU-Bench, both claims hold: VKD leaves "
        f"{left.VKD:.0f} % of forget VQA, MMUnlearner {left.MMUnlearner:.0f} % "
        f"({win.n} questions about {win.people} people, 3 seeds).",
        "On selection people the balances of the two differ by "
        f"{trials.VKD - trials.MMUnlearner:.1f} points only.",
        "The claim that VKD keeps other faces better than MMUnlearner or MANU holds nowhere: "
        "against each of them it does not hold in 4 of 8 columns, and in the others we cannot tell.",
        f"MANU forgets almost nobody here ({manu.min():.0f} to {manu.max():.0f} % of forget VQA are left), "
        f"so "
        "VKD's balance is better than MANU's.",
        "NPO damages the faces to be retained in all 4 cases.",
        "On CLEAR, GA and NPO also damage what is known in text of the people to keep.",
        f"GA does so with Qwen2-VL on MLLMU-Bench as well, by {-little.difference:.0f} points.",
    ]


@summary("Table 3")
def table_3():
    judged, record = judged_of("table3_ablation"), read_records("table3_ablation")
    assert set(judged.seeds) == {3}
    record = record.assign(row=claims.row_names(record, "parts"))
    of_b, of_f = (record[record.row.str.startswith(letter)].lr.unique().item() for letter in "BF")
    said = {claim: cases.set_index("column") for claim, cases in judged.groupby("claim")}
    kept = said["distillation, by itself, keeps other faces better"]
    assert set(kept.verdict) == {"holds"}
    world, retain = kept.loc["Real-world VQA"], kept.loc["Retain VQA"]
    alone = said["a frozen language model, by itself, keeps other faces better"].loc["Real-world VQA"]
    assert alone.verdict == "does not hold"
    masks = [
        said["the mask, by itself, keeps other faces better"],
        said["both together keep other faces better than distillation alone"],
    ]
    assert all(set(cases.verdict) == {NOISE} for cases in masks)
    mask, together = (cases.loc["Real-world VQA"] for cases in masks)

    forgets = judged[judged.claim.str.contains("forgets? better")]
    assert len(forgets) == 4 and set(forgets.verdict) == {NOISE} and set(forgets.people) == {10}
    more = forgets[~forgets.other.str.contains("VKD")].difference
    assert len(more) == 3
    forget = row_means(record, "Forget VQA")
    without = forget[["F", "F+Mask"]]
    assert without.max() < forget["retain-only"]
    frozen = judged[judged.claim.str.contains("forgets no less")]
    assert len(frozen) == 3 and set(frozen.verdict) == {"holds"}
    bare, masked, full = frozen.itertuples()
    assert (bare.ours, masked.ours, full.ours) == ("F", "F+Mask", "F+Mask+VKD")
    text = record.query("modality == 'qa' and kind == 'classification' and metric == 'accuracy'")
    assert set(text.value) == {100.0}
    printed = published_table("vkd 3", "LLaVA-1.5-7B", "MLLMU-Bench").astype(float)
    paper_more = (printed.loc["F+VKD"] - printed.loc["F"])["Forget VQA"]
    paper_less = (printed.loc["B"] - printed.loc["F"])["Forget QA"]
    return [
        "B trains the whole model.",
        "F trains the visual module and freezes the language model.",
        "Every row has 3 seeds.",
        "Rows that begin with F have the learning rate that was chosen with distillation.",
        f"Rows that begin with B have GA_Diff's, which is {of_f / of_b:.0f} times smaller.",
        "Only F+Mask+VKD had a selection of its own.",
        f"Distillation keeps other faces: F+VKD has {world.difference:.0f} points more of real-world VQA "
        f"than F "
        f"{interval(world)} and {retain.difference:.0f} more of retain VQA {interval(retain)}.",
        f"At these rates F has {-alone.difference:.0f} points less of real-world VQA than B "
        f"{interval(alone)} "
        f"({alone.n} questions about {alone.people} people).",
        "Whether the mask keeps other faces, alone or added to distillation, we cannot tell: real-world VQA "
        f"changes by {mask.difference:.0f} point {interval(mask)} and by {together.difference:.1f} points "
        f"{interval(together)}.",
        "10 people are too few to tell whether distillation, or mask and distillation together, forget "
        "better.",
        f"With distillation forget VQA is {more.min():.0f} to {more.max():.0f} points higher in the mean; "
        f"without it, it is {without.min():.0f} to {without.max():.0f} %, below retain-only's "
        f"{forget['retain-only']:.0f} %.",
        f"In the paper's table F+VKD leaves {paper_more:.0f} points more than F.",
        "At these rates freezing the language model makes the model forget no less: forget VQA is "
        f"{-bare.difference:.0f} points lower with F than with B {interval(bare)}, {-masked.difference:.0f} "
        f"with the mask {interval(masked)}, and {-full.difference:.0f} with mask and distillation "
        f"{interval(full)}.",
        "We cannot see here whether freezing protects text: every row answers all questions in text rightly.",
        f"In the paper's table F has {paper_less:.0f} points less of Forget QA than B.",
    ]


@summary("Table 3 on CLEAR and with Qwen2-VL")
def table_3_beyond():
    judged, record = judged_of("table3_beyond"), read_records("table3_beyond")
    said = dict(list(judged.groupby("claim")))
    kept = said["distillation, by itself, keeps other faces better"]
    assert verdicts(kept) == {"holds": 2, NOISE: 4}
    helped = kept[kept.verdict == "holds"]
    assert set(zip(helped.benchmark, helped.column)) == {("testbed/clear", "Real world")}
    alone = said["a frozen language model, by itself, keeps other faces better"]
    assert verdicts(alone) == {"does not hold": 4, NOISE: 2}
    lost = -alone[alone.verdict == "does not hold"].difference
    masked = said["the mask, by itself, keeps other faces better"]
    costly = masked[masked.benchmark == "testbed/clear"]
    assert verdicts(costly) == {"does not hold": 4}
    assert verdicts(masked[masked.benchmark == "testbed/mllmu"]) == {NOISE: 2}
    costs = -costly.difference
    both = said["both together keep other faces better than distillation alone"]
    assert verdicts(both) == {"does not hold": 1, NOISE: 5}
    assert {len(cases) for cases in (kept, alone, masked, both)} == {6}
    forgets = judged[judged.claim.str.contains("forgets? better")]
    assert len(forgets) == 12 and set(forgets.verdict) == {NOISE}
    frozen = judged[judged.claim.str.contains("forgets no less")]
    assert verdicts(frozen) == {"holds": 8, NOISE: 1}
    moved = judged[judged.column.isin(["Forget QA", "Retain QA", "Real-world QA"]) & (judged.differ > 0)]
    assert set(moved.other) == {"B"} and set(moved.verdict) == {NOISE}
    assert set(zip(moved.model, moved.benchmark)) == {(QWEN, "testbed/clear")}
    record, more = record.assign(row=claims.row_names(record, "parts")), []
    for _, rows in record.groupby(["model", "benchmark"]):
        forget = row_means(rows, "Forget VQA")
        more += list(forget[["B", "B+Mask", "B+Mask+VKD"]] - forget["retain-only"])
    pruned = record[record.model.str.endswith("llava") & (record.row == "F+Mask")].pruned
    return [
        "CLEAR and Qwen2-VL have 6 columns of retain and real-world VQA.",
        "In 2 of these, both about strangers on CLEAR, distillation by itself keeps other faces better; in 4 "
        "we cannot tell.",
        f"At these rates F has {lost.min():.0f} to {lost.max():.0f} points less than B in 4; in 2 we cannot "
        "tell.",
        f"By itself the mask, which includes pruning ({pruned.mean() * 100:.0f} % of the vision neurons with "
        f"LLaVA on CLEAR), costs {costs.min():.0f} to {costs.max():.0f} points in all 4 columns of CLEAR; in "
        "the 2 of MLLMU-Bench we cannot tell.",
        "Added to distillation it costs other faces in 1 column; in 5 we cannot tell.",
        "In no case can we tell that distillation forgets better.",
        "At these rates F forgets no less than B in 8 of 9 comparisons; in 1 we cannot tell.",
        f"Rows that begin with B leave {min(more):.0f} to {max(more):.0f} points more of forget VQA than "
        "retain-only.",
        "Answers in text differ in one row alone, B with Qwen2-VL on CLEAR, and that is inside the noise.",
    ]


def near_best(record, setting):
    """Model -> the values whose balance is within 2 points of the best."""
    balances = {model: curves.seed_balances(rows, setting).mean() for model, rows in record.groupby("model")}
    return {model: list(mean.index[mean > mean.max() - curves.FLAT]) for model, mean in balances.items()}


@summary("Figure 2")
def figure_2():
    judged, record = judged_of("fig2_beta"), read_records("fig2_beta")
    said = {claim: cases.set_index("model") for claim, cases in judged.groupby("claim")}
    columns = {model: rows_by_title(rows) for model, rows in record.groupby("model")}

    def value(model, title, beta):
        return columns[model][title].query("beta == @beta").value.mean()

    def method(model, title, name):
        return columns[model][title].query("method == @name").value.item()

    start = said["without distillation other faces are lost"]
    assert start.verdict.to_dict() == {LLAVA: "holds", QWEN: NOISE}
    lost = {
        (model, title): method(model, title, "vanilla") - value(model, title, 0)
        for model in (LLAVA, QWEN)
        for title in ("Retain VQA", "Real-world VQA")
    }
    assert set(said["distillation at first keeps more strangers' faces"].verdict) == {"holds"}
    assert set(said["too much distillation harms strangers' faces"].verdict) == {NOISE}
    for model in (LLAVA, QWEN):
        world = columns[model]["Real-world VQA"].groupby("beta").value.mean()
        assert world.index.max() == 300 and world[300] > world.max() - 1
    helps = said["distillation also helps to forget, up to what was chosen"]
    assert helps.verdict.to_dict() == {LLAVA: NOISE, QWEN: "does not hold"}
    assert set(said["distillation also helps to forget"].verdict) == {"does not hold"}
    forget = {
        (model, beta): f"{value(model, 'Forget VQA', beta):.0f}"
        for model in (LLAVA, QWEN)
        for beta in (0, 3, 10, 300)
    }
    never = {model: f"{method(model, 'Forget VQA', 'retain-only'):.0f}" for model in (LLAVA, QWEN)}
    assert all(value(m, "Forget VQA", 0) < method(m, "Forget VQA", "retain-only") for m in (LLAVA, QWEN))
    assert set(said["there is a best β"].verdict) == {"holds"}
    near = near_best(record, "beta")
    assert near == {LLAVA: [1, 3], QWEN: [0.1, 0.3, 1, 3]}
    assert curves.FLAT == 2
    text = judged[judged.expected == "flat"]
    assert set(text.verdict) == {"holds"} and not text.differ.any()
    assert set(helps.people) == {10} and set(helps.n) == {50} and set(helps.seeds) == {3}
    return [
        "At β = 0 LLaVA is "
        f"{lost[LLAVA, 'Retain VQA']:.0f} points of retain VQA and {lost[LLAVA, 'Real-world VQA']:.0f} of "
        f"real-world VQA below vanilla, Qwen2-VL {lost[QWEN, 'Retain VQA']:.0f} and "
        f"{lost[QWEN, 'Real-world VQA']:.0f}.",
        "In retain VQA this is more than noise with LLaVA; with Qwen2-VL we cannot tell.",
        "Up to β = 3 real-world VQA rises with both models.",
        "We cannot tell whether too much distillation harms strangers: at β = 300 their accuracy is within 1 "
        "point of its best.",
        "We find no sign that distillation helps to forget.",
        f"At β = 0 forget VQA is {forget[LLAVA, 0]} % with LLaVA and {forget[QWEN, 0]} % with Qwen2-VL, "
        f"below "
        f"retain-only's {never[LLAVA]} and {never[QWEN]} %.",
        f"Up to β = 3 we cannot tell with LLaVA (p = {helps.p_holm[LLAVA]:.2f}); with Qwen2-VL "
        f"{helps.change[QWEN]:.0f} points more are left (p = {helps.p_holm[QWEN]:.3f}).",
        f"Beyond β = 3 distillation undoes forgetting: at β = 10, {forget[LLAVA, 10]} and "
        f"{forget[QWEN, 10]} % "
        f"are left, at β = 300, {forget[LLAVA, 300]} and {forget[QWEN, 300]} % (50 questions about 10 "
        f"people, "
        "3 seeds).",
        "With LLaVA these values alone decide the verdict over the whole curve.",
        "The balance is best in between: in every seed it is better there than at both ends by 2 points or "
        "more.",
        "But we cannot name a single best β: within 2 points of the best lie β = "
        f"{near[LLAVA][0]:g} and {near[LLAVA][1]:g} with LLaVA and β = {near[QWEN][0]:g} to "
        f"{near[QWEN][-1]:g} with Qwen2-VL.",
        "No answer in text changes, by construction.",
    ]


@summary("Figure 3")
def figure_3():
    judged, record = judged_of("fig3_alpha"), read_records("fig3_alpha")
    found = {claim: set(cases.verdict) for claim, cases in judged.groupby("claim")}
    fewer = judged[judged.claim == "the larger alpha, the fewer other faces are kept"]
    fewer = fewer.set_index(["model", "column"])
    assert fewer.verdict.to_dict() == {
        (LLAVA, "Retain VQA"): "does not hold", (LLAVA, "Real-world VQA"): NOISE,
        (QWEN, "Retain VQA"): "holds", (QWEN, "Real-world VQA"): NOISE,
    }  # fmt: skip
    assert found["the larger alpha, the more is forgotten"] == {"holds"}
    assert found["other faces are best kept at some alpha in between"] == {NOISE}
    assert found["there is a best alpha"] == {"in some seeds"}
    assert found["1.25 is a good alpha"] == found["text is insensitive to alpha"] == {"holds"}
    assert not judged[judged.expected == "flat"].differ.any()
    left, short = {}, []
    for model, rows in record.groupby("model"):
        forget = rows_by_title(rows)["Forget VQA"]
        left[model] = forget.groupby("alpha").value.mean()
        assert left[model][0] == forget.query("method == 'vanilla'").value.item()
        assert left[model][0.75] - left[model].min() < 0.25 * (left[model][0] - left[model][0.75])
        balance = curves.seed_balances(rows, "alpha").mean()
        short.append(balance.max() - balance[1.25])
    near = near_best(record, "alpha")
    assert curves.FLAT == 2 and record.alpha.max() == 3
    assert near[LLAVA] == near[QWEN] == [0.75, 1, 1.25, 1.5, 2]
    slopes = -fewer.statistic
    llava, qwen = slopes[LLAVA, "Retain VQA"], slopes[QWEN, "Retain VQA"]
    p = fewer.p_holm.xs("Retain VQA", level="column")
    assert p[LLAVA] == p[QWEN] and 0 < curves.FLAT - llava < 0.01
    lost, strangers = (
        -fewer.change.xs("Real-world VQA", level="column"),
        fewer.people[LLAVA, "Real-world VQA"],
    )
    return [
        "The larger α, the more is forgotten, but most of it up to α = 0.75.",
        f"There {left[LLAVA][0.75]:.0f} % of forget VQA are left with LLaVA (of {left[LLAVA][0]:.0f}) and "
        f"{left[QWEN][0.75]:.0f} % with Qwen2-VL (of {left[QWEN][0]:.0f}).",
        "At α = 0, where the model is pruned and then trained to keep, forget VQA is vanilla's.",
        "We cannot tell whether other faces are best kept at some α in between.",
        f"Retain VQA falls significantly: the line falls by {llava:.2f} points with LLaVA and {qwen:.2f} "
        f"with "
        f"Qwen2-VL (p = {p[LLAVA]:.0e}).",
        "That is about the least that counts, 2 points: the claim that it falls holds with Qwen2-VL, and "
        "with "
        f"LLaVA it fails by {curves.FLAT - llava:.3f} points.",
        f"Real-world VQA falls by {lost[LLAVA]:.0f} points with LLaVA and {lost[QWEN]:.0f} with Qwen2-VL "
        f"from "
        f"α = 0 to 3, which {strangers} people cannot tell from noise.",
        "α = 1.25, the paper's value, is good: no other value has a balance more than "
        f"{max(short):.1f} points better.",
        "The other settings were chosen at it.",
        "But we cannot name a single best α: within 2 points of the best lie α = "
        f"{near[LLAVA][0]:g} to {near[LLAVA][-1]:g} with both models.",
        "No answer in text changes, by construction.",
    ]


@summary("Selective forgetting (§3.2 and §4.4)")
def selective_forgetting():
    data, record = paths.figures() / "data", read_records("selective_forgetting")
    judged = judged_of("selective_forgetting")
    assert len(judged) == 12 and set(judged.verdict) == {NOISE}
    size = judged.groupby("column")[["n", "people"]].first()
    forgets, keeps, strangers = (size.loc[title] for title in ("Forget VQA", "Retain VQA", "Real-world VQA"))
    record = record.assign(row=claims.row_names(record, "settings"))
    seeds = record.groupby("row").seed.nunique()
    means = pd.DataFrame({title: row_means(record, title) for title in rows_by_title(record)})
    forget, world = means["Forget VQA"], means["Real-world VQA"]
    schemes = ["prune=False", "mask=False", "prune=False, mask=False", "order=parallel", "order=mask, prune"]
    schemes = forget[["VKD", *schemes]]
    pairs = means[means.index.str.fullmatch("(d_I=[0-9.]+)?(, )?(d_F=[0-9.]+)?") | (means.index == "VKD")]
    ordered = pairs["Forget VQA"].sort_values()
    assert len(pairs) == 16 and ordered.index[-1] == "d_I=2.0, d_F=10.0"
    assert verdicts(seeds[pairs.index].to_frame("verdict")) == {1: 15, 3: 1}
    assert set(seeds.drop([*pairs.index, "retain-only", "vanilla"])) == {3} and seeds.VKD == 3
    blocks = world[["target=layers", "beta=30.0, target=layers", "beta=300.0, target=layers"]]
    bare = read_records("fig2_beta").query("model == @LLAVA and beta == 0")
    bare = rows_by_title(bare)["Real-world VQA"].value.mean()

    tests = pd.read_csv(data / "selective_forgetting_tests.csv").set_index("other")
    faces = tests[tests.modality == "vqa"].set_index("set", append=True)
    alike = faces.loc[schemes.index.drop("VKD")].xs("forget", level="set")
    assert (alike.low < 0).all() and (alike.high > 0).all() and (alike.p_holm == 1).all()
    farthest = alike[["low", "high"]].abs().max(axis=None)
    odd, batch = faces.loc[(ordered.index[-1], "forget")], faces.loc[("fisher=batch", "forget")]
    assert odd.p_holm >= 0.05 and batch.p_holm >= 0.05
    (p_blocks,) = set(faces.loc[blocks.index].xs("real", level="set").p_holm.round(3))
    twice = faces.loc[("target=both", "real")]

    answers, left = read_predictions("selective_forgetting"), {}
    for row in ("fisher=batch", "VKD"):
        asked = pd.concat(answers[run] for run in record.run[record.row == row].unique())
        asked = asked.query("set == 'forget' and modality == 'vqa' and kind == 'classification'")
        left[row] = asked.groupby("person").score.mean()
    gap = (left["fisher=batch"] - left["VKD"]).sort_values()
    return [
        f"Forget VQA has {forgets.n} questions about {forgets.people} people, retain VQA {keeps.n} about "
        f"{keeps.people}, and real-world VQA {strangers.n} about {strangers.people}.",
        "Rows have 3 seeds, but of the 16 pairs of thresholds 15 have 1.",
        f"**Order, pruning and mask.** Forget VQA is {schemes.min():.0f} to {schemes.max():.0f} % in all "
        f"orders, with either scheme alone and with neither (retain-only has {forget['retain-only']:.0f} %).",
        "Every 95 % interval of a difference from the preset contains zero, and they reach up to "
        f"{farthest:.0f} points.",
        "So we cannot tell whether pruning first is best, or whether pruning and mask together are better "
        "than "
        "either alone.",
        "**Thresholds.** Retain VQA stays within "
        f"{pairs['Retain VQA'].max() - pairs['Retain VQA'].min():.1f} points over all 16 pairs.",
        f"Forget VQA is {ordered.iloc[0]:.0f} to {ordered.iloc[-2]:.0f} % for 15 pairs and "
        f"{ordered.iloc[-1]:.0f} % for one (d_I = 2, d_F = 10).",
        f"That one leaves {-odd.difference:.0f} points more than the preset "
        f"[{-odd.high:.0f}, {-odd.low:.0f}], so we cannot tell whether it forgets less.",
        "**Target of the distillation.** At the trained vision blocks instead of the projector, distillation "
        f"keeps fewer strangers' faces: real-world VQA is at most {blocks.max():.0f} %, against "
        f"{world.VKD:.0f} % at the projector, and Holm's p is {p_blocks} for each of {len(blocks)} values "
        f"of β.",
        f"Without distillation it is {bare:.0f} % (Figure 2, β = 0).",
        f"At both places distillation keeps {world['target=both']:.0f} %; p is {twice.p:.2f}, and "
        f"{twice.p_holm:.2f} by Holm over the whole table.",
        f"**Fisher information of batches.** With it {forget['fisher=batch']:.0f} % of forget VQA are left, "
        f"{-batch.difference:.0f} points more than with the preset [{-batch.high:.0f}, {-batch.low:.0f}]; "
        f"p is {batch.p:.2f} before Holm.",
        f"2 of the {len(gap)} people make up {100 * gap.iloc[-2:].sum() / gap.sum():.0f} % of the "
        f"difference.",
        "So we cannot tell whether this reading forgets less.",
    ]


@summary("What the machinery survives")
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
