"""The first pass: every record of every file into the spool, from the place at which the last worker stopped."""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from jobs.transfer.faults import Broken, Refused
from jobs.transfer.layouts import Plan, Step, batch_source
from jobs.transfer.lines import ObjectReader, lines, parsed
from jobs.transfer.neuronpedia_in import read_activation, read_explanation, read_feature
from jobs.transfer.notes_in import read_context, read_own, read_tokens
from jobs.transfer.saedashboard_in import read_batch_feature
from jobs.transfer.spool import Spool
from jobs.transfer.tree import Tree

COMMIT_EVERY = 2_000  # records
Tell = Callable[[dict[str, Any]], object]  # where reading is; it may raise, to stop it

_OF_SOURCE = {"feature": read_feature, "activation": read_activation, "explanation": read_explanation}
_OWN = {"tokens": read_tokens, "context": read_context, "own": read_own}


def open_spool(folder: Path, tree: Tree, plan: Plan) -> Spool:
    """The spool of these files, with what was read of them before."""
    files = json.dumps([plan.layout, plan.source.model, plan.source.id, sorted(tree.sizes.items())])
    return Spool(folder / "spool.sqlite3", sha256(files.encode()).hexdigest())


def read_all(tree: Tree, plan: Plan, spool: Spool, tell: Tell) -> None:
    """Raises OSError where a file cannot be opened, and whatever ``tell`` raises; the place is kept before that."""
    if not spool.place:
        for name, why in plan.unknown:
            spool.fault(name, None, f"The file is left out: {why}.")
    begin, skip = spool.place.get("step", 0), spool.place.get("number", 0)
    for at in range(begin, len(plan.steps)):
        read_file(tree, plan, at, spool, tell, skip if at == begin else 0)
        spool.commit(step=at + 1, number=0)


def read_file(tree: Tree, plan: Plan, at: int, spool: Spool, tell: Tell, skip: int) -> None:
    """The records of one file behind the first ``skip``."""
    step, number = plan.steps[at], skip
    where = {"stage": "reading", "file": step.name, "n_files": len(plan.steps), "number": at + 1}
    tell(where | {"line": number})
    try:
        for number, record in _records(tree, step, plan, skip):
            spool.n_read += 1
            try:
                _read(record, step, plan, spool, number)
            except Refused as error:
                spool.fault(step.name, number, f"{_sentence(error)}.")
            if number % COMMIT_EVERY == 0:
                spool.commit(step=at, number=number)
                tell(where | {"line": number})
    except (Broken, Refused) as error:
        spool.fault(step.name, number + 1, f"Nothing can be read from here on: {error}.")


def _records(tree: Tree, step: Step, plan: Plan, skip: int) -> Iterator[tuple[int, bytes | dict[str, Any] | Refused]]:
    with tree.open(step.name) as file:
        if step.kind != "batch":
            yield from lines(file, skip)
            return
        reader, fresh = ObjectReader(file, "features"), True
        for number, record in reader.elements():
            if fresh and (found := batch_source(reader.facts)) != plan.source:
                raise Broken(f"it is of {found.model}/{found.id}, the others of {plan.source.model}/{plan.source.id}")
            fresh = False
            if number > skip:
                yield number, record


def _read(record: bytes | dict[str, Any] | Refused, step: Step, plan: Plan, spool: Spool, number: int) -> None:
    if isinstance(record, Refused):
        raise record
    if isinstance(record, dict):
        read_batch_feature(record, spool, step.name, number)
    elif step.kind in _OWN:
        _OWN[step.kind](parsed(record), spool)
    else:
        _OF_SOURCE[step.kind](parsed(record), spool, plan.source)


def _sentence(error: Refused) -> str:
    """Its first letter large."""
    said = str(error)
    return said[:1].upper() + said[1:]
