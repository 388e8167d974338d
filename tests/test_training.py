"""The training loop: resume is exact, kills lose nothing, bad numbers stop it."""

import time

import pytest
import torch
from conftest import begin, full_disk
from safetensors.torch import load_file, save_file

from vkdlib import training
from vkdlib.training import constant, fit, linear, one_cycle


def train(folder, pause, done):
    """A training of 60 steps with pauses between them (seconds); each writes a line into the file `done`."""
    torch.manual_seed(0)
    w = {"a": torch.nn.Parameter(torch.randn(50, 50)), "b": torch.nn.Parameter(torch.randn(50))}

    def gradients(step):
        with open(done, "a") as lines:
            lines.write(f"{step}\n")
        time.sleep(pause)
        x = torch.randn(20, 50, generator=torch.Generator().manual_seed(step))
        loss = ((x @ w["a"] + w["b"]).tanh() - x).square().mean()
        loss.backward()
        return {"loss": loss.item()}

    fit(w, gradients, 60, 1e-2, schedule=one_cycle, weight_decay=0.1, folder=folder, checkpoint_every=7)


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    begin(train, tmp_path / "whole", 0, tmp_path / "undisturbed").join()
    killed = tmp_path / "killed"
    for checkpoint in ("first", "second"):  # SIGKILL twice, each time after a further checkpoint
        process = begin(train, killed, 0.02, tmp_path / checkpoint)
        file = killed / "checkpoint.safetensors"
        age = file.stat().st_mtime_ns if file.exists() else 0
        while not file.exists() or file.stat().st_mtime_ns == age:
            assert process.is_alive(), checkpoint
            time.sleep(0.005)
        process.kill()
        process.join()
    begin(train, killed, 0, tmp_path / "third").join()
    steps = (tmp_path / "third").read_text().split()
    assert 0 < int(steps[0]) < 60 and int(steps[-1]) == 59  # it went on, it did not start afresh
    whole, resumed = (load_file(d / "checkpoint.safetensors") for d in (tmp_path / "whole", killed))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    histories = [(d / "history.csv").read_text() for d in (tmp_path / "whole", killed)]
    assert histories[0] == histories[1] and histories[0].count("\n") == 61


def parameter():
    return {"w": torch.nn.Parameter(torch.ones(3))}


def test_a_parameter_may_have_a_share_of_the_learning_rate(tmp_path):
    def train_to(steps, folder):
        w = {name: torch.nn.Parameter(torch.ones(3)) for name in "ab"}

        def gradients(step):
            if step == steps:
                raise KeyboardInterrupt
            sum(p.square().sum() for p in w.values()).backward()
            return {"loss": 0.0}

        fit(w, gradients, 4, 0.1, shares={"b": 0.5}, folder=folder, checkpoint_every=1, schedule=linear)
        return w

    whole = train_to(4, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_to(1, tmp_path / "parts")
    parts = train_to(4, tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    moved = {name: (1 - p.detach()).mean().item() for name, p in whole.items()}
    assert moved["b"] == pytest.approx(moved["a"] / 2, rel=0.1)


def test_nan_stops_before_the_weights_change():
    def gradients_of(w, loss, gradient):
        def gradients(step):
            w["w"].grad = torch.full((3,), gradient if step == 2 else 1.0)
            return {"forget": loss if step == 2 else 1.0}

        return gradients

    two_steps = parameter()
    fit(two_steps, gradients_of(two_steps, 1.0, 1.0), 2, 0.1)
    assert not torch.equal(two_steps["w"], torch.ones(3))
    nan, inf = float("nan"), float("inf")
    for loss, gradient, message in [
        (nan, 1.0, "forget loss is nan at step 2: lower the learning rate"),
        (inf, 1.0, "forget loss is inf at step 2"),
        (1.0, nan, "the gradient is nan at step 2"),
    ]:
        w = parameter()
        with pytest.raises(FloatingPointError, match=message):
            fit(w, gradients_of(w, loss, gradient), 5, 0.1)
        assert torch.equal(w["w"], two_steps["w"])


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    def train(folder, steps_written=60):
        w, done = {"w": torch.nn.Parameter(torch.linspace(-1, 1, 400))}, []

        def gradients(step):
            done.append(step)
            (w["w"] - step).square().mean().backward()
            if step == steps_written:
                raise StopIteration
            return {"loss": float(step)}

        fit(w, gradients, 12, 0.1, folder=folder, checkpoint_every=4)
        return w["w"], done

    (whole, _), folder = train(tmp_path / "whole"), tmp_path / "full"
    with pytest.raises(StopIteration):
        train(folder, 6)
    kept = (folder / "checkpoint.safetensors").read_bytes()
    with (
        full_disk(),
        pytest.raises(
            OSError, match="checkpoint.safetensors could not be written .* make room or give access"
        ),
    ):
        train(folder)
    assert (folder / "checkpoint.safetensors").read_bytes() == kept
    assert not list(folder.glob("*.tmp"))
    weights, done = train(folder)
    assert torch.equal(weights, whole) and done[0] == 4  # from the checkpoint of before


def test_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="checkpoint.safetensors is damaged"):
        fit(parameter(), lambda step: {}, 1, 0.1, folder=tmp_path)


def test_checkpoint_of_another_run_is_refused(tmp_path):
    def train(w, steps=3, lr=0.1, identity="a"):
        def gradients(step):
            done.append(step)
            w["w"].square().sum().backward()
            return {"loss": 0.0}

        done = []
        fit(w, gradients, steps, lr, folder=tmp_path, identity=identity)
        return done

    assert train(parameter()) == [0, 1, 2]
    assert train(parameter()) == []  # the same one is found
    other_shape = {"w": torch.nn.Parameter(torch.ones(2, 3))}
    for change in (
        lambda: train(other_shape),
        lambda: train(parameter(), steps=2),
        lambda: train(parameter(), lr=0.2),
        lambda: train(parameter(), identity="b"),
    ):
        with pytest.raises(ValueError, match="checkpoint.safetensors belongs to another training"):
            change()


def test_a_checkpoint_of_an_older_version_is_another_training(tmp_path):
    """It told trainings apart by other words."""
    w = parameter()
    fit(w, lambda step: w["w"].square().sum().backward() or {"loss": 0.0}, 2, 0.1, folder=tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    facts = {"step": "2", "identity": "GA(trained='all') steps=2 lr=0.1", "content": "0"}
    save_file(load_file(file), file, metadata=facts)
    with pytest.raises(ValueError, match="belongs to another training .GA.trained.*: delete"):
        fit(parameter(), lambda step: {}, 2, 0.1, folder=tmp_path)


def test_half_precision_weights_are_refused():
    half = {"w": torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))}
    with pytest.raises(TypeError, match="w is not fp32"):
        fit(half, lambda step: {}, 1, 0.1)


def test_schedules():
    assert [constant(s, 4) for s in range(4)] == [1, 1, 1, 1]
    assert [linear(s, 4) for s in range(4)] == [1, 0.75, 0.5, 0.25]
    cycle = [one_cycle(s, 20) for s in range(20)]
    assert cycle[0] == 0.5 and max(cycle) == cycle[1] == 1 and cycle[-1] < 0.01


WRONG = [
    ({"steps": 0}, "steps is 0; it must be a whole number 1 or more"),
    ({"lr": float("nan")}, "lr is nan; it must be a number above 0"),
    ({"lr": 0}, "lr is 0; it must be a number above 0"),
    ({"weight_decay": -1}, "weight_decay is -1; it must be a number 0 or more"),
    ({"checkpoint_every": 0}, "checkpoint_every is 0; it must be a whole number 1 or more"),
]


@pytest.mark.parametrize("wrong, message", WRONG)
def test_numbers_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        fit(**{"parameters": parameter(), "gradients": None, "steps": 1, "lr": 0.1} | wrong)


def test_a_step_that_trains_nothing_stops():
    w = parameter()
    with pytest.raises(RuntimeError, match="step 0 trains nothing"):
        fit(w, lambda step: {"loss": 0.0}, 3, 0.1)
    with pytest.raises(RuntimeError, match="step 0 trains nothing"):
        fit(w, lambda step: w["w"].sum().backward() or {}, 3, 0.1)


def test_a_history_shorter_than_the_steps_is_an_error(monkeypatch):
    w = parameter()
    monkeypatch.setattr(training, "bar", lambda steps, *_, **__: list(steps)[:-1])
    with pytest.raises(RuntimeError, match="3 steps were to be taken, the history has 2"):
        fit(w, lambda step: w["w"].sum().backward() or {"loss": 0.0}, 3, 0.1)
