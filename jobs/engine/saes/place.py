"""Where a checkpoint lies: a folder, or one file of weights; and that its files do not lead elsewhere."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.text import check_path
from jobs.engine.saes.weights import PICKLES, Weights, open_weights

MAX_LISTED = 1000


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
        if parent.name == "snapshots" and parent.parent.name.startswith("models--") and not blobs.is_symlink():
            yield blobs.resolve()


def find_place(path: Path) -> Place:
    """``path`` itself; the folder of a file that is one of several; the only file of weights in a folder."""
    if path.is_file() and path.suffix not in PICKLES:
        return Place(path.parent)
    if path.is_file() and path.name == "ae.pt":
        return Place(path.parent)
    if path.is_dir() and len(found := pickles_in(path)) == 1 and found[0].name != "ae.pt":
        check_link(check_path(found[0]), path)
        return Place(found[0])
    return Place(path)


def pickles_in(folder: Path) -> list[Path]:
    return [p for p in sorted(_children(folder)) if p.suffix in PICKLES and p.is_file()]


def folders_in(folder: Path) -> list[Path]:
    return [p for p in sorted(_children(folder)) if p.is_dir() and not p.name.startswith(".")]


def _children(folder: Path) -> list[Path]:
    return [p for p, _ in zip(folder.iterdir(), range(MAX_LISTED), strict=False)]
