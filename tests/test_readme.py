"""What the README tells people to do can be done, and what it lists is there."""

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
import yaml
from test_browser import CHROMIUMS

import vkdlib
from vkdlib.__main__ import COMMANDS, main
from vkdlib.attacks.attack import ATTACKS
from vkdlib.benchmarks.load import READERS
from vkdlib.experiments.presets import preset
from vkdlib.methods import METHODS
from vkdlib.models.families import FAMILIES
from vkdlib.system import files, paths
from vkdlib.system.notebook import typed_names

README = (paths.root() / "README.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"^ *```sh\n(.*?)```", README, re.DOTALL | re.M)]
PROGRAMS = ("make", "pip", "conda", "sudo", "vkdlib", "python", ".venv/bin/")
INLINE = [code for code in re.findall(r"`([^`\n]+)`", README) if code.startswith(PROGRAMS) and " " in code]
LINES = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines()]
WORDS = [*filter(None, LINES), *map(shlex.split, INLINE)]
OPTIONS = [shlex.split(code) for code in re.findall(r"`(-p [^`\n]+)`", README)]  # for a run, notebook 04


def can_be_made(words: list[str]) -> None:
    """All targets are there."""
    done = subprocess.run(["make", "-n", *words], cwd=paths.root(), capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr


def takes_these_parameters(notebook: str, options: list[str]) -> None:
    """papermill: the notebook is there and has the parameters; a preset is one that there is."""
    cells = nbformat.read(paths.root() / notebook, as_version=4).cells
    (known,) = (typed_names(c.source) for c in cells if "parameters" in c.metadata.get("tags", []))
    while options:
        option, *options = options
        if option == "--cwd":
            assert (paths.root() / options.pop(0)).is_dir()
        elif option == "-y":
            assert set(yaml.safe_load(options.pop(0))) <= set(known)
        else:
            assert option == "-p"
            name, value, *options = options
            assert name in known, f"{notebook} has no parameter {name}"
            assert name != "preset" or preset(value, "training")


def executes(notebook: str, options: list[str], folder: Path) -> None:
    """papermill itself runs through."""
    command = [sys.executable, "-m", "papermill", notebook, str(folder / "out.ipynb"), *options]
    done = subprocess.run(command, cwd=paths.root(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (folder / "runs").exists()


def has_these_options(words: list[str], capsys) -> None:
    """A command of vkdlib: it, its options and its files are there."""
    command, *rest = words
    assert command in COMMANDS
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0 and all(word in told for word in rest if word.startswith("-"))
    assert all((paths.root() / word).exists() for word in rest if Path(word).suffix)


def ends_well(words: list[str]) -> None:
    """A command of vkdlib runs through."""
    try:
        assert main(words) == 0
    except SystemExit as ended:
        assert not ended.code


def test_there_are_commands():
    programs = {Path(words[0]).name for words in WORDS}
    assert programs == {"make", "papermill", "python", "pip", "sudo", "conda", "vkdlib"}
    assert ["make", "quickstart"] in WORDS and ["make", "test"] in WORDS


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_command_can_be_given(words, capsys, tmp_path, monkeypatch):
    """What takes seconds is run; of all else the parts are looked at."""
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(paths.root())
    match [Path(words[0]).name, *words[1:]]:
        case ["make", *targets]:
            can_be_made(targets)
        case ["papermill", notebook, _, *options]:
            takes_these_parameters(notebook, options)
            if "dry_run" in options:
                executes(notebook, options, tmp_path)
        case ["python", "-m", module, *arguments]:
            has_these_options([module.removeprefix("vkdlib."), *arguments], capsys)
            if "--dry-run" in arguments:
                ends_well([module.removeprefix("vkdlib."), *arguments])
        case ["vkdlib", "notebooks", _]:
            ends_well(["notebooks", str(tmp_path / "mine")])
        case ["pip", "install", ".[notebooks]"]:
            assert "\nnotebooks = [" in (paths.root() / "pyproject.toml").read_text(encoding="utf-8")
        case ["conda", "env", "create", "-f", file]:
            assert files.read_yaml(paths.root() / file)["dependencies"]
        case ["sudo", "apt-get", "install", package]:
            assert package in CHROMIUMS
        case other:
            raise AssertionError(f"nobody checks {other}")


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_a_run_takes_an_option(options):
    takes_these_parameters("notebooks/04_run_unlearn.ipynb", options)


def test_there_are_options():
    assert ["-p", "micro_batch", "1"] in OPTIONS


def test_it_is_short():
    assert len(README.split()) <= 900 and len(README.splitlines()) <= 140


def test_its_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert [link for link in links if not (paths.root() / link).exists()] == []
    notebooks = {f"notebooks/{path.name}" for path in (paths.root() / "notebooks").glob("*.ipynb")}
    assert notebooks <= set(links)


def listed(title: str) -> list[str]:
    """The names in a row of the table of what there is."""
    (row,) = re.findall(rf"^\| {title} \| (.*) \|$", README, re.M)
    return re.split(r", | and |; ", row)


@pytest.mark.parametrize("title, origin", [("as in the papers", "paper"), ("our reading", "our reading")])
def test_it_lists_the_methods_with_their_origin(title, origin):
    of_it = {name for name, method in METHODS.items() if method.origin == origin}
    assert set(listed(f"Methods, {title}")) == of_it
    assert {method.origin for method in METHODS.values()} == {"paper", "our reading"}


def test_it_lists_attacks_models_and_benchmarks():
    assert listed("Attacks") == list(ATTACKS)
    families = [re.sub(r"[-.]", "_", name.lower()) for name in listed("Models")[: len(FAMILIES)]]
    assert [max((f for f in FAMILIES if n.startswith(f)), key=len) for n in families] == list(FAMILIES)
    assert listed("Benchmarks")[:2] == ["MLLMU-Bench", "CLEAR"] and len(READERS) == 2


def test_what_it_calls_is_public():
    called = re.search(r"then `vkdlib\.(\w+)`, (.*?)\. What", README, re.DOTALL)
    names = [called[1], *re.findall(r"`(\w+)`", called[2])]
    assert len(names) == 5 and set(names) <= set(vkdlib.__all__)


def test_variables_of_the_environment_are_read():
    for name in ("VKDLIB_RUNS", "VKDLIB_CACHE"):
        assert name in README and name in paths.places()
