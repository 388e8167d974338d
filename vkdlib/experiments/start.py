"""What a run starts from and is compared with: names of models, by task and method."""

import torch

from vkdlib.methods import make_method
from vkdlib.models.dimensions import dimensions
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import load

REFERENCES = {  # models that are evaluated as they are -> how they are asked, see `evaluation.ways`
    "base": "shown",
    "vanilla": "shown",
    "retain-only": "shown",
    "vanilla, blank picture": "blank",
    "vanilla, no picture": "none",
}


def checkpoint(
    model: str, benchmark: str, method: str, forget_ratio: int, retain_only: str | None = None
) -> str:
    """Name of the model that a run starts from.

    Embedded models come in kinds (base, vanilla, retain-only); anything else is a vanilla model itself, and
    the retain-only one beside it has a name of its own.
    """
    if method == "retain-only" and retain_only:
        return retain_only
    if model in dimensions() and method != "base":
        raise ValueError(
            f"{model} does not know the people of {benchmark} yet: make a vanilla model of it first "
            "(notebooks/02_vanilla_models.ipynb), then name its folder as the model"
        )
    if not model.startswith("testbed/") and model not in dimensions():
        if method == "base":
            raise ValueError(f"{model} is a vanilla model; load the base one by its own name")
        if method == "retain-only":
            raise ValueError(f"{model} is a vanilla model: name the retain-only one beside it (retain_only)")
        return model
    if method == "base":
        return f"{model}/base" if model.startswith("testbed/") else model
    kind = f"retain-only-{forget_ratio}" if method == "retain-only" else "vanilla"
    return f"{model}-{benchmark.split('/')[-1]}/{kind}"


def reference(config: dict) -> str | None:
    """The model that a run's method compares with (NPO), beside the one it starts from; None: no other."""
    name = _compared(config)
    if name == "retain-only":
        if config["select"]:
            raise ValueError('no retain-only model hides the selection people: choose reference="vanilla"')
        return checkpoint(*_task(config, "retain-only"), config.get("retain_only"))
    return None if name == "vanilla" else name


def needs_retain_only(config: dict) -> bool:
    """Whether a run starts from a retain-only model, or its method compares with one."""
    return "retain-only" in (config["method"], _compared(config))


def load_start(config: dict, device: str | None = None) -> Loaded:
    """The model that a run starts from; device as in `loading.load`."""
    name = checkpoint(*_task(config, config["method"]), config.get("retain_only"))
    revision = config.get("revision") if name != config.get("retain_only") else None  # it is the model's
    return load(
        name,
        revision=revision,
        device=device,
        max_pixels=config.get("max_pixels"),
        **_precision(config.get("precision")),
    )


def _task(config: dict, method: str) -> tuple:
    """Arguments of `checkpoint`."""
    return config["model"], config["benchmark"], method, config["forget_ratio"]


def _compared(config: dict) -> str | None:
    """What a run's method calls the model that it compares with; None: it has none."""
    if config["method"] in REFERENCES:
        return None
    return getattr(make_method(config["method"], **config["settings"]), "reference", None)


def _precision(wanted: dict | None) -> dict:
    """Arguments of `load` from names as they stand in a configuration."""
    wanted = dict(wanted or {})
    if "dtype" in wanted:
        wanted["dtype"] = getattr(torch, wanted["dtype"])
    return wanted
