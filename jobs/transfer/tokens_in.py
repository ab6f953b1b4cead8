"""The vocabulary of an imported model: it grows by the tokens that its files hold."""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from features.models import LanguageModel, Vocabulary
from features.store.contexts import pack_ids, unpack_ids
from features.vocabulary import Tokens
from jobs.transfer.layouts import Plan
from jobs.transfer.spool import Spool


def settle_tokens(spool: Spool, plan: Plan, model: LanguageModel) -> tuple[Tokens, NDArray[np.int64] | None]:
    """The model's tokens with those of the files, and the number here of each of theirs; None if they are the same.

    A token keeps its number where it stands there already: so files with a vocabulary of their own are taken as they
    are. Rows are locked by the caller.
    """
    row = Vocabulary.objects.filter(model=model).first() or _new(plan, model)
    old = Tokens(bytes(row.raw), unpack_ids(bytes(row.ends)), frozenset(), row.joiner)
    known = [old.bytes_of(i) for i in range(len(old.ends))]
    by_bytes = {raw: i for i, raw in reversed(list(enumerate(known)))}
    numbers, n_old = [], len(known)
    for local, raw in ((i, bytes(raw)) for i, raw in spool.db.execute("SELECT id, raw FROM tokens ORDER BY id")):
        if local == len(known):
            known.append(raw)
            by_bytes.setdefault(raw, local)
        if known[local : local + 1] == [raw]:
            numbers.append(local)
            continue
        if raw not in by_bytes:
            by_bytes[raw] = len(known)
            known.append(raw)
        numbers.append(by_bytes[raw])
    if len(known) > n_old:
        row.raw = b"".join(known)
        row.ends = pack_ids(np.cumsum([len(raw) for raw in known]))
        row.save()
        # Pages keep a model's tokens by this digest: a vocabulary that has grown has another one.
        model.tokenizer_digest = sha256(row.ends + row.raw).hexdigest()
        model.save(update_fields=["tokenizer_digest"])
    special = frozenset(int(i) for i in unpack_ids(bytes(row.special_ids)))
    tokens = Tokens(bytes(row.raw), unpack_ids(bytes(row.ends)), special, row.joiner)
    table = np.array(numbers, np.int64)
    return tokens, None if np.array_equal(table, np.arange(len(table))) else table


def _new(plan: Plan, model: LanguageModel) -> Vocabulary:
    note = plan.note.get("model") or {}
    listed = note.get("special_ids")
    special = [i for i in listed if type(i) is int and 0 <= i < 1 << 32] if isinstance(listed, list) else []
    joiner = " " if note.get("joiner") == " " else ""
    return Vocabulary.objects.create(model=model, raw=b"", ends=b"", special_ids=pack_ids(special), joiner=joiner)
