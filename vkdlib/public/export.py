"""Take the model that a run ended with home, as an ordinary Hugging Face folder."""

import tempfile
from pathlib import Path

import torch

from vkdlib.experiments.pipeline import load_unlearned
from vkdlib.models.adapters import merge_adapters
from vkdlib.models.loaded import Loaded
from vkdlib.public.card import model_card
from vkdlib.runs.run_folder import Run
from vkdlib.system import checks, files
from vkdlib.system.files import whole_folder


def export(run: Run, folder: str | Path) -> Path:
    """Write model, processor and a model card (README.md) as a folder that transformers loads without vkdlib.

        model = AutoModelForImageTextToText.from_pretrained(folder)
        processor = AutoProcessor.from_pretrained(folder, backend="pil")

    Args:
        run: a finished one.
        folder: a new one; it appears only when it is whole.
    Returns:
        folder.
    Raises:
        FileExistsError: there is such a folder.
        ValueError: not a run, or one of a quantised model, under attack, or asked in another way.
        RunError: the run is not whole.
    """
    check_exportable(run)
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: remove it, or choose another name")
    files.make_folder(folder.parent)
    card, loaded = model_card(run), load_unlearned(run)
    with whole_folder(folder) as temporary:
        stock_model(loaded).save_pretrained(temporary)
        loaded.family.save_processor(loaded.processor, temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return folder


def stock_model(loaded: Loaded) -> torch.nn.Module:
    """The model as transformers would have it: adapters merged, one precision, with a cache to generate."""
    merge_adapters(loaded.model)
    loaded.model.config.get_text_config().use_cache = True
    return loaded.model.to("cpu", getattr(torch, loaded.precision["dtype"]))


def push_to_hub(run: Run, repository: str, private: bool = True) -> str:
    """Upload what `export` writes to the Hugging Face Hub.

    Args:
        repository: owner/name; made if it is not there.
        private: whether a new repository can be seen by its owner alone.
    Returns:
        its address.
    Raises:
        ValueError: as `export`, or the name is none.
        ConnectionError: the Hub cannot be reached, or nobody is logged in. Nothing was uploaded.
    """
    from huggingface_hub import HfApi

    from vkdlib.models.folders import HUB_ID

    check_exportable(run)
    checks.flag("private", private)
    if not isinstance(repository, str) or not HUB_ID.fullmatch(repository):
        raise ValueError(f"repository is {repository!r}; it must be owner/name")
    hub = HfApi()
    try:
        hub.whoami()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConnectionError(
            f"{repository}: nothing was uploaded, for the Hub cannot be reached or nobody is logged in "
            f"({reason}). Go online, unset HF_HUB_OFFLINE, run `hf auth login`; or keep the model here with "
            "vkdlib.export(run, folder)"
        ) from error
    with tempfile.TemporaryDirectory() as temporary:
        folder = export(run, Path(temporary, "model"))
        hub.create_repo(repository, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repository, folder_path=folder))


def check_exportable(run: Run) -> None:
    """Raise ValueError unless a run's model can be written as a folder; RunError if the run is not whole."""
    if not isinstance(run, Run):
        raise ValueError(f"run is {run!r}; it must be a run, as vkdlib.unlearn and read_run return")
    run.check()
    usual = vars(run.configuration.usual)
    changed = ", ".join(name for name, value in vars(run.configuration).items() if value != usual[name])
    if changed:
        raise ValueError(
            f"run {run.hash} has values of its own for {changed}: its record is not of the model as anybody "
            "would ask it. Export the same run without them"
        )
    if kind := run.configuration.quantise:
        raise ValueError(
            f"run {run.hash} has quantise={kind!r}: what was unlearned beside quantised weights cannot be "
            "merged into whole ones. Make the run again without quantise, with dtype bfloat16"
        )
