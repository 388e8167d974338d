"""The processor of Qwen2-VL and Qwen2.5-VL for images alone.

The stock one cannot be made without torchvision, because of its video part, which nothing here uses.
"""

from transformers import Qwen2VLProcessor
from transformers.processing_utils import ProcessorMixin


class QwenImageProcessor(Qwen2VLProcessor):
    """Qwen2VLProcessor without videos."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id, self.video_token_id = tokenizer.convert_tokens_to_ids(
            [self.image_token, self.video_token]
        )
        # Not the parent's: it insists on a video processor.
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
