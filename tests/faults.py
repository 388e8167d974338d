"""Faults: what breaks a run or a sweep, and whether the same command then ends as if nothing had been.

    python tests/faults.py     # all of them, ten kills each -> figures/data/faults.csv; also `make faults`

Every fault hits one small real run. Afterwards the same is asked for again, in the process of the tests;
where the message of the fault says "delete", that is done first. The result must be that of the undisturbed
run in every file, bit for bit.
"""

import contextlib
import hashlib
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import nbformat
import nbformat.v4 as v4
import pandas as pd
import psutil
import pyarrow.parquet as pq
import torch
import yaml
from conftest import full_disk, heed_ctrl_c

from vkdlib import experiments, training, unlearning
from vkdlib.benchmarks.made_up.cache import benchmark_folder
from vkdlib.runs import store
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.run_folder import Run
from vkdlib.sweep import execute
from vkdlib.system import paths
from vkdlib.system.files import make_folder, read_json, whole_file

POINT = {
    "forget_ratio": 15,
    "training": {"epochs": 6, "lr": 1e-3, "batch_size": 1, "checkpoint_every": 2},
    "settings": {"mask": False, "layers": 1},
    "kinds": ["classification"],
}
STEPS = 12
PROCESSES = ("sweep", "worker", "point")  # each the parent of the next: the worker is papermill's process
CELL = f"""
import os, signal
from pathlib import Path
from vkdlib import experiments, unlearning

def step(*task):
    calls.append(task)
    if len(calls) == int(at) and not Path(died).exists():
        Path(died).write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return combine(*task)

if os.environ.get("VKDLIB_FAULT"):
    combine, calls, (at, died) = unlearning.combine, [], os.environ["VKDLIB_FAULT"].split()
    unlearning.combine = step
run = experiments.run(experiment, experiments.Configuration(benchmark=benchmark, seed=seed, **{POINT}))
print("run", run.hash)
"""


def few_people(folder: Path) -> Path:
    """Part of the made-up benchmark: two people to forget, eight to retain, four real ones."""
    source, ids = benchmark_folder("mllmu"), {}
    for config, number in {"forget_15": 2, "retain_85": 8, "Retain_Set": 4}.items():
        ids[config] = pq.read_table(source / config).column("ID").to_pylist()[:number]
    people = ids["forget_15"] + ids["retain_85"]
    for config in (*ids, "Full_Set", "Test_Set", "ft_Data"):
        table = pq.read_table(source / config)
        kept = [i in ids.get(config, people) for i in table.column("ID").to_pylist()]
        (folder / config).mkdir(parents=True)
        pq.write_table(table.filter(kept), folder / config / "train.parquet")
    return folder


class Place:
    """A sweep of one point in a folder of its own, with the undisturbed result beside it."""

    def __init__(self, root: Path):
        self.root, self.home, self.kept = root, root / "runs", root / "undisturbed"
        self.file = root / "notebooks" / "sweeps" / "faults.yaml"
        self.file.parent.mkdir(parents=True)
        self.benchmark = few_people(root / "mllmu")  # so named, the model that knows these people is found
        given = 'experiment: str = "x"\nbenchmark: str = "x"\nseed: int = 0'
        cells = [v4.new_code_cell(given, metadata={"tags": ["parameters"]}), v4.new_code_cell(CELL)]
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": spec})
        nbformat.write(notebook, root / "notebooks" / "faults.ipynb")
        sweep = {"notebook": "faults.ipynb", "experiment": "faults", "record": "faults"}
        sweep["parameters"] = {"benchmark": str(self.benchmark)}
        self.file.write_text(yaml.safe_dump(sweep | {"grid": [{"seed": [0]}]}))
        self.environment = {"VKDLIB_RUNS": str(self.home), "VKDLIB_ROOT": str(root)}
        os.environ |= self.environment
        sweep, seen = self.sweep(), {}
        for which in PROCESSES:
            wait_for(sweep, which)
            seen[which] = time.time()
        said = sweep.communicate()[0]
        assert sweep.returncode == 0, said
        self.seconds = {which: time.time() - since for which, since in seen.items()}
        (run,) = store.finished_runs("faults")
        self.hash = run.hash
        torch.set_num_threads(int(read_json(run.folder / "env.json")["threads"]))  # as a worker has
        shutil.copytree(run.folder, self.kept)

    def run(self) -> Run:
        """The point, in this process."""
        return experiments.run("faults", Configuration(benchmark=str(self.benchmark), **POINT))

    def sweep(self) -> subprocess.Popen:
        """The point, as a sweep in a process of its own."""
        command = [sys.executable, "-m", "vkdlib.sweep", str(self.file)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, preexec_fn=heed_ctrl_c, **streams)

    def sweep_here(self) -> str:
        """The point, as a sweep of this process, its notebook in others; returns what it said."""
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                execute.main([str(self.file)])
        except Exception as error:
            said.write(f"{type(error).__name__}: {error}")
        return said.getvalue()

    def empty(self) -> None:
        """As it was before anything ran."""
        shutil.rmtree(self.home, ignore_errors=True)

    def equal(self) -> bool:
        """Whether the run is whole and its files are those of the undisturbed one."""
        (run,) = store.finished_runs("faults")
        run.check()
        return (run.folder / "DONE").read_text() == (self.kept / "DONE").read_text()


# Faults in the process of the run.


@contextlib.contextmanager
def at_step(chosen: int, happens):
    """Within: `happens` takes the place of a step of the training, the first time it comes to it."""
    combine, calls = unlearning.combine, []

    def step(*task):
        calls.append(task)
        return happens(combine, task) if len(calls) == chosen else combine(*task)

    with mock.patch.object(unlearning, "combine", step):
        yield


def not_a_number(combine, task) -> dict:
    return combine(*task) | {"forget": float("nan")}


def out_of_memory(combine, task) -> dict:
    raise torch.OutOfMemoryError("CUDA out of memory")


def ctrl_c(combine, task) -> dict:
    raise KeyboardInterrupt


def in_a_step(happens):
    """A fault in a step of the training."""
    return lambda place, draw: run_within(place, at_step(draw.randrange(1, STEPS + 1), happens))


def full(owner, name: str, size: int):
    """A disk that has room for small files only while a function of `owner` writes."""
    write = getattr(owner, name)

    def limited(*task, **named):
        with full_disk(size):
            return write(*task, **named)

    return lambda place, draw: run_within(place, mock.patch.object(owner, name, limited))


def unwritable(place: Place, draw: random.Random) -> str:
    """A file where the experiment's folder should be (no permission stops root)."""
    place.home.mkdir()
    (place.home / "faults").write_text("")
    said = run_within(place, contextlib.nullcontext())
    (place.home / "faults").unlink()
    return said


def damaged_checkpoint(name: str, harm):
    """A run is stopped, and what it left to go on from is damaged."""

    def fault(place: Place, draw: random.Random) -> str:
        run_within(place, at_step(draw.randrange(3, STEPS + 1), ctrl_c))
        (file,) = place.home.glob(f"faults/*.part/{name}")
        harm(file, draw)
        return run_within(place, contextlib.nullcontext())

    return fault


def damaged_result(name: str, harm):
    """A file of the finished run is damaged."""

    def fault(place: Place, draw: random.Random) -> str:
        shutil.copytree(place.kept, place.home / "faults" / place.hash)
        harm(place.home / "faults" / place.hash / name, draw)
        return run_within(place, contextlib.nullcontext())

    return fault


def cut(file: Path, draw: random.Random) -> None:
    """Cut a file off at a random place."""
    content = file.read_bytes()
    file.write_bytes(content[: draw.randrange(len(content))])


def flip(file: Path, draw: random.Random) -> None:
    """Turn one random bit of a file round."""
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def run_within(place: Place, fault) -> str:
    """Run the point within a fault; return what it said when it stopped."""
    try:
        with fault:
            place.run()
    except (Exception, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    return ""


# Faults that come from outside.


def killed(which: str, how: signal.Signals = signal.SIGKILL, after: str | None = None):
    """A signal to one of PROCESSES at a random moment after the start of it, or of another."""
    after = after or which

    def fault(place: Place, draw: random.Random) -> str:
        while True:
            place.empty()
            sweep = place.sweep()
            wait_for(sweep, after)
            target = wait_for(sweep, which)
            until = time.time() + draw.uniform(0, place.seconds[after])
            while time.time() < until and sweep.poll() is None:
                time.sleep(0.02)
            others = []
            if sweep.poll() is None and target.is_running() and target.status() != psutil.STATUS_ZOMBIE:
                others = psutil.Process(sweep.pid).children(recursive=True)
                target.send_signal(how)
            said = sweep.communicate()[0]
            assert not psutil.wait_procs(others, 60)[1], "a process was left behind"
            done = any(place.home.glob("faults/*/DONE"))
            ending = sweep.returncode == -signal.SIGINT and done and "Traceback" not in said  # Python itself
            if sweep.returncode and not ending or others and which == "point":  # whose worker tries once more
                return said  # else it was too late to disturb it

    return fault


def wait_for(sweep: subprocess.Popen, which: str) -> psutil.Process:
    """One of the sweep's processes, as soon as it is there."""
    process = psutil.Process(sweep.pid)
    for _ in range(PROCESSES.index(which)):
        while not (children := process.children()):
            assert sweep.poll() is None, "it ended too early"
            time.sleep(0.02)
        process = children[0]
    return process


def dying_kernel(place: Place, draw: random.Random) -> str:
    """The notebook's process kills itself in a step of the training, once."""
    step = draw.randrange(1, STEPS + 1)
    with mock.patch.dict(os.environ, {"VKDLIB_FAULT": f"{step} {place.root / 'died'}"}):
        said = place.sweep_here()
    (place.root / "died").unlink()  # it did
    return said


def full_for_the_sweep(place: Place, draw: random.Random) -> str:
    """A disk that has room for small files only, for the sweep and all its processes."""
    with full_disk(draw.randrange(200, 50_000)):  # what is started has no more room
        return place.sweep_here()


DELETE = r"delete (/\S+?)(,| to start afresh|$)"
FROM_OUTSIDE = {  # the sweep is what is run again
    "SIGKILL of the sweep": (killed("sweep"), None),
    "SIGKILL of a worker": (killed("worker"), "ended early"),
    "SIGKILL of a point": (killed("point"), None),  # its worker tries once more
    "kernel that dies in a step": (dying_kernel, None),
    "full disk, sweep": (full_for_the_sweep, "could not be written .* make room"),
    "Ctrl-C": (killed("sweep", signal.SIGINT, after="worker"), "the same command goes on from here"),
}
FROM_INSIDE = {  # what happens, and what must be said
    "Ctrl-C in a step": (in_a_step(ctrl_c), "KeyboardInterrupt"),
    "NaN loss": (
        in_a_step(not_a_number),
        "FloatingPointError: forget loss is nan .* lower the learning rate",
    ),
    "out of memory in a step": (in_a_step(out_of_memory), "MemoryError: training .* lower micro_batch"),
    "full disk, history": (full(training, "_save", 10), "history.csv could not be written .* make room"),
    "full disk, checkpoint": (
        full(training, "_save", 10_000),
        "safetensors could not be written .* make room",
    ),
    "full disk, result": (
        full(Run, "finish", 10_000),
        r"(predictions|delta)\.\w+ could not be written .* make room",
    ),
    "unwritable folder": (unwritable, "OSError: .*faults could not be made .* give access"),
    "checkpoint cut off": (damaged_checkpoint("checkpoint.safetensors", cut), DELETE),
    "checkpoint with a flipped bit": (damaged_checkpoint("checkpoint.safetensors", flip), DELETE),
    "checkpoint's history cut off": (damaged_checkpoint("history.csv", cut), DELETE),
    "checkpoint's history with a flipped bit": (damaged_checkpoint("history.csv", flip), DELETE),
    "delta cut off": (damaged_result("delta.safetensors", cut), DELETE),
    "delta with a flipped bit": (damaged_result("delta.safetensors", flip), DELETE),
    "predictions cut off": (damaged_result("predictions.parquet", cut), DELETE),
    "predictions with a flipped bit": (damaged_result("predictions.parquet", flip), DELETE),
    "configuration cut off": (damaged_result("config.json", cut), DELETE),
    "configuration with a flipped bit": (damaged_result("config.json", flip), DELETE),
    "DONE cut off": (damaged_result("DONE", cut), DELETE),
    "DONE with a flipped bit": (damaged_result("DONE", flip), DELETE),
}


def tried(place: Place, name: str, times: int) -> dict:
    """What came of a fault: a row of faults.csv.

    Returns:
        times; how often the same command ended well afterwards; how often what was said was clear; how often
        something had to be deleted first, as it said; how often the result was that of the undisturbed run.
    """
    fault, expected = (FROM_OUTSIDE | FROM_INSIDE)[name]
    row = {"fault": name, "times": times, "recovered": 0, "clean_errors": 0, "deleted": 0, "equal": 0}
    draw = random.Random(name)
    for _ in range(times):
        place.empty()
        said = fault(place, draw)
        clear = bool(expected and re.search(expected, said))
        row["clean_errors"] += clear
        if told := re.search(DELETE, said):
            shutil.rmtree(told[1])
            row["deleted"] += 1
        if name in FROM_INSIDE:
            well = not run_within(place, contextlib.nullcontext())
        else:
            well = execute.main([str(place.file)]) == 0
        row["recovered"] += well
        row["equal"] += well and place.equal()
        if expected and not clear or not well:
            print(f"{name}: it said: {said}")
    return row


def main(times: int) -> None:
    """Try every fault; those that an earlier call got to, by the same code, are not tried again."""
    from vkdlib.system.progress import bar

    record = paths.figures() / "data" / "faults.csv"
    make_folder(paths.runs())
    so_far = paths.runs() / f"faults-{times}-{code()}.csv"
    rows = pd.read_csv(so_far).to_dict("records") if so_far.exists() else []
    left = {**FROM_OUTSIDE, **FROM_INSIDE}.keys() - {row["fault"] for row in rows}
    with tempfile.TemporaryDirectory() as root:
        place = Place(Path(root).resolve())
        for name in bar(sorted(left), "faults"):
            rows.append(tried(place, name, times))
            with whole_file(so_far) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False)
    table = pd.DataFrame(rows).sort_values("fault")
    print(table.to_string(index=False))
    with whole_file(record) as temporary:
        table.to_csv(temporary, index=False)
    so_far.unlink()


def code() -> str:
    """A short hash of the library and of this file."""
    files = [Path(__file__), *sorted(paths.PACKAGE.rglob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
