"""What vkdlib knows about an architecture: where its parts are, and which processor goes with it.

Parts are found by attribute and by the type of their modules, never by parameter names: these differ
between versions of transformers and between memory and disk.

Another family takes one more entry in FAMILIES. A family that differs from LLaVA-1.5 is a subclass, as Qwen's
is; one that has the same parts needs none:

    >>> FAMILIES["vipllava"] = Family("vipllava")

It also takes one line in TYPES of tests/test_families.py, which runs all its tests on a small model of the
family (and takes the entry of this example from here):

    "vipllava": ("llava", {"vision_feature_layer": [-2, -4, 1]}),
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """Where the parts of an architecture are; as it stands here, of LLaVA-1.5.

    Attributes:
        model_type: `config.model_type` of the checkpoints it fits.
        token_types: whether the model must be told which tokens are an image's (`mm_token_type_ids`) to find
            positions by itself, as it does when it generates.
    """

    model_type: str
    token_types: ClassVar[bool] = False

    def tower(self, model: nn.Module) -> nn.Module:
        """The vision tower."""
        return model.model.vision_tower

    def projector(self, model: nn.Module) -> nn.Module:
        """The projector; it may be a part of the tower."""
        return model.model.multi_modal_projector

    def language(self, model: nn.Module) -> nn.Module:
        """The language model, without the layer that makes logits."""
        return model.model.language_model

    def blocks(self, tower: nn.Module) -> nn.ModuleList:
        """All blocks of a tower, in order."""
        return tower.encoder.layers

    def mlp(self, block: nn.Module) -> nn.Module:
        """The MLP of a block of the tower."""
        return block.mlp

    def live(self, model: nn.Module, blocks: int) -> int:
        """How many of the tower's blocks are read; the rest are dead.

        LLaVA reads hidden state `vision_feature_layer` (0 is the embedding): later blocks are dead.
        """
        layer = model.config.vision_feature_layer
        return max(blocks + 1 + i if i < 0 else i for i in ([layer] if isinstance(layer, int) else layer))

    def processor(self, folder: str, max_pixels: int | None = None, **options):
        """A processor that needs no torchvision.

        Where an image's tokens do not count on like words, its method `positions` says where they are, as in
        `qwen`.

        Args:
            folder: a folder or an id of the Hub.
            max_pixels: larger pictures are shrunk to so many; None: the limit in the checkpoint's files.
            options: of `from_pretrained`.
        """
        from transformers import AutoProcessor

        if max_pixels is not None:
            raise ValueError(
                f"max_pixels is {max_pixels}; {folder} makes every picture the same size: leave it out"
            )
        return AutoProcessor.from_pretrained(folder, backend="pil", **options)

    def save_processor(self, processor, folder: Path) -> None:
        """Write a processor's files, which transformers loads without vkdlib and without torchvision."""
        processor.save_pretrained(folder)

    def tokens(self, config, width: int, height: int, max_pixels: int | None = None) -> int:
        """How many tokens an image of so many pixels becomes. Every image is cut to the same square."""
        return (config.vision_config.image_size // config.vision_config.patch_size) ** 2

    def patches_per_token(self, config) -> int:
        """How many patches of the tower become one token."""
        return 1

    def meta_image(
        self, config, size: tuple[int, int], max_pixels: int | None = None
    ) -> Mapping[str, Tensor]:
        """What `get_image_features` takes of a picture of so many pixels, on the meta device."""
        side = config.vision_config.image_size
        return {"pixel_values": torch.empty(1, 3, side, side, device="meta")}  # (1, 3, side, side)

    def pixels(self, config, inputs: Mapping[str, Tensor]) -> Tensor:
        """A picture's pixels as the tower takes them, in their places: (3, height, width)."""
        return inputs["pixel_values"][0]


class Qwen(Family):
    """Qwen2-VL and Qwen2.5-VL."""

    token_types = True

    def tower(self, model: nn.Module) -> nn.Module:
        return model.model.visual

    def projector(self, model: nn.Module) -> nn.Module:
        return model.model.visual.merger

    def blocks(self, tower: nn.Module) -> nn.ModuleList:
        return tower.blocks

    def live(self, model: nn.Module, blocks: int) -> int:
        """All of them."""
        return blocks

    def processor(self, folder: str, max_pixels: int | None = None, **options):
        """One that needs no torchvision and takes pictures of any size up to `max_pixels`."""
        from transformers import AutoImageProcessor, AutoTokenizer

        from vkdlib.models.qwen import QwenImageProcessor

        settings, _ = QwenImageProcessor.get_processor_dict(folder, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        limit = {} if max_pixels is None else {"max_pixels": max_pixels}
        images = AutoImageProcessor.from_pretrained(folder, backend="pil", **limit, **options)
        smallest = images.size["shortest_edge"]  # a number of pixels, whatever it is called
        if max_pixels is not None and max_pixels < smallest:
            raise ValueError(
                f"max_pixels is {max_pixels}; {folder} makes no picture smaller than {smallest} pixels: "
                "raise it"
            )
        return QwenImageProcessor(images, tokenizer, settings.get("chat_template") or tokenizer.chat_template)

    def save_processor(self, processor, folder: Path) -> None:
        """As a class of transformers itself, see `qwen.make_stock`."""
        from vkdlib.models.qwen import make_stock

        processor.save_pretrained(folder)
        make_stock(processor, folder)

    def tokens(self, config, width: int, height: int, max_pixels: int | None = None) -> int:
        """Sides are rounded to whole tokens. The limits in the processor's own files are left out."""
        rows, columns = self._grid(config, width, height, max_pixels)
        return rows * columns

    def _grid(self, config, width: int, height: int, max_pixels: int | None) -> tuple[int, int]:
        """Rows and columns of an image's tokens."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        side = config.vision_config.patch_size * config.vision_config.spatial_merge_size
        limits = {"min_pixels": 1, "max_pixels": max_pixels or math.inf}
        height, width = smart_resize(height, width, side, **limits)
        return height // side, width // side

    def patches_per_token(self, config) -> int:
        return config.vision_config.spatial_merge_size**2

    def meta_image(
        self, config, size: tuple[int, int], max_pixels: int | None = None
    ) -> Mapping[str, Tensor]:
        """The grid is on the CPU: the tower reads it to cut attention into pictures and windows."""
        vision = config.vision_config
        rows, columns = (n * vision.spatial_merge_size for n in self._grid(config, *size, max_pixels))
        values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        return {
            "pixel_values": torch.empty(rows * columns, values, device="meta"),  # (patches, values)
            "image_grid_thw": torch.tensor([[1, rows, columns]]),  # (1, 3)
            "position_ids": torch.empty(rows * columns, 2, dtype=torch.long, device="meta"),  # (patches, 2)
        }

    def pixels(self, config, inputs: Mapping[str, Tensor]) -> Tensor:
        """Patches come token by token, so those of one token follow each other."""
        vision = config.vision_config
        side, merge = vision.patch_size, vision.spatial_merge_size
        _, rows, columns = inputs["image_grid_thw"][0].tolist()  # in patches
        frames = (-1, vision.temporal_patch_size, side, side)
        values = inputs["pixel_values"].unflatten(1, frames)[:, :, 0]  # (patches, 3, side, side)
        values = values.unflatten(0, (rows // merge, columns // merge, merge, merge))
        return values.permute(4, 0, 2, 5, 1, 3, 6).reshape(-1, rows * side, columns * side)


FAMILIES = {f.model_type: f for f in (Family("llava"), Qwen("qwen2_vl"), Qwen("qwen2_5_vl"))}


def family_of(config) -> Family:
    """The family of a model, by the type its configuration states."""
    kind = config.model_type
    if kind not in FAMILIES:
        raise ValueError(f"model type {kind!r} is not known; vkdlib knows {', '.join(FAMILIES)}")
    return FAMILIES[kind]
