"""A model with its processor and family."""

import hashlib
import html
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vkdlib.models.families import Family


@dataclass(frozen=True, repr=False)
class Loaded:
    """A model with its processor and family.

    Attributes:
        name: what it was loaded as.
        precision: how: arguments "dtype" and "quantise" of `loading.load`.
    """

    model: nn.Module
    processor: object
    family: Family
    name: str
    precision: dict = field(default_factory=dict)

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        parts = f"{self.family.model_type}, {millions:,.1f} million parameters, {self.dtype}, {self.device}"
        return f"<model {self.name}: {parts.replace('torch.', '')}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_input_embeddings().weight.dtype

    @property
    def pad(self) -> int:
        return self.processor.tokenizer.pad_token_id or 0


def weights_hash(tensors: dict[str, Tensor]) -> str:
    """sha256 of named tensors: names, types, shapes and bits, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
