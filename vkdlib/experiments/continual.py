"""Continual unlearning: requests come one after another, each starting from the model that the last one left.

VKD paper, §1 ("data deletion requests occur frequently and arrive sequentially"). People whose request is
still to come are retain people until then; those who are forgotten take no further part.
"""

import copy
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from vkdlib.benchmarks.schema import Person, Split
from vkdlib.evaluation.evaluate import PREDICTIONS, evaluate
from vkdlib.methods.base import Method
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.runs.configuration import TEACHERS
from vkdlib.system import checks, files
from vkdlib.tasks import Tasks, make_tasks, person_of
from vkdlib.unlearning import check_pictures, make_training, training_facts, unlearn

TO_COME = ", to come"  # ends the name of a set
SPENT = "request people steps seconds".split()
Requests = Sequence[Sequence[str]]  # ids of the people of each request


def make_requests(people: Sequence[Person], size: int) -> list[tuple[str, ...]]:
    """Requests of so many people each, in the order of the people."""
    checks.number("size", size, 1, whole=True)
    ids = [person.id for person in people]
    return [tuple(ids[start : start + size]) for start in range(0, len(ids), size)]


def unlearn_requests(
    loaded: Loaded,
    split: Split,
    method: Method,
    requests: Requests,
    *,
    teacher: str = "vanilla",
    unlabelled: Sequence[bytes] = (),
    folder: Path | str | None = None,
    evaluation: dict | None = None,
    **training,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Unlearn in place, request by request; ask all questions before the first and after each.

    Args:
        requests: of the split's forget people, each of them in one request at most. All in one request is the
            ordinary way, to compare with.
        teacher: whom the student agrees with: the first "vanilla" model, of which a copy is kept, or the
            "last" one, which has forgotten the people before.
        unlabelled: as of `tasks.make_tasks`.
        folder: keeps finished requests and checkpoints. A series that was killed goes on from there, with the
            same bits.
        evaluation: arguments of `evaluate`.
        training: fields of `unlearning.Training`; `epochs` are those of each request. The seed counts on from
            one request to the next, so that each sees other retain pictures.
    Returns:
        predictions as of `evaluate`, with columns request (0: before the first) and state of the person:
        "forgotten" by then, "to come", or "kept"; and what was spent: columns request, people, steps,
        seconds.
    Raises:
        ValueError: a request for someone who is not there or is forgotten already, an argument that is not
            allowed, or a folder of another series; nothing was computed.
    """
    check_requests(requests, split.forget)
    checks.one_of("teacher", teacher, TEACHERS)
    regime, folder = make_training(**training), folder and Path(folder)
    tasks = make_tasks(loaded, split, None, method.views, unlabelled)
    check_pictures(tasks, method)
    if folder:
        facts = training_facts(loaded, tasks, method, regime)
        open_series(folder, facts | {"requests": list(map(list, requests)), "teacher": teacher})
    vanilla = replace(loaded, model=copy.deepcopy(loaded.model)) if teacher == "vanilla" else None
    tables, spent = [], []
    for number in range(len(requests) + 1):
        done = folder and folder / f"request-{number}"
        if done and done.exists():
            rows, row = restore_request(done, loaded, method)
        else:
            row = {"request": number, "people": 0, "steps": 0, "seconds": 0.0}
            if number:
                batch = request_tasks(tasks, requests, number)
                arguments = training | {"seed": regime.seed + number - 1, "teacher": vanilla}
                checkpoint = folder and folder / f"checkpoint-{number}"
                row |= _unlearn(loaded, batch, method, checkpoint, arguments)
                row["people"] = len(requests[number - 1])
            rows = evaluate(loaded, split, **evaluation or {})
            if done:
                keep_request(done, loaded, method, rows, row)
                shutil.rmtree(folder / f"checkpoint-{number}", ignore_errors=True)
        tables.append(rows.assign(request=number, state=_states(rows.person, requests, number)))
        spent.append(row)
    return pd.concat(tables, ignore_index=True), pd.DataFrame(spent[1:], columns=SPENT)


def series_predictions(rows: pd.DataFrame) -> pd.DataFrame:
    """What `unlearn_requests` returns as predictions: the number of the request ends the kind, as in
    "classification, request 3", and TO_COME the set of people whose request is still to come."""
    kinds = rows.kind + ", request " + rows.request.astype(str)
    sets = rows.set + (rows.state == "to come").map({True: TO_COME, False: ""})
    return rows.assign(kind=kinds, set=sets)[PREDICTIONS]


def check_requests(requests: Requests, people: Sequence[Person]) -> None:
    """Raise ValueError unless each request is for people to forget, none of whom an earlier one was for."""
    if not requests or not all(requests):
        raise ValueError("there is no request, or one for nobody: give each the ids of some forget people")
    known, earlier = [person.id for person in people], {}
    for number, ids in enumerate(requests, 1):
        if isinstance(ids, str):
            raise ValueError(f"request {number} is {ids!r}; it must be a list of ids")
        for i in ids:
            if i not in known:
                raise ValueError(
                    f"request {number} is for person {i!r}, who is not there: the forget people are "
                    f"{', '.join(known)}"
                )
            if i in earlier:
                raise ValueError(
                    f"request {number} is for person {i!r}, whom request {earlier[i]} has forgotten already"
                )
            earlier[i] = number


def request_tasks(tasks: Tasks, requests: Requests, number: int) -> Tasks:
    """What a request trains on: its people to forget; to retain, retain people and those to come.

    Args:
        tasks: with the people of all requests to forget.
        number: of the request, from 1.
    """
    now = set(requests[number - 1])
    gone = {i for ids in requests[:number] for i in ids}  # with those of this request
    forget_vqa = tuple(p for p in tasks.forget_vqa if person_of(p) in now)
    forget_qa = tuple(p for p in tasks.forget_qa if p.key in now)
    to_come = tuple(replace(p, views=()) for p in tasks.forget_vqa if person_of(p) not in gone)
    text_to_come = tuple(p for p in tasks.forget_qa if p.key not in gone)
    retain = (*tasks.retain_vqa, *to_come), forget_qa, (*tasks.retain_qa, *text_to_come)
    return Tasks(forget_vqa, *retain, tasks.unlabelled)


def _unlearn(loaded: Loaded, tasks: Tasks, method: Method, folder: Path | None, arguments: dict) -> dict:
    """Unlearn one request; returns the steps and seconds that it took, since its last checkpoint."""
    start = time.perf_counter()
    history, _ = unlearn(loaded, tasks, method, folder=folder, **arguments)
    return {"steps": len(history), "seconds": time.perf_counter() - start}


def _states(people: pd.Series, requests: Requests, number: int) -> list[str]:
    """What has become of each person after a request: "forgotten", "to come" or "kept"."""
    when = {i: n for n, ids in enumerate(requests, 1) for i in ids}
    state = {i: "forgotten" if n <= number else "to come" for i, n in when.items()}
    return [state.get(i, "kept") for i in people]


def open_series(folder: Path, facts: dict) -> None:
    """Make the folder of a series, or make sure that it is this series'.

    Raises:
        ValueError: another series is in there.
    """
    file, text = folder / "series.json", json.dumps(facts, sort_keys=True)
    files.make_folder(folder)
    if not file.exists():
        with files.whole_file(file) as temporary:
            temporary.write_text(text)
    elif file.read_text() != text:
        raise ValueError(
            f"{folder} holds another series of requests, or one with other settings: choose another folder, "
            "or delete it to start afresh"
        )


def keep_request(folder: Path, loaded: Loaded, method: Method, rows: pd.DataFrame, spent: dict) -> None:
    """Write what a finished request leaves; the folder appears whole or not at all."""
    from safetensors.torch import save_file

    weights = {name: p.detach() for name, p in method.scope(loaded).items()}
    with files.whole_folder(folder) as temporary:
        save_file(weights, temporary / "weights.safetensors", metadata={"hash": weights_hash(weights)})
        rows.to_parquet(temporary / "predictions.parquet", index=False)
        files.write_json(temporary / "spent.json", spent)


@torch.no_grad()
def restore_request(folder: Path, loaded: Loaded, method: Method) -> tuple[pd.DataFrame, dict]:
    """Put in place the weights that a finished request left; its predictions, and what it spent.

    Raises:
        ValueError: the weights were changed since.
    """
    from safetensors import safe_open

    with safe_open(folder / "weights.safetensors", "pt") as saved:
        weights = {name: saved.get_tensor(name) for name in saved.keys()}
        if weights_hash(weights) != saved.metadata()["hash"]:
            raise ValueError(
                f"{folder} is damaged: delete it, and those of later requests, to go on from before"
            )
    for name, p in method.scope(loaded).items():
        p.copy_(weights[name])
    return pd.read_parquet(folder / "predictions.parquet"), files.read_json(folder / "spent.json")
