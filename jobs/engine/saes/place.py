"""Where a checkpoint lies: a folder, or one file of weights; and that its files do not lead elsewhere."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.text import check_path
from jobs.engine.saes.weights import PICKLES, Weights, open_weights

MAX_LISTED = 1000
_IN_FOLDERS = (".json", ".safetensors", ".npz")  # files that stand for the folder they are in
_PICKLED_IN_FOLDERS = "ae.pt"
_CACHES = ("models--", "datasets--", "spaces--")


class Place:
    """``path`` as it was given, for names of folders say layer and k where files do not; never resolved."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.is_file = path.is_file()

    def has(self, *names: str) -> bool:
        """Whether it is a folder in which all these files are."""
        return not self.is_file and all((self.path / name).is_file() for name in names)

    def file(self, name: str = "") -> Path:
        """A file of the folder, or the file itself. Raises SAELoadError where it is missing or leads out."""
        if self.is_file:
            return self.path
        file = self.path / name
        if not file.is_file():
            raise SAELoadError(f"{file} is missing: the checkpoint is not whole.")
        check_link(file, self.path)
        return file

    @cached_property
    def weights(self) -> Weights:
        """The weights, if the place is a file."""
        return open_weights(self.path)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names on the way here, without suffixes of weights, the nearest first."""
        name = self.path.name
        own = name[: -len(self.path.suffix)] if self.is_file else name
        return (own, *reversed(self.path.parts[:-1]))


def nearest(pattern: re.Pattern[str], parts: Sequence[str]) -> str | None:
    """The first group of ``pattern`` in the first of ``parts`` that has it."""
    return next((match[1] for part in parts if (match := pattern.search(part))), None)


def check_link(file: Path, folder: Path) -> None:
    """Raise SAELoadError where ``file``, in ``folder``, leads out of it by a link."""
    real = file.resolve()
    if not any(real.is_relative_to(root) for root in _roots(folder)):
        raise SAELoadError(f"{file} is a link that leads out of its folder: copy the file itself there.")


def _roots(folder: Path) -> Iterator[Path]:
    """The folder; in a Hugging Face cache also the blobs of the same repository, which its snapshots link to."""
    yield folder.resolve()
    for parent in folder.parents:
        blobs = parent.parent / "blobs"
        if parent.name == "snapshots" and parent.parent.name.startswith(_CACHES) and not blobs.is_symlink():
            yield blobs.resolve()


def find_places(path: Path) -> Iterator[Place]:
    """``path``, or the folder of a file that is one of several; if that is no checkpoint, a lone pickle in it."""
    path = path.absolute()
    if path.is_file() and (path.suffix in _IN_FOLDERS or path.name == _PICKLED_IN_FOLDERS):
        path = path.parent
    # Llama Scope has its weights one folder below its config.
    if path.name == "checkpoints" and Place(path.parent).has("hyperparams.json", "checkpoints/final.safetensors"):
        path = path.parent
    yield Place(path)
    if path.is_dir() and len(found := pickles_in(path)) == 1:
        check_link(check_path(found[0]), path)
        yield Place(found[0])


def pickles_in(folder: Path) -> list[Path]:
    return [p for p in sorted(_children(folder)) if p.suffix in PICKLES and p.is_file()]


def folders_in(folder: Path) -> list[Path]:
    return [p for p in sorted(_children(folder)) if p.is_dir() and not p.name.startswith(".")]


def _children(folder: Path) -> list[Path]:
    return [p for p, _ in zip(folder.iterdir(), range(MAX_LISTED), strict=False)]
