"""Notebooks that show a sweep's record, on made-up answers: they make tables, claims and figures anew."""

import itertools
import json
import shutil
import zlib
from dataclasses import replace

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest

from vkdlib.evaluation.leaks import COUNTS
from vkdlib.experiments import presets
from vkdlib.experiments.pipeline import normalise
from vkdlib.reports.answers import read_topic
from vkdlib.runs import run_folder
from vkdlib.runs.records import write_predictions, write_records
from vkdlib.runs.run_folder import Run
from vkdlib.sweep import execute
from vkdlib.sweep.sweep import load_sweep
from vkdlib.system import paths

UNSEEN = [("test", "vqa", "classification"), ("retain_unseen", "vqa", "classification")]
MLLMU = [(who, how, "classification") for who in ("forget", "retain", "real") for how in ("vqa", "qa")]
CLEAR = [(who, "vqa", "classification") for who in ("forget", "retain", "real", "world")]
CLEAR += [(who, "qa", "generation") for who in ("forget", "retain")]
PEOPLE, QUESTIONS, DRAWS = 4, 2, 2  # few: tests by person are exact and fast then
ROOT = paths.root()  # the kit's, whatever VKDLIB_ROOT says later
FIGURES = {
    "10_table1_main": ["table1_forget_retain.pdf", "table1_forest.pdf", "table1_main.tex"],
    "12_table3_ablation": ["table3_forget_retain.pdf", "table3_forest.pdf", "table3_ablation.tex"],
    "14_fig2_beta": ["fig2_beta.pdf"],
    "15_fig3_alpha": ["fig3_alpha.pdf"],
    "16_selective_forgetting": ["selective_forgetting_thresholds.pdf"],
}
FOUND = {"12_table3_ablation": ["table3_ablation", "table3_beyond"]}
MODELS = {"10_table1_main": ["testbed/llava"]}  # those that are enough
REPORTS = [(name, FOUND.get(name, [name[3:]])) for name in FIGURES]  # notebook, the records it finds


def answers(configuration):
    """Predictions of a run, drawn at random by what it is."""
    seed = zlib.crc32(json.dumps(configuration.identity, sort_keys=True).encode())
    draw = np.random.default_rng(seed)
    rows = []
    places = (CLEAR if configuration.schema == "clear" else MLLMU) + UNSEEN
    places += [("test", "vqa", f"leak@{k}") for k in COUNTS if k <= configuration.samples]
    for group, modality, kind in places:
        own = f"draw {configuration.draw}, " if group in ("forget", "test") else ""
        for person in range(PEOPLE):
            for question in range(QUESTIONS):
                chosen = kind == "classification"
                row = {"set": group, "kind": kind, "modality": modality, "person": f"{own}{person}"}
                row |= {"question": f"{group}{person}/{kind}/{modality}/{question}", "gold": "A"}
                written = kind == "generation"
                score = round(draw.random(), 3) if written else float(draw.random() < 0.5)
                row |= {"answer": "A" if score == 1 else "B", "score": score}
                options = json.dumps(dict(zip("ABCD", np.log(draw.dirichlet([1] * 4)))))
                row |= {"bleu": score / 2 if written else None, "options": options if chosen else None}
                rows.append(row)
    return pd.DataFrame(rows)


def made_up(point):
    """The run of a point, as `experiments.run` completes it."""
    point = {name: value for name, value in point.items() if name != "experiment"}
    benchmark = point.get("benchmark", "testbed/mllmu")
    preset = point.pop("preset", None) or presets.fitting_preset(point.get("model"), benchmark)
    configuration, _ = presets.configure(preset, point.pop("method"), **point)
    return normalise(replace(configuration, schema=benchmark.split("/")[-1]))


def make_record(sweep, models=None):
    """The record of a sweep, of made-up runs of its first draws; of some models, or all."""
    plan = load_sweep(ROOT / "notebooks" / "sweeps" / f"{sweep}.yaml")
    records, made = [], {}
    points = [p.parameters for p in plan.points if p.parameters["draw"] < DRAWS]
    for point in (p for p in points if not models or p["model"] in models):
        run = Run(point["experiment"], made_up(point), paths.runs())
        shares = {"pruned": 0.1, "mask_density": 0.5} if run.configuration.method == "VKD" else None
        run.finish(answers(run.configuration), report=shares)
        records.append(run.records(**execute.column_values(run, point, plan.columns)))
        made[run.hash] = run
    write_records(plan.record, records)
    write_predictions(plan.record, made.values())


@pytest.fixture(params=REPORTS, ids=lambda report: "+".join(report[1]))
def notebook(request, tmp_path, monkeypatch):
    """A notebook's name, its sweeps, and its variables after it was run, with write=True, on made-up runs."""
    for variable, folder in (("VKDLIB_RUNS", "runs"), ("VKDLIB_ROOT", "")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setattr(run_folder, "environment", dict)  # looked up for hundreds of runs
    name, sweeps = request.param
    source = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    for sweep in sweeps:
        make_record(sweep, MODELS.get(name))
    shown_beside(name)
    shutil.rmtree(paths.runs())  # a record says it all
    matplotlib.use("Agg")
    variables = {}
    for cell in (c for c in source.cells if c.cell_type == "code"):
        exec(cell.source, variables)
        if "parameters" in cell.metadata.get("tags", []):
            variables["write"] = True
    return name, sweeps, variables


def shown_beside(name):
    """Write what a notebook shows of other records."""
    if name == "16_selective_forgetting":
        rows = [{"set": group, "modality": "vqa", "kind": "classification"} for group in ("forget", "test")]
        labels = {
            "model": "testbed/llava",
            "schema": "mllmu",
            "beta": 0.0,
            "metric": "accuracy",
            "value": 9.0,
        }
        pd.DataFrame(rows).assign(**labels).to_csv(paths.figures() / "data" / "fig2_beta_table.csv")
    if name == "10_table1_main":
        make_record("beyond_accuracy")
        fine = {"VKD": {"lr": [0.1, 0.2], "epochs": 5}, "MANU": {"share": [0.1, 0.2]}, "never-saw": {}}
        write_records("selection_fine", trials(fine))
        write_records("selection_own", trials({"VKD": {"lr": 0.1, "epochs": 5, "beta": [0.3, 1.0]}}))


def trials(settings):
    """Records of made-up trials: method -> what its trials have, in all combinations."""
    records = []
    for method, values in settings.items():
        for draw in range(DRAWS):
            run = Run("selection", made_up({"method": method, "draw": draw, "select": True}), paths.runs())
            run.finish(answers(run.configuration))
            for combination in itertools.product(*map(np.atleast_1d, values.values())):
                records.append(run.records(**dict(zip(values, combination))))
    return records


def test_a_report_makes_its_claims_and_figures_from_the_runs(notebook):
    name, sweeps, variables = notebook
    record = name[3:]
    judged = pd.read_csv(paths.figures() / "data" / "claims.csv")
    assert set(judged.claim) == {one["claim"] for one in read_topic(record).claims}
    assert set(judged.record) == set(sweeps) and judged.verdict.notna().all()
    for file in FIGURES[name]:
        assert (paths.figures() / file).stat().st_size > 1000
    report = variables["report"]  # every row of the table is one that it shows, and the other way round
    assert set(report.records.method) == set(report.rows)
    if record == "selective_forgetting":
        shown = {"mask=False", "prune=False", "prune=False, mask=False", "order=parallel"}
        shown |= {"order=mask, prune", "target=layers", "target=both", "fisher=batch", "fisher=sample"}
        shown |= {"beta=30.0, target=layers", "mask_scope=update", "qa_image=blank", "VKD"}
        shown |= {"d_I=1.1, d_F=0.3"}
        drawn = variables["pairs"].groupby(["d_I", "d_F"]).run.nunique()
        assert drawn.to_list() == [1] * 16
        shown |= {"prune_by=random", "mask_by=random", "mask_by=other people"}
        assert shown <= set(report.rows)
