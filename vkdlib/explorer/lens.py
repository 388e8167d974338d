"""The logit lens: what word each image token says after each layer (arXiv 2410.07149)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vkdlib.benchmarks.wording import NAME_QUESTION
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import language_blocks
from vkdlib.models.passes import make_batch, record_features
from vkdlib.packs.pack import make_pack


@dataclass(frozen=True)
class Lens:
    """What the output layer makes of each image token, as if the model ended after a layer.

    Attributes:
        words: layer by layer, the most probable token of each image token.
        probability: of that token, (layers, image tokens).
        right: of the first token of the right answer, (layers, image tokens).
    """

    words: list[list[str]]
    probability: Tensor
    right: Tensor


@torch.no_grad()
def logit_lens(loaded: Loaded, picture: bytes, right: str) -> Lens:
    """Image tokens stand before the question and do not see it, so none is asked.

    Args:
        right: an answer, for example the person's name.
    """
    pack = make_pack(loaded.processor, [(NAME_QUESTION, right)], picture)
    image = slice(len(pack.prefix) - pack.image_tokens, len(pack.prefix))
    with record_features(loaded, language_blocks(loaded)) as states:  # (T, H) each
        loaded.model(**make_batch(loaded, [pack])["inputs"])
    norm, head = loaded.family.language(loaded.model).norm, loaded.model.get_output_embeddings()
    layers = [head(norm(state[image])).float().softmax(-1).cpu() for state in states]  # (image tokens, V)
    shares = torch.stack(layers)  # (layers, image tokens, V)
    probability, tokens = shares.max(-1)  # (layers, image tokens)
    segment = pack.segments[0]
    words = [[loaded.processor.tokenizer.decode([t]).strip() for t in row] for row in tokens.tolist()]
    return Lens(words, probability, shares[:, :, segment.ids[segment.answer]])
