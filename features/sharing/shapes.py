"""What a snapshot may hold, version 1: the form that is written, read back, and demanded of what comes from elsewhere.

Everything a page needs is in it: texts of tokens, labels, figures, and where all of it came from. Values of activations
are float32, written with the fewest digits that give the same float32 back. Nothing that is not named here is let in.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Len
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from features.sharing.canonical import NotCanonical, parse

FORMAT, VERSION = "featurescope-snapshot", 1
MAX_BYTES = 16 << 20
MAX_ITEMS = 5000
"""Features of a collection."""

Index = Annotated[int, Field(ge=0, le=2**53 - 1)]
Short = Annotated[str, Field(max_length=2000)]
Long = Annotated[str, Field(max_length=100_000)]
Hash = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]


class Unreadable(ValueError):
    """A snapshot that this version cannot show. The message is one sentence."""


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Model(Shape):
    name: Short
    source: Short
    revision: Short
    architecture: Short
    n_layers: Index
    d_model: Index
    vocab_size: Index
    weights_digest: Hash
    tokenizer_digest: Hash


class Autoencoder(Shape):
    """Fields as features.models.SAE has them."""

    name: Short
    slug: Short
    source: Short
    architecture: Short
    format: Short
    hook: Short
    layer: Index
    hook_out: Short
    layer_out: Index | None
    centred: bool
    d_in: Index
    d_out: Index
    d_sae: Index
    k: Index | None
    digest: Hash
    card: dict[str, Any]
    training: dict[str, Any]

    @property
    def site(self) -> str:
        reads = f"layer {self.layer} · {self.hook}"
        if not self.hook_out:
            return reads
        return f"{reads} → {'' if self.layer_out == self.layer else f'layer {self.layer_out} · '}{self.hook_out}"


class Corpus(Shape):
    name: Short
    source: Short
    digest: Hash
    origin: Long
    licence: Long
    n_documents: Index
    n_bytes: Index
    generator: dict[str, Any] | None


class Run(Shape):
    """Fields as features.models.Run has them; ``number`` is its key on the site that froze it."""

    number: Index
    origin: Short
    made_at: Annotated[AwareDatetime, Field(strict=False)]
    corpus: Corpus
    settings: dict[str, Any]
    provenance: dict[str, Any]
    seed: int | str
    n_documents: Index
    n_contexts: Index
    n_tokens: Index
    n_special: Index
    n_sinks: Index
    n_alive: Index
    n_dense: Index
    n_very_dense: Index
    n_pool_tokens: Index
    n_ce_contexts: Index
    n_ce_tokens: Index
    explained_variance: FiniteFloat | None
    fvu: FiniteFloat | None
    cosine: FiniteFloat | None
    shrinkage: FiniteFloat | None
    l0: FiniteFloat | None
    ce_original: FiniteFloat | None
    ce_reconstructed: FiniteFloat | None
    ce_ablated: FiniteFloat | None
    ce_delta: FiniteFloat | None
    ce_delta_error: FiniteFloat | None
    ce_recovered: FiniteFloat | None
    kl_reconstructed: FiniteFloat | None
    kl_ablated: FiniteFloat | None
    kl_recovered: FiniteFloat | None
    valid: bool | None
    why_not_valid: Long
    experts: dict[str, Any] | None
    seconds: FiniteFloat

    @property
    def reasons(self) -> list[str]:
        return self.why_not_valid.splitlines()

    @property
    def n_read(self) -> int:
        return self.n_tokens + self.n_special + self.n_sinks

    @property
    def get_origin_display(self) -> str:
        return self.origin

    @property
    def pk(self) -> int:
        return self.number

    @property
    def created_at(self) -> datetime:
        return self.made_at


class Source(Shape):
    """Where something comes from. ``run`` is None for what rests on the weights alone."""

    model: Model
    sae: Autoencoder
    run: Run | None


class Tokens(Shape):
    """The tokens that are named, by id: their text, or their bytes as hex where those are not whole characters."""

    texts: dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], Annotated[str, Field(max_length=2000)]]
    bytes: dict[
        Annotated[str, Field(pattern="^[0-9]{1,9}$")],
        Annotated[str, Field(pattern="^([0-9a-f]{2})*$", max_length=4000)],
    ]
    special: list[Index]
    joiner: Annotated[str, Field(max_length=1)]


class Label(Shape):
    text: Short
    source: Short
    rule: Short
    precision: FiniteFloat | None
    n_held_out: Index | None
    method: Short
    explainer: Short
    author_name: Short
    explanation: Long

    @property
    def author(self) -> None:
        return None


class Effect(Shape):
    id: Index
    value: FiniteFloat


class Near(Shape):
    """Another feature, and how near: a cosine, or the share of tokens on which both fire."""

    index: Index
    value: FiniteFloat
    label: Label | None


class Namesake(Shape):
    """A feature of another SAE whose label says the same."""

    sae: Short
    site: Short
    index: Index


class Expert(Shape):
    number: Index
    share: FiniteFloat
    lift: FiniteFloat

    @property
    def usual(self) -> float:
        return self.share / self.lift if self.lift else 0.0


class Histogram(Shape):
    """Firing tokens per bin of activation: one edge more than counts, or none of either."""

    edges: list[FiniteFloat]
    counts: list[Index]

    @model_validator(mode="after")
    def _fits(self) -> "Histogram":
        if (self.edges and len(self.edges) != len(self.counts) + 1) or (not self.edges and self.counts):
            raise ValueError("a histogram has one edge more than counts")
        return self


class Example(Shape):
    """One context. ``positions`` ascend; ``values`` are the activations there, of a near miss its pre-activation."""

    band: Index
    number: Index
    offset: Index
    document_id: Short
    document_source: Short
    token_ids: list[Index]
    positions: list[Index]
    values: list[FiniteFloat]

    @model_validator(mode="after")
    def _fits(self) -> "Example":
        n = len(self.positions)
        ascend = all(a < b for a, b in zip(self.positions, self.positions[1:], strict=False))
        if n != len(self.values) or not ascend or (n and self.positions[-1] >= len(self.token_ids)):
            raise ValueError("an example has one value for each of its positions, which ascend and are in the context")
        if self.band > 6 or (self.band == 6) != (n == 0) or (self.band == 5 and n != 1):
            raise ValueError("the band of an example is 0 to 4 where it fires, 5 of a near miss, 6 where it is silent")
        return self


class Activity(Shape):
    """What a feature did in the run, as features.models.Activity has it."""

    density: FiniteFloat
    n_firing: Index | None
    n_contexts: Index | None
    max_activation: FiniteFloat
    mean_activation: FiniteFloat | None
    histogram: Histogram
    partners: list[Near]
    experts: list[Expert]
    examples: list[Example]


class Feature(Shape):
    """A feature's page. ``activity`` is None without a run."""

    index: Index
    label: Label | None
    tags: list[Short]
    decoder_norm: FiniteFloat | None
    encoder_decoder_cosine: FiniteFloat | None
    positive: list[Effect]
    negative: list[Effect]
    decoder: list[Near]
    encoder: list[Near]
    elsewhere: list[Namesake]
    activity: Activity | None
    tokens: Tokens


class Measure(Shape):
    """A number; where it is not known exactly, ``below`` says that it is less than ``value``."""

    value: FiniteFloat
    below: bool


class Comparison(Shape):
    """Two features. None is not known; ``raised`` and ``lowered`` are tokens that both lists of logit effects hold."""

    cosine: Measure | None
    jaccard: Measure | None
    raised: list[Short] | None
    lowered: list[Short] | None
    contexts: Index | None
    features: Annotated[list[Feature], Len(2, 2)]


class Quality(Shape):
    """A run's page. ``densities``: features per bin, a fifth of a decade of density each, beginning at ``first``;
    None where the run has no columns. Those that never fired are in ``n_dead``.
    """

    class Densities(Shape):
        first: int = Field(ge=-200, le=200)
        counts: Annotated[list[Index], Len(0, 400)]

    densities: Densities | None
    n_dead: Index
    work: list[dict[str, Any]]


class Item(Shape):
    """A feature of a collection, as its table shows it; ``source`` counts the snapshot's sources."""

    source: Index
    index: Index
    label: Label | None
    tags: list[Short]
    note: Short
    added_by: Short
    density: FiniteFloat | None
    max_activation: FiniteFloat | None


class Collection(Shape):
    name: Short
    description: Long
    owner: Short
    items: Annotated[list[Item], Len(0, MAX_ITEMS)]


class Closest(Shape):
    """Where a feature that stays silent came closest: its pre-activation there."""

    position: Index
    value: FiniteFloat


class Text(Shape):
    """A text that somebody ran through a feature. ``values`` has one float32 for each of ``token_ids``."""

    index: Index
    label: Label | None
    text: Long
    token_ids: list[Index]
    values: list[FiniteFloat]
    sinks: list[Index]
    near: Closest | None
    n_tokens: Index
    corpus_maximum: FiniteFloat | None
    device: Short
    provenance: dict[str, Any]
    tokens: Tokens

    @model_validator(mode="after")
    def _fits(self) -> "Text":
        if len(self.values) != len(self.token_ids):
            raise ValueError("a text has one value for each of its tokens")
        if self.near and self.near.position >= len(self.token_ids):
            raise ValueError("a text came closest at one of its tokens")
        return self


CONTENTS: dict[str, type[Shape]] = {
    "feature": Feature,
    "text": Text,
    "comparison": Comparison,
    "run": Quality,
    "collection": Collection,
}


class Frozen(Shape):
    """The whole of it. ``sources`` says where everything is from: one for each feature of a comparison, one for each
    SAE of a collection, else one.
    """

    format: Literal["featurescope-snapshot"]
    version: Literal[1]
    kind: Literal["feature", "text", "comparison", "run", "collection"]
    title: Annotated[str, Field(max_length=400)]
    sources: Annotated[list[Source], Len(0, MAX_ITEMS)]
    content: Feature | Text | Comparison | Quality | Collection

    @model_validator(mode="after")
    def _fits(self) -> "Frozen":
        if type(self.content) is not CONTENTS[self.kind]:
            raise ValueError(f"its content is not that of a {self.kind}")
        needed = {"comparison": 2, "collection": None}.get(self.kind, 1)
        if needed is not None and len(self.sources) != needed:
            raise ValueError(f"a {self.kind} has {needed} of sources")
        if isinstance(self.content, Quality) and self.sources[0].run is None:
            raise ValueError("a run's quality needs the run")
        if isinstance(self.content, Collection) and any(i.source >= len(self.sources) for i in self.content.items):
            raise ValueError("an item names a source that is not there")
        return self


def read(body: bytes) -> Frozen:
    """A snapshot that comes from elsewhere, in canonical JSON. Raises Unreadable."""
    try:
        return form_of(parse(body, limit=MAX_BYTES))
    except NotCanonical as error:
        raise Unreadable(f"snapshot.json cannot be read: {error}") from error


def form_of(given: Any) -> Frozen:
    """A snapshot that was parsed. Raises Unreadable where it does not have the form."""
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        raise Unreadable("snapshot.json is no snapshot of Featurescope.")
    if given.get("version") != VERSION:
        raise Unreadable(f"The snapshot is of version {given.get('version')!s:.20}; this site reads version {VERSION}.")
    try:
        content = CONTENTS[str(given.get("kind"))].model_validate(given.get("content"))
        return Frozen.model_validate(given | {"content": content})
    except KeyError:
        raise Unreadable(f"The snapshot is of a kind that this site does not know: {given['kind']!s:.40}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:200]
        raise Unreadable(f"The snapshot does not have the form that it should: {where}: {first['msg']:.200}.") from None


def float32s(values: Any) -> list[float]:
    """float32 [n] as numbers with the fewest digits that give the same float32 back."""
    return [float(text) for text in np.asarray(values, np.float32).astype(str)]
