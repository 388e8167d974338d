"""The processor of Qwen2-VL and Qwen2.5-VL for images alone.

The stock one cannot be made without torchvision, because of its video part, which nothing here uses.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import Qwen2VLProcessor
from transformers.processing_utils import ProcessorMixin

STOCK = "PaddleOCRVLProcessor"  # a class of transformers that reads Qwen's files without torchvision


class QwenImageProcessor(Qwen2VLProcessor):
    """Qwen2VLProcessor without videos."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id, self.video_token_id = tokenizer.convert_tokens_to_ids(
            [self.image_token, self.video_token]
        )
        # Not the parent's: it insists on a video processor.
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    def positions(self, inputs: Mapping[str, Tensor], text_tokens: int) -> Tensor:
        """Positions of a text and the image after it under M-RoPE: (3, tokens), for time, row and column.

        Text moves on all three alike; the image's tokens lie on their grid, which starts where the text ends.

        Args:
            inputs: what the processor made of the image.
            text_tokens: number of tokens before those of the image.
        """
        frames, rows, columns = inputs["image_grid_thw"][0].tolist()  # in patches, before merging
        merge = self.image_processor.merge_size
        sides = [torch.arange(n) for n in (frames, rows // merge, columns // merge)]
        text = torch.arange(text_tokens).expand(3, text_tokens)  # (3, text tokens)
        image = torch.cartesian_prod(*sides).T + text_tokens  # (3, image tokens)
        return torch.cat([text, image], 1)


def make_stock(processor: QwenImageProcessor, folder: Path) -> None:
    """Make a saved processor one that transformers loads by itself, with or without torchvision.

    Qwen's own class does not load without torchvision. PaddleOCR-VL's does: it puts pictures into a text by
    the same rule, and knows no videos. Which pixels a picture has is up to the image processor, which stays
    Qwen's, and how a conversation is written to the chat template.

    Args:
        folder: where `processor.save_pretrained` wrote it.
    """
    changes = {
        "processor_config.json": {"processor_class": STOCK},
        "tokenizer_config.json": {"processor_class": STOCK, "image_token": processor.image_token},
    }
    for name, values in changes.items():
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | values, indent=2) + "\n")
