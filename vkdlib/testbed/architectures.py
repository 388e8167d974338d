"""The embedded models: small versions of real architectures, each with its own tokenizer and processor."""

import copy
from collections.abc import Iterable

from vkdlib.testbed.recipe import ARCHITECTURES, RECIPE


def random_model(family: str):
    """An untrained model of about 2 million parameters."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.for_model(**copy.deepcopy(ARCHITECTURES[family]["model"]))
    return AutoModelForImageTextToText.from_config(config)


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


def add_pictures(tokenizer, family: str):
    """A family's processor, with the PIL back end."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from vkdlib.models.qwen import QwenImageProcessor

    recipe = copy.deepcopy(ARCHITECTURES[family])
    template, model = recipe["template"], recipe["model"]
    if family != "llava":
        return QwenImageProcessor(Qwen2VLImageProcessorPil(**recipe["images"]), tokenizer, template)
    return LlavaProcessor(
        CLIPImageProcessorPil(**recipe["images"]),
        tokenizer,
        patch_size=model["vision_config"]["patch_size"],
        vision_feature_select_strategy=model["vision_feature_select_strategy"],
        num_additional_image_tokens=1,  # CLIP's class token, which is left out again
        image_token=recipe["special"]["image"],
        chat_template=template,
    )
