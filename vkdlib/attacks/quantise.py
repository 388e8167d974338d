"""Quantisation: small edits of weights may be rounded away, and with them what was unlearned.

Zhang et al. 2024, "Catastrophic failure of LLM unlearning via quantization". Weights go through bitsandbytes'
own rounding and back. So the visual module can be attacked as well, which no library quantises, and on a CPU.
"""

import contextlib
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from vkdlib.models.loaded import Loaded
from vkdlib.system.checks import check_names, one_of

ROUNDINGS = ("int8", "nf4")


@contextlib.contextmanager
def quantise(loaded: Loaded, kind: str, names: Collection[str] | None = None) -> Iterator[None]:
    """Within: weights of linear layers are what quantisation leaves of them.

    Args:
        kind: one of ROUNDINGS.
        names: of the weights, for example `edited_weights`; those that belong to no linear layer stay as they
            are. None: every linear layer but the one that makes logits, which no library quantises.
    Raises:
        ImportError: bitsandbytes is not installed.
        ValueError: a kind or a name is not known, or weights are quantised already.
    """
    one_of("quantise", kind, ROUNDINGS)
    everything = dict(loaded.model.named_parameters())
    check_names(loaded.name, names or (), everything)
    layers = [m for m in loaded.model.modules() if isinstance(m, nn.Linear)]
    linear = {m.weight for m in layers} - {loaded.model.get_output_embeddings().weight}
    chosen = [p for n, p in everything.items() if p in linear and (names is None or n in names)]
    if any(not p.is_floating_point() for p in chosen):
        raise ValueError(f"{loaded.name} is quantised already: load it without quantise")
    before = [p.detach().clone() for p in chosen]
    try:
        with torch.no_grad():
            for p in chosen:
                p.copy_(round_trip(p, kind))
        yield
    finally:
        with torch.no_grad():
            for p, weight in zip(chosen, before):
                p.copy_(weight)


def round_trip(weight: Tensor, kind: str) -> Tensor:
    """A weight after quantisation and back, as `loading.quantisation` sets it.

    Args:
        weight: (out, in). "int8": each row has one scale. "nf4": each block of 64 numbers has one, which is
            quantised itself.
    """
    try:
        from bitsandbytes import functional
    except ImportError as error:
        raise ImportError(
            f"quantise is {kind!r}, which needs bitsandbytes, and it cannot be used ({error}): pip install "
            "bitsandbytes"
        ) from error
    if kind == "int8":
        values, scales, _ = functional.int8_vectorwise_quant(weight.detach().clone())
        return functional.int8_vectorwise_dequant(values, scales).to(weight.dtype)
    packed, state = functional.quantize_4bit(weight.detach(), quant_type=kind, compress_statistics=True)
    return functional.dequantize_4bit(packed, state).to(weight.dtype)


def edited_weights(loaded: Loaded, vanilla: Loaded) -> set[str]:
    """Names of the weights that unlearning changed."""
    theirs = dict(vanilla.model.named_parameters())
    check_names(vanilla.name, dict(loaded.model.named_parameters()), theirs)
    return {n for n, p in loaded.model.named_parameters() if not torch.equal(p, theirs[n].to(p.device))}
