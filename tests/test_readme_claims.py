"""What the README says was found: its sentences, held against the committed records."""

import faults
import pandas as pd

from vkdlib.reports import claims, curves, tables
from vkdlib.reports.columns import LOWER, six_columns
from vkdlib.runs.records import read_records
from vkdlib.system import paths

LLAVA, QWEN = "testbed/llava", "testbed/qwen2-vl"


def check(*phrases):
    """They stand in the README, whatever its line breaks."""
    text = " ".join((paths.root() / "README.md").read_text().split())
    assert [phrase for phrase in phrases if phrase not in text] == []


def test_readme_quotes_the_record():
    table = tables.table_1(read_records("quickstart"))
    text = (paths.root() / "README.md").read_text()
    assert tables.markdown(table) in text


def test_the_readme_says_of_table_1_what_was_found():
    judged = pd.read_csv(paths.figures() / "data" / "claims.csv").query("record == 'table1_main'")
    found = judged.groupby("claim").verdict.value_counts().unstack(fill_value=0)
    assert found.loc["VKD forgets faces", "holds"] == 4
    text = judged[judged.claim == "VKD keeps what is known in text of forget and retain people"]
    assert len(text) == 8 and (text[["difference", "low", "high", "differ"]] == 0).all(axis=None)
    better = judged[judged.claim == "VKD forgets faces better than MMUnlearner"]
    assert better.verdict.value_counts().to_dict() == {"inside the noise": 3, "holds": 1}
    (holds,) = better[better.verdict == "holds"].itertuples()
    assert (holds.model, holds.benchmark) == ("testbed/qwen2-vl", "testbed/mllmu")
    there = read_records("table1_main").query("model == @holds.model and benchmark == @holds.benchmark")
    left = six_columns(there)["Forget VQA"].groupby("method").value.mean()
    check(f"VKD leaves {left.VKD:.0f} % of forget VQA, MMUnlearner {left.MMUnlearner:.0f} %")
    balanced = judged[judged.claim.str.contains("balances .* better than MMUnlearner")]
    assert balanced.verdict.tolist() == better.verdict.tolist()
    assert found.loc["VKD balances forgetting and keeping of faces better than MANU", "holds"] == 4
    assert found.loc["VKD leaves no more of the faces than never having seen them", "inside the noise"] == 3
    for rival in ("MMUnlearner", "MANU"):
        row = found.loc[f"VKD keeps other faces better than {rival}"]
        assert row[row > 0].to_dict() == {"does not hold": 4, "inside the noise": 4}
    manu = read_records("table1_main").query("method == 'MANU' and set == 'forget'")
    manu = manu.query("modality == 'vqa' and kind == 'classification' and metric == 'accuracy'")
    assert len(manu) == 4 and manu.value.min() >= 98
    npo = judged[judged.claim == "NPO degrades other faces and text"]
    assert (npo[npo.column == "Retain VQA"].verdict == "holds").all()
    for rows in (npo, judged[judged.claim == "GA distorts answers in text"]):
        said = rows[(rows.column == "Retain QA") & (rows.benchmark == "testbed/clear")].verdict
        assert said.tolist() == ["holds", "holds"]
    (little,) = rows[rows.verdict.eq("holds") & (rows.benchmark == "testbed/mllmu")].itertuples()
    assert (little.model, little.column) == ("testbed/qwen2-vl", "Retain QA")
    check(f"with Qwen2-VL on MLLMU-Bench as well ({-little.difference:.0f} points)")


def test_the_readme_says_of_table_3_what_was_found():
    judged = pd.read_csv(paths.figures() / "data" / "claims.csv").query("record == 'table3_ablation'")
    said = {claim: of.set_index("column") for claim, of in judged.groupby("claim")}
    alone = said["a frozen language model, by itself, keeps other faces better"].loc["Real-world VQA"]
    assert alone.verdict == "does not hold"
    check(f"alone costs {-alone.difference:.0f} points of real-world VQA against training")
    back = said["distillation, by itself, keeps other faces better"]
    assert set(back.verdict) == {"holds"} and back.difference["Real-world VQA"] >= 16
    for claim in (
        "the mask, by itself, keeps other faces better",
        "both together keep other faces better than distillation alone",
    ):
        assert set(said[claim].verdict) == {"inside the noise"}
    distilled = judged[judged.claim.str.contains("forgets? better") & ~judged.other.str.contains("VKD")]
    assert len(distilled) == 3 and set(distilled.verdict) == {"inside the noise"}
    more = distilled.difference
    check(f"forget VQA is {more.min():.0f} to {more.max():.0f} points higher in the mean")
    assert set(said["both together forget better than distillation alone"].verdict) == {"inside the noise"}
    record = read_records("table3_ablation")
    record = record.assign(row=claims.rows_of_table(record))
    (of_b,), (of_f,) = (record[record.row.str.startswith(letter)].lr.unique() for letter in "BF")
    assert round(of_f / of_b) == 100  # "a hundred times smaller"
    forget = six_columns(record)["Forget VQA"].groupby("row").value.mean()
    assert forget[["F", "F+Mask", "F+VKD"]].max() < forget["retain-only"]
    frozen = judged[judged.claim.str.contains("forgets no less")]
    assert len(frozen) == 3 and set(frozen.verdict) == {"holds"}
    text = record.query("modality == 'qa' and kind == 'classification' and metric == 'accuracy'")
    assert set(text.value) == {100.0}
    printed = tables.published_table_3().astype(float)
    more = (printed.loc["F+VKD"] - printed.loc["F"])[LOWER]
    less = (printed.loc["B"] - printed.loc["F"])["Forget QA"]
    check(f"F+VKD leaves {more:.0f} points more than F", f"F has {less:.0f} points less of Forget QA than B")


def test_the_readme_says_of_the_rest_of_table_3_what_was_found():
    judged = pd.read_csv(paths.figures() / "data" / "claims.csv").query("record == 'table3_beyond'")
    found = {claim: of.verdict.value_counts().to_dict() for claim, of in judged.groupby("claim")}
    noise = "inside the noise"
    kept = judged[judged.claim == "distillation, by itself, keeps other faces better"]
    assert kept.verdict.value_counts().to_dict() == {"holds": 2, noise: 4}
    helped = kept[kept.verdict == "holds"]
    assert set(zip(helped.benchmark, helped.column)) == {("testbed/clear", "Real world")}
    alone = "a frozen language model, by itself, keeps other faces better"
    assert found[alone] == {"does not hold": 4, noise: 2}
    masked = judged[judged.claim == "the mask, by itself, keeps other faces better"]
    costly = masked[masked.benchmark == "testbed/clear"]
    assert costly.verdict.tolist() == ["does not hold"] * 4
    costs = -costly.difference
    check(f"costs {costs.min():.0f} to {costs.max():.0f} points in all four of CLEAR")
    assert set(masked[masked.benchmark == "testbed/mllmu"].verdict) == {noise}
    both = "both together keep other faces better than distillation alone"
    assert found[both] == {"does not hold": 1, noise: 5}
    assert found["distillation, by itself, forgets better"] == {noise: 3}
    frozen = judged[judged.claim.str.contains("forgets no less")]
    assert frozen.verdict.value_counts().to_dict() == {"holds": 8, noise: 1}
    moved = judged[judged.column.isin(["Forget QA", "Retain QA", "Real-world QA"]) & (judged.differ > 0)]
    assert set(moved.other) == {"B"} and set(moved.verdict) == {noise}
    assert set(zip(moved.model, moved.benchmark)) == {("testbed/qwen2-vl", "testbed/clear")}
    record = read_records("table3_beyond")
    record, more = record.assign(row=claims.rows_of_table(record)), []
    for _, of in record.groupby(["model", "benchmark"]):
        forget = six_columns(of)[LOWER].groupby("row").value.mean()
        more += list(forget[["B", "B+Mask", "B+Mask+VKD"]] - forget["retain-only"])
    check(
        f"rows that begin with B leave {min(more):.0f} to {max(more):.0f} points more of the forget people's"
    )
    pruned = record[record.model.str.endswith("llava") & (record.row == "F+Mask")].pruned
    check(f"({pruned.mean() * 100:.0f} % of the vision neurons with LLaVA on CLEAR)")


def test_the_readme_says_of_figure_2_what_was_found():
    judged = pd.read_csv(paths.figures() / "data" / "claims.csv").query("record == 'fig2_beta'")
    said = {claim: of.set_index("model").verdict.to_dict() for claim, of in judged.groupby("claim")}
    noise = "inside the noise"
    for claim in (
        "without distillation other faces are lost",
        "the more distillation, the more other faces are kept",
    ):
        assert said[claim] == {LLAVA: "holds", QWEN: noise}
    assert set(said["distillation at first keeps more strangers' faces"].values()) == {"holds"}
    assert set(said["too much distillation harms strangers' faces"].values()) == {noise}
    helps = "distillation also helps to forget, up to what was chosen"
    assert said[helps] == {LLAVA: noise, QWEN: "does not hold"}
    best = judged[judged.claim == "there is a best β"].set_index("model")
    assert set(best.verdict) == {"holds"}
    text = judged[judged.expected == "flat"]
    assert set(text.verdict) == {"holds"} and not text.differ.any()
    record, lost, left = read_records("fig2_beta"), {}, {}
    for model, of in record.groupby("model"):
        columns = six_columns(of)
        for title in ("Retain VQA", "Real-world VQA"):
            vanilla = columns[title][columns[title].method == "vanilla"].value.item()
            by = columns[title].groupby("beta").value.mean()
            lost[model, title] = vanilla - by[0]
            assert by[300] > by.max() - 1
        left[model] = columns[LOWER].groupby("beta").value.mean()
    llava, qwen = left[LLAVA], left[QWEN]
    never = six_columns(record[record.model == QWEN])[LOWER].query("method == 'retain-only'").value.item()
    check(
        f"LLaVA loses other faces, {lost[LLAVA, 'Retain VQA']:.0f} points of retain VQA and "
        f"{lost[LLAVA, 'Real-world VQA']:.0f} of real-world VQA",
        f"Qwen2-VL loses {lost[QWEN, 'Real-world VQA']:.0f} points of real-world VQA",
        f"({qwen[3] - qwen[0]:.0f} points more are left, from {qwen[0]:.0f} % to {qwen[3]:.0f} %; "
        f"retain-only has {never:.0f} %)",
        f"at β = 10 {llava[10]:.0f} % and {qwen[10]:.0f} % of forget VQA are left, "
        f"at 300 {llava[300]:.0f} % and {qwen[300]:.0f} %",
        f"at {best.statistic[LLAVA]:.0f} with LLaVA, as chosen, "
        f"and at {best.statistic[QWEN]:.0f} with Qwen2-VL, hardly better there than at 3",
    )
    balance = curves.balances(record[record.model == QWEN], "beta").mean()
    assert 0 < balance[1] - balance[3] < 0.5


def test_the_readme_says_of_figure_3_what_was_found():
    judged = pd.read_csv(paths.figures() / "data" / "claims.csv").query("record == 'fig3_alpha'")
    found = {claim: set(of.verdict) for claim, of in judged.groupby("claim")}
    fewer = judged[judged.claim == "the larger alpha, the fewer other faces are kept"]
    fewer = fewer.set_index(["model", "column"])
    assert fewer.verdict.to_dict() == {
        (LLAVA, "Retain VQA"): "does not hold", (LLAVA, "Real-world VQA"): "inside the noise",
        (QWEN, "Retain VQA"): "holds", (QWEN, "Real-world VQA"): "inside the noise",
    }  # fmt: skip
    assert found["the larger alpha, the more is forgotten"] == {"holds"}
    assert found["other faces are best kept at some alpha in between"] == {"inside the noise"}
    assert found["there is a best alpha"] == {"in some seeds"}
    assert found["1.25 is a good alpha"] == found["text is insensitive to alpha"] == {"holds"}
    assert not judged[judged.expected == "flat"].differ.any()
    record, left, short, flat = read_records("fig3_alpha"), {}, [], []
    for model, of in record.groupby("model"):
        forget = six_columns(of)[LOWER]
        left[model] = forget.groupby("alpha").value.mean()
        assert left[model][0] == forget.query("method == 'vanilla'").value.item()
        balance = curves.balances(of, "alpha").mean()
        short.append(balance.max() - balance[1.25])
        flat.append(balance[0.75] - balance[0.75:2].min())
    lost = -fewer.change
    assert max(flat) < 2
    check(
        f"where {left[LLAVA][0.75]:.0f} % of forget VQA are left with LLaVA (of {left[LLAVA][0]:.0f}) and "
        f"{left[QWEN][0.75]:.0f} % with Qwen2-VL (of {left[QWEN][0]:.0f})",
        f"retain VQA falls by {lost[LLAVA, 'Retain VQA']:.1f} points with LLaVA and "
        f"{lost[QWEN, 'Retain VQA']:.1f} with Qwen2-VL",
        f"real-world VQA by {lost[LLAVA, 'Real-world VQA']:.0f} "
        f"and {lost[QWEN, 'Real-world VQA']:.0f}, inside the noise",
        f"no other value has a balance more than {max(short):.1f} points better",
    )


def test_the_readme_says_of_selective_forgetting_what_was_found():
    data, record = paths.figures() / "data", read_records("selective_forgetting")
    judged = pd.read_csv(data / "claims.csv").query("record == 'selective_forgetting'")
    assert len(judged) == 12 and set(judged.verdict) == {"inside the noise"}
    record = record.assign(row=claims.rows_of_table(record))
    columns = six_columns(record)
    means = pd.DataFrame({title: rows.groupby("row").value.mean() for title, rows in columns.items()})
    forget, world = means[LOWER], means["Real-world VQA"]
    schemes = ["prune=False", "mask=False", "prune=False, mask=False", "order=parallel", "order=mask, prune"]
    schemes = forget[["VKD", *schemes]]
    pairs = means[means.index.str.fullmatch("(d_I=[0-9.]+)?(, )?(d_F=[0-9.]+)?") | (means.index == "VKD")]
    of_pairs = sorted(pairs[LOWER])
    assert len(pairs) == 16 and pairs["Retain VQA"].max() - pairs["Retain VQA"].min() < 1
    blocks = world[["target=layers", "beta=30.0, target=layers", "beta=300.0, target=layers"]]
    without = read_records("fig2_beta").query("model == @LLAVA and beta == 0")
    without = six_columns(without)["Real-world VQA"].value.mean()
    check(
        f"Forget VQA is {schemes.min():.0f} to {schemes.max():.0f} % in all orders, with either scheme alone "
        f"and with neither (retain-only has {forget['retain-only']:.0f} %)",
        f"between {of_pairs[0]:.0f} and {of_pairs[-2]:.0f} % but for one of {of_pairs[-1]:.0f}",
        f"(real-world VQA is {blocks.max():.0f} %, and {without:.0f} % at β = 0)",
        f"at both it keeps {world['target=both']:.0f} %, at the projector alone {world['VKD']:.0f} %",
        f"with which {forget['fisher=batch']:.0f} % of forget VQA are left",
    )
    assert blocks.max() < without + 1
    tests = pd.read_csv(data / "selective_forgetting_tests.csv").set_index("other")
    assert (tests.p_holm[blocks.index].groupby(level=0).min() < 0.05).all()
    for row in ("fisher=batch", "fisher=sample", "mask_scope=update", "qa_image=blank"):
        assert tests.loc[row, "p_holm"].min() >= 0.05


def test_the_readme_says_of_faults_what_was_found():
    table = pd.read_csv(paths.figures() / "data" / "faults.csv").set_index("fault")
    assert set(table.index) == {*faults.FROM_OUTSIDE, *faults.FROM_INSIDE} and len(table) == 25
    assert (table[["times", "recovered", "equal"]] == 10).all(axis=None)
    damaged = table.index.str.contains("cut off|flipped bit")
    assert set(table.deleted[damaged]) == {10} and set(table.deleted[~damaged]) == {0}
    silent = [name for name, (_, said) in faults.FROM_OUTSIDE.items() if said is None]
    assert set(table.clean_errors.drop(silent)) == {10}


def test_the_readme_says_of_overhead_what_was_measured():
    table = pd.read_csv(paths.figures() / "data" / "overhead.csv")
    assert (table.done == table.points).all()
    ratio = table.dropna(subset="ratio").groupby("how").ratio.median().round(1)
    assert ratio.to_dict() == {"papermill": 1, "sweep": 1.2, "dask": 1.4}
    (lost,) = table[table.ratio.isna()].itertuples()
    assert (lost.points, lost.executed) == (12, 13)  # the killed one's was begun twice
    took = table.dropna(subset="ratio").pivot(index="round", columns="how", values="seconds")
    more = took.sub(took.papermill, axis=0).median()
    check(
        f"take papermill's own command {took.papermill.median():.0f} seconds, a sweep {more.sweep:.0f} more "
        f"({ratio.sweep} times as long) and one on a Dask worker {more.dask:.0f} more ({ratio.dask} times)"
    )
