"""Load models, and reach into their visual module."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vkdlib import paths
from vkdlib.families import Family, family_of


@dataclass(frozen=True)
class Loaded:
    """A model with its processor and family. `name` is what it was loaded as."""

    model: nn.Module
    processor: object
    family: Family
    name: str

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_input_embeddings().weight.dtype

    @property
    def pad(self) -> int:
        return self.processor.tokenizer.pad_token_id or 0


def load(
    name: str,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
) -> Loaded:
    """Load a model in evaluation mode.

    Args:
        name: "testbed/llava/base", "testbed/llava-mllmu/vanilla" (or retain-only-5, …), a folder, or
            an id of the Hugging Face Hub.
        revision: commit on the Hub.
        dtype: of the weights; fp32 is what is trained (smaller types lose small updates).
        device: where to; None takes a GPU if there is one.
    Raises:
        FileNotFoundError, ValueError: no such model, a family that is not known, a damaged file.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    folder = _folder(name)
    _check_shipped(name, folder)
    try:
        common = {"revision": revision, "trust_remote_code": False}
        family = family_of(AutoConfig.from_pretrained(folder, **common))
        processor = family.processor(folder, **common)
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, **common
        )
    except OSError as error:
        raise FileNotFoundError(f"model {name}: {error}") from error
    except Exception as error:
        if "safetensor" not in type(error).__name__.lower():
            raise
        raise ValueError(f"model {name}: its weights are damaged ({error})") from error
    # Many tokenizers do not know how long a text the model takes.
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context:
        tokenizer = processor.tokenizer
        tokenizer.model_max_length = min(tokenizer.model_max_length, context)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Loaded(model.eval().to(device), processor, family, name)


def _folder(name: str) -> str:
    """Path of an embedded model, or the name itself (a folder or a Hub id)."""
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


def live_blocks(loaded: Loaded) -> list[nn.Module]:
    """Blocks of the vision tower whose output is used, first to last."""
    blocks = loaded.family.blocks(loaded.family.tower(loaded.model))
    return list(blocks[: loaded.family.live(loaded.model, len(blocks))])


def mlp_output(block: nn.Module) -> nn.Linear:
    """The output projection of a block's MLP: the last Linear in it. Its inputs are the neurons."""
    return [m for m in block.mlp.modules() if isinstance(m, nn.Linear)][-1]


def vision_mlps(loaded: Loaded, layers: int | None = None) -> dict[int, nn.Module]:
    """MLPs of the deepest `layers` live blocks: block number -> module.

    None takes the deeper half: the paper puts "emphasis on the deeper layers" (§3.2).
    """
    blocks = live_blocks(loaded)
    layers = (len(blocks) + 1) // 2 if layers is None else layers
    if not 1 <= layers <= len(blocks):
        raise ValueError(f"layers is {layers}; {loaded.name} has {len(blocks)} live vision blocks")
    return {i: blocks[i].mlp for i in range(len(blocks) - layers, len(blocks))}


def visual_parameters(loaded: Loaded, layers: int | None = None) -> dict[str, nn.Parameter]:
    """What VKD trains: weights and biases of the vision MLPs (§3.2) and of the projector.

    Returns:
        "mlp.<block>.<name>" and "projector.<name>" -> parameter.
    """
    found = {}
    for number, mlp in vision_mlps(loaded, layers).items():
        found |= {f"mlp.{number}.{n}": p for n, p in mlp.named_parameters()}
    projector = loaded.family.projector(loaded.model)
    return found | {f"projector.{n}": p for n, p in projector.named_parameters()}


@contextlib.contextmanager
def trainable(loaded: Loaded, parameters: dict[str, nn.Parameter]) -> Iterator[None]:
    """Within: only `parameters` require grad, everything else is frozen. Restores what was before."""
    before = {p: p.requires_grad for p in loaded.model.parameters()}
    chosen = set(parameters.values())
    for p in before:
        if p.is_floating_point():
            p.requires_grad_(p in chosen)
    try:
        yield
    finally:
        for p, value in before.items():
            if p.is_floating_point():
                p.requires_grad_(value)
            p.grad = None


def visual_features(loaded: Loaded, images: dict[str, Tensor]) -> Tensor:
    """Projector outputs of a batch of images: f and t of Eq. 4.

    Args:
        images: image inputs of the model, as `packs.collate` makes them.
    Returns:
        (N, C): all N image tokens, image after image, C channels of the LLM; within an image in the order
        in which the projector makes them (Qwen2.5-VL: window by window), for teacher and student alike.
    """
    with caught_features(loaded) as caught:
        loaded.model.get_image_features(**images)
    return caught[0]


@contextlib.contextmanager
def caught_features(loaded: Loaded) -> Iterator[list[Tensor]]:
    """Within: the projector's output of each forward pass is appended to the list, (N, C) each.

    It is how VKD sees the student's features without a second pass through the vision tower.
    """
    caught: list[Tensor] = []
    hook = loaded.family.projector(loaded.model).register_forward_hook(
        lambda module, args, output: caught.append(output.flatten(0, -2))
    )
    try:
        yield caught
    finally:
        hook.remove()


def weights_hash(tensors: dict[str, Tensor]) -> str:
    """sha256 of named tensors: names, types, shapes and bits, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        digest.update(t.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
