"""Curves over a setting: closed cases of each kind of claim."""

import numpy as np
import pandas as pd
import pytest

from vkdlib import claims, curves, runs
from vkdlib.curves import peak, slope, spread

BETAS = [0.0, 0.1, 0.3, 1.0, 3.0]


def by_seed(means, noise=1.0):
    seeds = np.random.default_rng(0).normal(size=(3, len(means))) * noise
    return pd.DataFrame(np.asarray(means, float) + seeds, columns=BETAS)


def test_slopes():
    _, tau, p = slope(by_seed([50, 60, 70, 80, 90]))
    assert tau > 0.8 and p < 1e-4
    assert slope(by_seed([90, 80, 70, 60, 50]))[1] < -0.8
    assert slope(by_seed([50] * 5, noise=0))[1:] == (0.0, 1.0)


def test_a_peak_is_better_than_both_ends():
    assert peak(by_seed([50, 60, 90, 60, 50]))[1:] == (0.3, pytest.approx(0, abs=1e-3))
    assert peak(by_seed([50, 60, 70, 80, 90]))[1:] == (3.0, 1.0)  # the best is an end
    assert peak(by_seed([50, 60, 90, 90, 89.9]))[2] > 0.05


def test_flat_is_a_matter_of_points():
    assert spread(by_seed([90, 91, 92, 90, 88.5], noise=0))[1] == pytest.approx(2)


def test_claims_about_beta_are_judged_for_each_model(monkeypatch):
    rows = []
    shapes = {("forget", "vqa"): [20, 40, 60, 80, 95], ("retain", "vqa"): [50, 60, 70, 80, 90],
              ("real", "vqa"): [50, 70, 90, 70, 50], ("forget", "qa"): [99] * 5,
              ("retain", "qa"): [99, 99, 90, 99, 99], ("real", "qa"): [99] * 5}  # fmt: skip
    for (group, modality), means in shapes.items():
        for beta, column in by_seed(means, 0.5 * (modality == "vqa")).items():
            for seed, value in column.items():
                rows.append({"set": group, "modality": modality, "beta": beta, "seed": seed, "value": value})
    known = {"model": "m", "benchmark": "mllmu", "forget_ratio": 5, "kind": "classification"}
    record = pd.DataFrame(rows).assign(metric="accuracy", **known)
    monkeypatch.setattr(runs, "read_records", lambda name: record)
    judged = curves.judge_curves("fig2_beta", "beta").set_index("column")
    assert judged.verdict.to_dict() == {
        "Retain VQA": "holds",
        "Forget VQA": "does not hold",  # it rises
        "Real-world VQA": "holds",
        "Forget QA": "holds",
        "Retain QA": "does not hold",
        "Real-world QA": "holds",
    }
    assert judged.loc["Real-world VQA"].statistic == 0.3 and (judged.seeds == 3).all()


def test_every_claim_about_a_curve_can_be_tested():
    for record in ("fig2_beta", "fig3_alpha"):
        for one in claims.statements(record):
            assert one["expected"] in curves.TESTS and one["columns"] and one["source"].startswith("4.3")
