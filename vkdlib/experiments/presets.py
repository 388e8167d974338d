"""What a run needs beyond the paper's equations, for each kind of machine; each value with its source.

The VKD paper publishes alpha and beta, but not the thresholds d_I and d_F, the learning rate, epochs or
batch. The testbed's were chosen on selection people, who are never reported, by the rules and grids in
notebooks/sweeps: selection.yaml, then selection_draws.yaml for the batch of people to keep. Their results are
in figures/data. "testbed-clear" has the same but for beta and epochs: selection_clear.yaml. Learning rates of
the other methods are in chosen.yaml, from selection_methods*.yaml; "testbed-qwen2-vl" differs from
"testbed" in these and in its model.

At paper scale, values that nobody published are marked "ours, not tried". Start from them, choose on
selection people (`select`), then report. Nobody has run these presets yet. Tried without the weights: parts,
layers and packs of the real architectures (on the meta device), NF4 and int8 on small models, two processes
on CPUs.
"""

from dataclasses import fields

import pandas as pd
import yaml

from vkdlib.methods import METHODS
from vkdlib.system import paths

# What a method gets instead, where it was chosen for it: preset -> method -> part -> field -> value.
BY_METHOD = yaml.safe_load((paths.PACKAGE / "experiments" / "chosen.yaml").read_text())

CHOSEN = "ours, chosen on selection people"
TRIALS = "ours, chosen on selection people (selection_methods.yaml, chosen.yaml)"
NOT_TRIED = "ours, not tried"
PICTURES = "ours, not tried: pictures with all their questions (MMUnlearner: 4 single questions)"
PEERS = "MMUnlearner's README"
PAPER = "VKD paper, section 4"
VGID = "VGID paper, section 4"
PEERS_CODE = "MLLMU-Bench's and MMUnlearner's code"
AS_LLAVA = "ours, not tried: as many tokens as LLaVA-1.5 has, 576 (a portrait of 1024 x 1024 has 1369)"
SAME_SIZE = "its processor makes every picture 336 x 336"
COMMIT = "not known here: name the commit that you take"
FITS = "ours, to fit one card of 24 GB (not tried)"

AS_WRITTEN = {
    "prune": (True, PAPER),
    "mask": (True, PAPER),
    "layers": (None, "ours: the deeper half"),
    "fisher": ("summed", "VKD paper, Eq. 9 as written"),
    "mask_scope": ("forget", "VKD paper, Eq. 5 as written"),
    "reduction": ("mean", "ours"),
}
TESTBED = {
    "model": {
        "model": ("testbed/llava", "ours"),
        "revision": (None, "shipped with vkdlib"),
        "dtype": ("float32", "ours"),
        "quantise": (None, "ours"),
        "max_pixels": (None, "ours: its pictures are small"),
    },
    "data": {"data_revision": (None, "made by vkdlib")},
    "method": {
        "alpha": (1.25, PAPER),
        "beta": (3.0, CHOSEN),
        "d_I": (1.3, CHOSEN),
        "d_F": (1.0, CHOSEN),
        **AS_WRITTEN,
    },
    "baselines": {"trained": ("all", "VKD paper, Table 2")},
    "training": {
        "epochs": (50, CHOSEN),
        "lr": (1e-3, CHOSEN),
        "batch_size": (5, CHOSEN),
        "retain_batch": (15, CHOSEN),
        "schedule": ("constant", CHOSEN),
        "weight_decay": (0.0, PEERS),
    },
    "evaluation": {"protocol": ("likelihood", "ours"), "max_new_tokens": (50, PEERS_CODE)},
    "machine": {
        "micro_batch": (None, "ours"),
        "checkpointing": (False, "ours"),
        "evaluation_batch": (64, "ours"),
    },
}


def _paper(base: str, micro_batch: int, source: str, max_pixels: tuple) -> dict:
    """A preset at paper scale: `base` is what a vanilla model is made from (02_vanilla_models)."""
    return {
        "model": {
            "model": (base, source),
            "revision": (None, COMMIT),
            "dtype": ("bfloat16", "ours"),
            "quantise": ("nf4", FITS),
            "max_pixels": max_pixels,
        },
        "data": {"data_revision": (None, COMMIT)},
        "method": {
            "alpha": (1.25, PAPER),
            "beta": (0.3, PAPER),
            "d_I": (1.3, NOT_TRIED),
            "d_F": (1.0, NOT_TRIED),
            **AS_WRITTEN,
        },
        "baselines": {"trained": ("lora", "MMUnlearner's code; the whole model does not fit")},
        "training": {
            "epochs": (5, NOT_TRIED),
            "lr": (1e-5, PEERS),
            "batch_size": (4, PICTURES),
            "retain_batch": (4, PICTURES),
            "schedule": ("linear", PEERS),
            "weight_decay": (0.0, PEERS),
        },
        "evaluation": {
            "protocol": ("generate", "MMUnlearner's code, zero-shot"),
            "max_new_tokens": (50, PEERS_CODE),
        },
        "machine": {
            "micro_batch": (micro_batch, FITS),
            "checkpointing": (True, FITS),
            "evaluation_batch": (8, FITS),
        },
    }


NEAREST = "ours, chosen on selection people; why, and what speaks against it: selection_clear.yaml"
WITH_LLAVA = "ours, chosen on selection people with LLaVA"
PRESETS = {
    "testbed": TESTBED,
    "testbed-clear": TESTBED
    | {
        "method": TESTBED["method"] | {"beta": (1.0, NEAREST)},
        "training": TESTBED["training"] | {"epochs": (50, NEAREST)},
    },
    "testbed-qwen2-vl": {
        part: {
            field: (value, WITH_LLAVA if source == CHOSEN else source)
            for field, (value, source) in of.items()
        }
        for part, of in TESTBED.items()
    }
    | {"model": TESTBED["model"] | {"model": ("testbed/qwen2-vl", "ours")}},
    "paper-llava-1.5-7b": _paper("llava-hf/llava-1.5-7b-hf", 2, PAPER, (None, SAME_SIZE)),
    "paper-llava-1.5-13b": _paper("llava-hf/llava-1.5-13b-hf", 1, VGID, (None, SAME_SIZE)),
    "paper-qwen2-vl-7b": _paper("Qwen/Qwen2-VL-7B-Instruct", 2, PAPER, (672 * 672, AS_LLAVA)),
    "paper-qwen2.5-vl-3b": _paper("Qwen/Qwen2.5-VL-3B-Instruct", 2, VGID, (672 * 672, AS_LLAVA)),
}


def preset(name: str, part: str, method: str = "VKD", **changes) -> dict:
    """Settings of a preset with changes; None leaves the preset's value, "none" means None.

    Args:
        part: "model", "data", "method", "training", "evaluation", or "machine" (what changes no result).
        method: whose settings they are; what "baselines" does not say of others than VKD is their default.
    """
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}; there are: {', '.join(PRESETS)}")
    of = "baselines" if part == "method" and method != "VKD" else part
    values = {field: value for field, (value, _) in PRESETS[name][of].items()}
    if of == "baselines":
        values = {f.name: values[f.name] for f in fields(METHODS[method]) if f.name in values}
    values |= BY_METHOD.get(name, {}).get(method, {}).get(part, {})
    changes = {k: None if v == "none" else v for k, v in changes.items() if v is not None}
    return values | {k: _as_usual(v, values.get(k)) for k, v in changes.items()}


def _as_usual(value, usual):
    """A number as int or float as the preset has it: beta 3 is beta 3.0, and makes no other run."""
    numbers = type(value) is not type(usual) and {type(value), type(usual)} <= {int, float}
    return type(usual)(value) if numbers and type(usual)(value) == value else value


def meaning(name: str | None, given: dict | None = None) -> dict:
    """What of a preset a result depends on: part -> field -> value; nothing of one there is not.

    Args:
        given: parameters of a point; what was chosen for its method counts unless it says otherwise itself.
    """
    given = given or {}
    parts = {part: fields for part, fields in PRESETS.get(name, {}).items() if part != "machine"}
    known = {part: {f: value for f, (value, _) in fields.items()} for part, fields in parts.items()}
    chosen = BY_METHOD.get(name, {}).get(given.get("method"), {})
    chosen = {p: {f: v for f, v in of.items() if given.get(f) is None} for p, of in chosen.items()}
    return known | ({given["method"]: chosen} if any(chosen.values()) else {})


def sources(name: str) -> pd.DataFrame:
    """Every value of a preset and where it comes from: columns part, field, value, source."""
    rows = [(part, f, v, s) for part, fields in PRESETS[name].items() for f, (v, s) in fields.items()]
    for method, parts in BY_METHOD.get(name, {}).items():
        rows += [(f"{part} of {method}", f, v, TRIALS) for part, of in parts.items() for f, v in of.items()]
    return pd.DataFrame(rows, columns=["part", "field", "value", "source"])
