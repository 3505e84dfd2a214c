"""The proxy's text: source files of the Python standard library, as bytes, parted by file.

A file goes to evaluation or to training by a hash of its name, so that no passage is in both. Which files
there are depends on the Python version; their hash is recorded with every result.
"""

import sysconfig
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.hashing import content_hash

VOCABULARY = 256
#: one file in this many is for evaluation
EVALUATION_SHARE = 8
#: folders whose files are not ordinary code, or not part of every installation
_LEFT_OUT = frozenset(
    {
        "__pycache__",
        "encodings",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)


@dataclass(frozen=True)
class Corpus:
    """Texts by file name, training and evaluation apart, and what identifies them."""

    training: dict[str, bytes]
    evaluation: dict[str, bytes]
    hash: str


def standard_library(folder: Path | None = None) -> Corpus:
    """The corpus of this Python, or of the source files below a folder.

    Raises:
        InputError: there is no source file for training or none for evaluation.
    """
    root = folder or Path(sysconfig.get_paths()["stdlib"])
    texts = {path.relative_to(root).as_posix(): path.read_bytes() for path in _sources(root)}
    evaluation = {name: text for name, text in texts.items() if is_for_evaluation(name)}
    training = {name: text for name, text in texts.items() if name not in evaluation}
    if not training or not evaluation:
        raise InputError(Problem("must hold source files for training and evaluation", f"{len(texts)} files"))
    listed = {name: sha256(text).hexdigest() for name, text in texts.items()}
    return Corpus(training, evaluation, content_hash(listed))


def is_for_evaluation(name: str) -> bool:
    """Whether a file is held out, by its name alone."""
    return int(sha256(name.encode()).hexdigest(), 16) % EVALUATION_SHARE == 0


def _sources(root: Path) -> list[Path]:
    found = (path for path in root.rglob("*.py") if not _LEFT_OUT & set(path.relative_to(root).parts))
    return sorted(found)


class Windows:
    """Passages of one length out of files that are long enough, drawn with a seed."""

    def __init__(self, texts: dict[str, bytes], length: int, seed: int) -> None:
        self.length = length
        enough = [bytearray(text) for text in texts.values() if len(text) > length + 1]
        self._texts = [torch.frombuffer(text, dtype=torch.uint8) for text in enough]
        if not self._texts:
            raise InputError(Problem("must hold a file longer than a window", f"{length} bytes"))
        starts = torch.tensor([len(text) - length for text in self._texts])
        self._ends = starts.cumsum(0)
        self._generator = torch.Generator().manual_seed(seed)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Bytes [count, length] and the bytes that follow each, as indices; every passage is as likely."""
        places = torch.randint(int(self._ends[-1]), (count,), generator=self._generator)
        passages = torch.stack([self._passage(int(place)) for place in places]).long()
        return passages[:, :-1], passages[:, 1:]

    def _passage(self, place: int) -> Tensor:
        index = int(torch.searchsorted(self._ends, place, right=True))
        start = place - (int(self._ends[index - 1]) if index else 0)
        return self._texts[index][start : start + self.length + 1]
