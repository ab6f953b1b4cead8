"""A small, consistent database without torch: every number in it follows from the activations made here."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from django.contrib.auth.models import User
from numpy.typing import NDArray

from features import shown_labels
from features.columns import packed_from_rows
from features.knowledge import members
from features.models import SAE, Activity, Columns, Context, Corpus, Feature, Label, LanguageModel, Run, Vocabulary
from features.models.member import Role
from features.search.phrases import remember
from features.store.contexts import pack_features, pack_ids, pack_tokens, unpack_tokens
from features.store.examples import NEAR_MISS, SILENT, Examples, pack_examples, unpack_examples
from features.store.histogram import pack_histogram
from features.store.ranked import Ranked, pack_ranked
from features.vocabulary import tokens_of

SPECIAL = ("<|bos|>", "<|endoftext|>")
HOSTILE = "<script>alert(1)</script>"
OVERRIDE = "\u202e"  # makes what follows it read from right to left
WORDS = (
    " the", " of", " and", " in", " to", " a", " is", " was", " for", " on", " at", " by", " from", " it", " that",
    " river", " cell", " court", " winter", " signal", " copper", " orchard", " engine", " letter", " voltage",
    " Paris", " London", " Kyoto", " Lima", " Oslo", " king", " queen", " doctor", " child", " judge",
    " opened", " closed", " measured", " heated", " crossed", " wrote", " fell", " grew", " returned", " carried",
    " red", " cold", " narrow", " quiet", " sudden", " ancient", " bright", " seven", " twelve", " hundred",
    ".", ",", ";", "\n", "\n\n", "  ", "\t", HOSTILE, OVERRIDE, "ing", "ed", "s",
)  # fmt: skip
TOKENS = [s.encode() for s in SPECIAL] + [bytes([b]) for b in range(256)] + [w.encode() for w in WORDS]
IDS = {token: i for i, token in enumerate(TOKENS)}
BY_LENGTH = sorted(TOKENS[2 + 256 :], key=len, reverse=True)
BOS = IDS[b"<|bos|>"]
SPLIT = "語"  # three byte tokens, one character

ROUTER: dict[str, Any] = {"router_layer": 6, "n_experts": 4, "per_token": 2, "shares": [0.75, 0.5, 0.5, 0.25]}
"""What a run on a mixture of experts has in ``experts``."""

DEAD, DENSE, SPLITS, HOSTILES, BLANKS, TIED, TIED_TOO, NAMED = range(8)
"""What the first features are: the rest fire on one to three words each. TIED and TIED_TOO fire alike."""


@dataclass(frozen=True)
class World:
    """What ``make_world`` made."""

    user: User
    model: LanguageModel
    sae: SAE
    corpus: Corpus
    run: Run


def encode(text: str) -> list[int]:
    """Greedy: the longest token that fits, else one token per byte."""
    rest, ids = text.encode(), []
    while rest:
        token = next((t for t in BY_LENGTH if rest.startswith(t)), rest[:1])
        ids.append(IDS[token])
        rest = rest[len(token) :]
    return ids


PASSWORD = "a long enough password"


def make_user(username: str = "ada", role: Role | None = None, **kwargs: Any) -> User:
    """Without a role, somebody with the default one."""
    user = User.objects.create_user(username, password=PASSWORD, **kwargs)
    if role is not None:
        members.give(user, role)
        user.refresh_from_db()
    return user


def make_model(slug: str = "tiny-lm", **kwargs: Any) -> LanguageModel:
    defaults = {
        "name": slug,
        "source": f"models/{slug}",
        "architecture": "TinyForCausalLM",
        "n_layers": 12,
        "d_model": 64,
        "vocab_size": len(TOKENS) + 2,  # two padded rows
        "weights_digest": _digest("weights", slug),
        "tokenizer_digest": _digest("tokenizer", slug),
        "hook_points": [
            {"hook": "embeddings", "width": 64, "layers": [0, 0]},
            {"hook": "resid_post", "width": 64, "layers": [0, 11]},
            {"hook": "mlp_act", "width": 256, "layers": [0, 1, 3, 5, 7]},
            {"hook": "mlp_out", "width": 64, "layers": [0, 11]},
        ],
    }
    model = LanguageModel.objects.create(slug=slug, **(defaults | kwargs))
    Vocabulary.objects.create(
        model=model,
        raw=b"".join(TOKENS),
        ends=pack_ids(np.cumsum([len(t) for t in TOKENS])),
        special_ids=pack_ids([0, 1]),
    )
    return model


def make_sae(model: LanguageModel, slug: str = "tiny-lm-l6", **kwargs: Any) -> SAE:
    defaults = {
        "name": slug,
        "model": model,
        "architecture": "topk",
        "format": "saelens",
        "source": f"saes/{slug}",
        "hook": "resid_post",
        "layer": 6,
        "d_in": model.d_model,
        "d_out": model.d_model,
        "d_sae": 24,
        "k": 8,
        "digest": _digest("sae", slug),
        "card": {"format": "saelens_v6", "reported_l0": 8.5, "files": [{"name": "w.safetensors", "bytes": 24_700}]},
        "training": {"tokens": 2_000_000, "fvu": 0.21, "seed": 0},
    }
    return SAE.objects.create(slug=slug, **(defaults | kwargs))


def make_corpus(slug: str = "small-texts", **kwargs: Any) -> Corpus:
    defaults = {
        "name": slug,
        "source": f"{slug}.jsonl",
        "digest": _digest("corpus", slug),
        "n_documents": 12,
        "n_bytes": 24_000,
        "origin": "written for the tests",
        "licence": "CC0-1.0",
    }
    return Corpus.objects.create(slug=slug, **(defaults | kwargs))


def make_run(sae: SAE, corpus: Corpus, owner: User | None = None, **kwargs: Any) -> Run:
    """The row alone: ``fill_run`` gives it contexts and activities."""
    defaults = {
        "settings": {"tokens": None, "context": 64, "top": 6, "seed": 0, "device": "cpu"},
        "provenance": {
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "dirty": False,
            "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
            "python": "3.11.9",
            "platform": "Linux",
            "device": "cpu (x86_64)",
            "dtype": "float32",
        },
        "n_documents": corpus.n_documents,
        "n_contexts": 0,
        "n_tokens": 1000,
        "n_special": 0,
        "n_sinks": 0,
        "n_alive": 0,
        "n_dense": 0,
        "n_pool_tokens": 500,
        "explained_variance": 0.83,
        "fvu": 0.17,
        "cosine": 0.93,
        "shrinkage": 0.94,
        "l0": 7.6,
        "valid": True,
        "seconds": 2.5,
    }
    return Run.objects.create(sae=sae, corpus=corpus, owner=owner, **(defaults | kwargs))


def make_features(sae: SAE, seed: int = 0) -> list[Feature]:
    return Feature.objects.bulk_create(
        Feature(
            sae=sae, index=index, decoder_norm=1.0, encoder_decoder_cosine=0.6, logits=logits, neighbours=neighbours
        )
        for index, (logits, neighbours) in enumerate(_weights(sae.d_sae, seed))
    )


def make_label(feature: Feature, text: str, author: User | None = None, run: Run | None = None) -> Label:
    """A person's label if there is an author, else a rule's."""
    if author is not None:
        label = Label.objects.create(feature=feature, text=text, source=Label.Source.PERSON, author=author)
    else:
        label = Label.objects.create(
            feature=feature, text=text, source=Label.Source.RULE, run=run, rule="token", precision=9 / 11, n_held_out=11
        )
    Feature.objects.filter(pk=feature.pk).update(label=label)
    shown_labels.changed(feature.sae_id)
    remember([text])
    return label


@cache  # hundreds of tests make the same world
def make_texts(n: int, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """``n`` contexts of up to 64 token ids, each beginning with the special token; every fifth holds odd tokens."""
    rng = np.random.default_rng(seed)
    words = [IDS[w.encode()] for w in WORDS[:62]]
    zipf = 1 / (2 + np.arange(len(words)))
    rows = []
    for number in range(n):
        row = [BOS, *(int(i) for i in rng.choice(words, 55 + number % 9, p=zipf / zipf.sum()))]
        if number % 5 == 0:
            row[20:20] = [*encode(SPLIT), *encode(HOSTILE), IDS[b"\n"], *encode(" é"), IDS[OVERRIDE.encode()]]
        rows.append(tuple(row[:64]))
    return tuple(rows)


def fill_run(run: Run, features: Sequence[Feature], n_contexts: int = 40, seed: int = 0) -> None:
    """Contexts, activities and the run's own counts, all from one set of activations."""
    texts = make_texts(n_contexts, seed)
    n_tokens = sum(len(row) - 1 for row in texts)
    cited: dict[int, set[int]] = {}
    activities = []
    for feature in features:
        counts, fires_in = _evidence(feature.index, texts)
        activities.append(_activity(run, feature, counts, n_tokens))
        for context in fires_in:
            cited.setdefault(context, set()).add(feature.index)
    Activity.objects.bulk_create(activities, batch_size=500)
    Columns.objects.create(run=run, packed=packed_from_rows(run))
    Context.objects.bulk_create(_contexts(run, texts, cited), batch_size=500)
    tokens_of(run.sae.model)  # read once a process: no test's count of queries depends on which came first
    run.n_contexts, run.n_tokens, run.n_special = n_contexts, n_tokens, n_contexts
    run.n_alive = sum((a.n_firing or 0) > 0 for a in activities)
    run.n_dense = sum(a.density > 0.01 for a in activities)
    run.save(update_fields=["n_contexts", "n_tokens", "n_special", "n_alive", "n_dense"])


def texts_of(run: Run) -> dict[int, str]:
    """The text of each context, token by token, by its number."""
    tokens = tokens_of(run.sae.model)
    rows = Context.objects.filter(run=run).order_by("number").values_list("number", "token_ids")
    return {number: "".join(tokens.running(unpack_tokens(bytes(packed)))) for number, packed in rows}


def set_text(run: Run, number: int, text: str) -> None:
    """Let a context say something else."""
    Context.objects.filter(run=run, number=number).update(token_ids=pack_tokens(encode(text)))


def make_world(d_sae: int = 24, n_contexts: int = 40, **run: Any) -> World:
    """One user, model, SAE, corpus and a filled run; NAMED has a person's label, TIED a rule's, HOSTILES a bad one."""
    user = make_user()
    model = make_model()
    sae = make_sae(model, d_sae=d_sae)
    corpus = make_corpus()
    made = make_run(sae, corpus, user, **run)
    features = make_features(sae)
    fill_run(made, features, n_contexts)
    make_label(features[NAMED], "cities, by Ada", author=user)
    make_label(features[TIED], "“ river”", run=made)
    make_label(features[HOSTILES], f"“{HOSTILE}”{OVERRIDE}", run=made)
    return World(user, model, sae, corpus, made)


def _activations(index: int, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
    """Per context, the activation of each token: a level per token id, and a little of the place."""
    rng = np.random.default_rng(TIED if index == TIED_TOO else index)
    levels = np.zeros(len(TOKENS) + 2, np.float32)
    chosen = rng.choice([IDS[w.encode()] for w in WORDS[:55]], int(rng.integers(1, 4)), replace=False)
    levels[chosen] = rng.uniform(0.5, 6.0, len(chosen))
    if index < TIED:
        levels[:] = 0
        wanted = {
            DEAD: [],
            DENSE: [i for i, t in enumerate(TOKENS) if b"e" in t and i > 1],
            SPLITS: encode(SPLIT + "é"),
            HOSTILES: encode(HOSTILE),
            BLANKS: [IDS[b"\n"], IDS[b"\n\n"], IDS[b"  "], IDS[OVERRIDE.encode()]],
        }[index]
        levels[wanted] = np.linspace(1, 3, len(wanted))
    rows = []
    for number, row in enumerate(texts):
        place = 1 + 0.3 * np.sin(np.arange(len(row)) * 1.7 + number)
        values = (levels[list(row)] * place).astype(np.float32)
        values[0] = 0  # the special token is masked
        rows.append(values)
    return rows


def _activity(run: Run, feature: Feature, counts: dict[str, Any], n_tokens: int) -> Activity:
    return Activity(
        run=run,
        feature=feature,
        index=feature.index,
        density=counts["n_firing"] / n_tokens,
        partners=_partners(feature.index, run.sae.d_sae),
        experts=_experts(feature.index, run.experts),
        **counts,
    )


@cache
def _evidence(index: int, texts: tuple[tuple[int, ...], ...]) -> tuple[dict[str, Any], frozenset[int]]:
    """What follows from the texts alone, by the names of Activity, and the contexts of examples in which it fires."""
    rows = _activations(index, texts)
    firing = np.concatenate([row[row > 0] for row in rows])
    examples = pack_examples(_examples(rows, firing))
    counts = {
        "n_firing": len(firing),
        "n_contexts": sum(bool(row.any()) for row in rows),
        "max_activation": float(firing.max()) if len(firing) else 0.0,
        "mean_activation": float(firing.mean()) if len(firing) else 0.0,
        "histogram": _histogram(firing),
        "examples": examples,
    }
    return counts, frozenset(example.context for example in unpack_examples(examples) if example.fires)


@cache
def _weights(d_sae: int, seed: int) -> list[tuple[bytes, bytes]]:
    """Of each feature: logits and neighbours, made up."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(d_sae):
        effects = [_ranked(rng, len(TOKENS), 10, 2.0), _ranked(rng, len(TOKENS), 10, -2.0)]
        near = [_ranked(rng, d_sae, min(8, d_sae - 1), best, but=index) for best in (0.7, 0.4)]
        found.append((pack_ranked(*effects), pack_ranked(*near)))
    return found


@cache
def _partners(index: int, d_sae: int) -> bytes:
    """Two made up ones; none for DEAD."""
    n = 0 if index == DEAD else min(2, d_sae - 1)
    return pack_ranked(_ranked(np.random.default_rng(index), d_sae, n, 0.5, but=index))


def _experts(index: int, router: dict[str, Any] | None) -> bytes:
    """As many as a token has, by lift, made up; none for DEAD, nor on a dense model."""
    if router is None:
        return b""
    n = 0 if index == DEAD else router["per_token"]
    ids = np.random.default_rng(index).choice(router["n_experts"], n, replace=False)
    shares = np.linspace(0.9, 0.5, n).astype(np.float32)
    lifts = shares / np.array(router["shares"], np.float32)[ids]
    order = np.argsort(-lifts)
    return pack_ranked(Ranked(ids[order], shares[order]), Ranked(ids[order], lifts[order]))


def _histogram(firing: NDArray[np.float32]) -> bytes:
    if not len(firing):
        return b""
    bins = np.floor(4 * np.log2(firing)).astype(int)
    return pack_histogram(int(bins.min()), np.bincount(bins - bins.min()))


def _examples(
    rows: Sequence[NDArray[np.float32]], firing: NDArray[np.float32], top: int = 6, each: int = 2
) -> Examples:
    """The ``top`` contexts, ``each`` per quarter of the firing activations, and ``each`` where it stays silent.

    The first of those that are silent are near misses, on their token 3.
    """
    ranked = sorted((i for i, row in enumerate(rows) if row.any()), key=lambda i: (-float(rows[i].max()), i))
    shown = [(i, 0) for i in ranked[:top]]
    edges = np.quantile(firing, [0.75, 0.5, 0.25]) if len(firing) else np.zeros(3)
    for band in range(1, 5):
        inside = [i for i in ranked[top:] if int(np.sum(rows[i].max() < edges)) == band - 1]
        shown += [(i, band) for i in inside[:each]]
    never = [i for i, row in enumerate(rows) if not row.any()]
    shown += [(i, NEAR_MISS) for i in never[:each]] + [(i, SILENT) for i in never[each : 2 * each]]
    tokens = {NEAR_MISS: (np.array([3]), np.array([-0.25], "f4")), SILENT: (np.empty(0, np.int64), np.empty(0, "f4"))}
    fired = [(np.flatnonzero(rows[i]), rows[i][rows[i] > 0]) for i, _ in shown]
    pairs = [tokens.get(band, pair) for (_, band), pair in zip(shown, fired, strict=True)]
    return Examples(
        contexts=np.array([i for i, _ in shown], np.uint32),
        bands=np.array([band for _, band in shown], np.uint8),
        ends=np.cumsum([len(positions) for positions, _ in pairs], dtype=np.int64),
        positions=np.concatenate([positions for positions, _ in pairs]),
        values=np.concatenate([values for _, values in pairs]),
    )


def _contexts(run: Run, texts: Sequence[Sequence[int]], cited: dict[int, set[int]]) -> list[Context]:
    return [
        Context(
            run=run,
            number=number,
            document_id=f"doc-{number // 4}",
            document_source="letters/<b>1912</b>" if number % 5 == 0 else "letters/1913",
            offset=64 * (number % 4),
            token_ids=pack_tokens(ids),
            features=pack_features(sorted(cited.get(number, ()))),
        )
        for number, ids in enumerate(texts)
    ]


def _ranked(rng: np.random.Generator, n: int, size: int, best: float, but: int | None = None) -> Ranked:
    ids = rng.choice([i for i in range(n) if i != but], size, replace=False)
    return Ranked(ids.astype(np.uint32), np.linspace(best, best / 2, size).astype(np.float32))


def _digest(kind: str, name: str) -> str:
    return f"{kind}-{name}".encode().hex().ljust(64, "0")[:64]
