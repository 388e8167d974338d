"""The rule by which methods get their learning rates."""

import pandas as pd
import pytest

from vkdlib.experiments import presets
from vkdlib.reports import selection
from vkdlib.runs.records import read_records
from vkdlib.sweep import grid
from vkdlib.system import paths


def trial(method, tried, draw, forget, kept):
    """Records of one trial: forget VQA, and the same accuracy in all else."""
    field = "share" if method == "MANU" else "lr"
    kept_columns = [("retain", "vqa"), ("real", "vqa"), *((s, "qa") for s in ("forget", "retain", "real"))]
    where = [("forget", "vqa", forget), *((*column, kept) for column in kept_columns)]
    rows = [{"set": s, "modality": m, "value": v, "method": method, "draw": draw} for s, m, v in where]
    return pd.DataFrame(rows).assign(
        **{"lr": 0.5, "share": float("nan")} | {field: tried},
        kind="classification",
        metric="accuracy",
        benchmark="mllmu",
        schema="mllmu",
    )


def test_balance_is_what_is_kept_minus_what_is_not_forgotten():
    records = pd.concat([trial("GA", 0.1, 0, 40, 90), trial("GA", 0.1, 1, 60, 80)])
    assert selection.trial_balances(records)["GA", 0.1] == pytest.approx((50 + 20) / 2)


def test_to_forget_more_than_a_guess_is_worth_nothing():
    records = pd.concat([trial("GA", 0.1, 0, 0, 90), trial("GA", 0.2, 0, 25, 90.5)])
    assert selection.trial_balances(records).tolist() == pytest.approx([65, 65.5])
    assert selection.choose(records) == {"GA": 0.2}


def test_of_equal_trials_the_smaller_one_and_each_method_for_itself():
    trials = [("GA", 0.3, 30, 90), ("GA", 0.1, 30, 90), ("MANU", 0.02, 50, 99), ("MANU", 0.01, 90, 99)]
    records = pd.concat([trial(m, tried, 0, forget, kept) for m, tried, forget, kept in trials])
    assert selection.choose(records) == {"GA": 0.1, "MANU": 0.02}


def test_half_a_sweep_chooses_nothing():
    whole = [trial("GA", 0.1, 0, 30, 90), trial("GA", 0.2, 0, 30, 90), trial("GA", 0.1, 1, 30, 90)]
    with pytest.raises(ValueError, match="all draws and all columns"):
        selection.choose(pd.concat(whole))
    with pytest.raises(ValueError, match="all draws and all columns"):
        selection.choose(pd.concat([whole[0], whole[1].query("set != 'real'")]))


@pytest.mark.parametrize(
    "record, preset",
    [("", "testbed"), ("_clear", "testbed-clear"), ("_qwen2_vl", "testbed-qwen2-vl")],
)
def test_every_method_has_what_the_rule_chose(record, preset):
    trials = read_records(f"selection_methods{record}").query("method != 'vanilla'")
    chosen = selection.choose(trials)
    assert set(chosen) == {"GA", "GA_Diff", "KL_Min", "NPO", "MANU", "MMUnlearner", "VKD"}
    for method, value in chosen.items():
        part, field = ("method", "share") if method == "MANU" else ("training", "lr")
        assert presets.preset(preset, part, method)[field] == value, method


@pytest.mark.parametrize(
    "record", ["selection_methods", "selection_methods_clear", "selection_methods_qwen2_vl"]
)
def test_who_was_best_at_the_end_of_a_range_got_two_more_trials(record):
    balance = selection.trial_balances(read_records(record).query("method != 'vanilla'"))
    sweep = grid.grid_points(grid.read_sweep(paths.root() / "notebooks" / "sweeps" / f"{record}.yaml"))
    for method in balance.index.unique("method"):
        of = [point for point in sweep if point["method"] == method]
        tried = list(dict.fromkeys(point.get("share", point.get("lr")) for point in of))
        first, more = sorted(tried[:6]), tried[6:]
        assert sorted(tried) == sorted(balance[method].index) and len(first) == 6
        best = balance[method][first].idxmax()
        assert len(more) == (2 if best in (first[0], first[-1]) else 0), method
        assert all(v > best if best == first[-1] else v < best for v in more)


def test_the_ablation_trains_the_whole_model_at_a_rate_that_was_chosen_for_that():
    folder = paths.root() / "notebooks" / "sweeps"
    sweeps = [grid.read_sweep(folder / f"table3_{part}.yaml") for part in ("ablation", "beyond")]
    points = [point for sweep in sweeps for point in grid.grid_points(sweep)]
    rows = [point for point in points if point["method"] == "VKD"]
    rates = {(point["preset"], point["trained"]): point.get("lr") for point in rows}
    for preset in ("testbed", "testbed-clear", "testbed-qwen2-vl"):
        assert rates[preset, "visual"] is None
        assert rates[preset, "all"] == presets.preset(preset, "training", "GA_Diff")["lr"]
    assert len({(point["model"], point["benchmark"]) for point in rows}) == 4
    assert len(rates) == 6 and len(rows) == 2 * 2 * 3 * 7
