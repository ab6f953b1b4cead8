"""Places on a hub that speaks Hugging Face's API: how they are written, and how what an SAE needs is fetched."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jobs.engine.errors import HubError
from jobs.engine.hub_repo import OnProgress, Repo, open_repo

# .md, pictures and notebooks are not needed to load an SAE.
CONFIGS = (".json", ".yaml", ".yml")
SAE_FILES = (*CONFIGS, ".safetensors", ".npz", ".pt", ".pth")
MAX_CONFIG_BYTES = 1_000_000  # a larger JSON file beside the weights holds something else, such as labels
MAX_FILES = 300

_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_PART = re.compile(r"[\w.-]{1,200}", re.ASCII)


@dataclass(frozen=True)
class HubPlace:
    """``revision``: a branch, a tag or a commit; "" is the default branch. ``path``: inside the repository, or ""."""

    repo: str
    revision: str = ""
    path: str = ""

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{at}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True)
class Fetched:
    """``path``: in the cache, below the snapshot's folder. ``revision``: the commit that all of it comes from."""

    path: Path
    revision: str


def parse(place: str) -> HubPlace | None:
    """``org/name``, ``org/name@revision``, and either with ``/path/inside``; None if ``place`` is nothing of the kind.

    Nothing is looked up. A relative path is written the same way: see first whether there is such a file.
    """
    owner, _, rest = place.partition("/")
    named, _, path = rest.partition("/")
    name, at, revision = named.partition("@")
    parts = path.split("/") if path or rest.endswith("/") else []
    if not all(_REPO_PART.fullmatch(part) and "--" not in part and ".." not in part for part in (owner, name)):
        return None
    if name.endswith(".git") or (at and not _is_part(revision)) or not all(_is_part(part) for part in parts):
        return None
    return HubPlace(f"{owner}/{name}", revision, path)


def fetch(place: HubPlace, limit_bytes: int | None, on_progress: OnProgress | None = None) -> Fetched:
    """Put the files of the SAE at ``place`` into huggingface_hub's cache, unless they are there, and say where.

    Of a folder these are the files with a suffix of SAE_FILES in it and below; of a file, that file and the configs
    beside it. All come from one commit, which is settled first; a full commit hash whose files are there needs no
    network. Nothing is downloaded if it would be more than ``limit_bytes`` (None: than the disk holds) or MAX_FILES
    files. ``on_progress`` is told bytes done and bytes to do; what it raises ends the download.

    Raises HubError, one sentence that names the place and the fault.
    """
    repo = open_repo(place.repo, place.revision)
    wanted = _files_of_sae(repo, place.path)
    if len(wanted) > MAX_FILES:
        some = _listed(_children(repo.files, place.path))
        raise HubError(f"{repo}/{place.path} holds {len(wanted)} files: name one SAE in it, such as one of {some}.")
    repo.download(wanted, limit_bytes, on_progress)
    return Fetched(repo.folder / place.path, repo.commit)


def must_be_there(repo: Repo, path: str) -> None:
    """Raises HubError, which names a few that are, where neither a file nor a folder of ``repo`` is called ``path``."""
    if not path or path in repo.files or any(name.startswith(f"{path}/") for name in repo.files):
        return
    above = PurePosixPath(path).parent
    while str(above) != "." and not any(name.startswith(f"{above}/") for name in repo.files):
        above = above.parent
    folder = "" if str(above) == "." else str(above)
    there = _children(repo.files, folder)
    wanted = PurePosixPath(path).relative_to(above).parts[0]
    near = difflib.get_close_matches(wanted, there, n=5, cutoff=0.0)
    raise HubError(f"{repo} has no {path}: in {folder or 'its top folder'} there is {_listed(near) or 'nothing'}.")


def _files_of_sae(repo: Repo, path: str) -> list[str]:
    must_be_there(repo, path)
    if path not in repo.files:
        inside = f"{path}/" if path else ""
        found = [name for name in repo.files if name.startswith(inside) and name.endswith(SAE_FILES)]
        if not found:
            some = _listed(_children(repo.files, path))
            raise HubError(f"{repo}/{path} holds no files of an SAE ({', '.join(SAE_FILES)}), but {some or 'nothing'}.")
        return found
    if not path.endswith(SAE_FILES):
        raise HubError(f"{repo}/{path} is no file of an SAE: these end in {', '.join(SAE_FILES)}.")
    # A config that is named stands for its folder.
    suffixes = SAE_FILES if path.endswith(CONFIGS) else CONFIGS
    beside = [name for name in repo.files if PurePosixPath(name).parent == PurePosixPath(path).parent]
    small = [n for n in beside if not n.endswith(CONFIGS) or repo.files[n] <= MAX_CONFIG_BYTES]
    return [path, *(name for name in small if name != path and name.endswith(suffixes))]


def _is_part(text: str) -> bool:
    return _PART.fullmatch(text) is not None and text not in {".", ".."}


def _children(files: Sequence[str] | dict[str, int], folder: str) -> list[str]:
    """Names of the files and folders right in ``folder``."""
    start = f"{folder}/" if folder else ""
    return sorted({name.removeprefix(start).split("/")[0] for name in files if name.startswith(start)})


def _listed(names: Sequence[str]) -> str:
    shown = [name if len(name) <= 60 else f"{name[:57]}..." for name in names[:5]]
    return ", ".join(shown) + (" and others" if len(names) > 5 else "")
