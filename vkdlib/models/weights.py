"""Weights: whole and finite, and in which precision each part of a model has them."""

from pathlib import Path
from types import MethodType

import torch
from torch import nn

from vkdlib.models.families import Family
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import visual_weights

LONGEST = 4  # weights that an error names


def check_complete(name: str, folder: Path, report: dict) -> None:
    """Raise ValueError if a folder's files do not hold the weights of the model, each in its shape.

    transformers would make up what is missing, at random, and leave out what it does not know.

    Args:
        report: what `from_pretrained` returns with output_loading_info.
    """
    shapes = [f"{key} is {tuple(a)}, not {tuple(b)}" for key, a, b in report["mismatched_keys"]]
    kinds = {
        "missing": report["missing_keys"],
        "of another shape": shapes,
        "unknown": report["unexpected_keys"],
    }
    problems = []
    for kind, keys in kinds.items():
        more = f" and {len(keys) - LONGEST} more" if len(keys) > LONGEST else ""
        problems += [f"{kind}: {', '.join(sorted(keys)[:LONGEST])}{more}"] if keys else []
    if problems:
        files = ", ".join(str(f) for f in weight_files(folder))
        raise ValueError(
            f"model {name}: {files} has other weights than the model of {folder / 'config.json'}; "
            f"{'; '.join(problems)}. Restore the folder, or save the model again as a whole"
        )


def check_weights_finite(name: str, folder: Path) -> None:
    """Raise ValueError if a weight in a folder's files is NaN or infinite.

    The files are read, not the model: NF4 rounds a NaN to a number.
    """
    from safetensors import safe_open

    for file in weight_files(folder):
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():
                weight = tensors.get_tensor(key)
                if not weight.is_floating_point():  # a buffer may be; it has another name
                    flaw = (
                        f"of type {weight.dtype}, no floating-point number"
                        if key.endswith((".weight", ".bias"))
                        else None
                    )
                else:  # one pass and no copy: a NaN anywhere becomes smallest and largest
                    finite = not weight.numel() or torch.stack(torch.aminmax(weight)).isfinite().all()
                    flaw = None if finite else "NaN or infinite somewhere"
                if flaw:
                    raise ValueError(f"model {name}: {key} in {file} is {flaw}: restore the file")


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights."""
    return sorted(folder.glob("*.safetensors"))


def mix_precision(loaded: Loaded, dtype: torch.dtype, device: str) -> None:
    """Put all but the visual module into `dtype`; the visual module computes in it on fp32 weights.

    Args:
        device: where the model will be, for the visual module's computation.
    """
    visual = visual_weights(loaded)
    for p in loaded.model.parameters():
        if p.is_floating_point() and p not in visual:
            p.data = p.data.to(dtype)
    for module in (loaded.family.tower(loaded.model), loaded.family.projector(loaded.model)):
        compute_in(module, dtype, torch.device(device).type)


def compute_in(module: nn.Module, dtype: torch.dtype, device: str) -> None:
    """Let a module compute in `dtype`, whatever type its weights have.

    Args:
        device: type of the device that it will be on: "cpu", "cuda", "mps".
    """
    forward = torch.autocast(device, dtype)(type(module).forward)
    module.forward = MethodType(forward, module)  # of a copy of the module: the copy's own


def quantisation(kind: str, config, family: Family, dtype: torch.dtype):
    """What bitsandbytes must be told to quantise the language model's linear layers alone."""
    from transformers import BitsAndBytesConfig

    four_bits = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }
    options = {"nf4": four_bits, "int8": {"load_in_8bit": True}}[kind]
    return BitsAndBytesConfig(llm_int8_skip_modules=full_precision_names(config, family), **options)


def full_precision_names(config, family: Family) -> list[str]:
    """Names of the modules that are not quantised: vision tower, projector, the layer that makes logits.

    Found in a model without weights, because bitsandbytes wants names.
    """
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    full = (family.tower(model), family.projector(model), model.get_output_embeddings())
    return [name for name, module in model.named_modules() if module in full]


def check_quantised(loaded: Loaded) -> None:
    """Raise if quantisation went wrong; make sure that gradients pass through the quantised layers.

    Raises:
        RuntimeError: anything but the language model's linear layers is quantised, or one of them is not.
        ValueError: one of them had another shape in the file, of which transformers says nothing here.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    language = {m for m in loaded.family.language(loaded.model).modules() if isinstance(m, nn.Linear)}
    quantised = {m for m in loaded.model.modules() if isinstance(m, (Linear4bit, Linear8bitLt))}
    for name, m in loaded.model.named_modules():
        if m in quantised ^ language:
            raise RuntimeError(f"{loaded.name}: quantisation went wrong at {name}")
        if m in quantised:
            state = getattr(m.weight, "quant_state", None)  # NF4 packs two weights into a byte
            shape = tuple(state.shape if state else m.weight.shape)
            if shape != (m.out_features, m.in_features):
                raise ValueError(
                    f"model {loaded.name}: {name}.weight is {shape}, not {(m.out_features, m.in_features)}"
                )
            # In evaluation mode bitsandbytes repacks NF4 weights on a CPU for a kernel without a gradient:
            # wrong gradients, and only a warning. These layers behave the same in both modes otherwise.
            m.train()
