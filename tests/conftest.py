"""Shared fixtures: a small random LLaVA, and the made-up benchmark."""

import contextlib
import copy
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from unittest import mock

os.environ["VKDLIB_PROGRESS"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"

import nbformat.v4 as v4
import pytest
import torch
import yaml
from nbformat import write

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.schema import Benchmark
from vkdlib.losses import answer_nll
from vkdlib.models import memo
from vkdlib.models.families import FAMILIES
from vkdlib.models.loaded import Loaded
from vkdlib.packs.batch import collate
from vkdlib.sweep import results
from vkdlib.tasks import Tasks, make_tasks
from vkdlib.testbed.architectures import random_model
from vkdlib.testbed.build import make_processor


@contextlib.contextmanager
def full_disk(size: int = 1000):
    """Within: no file can grow beyond `size` bytes; the system refuses to write, as on a full disk.

    Python cuts byte code off there and uses it later: neither this process nor its children write any.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    none_here = mock.patch.object(sys, "dont_write_bytecode", True)
    none_in_children = mock.patch.dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    with none_here, none_in_children:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def heed_ctrl_c() -> None:
    """Background jobs of a shell ignore SIGINT, and so do their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


TINY = """
import os, signal, time
from pathlib import Path
import pandas as pd
import psutil
import vkdlib.runs.run_folder
from vkdlib.runs import store
from vkdlib.runs.configuration import Configuration
from vkdlib.system import paths

# That of a run without a model: torch takes longer to load than all the rest.
vkdlib.runs.run_folder.environment = lambda: {"threads": os.environ.get("OMP_NUM_THREADS")}

with open(paths.runs() / f"ran_{seed}", "a") as ran:
    ran.write("once\\n")
once = paths.runs() / f"{fault}_{seed}"  # what is wrong is wrong the first time only
if fault and not once.exists():
    once.write_text(str(os.getpid()))
    child = psutil.Process().parent()
    if fault == "papermill":
        child.kill()
    if fault == "worker":
        child.parent().kill()
    if fault == "kernel":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "error":
        raise ValueError("out of luck")
    time.sleep(5 if fault == "slow" else 600)
with store.open_run(experiment, Configuration(model="m", benchmark="b", seed=seed)) as run:
    if not run.done:
        row = {"set": "forget", "kind": "cloze", "modality": "vqa", "person": "1", "question": "q",
               "answer": "A", "gold": "A", "score": 1.0, "bleu": None, "options": None}
        run.finish(pd.DataFrame([row]))
print("run", run.hash)
"""


def tiny_sweep(root, seeds=(), faults=()):
    """A sweep "tiny" in the folder `root`: points with a run without a model.

    Args:
        faults: pairs (seed, what goes wrong the first time): error, kernel (which dies), papermill (its
            process), worker (the parent of that one), slow, hang.
    Returns:
        its file; the run folders belong into root / "runs".
    """
    file = root / "notebooks" / "sweeps" / "tiny.yaml"
    file.parent.mkdir(parents=True)
    given = v4.new_code_cell('experiment: str = "x"\nseed: int = 0\nfault: str = ""')
    given.metadata.tags = ["parameters"]
    notebook = v4.new_notebook(cells=[given, v4.new_code_cell(TINY)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    write(notebook, file.parent.parent / "tiny.ipynb")
    grid = [{"seed": list(seeds)}] if seeds else []
    grid += [{"seed, fault": [list(pair) for pair in faults]}] if faults else []
    file.write_text(
        yaml.safe_dump({"notebook": "tiny.ipynb", "experiment": "tiny", "grid": grid, "record": "tiny"})
    )
    return file


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Run folders and figures of a test's own; no run is asked whether its model is today's."""
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VKDLIB_ROOT", str(tmp_path))
    monkeypatch.setattr(results, "is_current", lambda *_: True)
    return tmp_path


SWEEP = "import sys; from vkdlib.sweep import execute, results; results.is_current = lambda *_: True; "
SWEEP += "sys.exit(execute.main(sys.argv[1:]))"


def start_sweep(file, *options) -> subprocess.Popen:
    """A sweep of `tiny_sweep` in a process of its own."""
    root = file.parents[2]
    environment = os.environ | {"VKDLIB_RUNS": str(root / "runs"), "VKDLIB_ROOT": str(root)}
    command = [sys.executable, "-c", SWEEP, str(file), *options]
    streams = {"stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, preexec_fn=heed_ctrl_c, **streams)


# One process that has the library loaded, and has done nothing else, is copied for each that `begin` starts.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["vkdlib.experiments", "vkdlib.testbed.build"])


def begin(work, *task, **environment: str) -> multiprocessing.process.BaseProcess:
    """Start work(*task), a function of a module, in a process of its own with such variables."""
    process = PROCESSES.Process(target=with_environment, args=(environment, work, task))
    process.start()
    return process


def with_environment(environment: dict[str, str], work, task: tuple) -> None:
    """What `begin` starts."""
    os.environ |= environment
    work(*task)


def both(work, *task) -> None:
    """work(*task) in two processes that find each other as those of a launcher do."""
    joined = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    started = [begin(work, *task, **joined, RANK=number, LOCAL_RANK=number) for number in "01"]
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]


def free_port() -> str:
    """A port that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def random_llava() -> Loaded:
    """A LLaVA with random weights, the same every time."""
    processor = make_processor()
    torch.manual_seed(0)
    model = random_model("llava").eval()
    return Loaded(model, processor, FAMILIES["llava"], "untrained")


def few_tasks(loaded: Loaded) -> Tasks:
    """A few people with a few questions each: 3 to forget, 5 to retain."""
    split = load_benchmark("testbed/mllmu").split(5)
    whole = make_tasks(loaded, replace(split, forget=split.forget[:3], retain=split.retain[:5]))
    return Tasks(*(tuple(p.select(range(4)) for p in packs) for packs in vars(whole).values()))


@pytest.fixture(autouse=True)
def nothing_remembered():
    """No test finds what another computed."""
    memo.RESULTS.clear()


@pytest.fixture(scope="session")
def untrained():
    """A LLaVA with random weights. Tests that change it take `loaded` instead."""
    return random_llava()


@pytest.fixture(scope="session")
def processor(untrained):
    return untrained.processor


@pytest.fixture
def loaded(untrained):
    """A copy of the random LLaVA to change at will."""
    return Loaded(copy.deepcopy(untrained.model), untrained.processor, untrained.family, untrained.name)


@pytest.fixture
def few_to_keep(monkeypatch):
    """Benchmarks with everybody to forget and few to retain, some of them for selection; no real people."""
    split = Benchmark.split

    def smaller(self, ratio, draw=0):
        whole = split(self, ratio, draw)
        others = [p for p in whole.retain if p.id in whole.selection][:20]
        return replace(whole, retain=(*others, *whole.retain[:3]), real=())

    monkeypatch.setattr(Benchmark, "split", smaller)


@pytest.fixture(scope="session")
def benchmark():
    return load_benchmark("testbed/mllmu")


@pytest.fixture(scope="session")
def tasks(untrained):
    return few_tasks(untrained)


def loss_and_gradients(model, packs):
    """Loss of a batch of packs, and the gradient of every parameter: (float, name -> tensor)."""
    model.zero_grad()
    batch = collate(packs)
    loss = answer_nll(model(**batch["inputs"]).logits, batch["targets"])
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
