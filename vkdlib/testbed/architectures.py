"""The embedded models: real architectures made small, with a tokenizer and processor of their own."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vkdlib.benchmarks.made_up.portraits import SIZE
from vkdlib.testbed.recipe import RECIPE

TOKEN_SIDE = SIZE // math.isqrt(RECIPE["image_tokens"])  # pixels of a portrait that become one token
MERGED_SIDE = 2  # patches on a side that Qwen's merger makes one token of


@dataclass(frozen=True)
class Architecture:
    """How an embedded model of a family is made.

    Attributes:
        special: special tokens by role; eos, pad and image are in each. LLaVA has a bos, which its tokenizer
            puts before every text; Qwen has none.
        template: how a conversation is written, in the manner of its real counterpart.
        words: the same without special tokens, from which the vocabulary is learnt.
        processor, model: tokenizer -> processor, untrained model.
    """

    special: dict[str, str]
    template: str
    words: str
    processor: Callable
    model: Callable


def make_tokenizer(texts: Iterable[str], special: dict[str, str]):
    """Train a byte-level BPE tokenizer on texts. Any text can be encoded; known words are one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=RECIPE["vocabulary"],
            special_tokens=list(special.values()),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if bos := special.get("bos"):
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, bpe.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        model_max_length=RECIPE["context"],
        unk_token=special.get("unk"),
        bos_token=bos,
        eos_token=special["eos"],
        pad_token=special["pad"],
        extra_special_tokens={"image_token": special["image"]},
    )


def _text_config(tokenizer) -> dict:
    """What the language models of all families share."""
    return dict(
        vocab_size=len(tokenizer),
        hidden_size=RECIPE["width"],
        intermediate_size=RECIPE["mlp_ratio"] * RECIPE["width"],
        num_hidden_layers=RECIPE["blocks"],
        num_attention_heads=RECIPE["heads"],
        num_key_value_heads=RECIPE["heads"],
        max_position_embeddings=RECIPE["context"],
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _llava_processor(tokenizer):
    """A LlavaProcessor for 64-pixel portraits, with the PIL back end."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    side = {"height": SIZE, "width": SIZE}
    images = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=side)
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=TOKEN_SIDE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=LLAVA.special["image"],
        chat_template=LLAVA.template,
    )


def _llava(tokenizer):
    """An untrained LLaVA of about 2 million parameters: CLIP of 5 blocks (the last one dead, because
    LLaVA-1.5 reads the last but one), Llama of 4, 16 image tokens."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    vision = CLIPVisionConfig(
        hidden_size=RECIPE["width"],
        intermediate_size=RECIPE["mlp_ratio"] * RECIPE["width"],
        num_hidden_layers=RECIPE["blocks"] + 1,
        num_attention_heads=RECIPE["heads"],
        image_size=SIZE,
        patch_size=TOKEN_SIDE,
        projection_dim=RECIPE["width"],
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_text_config(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids(LLAVA.special["image"]),
        image_seq_length=RECIPE["image_tokens"],
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    return LlavaForConditionalGeneration(config)


def _qwen_processor(tokenizer):
    """The merger makes as many tokens of a portrait as LLaVA has; of other sizes other numbers."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from vkdlib.models.qwen import QwenImageProcessor

    smallest, largest = RECIPE["qwen_sides"]
    limits = {"shortest_edge": smallest**2, "longest_edge": largest**2}  # in pixels of the whole picture
    images = Qwen2VLImageProcessorPil(
        patch_size=TOKEN_SIDE // MERGED_SIDE, merge_size=MERGED_SIDE, temporal_patch_size=2, size=limits
    )
    return QwenImageProcessor(images, tokenizer, chat_template=QWEN_TEMPLATE)


def _qwen_ids(tokenizer) -> dict[str, int]:
    roles = ("image", "video", "vision_start", "vision_end")
    return {f"{role}_token_id": tokenizer.convert_tokens_to_ids(QWEN_SPECIAL[role]) for role in roles}


def _qwen_text(tokenizer) -> dict:
    rope = {"rope_type": "default"} | {name: RECIPE[name] for name in ("rope_theta", "mrope_section")}
    return _text_config(tokenizer) | {"rope_parameters": rope}


def _qwen_vision() -> dict:
    return dict(
        depth=RECIPE["blocks"],
        num_heads=RECIPE["heads"],
        patch_size=TOKEN_SIDE // MERGED_SIDE,
        spatial_merge_size=MERGED_SIDE,
        temporal_patch_size=2,
    )


def _qwen2_vl(tokenizer):
    """An untrained Qwen2-VL of about 2 million parameters."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    width = RECIPE["width"]
    vision = _qwen_vision() | {"embed_dim": width, "hidden_size": width, "mlp_ratio": RECIPE["mlp_ratio"]}
    config = Qwen2VLConfig(text_config=_qwen_text(tokenizer), vision_config=vision,
                           tie_word_embeddings=True, **_qwen_ids(tokenizer))  # fmt: skip
    return Qwen2VLForConditionalGeneration(config)


def _qwen2_5_vl(tokenizer):
    """An untrained Qwen2.5-VL of about 2 million parameters: gated MLPs, windows of 2 x 2 tokens in all
    blocks but the last."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    width = RECIPE["width"]
    vision = _qwen_vision() | {
        "hidden_size": width,
        "out_hidden_size": width,
        "intermediate_size": RECIPE["gated_mlp_ratio"] * width,
        "window_size": 2 * TOKEN_SIDE,
        "fullatt_block_indexes": [RECIPE["blocks"] - 1],
    }
    config = Qwen2_5_VLConfig(text_config=_qwen_text(tokenizer), vision_config=vision,
                              tie_word_embeddings=True, **_qwen_ids(tokenizer))  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config)


# USER: <image>\nquestion ASSISTANT: answer</s>, as LLaVA-1.5 writes it
LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% else %} ASSISTANT: {{ message['content'][0]['text'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
# <|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>question<|im_end|>\n..., after Qwen's
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_SPECIAL = {"unk": "<unk>", "bos": "<s>", "eos": "</s>", "pad": "<pad>", "image": "<image>"}
QWEN_SPECIAL = {
    "turn": "<|im_start|>",
    "eos": "<|im_end|>",
    "pad": "<|endoftext|>",
    "image": "<|image_pad|>",
    "video": "<|video_pad|>",
    "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>",
}
LLAVA = Architecture(LLAVA_SPECIAL, LLAVA_TEMPLATE, "USER: {} ASSISTANT: {}", _llava_processor, _llava)
QWEN_WORDS = "user\n{}\nassistant\n{}"
ARCHITECTURES = {
    "llava": LLAVA,
    "qwen2-vl": Architecture(QWEN_SPECIAL, QWEN_TEMPLATE, QWEN_WORDS, _qwen_processor, _qwen2_vl),
    "qwen2.5-vl": Architecture(QWEN_SPECIAL, QWEN_TEMPLATE, QWEN_WORDS, _qwen_processor, _qwen2_5_vl),
}
