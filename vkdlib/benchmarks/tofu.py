"""CLEAR's questions in text, which come from TOFU, and their authors."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vkdlib.benchmarks.parquet import DataError, read_rows

CONFIG = "full+tofu"


def author_pairs(folder: Path, authors: Sequence[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Author -> (question, answer) pairs in text, from full+tofu.

    The rows do not say which author they are about. TOFU has equally many questions about each, one author
    after the other. Such a block belongs to the author whom most of its rows name. If whole names do not
    decide, the last words of names do, as far as no two authors share them.
    """
    places, pairs = [], []
    for row in read_rows(folder, CONFIG, ["question", "answer"], ["image"]):
        if not row["image"].content():
            places.append(row["question"].at)
            pairs.append((row["question"].text(), row["answer"].text()))
    size, remainder = divmod(len(pairs), len(authors))
    if remainder or not size:
        count = f"{len(pairs)} questions in text about {len(authors)} authors"
        raise DataError(f"{folder / CONFIG}, column 'question': {count}; each must have as many")
    words = {author: _plain(author).split() for author in authors}
    counts = Counter(word for name in words.values() for word in set(name))
    whole = {_plain(author): author for author, name in words.items() if name}
    last = {name[-1]: author for author, name in words.items() if name and counts[name[-1]] == 1}
    blocks: dict[str, tuple] = {}
    for start in range(0, len(pairs), size):
        block = tuple(pairs[start : start + size])
        author = _author(block, whole) or _author(block, last)
        if author is None or author in blocks:
            subject = f"{author}, as were others before" if author else "no one author of full"
            raise DataError(
                f"{places[start]}: {size} questions from here, of one author, are about {subject}"
            )
        blocks[author] = block
    return blocks


def _author(block: Sequence[tuple[str, str]], names: Mapping[str, str]) -> str | None:
    """The author whom most rows of a block name; None if no row names one, or two are named as often.

    Args:
        names: what an author can be called -> the author.
    """
    if not names:
        return None
    longest_first = sorted(names, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
    votes = Counter()
    for pair in block:
        votes.update({names[word] for word in pattern.findall(_plain(" ".join(pair)))})
    (author, most), (_, next_most) = [*votes.most_common(2), (None, 0), (None, 0)][:2]
    return author if most > next_most else None


def _plain(words: str) -> str:
    """Without accents and capitals."""
    return unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().casefold()
