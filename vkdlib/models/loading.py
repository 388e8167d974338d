"""Load models: embedded ones, folders and the Hub's; in full or half precision, or quantised.

What is trained, the vision tower and the projector, always has fp32 weights, whatever type the language
model has: at the learning rates in use, most steps are too small to change a bf16 weight.
"""

import hashlib
import json
from pathlib import Path

import torch

from vkdlib.models.families import Family, family_of
from vkdlib.models.loaded import Loaded
from vkdlib.system import paths
from vkdlib.system.files import file_hash
from vkdlib.system.progress import silence_transformers

DTYPES = ("float32", "bfloat16", "float16")
QUANTISATIONS = ("nf4", "int8")


def load(
    name: str,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
    quantise: str | None = None,
    max_pixels: int | None = None,
) -> Loaded:
    """Load a model in evaluation mode.

    Args:
        name: "testbed/llava/base", "testbed/llava-mllmu/vanilla" (or retain-only-5, …), a folder, or
            an id of the Hugging Face Hub.
        revision: commit on the Hub; None takes the newest.
        dtype: of the language model, and of the computation in the visual module, whose weights stay in
            fp32.
        device: where to, all of it; None takes a GPU if there is one.
        quantise: "nf4" or "int8" (bitsandbytes): the language model's linear layers, and nothing else.
        max_pixels: pictures with more pixels are made smaller; for families that take pictures of any size
            (Qwen). None: the limit in the checkpoint's own files, which may be 16,000 tokens a picture.
    Raises:
        FileNotFoundError, ValueError: no such model, a family that is not known, a damaged file, a revision
            of what is not on the Hub, a device that is no single one.
    """
    if quantise not in (None, *QUANTISATIONS):
        raise ValueError(f"quantise is {quantise!r}; it must be None or one of {', '.join(QUANTISATIONS)}")
    if device == "auto":  # losses, masks and logits_to_keep would meet tensors of another device
        raise ValueError(
            'device is "auto"; a model is never spread over devices. Make it smaller with dtype or quantise; '
            "`accelerate launch -m vkdlib.experiments` uses several GPUs, each with the whole model"
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    half = dtype != torch.float32  # then the fp32 weights are read beside the device
    place = device if quantise or not half else "cpu"
    model, processor, family = _read(name, revision, dtype, place, quantise, max_pixels)
    _limit_context(model, processor)
    model.config.get_text_config().use_cache = False  # a cache is for generation, which asks for one
    loaded = Loaded(model.eval(), processor, family, name, {"dtype": dtype, "quantise": quantise})
    if quantise:
        _check_quantised(loaded)
    if half:
        _mix(loaded, dtype, device)
    if half and not quantise:
        model.to(device)
    return loaded


def _read(
    name: str,
    revision: str | None,
    dtype: torch.dtype,
    device: str,
    quantise: str | None,
    max_pixels: int | None,
) -> tuple:
    """Model in fp32 (but what is quantised), processor and family from a folder or the Hub; arguments as
    `load`."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    folder = model_folder(name, revision)
    _check_shipped(name, folder)
    silence_transformers()
    try:
        common = {"revision": revision, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(folder, **common)
        family = family_of(config)
        processor = family.processor(folder, max_pixels, **common)
        model = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=torch.float32,  # half-precision copies of the visual weights would already be rounded
            use_safetensors=True,
            device_map={"": device},
            quantization_config=quantise
            and _quantisation(quantise, full_precision_names(config, family), dtype),
            **common,
        )
    except OSError as error:
        raise FileNotFoundError(f"model {name}: {error}") from error
    except Exception as error:
        if "safetensor" not in type(error).__name__.lower():
            raise
        raise ValueError(f"model {name}: its weights are damaged ({error})") from error
    return model, processor, family


def _limit_context(model, processor) -> None:
    """Tell the tokenizer how long a text the model takes; many do not know."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context:
        tokenizer = processor.tokenizer
        tokenizer.model_max_length = min(tokenizer.model_max_length, context)


def full_precision_names(config, family: Family) -> list[str]:
    """Names of the modules that stay as they are: vision tower, projector, the layer that makes logits.

    Found in a model without weights, because bitsandbytes wants names.
    """
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    kept = (family.tower(model), family.projector(model), model.get_output_embeddings())
    return [name for name, module in model.named_modules() if module in kept]


def _quantisation(kind: str, kept: list[str], dtype: torch.dtype):
    from transformers import BitsAndBytesConfig

    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=kept,
    )


def _check_quantised(loaded: Loaded) -> None:
    """Raise RuntimeError if anything but the language model's linear layers was quantised, or one of them
    was not; make sure that gradients pass through them."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    linear = torch.nn.Linear  # the quantised ones are subclasses
    language = {m for m in loaded.family.language(loaded.model).modules() if isinstance(m, linear)}
    chosen = {m for m in loaded.model.modules() if isinstance(m, (Linear4bit, Linear8bitLt))}
    if chosen != language:
        wrong = next(n for n, m in loaded.model.named_modules() if m in chosen ^ language)
        raise RuntimeError(f"{loaded.name}: quantisation went wrong at {wrong}")
    for m in chosen:
        # In evaluation mode bitsandbytes repacks NF4 weights on a CPU for a kernel without a gradient:
        # wrong gradients, and only a warning. These layers behave the same in both modes otherwise.
        m.train()


def _mix(loaded: Loaded, dtype: torch.dtype, device: str) -> None:
    """Put all but the visual module into `dtype`; the visual module computes in it on fp32 weights.

    Args:
        device: where the model will be, for the visual module's computation.
    """
    visual = (loaded.family.tower(loaded.model), loaded.family.projector(loaded.model))
    masters = {p for module in visual for p in module.parameters()}
    for p in loaded.model.parameters():
        if p.is_floating_point() and p not in masters:
            p.data = p.data.to(dtype)
    for module in visual:
        module.forward = torch.autocast(torch.device(device).type, dtype)(module.forward)


def model_folder(name: str, revision: str | None = None) -> str:
    """Path of an embedded model, or the name itself (a folder or a Hub id).

    Raises:
        FileNotFoundError: there is no such embedded model.
        ValueError: a revision of what is not on the Hub.
    """
    if revision and (name.startswith("testbed/") or Path(name).is_dir()):
        raise ValueError(
            f"revision is {revision!r}, a commit on the Hub; the model {name} is not from there: leave it out"
        )
    if not name.startswith("testbed/"):
        return name
    folder = paths.CHECKPOINTS / name.removeprefix("testbed/")
    cached = paths.cached_models() / name.removeprefix("testbed/")
    for place in (folder, cached):
        if (place / "config.json").exists():
            return str(place)
    shipped = sorted(str(p.parent.relative_to(paths.CHECKPOINTS)) for p in
                     paths.CHECKPOINTS.glob("*/*/config.json"))  # fmt: skip
    raise FileNotFoundError(
        f"{name}: not shipped and not trained yet. Shipped: {', '.join(shipped)}; train it with "
        f"`python -m vkdlib.testbed build --only {name.removeprefix('testbed/')}`"
    )


def files_hash(name: str) -> str:
    """sha256 of a model's weight files, without loading them; of its name if it is on the Hub."""
    parts = [file_hash(f) for f in sorted(Path(model_folder(name)).glob("*.safetensors"))] or [name]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def settings_hash(folder: str) -> str:
    """sha256 of all files of a model's folder but the weights: its processor, tokenizer, chat template."""
    digest = hashlib.sha256()
    for file in sorted(f for f in Path(folder).iterdir() if f.is_file() and f.suffix != ".safetensors"):
        digest.update(f"{file.name} {file_hash(file)} ".encode())
    return digest.hexdigest()


def _check_shipped(name: str, folder: str) -> None:
    """Raise ValueError if a file of an embedded model is not that of the manifest beside it."""
    manifest = Path(folder).parent.parent / "manifest.json"
    if not name.startswith("testbed/") or not manifest.exists():
        return
    facts = json.loads(manifest.read_text())["models"].get(name.removeprefix("testbed/"), {})
    for file, expected in facts.get("files", {}).items():
        if not Path(folder, file).exists() or file_hash(Path(folder, file)) != expected:
            raise ValueError(
                f"model {name}: {folder}/{file} is not the file of {manifest}; restore it, or train the "
                f"model again with `python -m vkdlib.testbed build`"
            )
