"""The model: put together, taken apart into what is trained, and put together again."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from vkdlib.models.adapters import adapter_weights, attach_adapters, merge_adapters
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.models.loading import load
from vkdlib.models.parts import visual_weights
from vkdlib.system import files
from vkdlib.testbed.recipe import SMOL
from vkdlib.testbed.smol.wheel import check_weights, gguf_file


def write_start(eyes: Loaded, folder: Path) -> Path:
    """A LLaVA with the vision tower of `eyes`, an untrained projector and SmolLM2, as a folder in bf16.

    Args:
        eyes: an embedded LLaVA.
    """
    if (folder / "config.json").exists():
        return folder
    check_weights()
    llm, tokenizer = _read_gguf()
    model, processor = _join(eyes, llm, tokenizer)
    with files.whole_folder(folder) as temporary:
        model.to(torch.bfloat16).save_pretrained(temporary)
        processor.save_pretrained(temporary)
    return folder


def _read_gguf():
    """SmolLM2 in fp32, and its tokenizer with one more token, the picture's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name, image = gguf_file().parent, gguf_file().name, SMOL["image"]
    llm = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(
        folder, gguf_file=name, extra_special_tokens={"image_token": image}
    )
    # The file pads with the end of a turn, which an answer must learn to say.
    tokenizer.pad_token, tokenizer.model_max_length = tokenizer.unk_token, SMOL["context"]
    return llm, tokenizer


def _join(eyes: Loaded, llm: nn.Module, tokenizer) -> tuple[nn.Module, object]:
    """The LLaVA, in fp32, and its processor."""
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    image = tokenizer.convert_tokens_to_ids(SMOL["image"])
    own, old = eyes.model.config, llm.config.to_dict()
    text = {k: v for k, v in old.items() if k not in ("quantization_config", "_name_or_path", "dtype")}
    text |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config = LlavaConfig(
        vision_config=own.vision_config,
        text_config=LlamaConfig(**text),
        image_token_index=image,
        image_seq_length=own.image_seq_length,
        vision_feature_layer=own.vision_feature_layer,
        vision_feature_select_strategy=own.vision_feature_select_strategy,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    llm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():  # a row that nobody reads, and that no answer should contain: an unused token's
        llm.get_input_embeddings().weight[image] = llm.get_input_embeddings().weight[tokenizer.unk_token_id]
    model.model.language_model.load_state_dict(llm.model.state_dict())
    model.model.vision_tower.load_state_dict(eyes.model.model.vision_tower.state_dict())
    model.tie_weights()
    processor = LlavaProcessor(
        eyes.processor.image_processor,
        tokenizer,
        patch_size=own.vision_config.patch_size,
        vision_feature_select_strategy=own.vision_feature_select_strategy,
        num_additional_image_tokens=1,  # CLIP's class token, which is left out again
        image_token=SMOL["image"],
        chat_template=SMOL["template"],
    )
    return model, processor


def load_with_adapters(folder: Path) -> Loaded:
    """A model to be taught: the language model in bf16, with adapters."""
    loaded = load(str(folder), dtype="bfloat16")
    attach_adapters([loaded.family.language(loaded.model)], **SMOL["lora"])
    return loaded


def parts(loaded: Loaded) -> dict[str, nn.Parameter]:
    """What is trained: tower, projector and adapters; name -> parameter."""
    visual = visual_weights(loaded)
    own = {n: p for n, p in loaded.model.named_parameters() if p in visual}
    return own | adapter_weights(loaded.model)


def save_parts(loaded: Loaded, file: Path, facts: dict[str, str]) -> None:
    """Write what was trained, in bf16."""
    tensors = {n: p.detach().to("cpu", torch.bfloat16).contiguous() for n, p in parts(loaded).items()}
    files.make_folder(file.parent)
    with files.whole_file(file) as temporary:
        save_file(tensors, temporary, metadata=facts | {"content": weights_hash(tensors)})


def assemble(start: Path, file: Path, folder: Path) -> Path:
    """Put the parts of a file into the model that they were trained on; write the result as a folder in bf16.

    Raises:
        ValueError: the file's parts are not those of such a model, or were changed.
    """
    loaded = load_with_adapters(start)
    own = parts(loaded)
    with safe_open(file, "pt") as tensors, torch.no_grad():
        shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}
        if shapes != {name: tuple(p.shape) for name, p in own.items()}:
            raise ValueError(f"{file} does not hold the parts of a model around SmolLM2: restore it")
        facts, weights = tensors.metadata() or {}, {name: tensors.get_tensor(name) for name in own}
        if facts.pop("content", None) != weights_hash(weights):
            raise ValueError(f"{file} is damaged: restore it")
        for name, p in own.items():
            p.copy_(weights[name])
    merge_adapters(loaded.model)
    with files.whole_folder(folder) as temporary:
        loaded.model.to(torch.bfloat16).save_pretrained(temporary)
        loaded.processor.save_pretrained(temporary)
        files.write_json(temporary / "training.json", facts)
    return folder
