"""The rule by which methods get their settings."""

import pandas as pd
import pytest

from vkdlib.experiments import presets
from vkdlib.reports import selection
from vkdlib.reports.answers import row_names
from vkdlib.runs.records import read_records
from vkdlib.sweep import grid
from vkdlib.system import paths

NAN = float("nan")
SWEEPS = paths.root() / "notebooks" / "sweeps"
KEEP = [("retain_unseen", "vqa"), ("real", "vqa"), *((group, "qa") for group in ("forget", "retain", "real"))]


def trial(method, forget, kept, *draws, lr=0.5, epochs=10, share=NAN, **labels):
    """Records of one trial, one run a draw: unseen forget VQA, and the same accuracy in all else that counts.
    On seen pictures everything is forgotten, and kept."""
    where = [("forget", "vqa", 0), ("retain", "vqa", 100), ("test", "vqa", forget)]
    where += [(*place, kept) for place in KEEP]
    rows = [
        {"set": group, "modality": modality, "value": value, "draw": draw}
        for draw in draws or (0,)
        for group, modality, value in where
    ]
    task = {
        "model": "m",
        "benchmark": "mllmu",
        "schema": "mllmu",
        "kind": "classification",
        "metric": "accuracy",
        "way": "shown",
    }
    settings = {"way": "shown", "method": method, "lr": lr, "epochs": epochs, "share": share}
    return pd.DataFrame(rows).assign(**task | settings | labels)


def never_saw(left=25, *draws):
    return trial("never-saw", left, 50, *draws, lr=NAN, epochs=NAN)


def chosen(*trials, **options):
    return selection.choose(pd.concat([*trials, never_saw(25, 0, 1)]), **options)


def test_the_score_is_that_of_unseen_pictures_over_draws():
    """Never-saw's own runs lie to either side: what counts is the distance of the means."""
    records = pd.concat([trial("GA", 40, 90, 0), trial("GA", 20, 80, 1), never_saw(20, 0), never_saw(30, 1)])
    (row,) = selection.trial_scores(records).itertuples()
    assert (row.row, row.lr, row.epochs, row.draws) == ("GA", 0.5, 10, 2) and pd.isna(row.share)
    assert (row.kept, row.left, row.never) == (85, 30, 25)
    assert row.score == pytest.approx(85 - 5)


def test_over_forgetting_costs_as_much_as_forgetting_too_little():
    assert chosen(trial("GA", 0, 90, lr=0.1), trial("GA", 35, 80, lr=0.2))["GA"]["lr"] == 0.2
    assert chosen(trial("GA", 15, 90, lr=0.1), trial("GA", 36, 90, lr=0.2))["GA"]["lr"] == 0.1


def test_what_is_left_is_measured_by_never_saw():
    with pytest.raises(ValueError, match="the records have no never-saw, the measure of what is left"):
        selection.choose(trial("GA", 30, 90))
    with pytest.raises(ValueError, match="no never-saw of draw 1"):
        selection.choose(pd.concat([trial("GA", 30, 90, 0, 1), never_saw(25, 0)]))


def test_settings_of_single_methods_tell_trials_apart():
    trials = [trial("NPO", left, 90, beta=beta) for left, beta in ((60, 0.4), (30, 0.8))]
    assert chosen(*trials, trial("GA", 30, 90), trial("GA", 40, 90, lr=0.1)) == {
        "NPO": {"epochs": 10, "lr": 0.5, "beta": 0.8},
        "GA": {"epochs": 10, "lr": 0.5},
    }


def test_of_equal_trials_the_one_of_fewer_steps_then_of_the_smaller_rate():
    trials = [trial("GA", 30, 90, lr=lr, epochs=epochs) for lr, epochs in ((0.1, 20), (0.3, 10), (0.2, 10))]
    manu = [trial("MANU", 50, 99, share=share, lr=0.001, epochs=50) for share in (0.02, 0.01, 0.3)]
    assert chosen(*trials, *manu) == {"GA": {"epochs": 10, "lr": 0.2}, "MANU": {"share": 0.01}}


def test_rows_of_an_ablation_are_chosen_each_for_itself():
    frozen = {"trained": "visual", "mask": True, "beta": 3.0}
    whole = {"trained": "all", "mask": False, "beta": 0.0}
    trials = [trial("VKD", forget, 90, lr=lr, **frozen) for lr, forget in ((0.1, 90), (0.2, 30))]
    trials += [trial("VKD", forget, 90, lr=lr, **whole) for lr, forget in ((0.1, 30), (0.2, 90))]
    assert {row: of["lr"] for row, of in chosen(*trials, rows="parts").items()} == {
        "F+Mask+VKD": 0.2,
        "B": 0.1,
    }


def test_only_trials_of_both_rounds_are_compared():
    """One that was lucky on draw 0, and did not come to draw 1, is not the best."""
    first = [trial(m, 26, 99, 0, lr=0.1) for m in ("GA", "VKD")]
    second = [trial("GA", 60, 90, 0, 1, lr=0.2), trial("VKD", 30, 90, 0, 1, lr=0.3)]
    assert chosen(*first, *second) == {"GA": {"epochs": 10, "lr": 0.2}, "VKD": {"epochs": 10, "lr": 0.3}}
    apart = [trial(m, 30, 90, draw, lr=0.1 * (1 + draw)) for m in ("GA", "NPO") for draw in (0, 1)]
    with pytest.raises(ValueError, match="no trial of GA, NPO has all draws: run the second round"):
        chosen(*apart)


def test_all_methods_have_the_same_budget():
    one = [trial("GA", 30, 90, lr=0.1), trial("KL_Min", 30, 90, lr=0.1)]
    with pytest.raises(ValueError, match="unequal numbers of trials: GA 1, KL_Min 2; give all"):
        chosen(*one, trial("KL_Min", 30, 90, lr=0.2))
    rounds = [
        trial("GA", 30, 90, 0, lr=0.2),
        trial("KL_Min", 30, 90, 0, 1, lr=0.2),
        trial("GA", 30, 90, 1, lr=0.1),
    ]
    assert set(chosen(*one, *rounds)) == {"GA", "KL_Min"}
    with pytest.raises(ValueError, match="unequal numbers of runs: GA 2, KL_Min 3"):
        chosen(*one, *rounds[:2])


def test_models_that_are_not_unlearned_are_no_trials():
    vanilla = trial("vanilla", 100, 100, 0, lr=NAN, epochs=NAN)
    assert set(chosen(vanilla, trial("GA", 30, 90))) == {"GA"}


def test_half_a_sweep_chooses_nothing():
    whole = [trial("GA", 30, 90, lr=0.1), trial("GA", 30, 90, lr=0.2)]
    with pytest.raises(ValueError, match="a trial of GA lacks a column of the score: run the whole sweep"):
        chosen(whole[0], whole[1].query("set != 'real'"))
    with pytest.raises(ValueError, match="a balance counts Forget VQA, unseen; the record has Forget QA"):
        chosen(whole[0].query("set != 'test'"))
    with pytest.raises(ValueError, match="several rows for one trial and draw"):
        chosen(whole[0], whole[0])
    with pytest.raises(ValueError, match="records of several models, m, n: settings are chosen for each"):
        chosen(whole[0], whole[1].assign(model="n"))
    with pytest.raises(ValueError, match="the record has no 'lr'"):
        selection.choose(pd.concat([whole[0], never_saw()]).drop(columns="lr"))


def selection_tasks():
    """Model and benchmark of each part of the committed selection."""
    return list(selection.read_trials().groupby(["model", "benchmark"]).groups)


@pytest.mark.parametrize("model, benchmark", selection_tasks())
def test_every_method_has_what_the_rule_chose(model, benchmark):
    trials = selection.read_trials().query("model == @model and benchmark == @benchmark")
    preset = presets.fitting_preset(model, benchmark)
    for method, settings in selection.choose(trials).items():
        own = presets.preset(preset, "method", method) | presets.preset(preset, "training", method)
        assert settings == {field: own[field] for field in settings}, method


def test_rows_of_table_3_have_what_the_rule_gives_them():
    chosen = selection.choose(read_records("selection_fine_parts"), "parts")
    sweep = grid.read_sweep(SWEEPS / "table3_ablation.yaml")
    points = pd.DataFrame(grid.grid_points(sweep)).assign(way="shown")
    rows = points[(points.method == "VKD") & points.lr.notna()]
    rows = rows.assign(row=row_names(rows.fillna({"beta": 3.0}), "parts"))
    for row, steps in rows.groupby("row")[["epochs", "lr"]]:
        expected = {name: chosen[row][name] for name in steps}
        assert steps.drop_duplicates().to_dict("records") == [expected], row
    assert set(rows.row) == set(chosen) and len(rows) == 5 * len(chosen)


def test_rows_beyond_table_3_have_the_steps_of_vkd_and_ga_diff():
    sweep = grid.read_sweep(SWEEPS / "table3_beyond.yaml")
    for point in grid.grid_points(sweep):
        if point.get("trained") == "all":
            steps = presets.preset(point["preset"], "training", "GA_Diff")
            assert [point[name] for name in ("lr", "epochs")] == [steps[name] for name in ("lr", "epochs")]
        else:
            assert "lr" not in point and "epochs" not in point


def test_the_second_round_is_around_the_best_of_the_first():
    trials = [trial("GA", 50, 90, lr=lr, epochs=20) for lr in (0.1, 0.3)]
    trials += [trial("MANU", 50, 90, share=share, lr=NAN, epochs=NAN) for share in (0.1, 0.2)]
    trials += [never_saw(25, 0)]
    fine = selection.fine_trials(
        pd.concat([*trials[:1], trial("GA", 40, 90, lr=0.3, epochs=20), *trials[2:]])
    )
    assert fine["MANU"] == [{"share": s} for s in (0.05, 0.071, 0.1, 0.14, 0.2)]
    rates = {(t["epochs"], t["lr"]) for t in fine["GA"]}
    assert rates == {(20, 0.17), (20, 0.3), (20, 0.54), (50, 0.17), (50, 0.096)}


def trials_of(sweep, model, benchmark):
    """Method -> its trials of one model and benchmark in a sweep's file, each once."""
    trials = {}
    for point in grid.grid_points(grid.read_sweep(SWEEPS / f"{sweep}.yaml")):
        settings = {name: point[name] for name in selection.SETTINGS if name in point}
        if settings and (point["model"], point["benchmark"]) == (model, benchmark):
            of_method = trials.setdefault(point["method"], [])
            of_method += [settings] if settings not in of_method else []
    return trials


@pytest.mark.parametrize("model, benchmark", selection_tasks())
@pytest.mark.parametrize(
    "before, after, rule",
    [
        ("selection", "selection_fine", selection.fine_trials),
        ("selection_fine", "selection_own", selection.own_trials),
    ],
)
def test_each_round_is_around_the_best_of_the_one_before(model, benchmark, before, after, rule):
    records = read_records(before).query("model == @model and benchmark == @benchmark")
    expected, trials = rule(records), trials_of(after, model, benchmark)
    assert expected.keys() == trials.keys()
    for method, settings in expected.items():
        assert all(one in trials[method] for one in settings), method
        assert len(settings) == len(trials[method]), method


def test_the_third_round_varies_the_settings_of_a_methods_own():
    first = [trial(m, 30, 90, lr=0.1, epochs=20, beta=b) for m, b in (("GA", NAN), ("NPO", 0.4))]
    assert selection.own_trials(pd.concat([*first, never_saw()])) == {
        "NPO": [{"epochs": 20, "lr": 0.1, "beta": b} for b in (0.1, 0.2, 0.8, 1.6)]
    }


def test_methods_with_settings_of_their_own_have_the_same_budget():
    trials = [trial(m, 30, 90, lr=0.1) for m in ("GA", "VKD", "NPO")]
    more = [trial(m, 30, 80, lr=0.1, beta=9.0) for m in ("VKD", "NPO")]
    assert set(chosen(*trials, *more)) == {"GA", "VKD", "NPO"}
    with pytest.raises(ValueError, match="unequal numbers of trials: NPO 2, VKD 1; give all the same"):
        chosen(*trials, more[1])
