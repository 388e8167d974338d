"""The rule by which methods get their settings."""

import pandas as pd
import pytest

from vkdlib.experiments import presets
from vkdlib.reports import selection
from vkdlib.reports.answers import row_names
from vkdlib.runs.records import read_records
from vkdlib.sweep import grid
from vkdlib.sweep.grid import grid_points
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


VGID = {"testbed/llava": "testbed-vgid", "testbed/qwen2.5-vl": "testbed-vgid-qwen2.5-vl"}
VGID |= {"testbed/smol": "testbed-vgid-smol"}  # model -> its preset in VGID's tables


@pytest.mark.parametrize(
    "name, table, own",
    [
        ("vgid_selection_fine", "vgid 3", VGID),
        ("vgid_selection_smol", "vgid 3", VGID),
        ("smol_selection", "vkd 1", {"testbed/smol": "testbed-smol"}),
    ],
)
def test_in_other_tables_every_method_has_what_the_rule_chose(name, table, own):
    try:
        trials = read_records(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    for model, part in trials.groupby("model"):
        rows = "teachers" if table == "vgid 3" else "method"
        for row, settings in selection.choose(part, rows, table).items():
            method = "VGID" if row in selection.TEACHERS else row
            values, regime = (
                presets.preset(own[model], of, method, row=row) for of in ("method", "training")
            )
            assert settings == {field: (values | regime)[field] for field in settings}, (model, row)


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


WRITTEN = [
    ("cloze", "accuracy"),
    ("classification", "accuracy"),
    ("generation", "rouge_l"),
    ("generation", "bleu"),
]


def written_trial(method, told, kept, draw=0, **settings):
    """Records of a trial in the columns of VGID's Table 3, all alike, in points; on seen pictures 0."""
    rows = [
        {"set": group, "modality": "vqa", "kind": kind, "metric": metric, "draw": draw}
        | {"value": value * (1 if metric == "accuracy" else 0.01)}
        for group, value in {"forget": 0, "retain": 0, "test": told, "retain_unseen": kept}.items()
        for kind, metric in WRITTEN
    ]
    task = {"model": "m", "benchmark": "mllmu", "schema": "mllmu", "way": "shown"}
    return pd.DataFrame(rows).assign(method=method, **task | {"lr": 0.5, "epochs": 10} | settings)


def test_where_one_may_refuse_to_tell_less_than_never_saw_costs_nothing():
    trials = [written_trial("GA", told, 90, lr=0.1 * told) for told in (1, 10, 30)]
    record = pd.concat([*trials, written_trial("never-saw", 20, 90)])
    scores = selection.trial_scores(record, table="vgid 3").set_index("lr").score
    assert scores.round(6).tolist() == [85.25, 87.5, 80]  # a quarter of the score cannot be refused
    record = pd.concat([record, record[record.kind == "classification"].assign(metric="unparsable")])
    scores = selection.trial_scores(record, table="vgid 3").set_index("lr").score
    assert scores.round(6).tolist() == [90, 90, 80]
    assert selection.choose(record, table="vgid 3")["GA"]["lr"] == 0.1
    with pytest.raises(ValueError, match="the records have no never-saw"):
        selection.choose(pd.concat(trials), table="vgid 3")


def first_round():
    """Two rates of three methods; VGID and RMU have settings that others have, too, under the same name."""
    usual = {"alpha": 1.0, "beta": 1.0, "gamma": NAN, "block": NAN}
    own = {"VGID": usual, "RMU": {"gamma": 30, "block": 2}, "NPO": {"beta": 0.4}, "GA": {}}
    trials = [
        written_trial(method, told, 90, lr=lr, **settings)
        for method, settings in own.items()
        for lr, told in ((0.1, 80), (0.3, 40))
    ]
    return pd.concat([*trials, written_trial("never-saw", 20, 90)]).assign(preset="testbed-vgid")


def test_settings_of_a_method_are_part_of_its_trials_alone():
    chosen = selection.choose(first_round(), table="vgid 3")
    assert chosen == {
        "GA": {"epochs": 10, "lr": 0.3},
        "NPO": {"epochs": 10, "lr": 0.3, "beta": 0.4},
        "RMU": {"epochs": 10, "lr": 0.3, "gamma": 30, "block": 2},
        "VGID": {"epochs": 10, "lr": 0.3, "alpha": 1, "beta": 1},
    }
    other = written_trial("VGID", 30, 90, lr=0.3, alpha=2.0, beta=1.0)
    with pytest.raises(ValueError, match="unequal numbers of trials: GA 2, RMU 2, VGID 3"):
        selection.choose(pd.concat([first_round(), other]), table="vgid 3")


def test_the_second_round_as_a_grid():
    """All methods have as many trials; own settings are tried in the place of the neighbouring rates."""
    known, *entries = selection.fine_grid(first_round(), "vgid 3")
    task = {"model": "m", "benchmark": "mllmu", "preset": "testbed-vgid", "draw": [0, 1]}
    assert known == task | {"method": "never-saw"} and all(task.items() <= e.items() for e in entries)
    points = [p for p in grid_points({"experiment": "x", "grid": entries}) if p["draw"] == 0]
    for p in points:  # a settings' teacher names the row
        p["row"] = presets.row_name(p["method"], *(p["settings"].get(n) for n in ("perturbation", "prompt")))
    rows = {"GA", "NPO", "RMU", "VGID", "ICU-T", "Noise-T"}
    assert {row: sum(p["row"] == row for p in points) for row in rows} == dict.fromkeys(rows, 5)
    assert len(points) == 5 * len(rows)
    for row in ("VGID", "ICU-T", "Noise-T"):
        own = [p for p in points if p["row"] == row]
        vgid = {(p["epochs"], p["lr"], p["settings"]["alpha"], p["settings"]["beta"]) for p in own}
        usual = {(10, 0.3, 1, 1), (25, 0.17, 1, 1), (25, 0.096, 1, 1)}
        assert vgid == usual | {(10, 0.3, 2, 1), (10, 0.3, 1, 2)}
    rmu = [p["settings"] | {"lr": p["lr"]} for p in points if p["method"] == "RMU"]
    assert {"gamma": 100, "block": 2, "lr": 0.3} in rmu and {"gamma": 30, "block": 1, "lr": 0.3} in rmu
    ga = {(p["epochs"], p["lr"]) for p in points if p["method"] == "GA"}
    assert ga == {(10, 0.17), (10, 0.3), (10, 0.54), (25, 0.17), (25, 0.096)}
    npo = {(p["epochs"], p["lr"], p["settings"]["beta"]) for p in points if p["method"] == "NPO"}
    assert npo == {(10, 0.3, 0.4), (25, 0.17, 0.4), (25, 0.096, 0.4), (10, 0.3, 0.2), (10, 0.3, 0.8)}
    with pytest.raises(ValueError, match="the record has no 'preset'"):
        selection.fine_grid(first_round().drop(columns="preset"), "vgid 3")


def test_the_second_round_has_the_preset_of_the_first():
    """Else the run would be that of the preset that fits the model and the benchmark."""
    _, *entries = selection.fine_grid(first_round(), "vgid 3")
    for point in grid_points({"experiment": "x", "grid": entries}):
        values = {name: point[name] for name in ("draw", "epochs", "lr", "settings")}
        c, _ = presets.configure(point["preset"], point["method"], select=True, **values)
        assert c.training["lr"] == point["lr"] and c.settings.items() >= point["settings"].items()
        assert point["method"] != "NPO" or c.settings["reference"] == "vanilla"


def test_what_is_told_is_not_made_good_by_silence_elsewhere():
    """A trial that refuses all sentences and answers all multiple choice right has forgotten nothing; and by
    likelihood, which cannot be refused, to be wrong on purpose costs as much."""
    never = written_trial("never-saw", 20, 90)
    trials = [written_trial("GA", 20, 90, lr=lr) for lr in (1, 2, 3)]
    choice = (trials[0]["set"] == "test") & (trials[0].kind == "classification")
    for trial, right in zip(trials, (20, 60, 0)):
        trial.loc[choice, "value"] = right
    trials[1].loc[(trials[1]["set"] == "test") & ~choice, "value"] = 0
    record = pd.concat([*trials, never])
    scores = selection.trial_scores(record, table="vgid 3").set_index("lr").score
    assert scores.round(6).to_dict() == {1: 90, 2: 80, 3: 85}
    choice = (record["set"] == "test") & (record.kind == "classification")
    by_letter = record[choice].assign(metric="unparsable")
    scores = selection.trial_scores(pd.concat([record, by_letter]), table="vgid 3").set_index("lr").score
    assert scores.round(6).to_dict() == {1: 90, 2: 80, 3: 90}


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


def attacked(lr, others, taught, draw=0, scope="visual", method="VKD"):
    """Records of a relearned model after five epochs: others seen and unseen, and taught people unseen."""
    values = {"forget, others": others[0], "test, others": others[1], "test, taught": taught}
    rows = [{"set": group, "value": value} for group, value in values.items()]
    facts = {"modality": "vqa", "kind": "classification, epoch 5", "metric": "accuracy", "schema": "mllmu"}
    facts |= {"method": method, "draw": draw, "attack_scope": scope, "attack_lr": lr, "model": "m"}
    return pd.DataFrame(rows).assign(**facts)


def test_an_attacker_takes_the_rate_that_brings_most_back():
    """The rate that teaches the taught best destroys what there is to find of the others (measured on the
    testbed's vanilla with a shifted projector)."""
    measured = {1e-4: ((60, 55), 47), 3e-4: ((62, 52), 63), 1e-3: ((28, 31), 90)}
    record = [attacked(lr, *values, draw) for lr, values in measured.items() for draw in (0, 1)]
    record += [
        attacked(lr, values, 9, scope="all") for lr, values in {1e-4: (50, 30), 3e-4: (30, 50)}.items()
    ]
    assert selection.choose_attack_rates(pd.concat(record[:6])) == {"visual": 1e-4}
    assert selection.choose_attack_rates(pd.concat(record[6:])) == {"all": 1e-4}  # a tie
    with pytest.raises(ValueError, match="rates of visual have not all draws: run the whole sweep"):
        selection.choose_attack_rates(pd.concat(record[1:6]))
    with pytest.raises(ValueError, match="records of several methods, VKD, never-saw"):
        selection.choose_attack_rates(pd.concat([*record, attacked(1e-4, (9, 9), 9, method="never-saw")]))
    with pytest.raises(ValueError, match="the record has no 'Others VQA, epoch 5, unseen'"):
        selection.choose_attack_rates(pd.concat(record).query("set != 'test, others'"))


def points_of(name):
    return grid_points(grid.read_sweep(paths.root() / "notebooks" / "sweeps" / f"{name}.yaml"))


def test_the_attacker_is_chosen_on_the_vkd_of_the_tables():
    """A trial takes nothing that was chosen: the sweep names it."""
    for point in points_of("relearning_selection"):
        trial, _ = presets.configure("testbed", **{k: v for k, v in point.items() if k != "experiment"})
        usual, _ = presets.configure("testbed", "VKD")
        assert (trial.settings, trial.training) == (usual.settings, usual.training)


def test_table_4_has_the_rates_that_were_chosen():
    try:
        rates = selection.choose_attack_rates(read_records("relearning_selection"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    points = points_of("table4_relearning")
    assert {point["attack_scope"]: point["attack_lr"] for point in points} == rates


def test_trials_of_vkd_beyond_are_around_what_vkd_has():
    """If this fails, chosen.yaml has changed: print the grid anew, see `selection.beyond_grid`."""
    points = points_of("vkd_beyond_selection")
    grid_of = {"experiment": "selection", "grid": selection.beyond_grid()}
    grid_of["parameters"] = {"select": True, "forget_ratio": 5}
    assert points == grid_points(grid_of)
    budget = 5 + len(selection.OWN_TRIALS["VKD"])  # of VKD's own second and third rounds
    for task, name in selection.TASKS_BEYOND.items():
        trials = [p for p in points if (p["model"], p["benchmark"]) == task and p["method"] == "VKD"]
        assert len(trials) == 2 * budget and {p["preset"] for p in trials} == {name}
        best = presets.preset(presets.fitting_preset(*task), "training")
        rates = sorted({p["lr"] for p in trials})
        assert rates[0] < best["lr"] == rates[1] < rates[2]
        own = presets.preset(presets.fitting_preset(*task), "method")
        assert all(p["settings"][name] == own[name] for p in trials for name in ("alpha", "d_I", "d_F"))


def test_vkd_beyond_has_what_the_rule_chose():
    """The tables name no setting of it, so that a preset's own choice is what runs."""
    beyond = [p for p in points_of("vkd_beyond") if "preset" in p]
    assert beyond and not any("settings" in p for p in beyond)
    try:
        trials = read_records("vkd_beyond_selection")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    for task, part in trials.groupby(["model", "benchmark"]):
        name = selection.TASKS_BEYOND[task]
        own = presets.preset(name, "method") | presets.preset(name, "training")
        settings = selection.choose(part)["VKD"]
        assert settings == {field: own[field] for field in settings}, task


def test_the_frontier_has_a_point_a_trial():
    beyond = {"keep": "features", "unlabelled": 1.0, "views": 4.0}
    trials = [trial("VKD", left, 80, 0, 1, lr=lr, **beyond) for left, lr in ((30, 0.1), (40, 0.2))]
    records = pd.concat(
        [*trials, trial("GA_Diff", 50, 90, 0), trial("GA_Diff", 70, 70, 1), never_saw(25, 0, 1)]
    )
    points = selection.frontier_points(records)
    assert set(points.itertuples(index=False, name=None)) == {
        ("VKD+features+strangers+views", 30, 80),
        ("VKD+features+strangers+views", 40, 80),
        ("GA_Diff", 60, 80),
        ("never-saw", 25, 50),
    }
