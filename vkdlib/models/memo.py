"""Passes that several runs of one process have in common are made once.

Importance (Eq. 6), Fisher information (Eq. 9), MANU's statistics and a teacher's features (Eq. 4) follow
from weights, packs and few settings. They are the same for every alpha, beta and learning rate. A result is
known by the content that it was computed from, and kept in memory alone: it is never stale.
"""

import copy
import functools
import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.packs.pack import Pack
from vkdlib.system import processes

ROOM = 1 << 30  # bytes of results that are kept; weights of a larger model are not hashed for it
RESULTS: OrderedDict[str, object] = OrderedDict()  # content -> result; what was used last is last


def memo(work: Callable) -> Callable:
    """Decorator of work(loaded, ...): from the same content, a copy of the result of the first call.

    The work must depend on nothing but its arguments, and change nothing. Its result is a tensor, or mappings
    of tensors.
    """

    @functools.wraps(work)
    def remembered(loaded: Loaded, *arguments, **named):
        if sum(p.nbytes for p in loaded.model.parameters()) > ROOM:
            return work(loaded, *arguments, **named)
        call = inspect.signature(work).bind(loaded, *arguments, **named)
        call.apply_defaults()
        key = content_hash(work.__qualname__, loaded, call.arguments)
        if key not in RESULTS:
            RESULTS[key] = work(loaded, *arguments, **named)
        RESULTS.move_to_end(key)
        result = copy.deepcopy(RESULTS[key])
        while sum(map(nbytes, RESULTS.values())) > ROOM:
            RESULTS.popitem(last=False)
        return result

    return remembered


def content_hash(work: str, loaded: Loaded, arguments: Mapping) -> str:
    """sha256 of all that the result of a work depends on, to the last bit: also what rounding depends on."""
    model = loaded.model
    names = {part: name for name, part in (*model.named_modules(), *model.named_parameters())}
    facts = {"work": work, "arguments": {n: value for n, value in arguments.items() if n != "loaded"}}
    facts |= {"weights": weights_hash(model.state_dict()), "config": model.config.to_dict()}
    facts |= {"device": str(loaded.device), "threads": torch.get_num_threads()}
    facts |= {"processes": processes.rank_and_size()}
    return hashlib.sha256(content(facts, names).encode()).hexdigest()


def content(value, names: Mapping) -> str:
    """A text that tells values from others.

    Args:
        names: of the model's modules and parameters, which stand for them.
    """
    if isinstance(value, nn.Module | nn.Parameter):
        return repr(names[value])
    if isinstance(value, Tensor):
        return weights_hash({"": value})
    if isinstance(value, Pack):
        return content(vars(value), names)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {content(v, names)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(content(v, names) for v in value) + "]"
    return repr(value)


def nbytes(result) -> int:
    """Bytes of the tensors in a result."""
    return result.nbytes if isinstance(result, Tensor) else sum(map(nbytes, result.values()))
