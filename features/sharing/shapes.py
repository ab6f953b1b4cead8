"""What a snapshot may hold, version 1: the form that is written, read back, and demanded of what comes from elsewhere.

Everything a page needs is in it: texts of tokens, labels, figures, and where all of it came from. Values of activations
are float32, written with the fewest digits that give the same float32 back. Nothing that is not named here is let in.
"""

from collections.abc import Iterable
from datetime import datetime
from itertools import chain
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Len
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SkipValidation,
    ValidationError,
    model_validator,
)

from features.sharing.canonical import NotCanonical, parse

FORMAT, VERSION = "featurescope-snapshot", 1
MAX_BYTES = 4 << 20
"""Of canonical JSON: forty times what a feature takes, and little enough to be read whoever wrote it."""
MAX_ITEMS = 5000
"""Features of a collection."""

MAX_BINS = 1 << 16
MAX_SHOWN = 8 << 20
"""Characters of tokens that one page shows, and OF_TOKEN for each token: a small file makes no page of gigabytes."""
OF_TOKEN = 16

Index = Annotated[int, Field(ge=0, le=2**53 - 1)]
TokenId = Annotated[int, Field(ge=0, le=2**32 - 1)]
Real = Annotated[FiniteFloat, Field(ge=-3.4028235e38, le=3.4028235e38)]
"""What float32 can hold, in which all of it is shown."""
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
    seed: int | Short
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
    explained_variance: Real | None
    fvu: Real | None
    cosine: Real | None
    shrinkage: Real | None
    l0: Real | None
    ce_original: Real | None
    ce_reconstructed: Real | None
    ce_ablated: Real | None
    ce_delta: Real | None
    ce_delta_error: Real | None
    ce_recovered: Real | None
    kl_reconstructed: Real | None
    kl_ablated: Real | None
    kl_recovered: Real | None
    valid: bool | None
    why_not_valid: Long
    experts: dict[str, Any] | None
    seconds: Real

    @model_validator(mode="after")
    def _fits(self) -> "Run":
        if not 1970 <= self.made_at.year < 9999:  # years that every time zone has
            raise ValueError("a run was made between 1970 and 9998")
        return self

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

    def require_few(self, token_ids: Iterable[int]) -> None:
        """Raises ValueError if a page of these tokens would be larger than any that is read."""
        ids = list(token_ids)
        largest = max(map(len, (*self.texts.values(), *self.bytes.values())), default=0)
        if len(ids) * (OF_TOKEN + largest) <= MAX_SHOWN:
            return  # as nearly always: no need to look at each
        sizes = {int(i): len(text) for i, text in (*self.texts.items(), *self.bytes.items())}
        if sum(OF_TOKEN + sizes.get(i, 0) for i in ids) > MAX_SHOWN:
            raise ValueError("its tokens are more than a page can show")


class Label(Shape):
    text: Short
    source: Literal["rule", "model", "person"]
    rule: Short
    precision: Real | None
    n_held_out: Index | None
    method: Short
    explainer: Short
    author_name: Short
    explanation: Long

    @property
    def author(self) -> None:
        return None


class Effect(Shape):
    id: TokenId
    value: Real


class Near(Shape):
    """Another feature, and how near: a cosine, or the share of tokens on which both fire."""

    index: Index
    value: Real
    label: Label | None


class Namesake(Shape):
    """A feature of another SAE whose label says the same."""

    sae: Short
    site: Short
    index: Index


class Expert(Shape):
    number: Index
    share: Real
    lift: Real

    @property
    def usual(self) -> float:
        return self.share / self.lift if self.lift else 0.0


class Histogram(Shape):
    """Firing tokens per bin of activation: one edge more than counts, or none of either."""

    edges: Annotated[list[Real], Len(0, MAX_BINS + 1)]
    counts: Annotated[list[Index], Len(0, MAX_BINS)]

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
    token_ids: list[TokenId]
    positions: list[Index]
    values: list[Real]

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

    density: Real
    n_firing: Index | None
    n_contexts: Index | None
    max_activation: Real
    mean_activation: Real | None
    histogram: Histogram
    partners: Annotated[list[Near], Len(0, MAX_ITEMS)]
    experts: Annotated[list[Expert], Len(0, MAX_ITEMS)]
    examples: list[Example]


class Feature(Shape):
    """A feature's page. ``activity`` is None without a run."""

    index: Index
    label: Label | None
    tags: list[Short]
    decoder_norm: Real | None
    encoder_decoder_cosine: Real | None
    positive: Annotated[list[Effect], Len(0, MAX_ITEMS)]
    negative: Annotated[list[Effect], Len(0, MAX_ITEMS)]
    decoder: Annotated[list[Near], Len(0, MAX_ITEMS)]
    encoder: Annotated[list[Near], Len(0, MAX_ITEMS)]
    elsewhere: Annotated[list[Namesake], Len(0, MAX_ITEMS)]
    activity: Activity | None
    tokens: Tokens

    @model_validator(mode="after")
    def _fits(self) -> "Feature":
        examples = self.activity.examples if self.activity else []
        self.tokens.require_few(chain.from_iterable(example.token_ids for example in examples))
        return self


class Measure(Shape):
    """A number; where it is not known exactly, ``below`` says that it is less than ``value``."""

    value: Real
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
    density: Real | None
    max_activation: Real | None


class Collection(Shape):
    name: Short
    description: Long
    owner: Short
    items: Annotated[list[Item], Len(0, MAX_ITEMS)]


class Closest(Shape):
    """Where a feature that stays silent came closest: its pre-activation there."""

    position: Index
    value: Real


class Text(Shape):
    """A text that somebody ran through a feature. ``values`` has one float32 for each of ``token_ids``."""

    index: Index
    label: Label | None
    text: Long
    token_ids: list[TokenId]
    values: list[Real]
    sinks: list[Index]
    near: Closest | None
    n_tokens: Index
    corpus_maximum: Real | None
    device: Short
    provenance: dict[str, Any]
    tokens: Tokens

    @model_validator(mode="after")
    def _fits(self) -> "Text":
        if len(self.values) != len(self.token_ids):
            raise ValueError("a text has one value for each of its tokens")
        if self.near and self.near.position >= len(self.token_ids):
            raise ValueError("a text came closest at one of its tokens")
        self.tokens.require_few(self.token_ids)
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
    title: Annotated[str, Field(min_length=1, max_length=400)]
    sources: Annotated[list[Source], Len(0, MAX_ITEMS)]
    content: SkipValidation[Feature | Text | Comparison | Quality | Collection]
    """Checked before, against the one shape that its kind has."""

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
        kind = f"{given.get('kind')!s:.40}"
        raise Unreadable(f"The snapshot is of a kind that this site does not know: {kind}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:200]
        raise Unreadable(f"The snapshot does not have the form that it should: {where}: {first['msg']:.200}.") from None


def float32s(values: Any) -> list[float]:
    """float32 [n] as numbers with the fewest digits that give the same float32 back."""
    return [float(text) for text in np.asarray(values, np.float32).astype(str)]
