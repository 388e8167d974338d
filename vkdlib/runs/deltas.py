"""Deltas: the weights that unlearning changed, with the hash of the model they belong to."""

from pathlib import Path

import torch
from torch import Tensor

from vkdlib.models.adapters import lora_parameters
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.system.files import whole_file
from vkdlib.system.paths import RunError


def changed_weights(loaded: Loaded, before: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters that differ from their values in `before`, by name, on the CPU.

    Adapters are there in any case: the model that the changes are put into does not have them.
    """
    now = {name: loaded.model.get_parameter(name).detach().cpu() for name in before}
    return {n: now[n] for n, old in before.items() if "lora_" in n or not torch.equal(now[n], old.cpu())}


def save_delta(file: Path, delta: dict[str, Tensor], base_hash: str) -> None:
    """Write changed tensors with the hash of the weights they apply to."""
    from safetensors.torch import save_file

    with whole_file(file) as temporary:
        save_file(delta, temporary, metadata={"applies_to": base_hash})


def apply_delta(loaded: Loaded, file: Path) -> None:
    """Turn a vanilla model into the unlearned one, in place.

    Raises:
        RunError: the delta belongs to another model.
    """
    from safetensors import safe_open

    with safe_open(file, "pt") as saved:
        expected = saved.metadata()["applies_to"]
        actual = weights_hash(loaded.model.state_dict())
        if actual != expected:
            raise RunError(
                f"{file} applies to weights {expected[:12]}, {loaded.name} has {actual[:12]}: "
                "load the vanilla model that the run started from"
            )
        delta = {name: saved.get_tensor(name) for name in saved.keys()}
    if any("lora_" in name for name in delta):
        lora_parameters(loaded)
    unknown = loaded.model.load_state_dict(delta, strict=False).unexpected_keys
    if unknown:
        raise RunError(
            f"{file} holds {unknown[0]}, which {loaded.name} does not have: other library versions?"
        )
