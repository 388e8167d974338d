"""What a run starts from and is compared with: names of models, by task and method."""

from dataclasses import replace
from pathlib import Path

from vkdlib.methods import make_method
from vkdlib.models.dimensions import dimensions, meta_model
from vkdlib.models.folders import HUB_ID, model_folder
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import load
from vkdlib.runs.configuration import Configuration
from vkdlib.system.checks import did_you_mean, one_of
from vkdlib.testbed.recipe import EMBEDDED_MODELS, LLM_ONLY, MODEL_NAMES

CONTROLS = ("base", "vanilla", "retain-only", "never-saw")  # models that are evaluated without unlearning
IDEALS = ("retain-only", "never-saw")  # kinds of models without the faces to forget: of draw 0; of all draws
REFERENCES = ("vanilla", *IDEALS)  # kinds of models that a method may compare with; else it names one


def starting_model(c: Configuration) -> str:
    """Name of the model that a run starts from.

    Raises:
        ValueError: there is none of the kind that the method needs.
    """
    return model_of_kind(c, c.method if c.method in ("base", *IDEALS) else "vanilla")


def model_of_kind(c: Configuration, kind: str) -> str:
    """Name of the base or vanilla model of a task, or of one of IDEALS.

    Embedded models, such as testbed/llava-mllmu/retain-only-5, come in all kinds. A published checkpoint is a
    base model. Anything else is a vanilla model, and the reference beside it has a name of its own.
    """
    if kind in IDEALS and c.retain_only:
        return c.retain_only
    if c.model.startswith("testbed/"):
        if kind == "base":
            return f"{c.model.removesuffix(LLM_ONLY)}/base"
        ends = {"retain-only": f"-{c.forget_ratio}", "never-saw": "-selection" if c.select else ""}
        replicate = f"-{c.replicate}" if c.replicate else ""
        return f"{c.model}-{c.benchmark.split('/')[-1]}/{kind}{ends.get(kind, '')}{replicate}"
    if c.model in dimensions():
        if kind == "base":
            return c.model
        raise ValueError(
            f"{c.model} does not know the people of {c.benchmark} yet: make a vanilla model of it first "
            "(notebooks/02_vanilla_models.ipynb), then name its folder as the model"
        )
    if kind == "base":
        raise ValueError(f"{c.model} is a vanilla model; load the base one by its own name")
    if kind in IDEALS:
        raise ValueError(f"{c.model} is a vanilla model: name the {kind} one beside it (retain_only)")
    return c.model


def reference_kind(c: Configuration) -> str | None:
    """What a method compares the model with (NPO): one of REFERENCES, or a name; None: nothing."""
    return None if c.method in CONTROLS else make_method(c.method, **c.settings).reference


def reference_model(c: Configuration) -> str | None:
    """Name of the model that the method needs beside the one it starts from; None: it needs no other."""
    kind = reference_kind(c)
    if kind in IDEALS:
        return model_of_kind(c, kind)
    return None if kind == "vanilla" else kind


def needs_retain_only(c: Configuration) -> bool:
    """Whether a run starts from one of IDEALS, or its method compares with one."""
    return bool({c.method, reference_kind(c)} & set(IDEALS))


def check_model_names(c: Configuration) -> None:
    """Raise ValueError unless `model`, `retain_only` and `reference` can be there, needed or not.

    Each is an embedded model, a folder, or an id of the Hub, where nobody looks yet.
    """
    if c.model.startswith("testbed/"):
        one_of("model", c.model, [f"testbed/{name}" for name in EMBEDDED_MODELS])
        _check_replicate(c)
    elif c.replicate:
        raise ValueError(f"replicate is {c.replicate}; only embedded models have replicates: leave it out")
    kind = reference_kind(c)
    reference = None if kind in REFERENCES else kind
    for name in (c.retain_only, reference):
        if name and name.startswith("testbed/"):
            model_folder(name)
    for field, name in {"model": c.model, "retain_only": c.retain_only, "reference": reference}.items():
        if name and not Path(name).is_dir() and not HUB_ID.fullmatch(name):
            hint = did_you_mean(name, REFERENCES) if field == "reference" else ""
            raise ValueError(
                f"{field} is {name!r}; there is no such folder, and an id of the Hub is owner/name{hint}"
            )


def _check_replicate(c: Configuration) -> None:
    """Raise ValueError for a replicate that the embedded model does not have."""
    usual = starting_model(replace(c, replicate=0)).removeprefix("testbed/")
    there = [r for r in range(10) if (f"{usual}-{r}" if r else usual) in MODEL_NAMES]
    if c.replicate and c.replicate not in there:
        raise ValueError(
            f"replicate is {c.replicate}; of {usual} there are replicates {', '.join(map(str, there))}"
        )


def check_model_options(c: Configuration) -> None:
    """Raise ValueError for options that the model cannot have, as far as it is known before weights are
    loaded: a revision of what is not on the Hub, and of embedded models max_pixels and layers."""
    name = starting_model(c)
    if c.revision and name != c.retain_only:
        model_folder(name, c.revision)
    if not name.startswith("testbed/"):
        return
    if c.max_pixels is not None:
        meta_model(name).family.processor(model_folder(name), c.max_pixels)
    if c.method not in CONTROLS and (method := make_method(c.method, **c.settings)).layers is not None:
        method.scope(meta_model(name))


def load_starting_model(c: Configuration) -> Loaded:
    """The model that a run starts from."""
    name = starting_model(c)
    revision = None if name == c.retain_only else c.revision  # it is that of `model`
    return load(name, revision, c.dtype, quantise=c.quantise, max_pixels=c.max_pixels)
