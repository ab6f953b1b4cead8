"""One commit of a repository on a hub: what is in it, and the part of it that lies in huggingface_hub's cache.

The hub's address is HF_ENDPOINT, the token HF_TOKEN, the cache HF_HUB_CACHE (or HF_HOME), and HF_HUB_OFFLINE keeps the
network out of it: all as huggingface_hub reads them from the environment. No token and no address with a password in
it gets into a message.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants

from jobs.engine.digests import write_atomically
from jobs.engine.errors import HubError
from jobs.engine.hub_errors import OFF, in_one_sentence

OnProgress = Callable[[int, int], object]  # bytes done, bytes to do

TIMEOUT_SECONDS = 20
MAX_LISTING_BYTES = 64 << 20

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"(?!.*\.\.)[\w.-]{1,200}", re.ASCII)


@dataclass(frozen=True)
class Repo:
    """``files``: bytes of every file, by its path in the repository. ``revision``: what ``commit`` was asked for as."""

    name: str
    revision: str
    commit: str
    files: dict[str, int]

    def __str__(self) -> str:
        return f"{self.name}@{self.commit[:12]}"

    @property
    def folder(self) -> Path:
        """The snapshot. Its files are links into the cache's blobs."""
        return _cache(self.name) / "snapshots" / self.commit

    def download(self, names: Iterable[str], limit_bytes: int | None, on_progress: OnProgress | None = None) -> None:
        """Have ``names`` in the snapshot, whole. Raises HubError, and before anything is fetched if it is too much."""
        wanted = sorted(set(names))
        total = sum(self.files[name] for name in wanted)
        if limit_bytes is not None and total > limit_bytes:
            sizes = f"{len(wanted)} files of {_size(total)} in all"
            raise HubError(f"{self} is too large: {sizes}, and the limit is {_size(limit_bytes)}.")
        missing = [name for name in wanted if not self._has(name)]
        if missing:
            self._fetch(missing, _Tally(self, sum(self.files[name] for name in missing), on_progress))
        if not _COMMIT.fullmatch(self.revision):
            _write(_cache(self.name) / "refs" / (self.revision or "main"), self.commit)

    def _fetch(self, missing: list[str], tally: "_Tally") -> None:
        if huggingface_hub.is_offline_mode():
            raise HubError(f"{self} is not whole in this machine's cache ({missing[0]} is missing), and {OFF}.")
        _check_room(self, tally.total)
        _write(_listing_path(self.name, self.commit), json.dumps(self.files))
        for name in missing:
            self._forget(name)
            with in_one_sentence(str(self)):
                huggingface_hub.hf_hub_download(
                    self.name,
                    name,
                    revision=self.commit,
                    endpoint=constants.ENDPOINT,
                    etag_timeout=TIMEOUT_SECONDS,
                    tqdm_class=tally.bar(),
                )
            if not self._has(name):
                self._forget(name)
                raise HubError(f"{self} sent {name} with another size than it announced; try again.")

    def _has(self, name: str) -> bool:
        try:
            return (self.folder / name).stat().st_size == self.files[name]
        except OSError:
            return False

    def _forget(self, name: str) -> None:
        """Take a damaged file out of the cache, for one that is there would be used again."""
        path = self.folder / name
        blob = path.resolve()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            if blob.is_relative_to(_cache(self.name).resolve() / "blobs"):
                blob.unlink(missing_ok=True)


def open_repo(name: str, revision: str = "") -> Repo:
    """Settle on the commit that ``revision`` is now ("": the default branch) and list its files. Raises HubError.

    Offline this is the commit that was fetched last under that name.
    """
    if revision and not _REVISION.fullmatch(revision):
        raise HubError(f"{name} has no revision {revision[:50]!r}: give a branch, a tag or a commit.")
    if huggingface_hub.is_offline_mode():
        return _from_cache(name, revision)
    if _COMMIT.fullmatch(revision) and (known := _read_listing(name, revision)):
        return Repo(name, revision, revision, known)
    label = f"{name}@{revision}" if revision else name
    with in_one_sentence(label):
        info = huggingface_hub.HfApi(endpoint=constants.ENDPOINT).model_info(
            name, revision=revision or None, files_metadata=True, timeout=TIMEOUT_SECONDS
        )
        files = {file.rfilename: file.size for file in info.siblings or []}
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        raise HubError(f"The hub does not say which commit {label} is, so nothing of it is used.")
    return Repo(name, revision, info.sha, _checked(label, files))


def _checked(label: str, files: dict[Any, Any]) -> dict[str, int]:
    """``files`` with names that stay inside the snapshot, and sizes. Raises HubError."""
    for name, size in files.items():
        if not isinstance(name, str) or not _is_safe(name):
            raise HubError(f"{label} lists a file {str(name)[:80]!r}, a name that leads elsewhere: nothing is fetched.")
        if type(size) is not int or size < 0:
            raise HubError(f"The hub does not say how large {name[:80]!r} in {label} is, so nothing of it is fetched.")
    return files


def _is_safe(name: str) -> bool:
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and all(part not in {"", ".", ".."} for part in parts)


def _from_cache(name: str, revision: str) -> Repo:
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (_cache(name) / "refs" / (revision or "main")).read_text().strip()
        except (OSError, ValueError):
            commit = ""
    folder = _cache(name) / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not folder.is_dir():
        label = f"{name}@{revision}" if revision else name
        raise HubError(f"{label} is not in this machine's cache, and {OFF}.")
    files = _read_listing(name, commit)
    if not files:  # fetched by another program: what is there has to be taken for everything
        files = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    return Repo(name, revision, commit, files)


def _cache(name: str) -> Path:
    """The repository's folder, laid out as huggingface_hub documents it: refs, snapshots and blobs."""
    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


def _listing_path(name: str, commit: str) -> Path:
    """What the whole commit holds, kept to tell offline whether a download had come to its end."""
    return _cache(name) / "featurescope" / f"{commit}.json"


def _read_listing(name: str, commit: str) -> dict[str, int]:
    try:
        with _listing_path(name, commit).open("rb") as file:
            files = json.loads(file.read(MAX_LISTING_BYTES))
        return _checked(name, files) if isinstance(files, dict) else {}
    except (OSError, ValueError, RecursionError, HubError):
        return {}


def _write(path: Path, text: str) -> None:
    """A cache that is complete may be read-only."""
    with contextlib.suppress(OSError):
        if not path.is_file() or path.read_text() != text:
            write_atomically(path, text)


def _check_room(repo: Repo, needed: int) -> None:
    folder = _cache(repo.name)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if needed > (free := shutil.disk_usage(existing).free):
        raise HubError(f"{repo} needs {_size(needed)} in {existing}, where only {_size(free)} are free.")


class _Tally:
    """Counts what arrives, in the place of a progress bar, and ends a download that is longer than announced."""

    def __init__(self, repo: Repo, total: int, on_progress: OnProgress | None) -> None:
        self.repo, self.total, self.done, self.on_progress = repo, total, 0, on_progress

    def add(self, n: float) -> None:
        self.done += int(n)
        if self.done > self.total:
            raise HubError(f"{self.repo} sends more bytes than it announced, so the download was ended.")
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)

    def bar(self) -> type[Any]:
        """A class that huggingface_hub takes for tqdm's: every byte that it is told of counts here."""
        from tqdm.auto import tqdm

        tally = self

        class Bar(tqdm):  # type: ignore[misc]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **{**kwargs, "disable": True})

            def update(self, n: float | None = 1) -> None:
                tally.add(n or 0)

            def update_transfer(self, n: float | None = 1) -> None:
                """Bytes on the wire, which Xet tells apart from bytes of the file."""

            def set_transfer_postfix_str(self, text: str = "", refresh: bool = True) -> None:
                """The speed, which nobody looks at."""

        return Bar


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"
