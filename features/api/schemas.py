"""What the API sends. Numbers are plain JSON numbers; a float32 is sent with all digits of its exact value."""

import math
from datetime import datetime
from typing import Annotated, Any

from ninja import Field, Schema
from pydantic import BeforeValidator

from features.filters import LABELS, MAX_IDS, STATES
from features.listing import ORDERS
from features.models import SAE, Run

# JSON has no NaN: a figure that could not be computed is null.
Figure = Annotated[float | None, BeforeValidator(lambda v: v if v is not None and math.isfinite(v) else None)]


class ModelOut(Schema):
    slug: str
    name: str


class ModelSummaryOut(ModelOut):
    architecture: str
    n_layers: int
    d_model: int
    vocab_size: int
    source: str
    revision: str
    weights_digest: str
    tokenizer_digest: str
    n_saes: int


class RunOut(Schema):
    id: int
    n_tokens: int = Field(description="unmasked tokens: the denominator of every density")
    explained_variance: Figure
    l0: Figure
    cosine: Figure
    shrinkage: Figure = Field(description="mean |reconstruction| / |activation|")
    n_alive: int = Field(description="features that fire at all")
    n_dense: int = Field(description="features that fire on more than 1 % of tokens")
    ce_recovered: Figure = Field(description="share of zero ablation's cost in cross entropy that the SAE spares")
    ce_delta: Figure = Field(description="cross entropy that the reconstruction adds, nats per token")
    kl_recovered: Figure
    n_ce_tokens: int = Field(description="predictions of the sample that those three rest on")
    valid: bool | None = Field(description="null where nobody has checked, as in a run that was imported")
    why_not_valid: str = Field(description="one reason a line")
    origin: str = Field(description="extraction, or where it was imported from")
    created_at: datetime
    router_layer: int | None = Field(description="of a mixture of experts: the layer whose router was read")

    @staticmethod
    def resolve_router_layer(run: Run) -> int | None:
        return run.experts["router_layer"] if run.experts else None


class SAEOut(Schema):
    slug: str
    name: str
    model: ModelOut
    architecture: str
    hook: str
    layer: int
    hook_out: str | None = Field(description="where a transcoder's output belongs; null for an autoencoder")
    layer_out: int | None
    centred: bool = Field(description="the mean over d_in is taken off the activations first")
    d_in: int
    d_out: int
    d_sae: int
    k: int | None
    digest: str = Field(description="sha256 of the weights")
    card: dict[str, Any] = Field(description="what the checkpoint's files say, as they were understood; {} if not kept")
    run: RunOut | None = Field(description="the newest run; null before the first")

    @staticmethod
    def resolve_hook_out(sae: SAE) -> str | None:
        return sae.hook_out or None


class SAEDetailOut(SAEOut):
    training: dict[str, Any] = Field(description="the training record kept beside the weights")


class ModelDetailOut(ModelSummaryOut):
    hook_points: list[dict[str, Any]] = Field(
        description="hook, width and layers of each, and the routers. Two layers are the first and the last of a run, "
        "any other number the layers themselves. Empty until the next run on the model fills it in"
    )
    saes: list[SAEOut]


class FeatureQuery(Schema):
    order: str = Field("index", json_schema_extra={"enum": list(ORDERS)})
    min_density: float | None = Field(None, description="share of tokens, from 0 to 1")
    max_density: float | None = Field(None, description="share of tokens, from 0 to 1")
    min_maximum: float | None = Field(None, description="the least largest activation")
    max_maximum: float | None = Field(None, description="the greatest largest activation")
    state: str = Field("all", json_schema_extra={"enum": list(STATES)})
    label: str = Field("", json_schema_extra={"enum": ["", *LABELS]}, description="what the label is, or who wrote it")
    starred: bool = Field(False, description="starred by the person who asks")
    tag: str = Field("", description="the name of a tag")
    collection: str = Field("", description="the slug of a collection that the person who asks may see")
    ids: str = Field("", description=f"feature numbers with commas between them, at most {MAX_IDS:,}")
    q: str = Field("", description="what the label, the number or the text of an example contains")
    after: str = Field("", description="`next` of the page before")
    limit: int = Field(50, ge=1, le=500)
    run: int | None = Field(None, description="a run of this SAE; the newest if not given")


class FeatureRow(Schema):
    index: int
    label: str | None
    density: float = Field(description="share of the run's unmasked tokens on which the feature fires")
    max_activation: float
    mean_activation: float | None = Field(description="over the tokens on which it fires; null where it is not known")
    n_contexts: int | None = Field(description="contexts in which the feature fires; null where it is not known")


class FeaturePage(Schema):
    items: list[FeatureRow]
    next: str | None = Field(description="send it as `after` for the next page; null at the end")


class LabelOut(Schema):
    text: str
    source: str = Field(description="person, or rule: found by a rule that was checked on held-out examples")
    rule: str
    precision: float | None = Field(description="share of held-out examples on which the rule holds")
    n_held_out: int | None
    author: str | None


class HistogramOut(Schema):
    edges: list[float] = Field(description="one more than counts; four bins per octave")
    counts: list[int]


class EffectOut(Schema):
    token: str
    token_id: int
    value: float


class LogitsOut(Schema):
    top: list[EffectOut]
    bottom: list[EffectOut]


class NeighbourOut(Schema):
    index: int
    cosine: float
    label: str | None


class PartnerOut(Schema):
    index: int
    jaccard: float = Field(description="of the sampled tokens on which either fires, the share on which both do")
    label: str | None


class DocumentOut(Schema):
    id: str
    source: str


class ContextOut(Schema):
    context_id: int = Field(description="the context's place in the corpus, from 0")
    token_ids: list[int]
    tokens: list[str]
    document: DocumentOut


class NearMissOut(ContextOut):
    position: int = Field(description="of the token on which the feature came closest, from 0")
    pre_activation: float = Field(description="what the encoder gave there, before it was cut to 0")


class ExampleOut(Schema):
    context_id: int = Field(description="the context's place in the corpus, from 0")
    band: str = Field(description="top, or the quarter of the feature's activations that its maximum lies in")
    max_value: float
    peak: int = Field(description="position of the maximum, from 0")
    token_ids: list[int]
    tokens: list[str]
    values: list[float] = Field(description="the activation of each token; 0 where it does not fire")
    document: DocumentOut


class ExpertOut(Schema):
    expert: int
    share: float = Field(description="of the feature's firing tokens, those that the router sends to the expert")
    lift: float = Field(description="that share over the expert's share of all tokens")


class FeatureOut(Schema):
    sae: str
    index: int
    label: LabelOut | None
    run: int
    density: float
    n_tokens: int = Field(description="the run's unmasked tokens: the denominator of density")
    n_contexts: int | None = Field(description="contexts in which the feature fires; null where it is not known")
    n_contexts_total: int = Field(description="contexts that the run read")
    n_firing: int | None = Field(description="unmasked tokens on which the feature fires; null where it is not known")
    max_activation: float
    mean_activation: float | None = Field(description="over the tokens on which it fires; null where it is not known")
    valid: bool | None = Field(
        description="false where the run's quality says that SAE and model do not belong together; null: not checked"
    )
    why_not_valid: str
    histogram: HistogramOut
    logits: LogitsOut
    neighbours: list[NeighbourOut] = Field(description="by cosine of the decoder directions")
    examples: list[ExampleOut]
    near_misses: list[NearMissOut] = Field(description="contexts in which the feature comes close and does not fire")
    silent: list[ContextOut] = Field(description="contexts drawn at random from those in which it does not fire")
    partners: list[PartnerOut] = Field(description="the features that fire most nearly on the same tokens")
    n_pool_tokens: int = Field(description="unmasked tokens of the sample that partners were counted on")
    encoder_neighbours: list[NeighbourOut] = Field(description="by cosine of the encoder directions")
    router_layer: int | None = Field(description="the layer whose router chose the experts; null for a dense model")
    experts: list[ExpertOut] = Field(description="those chosen when the feature fires, by lift")


class Problem(Schema):
    detail: str
