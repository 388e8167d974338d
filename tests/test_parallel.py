"""A step cut into parts, or shared among processes, is the same step."""

import os
import subprocess
import sys

import pytest
import torch
import yaml
from accelerate import notebook_launcher
from conftest import begin, both, few_tasks, free_port, random_llava
from faults import few_people
from safetensors.torch import load_file, save_file

from vkdlib import experiments
from vkdlib.experiments.pipeline import read_run_file
from vkdlib.methods import make_method
from vkdlib.models import memo
from vkdlib.runs import store
from vkdlib.system import processes
from vkdlib.system.files import read_json
from vkdlib.unlearning import unlearn

POINT = {
    "experiment": "together",
    "method": "GA",
    "forget_ratio": 15,
    "settings": {"trained": "visual"},
    "training": {"epochs": 1, "lr": 1e-4, "batch_size": 2},
    "kinds": ["classification"],
}
# Two processes on CPUs; with --cpu there is only one, however many are asked for.
ACCELERATE = """
-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0
--mixed_precision no --dynamo_backend no -m vkdlib.experiments
""".split()


METHODS = {
    "VKD": ({"d_I": 1.05}, ["forget_vqa", "retain_vqa", "vkd"]),
    "VGID": ({"trained": "visual"}, ["forget_kl", "retain_kl"]),
    "PO": ({"trained": "visual"}, ["po"]),
    "RMU": ({"trained": "visual", "gamma": 2}, ["forget_states", "retain_states"]),
}


def few_steps(loaded, tasks, name="VKD", **options) -> tuple[dict, torch.Tensor]:
    """Weights and losses after four steps."""
    settings, names = METHODS[name]
    method = make_method(name, **settings)
    history, _ = unlearn(loaded, tasks, method, epochs=4, lr=1e-4, batch_size=3, retain_batch=5, **options)
    losses = torch.tensor([[row[loss] for loss in names] for row in history])
    return {n: p.detach().clone() for n, p in method.scope(loaded).items()}, losses


def assert_close(found: dict, expected: dict):
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 1e-5, name


def test_parts_add_up_to_the_batch(loaded, tasks):
    from copy import deepcopy
    from dataclasses import replace

    twin = replace(loaded, model=deepcopy(loaded.model))
    weights, losses = few_steps(loaded, tasks)
    pieces, again = few_steps(twin, tasks, micro_batch=2)
    assert torch.allclose(losses, again, atol=1e-5) and losses[-1, 2] > 0
    assert_close(pieces, weights)


def half_of_the_steps(out, name):
    """What each of two processes does: its share of the steps of the fixtures' model."""
    number, size = processes.join_group()
    assert size == 2
    loaded = random_llava()
    weights, history = few_steps(loaded, few_tasks(loaded), name)
    assert processes.gather([number]) == [0, 1] and processes.broadcast(number) == 0
    if number == 0:
        save_file(weights | {"losses": history}, out)


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_take_the_same_steps(loaded, tasks, tmp_path, name):
    weights, losses = few_steps(loaded, tasks, name)
    both(half_of_the_steps, tmp_path / "out", name)
    found = load_file(tmp_path / "out")
    assert torch.allclose(found.pop("losses"), losses, rtol=1e-5, atol=1e-5) and losses[-1, -1] > 0
    assert_close(found, weights)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All of the point: POINT with few people."""
    return POINT | {"benchmark": str(few_people(tmp_path_factory.mktemp("people") / "mllmu"))}


@pytest.fixture(scope="module")
def alone(whole, tmp_path_factory):
    """The run of the point in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VKDLIB_RUNS", str(tmp_path_factory.mktemp("one")))
        return experiments.run(*read_run_file(run_file(whole, tmp_path_factory.mktemp("file"))))


def run_file(values, folder):
    """A file of a run's fields."""
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def from_a_shell(file, home):
    done = subprocess.run([sys.executable, *ACCELERATE, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def from_a_notebook(file, home):
    notebook = begin(cell, file, free_port(), VKDLIB_RUNS=str(home))
    notebook.join()
    assert notebook.exitcode == 0


def cell(file, port):
    """A cell of a notebook: accelerate makes copies of the process that runs it."""
    notebook_launcher(experiments.run_together, read_run_file(file), num_processes=2, use_port=port)


@pytest.mark.slow
@pytest.mark.parametrize("launch", [from_a_shell, from_a_notebook])
def test_launched_by_accelerate(launch, whole, alone, tmp_path, monkeypatch):
    """Two processes start, and together they do the same run: one folder, the same answers."""
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path))
    launch(run_file(whole, tmp_path), tmp_path)
    (two,) = store.finished_runs("together")
    assert [read_json(run.folder / "env.json")["processes"] for run in (alone, two)] == ["1", "2"]
    assert alone.hash == two.hash and len(alone.history) == len(two.history) == 1
    assert alone.history.to_numpy() == pytest.approx(two.history.to_numpy(), abs=1e-5)
    a, b = alone.predictions, two.predictions
    assert a.question.tolist() == b.question.tolist()
    assert (a.answer == b.answer).mean() > 0.99  # rounding may turn a coin


ENDS = """
import atexit, weakref, torch
from vkdlib.system import processes

atexit.register(lambda: print(group() is None))  # done last
processes.join_group()
group = weakref.ref(torch.distributed.group.WORLD)
import torch.distributed.nn.functional  # as transformers does; its functions keep the group they find
print(processes.in_group())
"""


def test_who_joined_leaves_at_the_end():
    """Threads of a process that was still joined to others when it ended used to abort it now and then."""
    joined = {"WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "RANK": "0"}
    environment = os.environ | joined | {"LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, env=environment)
    assert ended.stdout.split() == ["True", "True"], ended.stderr


def test_nobody_waits_on_a_gpu_for_who_failed(monkeypatch):
    """To leave a group of NCCL's is collective: a process that ends alone by an error would hang."""
    left = []
    monkeypatch.setattr(processes, "in_group", lambda: True)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: left.append(True))
    for backend, leaves in (("nccl", []), ("gloo", [True])):
        monkeypatch.setattr(torch.distributed, "get_backend", lambda backend=backend: backend)
        processes.leave_group()
        assert left == leaves, backend


def test_too_many_processes_for_a_batch(loaded, tasks, monkeypatch):
    monkeypatch.setattr(processes, "rank_and_size", lambda: (0, 4))
    with pytest.raises(ValueError, match="4 processes cannot share batches of 3: raise batch_size"):
        few_steps(loaded, tasks)


def test_checkpointing_changes_nothing(loaded, tasks):
    from copy import deepcopy
    from dataclasses import replace

    twin = replace(loaded, model=deepcopy(loaded.model))
    plain, calls = [], []
    for m, seen in ((loaded, plain), (twin, calls)):
        block = m.model.model.language_model.layers[0].mlp
        block.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
    weights, losses = few_steps(loaded, tasks)
    memo.RESULTS.clear()  # the mask is computed again, too
    again, same = few_steps(twin, tasks, checkpointing=True)
    assert len(calls) == 2 * len(plain)  # a second time for every term of every step, and for the mask
    assert torch.equal(losses, same)
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    assert not any(m.training for m in twin.model.modules())
    assert not twin.model.is_activation_checkpointing
