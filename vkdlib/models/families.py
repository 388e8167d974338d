"""What vkdlib knows of an architecture: where its parts are, and which processor goes with it.

Parts are found by attribute and by the type of their modules, never by parameter names: these differ
between versions of transformers and between memory and disk.

Another family takes one more record in FAMILIES, for example

    >>> FAMILIES["vipllava"] = Family(
    ...     model_type="vipllava",
    ...     tower=lambda model: model.model.vision_tower,
    ...     projector=lambda model: model.model.multi_modal_projector,
    ...     language=lambda model: model.model.language_model,
    ...     blocks=lambda tower: tower.encoder.layers,
    ...     mlp=lambda block: block.mlp,
    ...     live=_llava_live,
    ...     rows=_equal_rows,
    ...     processor=_auto_processor,
    ...     tokens=_llava_tokens,
    ...     patches_per_token=_one_patch,
    ...     token_types=False,
    ... )

and one line in TYPES of tests/test_families.py, which runs all its tests on a small model of the family (and
takes the record of this example from here):

    "vipllava": ("llava", {"vision_feature_layer": [-2, -4, 1]}),
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """Where the parts of an architecture are.

    Attributes:
        model_type: `config.model_type` of the checkpoints it fits.
        tower, projector, language: model -> module.
        blocks: tower -> its blocks, all of them, in order.
        mlp: block -> its MLP.
        live: (model, number of blocks) -> how many of them are read; the rest are dead.
        rows: (inputs of each image, all rows) -> how many rows of the tower's hidden states, images
            stacked, belong to each image.
        processor: (folder or Hub id, max_pixels, options of from_pretrained) -> processor that needs no
            torchvision, and shrinks larger pictures to `max_pixels` (None: the limit in the checkpoint's
            files). Where an image's tokens do not count on like words, its method `positions` says where they
            are, as in `qwen`.
        tokens: (configuration, width, height in pixels, max_pixels) -> how many tokens an image becomes.
        patches_per_token: configuration -> how many patches of the tower become one token.
        token_types: whether the model must be told which tokens are an image's (`mm_token_type_ids`) to find
            positions by itself, as it does when it generates.
    """

    model_type: str
    tower: Callable[[nn.Module], nn.Module]
    projector: Callable[[nn.Module], nn.Module]
    language: Callable[[nn.Module], nn.Module]
    blocks: Callable[[nn.Module], nn.ModuleList]
    mlp: Callable[[nn.Module], nn.Module]
    live: Callable[[nn.Module, int], int]
    rows: Callable[[list[dict[str, Tensor]], int], list[int]]
    processor: Callable[..., object]
    tokens: Callable[[object, int, int, int | None], int]
    patches_per_token: Callable[[object], int]
    token_types: bool


def _llava_live(model: nn.Module, blocks: int) -> int:
    """LLaVA reads hidden state `vision_feature_layer` (0 is the embedding): later blocks are dead."""
    layer = model.config.vision_feature_layer
    return max(blocks + 1 + i if i < 0 else i for i in ([layer] if isinstance(layer, int) else layer))


def _all_live(model: nn.Module, blocks: int) -> int:
    return blocks


def _equal_rows(images: list[dict[str, Tensor]], rows: int) -> list[int]:
    """Every image has the same size."""
    return [rows // len(images)] * len(images)


def _rows_by_grid(images: list[dict[str, Tensor]], rows: int) -> list[int]:
    """Images have sizes of their own: one row a patch."""
    return [int(image["image_grid_thw"].prod()) for image in images]


def _auto_processor(folder: str, max_pixels: int | None = None, **options):
    from transformers import AutoProcessor

    if max_pixels is not None:
        raise ValueError(
            f"max_pixels is {max_pixels}; {folder} makes every picture the same size: leave it out"
        )
    return AutoProcessor.from_pretrained(folder, backend="pil", **options)


def _qwen_processor(folder: str, max_pixels: int | None = None, **options):
    from transformers import AutoImageProcessor, AutoTokenizer

    from vkdlib.models.qwen import QwenImageProcessor

    settings, _ = QwenImageProcessor.get_processor_dict(folder, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    images = AutoImageProcessor.from_pretrained(folder, backend="pil", **limit, **options)
    smallest = images.size["shortest_edge"]  # a number of pixels, whatever it is called
    if max_pixels is not None and max_pixels < smallest:
        raise ValueError(
            f"max_pixels is {max_pixels}; {folder} makes no picture smaller than {smallest} pixels: raise it"
        )
    return QwenImageProcessor(images, tokenizer, settings.get("chat_template") or tokenizer.chat_template)


def _llava_tokens(config, width: int, height: int, max_pixels: int | None = None) -> int:
    """Every image is resized and cut to the same square."""
    return (config.vision_config.image_size // config.vision_config.patch_size) ** 2


def _one_patch(config) -> int:
    return 1


def _qwen_tokens(config, width: int, height: int, max_pixels: int | None = None) -> int:
    """Sides are rounded to whole tokens; limits that stand in the processor's own files are left out."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    side = config.vision_config.patch_size * config.vision_config.spatial_merge_size
    limits = {"min_pixels": 1, "max_pixels": max_pixels or math.inf}
    height, width = smart_resize(height, width, side, **limits)
    return (width // side) * (height // side)


def _square_of_patches(config) -> int:
    return config.vision_config.spatial_merge_size**2


def _qwen(model_type: str) -> Family:
    return Family(
        model_type=model_type,
        tower=lambda model: model.model.visual,
        projector=lambda model: model.model.visual.merger,
        language=lambda model: model.model.language_model,
        blocks=lambda tower: tower.blocks,
        mlp=lambda block: block.mlp,
        live=_all_live,
        rows=_rows_by_grid,
        processor=_qwen_processor,
        tokens=_qwen_tokens,
        patches_per_token=_square_of_patches,
        token_types=True,
    )


_LLAVA = Family(
    model_type="llava",
    tower=lambda model: model.model.vision_tower,
    projector=lambda model: model.model.multi_modal_projector,
    language=lambda model: model.model.language_model,
    blocks=lambda tower: tower.encoder.layers,
    mlp=lambda block: block.mlp,
    live=_llava_live,
    rows=_equal_rows,
    processor=_auto_processor,
    tokens=_llava_tokens,
    patches_per_token=_one_patch,
    token_types=False,
)
FAMILIES = {f.model_type: f for f in (_LLAVA, _qwen("qwen2_vl"), _qwen("qwen2_5_vl"))}


def family_of(config) -> Family:
    """The family of a model, by the type its configuration states."""
    kind = config.model_type
    if kind not in FAMILIES:
        raise ValueError(f"model type {kind!r} is not known; vkdlib knows {', '.join(FAMILIES)}")
    return FAMILIES[kind]
