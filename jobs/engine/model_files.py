"""Where a model's files lie, whether in a folder, a package or on a hub: in the end always a folder on this machine."""

import importlib.util
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.engine import hub
from jobs.engine.errors import ModelLoadError
from jobs.engine.hub_repo import OnProgress, Repo, open_repo

MAX_JSON_BYTES = 64 << 20

# In the order in which transformers looks for them.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# Config and tokenizer, whatever kind it is.
_SMALL = (".json", ".model", ".tiktoken", "vocab.txt", "merges.txt")


@dataclass(frozen=True)
class ModelFiles:
    """``gguf``: the file in ``folder`` that is the model. ``revision``: the commit, of a model from a hub."""

    folder: Path
    gguf: Path | None = None
    revision: str = ""
    name: str = ""

    def identity(self, own_code: bool) -> list[Path]:
        """The files that make the model what it is: weights and config, for a changed norm makes another model of them.

        With ``own_code``, the code that came with it too.
        """
        if self.gguf:
            return [self.gguf]
        names = {path.name for path in self.folder.iterdir()}
        code = [name for name in names if name.endswith(".py")] if own_code else []
        return sorted(self.folder / name for name in {"config.json", *weight_names(names, self.folder), *code})


def find_model(
    source: str, revision: str = "", *, own_code: bool = False, on_progress: OnProgress | None = None
) -> ModelFiles:
    """The files of ``source``, fetched where it is a place on a hub. Raises ModelLoadError and HubError.

    What exists here goes before a place on a hub that is written the same way. ``revision`` goes before one that is
    part of the place, and means nothing elsewhere. ``own_code``: fetch the repository's Python files too.
    """
    path = _package(source) if source.startswith("package:") else Path(source).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelLoadError(f"The model {source} is a file, but not a .gguf; give the folder that holds it.")
        return ModelFiles(path.parent, path, name=path.stem)
    if not path.is_dir():
        place = hub.parse(source)
        if place is None:
            raise ModelLoadError(f"The model {source} is missing: there is no such folder or .gguf file.")
        repo = open_repo(place.repo, revision or place.revision)
        return _fetch(repo, place.path, own_code, on_progress)
    if (path / "config.json").is_file():
        return ModelFiles(path, name=path.name)
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) != 1:
        found = "no config.json and no .gguf" if not ggufs else f"{len(ggufs)} .gguf files; name one of them"
        raise ModelLoadError(f"The model {source} cannot be read: the folder has {found}.")
    return ModelFiles(path, ggufs[0], name=ggufs[0].stem)


def weight_names(names: Collection[str], folder: Path) -> set[str]:
    """Which of ``names``, the files of a model, transformers will read its weights from. Raises ModelLoadError.

    Of several formats it takes one, so a copy of the weights in another format does not make another model.
    ``folder`` has the config and, of weights in many files, their index.
    """
    named = read_json(folder / "config.json").get("transformers_weights")
    order = [named] if isinstance(named, str) else _WEIGHTS
    first = next((name for name in order if name in names), None)
    if first is None:
        raise ModelLoadError(f"The model {folder} has no weights: none of {', '.join(order)} is there.")
    if not first.endswith(".index.json"):
        return {first}
    index = read_json(folder / first).get("weight_map")
    parts = set(index.values()) if isinstance(index, dict) else set()
    if not parts or not all(isinstance(part, str) and part in names for part in parts):
        raise ModelLoadError(f"The model {folder} is not whole: {first} names files that are not there.")
    return parts


def read_json(path: Path) -> dict[str, Any]:
    """The object in one of a model's JSON files. Raises ModelLoadError."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(MAX_JSON_BYTES))
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path} is not JSON: it is damaged, or not a model's.") from error
    if not isinstance(value, dict):
        raise ModelLoadError(f"{path} holds no JSON object, so it is not a model's.")
    return value


def _package(source: str) -> Path:
    try:
        spec = importlib.util.find_spec(source.removeprefix("package:"))
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ModelLoadError(f"The model {source} is missing: that Python package is not installed.")
    return Path(spec.origin).parent


def _fetch(repo: Repo, path: str, own_code: bool, on_progress: OnProgress | None) -> ModelFiles:
    """The model at ``path`` of ``repo``: a .gguf, or a folder with safetensors, into the cache.

    Pickled weights are never taken from a hub: opening one runs what its author put in, and the reader that forbids
    it is not proof against everything.
    """
    hub.must_be_there(repo, path)
    folder = repo.folder / path
    if path in repo.files:
        if not path.endswith(".gguf"):
            raise ModelLoadError(f"{repo}/{path} is a file, but not a .gguf; name the folder that holds it.")
        repo.download([path], None, on_progress)
        return ModelFiles(folder.parent, folder, repo.commit, folder.stem)
    inside = f"{path}/" if path else ""
    sizes = {name.removeprefix(inside): size for name, size in repo.files.items() if name.startswith(inside)}
    names = [name for name in sizes if "/" not in name]
    if "config.json" not in names:
        ggufs = [name for name in names if name.endswith(".gguf")]
        hint = f"; name one of its .gguf files, such as {repo.name}/{inside}{ggufs[0]}" if ggufs else ""
        raise ModelLoadError(f"{repo}{'/' if path else ''}{path} has no config.json, so it holds no model{hint}.")
    suffixes = (*_SMALL, ".py") if own_code else _SMALL
    small = [name for name in names if name.endswith(suffixes) and sizes[name] <= MAX_JSON_BYTES]
    repo.download([inside + name for name in small], None, None)
    weights = weight_names(names, folder)
    if not all(name.endswith(".safetensors") for name in weights):
        raise ModelLoadError(
            f"{repo} has only pickled weights, which can run code when they are opened: convert them to safetensors, "
            "or download them yourself and give the folder."
        )
    repo.download([inside + name for name in weights], None, on_progress)
    return ModelFiles(folder, None, repo.commit, Path(path).name or repo.name.split("/")[1])
