"""LoRA adapters: small trained layers beside frozen ones, for models too large to train as a whole."""

from collections.abc import Iterable

import torch
from torch import nn

from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import live_blocks
from vkdlib.models.weights import compute_in

RANK, ALPHA = 16, 16  # as in MLLMU-Bench's and MMUnlearner's unlearning; their dropout of 0.05 is left out


def attach_adapters(modules: Iterable[nn.Module], rank: int = RANK, alpha: int = ALPHA) -> None:
    """Put fp32 adapters beside all linear layers of some modules.

    They start at zero, so the model computes what it did before. In a module in half precision they compute
    in it, too. Each module is handled separately because peft matches the ends of names: on a whole model,
    names of the language model would match the vision tower too.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in modules:
            linear = {n.rsplit(".", 1)[-1] for n, m in module.named_modules() if isinstance(m, nn.Linear)}
            config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=sorted(linear))
            first = next(p for p in module.parameters() if p.is_floating_point())
            dtype, device = first.dtype, first.device.type  # of a quantised module: those of its embedding
            inject_adapter_in_model(config, module)
            for layer in (m for m in module.modules() if isinstance(m, LoraLayer) and dtype != torch.float32):
                compute_in(layer, dtype, device)
            for p in adapter_weights(module).values():
                p.data = p.data.float()


def adapter_weights(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of the adapters in a module: name -> parameter; empty if it has none."""
    return {n: p for n, p in module.named_parameters() if "lora_" in n}


def adaptable_modules(loaded: Loaded) -> list[nn.Module]:
    """The language model, the live vision blocks and the projector."""
    family, model = loaded.family, loaded.model
    return [family.language(model), *live_blocks(loaded), family.projector(model)]


def lora_parameters(loaded: Loaded) -> dict[str, nn.Parameter]:
    """Weights of the adapters on `adaptable_modules`, which are attached if there are none yet: name in the
    model -> parameter."""
    if not adapter_weights(loaded.model):
        attach_adapters(adaptable_modules(loaded))
    return adapter_weights(loaded.model)


def merge_adapters(module: nn.Module) -> None:
    """Add the adapters of a module to the weights beside them, and remove them.

    A layer in half precision becomes fp32, and is left on the CPU: what was learnt is finer than half
    precision can hold.
    """
    if not adapter_weights(module):
        return  # without peft, which takes seconds to import
    from peft.tuners.lora import LoraLayer

    for name, layer in [(n, m) for n, m in module.named_modules() if isinstance(m, LoraLayer)]:
        if not layer.get_base_layer().weight.is_floating_point():
            raise ValueError("quantised weights cannot take adapters in: load the model without quantise")
        if layer.get_base_layer().weight.dtype != torch.float32:
            layer.to("cpu", torch.float32)
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, layer.get_base_layer())
