"""Unlearn by names alone: a preset says what is not said."""

from pathlib import Path

from vkdlib.experiments.pipeline import run
from vkdlib.experiments.presets import configure, fitting_preset
from vkdlib.runs.run_folder import Run


def unlearn(
    model: str | Path = "testbed/llava",
    benchmark: str | Path = "testbed/mllmu",
    method: str = "VKD",
    *,
    experiment: str = "single",
    preset: str | None = None,
    gate: bool = True,
    **values,
) -> Run:
    """Unlearn people of a benchmark, ask all questions, and keep the run. One that was made is found again,
    and one that was interrupted goes on.

    Args:
        model: "testbed/<family>", or folder or Hub id of a vanilla model.
        benchmark: "testbed/mllmu", "testbed/clear", a folder, or a Hub id.
        method: one of `methods.METHODS`, or a model as it is ("vanilla", "never-saw", …).
        experiment: folder of the run, under VKDLIB_RUNS.
        preset: values of what is left open; None: the one that fits the model and the benchmark.
        gate: see `pipeline.run`.
        values: forget_ratio, draw, seed, settings of the method, epochs, lr and so on, see
            `presets.configure`.
    Raises:
        ValueError: a name is not known, or a value is not allowed; nothing was trained.
    """
    for field, value in {"model": model, "benchmark": benchmark}.items():
        if not isinstance(value, str | Path):
            raise ValueError(
                f"{field} is {value!r}; it must be a name or a folder. What is in memory is for "
                "vkdlib.unlearning.unlearn"
            )
    model, benchmark = str(model), str(benchmark)
    name = preset or fitting_preset(model, benchmark)
    configuration, machine = configure(name, method, model=model, benchmark=benchmark, **values)
    return run(experiment, configuration, machine, gate)
