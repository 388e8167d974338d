"""Tables: what is bold, what is noise, what is published, and that LaTeX and HTML say the same."""

import pandas as pd
import pytest

from vkdlib.reports import columns, rendering, tables
from vkdlib.reports.paper import published


def records(values: dict[str, list[float]], metric="accuracy", **where) -> pd.DataFrame:
    """Rows of forget and retain VQA for methods with (forget, retain) of each seed."""
    rows = []
    for method, of_seeds in values.items():
        for seed, pair in enumerate(of_seeds):
            for group, value in zip(("forget", "retain"), pair):
                row = {"method": method, "seed": seed, "set": group, "value": value, "n": 50}
                rows.append(row | {"low": value - 5, "high": value + 5, "metric": metric})
    task = {"modality": "vqa", "kind": "classification", "benchmark": "testbed/mllmu", "schema": "mllmu"}
    task |= {"model": "testbed/llava", "forget_ratio": 5}
    return pd.DataFrame(rows).assign(**task | where)


@pytest.fixture
def table():
    found = records(
        {
            "vanilla": [(90, 99)],
            "retain-only": [(10, 98)],
            "GA": [(20, 60), (24, 64)],
            "VKD": [(30, 90), (32, 90)],
        }
    )
    p = pd.DataFrame({"other": ["GA", "GA"], "set": ["forget", "retain"], "modality": "vqa",
                      "kind": "classification", "p_holm": [0.3, 0.001]})  # fmt: skip
    return tables.main_table(found, p)


def test_main_table_means_over_seeds_bold_and_noise(table):
    assert list(table.columns) == ["Forget VQA (N=50)", "Retain VQA (N=50)"]
    forget, retain = (table[c] for c in table)
    assert forget["GA"] == "**22.0 [17.0, 27.0] ±2.8**" + rendering.NOT_SIGNIFICANT
    assert forget["VKD"] == "31.0 [26.0, 36.0] ±1.4"
    assert retain["VKD"] == "**90.0 [85.0, 95.0] ±0.0**" and "±" not in retain["vanilla"]
    assert retain["GA"] == "62.0 [57.0, 67.0] ±2.8"  # references are better than either, and not bold
    assert "**" not in forget["retain-only"] + retain["vanilla"]
    assert table.loc["chance"].tolist() == ["25.0", "25.0"]


def test_curves_have_a_row_a_value_with_the_range_of_seeds():
    weak = records({"VKD": [(20, 90), (30, 91)]}).assign(beta=0.5)
    strong = records({"VKD": [(60, 98), (61.4, 98)]}).assign(beta=10.0)
    shown = tables.curve_table(pd.concat([weak, strong]), "beta")
    assert shown.index.tolist() == ["0.5", "10"] and shown.index.name == "beta"
    assert shown["Forget VQA (N=50)"].tolist() == ["25.0 (20-30)", "60.7 (60-61)"]
    assert shown["Retain VQA (N=50)"].tolist() == ["90.5 (90-91)", "98.0 (98-98)"]
    words = records({"VKD": [(0.2, 0.5), (0.3, 0.5)]}, "rouge_l", modality="qa", kind="generation")
    words = words.assign(beta=1.0, schema="clear")
    assert tables.curve_table(words, "beta")["Forget QA (N=50)"].tolist() == ["0.250 (0.200-0.300)"]


def test_forgetting_more_than_a_model_that_never_knew_is_no_success():
    found = records({"retain-only": [(30, 98)], "GA": [(20, 60)], "NPO": [(26, 70)], "VKD": [(33, 90)]})
    forget = tables.main_table(found, over_forgotten=["GA"])["Forget VQA (N=50)"]
    assert forget["GA"] == "20.0 [15.0, 25.0]" + rendering.OVER_FORGOTTEN
    assert forget["NPO"] == "**26.0 [21.0, 31.0]**" and "*" not in forget["VKD"]


def test_what_looks_equal_is_equally_bold():
    found = records({"GA": [(22.04, 60)], "VKD": [(22.0, 60)]})
    assert (tables.main_table(found)["Forget VQA (N=50)"][["GA", "VKD"]].str[:6] == "**22.0").all()


def test_rows_of_several_settings_are_not_averaged():
    one = records({"VKD": [(10, 90)]})
    with pytest.raises(ValueError, match="several rows for one method and seed"):
        tables.main_table(pd.concat([one, one.assign(value=50)]))
    with pytest.raises(ValueError, match="records and tests of several forget_ratios: 5, 10"):
        tables.main_table(pd.concat([one, one.assign(forget_ratio=10)]))
    p = pd.DataFrame({"other": ["GA"], "model": ["testbed/qwen2-vl"], "p_holm": [0.9]})
    with pytest.raises(ValueError, match="several models: testbed/llava, testbed/qwen2-vl"):
        tables.main_table(one, p)


def test_published_numbers_stand_beside_ours(table):
    theirs = published.published_table("vkd 1", "LLaVA-1.5-7B", "MLLMU-Bench")
    both = tables.add_paper_numbers(table, theirs)
    assert list(both.columns)[:2] == ["Forget VQA (N=50)", "Forget VQA, published"]
    assert both["Forget VQA, published"].tolist() == ["", "45.8", "", "43.2", "29.8"]
    assert both["Retain VQA, published"]["VKD"] == "45.0"
    clear = published.published_table("vkd 1", "Qwen2-VL-7B", "CLEAR")
    assert clear.loc["MMUnlearner"].tolist() == ["50.0", "0.123", "68.3", "0.100", "68.9", "94.7"]
    assert list(clear.columns)[-2:] == ["Real world", "Real faces"]
    ablation = published.published_table("vkd 3", "LLaVA-1.5-7B", "MLLMU-Bench")
    assert ablation.loc["F+Mask+VKD"].tolist() == ["29.8", "35.8", "45.0", "36.1", "46.9", "54.9"]
    assert ablation.index.tolist()[:2] == ["vanilla", "B"] and list(ablation) == list(theirs)
    with pytest.raises(ValueError, match="model of the published table vkd 1 is 'LLaVA'.*LLaVA-1.5-7B"):
        published.published_table("vkd 1", "LLaVA", "CLEAR")
    with pytest.raises(ValueError, match="benchmark of the published table vkd 3 is 'CLEAR'"):
        published.published_table("vkd 3", "LLaVA-1.5-7B", "CLEAR")


def test_latex_and_html_keep_bold_and_signs(table):
    text = rendering.latex(table.rename(index={"GA": "GA_Diff"}), "Ours, 5 % forgotten")
    assert r"\textbf{22.0 [17.0, 27.0] $\pm$2.8}$^{\approx}$" in text and "**" not in text
    assert r"GA\_Diff & " in text and r"\toprule" in text and r"\caption{Ours, 5 \% forgotten}" in text
    assert text.count("{") == text.count("}") and text.count(r"\begin") == text.count(r"\end") == 2
    assert "<b>22.0 [17.0, 27.0] ±2.8</b>≈" in rendering.html(table)
    for row in rendering.markdown(table).splitlines():
        assert row.count("|") == 4


def test_the_evidence_of_claims():
    case = {"claim": "it forgets", "source": "4.3", "model": "testbed/llava", "benchmark": "testbed/clear",
            "column": "Forget VQA", "ours": "VKD", "other": "vanilla", "difference": -70.0, "low": -80.0,
            "high": -60.0, "n": 50, "differ": 40, "p_holm": 0.0021, "verdict": "holds", "people": 10,
            "over_forgotten": "VKD", "runs_ours": "a b", "runs_other": "c", "test": "sign flips"}  # fmt: skip
    same = case | {"difference": 0.0, "differ": 0, "p_holm": 1.0, "over_forgotten": ""}
    close = same | {"differ": 3, "p_holm": float("nan"), "verdict": "inside the noise"}
    names = ("model", "benchmark", "column", "n", "people", "differ", "p_holm", "verdict", "runs_ours")
    curve = {name: case[name] for name in names} | {
        "claim": "it rises",
        "source": "4.4",
        "over_forgotten": "",
    }
    curve |= {"test": "slope, sign flips", "statistic": 12.34, "change": 20.0}
    cases = pd.DataFrame([case, curve, same, close])
    table = tables.evidence(cases)
    assert table.index.tolist() == ["it forgets", "", "", "it rises"]
    assert table.what.tolist() == ["VKD − vanilla"] * 3 + ["last − first (line: 12.3)"]
    assert table.measured.tolist() == ["-70", "0", "0", "20"]
    assert table["95 % interval"].tolist() == ["[-80.0, -60.0]"] * 3 + ["–"]
    assert table.p.tolist() == ["0.0021", "–", "–", "0.0021"]
    assert table.N.tolist() == ["50"] * 4 and table.people.tolist() == ["10"] * 4
    assert table.runs.tolist() == [3, 3, 3, 2]
    assert table["over-forgotten"].tolist() == ["VKD", "", "", ""]
    assert (table.model == "LLaVA").all() and table.source.tolist() == ["4.3", "", "", "4.4"]
    beside = tables.evidence(cases.assign(published=["-16.0", "", "", ""]))
    assert beside.published.tolist() == ["-16.0", "–", "–", "–"]


def test_the_papers_own_differences():
    """Of its Table 1: forget VQA 29.8 and 31.2; other faces 45.0, 47.2 and 44.6, 43.4."""
    theirs = published.published_table("vkd 1", "LLaVA-1.5-7B", "MLLMU-Bench")
    names = {"ours": "VKD", "other": ["MMUnlearner", "MMUnlearner", "retain-only"]}
    cases = pd.DataFrame(names | {"column": ["Forget VQA", columns.BALANCE, "Forget VQA"]})
    forget, balance, unknown = published.published_differences(
        theirs, columns.table_columns("vkd 1", "mllmu"), cases
    )
    gap = theirs.loc["VKD"].astype(float) - theirs.loc["MMUnlearner"].astype(float)
    faces = (gap["Retain VQA"] + gap["Real-world VQA"]) / 2
    assert (forget, unknown) == (f"{gap['Forget VQA']:+.1f}", "") and forget == "-1.4"
    assert balance == f"{faces - gap['Forget VQA']:+.1f}"
