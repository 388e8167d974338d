"""Notebooks as they are committed: executed in order, parameterised, small, and without traces."""

import configparser
import contextlib
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import nbformat.v4 as v4
import papermill
import pytest

import vkdlib.system.notebook as asking
from vkdlib.system import paths

NOTEBOOKS = sorted((paths.root() / "notebooks").glob("*.ipynb"))
WIDGETS = paths.root() / "notebooks" / "90_explore.ipynb"  # they are blank without a kernel: no outputs


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def test_there_are_notebooks():
    names = [p.stem for p in NOTEBOOKS]
    expected = ["00_quickstart", "01_benchmarks", "02_vanilla_models", "03_anatomy_of_vkd", "04_run_unlearn"]
    expected += ["05_run_attack", "06_own_people", "07_anatomy_of_vgid", "08_real_language_model"]
    expected += ["10_table1_main", "11_table2_efficiency", "12_table3_ablation", "13_table4_relearning"]
    expected += ["14_fig2_beta", "15_fig3_alpha", "16_selective_forgetting", "17_continual"]
    expected += ["20_interventions", "21_table3_main", "22_perturbation"]
    expected += ["23_prompts", "24_reverse_attack", "25_forget_ratios"]
    expected += ["30_audit", "31_attacks", "32_held_out_views", "33_both_papers", "34_noise"]
    assert names == [*expected, "35_vkd_beyond", "90_explore", "99_findings"]


def test_kernel_and_format(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert "widgets" not in notebook.metadata and "papermill" not in notebook.metadata


def test_starts_with_a_title_and_one_parameters_cell(notebook):
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1 and tagged[0] is notebook.cells[1]
    for line in filter(None, tagged[0].source.splitlines()):
        assert re.fullmatch(r"\w+: [\w\[\]]+ = .+  # .+", line), line


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p != WIDGETS], ids=lambda p: p.stem)
def test_executed_top_to_bottom_without_errors(path):
    notebook = nbformat.read(path, as_version=4)
    outputs = [o for c in code(notebook) for o in c.outputs]
    assert [c.execution_count for c in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert outputs and all(o.output_type != "error" for o in outputs)
    assert all(o.get("name") != "stderr" for o in outputs)


def test_an_unknown_parameter_stops_a_notebook(notebook):
    """The first thing it does after its imports."""
    lines = code(notebook)[1].source.splitlines()
    imports = [number for number, line in enumerate(lines) if line.startswith(("import ", "from "))]
    assert "from vkdlib.system.notebook import check_parameters" in lines
    assert lines[max(imports) + 1 : max(imports) + 3] == ["", "check_parameters()"]


def test_papermill_stops_at_an_unknown_parameter(tmp_path):
    given = v4.new_code_cell(
        "beta: float = 1.0  # strength\nseed: int = 0", metadata={"tags": ["parameters"]}
    )
    check = "from vkdlib.system.notebook import check_parameters\n\ncheck_parameters()\nprint(beta)"
    source, executed = tmp_path / "n.ipynb", tmp_path / "out.ipynb"
    nbformat.write(v4.new_notebook(cells=[given, v4.new_code_cell(check)]), source)

    def beta(**parameters):
        papermill.execute_notebook(source, executed, parameters, kernel_name="python3", language="python")
        return code(nbformat.read(executed, 4))[-1].outputs[0].text

    assert (beta(), beta(beta=3.0, seed=2)) == ("1.0\n", "3.0\n")
    with pytest.raises(papermill.PapermillExecutionError, match="no 'betta'; .*did you mean 'beta'"):
        beta(betta=3.0)


@pytest.mark.parametrize(
    "cells, stops",
    [
        (["beta: float = 1.0", "# Parameters\nbeta = 3.0"], False),
        (["beta: float = 1.0", "# Parameters\nbetta = 3.0"], True),
        (["beta: float = 1.0", "betta = 3.0"], False),  # nothing was injected
        (
            ["beta: float = 1.0", "# Parameters\nbetta = 3", "# Parameters\nbeta = 3"],
            False,
        ),  # corrected by hand
        (["x = beta", "# Parameters\nbeta = 3.0"], False),  # cells in another order: it is not known
        (["beta: float = (", "beta: float = 1.0", "# Parameters\nbetta = float('nan')"], True),
    ],
)
def test_cells_that_a_person_executes_in_jupyter(cells, stops, monkeypatch):
    shell = SimpleNamespace(user_ns={"In": ["", *cells]})
    monkeypatch.setattr(asking, "get_ipython", lambda: shell)
    with pytest.raises(ValueError, match="'betta'") if stops else contextlib.nullcontext():
        asking.check_parameters()


def test_cells_are_short(notebook):
    # The parameters are a list.
    shown = [c for c in code(notebook) if "parameters" not in c.metadata.get("tags", [])]
    assert max(len(c.source.splitlines()) for c in shown) <= 40


def test_no_paths_of_a_machine(notebook):
    text = nbformat.writes(notebook)
    assert not re.search(r"/(home|root|Users|work|tmp)/", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_small(path):
    assert path.stat().st_size <= 300_000


def test_all_sanitising_rules_load():
    file = paths.root() / "notebooks" / "nbval.cfg"
    rules = configparser.RawConfigParser()
    rules.read(file)
    lines = [line for line in file.read_text().splitlines() if line]
    for at in range(0, len(lines), 3):  # nbval wants section, regex, replace without gaps
        assert re.fullmatch(r"\[\w+\]", lines[at])
        assert lines[at + 1].startswith("regex: ") and lines[at + 2].startswith("replace: ")
        re.compile(lines[at + 1].removeprefix("regex: "))
    assert len(rules.sections()) == len(lines) // 3


def test_sweeps_are_ready_to_run(tmp_path, monkeypatch):
    from vkdlib.sweep.sweep import load_sweep

    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path))
    for file in sorted(Path(paths.root(), "notebooks", "sweeps").glob("*.yaml")):
        assert load_sweep(file).points


@pytest.mark.parametrize(
    "more, expected",
    [  # teacher's features of 31 steps with 2 pictures for each process
        ({"processes": 2}, ("121,704,448", "memory", "0.293", "MMUnlearner's README")),
        ({"method": "vanilla", "revision": "abc"}, ("to evaluate: ", "asked: shown", "revision abc")),
    ],
)
def test_a_dry_run_prints_the_plan_and_stops(tmp_path, monkeypatch, capsys, more, expected):
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path / "runs"))
    wanted = {"dry_run": True, "preset": "paper-llava-1.5-7b", "benchmark": "MLLMMU/MLLMU-Bench"}
    variables = {}
    for cell in code(nbformat.read(paths.root() / "notebooks" / "04_run_unlearn.ipynb", as_version=4)):
        exec(cell.source, variables)
        if "parameters" in cell.metadata.get("tags", []):
            variables |= wanted | more
    printed = capsys.readouterr().out
    for words in ("llava-hf/llava-1.5-7b-hf", "download", "evaluation", *expected):
        assert words in printed, words
    assert "\nrun " not in printed and not (tmp_path / "runs").exists()
