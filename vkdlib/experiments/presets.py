"""What a run needs beyond the paper's equations, for each kind of machine; each value with its source.

The VKD paper publishes alpha and beta, but not the thresholds d_I and d_F, the learning rate, epochs or
batch. Of the testbed, learning rate and epochs of every method, model and benchmark, VKD's beta and
thresholds, and the settings of other methods are in chosen.yaml. They were chosen on selection people, who
are never reported, by the rule of notebooks/sweeps/selection.yaml. VKD's own were varied there around those
of an earlier testbed, whose selection people were others. The batches, which all methods share, are of that
testbed as well.

At paper scale, values that nobody published are marked "ours, not tried". Start from them, choose on
selection people (`select`), then report. Nobody has run these presets yet. Tried without the weights: parts,
layers and packs of the real architectures (on the meta device), NF4 and int8 on small models, two processes
on CPUs.
"""

import functools
from dataclasses import fields

import pandas as pd

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.schema import Benchmark
from vkdlib.experiments.model_names import CONTROLS
from vkdlib.methods import METHODS
from vkdlib.runs.configuration import Configuration, Machine
from vkdlib.system import paths
from vkdlib.system.checks import check_names, check_type, one_of
from vkdlib.system.files import read_yaml
from vkdlib.unlearn import Training

PARTS = ("model", "data", "method", "training", "evaluation", "machine")
TRIALS = "ours, chosen on selection people (selection.yaml, chosen.yaml)"


def read_presets() -> dict[str, dict]:
    """presets.yaml: preset -> part -> field -> [value, source]."""
    presets = {}
    for name, own in read_yaml(paths.PACKAGE / "experiments" / "presets.yaml").items():
        base = presets.get(own.pop("base", None), {})
        presets[name] = base | {part: base.get(part, {}) | entries for part, entries in own.items()}
    return {name: parts for name, parts in presets.items() if not name.startswith("_")}


PRESETS = read_presets()
# What a method gets instead, where it was chosen for it: preset -> method -> part -> field -> value.
BY_METHOD = read_yaml(paths.PACKAGE / "experiments" / "chosen.yaml")
SETTINGS = list(dict.fromkeys(f.name for method in METHODS.values() for f in fields(method)))
PARAMETERS = [f.name for record in (Configuration, Machine, Training) for f in fields(record)] + SETTINGS
PARAMETERS.remove("training")  # its arguments are named one by one


def preset(name: str, part: str, method: str = "VKD", chosen: bool = True, **changes) -> dict:
    """Values of one part of a preset: field -> value.

    Args:
        part: one of PARTS; "machine" changes no result.
        method: whose settings and training they are. A model that is evaluated as it is has neither. Other
            methods than VKD share the "baselines"; what these do not say is the method's own default.
        chosen: with what was chosen for the method (chosen.yaml) in place of the preset's values.
        changes: values instead of the preset's; None leaves the preset's, "none" means None.
    Raises:
        ValueError: the preset, the part or the method is not known.
    """
    one_of("preset", name, PRESETS)
    one_of("part", part, PARTS)
    one_of("method", method, [*METHODS, *CONTROLS])
    if method in CONTROLS and part in ("method", "training"):
        return {}
    changes = {k: None if v == "none" else v for k, v in changes.items() if v is not None}
    entries = PRESETS[name][part]
    if part == "method" and method != "VKD":
        own = {f.name for f in fields(METHODS[method])}
        entries = {k: entry for k, entry in PRESETS[name]["baselines"].items() if k in own}
    best = BY_METHOD.get(name, {}).get(method, {}).get(part, {}) if chosen else {}
    return {k: value for k, (value, _) in entries.items()} | best | changes


def configure(name: str, method: str, **values) -> tuple[Configuration, Machine]:
    """The run of a preset, with values of its own.

    A trial on selection people (`select`) takes nothing that was chosen, for that follows from trials.

    Args:
        name: of the preset.
        values: fields of `Configuration` and `Machine`, settings of methods, arguments of the training. None
            leaves the preset's value, "none" means None. `settings` is a dict of further settings, also of a
            method that no preset knows; they take the place of all others.
    Raises:
        ValueError: a name is not known, or a value is not allowed.
    """
    one_of("preset", name, PRESETS)
    check_names("a run", values, PARAMETERS)
    parts = {}
    for part in PARTS:
        names = SETTINGS if part == "method" else PRESETS[name][part]
        changes = {n: values[n] for n in names if n in values}
        parts[part] = preset(name, part, method, not values.get("select"), **changes)
    own = {f.name: values[f.name] for f in fields(Configuration) if f.name in values}
    settings = own.pop("settings", None) or {}
    check_type("settings", settings, dict)
    if method in METHODS:
        check_names(method, settings, [f.name for f in fields(METHODS[method])])
    own |= parts["model"] | parts["data"] | parts["evaluation"]
    machine = Machine(**parts["machine"])
    settings = parts["method"] | settings
    return Configuration(method=method, settings=settings, training=parts["training"], **own), machine


def fitting_preset(model: str | None, benchmark: str) -> str:
    """The preset that was made for a model on a benchmark.

    Args:
        model: name of a model; None: an embedded LLaVA.
    Raises:
        ValueError: nobody knows which one fits.
    """
    for name in PRESETS:
        if name.startswith("paper-") and preset(name, "model")["model"] == model:
            return name
    if model and not model.startswith("testbed/"):
        raise ValueError(
            f"preset is not given, and the model {model} does not say which one fits: name that of the "
            f"checkpoint it was made from, one of {', '.join(PRESETS)}"
        )
    family = "-qwen2-vl" if model in ("testbed/qwen2-vl", "testbed/qwen2.5-vl") else ""
    return f"testbed{family}" + ("-clear" if cached_benchmark(benchmark).schema == "clear" else "")


@functools.lru_cache(maxsize=8)
def cached_benchmark(source: str, revision: str | None = None) -> Benchmark:
    """`load_benchmark`, once a process."""
    return load_benchmark(source, revision)


def misfit(name: str, model: str, benchmark: str) -> str | None:
    """What speaks against a preset for a model on a benchmark; None: nothing that is known."""
    fitting = fitting_preset(model, benchmark) if model.startswith("testbed/") else name
    differs = f"preset {name} was not chosen for {model} on {benchmark}: {fitting} was"
    return None if fitting == name else differs


def sources(name: str) -> pd.DataFrame:
    """Every value of a preset and where it comes from: columns part, field, value, source."""
    rows = [(part, field, *entry) for part, own in PRESETS[name].items() for field, entry in own.items()]
    for method, parts in BY_METHOD.get(name, {}).items():
        for part, values in parts.items():
            rows += [(f"{part} of {method}", field, value, TRIALS) for field, value in values.items()]
    return pd.DataFrame(rows, columns=["part", "field", "value", "source"])
