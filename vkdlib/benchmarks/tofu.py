"""CLEAR's questions in text, those of TOFU, and whose they are."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vkdlib.benchmarks.parquet import DataError, read_rows

CONFIG = "full+tofu"


def author_pairs(folder: Path, authors: Sequence[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Author -> (question, answer) pairs in text, from full+tofu.

    The rows do not say whose they are. TOFU has equally many questions about every author, one author after
    the other; a block belongs to the author whom most of its rows name. Where no whole name decides, the last
    word of a name does, if no other author's name has that word.
    """
    places, pairs = [], []
    for row in read_rows(folder, CONFIG, ["question", "answer"], ["image"]):
        if not row["image"].has_image():
            places.append(row["question"].at)
            pairs.append((row["question"].text(), row["answer"].text()))
    size, rest = divmod(len(pairs), len(authors))
    if rest or not size:
        raise DataError(
            f"{folder / CONFIG}, column 'question': {len(pairs)} questions in text about {len(authors)} "
            "authors; there must be equally many about each"
        )
    blocks: dict[str, tuple] = {}
    for start in range(0, len(pairs), size):
        block = tuple(pairs[start : start + size])
        author = _author(block, _whole(authors)) or _author(block, _last_words(authors))
        if author is None or author in blocks:
            subject = f"{author}, as were others before" if author else "no one author of full"
            raise DataError(
                f"{places[start]}: this and the next {size - 1} questions in text are about {subject}; each "
                "author's must stand together"
            )
        blocks[author] = block
    return blocks


def _author(block: Sequence[tuple[str, str]], names: Mapping[str, str]) -> str | None:
    """The author whom most rows of a block name; None if there is none, or not one alone.

    Args:
        names: what an author can be called -> the author.
    """
    if not names:
        return None
    longest_first = sorted(names, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
    rows = [{names[word] for word in pattern.findall(_plain(" ".join(pair)))} for pair in block]
    ranks = Counter(author for row in rows for author in row).most_common(2)
    alone = len(ranks) == 1 or len(ranks) == 2 and ranks[0][1] > ranks[1][1]
    return ranks[0][0] if alone else None


def _whole(authors: Sequence[str]) -> dict[str, str]:
    return {_plain(author): author for author in authors if _plain(author).split()}


def _last_words(authors: Sequence[str]) -> dict[str, str]:
    """The last word of each name -> its author, where no other name has that word."""
    counts = Counter(word for author in authors for word in set(_plain(author).split()))
    last = {_plain(author).split()[-1]: author for author in authors if _plain(author).split()}
    return {word: author for word, author in last.items() if counts[word] == 1}


def _plain(words: str) -> str:
    """Without accents and capitals."""
    return unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().casefold()
