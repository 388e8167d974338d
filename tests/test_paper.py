"""The published numbers, and what can be said of them by arithmetic."""

import pytest

from vkdlib.reports.paper.audit import (
    audit_cells,
    fit_by_chance,
    is_share,
    repeated_rows,
    swapped_rows,
    unequal_cells,
)
from vkdlib.reports.paper.published import paper_cells


def test_every_table_is_whole():
    cells = paper_cells()
    sizes = cells.groupby(["paper", "table"]).size().to_dict()
    vgid = {"1": 16, "2": 24, "3": 270, "4": 63, "5": 36, "6": 36, "7": 15, "8": 270, "9": 270}
    vkd = {"1": 192, "2": 12, "3": 48, "4": 42}
    assert sizes == {("vkd", t): n for t, n in vkd.items()} | {("vgid", t): n for t, n in vgid.items()}
    where = list(cells.columns[:11])
    assert not cells.duplicated(where).any()
    shares = cells[cells.metric == "accuracy"].number
    assert shares.between(0, 100).all() and cells[cells.metric == "rouge_l"].number.between(0, 1).all()


def test_a_relearning_gain_is_the_difference_of_its_row():
    table = paper_cells("vkd", 4).pivot(index=["modality", "method"], columns="condition", values="number")
    assert (table.AG - (table.Epoch5 - table.Original)).abs().max() < 0.05


def test_a_cell_reads_as_printed():
    ours = paper_cells("vkd", 1).query(
        "model == 'LLaVA-1.5-7B' and method == 'Ours' and benchmark == 'CLEAR'"
    )
    assert ours.value.tolist() == ["34.2", "0.349", "49.6", "0.346", "52.8", "84.8"]
    with pytest.raises(ValueError, match="table is '5'; it must be one of 1, 2, 3, 4"):
        paper_cells("vkd", 5)


@pytest.mark.parametrize(
    "value, n, fits",
    [
        ("45.8", 120, True),  # 55 of 120
        ("45.8", 125, False),
        ("38.4", 125, True),
        ("19.56", 46, True),  # 9 of 46, cut
        ("19.57", 46, True),  # and rounded
        ("19.58", 46, False),
        ("18.83", 120, False),
        ("100.0", 7, True),
        ("0.0", 7, True),
        ("50", 3, False),
        ("67", 3, True),
        ("66", 3, True),
    ],
)
def test_reachable(value, n, fits):
    assert is_share(value, n) is fits


def test_reachable_agrees_with_counting():
    for n in (7, 48, 125):
        possible = {f"{round(100 * k / n, 1):.1f}" for k in range(n + 1)}
        assert {v for v in (f"{i / 10:.1f}" for i in range(1001)) if is_share(v, n)} >= possible
    assert fit_by_chance(125, 125) == pytest.approx(126 / 1001)  # k/125 has one decimal: nothing to round


def test_the_audit_tells_what_is_not_reachable():
    table = audit_cells()
    assert len(table) == 576
    vkd = table.query("paper == 'vkd' and table == '1' and benchmark == 'MLLMU-Bench' and modality == 'vqa'")
    assert vkd[~vkd.reachable].value.tolist() == ["45.8", "29.8", "42.8"]
    assert set(table.n) >= {"125", "188", "367", "151", "120", "46/48", "46", "48"}
    assert "AG" not in set(table.condition)


def test_rows_that_are_printed_twice_or_exchanged():
    pairs = {(r.a, r.b) for r in repeated_rows().itertuples()}
    assert ("vkd table 1 LLaVA-1.5-7B MLLMU-Bench GA_Diff", "vkd table 3 B") in pairs
    rmu = (
        "vgid table 8 LLaVA-1.5-7B MLLMU-Bench RMU 10 %",
        "vgid table 9 Qwen2.5-VL-3B MLLMU-Bench RMU 15 %",
    )
    assert rmu in pairs
    found = swapped_rows()
    assert set(found.method) == {"RMU"} and set(found.model) == {"LLaVA-1.5-13B"}
    assert sorted(found.table.unique()) == ["8", "9"]
    assert len(found) == 4 and set(found.set) == {"forget", "test"}


def test_vgids_rows_that_are_printed_twice():
    """Four of them must be equal: the default is random noise and the strict prompt. One must not."""
    pairs = [(r.a, r.b) for r in repeated_rows().itertuples() if r.a.startswith("vgid")]
    tables = [tuple(name.split()[2] for name in pair) for pair in pairs]
    assert tables == [("2", "6"), ("3", "4"), ("3", "5"), ("4", "5"), ("8", "9")]


def test_the_strict_prompt_has_two_results():
    found = unequal_cells().set_index(["row", "column"])["values"]
    assert found.to_dict() == {
        ("vanilla, strict", "Forget ROUGE-L"): "0.458 (Table 1); 0.462 (Table 2, Table 6)",
        ("vanilla, strict", "Forget ROUGE-L, unseen"): "0.191 (Table 1); 0.193 (Table 2, Table 6)",
    }
