"""Tables: what is bold, what is noise, what is published, and that LaTeX and HTML say the same."""

import pandas as pd
import pytest

from vkdlib.reports import columns, rendering, tables
from vkdlib.reports.paper import published
from vkdlib.system.html import table_html


def numbers(values: dict[str, tuple[float, ...]], metric="accuracy", **labels) -> pd.DataFrame:
    """Numbers over draws, as `answers.table_numbers` makes them: forget and retain VQA of methods."""
    rows = [
        {
            "method": method,
            "set": group,
            "value": value,
            "low": value - 5,
            "high": value + 5,
            "metric": metric,
        }
        for method, pair in values.items()
        for group, value in zip(("forget", "retain"), pair)
    ]
    task = {"modality": "vqa", "kind": "classification", "benchmark": "testbed/mllmu", "schema": "mllmu"}
    task |= {"model": "testbed/llava", "forget_ratio": 5, "n": 250, "people": 50, "runs": 5, "deviation": 2.8}
    return pd.DataFrame(rows).assign(**task | {"over_forgotten": False} | labels)


FORGET, RETAIN = "Forget VQA (N=250, 50 people, 5 runs)", "Retain VQA (N=250, 50 people, 5 runs)"


@pytest.fixture
def table():
    rows = {"vanilla": (90, 99), "never-saw": (10, 98), "GA": (22, 62), "NPO": (70, 80), "VKD": (31, 90)}
    shown = numbers(rows)
    shown.loc[shown.method.isin(["vanilla", "never-saw"]), "deviation"] = float("nan")
    where = {
        "set": ["forget", "retain"] * 2,
        "modality": "vqa",
        "kind": "classification",
        "metric": "accuracy",
    }
    tests = {"other": ["GA", "GA", "NPO", "NPO"], "p_holm": [0.3, 0.001, 0.01, 1.0]}
    tests |= {"smallest": [6.0, 4.0, 9.5, 0.0], "differ": [9, 9, 9, 0]}
    return tables.main_table(shown, pd.DataFrame(where | tests))


def test_main_table_intervals_bold_and_noise(table):
    assert list(table.columns) == [FORGET, RETAIN]
    forget, retain = (table[c] for c in table)
    assert forget["GA"] == "**22.0 [17.0, 27.0] ±2.8**" + rendering.NOT_SIGNIFICANT
    assert forget["VKD"] == "31.0 [26.0, 36.0] ±2.8"
    assert retain["VKD"] == "**90.0 [85.0, 95.0] ±2.8**" and "±" not in retain["vanilla"]
    assert "**" not in forget["never-saw"] + retain["vanilla"]  # references are better, and not bold
    assert table.loc["chance"].tolist() == ["25.0", "25.0"]


def test_what_could_have_been_seen_stands_below(table):
    """The median over methods and their range; a method whose answers are all the same says nothing."""
    assert table.index[-1] == tables.SMALLEST
    assert table.loc[tables.SMALLEST].tolist() == ["7.8 (6.0 to 9.5)", "4.0"]
    assert tables.SMALLEST not in tables.main_table(numbers({"GA": (22, 62)})).index


def test_curves_have_a_row_a_value_with_its_interval():
    weak, strong = numbers({"VKD": (25, 90.5)}, beta=0.5), numbers({"VKD": (60.7, 98)}, beta=10.0)
    vanilla = numbers({"vanilla": (99, 99)}, beta=float("nan"))
    shown = tables.curve_table(pd.concat([strong, weak, vanilla]), "beta")
    assert shown.index.tolist() == ["0.5", "10"] and shown.index.name == "beta"
    assert shown[FORGET].tolist() == ["25.0 [20.0, 30.0]", "60.7 [55.7, 65.7]"]
    words = numbers(
        {"VKD": (0.25, 0.5)}, "rouge_l", modality="qa", kind="generation", schema="clear", beta=1.0
    )
    assert tables.curve_table(words, "beta").iloc[0, 0] == "0.250 [-4.750, 5.250]"


def test_over_forgetting_is_marked_in_its_column_and_not_bold():
    shown = numbers({"never-saw": (30, 98), "GA": (20, 60), "NPO": (26, 70), "VKD": (33, 90)}, deviation=1.0)
    shown["over_forgotten"] = (shown.method == "GA") & (shown.set == "forget")
    table = tables.main_table(shown)
    assert table.loc["GA", FORGET] == "20.0 [15.0, 25.0] ±1.0" + rendering.OVER_FORGOTTEN
    assert table.loc["NPO", FORGET] == "**26.0 [21.0, 31.0] ±1.0**" and "*" not in table.loc["VKD", FORGET]
    assert rendering.OVER_FORGOTTEN not in table.loc["GA", RETAIN]


def test_what_looks_equal_is_equally_bold():
    shown = tables.main_table(numbers({"GA": (22.04, 60), "VKD": (22.0, 60)}))
    assert (shown[FORGET][["GA", "VKD"]].str[:6] == "**22.0").all()


def test_rows_of_several_settings_are_not_averaged():
    one = numbers({"VKD": (10, 90)})
    with pytest.raises(ValueError, match="several rows for one method"):
        tables.main_table(pd.concat([one, one.assign(value=50)]))
    with pytest.raises(ValueError, match="records and tests of several forget_ratios: 5, 10"):
        tables.main_table(pd.concat([one, one.assign(forget_ratio=10)]))
    p = pd.DataFrame({"other": ["GA"], "model": ["testbed/qwen2-vl"], "p_holm": [0.9]})
    with pytest.raises(ValueError, match="several models: testbed/llava, testbed/qwen2-vl"):
        tables.main_table(one, p)


def test_published_numbers_stand_beside_ours(table):
    theirs = published.published_table("vkd 1", "LLaVA-1.5-7B", "MLLMU-Bench")
    both = tables.add_paper_numbers(table, theirs)
    assert list(both.columns)[:2] == [FORGET, "Forget VQA, published"]
    assert both["Forget VQA, published"].tolist() == ["", "45.8", "", "43.2", "43.2", "29.8", ""]
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
    assert "<b>22.0\u00a0<small>[17.0, 27.0] ±2.8</small></b>≈" in table_html(table)
    for row in rendering.markdown(table).splitlines():
        assert row.count("|") == 4


def test_the_evidence_of_claims():
    case = {"claim": "it forgets", "source": "4.3", "forget_ratio": 5,
            "model": "testbed/llava", "benchmark": "testbed/clear",
            "column": "Forget VQA", "ours": "VKD", "other": "vanilla", "difference": -70.0, "low": -80.0,
            "high": -60.0, "low_runs": -90.0, "high_runs": -50.0,
            "n": 50, "differ": 40, "p_holm": 0.0021, "verdict": "holds", "people": 10,
            "over_forgotten": "VKD", "runs_ours": "a b", "runs_other": "c", "test": "sign flips",
            "p": 0.0003, "smallest": 7.25}  # fmt: skip
    same = case | {"difference": 0.0, "differ": 0, "p_holm": 1.0, "over_forgotten": ""}
    close = same | {"differ": 3, "p": float("nan"), "p_holm": float("nan"), "verdict": "cannot tell"}
    names = (
        "model",
        "benchmark",
        "forget_ratio",
        "column",
        "n",
        "people",
        "differ",
        "p",
        "p_holm",
        "verdict",
        "runs_ours",
    )
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
    assert table["p (Holm)"].tolist() == ["0.0021", "–", "–", "0.0021"]
    assert table.p.tolist() == ["0.0003", "–", "–", "0.0003"]
    assert table.smallest.tolist() == ["7.2", "–", "7.2", "–"]  # what nobody could have seen is not said
    assert table.N.tolist() == ["50"] * 4 and table.people.tolist() == ["10"] * 4
    assert table.runs.tolist() == [3, 3, 3, 2]
    assert table["over-forgotten"].tolist() == ["VKD", "", "", ""]
    assert (table.model == "LLaVA").all() and table.source.tolist() == ["4.3", "", "", "4.4"]
    ratios = tables.evidence(cases.assign(forget_ratio=[5, 10, 5, 5]))
    assert ratios.benchmark.tolist() == ["CLEAR, 5 %", "CLEAR, 5 %", "CLEAR, 5 %", "CLEAR, 10 %"]
    beside = tables.evidence(cases.assign(published=["-16.0", "", "", ""]))
    assert beside.published.tolist() == ["-16.0", "–", "–", "–"]


def test_the_papers_own_differences():
    """Of its Table 1: forget VQA 29.8 and 31.2. It has no unseen pictures, and so no balance of ours."""
    theirs = published.published_table("vkd 1", "LLaVA-1.5-7B", "MLLMU-Bench")
    cases = [("MMUnlearner", "Forget VQA"), ("never-saw", "Forget VQA")]
    cases += [("MMUnlearner", columns.BALANCE), ("MMUnlearner", "Forget VQA, unseen")]
    cases = pd.DataFrame(cases, columns=["other", "column"]).assign(ours="VKD")
    ours = columns.table_columns("vkd 1", "mllmu")
    assert published.published_differences(theirs, ours, cases) == ["-1.4", "", "", ""]
    assert not [title for title in theirs if title.endswith(columns.UNSEEN)]


def test_a_reduction_is_what_is_below_vanilla():
    ends = {"low": [50, 10], "high": [70, 40]}
    rows = pd.Index(["vanilla", "VGID"])
    forget = pd.DataFrame({"value": [60.0, 20.0], **ends}, rows)
    kept = pd.DataFrame({"value": [90.0, 80.0], "low": [85, 70], "high": [95, 90]}, rows)
    found = tables.reductions(forget, kept).loc["VGID"]
    assert found["reduction"].to_dict() == {"value": 40, "low": 20, "high": 50}  # 60 - 20, 60 - 40, 60 - 10
    assert found["kept"].to_dict() == {"value": 80, "low": 70, "high": 90}
    with pytest.raises(ValueError, match="what is to be forgotten has no 'vanilla'"):
        tables.reductions(forget[1:], kept)


def test_the_distance_from_a_published_pattern():
    """Shares of vanilla's value: 0.5 and 1 in the paper. One row halves the first, one nothing."""
    printed = pd.DataFrame(
        {"Forget class": ["80.0", "40.0"], "Retain class": ["50.0", "50.0"]}, ["vanilla", "VGID"]
    )
    shown = numbers({"vanilla": (100, 90), "half": (50, 90), "all": (100, 90), "none": (0, 45)})
    found = tables.pattern_distances(shown, printed, "VGID")
    assert found.to_dict() == pytest.approx({"half": 0, "all": 25, "none": 50})
    assert list(found.index) == ["half", "all", "none"]
