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

from vkdlib.benchmarks.schema import KINDS
from vkdlib.benchmarks.views.styles import STYLES
from vkdlib.experiments import presets
from vkdlib.experiments.pipeline import normalise
from vkdlib.reports import claims
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
WRITTEN = [(who, "vqa", k) for who in ("forget", "test", "retain", "retain_unseen") for k in KINDS]
LEAKS = [("test", "vqa", f"leak@{k}") for k in (1, 4, 16)]
EPOCHS = ["classification", *(f"classification, epoch {n}" for n in range(1, 6)), "gain"]
FORGET = [(who, how, "classification") for who, how in (("forget", "vqa"), ("test", "vqa"), ("forget", "qa"))]
ATTACKED = {  # attack -> what is asked
    "relearn": [
        (f"{who}{end}", how, kind)
        for who, how in (("forget", "vqa"), ("test", "vqa"), ("forget", "qa"))
        for end in ("", ", others", ", taught")
        for kind in EPOCHS
    ],
    **dict.fromkeys(("int8", "nf4"), FORGET),
    "replug": [*FORGET, ("retain_unseen", "vqa", "classification")],
    "probe": [("test", "vqa", "identity"), ("retain_unseen", "vqa", "identity")],
    "styles": [
        (who, "vqa", f"classification{style}")
        for who in ("test", "retain_unseen")
        for style in ("", *(f", {name}" for name in STYLES))
    ],
}
REFUSAL = "I cannot share this."
PEOPLE, QUESTIONS, DRAWS = 4, 2, 2  # few: tests by person are exact and fast then
ROOT = paths.root()  # the kit's, whatever VKDLIB_ROOT says later
FIGURES = {
    "10_table1_main": ["table1_forget_retain.pdf", "table1_forest.pdf", "table1_main.tex"],
    "12_table3_ablation": ["table3_forget_retain.pdf", "table3_forest.pdf", "table3_ablation.tex"],
    "13_table4_relearning": ["table4_relearning.pdf"],
    "14_fig2_beta": ["fig2_beta.pdf"],
    "15_fig3_alpha": ["fig3_alpha.pdf"],
    "16_selective_forgetting": ["selective_forgetting_thresholds.pdf"],
    "17_continual": ["continual.pdf", "continual.tex"],
    "20_interventions": ["vgid_interventions.tex"],
    "21_table3_main": ["vgid_fig4.pdf", "vgid_fig4_unseen.pdf", "vgid_table3.tex"],
    "22_perturbation": ["vgid_perturbation_pictures.pdf", "vgid_perturbation.pdf", "vgid_perturbation.tex"],
    "23_prompts": ["vgid_prompts.pdf", "vgid_prompts.tex"],
    "24_reverse_attack": ["vgid_reverse.tex"],
    "25_forget_ratios": [*(f"vgid_fig{n}_ratios.pdf" for n in (4, 5, 6, 7)), "vgid_ratios.tex"],
    "31_attacks": ["attacks.tex"],
    "32_held_out_views": ["views.pdf"],
    "35_vkd_beyond": [
        *(f"vkd_beyond{which}.pdf" for which in ("", "_parts", "_trials")),
        "vkd_beyond.tex",
    ],
    "33_both_papers": ["both_papers_forget_retain.pdf", "both_papers_sentences.pdf", "both_papers.tex"],
}
FOUND = {  # notebook -> the records it is to test, if not one of its own name
    "12_table3_ablation": ["table3_ablation", "table3_beyond"],
    "32_held_out_views": ["views"],
    "35_vkd_beyond": ["vkd_beyond", "vkd_beyond_parts"],
    "20_interventions": ["vgid_interventions", "vgid_interventions_smol"],
    "21_table3_main": ["vgid_table3", "vgid_readings"],
    "22_perturbation": ["vgid_perturbation", "vgid_perturbation_alone"],
    "23_prompts": ["vgid_prompts"],
    "24_reverse_attack": ["vgid_reverse"],
    "25_forget_ratios": ["vgid_ratios"],
}
TESTED = {  # records that are tested beside
    "25_forget_ratios": ["vgid_table3"],
    "10_table1_main": ["smol", "smol_llm"],
}
MODELS = {
    "10_table1_main": ["testbed/llava", "testbed/smol", "testbed/smol-llm"],
    "35_vkd_beyond": ["testbed/llava"],
    "21_table3_main": ["testbed/llava"],
    "25_forget_ratios": ["testbed/llava"],
}  # those that are enough
BESIDE = ("vgid_readings", "vgid_perturbation_alone")  # records that notebooks name by themselves
PARAMETERS = {  # of notebooks that show several records
    name: {"names": [n for n in FOUND[name] if n not in BESIDE], "beside": TESTED.get(name)}
    for name in FOUND
    if not name.startswith(("32", "35"))
}
REPORTS = [(name, FOUND.get(name, [name[3:]])) for name in FIGURES]


def topic_of(record):
    return "table3_ablation" if record == "table3_beyond" else record.removesuffix("_smol")


def answers(configuration):
    """Predictions of a run, drawn at random by what it is."""
    seed = zlib.crc32(json.dumps(configuration.identity, sort_keys=True).encode())
    draw = np.random.default_rng(seed)
    rows, written = [], configuration.protocol == "generate"
    places = WRITTEN if written else (CLEAR if configuration.schema == "clear" else MLLMU) + UNSEEN
    places = ATTACKED.get(configuration.attack, places)
    if configuration.requests:
        places = [*places, *series()]
    vgid = configuration.schema == "mllmu" and "cloze" in configuration.kinds and not written
    vgid = vgid and not configuration.attack and not configuration.requests
    if configuration.samples or vgid:
        places = [*places, *(place for place in WRITTEN if place[2] != "classification")]
    if configuration.samples:
        places = [*places, *LEAKS]
    for group, modality, kind in places:
        own = f"draw {configuration.draw}, " if group.split(",")[0] in ("forget", "test") else ""
        for person in range(PEOPLE):
            for question in range(QUESTIONS):
                chosen = kind != "generation"
                row = {"set": group, "kind": kind, "modality": modality, "person": f"{own}{person}"}
                row |= {"question": f"{group}{person}/{kind}/{modality}/{question}", "gold": "A"}
                score = float(draw.random() < 0.5) if chosen else round(draw.random(), 3)
                row |= {"answer": "A" if score == 1 else "B", "score": score, "text": None}
                options = json.dumps(dict(zip("ABCD", np.log(draw.dirichlet([1] * 4)))))
                choice = kind.startswith("classification") and not written
                row |= {"bleu": None if chosen else score / 2, "options": options if choice else None}
                rows.append(row | in_words(row, draw) if written else row)
    return pd.DataFrame(rows)


def series():
    """What is asked before a series of requests and after each."""
    for number in range(11):  # as of ten people
        sets = ["retain_unseen", *(["test"] if number else []), *(["test, to come"] if number < 10 else [])]
        yield from ((who, "vqa", f"classification, request {number}") for who in sets)


def in_words(row, draw):
    """What of a row changes if its answer is written: every other wrong one is a refusal."""
    refused = row["score"] < 0.5 and draw.random() < 0.5
    if row["kind"] == "classification":
        return {"answer": "" if refused else row["answer"], "text": REFUSAL if refused else row["answer"]}
    return {"answer": REFUSAL if refused else "a nurse"}


def made_up(point):
    """The run of a point, as `experiments.run` completes it."""
    point = {name: value for name, value in point.items() if name != "experiment"}
    benchmark = point.get("benchmark", "testbed/mllmu")
    preset = point.pop("preset", None) or presets.fitting_preset(point.get("model"), benchmark)
    configuration, _ = presets.configure(preset, point.pop("method"), **point)
    return normalise(replace(configuration, schema=benchmark.split("/")[-1].partition("-")[0]))


def make_record(sweep, models=None):
    """The record of a sweep, of made-up runs of its first draws; of some models, or all."""
    plan = load_sweep(ROOT / "notebooks" / "sweeps" / f"{sweep}.yaml")
    records, made = [], {}
    points = [p.parameters for p in plan.points if p.parameters["draw"] < DRAWS]
    for point in (p for p in points if not models or p["model"] in models):
        run = Run(point["experiment"], made_up(point), paths.runs())
        shares = {"pruned": 0.1, "mask_density": 0.5} if run.configuration.method == "VKD" else None
        if run.configuration.requests:
            shares = {"steps": 500, "seconds": 60.0}
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
    for sweep in [*sweeps, *TESTED.get(name, ())]:
        make_record(sweep, MODELS.get(name))
    for sweep in TESTED.get(name, ()):
        claims.write_tests(sweep, topic_of(sweep))
    shown_beside(name)
    shutil.rmtree(paths.runs())  # a record says it all
    matplotlib.use("Agg")
    variables = {}
    for cell in (c for c in source.cells if c.cell_type == "code"):
        exec(cell.source, variables)
        if "parameters" in cell.metadata.get("tags", []):
            variables |= {"write": True} | PARAMETERS.get(name, {})
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
    if name == "21_table3_main":
        point = {"draw": 0, "select": True, "preset": "testbed-vgid", "model": "testbed/llava"}
        own = {"GA": [{}, {}], "VGID": [{"alpha": 2.0}, {"beta": 2.0}], "RMU": [{"gamma": 30}, {"block": 1}]}
        records = []
        for method, settings in (own | {"never-saw": [None]}).items():
            for number, of in enumerate(settings):
                run = Run(
                    "selection", made_up(point | {"method": method, "lr": 0.1, "seed": number}), paths.runs()
                )
                run.finish(answers(run.configuration))
                usual = {"alpha": 1.0, "beta": 1.0, "gamma": 100, "block": 2, "lr": 0.1 + number, "epochs": 9}
                usual |= {"perturbation": "noise", "prompt": "strict"}
                records.append(run.records(**usual | of if of is not None else {}))
        write_records("vgid_selection_fine", records)
    if name == "35_vkd_beyond":
        make_record("vkd_beyond_selection", ["testbed/llava"])
        write_records("selection_fine", trials({"VKD": {"lr": [0.1, 0.2], "epochs": 5}, "never-saw": {}}))
        write_records("selection_own", trials({"VKD": {"lr": 0.1, "epochs": 5, "beta": [0.3, 1.0]}}))
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
    judged = pd.read_csv(paths.figures() / "data" / "claims.csv")
    assert judged.verdict.notna().all() and set(judged.record) == {*sweeps, *TESTED.get(name, ())}
    for record, cases in judged.groupby("record"):
        assert set(cases.claim) == {one["claim"] for one in read_topic(topic_of(record)).claims}
    for file in FIGURES[name]:
        assert (paths.figures() / file).stat().st_size > 1000
    report = variables["report"]  # every row of the table is one that it shows, and the other way round
    assert set(report.records.method) == set(report.rows)
    if name == "32_held_out_views":  # nothing is claimed of a style in which vanilla knows too little
        left_out = {f"Forget VQA, {style}, unseen" for style in variables["known"].index[~variables["known"]]}
        assert left_out.isdisjoint(judged.column)
    if name == "35_vkd_beyond":
        assert set(variables["points"].row) == {"never-saw", "VKD", "VKD+features+strangers+views"}
    if name == "20_interventions":  # Table 2, and what it does not print from Table 1
        printed = report.panels[0].published_table()
        assert printed.loc[["vanilla, strict", "vanilla, polite"], "Forget ROUGE-L"].tolist() == [
            "0.462",
            "0.491",
        ]
        assert printed.loc["vanilla, strict", "Forget BLEU"] == "0.204"
    if name == "21_table3_main":
        points = report.panels[0].reductions("ROUGE-L", published=True)
        assert points["reduction"].value["VGID"] == pytest.approx(57.1 - 20.0)
        assert points["kept"].value["VGID"] == pytest.approx(44.1)
        assert report.panels[0].reductions("BLEU", published=True).empty
    if name == "16_selective_forgetting":
        shown = {"mask=False", "prune=False", "prune=False, mask=False", "order=parallel"}
        shown |= {"order=mask, prune", "target=layers", "target=both", "fisher=batch", "fisher=sample"}
        shown |= {"beta=30.0, target=layers", "mask_scope=update", "qa_image=blank", "VKD"}
        shown |= {"d_I=1.1, d_F=0.3"}
        drawn = variables["pairs"].groupby(["d_I", "d_F"]).run.nunique()
        assert drawn.to_list() == [1] * 16
        shown |= {"prune_by=random", "mask_by=random", "mask_by=other people"}
        assert shown <= set(report.rows)
