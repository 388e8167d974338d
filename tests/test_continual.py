"""A series of requests: who is forgotten when, killed and resumed, against all at once."""

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch

from vkdlib import experiments, unlearning
from vkdlib.experiments import pipeline
from vkdlib.experiments.continual import (
    check_requests,
    make_requests,
    request_tasks,
    unlearn_requests,
)
from vkdlib.methods import make_method
from vkdlib.models.loaded import weights_hash
from vkdlib.models.parts import deepest_blocks, mlp_output
from vkdlib.runs.configuration import Configuration
from vkdlib.tasks import make_tasks, person_of
from vkdlib.unlearning import combine, unlearn

TRAINING = {"epochs": 2, "lr": 1e-3, "batch_size": 1, "retain_batch": 2}
ASKED = {"kinds": ["classification"], "modalities": ["vqa"]}


@pytest.fixture(scope="module")
def few(benchmark):
    split = benchmark.split(5)
    people = {s: tuple(replace(p, test_images=()) for p in getattr(split, s)) for s in ("forget", "retain")}
    return replace(split, forget=people["forget"][:3], retain=people["retain"][:3], real=())


def copy_model(loaded):
    return replace(loaded, model=copy.deepcopy(loaded.model))


def series(loaded, few, name="VKD", size=1, requests=None, **options):
    settings = {"keep": "features"} if name == "VKD" else {"trained": "visual"}
    requests = requests or make_requests(few.forget, size)
    method = make_method(name, **settings)
    return unlearn_requests(loaded, few, method, requests, evaluation=ASKED, **TRAINING | options)


def test_requests_of_one_and_of_two(benchmark):
    people = benchmark.split(5).forget
    assert [len(r) for r in make_requests(people, 1)] == [1] * 10
    assert [len(r) for r in make_requests(people, 2)] == [2] * 5
    assert [len(r) for r in make_requests(people, 4)] == [4, 4, 2]
    with pytest.raises(ValueError, match="size is 0"):
        make_requests(people, 0)


def test_who_is_in_a_request(untrained, few):
    tasks = make_tasks(untrained, few, views=2)
    first, second, third = (p.id for p in few.forget)
    requests = [[first], [third]]
    for number, (forget, absent) in enumerate([(first, set()), (third, {first})], 1):
        now = request_tasks(tasks, requests, number)
        assert {person_of(p) for p in now.forget_vqa} == {p.key for p in now.forget_qa} == {forget}
        kept = {p.id for p in few.retain} | ({first, second, third} - {forget} - absent)
        assert {person_of(p) for p in now.retain_vqa} == {p.key for p in now.retain_qa} == kept
        assert not any(p.views for p in now.retain_vqa) and all(len(p.views) == 1 for p in now.forget_vqa)


def test_one_request_for_all_is_ordinary_unlearning(loaded, few):
    other = copy_model(loaded)
    series(loaded, few, size=3)
    unlearn(other, make_tasks(other, few), make_method("VKD", keep="features"), **TRAINING)
    assert weights_hash(loaded.model.state_dict()) == weights_hash(other.model.state_dict())


def test_what_a_series_returns(loaded, few):
    rows, spent = series(loaded, few)
    assert rows.request.unique().tolist() == [0, 1, 2, 3]
    states = rows[rows.set == "forget"].groupby("request").state.value_counts().unstack(fill_value=0)
    questions = len(rows[(rows.set == "forget") & (rows.request == 0)]) / 3
    assert (states.forgotten / questions).tolist() == [0, 1, 2, 3]
    assert set(rows[rows.set == "retain"].state) <= {"kept"}
    assert spent.people.tolist() == [1, 1, 1] and spent.steps.tolist() == [2, 2, 2]
    assert (spent.seconds > 0).all() and list(spent) == ["request", "people", "steps", "seconds"]


@pytest.mark.parametrize("name", ["VKD", "MMUnlearner", "GA_Diff"])
def test_a_killed_series_goes_on_with_the_same_bits(loaded, few, tmp_path, monkeypatch, name):
    other = copy_model(loaded)
    rows, spent = series(loaded, few, name)
    with monkeypatch.context() as patch:
        steps = iter([combine] * 3)  # one request of two steps, one step of the next
        patch.setattr(unlearning, "combine", lambda *arguments: next(steps)(*arguments))
        with pytest.raises(StopIteration):
            series(copy_model(other), few, name, folder=tmp_path, checkpoint_every=1)
    assert {p.name for p in tmp_path.iterdir()} == {"series.json", "request-0", "request-1", "checkpoint-2"}
    resumed = copy_model(other)
    again, spent_again = series(resumed, few, name, folder=tmp_path)
    pd.testing.assert_frame_equal(rows, again)
    assert spent.drop(columns="seconds").equals(spent_again.drop(columns="seconds"))
    assert weights_hash(loaded.model.state_dict()) == weights_hash(resumed.model.state_dict())
    assert not list(tmp_path.glob("checkpoint*"))
    third = copy_model(other)
    once_more, _ = series(third, few, name, folder=tmp_path)  # nothing is left to do
    pd.testing.assert_frame_equal(rows, once_more)
    assert weights_hash(loaded.model.state_dict()) == weights_hash(third.model.state_dict())


def zero_columns(loaded):
    """Neurons of the trained blocks whose column is zero."""
    weights = [mlp_output(block).weight for block in deepest_blocks(loaded).values()]
    return torch.cat([(weight == 0).all(0) for weight in weights])  # (neurons of all blocks,)


@pytest.mark.parametrize("order", ["prune, mask", "mask, prune"])
def test_what_one_request_prunes_stays_pruned(loaded, few, order):
    """Fine-tuning for a later request would bring a neuron back that nothing holds."""
    tasks, pruned = make_tasks(loaded, few), []
    method = make_method("VKD", keep="features", d_I=1.02, order=order)
    requests = make_requests(few.forget, 1)
    for number in (1, 2):
        unlearn(loaded, request_tasks(tasks, requests, number), method, **TRAINING)
        pruned.append(zero_columns(loaded))
    first, both = pruned
    assert 0 < first.sum() < both.sum() and both[first].all()


def test_the_teacher_is_the_first_model_or_the_last(loaded, few):
    """In the first request they are the same; then they differ."""
    ends = {}
    for teacher in ("vanilla", "last"):
        for count in (1, 2):
            model = copy_model(loaded)
            series(model, few, requests=make_requests(few.forget, 1)[:count], teacher=teacher)
            ends[teacher, count] = weights_hash(model.model.state_dict())
    assert ends["vanilla", 1] == ends["last", 1] and ends["vanilla", 2] != ends["last", 2]


def test_kl_min_agrees_with_its_teacher(loaded, tasks):
    other = copy_model(loaded)
    with torch.no_grad():
        for p in other.model.parameters():
            p.mul_(1.01)
    from vkdlib.tasks import Steps

    method = make_method("KL_Min", trained="visual")
    given = method.prepare(loaded, tasks, Steps(teacher=other)).teacher
    assert given and all(torch.equal(t, other.model.get_parameter(n)) for n, t in given.items())


def test_bad_requests(loaded, few, tmp_path):
    ids = [p.id for p in few.forget]
    stranger = few.retain[0].id
    before = weights_hash(loaded.model.state_dict())
    for requests, message in (
        ([[ids[0]], [stranger]], f"request 2 is for person '{stranger}', who is not there: the forget "),
        ([[ids[0]], [ids[1], ids[0]]], f"for person '{ids[0]}', whom request 1 has forgotten already"),
        ([[ids[0], ids[0]]], "whom request 1 has forgotten already"),
        ([[ids[0]], []], "there is no request, or one for nobody"),
        ([ids[0]], "it must be a list of ids"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            series(loaded, few, requests=requests, folder=tmp_path / "series")
    with pytest.raises(ValueError, match="there is no request"):
        check_requests([], few.forget)
    with pytest.raises(ValueError, match="teacher is 'first'; it must be one of vanilla, last"):
        series(loaded, few, teacher="first", folder=tmp_path / "series")
    with pytest.raises(ValueError, match="lr is 0; it must be a number above 0"):
        series(loaded, few, lr=0, folder=tmp_path / "series")
    assert not (tmp_path / "series").exists()
    assert weights_hash(loaded.model.state_dict()) == before


def test_a_folder_of_another_series_is_refused(loaded, few, tmp_path):
    series(copy_model(loaded), few, size=3, folder=tmp_path)
    with pytest.raises(ValueError, match="holds another series of requests, or one with other settings"):
        series(copy_model(loaded), few, size=1, folder=tmp_path)
    weights = tmp_path / "request-1" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="request-1 is damaged: delete it"):
        series(copy_model(loaded), few, size=3, folder=tmp_path)


def test_a_series_is_a_run(home, few, monkeypatch):
    """Its answers are those of any run, and multiple choice after each request; its model is kept."""
    two = replace(few, forget=few.forget[:2])
    monkeypatch.setattr(pipeline, "pose_task", lambda benchmark, c: two)
    c = Configuration(
        settings={"keep": "features"},
        training=TRAINING,
        kinds=["classification"],
        requests=1,
        teacher="last",
    )
    run = experiments.run("x", c)
    asked = run.predictions.groupby("kind")["set"].unique().map(set)
    assert asked["classification"] == {"forget", "retain"} == asked["classification, request 2"]
    assert asked["classification, request 0"] == {"forget, to come", "retain"}
    assert run.report["steps"] == 4 and run.report["seconds"] > 0
    assert run.history.people.tolist() == [1, 1] and run.history.steps.tolist() == [2, 2]
    assert not (run.folder / "series").exists() and (run.folder / "delta.safetensors").exists()
    rows = run.predictions.set_index(["set", "modality", "question"])
    last = rows[rows.kind == "classification, request 2"].score
    assert last.equals(rows[rows.kind == "classification"].score[last.index])
    with pytest.raises(ValueError, match="teacher is 'last', and requests is 0"):
        experiments.run("x", replace(c, requests=0))
