"""Load models: embedded ones, folders and the Hub's; in full or half precision, or quantised.

What is trained, the vision tower and the projector, always has fp32 weights, whatever type the language
model has: at the learning rates in use, most steps are too small to change a bf16 weight.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from vkdlib.benchmarks.pictures import to_png
from vkdlib.models import DTYPES, QUANTISATIONS
from vkdlib.models.families import family_of
from vkdlib.models.folders import check_shipped, model_folder
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import visual_features
from vkdlib.models.weights import (
    check_complete,
    check_quantised,
    check_weights_finite,
    full_precision_names,
    mix_precision,
    quantisation,
)
from vkdlib.packs.pack import make_pack
from vkdlib.system import checks
from vkdlib.system.progress import silence_transformers


def load(
    name: str | Path,
    revision: str | None = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
    quantise: str | None = None,
    max_pixels: int | None = None,
) -> Loaded:
    """Load a model in evaluation mode.

    Args:
        name: "testbed/llava/base", "testbed/llava-mllmu/vanilla" (or retain-only-5, …), a folder, or
            an id of the Hugging Face Hub.
        revision: commit on the Hub; None takes the newest.
        dtype: one of DTYPES: of the language model, and of the computation in the visual module, whose
            weights stay in fp32.
        device: where to, all of it; None takes a GPU if there is one.
        quantise: "nf4" or "int8" (bitsandbytes): the language model's linear layers, and nothing else.
        max_pixels: pictures with more pixels are made smaller; for families that take pictures of any size
            (Qwen). None: the limit in the checkpoint's own files, which may be 16,000 tokens a picture.
    Raises:
        FileNotFoundError: there is no such model.
        ValueError: a family that is not known; files that are damaged, or do not belong together; an
            argument that is not as above.
    """
    name, dtype = str(name), str(dtype).removeprefix("torch.")
    checks.one_of("dtype", dtype, DTYPES)
    checks.one_of("quantise", quantise, QUANTISATIONS)
    if max_pixels is not None:
        checks.number("max_pixels", max_pixels, 1, whole=True)
    device, half = _device(device), dtype != "float32"
    place = device if quantise or not half else "cpu"  # fp32 weights are read beside the device
    loaded, folder = _read(name, revision, dtype, place, quantise, max_pixels)
    _limit_context(loaded)
    loaded.model.config.get_text_config().use_cache = False  # a cache is for generation, which asks for one
    if quantise:
        check_quantised(loaded)
    if half:
        mix_precision(loaded, getattr(torch, dtype), device)
    if half and not quantise:
        loaded.model.to(device)
    _check_processor(loaded, folder)
    return loaded


def _device(device: str | torch.device | None) -> str:
    """The device's name, if there is such a one here."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None:
        return "cuda" if gpus else "cpu"
    if device == "auto":  # losses, masks and logits_to_keep would meet tensors of another device
        raise ValueError(
            'device is "auto"; a model is never spread over devices. Make it smaller with dtype or quantise; '
            "`accelerate launch -m vkdlib.experiments` uses several GPUs, each with the whole model"
        )
    known = re.fullmatch(r"cpu|mps|cuda(?::(\d+))?", str(device))
    if not known:
        raise ValueError(f"device is {str(device)!r}; it must be cpu, cuda (the first GPU), cuda:1 … or mps")
    if str(device).startswith("cuda") and int(known[1] or 0) >= gpus:
        raise ValueError(f"device is {str(device)!r}; there are {gpus} GPUs here")
    return str(device)


def _read(
    name: str,
    revision: str | None,
    dtype: str,
    device: str,
    quantise: str | None,
    max_pixels: int | None,
) -> tuple[Loaded, Path]:
    """A model in fp32 (but what is quantised), and the folder with its files; arguments as `load`."""
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import cached_file

    source = model_folder(name, revision)
    check_shipped(name, source)
    silence_transformers()
    try:
        common = {"revision": revision, "trust_remote_code": False}
        with _readable(name, source, "config.json"):
            config = AutoConfig.from_pretrained(source, **common)
        family = family_of(config)
        _check_full_precision(name, config)
        with _readable(name, source, "processor or tokenizer"):
            processor = family.processor(source, max_pixels, **common)
        skip = full_precision_names(config, family) if quantise else []
        model, report = AutoModelForImageTextToText.from_pretrained(
            source,
            dtype=torch.float32,  # half-precision copies of the visual weights would already be rounded
            use_safetensors=True,
            device_map={"": device},
            quantization_config=quantise and quantisation(quantise, skip, getattr(torch, dtype)),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, all of them, by name
            **common,
        )
        folder = Path(cached_file(source, "config.json", revision=revision)).parent
    except OSError as error:
        missing = "" if Path(source).is_dir() else "no such folder here, and not to be had from the Hub: "
        raise FileNotFoundError(f"model {name}: {missing}{error}") from error
    except Exception as error:
        if "safetensor" not in type(error).__name__.lower():
            raise
        raise ValueError(f"model {name}: its weights are damaged ({error})") from error
    check_complete(name, folder, report)
    check_weights_finite(name, folder)
    return Loaded(model.eval(), processor, family, name, {"dtype": dtype, "quantise": quantise}), folder


@contextlib.contextmanager
def _readable(name: str, source: str, files: str) -> Iterator[None]:
    """Within: what a library says of files that it cannot use is said with the model and the files."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"model {name}: the {files} of {source} cannot be used ({error})") from error


def _check_full_precision(name: str, config) -> None:
    """Raise ValueError for a checkpoint that was quantised before: its weights can be neither trained nor
    merged."""
    settings = getattr(config, "quantization_config", None)
    if settings:
        kind = settings.get("quant_method") if isinstance(settings, dict) else settings
        raise ValueError(
            f"model {name} is quantised already (quantization_config in its config.json: {kind}): take the "
            'model that it was made from, and quantise="nf4" or "int8" here'
        )


def _limit_context(loaded: Loaded) -> None:
    """Tell the tokenizer how long a text the model takes; many do not know."""
    context = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if context:
        tokenizer = loaded.processor.tokenizer
        tokenizer.model_max_length = min(tokenizer.model_max_length, context)


def _check_processor(loaded: Loaded, folder: Path) -> None:
    """Raise ValueError if a picture takes other tokens in the processor's text than the model makes of it."""
    file = folder / "processor_config.json"
    file = file if file.exists() else folder / "preprocessor_config.json"
    config, picture = loaded.model.config, to_png(Image.new("RGB", (64, 64)))
    settings = {
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": getattr(config, "vision_feature_select_strategy", None),
    }
    for setting, value in settings.items():
        if value is not None and getattr(loaded.processor, setting, value) is None:
            raise ValueError(
                f"model {loaded.name}: {file} has no {setting}; the model's is {value!r}: add it there"
            )
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    words = len(loaded.processor.tokenizer)
    if words > rows:
        raise ValueError(
            f"model {loaded.name}: the tokenizer of {folder} has {words} tokens, the model's embedding "
            f"{rows}: they do not belong together"
        )
    image_token = loaded.processor.image_token_id
    ids = (image_token, getattr(config, "image_token_id", image_token))
    if ids[0] != ids[1]:
        raise ValueError(
            f"model {loaded.name}: the image token is {ids[0]} by {file}, and {ids[1]} by config.json: they "
            "do not belong together"
        )
    try:
        pack = make_pack(loaded.processor, [("Who?", "Nobody")], picture)
        images = {key: values.to(loaded.device) for key, values in pack.image.items()}
        with torch.no_grad():
            count = len(visual_features(loaded, images))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"model {loaded.name}: {file} does not fit the model, which cannot take a picture so ({error})"
        ) from error
    if pack.image_tokens != count:
        raise ValueError(
            f"model {loaded.name}: by {file} a picture takes {pack.image_tokens} tokens, the model makes "
            f"{count} of it: correct the file (patch_size, merge_size, vision_feature_select_strategy, "
            "num_additional_image_tokens)"
        )
