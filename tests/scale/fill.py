"""One model, five SAEs of it, a run of each: what ingest would have written, in a few minutes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.contrib.auth.models import User
from django.db import connection, transaction
from numpy.typing import NDArray

from features.models import SAE, Activity, Columns, Context, Corpus, Feature, Label, LanguageModel, Run
from features.models import Vocabulary as VocabularyRow
from features.models.run import DENSE, VERY_DENSE
from features.search.contexts import index_run
from features.search.phrases import remember
from features.store.columns import pack_columns
from features.store.contexts import pack_features, pack_ids
from jobs import bulk, packing
from tests.scale.columns import pack_histogram_rows, pack_ranked_rows, pack_rows
from tests.scale.labels import COLUMNS, Labels, label_rows, make_labels
from tests.scale.layouts import make_layout
from tests.scale.numbers import Numbers, contexts_of, make_numbers
from tests.scale.people import make_people, make_traces
from tests.scale.templates import Templates
from tests.scale.texts import LENGTH, PER_DOCUMENT, Texts, make_texts
from tests.scale.vocabulary import N_SPECIAL, Vocabulary

MILLION = 1_000_000
WIDTHS = (524_288, 262_144, 131_072, 65_536, 16_960)
LAYERS = (9, 12, 15, 18, 21)
MOST_CONTEXTS, LEAST_CONTEXTS = 65_536, 64
CHUNK = 8_192
D_MODEL = 576
Say = Callable[[str], None]


@dataclass(frozen=True)
class World:
    """What all SAEs share."""

    seed: int
    words: Vocabulary
    texts: Texts
    templates: Templates
    model: LanguageModel
    corpus: Corpus
    people: list[User]


def widths(n_features: int) -> list[int]:
    """Those of a million features, or their proportions with ``n_features`` in all."""
    found = [n_features * width // MILLION for width in WIDTHS[:-1]]
    return [*found, n_features - sum(found)]


@dataclass(frozen=True)
class Plan:
    """``only``: the number of the one SAE to write, without what people left.

    ``templates``: of common features in each class, and of rare ones of each number of contexts.
    """

    n_features: int = MILLION
    seed: int = 0
    only: int | None = None
    templates: tuple[int, int] = (512, 48)


def fill(plan: Plan, words: Vocabulary, say: Say) -> list[SAE]:
    """Needs a migrated database without models. An SAE's rows depend on no other's, but for keys and phrases."""
    wanted = [(i, d) for i, d in enumerate(widths(plan.n_features)) if plan.only in (None, i)]
    say("words, texts and templates")
    world = _world(plan, words, max(_n_contexts(d) for _, d in wanted))
    saes, first = [], 0
    for number, d_sae in wanted:
        with transaction.atomic():
            sae, n_written = _fill_sae(world, number, d_sae, first, say)
        saes.append(sae)
        first += n_written
    if plan.only is not None:
        return saes
    say("what people left")
    with transaction.atomic():
        make_traces(np.random.default_rng([plan.seed, 3]), saes, world.people)
    return saes


def _n_contexts(d_sae: int) -> int:
    return min(max(d_sae // 4, LEAST_CONTEXTS), MOST_CONTEXTS)


def _world(plan: Plan, words: Vocabulary, n_contexts: int) -> World:
    seed, templates = plan.seed, Templates.make(plan.seed, *plan.templates)
    with transaction.atomic():
        model = LanguageModel.objects.create(
            slug="scale", name="scale", source="scale", architecture="LlamaForCausalLM", n_layers=30, d_model=D_MODEL,
            vocab_size=len(words.tokens), weights_digest=f"{seed:064x}", tokenizer_digest=f"{seed:064x}",
        )  # fmt: skip
        ends = np.cumsum([len(token) for token in words.tokens])
        special = pack_ids(np.arange(N_SPECIAL))
        VocabularyRow.objects.create(
            model=model, raw=b"".join(words.tokens), ends=pack_ids(ends), special_ids=special, joiner=""
        )
        corpus = Corpus.objects.create(
            slug="scale", name="made-up texts", source="made up", digest=f"{seed:064x}",
            n_documents=MOST_CONTEXTS // PER_DOCUMENT, n_bytes=MOST_CONTEXTS * 500, generator={"seed": seed},
        )  # fmt: skip
        people = make_people()
    return World(seed, words, make_texts(words, n_contexts, seed), templates, model, corpus, people)


def _fill_sae(world: World, number: int, d_sae: int, first: int, say: Say) -> tuple[SAE, int]:
    """The SAE, and how many phrases its labels took."""
    rng = np.random.default_rng([world.seed, 10 + number])
    n_contexts = _n_contexts(d_sae)
    numbers = make_numbers(rng, d_sae, n_contexts, world.templates)
    contexts = contexts_of(rng, d_sae, n_contexts)
    sae, run = _make_run(world, number, d_sae, n_contexts, numbers)
    labels = make_labels(rng, world.words, numbers.n_firing > 0, first)
    keys = bulk.reserve(Feature, d_sae)
    features = range(keys[0], keys[0] + d_sae)
    say(f"{sae.slug}: features")
    feature_columns = ("id", *packing.FEATURE)
    bulk.insert(Feature, feature_columns, _feature_rows(rng, world, sae, features, labels.shown()))
    say(f"{sae.slug}: activities")
    bulk.insert(Activity, packing.ACTIVITY, _activity_rows(rng, run, numbers, contexts, features))
    say(f"{sae.slug}: contexts")
    bulk.insert(Context, packing.CONTEXT, _context_rows(world.texts, run, numbers, contexts))
    say(f"{sae.slug}: labels")
    bulk.insert(Label, COLUMNS, label_rows(rng, world.words, labels, run.pk, features, world.people))
    say(f"{sae.slug}: columns, phrases and words")
    _derive(run, numbers, labels)
    make_layout(rng, world.words, sae)
    return sae, len(labels.written)


def _make_run(world: World, number: int, d_sae: int, n_contexts: int, numbers: Numbers) -> tuple[SAE, Run]:
    slug = f"scale-{d_sae}"
    sae = SAE.objects.create(
        slug=slug, name=slug, model=world.model, architecture="topk", format="saelens", source=slug, hook="resid_post",
        layer=LAYERS[number], d_in=D_MODEL, d_out=D_MODEL, d_sae=d_sae, k=64, digest=f"{number:064x}", label_epoch=1,
    )  # fmt: skip
    n_tokens = n_contexts * (LENGTH - 1)
    density = numbers.n_firing / n_tokens
    run = Run.objects.create(
        sae=sae, corpus=world.corpus, owner=world.people[0], settings={"context": LENGTH, "top": 24, "per_band": 4},
        provenance={"device": "none", "dtype": "float32"}, n_documents=n_contexts // PER_DOCUMENT + 1,
        n_contexts=n_contexts, n_tokens=n_tokens, n_special=n_contexts, n_sinks=0, n_alive=int((density > 0).sum()),
        n_dense=int((density > DENSE).sum()), n_very_dense=int((density > VERY_DENSE).sum()),
        explained_variance=0.83, fvu=0.17, cosine=0.93, shrinkage=0.96, l0=float(density.sum()), valid=True,
        seconds=3_600.0,
    )  # fmt: skip
    return sae, run


def _feature_rows(
    rng: np.random.Generator, world: World, sae: SAE, features: range, shown: dict[int, int]
) -> Iterator[tuple[Any, ...]]:
    n_tokens = len(world.words.tokens)
    for start in range(0, sae.d_sae, CHUNK):
        n = min(CHUNK, sae.d_sae - start)
        effects = np.sort(rng.gamma(8, 0.1, (n, 2, 10)), axis=2)[:, :, ::-1] * np.array([[1], [-1]])
        logits = pack_ranked_rows(rng.integers(N_SPECIAL, n_tokens, (n, 20)), effects.reshape(n, 20), 2)
        cosines = np.sort(rng.beta(4, 12, (n, 2, 10)), axis=2)[:, :, ::-1].reshape(n, 20)
        neighbours = pack_ranked_rows(rng.integers(0, sae.d_sae, (n, 20)), cosines, 2)
        own = rng.uniform(0.5, 0.92, n).tolist()
        for i in range(n):
            index = start + i
            yield features[index], sae.pk, index, 1.0, own[i], logits[i], neighbours[i], shown.get(index)


def _activity_rows(
    rng: np.random.Generator, run: Run, numbers: Numbers, contexts: NDArray[np.int32], features: range
) -> Iterator[tuple[Any, ...]]:
    none, d_sae = b"\1\0", len(contexts)
    for start in range(0, d_sae, CHUNK):
        part = slice(start, min(start + CHUNK, d_sae))
        examples = _examples(numbers, contexts, part)
        histograms = pack_histogram_rows(numbers.top_bin[part], numbers.counts[part])
        n = len(examples)
        overlaps = np.sort(rng.beta(2, 6, (n, 8)), axis=1)[:, ::-1]
        partners = pack_ranked_rows(rng.integers(0, d_sae, (n, 8)), overlaps, 1)
        columns = [
            numbers.n_firing[part], numbers.n_contexts[part], numbers.n_firing[part] / run.n_tokens,
            numbers.maximum[part].astype(np.float64), numbers.mean[part],
        ]  # fmt: skip
        for i, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            index = start + i
            yield run.pk, features[index], index, *row, histograms[i], examples[i], partners[i] if row[0] else none, b""


def _examples(numbers: Numbers, contexts: NDArray[np.int32], part: slice) -> list[bytes]:
    """Packed one by one from templates, whose columns of contexts are packed together by their length."""
    chosen = [numbers.templates[t] if t >= 0 else None for t in numbers.template[part].tolist()]
    size = np.array([template.n if template else 0 for template in chosen])
    columns = [b""] * len(chosen)
    for n in np.unique(size[size > 0]).tolist():
        rows = np.flatnonzero(size == n)
        for at, column in zip(rows.tolist(), pack_rows(contexts[part][rows, :n]), strict=True):
            columns[at] = column
    shifts = numbers.shift[part].tolist()
    return [t.pack(column, shift) if t else b"" for t, column, shift in zip(chosen, columns, shifts, strict=True)]


def _context_rows(texts: Texts, run: Run, numbers: Numbers, contexts: NDArray[np.int32]) -> Iterator[tuple[Any, ...]]:
    """Every context of the run, with the features that have it as an example in which they fire."""
    cited, features = citations(numbers, contexts)
    bounds = np.searchsorted(cited, np.arange(run.n_contexts + 1)).tolist()
    for number in range(run.n_contexts):
        document, at = divmod(number, PER_DOCUMENT)
        blob = pack_features(features[bounds[number] : bounds[number + 1]])
        name, offset = f"made-up/{document:06d}", at * LENGTH
        yield run.pk, number, name, "made-up texts", offset, texts.packed[number], blob


def citations(numbers: Numbers, contexts: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Contexts, ascending, and for each the index of a feature that shows it as one in which it fires."""
    shown = np.array([template.n_firing for template in numbers.templates] + [0])[numbers.template]
    cited = contexts[np.arange(contexts.shape[1]) < shown[:, None]]
    features = np.repeat(np.arange(len(contexts), dtype=np.int32), shown)
    order = np.argsort(cited.astype(np.uint16), kind="stable")  # MOST_CONTEXTS is 2**16; short numbers sort fast
    return cited[order], features[order]


def _derive(run: Run, numbers: Numbers, labels: Labels) -> None:
    """What a normal ingest works out beside the rows."""
    ruled = np.zeros(len(numbers.n_firing), bool)
    ruled[labels.ruled] = True
    density = numbers.n_firing / run.n_tokens
    packed = pack_columns(numbers.n_firing, density, numbers.maximum.astype(np.float64), numbers.mean, ruled)
    Columns.objects.create(run=run, packed=packed)
    remember(labels.texts())
    index_run(run.pk)


def settle() -> None:
    """What a database does by itself after a while: statistics for its planner, and visibility for its indexes."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
