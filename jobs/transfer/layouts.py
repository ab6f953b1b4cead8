"""What the files of an import are, found from what they hold: names only say in which order they are read."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from jobs.transfer.faults import Broken, NotAnExport, Refused
from jobs.transfer.lines import ObjectReader, lines, parsed
from jobs.transfer.records import Source, source_of, text
from jobs.transfer.tree import Tree

NOTE = "featurescope.json"
NOTE_VERSION = 1
EXPECTED = (
    "Expected are Neuronpedia's features, activations and explanations as .jsonl or .jsonl.gz, or the batch-N.json of "
    "SAEDashboard's Neuronpedia runner."
)
_ABOUT = ("model", "release", "sourceset", "source")
_LOOK = 20  # lines that are looked at before a file counts as unknown
_LOOK_BYTES = 1 << 20  # of a small JSON file


@dataclass(frozen=True)
class Step:
    """One file to read; ``kind`` names the function that reads its records."""

    kind: str
    name: str


@dataclass
class Plan:
    """``about``: what model.jsonl, source.jsonl and run_settings.json say; ``note``: what our own export says."""

    layout: str
    source: Source
    steps: list[Step]
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    note: dict[str, Any] = field(default_factory=dict)
    unknown: list[tuple[str, str]] = field(default_factory=list)


def plan(tree: Tree) -> Plan:
    """Look into the beginning of every file. Raises NotAnExport and OSError."""
    looked = _Looked()
    for name in tree.sizes:
        _look(tree, name, looked)
    if looked.note:
        return _own(looked)
    if looked.batches and looked.records:
        raise NotAnExport("It holds both Neuronpedia's lines and SAEDashboard's batches: import one of them at a time.")
    found = {source for _, source in looked.batches} or {source for _, _, source in looked.records}
    if not found:
        why = f" {looked.unknown[0][0]}: {looked.unknown[0][1]}." if looked.unknown else ""
        raise NotAnExport(f"None of its files is an export that can be read here.{why} {EXPECTED}")
    if len(found) > 1:
        names = ", ".join(sorted(f"{source.model}/{source.id}" for source in found)[:3])
        raise NotAnExport(f"It holds the features of {len(found)} sources ({names}): import one at a time.")
    (source,) = found
    if looked.batches:
        steps = [Step("batch", name) for name, _ in looked.batches]
        return Plan("saedashboard", source, steps, looked.about, unknown=looked.unknown)
    order = ("feature", "activation", "explanation")
    steps = [Step(kind, name) for wanted in order for kind, name, _ in looked.records if kind == wanted]
    return Plan("neuronpedia", source, steps, looked.about, unknown=looked.unknown)


@dataclass
class _Looked:
    records: list[tuple[str, str, Source]] = field(default_factory=list)
    batches: list[tuple[str, Source]] = field(default_factory=list)
    own: dict[str, list[str]] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    note: dict[str, Any] = field(default_factory=dict)
    unknown: list[tuple[str, str]] = field(default_factory=list)


def _look(tree: Tree, name: str, looked: _Looked) -> None:
    base = PurePosixPath(name).name.lower()
    try:
        if ".jsonl" in base:
            _look_at_lines(tree, name, looked)
        elif base == NOTE:
            looked.note = _small(tree, name)
        elif base == "run_settings.json":
            looked.about["settings"] = _small(tree, name)
        else:
            _look_at_batch(tree, name, looked)
    except (Refused, Broken) as error:
        looked.unknown.append((name, str(error)))


def _look_at_lines(tree: Tree, name: str, looked: _Looked) -> None:
    why = ""
    with tree.open(name) as file:
        for number, line in lines(file):
            if number > _LOOK:
                break
            try:
                if isinstance(line, Refused):
                    raise line
                _place(parsed(line), name, looked)
                return
            except Refused as error:
                why = f"line {number}: {error}"
    if why:  # a batch without a line is none of anything, and no fault
        raise Refused(why)


def _place(record: dict[str, Any], name: str, looked: _Looked) -> None:
    """Say what a file's first good line makes of the file. Raises Refused."""
    stem = PurePosixPath(name).name.lower().split(".")[0]
    if kind := record.get("featurescope"):
        looked.own.setdefault(str(kind), []).append(name)
    elif "tokens" in record and "values" in record:
        looked.records.append(("activation", name, source_of(record)))
    elif "description" in record and "index" in record:
        looked.records.append(("explanation", name, source_of(record)))
    elif "frac_nonzero" in record or "pos_str" in record:
        looked.records.append(("feature", name, source_of(record)))
    elif stem in _ABOUT:
        looked.about[stem] = record
    else:
        raise Refused("it is no feature, activation or explanation")


def _look_at_batch(tree: Tree, name: str, looked: _Looked) -> None:
    with tree.open(name) as file:
        reader = ObjectReader(file, "features")
        next(reader.elements(), None)
    looked.batches.append((name, batch_source(reader.facts)))


def batch_source(facts: dict[str, Any]) -> Source:
    """Which features a batch of SAEDashboard's is about. Raises Refused."""
    model, name, suffix = text(facts, "model_id", 200), text(facts, "sae_set", 150), text(facts, "sae_id_suffix", 40)
    layer = text(facts, "layer", 4)
    if not (model and name and layer.isascii() and layer.isdigit()):
        raise Refused("it does not say model_id, layer and sae_set before its features")
    return Source(model, f"{layer}-{name}" + (f"__{suffix}" if suffix else ""))


def _small(tree: Tree, name: str) -> dict[str, Any]:
    with tree.open(name) as file:
        raw = file.read(_LOOK_BYTES + 1)
    if len(raw) > _LOOK_BYTES:
        raise Refused(f"it is longer than {_LOOK_BYTES >> 20} MiB")
    return parsed(raw)


def _own(looked: _Looked) -> Plan:
    """Our own export: the notes hold all that stands in Neuronpedia's files, exactly, so those are not read."""
    version = looked.note.get("version")
    if looked.note.get("format") != "featurescope" or type(version) is not int:
        raise NotAnExport(f"{NOTE} is not what this project's export writes: delete it to import the rest.")
    if version > NOTE_VERSION:
        raise NotAnExport(
            f"{NOTE} is of version {version}, and this code reads version {NOTE_VERSION}: update it, or delete "
            f"{NOTE} and the folder beside it to import what Neuronpedia's own files say."
        )
    steps = [Step(kind, name) for kind in ("tokens", "context", "own") for name in looked.own.get(kind, [])]
    if not looked.own.get("own"):
        raise NotAnExport(f"The folder beside {NOTE} is missing: delete {NOTE} to import the rest.")
    with suppress(KeyError, TypeError, Refused):
        source = Source(text(looked.note["source"], "modelId", 200), text(looked.note["source"], "id", 200))
        return Plan("neuronpedia", source, steps, looked.about, looked.note, looked.unknown)
    raise NotAnExport(f"{NOTE} does not say which model and source it is about.")
