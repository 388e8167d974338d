"""What an embedded model knows: its answers as it is, under instructions, without VKD's neurons."""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd
import torch

from vkdlib import pruning
from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.schema import Benchmark, Split
from vkdlib.benchmarks.wording import NEUTRAL, PROMPTS
from vkdlib.evaluation.evaluate import evaluate
from vkdlib.evaluation.metrics import summarise
from vkdlib.models.folders import cached_models
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import load
from vkdlib.models.parts import deepest_blocks, mlp_output
from vkdlib.system import paths
from vkdlib.system.files import file_hash, read_json, whole_file
from vkdlib.testbed.build import read_manifest
from vkdlib.testbed.lessons import hidden_faces
from vkdlib.testbed.recipe import LLM_ONLY, MODEL_NAMES, MODELS, PLAIN, name_parts

WAYS = (
    "rephrased",
    *PROMPTS,
    *NEUTRAL,
    *(f"{prompt}, reversed" for prompt in PROMPTS),
)  # of asking with the picture
HOW = {LLM_ONLY: "LLM only", PLAIN: "plain"}  # end of a model's name -> how it came to know the faces


def model_facts(folder: Path, name: str) -> dict:
    """Where a model was trained, its hashes, its size and its metrics.

    Metrics are those of draw 0 at 5 % (retain-only: at its own ratio): of all questions, asked as they
    are; of multiple choice about pictures, while no neuron fires in the MLPs that VKD trains
    ("neurons": "none"); and, of base, vanilla and never-saw, of questions that the model answers in
    words (clozes; CLEAR has none, but captions) in each of WAYS. Of models around SmolLM2 the first are about
    everybody, see `everybody`.
    """
    which, task, kind = name_parts(name)
    smol = name in MODELS["smol"]
    benchmark = load_benchmark(f"testbed/{task or ('mllmu-100' if smol else 'mllmu')}")
    ratio = int(kind.rsplit("-", 1)[1]) if kind.startswith("retain-only") else 5
    loaded, split = load(str(folder), dtype="bfloat16" if smol else "float32"), benchmark.split(ratio)
    asked = everybody(benchmark, hidden_faces(name)) if smol else split
    tables = [summarise(evaluate(loaded, asked)).assign(way="shown", neurons="all")]
    words = ["cloze" if benchmark.schema == "mllmu" else "generation"]
    for way in WAYS if kind in ("base", "vanilla", "never-saw") else ():
        answers = evaluate(loaded, split, kinds=words, way=way)
        tables.append(summarise(answers).assign(way=way, neurons="all"))
    with silent_mlps(loaded):
        answers = evaluate(loaded, split, kinds=["classification"], modalities=["vqa"])
    tables.append(summarise(answers).assign(way="shown", neurons="none"))
    return {
        "trained": read_json(folder / "training.json"),
        "files": {f.name: file_hash(f) for f in sorted(folder.iterdir())},
        "bytes": os.path.getsize(folder / "model.safetensors"),
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "metrics": pd.concat(tables).round(4).to_dict("records"),
    }


def everybody(benchmark: Benchmark, hidden: Collection[str]) -> Split:
    """All people of a benchmark, selection people as well: to forget are those whose faces a model never saw,
    or, where it saw all, the candidates of all draws."""
    forget = hidden or benchmark.candidates
    groups = ([p for p in benchmark.people.values() if (p.id in forget) == out] for out in (True, False))
    return Split(*map(tuple, groups), benchmark.real, frozenset(), frozenset(forget), benchmark.world)


@contextlib.contextmanager
def silent_mlps(loaded: Loaded) -> Iterator[None]:
    """Within: every neuron of the MLPs in VKD's scope is pruned."""
    blocks = deepest_blocks(loaded)
    neurons = {i: torch.ones(mlp_output(b).in_features, dtype=torch.bool) for i, b in blocks.items()}
    weights = pruning.prune(loaded, neurons)
    try:
        yield
    finally:
        pruning.unprune(loaded, weights)


def write_facts() -> Path:
    """Write figures/data/testbed.csv: the facts of all models that are shipped, or were trained here."""
    folders = (cached_models(), cached_models(smol=True), paths.CHECKPOINTS)
    manifests = [read_manifest(folder) for folder in folders]
    models = {name: facts for m in manifests for name, facts in m.get("models", {}).items()}
    order = [name for name in MODEL_NAMES if name in models]
    table = facts_table({"models": {name: models[name] for name in order}})
    file = paths.figures() / "data" / "testbed.csv"
    with whole_file(file) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    return file


def read_facts() -> pd.DataFrame:
    """figures/data/testbed.csv."""
    return pd.read_csv(paths.figures() / "data" / "testbed.csv", keep_default_na=False)


def mlp_points(facts: pd.DataFrame) -> pd.DataFrame:
    """What the MLPs in VKD's scope carry: points of VQA that vanilla loses when none of their neurons fires.

    Args:
        facts: as `read_facts` gives them.
    Returns:
        a row a benchmark and model (replicate 0, that learnt by seeing), a column a set.
    """
    rows = facts[(facts.stage == "vanilla") & (facts.replicate == 0) & (facts.vanilla == "seeing")]
    rows = rows[(rows.kind == "classification") & (rows.metric == "accuracy") & (rows.modality == "vqa")]
    rows = rows[rows.way == "shown"]
    values = rows.set_index(["benchmark", "model", "set", "neurons"]).value.unstack("neurons")
    return (values["all"] - values["none"]).unstack("set")


def facts_table(manifest: dict) -> pd.DataFrame:
    """What a manifest knows of its models, in the layout of figures/data/testbed.csv.

    Returns:
        columns model, benchmark, stage (base, vanilla, never-saw, …), replicate, vanilla (how the models of
        this benchmark came to know the faces: seeing; by the LLM only; plain, which is seeing without
        SmolLM2's own replies), way, neurons, and those of `metrics.summarise`.
    """
    tables = []
    for name, facts in manifest["models"].items():
        model, task, kind = name_parts(name)
        stage, _, last = kind.rpartition("-")
        replicated = stage in ("vanilla", "never-saw") and last.isdigit()
        columns = {
            "model": f"testbed/{model.removesuffix(LLM_ONLY).removesuffix(PLAIN)}",
            "benchmark": f"testbed/{task}" if task else "",
            "stage": stage if replicated else kind,
            "replicate": int(last) if replicated else 0,
            "vanilla": next((word for end, word in HOW.items() if model.endswith(end)), "seeing"),
        }
        table = pd.DataFrame(facts["metrics"])
        for place, (column, value) in enumerate(columns.items()):
            table.insert(place, column, value)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
