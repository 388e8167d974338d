"""Load models: embedded ones, folders and the Hub's; in full or half precision, or quantised.

What is trained, the vision tower and the projector, always has fp32 weights, whatever type the language
model has: at the learning rates in use, most steps are too small to change a bf16 weight.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from vkdlib.benchmarks.pictures import to_png
from vkdlib.models import DTYPES, QUANTISATIONS, weights
from vkdlib.models.families import family_of
from vkdlib.models.folders import check_shipped, model_folder
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import visual_features
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
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import cached_file

    name, dtype = str(name), str(dtype).removeprefix("torch.")
    checks.one_of("dtype", dtype, DTYPES)
    checks.one_of("quantise", quantise, QUANTISATIONS)
    if max_pixels is not None:
        checks.number("max_pixels", max_pixels, 1, whole=True)
    device, precision = find_device(device), getattr(torch, dtype)
    if device == "cpu" and dtype == "bfloat16" and not bf16_is_fast():
        warnings.warn(
            'this processor has no instructions for bfloat16 and is slow in it: dtype="float32" is faster, '
            "and takes twice the memory",
            stacklevel=2,
        )
    source, options = model_folder(name, revision), {"revision": revision, "trust_remote_code": False}
    check_shipped(name, source)
    with _readable(name, source, "config.json"):
        config = AutoConfig.from_pretrained(source, **options)
        folder = Path(cached_file(source, "config.json", revision=revision)).parent
    family = family_of(config)
    _check_full_precision(name, config)
    with _readable(name, source, "processor or tokenizer"):
        processor = family.processor(source, max_pixels, **options)
    if quantise:
        options["quantization_config"] = weights.quantisation(quantise, config, family, precision)
    on_cpu = precision != torch.float32 and not quantise  # whose fp32 weights the device need not hold
    with _readable(name, source, "weights"):
        model, report = AutoModelForImageTextToText.from_pretrained(
            source,
            dtype=torch.float32,  # half-precision copies of the visual weights would already be rounded
            use_safetensors=True,
            device_map={"": "cpu" if on_cpu else device},
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, all of them, by name
            **options,
        )
    weights.check_complete(name, folder, report)
    weights.check_weights_finite(name, folder)
    text = config.get_text_config()
    if context := getattr(text, "max_position_embeddings", None):  # many tokenizers do not know it
        processor.tokenizer.model_max_length = min(processor.tokenizer.model_max_length, context)
    model.config.get_text_config().use_cache = False  # a cache is for generation, which asks for one
    loaded = Loaded(model.eval(), processor, family, name, {"dtype": dtype, "quantise": quantise})
    if quantise:
        weights.check_quantised(loaded)
    if precision != torch.float32:
        weights.mix_precision(loaded, precision, device)
    if on_cpu:
        model.to(device)
    if flaw := next(_flaws(loaded, folder), None):
        raise ValueError(f"model {name}: {flaw}")
    return loaded


def find_device(device: str | torch.device | None = None) -> str:
    """The name of a device, if there is one of that name here; of None: the first GPU, else the CPU."""
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
    if str(device) == "mps" and not torch.backends.mps.is_available():
        raise ValueError(
            "device is 'mps'; there is no such GPU (Apple's) here, or torch was built without it"
        )
    return str(device)


def bf16_is_fast() -> bool:
    """Whether the processor multiplies bf16 numbers itself; True where torch cannot tell."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    flags = [supported for name, supported in capabilities.items() if name.endswith("bf16")]
    return any(flags) or not flags


@contextlib.contextmanager
def _readable(name: str, source: str, files: str) -> Iterator[None]:
    """Within: an error of a library names the model and the files; transformers gives no warnings."""
    from transformers.utils import logging

    silence_transformers()
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    except OSError as error:
        missing = "" if Path(source).is_dir() else "no such folder here, and not to be had from the Hub: "
        raise FileNotFoundError(f"model {name}: {missing}{error}") from error
    except (RuntimeError, MemoryError):  # not the files' fault
        raise
    except Exception as error:
        raise ValueError(f"model {name}: the {files} of {source} cannot be used ({error})") from error
    finally:
        logging.set_verbosity(level)


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


def _flaws(loaded: Loaded, folder: Path) -> Iterator[str]:
    """What in the files of a model does not belong together; the first flaw may cause the others."""
    model, processor, config = loaded.model, loaded.processor, loaded.model.config
    file = folder / "processor_config.json"
    file = file if file.exists() else folder / "preprocessor_config.json"
    blocks = len(loaded.family.blocks(loaded.family.tower(model)))
    if not 1 <= loaded.family.live(model, blocks) <= blocks:
        layer = f"vision_feature_layer is {config.vision_feature_layer}"
        yield f"{layer} in {folder / 'config.json'}; the vision tower has {blocks} blocks"
    settings = {
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": getattr(config, "vision_feature_select_strategy", None),
    }
    for setting, value in settings.items():
        if value is not None and getattr(processor, setting, value) is None:
            yield f"{file} has no {setting}; the model's is {value!r}: add it there"
    words, rows = len(processor.tokenizer), len(model.get_input_embeddings().weight)
    if words > rows:
        yield (
            f"the tokenizer of {folder} has {words} tokens, the model's embedding {rows}: they do not belong "
            "together"
        )
    token, model_token = processor.image_token_id, getattr(config, "image_token_id", processor.image_token_id)
    if token != model_token:
        yield (
            f"the image token is {token} by {file}, and {model_token} by config.json: they do not belong "
            "together"
        )
    if not processor.chat_template:
        yield f"{folder} has no chat template, by which questions are put: add its file, chat_template.jinja"
    uses = {"pad_token": "fills up the shorter rows of a batch", "eos_token": "ends an answer"}
    for setting, use in uses.items():
        if getattr(processor.tokenizer, f"{setting}_id") is None:
            yield f"{folder / 'tokenizer_config.json'} has no {setting}, which {use}: name one there"
    yield from _picture_flaws(loaded, file)


def _picture_flaws(loaded: Loaded, file: Path) -> Iterator[str]:
    """What a picture shows to be wrong in a processor's file."""
    try:
        pack = make_pack(loaded.processor, [("Who?", "Nobody")], to_png(Image.new("RGB", (64, 64))))
        images = {key: values.to(loaded.device) for key, values in pack.image.items()}
        with torch.no_grad():
            count = len(visual_features(loaded, images))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        yield f"{file} does not fit the model, which cannot take a picture so ({error})"
    if not all(values.isfinite().all() for values in images.values()):
        yield f"by {file} the pixels of a picture are NaN or infinite: correct image_mean and image_std there"
    if pack.image_tokens != count:
        yield (
            f"by {file} a picture takes {pack.image_tokens} tokens, the model makes {count} of it: correct "
            "the file (patch_size, merge_size, vision_feature_select_strategy, num_additional_image_tokens)"
        )
