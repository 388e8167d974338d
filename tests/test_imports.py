"""Imports are light and go one way."""

import ast
import subprocess
import sys
from pathlib import Path

import vkdlib

PACKAGE = Path(vkdlib.__file__).parent
# A module may import only from those before it. testbed's makers come first, its trainers last.
ORDER = """
    progress paths parallel testbed.portraits testbed.people testbed.benchmark testbed.authors
    testbed.cache prompts benchmark parquet tofu mllmu clear data images packs layout losses qwen families
    models adapters loading training pruning masking metrics compare evaluate tasks
    methods.common methods.ga methods.ga_diff methods.kl_min methods.npo methods.manu methods.mmunlearner
    methods.vkd methods memory published paper paper.audit recipes presets plan starts unlearn vanilla
    deltas run runs gate experiments grid points child pool cluster slurm done sweep selection claims
    curves tables plots
    testbed.architectures testbed.train testbed.build testbed.__main__
""".split()


def imported(file: Path) -> set[str]:
    """Modules of vkdlib that a file imports, as names in ORDER."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vkdlib"):
            module = node.module.removeprefix("vkdlib").removeprefix(".")
            submodules = {f"{module}.{a.name}".strip(".") for a in node.names} & set(ORDER)
            found |= submodules or ({module} - {""})
    return found


def test_imports_go_one_way():
    files = {
        str(f.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__"): f
        for f in PACKAGE.rglob("*.py")
    }
    modules = set(files) - {"__init__", "testbed"}
    assert modules == set(ORDER)
    for name in modules:
        for other in imported(files[name]):
            assert ORDER.index(other) < ORDER.index(name), f"{name} imports {other}"


def test_importing_vkdlib_is_light():
    program = (
        "import sys, vkdlib\n"
        "heavy = {'torch', 'transformers', 'matplotlib', 'ipywidgets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_runs_are_read_and_kept_without_torch(tmp_path):
    program = f"""
import sys
from pathlib import Path
import pandas as pd
import vkdlib.run
from vkdlib import runs

vkdlib.run.environment = dict  # it asks torch for its threads
row = {{"set": "forget", "kind": "classification", "modality": "vqa", "person": "1", "question": "q",
       "answer": "A", "gold": "A", "score": 1.0, "bleu": None, "options": None}}
config = dict(model="m", benchmark="b", forget_ratio=5, method="VKD", seed=0)
with runs.open_run("x", config, Path({str(tmp_path)!r})) as run:
    run.finish(pd.DataFrame([row]), history=[{{"loss": 1.0}}])
assert len(run.records()) and len(run.predictions) == len(run.history) == 1
heavy = {{"torch", "transformers", "matplotlib", "ipywidgets"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_evaluating_needs_no_widgets_and_no_figures():
    program = "import sys, vkdlib.experiments\nassert not {'matplotlib', 'ipywidgets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
