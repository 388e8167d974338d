"""Sweeps elsewhere: on Dask workers, one of which is killed, and as a SLURM array."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from conftest import start_sweep, tiny_sweep

from vkdlib.runs import store
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.run_folder import Run
from vkdlib.sweep import dask, execute, local, results
from vkdlib.sweep.results import Result, point_results
from vkdlib.sweep.sweep import load_sweep
from vkdlib.system import paths


def ends(pid):
    """Whether a process is gone, or goes within ten minutes."""
    deadline = time.time() + 600
    while psutil.pid_exists(pid) and time.time() < deadline:
        time.sleep(0.1)
    return not psutil.pid_exists(pid)


@pytest.mark.slow
def test_a_sweep_survives_the_loss_of_a_dask_worker(home):
    """Two real worker processes and a scheduler; the third point kills its worker, which has done another."""
    from distributed import LocalCluster

    file = tiny_sweep(home, seeds=[0, 1], faults=[[2, "worker"], [3, "error"]])
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        failed = execute.run_sweep(file, dask=cluster.scheduler_address)
        assert [f.point.parameters["seed"] for f in failed] == [3] and "out of luck" in failed[0].error
        assert {r.configuration.seed for r in store.finished_runs("tiny")} == {0, 1, 2}
        killed = home / "runs" / "worker_2"
        assert killed.exists() and ends(int(killed.read_text()))  # its notebook did not outlive it
        assert execute.run_sweep(file, dask=cluster.scheduler_address) == []  # only the one that failed
    ran = {f.name: f.read_text().count("once") for f in home.glob("runs/ran_*")}
    assert ran == {"ran_0": 1, "ran_1": 1, "ran_2": 2, "ran_3": 2}
    assert (home / "figures" / "data" / "tiny.csv").exists()


@pytest.mark.slow
def test_ctrl_c_with_points_on_a_cluster(home):
    """What runs there ends and is kept, what waits is not begun; the same command goes on."""
    from distributed import LocalCluster

    file = tiny_sweep(home, seeds=[0], faults=[[1, "slow"], [2, ""]])
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        process = start_sweep(file, "--dask", cluster.scheduler_address)
        while not (home / "runs" / "slow_1").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[0]
        assert process.returncode == 130 and "the same command goes on from here" in said
        while len(store.finished_runs("tiny")) < 2:
            time.sleep(0.1)
        assert not (home / "runs" / "ran_2").exists()
        assert execute.run_sweep(file, dask=cluster.scheduler_address) == []
    assert {r.configuration.seed for r in store.finished_runs("tiny")} == {0, 1, 2}


def test_local_dask_workers_share_the_machine(home, monkeypatch):
    file = tiny_sweep(home, seeds=[0, 1])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    shares = [local.machine_share(slot, 2) for slot in range(2)]
    points = load_sweep(file).points
    assert sorted(p.parameters["seed"] for p in dask.run_on_dask(points, "local", shares)) == [0, 1]
    assert [result.run.configuration.seed for result in point_results(points)] == [0, 1]
    threads = [
        json.loads((run.folder / "env.json").read_text())["threads"] for run in store.finished_runs("tiny")
    ]
    assert threads == ["2", "2"]  # Dask alone would give each one


def test_a_cluster_without_workers_is_waited_for(capsys):
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        assert list(dask.run_on_dask([], cluster.scheduler_address, [])) == []
    assert "Dask: waiting for workers, http" in capsys.readouterr().out


def test_dask_that_is_not_there_is_named(home, monkeypatch):
    import distributed  # noqa: F401  (its own settings first: they would end with ours)
    from dask import config

    with config.set({"distributed.comm.timeouts.connect": "1s"}):
        with pytest.raises(ConnectionError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
            list(dask.run_on_dask([], "tcp://127.0.0.1:9", []))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match="pip install distributed"):
        list(dask.run_on_dask([], "local", []))


def test_workers_need_no_model_code():
    program = "import sys, vkdlib.sweep.dask\nassert not {'torch', 'distributed'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_array_script_runs_what_is_left(home, monkeypatch, capsys):
    file = tiny_sweep(home, seeds=range(6))
    ran = []

    def ended(worker, point):
        """What a task does, without the notebook."""
        ran.append(point.parameters["seed"])
        point.executed.write_text("{}")

    def look(point):
        done = point.executed.exists() or point.parameters["seed"] == 2
        return Result(point, run if done else None)

    run = Run("tiny", Configuration(), home)
    for module in (execute, results):
        monkeypatch.setattr(module, "point_result", look)
    monkeypatch.setattr(local.Worker, "execute", ended)
    assert execute.main([str(file), "--slurm"]) == 0
    script = home / "array.sh"
    script.write_text(capsys.readouterr().out)
    subprocess.run(["bash", "-n", script], check=True)
    assert "#SBATCH --array=0-4\n" in script.read_text()
    names = {p.parameters["seed"]: p.name for p in load_sweep(file).points}
    changed = yaml.safe_load(file.read_text())
    changed["grid"] = [{"seed": [8, 7]}, {"seed": [5, 4, 3, 2, 1, 0]}]  # while the tasks wait
    file.write_text(yaml.safe_dump(changed))
    python = home / "python"
    python.write_text('#!/bin/bash\necho "$VKDLIB_RUNS"\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    script.write_text(script.read_text().replace(sys.executable, str(python)))
    for number in range(5):
        task = os.environ | {"SLURM_ARRAY_TASK_ID": str(number), "VKDLIB_RUNS": "elsewhere"}
        said = subprocess.run(["bash", script], env=task, check=True, capture_output=True, text=True).stdout
        place, *arguments = said.splitlines()
        assert place == str(paths.runs()) and arguments[:2] == ["-m", "vkdlib.sweep"]
        assert execute.main(arguments[2:]) == 0
    assert ran == [0, 1, 3, 4, 5]
    assert [r.point.parameters["seed"] for r in point_results(load_sweep(file).points) if not r.run] == [8, 7]
    changed["grid"] = [{"seed": [0, 2]}]
    file.write_text(yaml.safe_dump(changed))
    with pytest.raises(SystemExit, match="all points are done"):
        execute.main([str(file), "--slurm"])
    assert execute.main([str(file), "--point", names[5]]) == 2
    assert f"tiny.yaml has no point '{names[5]}': --dry-run lists those" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        execute.main([str(file), "--workers", "0"])


def test_one_point_that_fails_says_so(home, capsys):
    file = tiny_sweep(home, faults=[[1, "error"]])
    (point,) = load_sweep(file).points
    assert execute.main([str(file), "--dry-run"]) == 0
    assert re.search(
        f"to do: {point.name} .*'fault': 'error'.*}}: not begun$", capsys.readouterr().out, re.MULTILINE
    )
    assert execute.main([str(file), "--point", point.name]) == 1
    assert re.search("1 points failed.*out of luck", capsys.readouterr().out, re.DOTALL)
    assert execute.main([str(file), "--dry-run"]) == 0
    assert re.search(f"to do: {point.name} .*out of luck", capsys.readouterr().out)
    assert execute.main([str(file), "--point", point.name]) == 0
    wanted = yaml.safe_load(file.read_text())
    assert not (home / "figures" / "data" / f"{wanted['record']}.csv").exists()  # the plain command's
