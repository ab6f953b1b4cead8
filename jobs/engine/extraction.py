"""One pass over a corpus: what every feature of an SAE does there, exactly, in memory that does not grow with it."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from jobs.engine.capture import Batch, Capture
from jobs.engine.corpus import Context
from jobs.engine.errors import SettingsError
from jobs.engine.firings import find_firings
from jobs.engine.saes import SAE
from jobs.engine.state import State

MAX_CONTEXT = (1 << 16) - 1  # positions are kept in 16 bits
MAX_CELLS = 1 << 27  # of a batch's dense activations: 512 MiB of float32
HOOKS = ("resid_pre", "resid_mid", "resid_post", "mlp_out", "attn_out")


@dataclass(frozen=True)
class ExtractionSettings:
    """``top``: examples kept from the highest maxima; ``per_band``: from each quarter of the activations below.

    ``reservoir``: contexts sampled per feature and octave, from which the bands are filled. ``batch``: tokens per
    forward pass. ``shard``: contexts per shard state. ``skip_first`` is Capture's.
    """

    context: int = 128
    top: int = 24
    per_band: int = 4
    reservoir: int = 8
    skip_first: int = 0
    batch: int = 2048
    shard: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"context": (2, MAX_CONTEXT), "top": (1, 1000), "seed": (0, (1 << 31) - 1)}
        limits["skip_first"] = (0, self.context - 1)
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f"{name} must be from {low} to {high}, not {getattr(self, name)}.")

    def contexts_per_batch(self, d_sae: int) -> int:
        """As many as ``batch`` tokens make, but no more than their dense activations have room for."""
        return max(1, min(self.batch, MAX_CELLS // d_sae) // self.context)


@dataclass(frozen=True)
class Step:
    """After each batch: contexts and tokens read so far. ``state`` is there when the shard ``shard`` is complete."""

    n_contexts: int
    n_tokens: int
    shard: int
    state: State | None


def check_fit(sae: SAE, capture: Capture, context: int) -> None:
    """Raise SettingsError where this SAE cannot read what ``capture`` gives, or the model no window so long."""
    model, path = capture.model, sae.source.path
    if capture.hook not in HOOKS:
        raise SettingsError(f"The hook point {capture.hook} is not extracted so far; these are: {', '.join(HOOKS)}.")
    if model.max_context is not None and context > model.max_context:
        raise SettingsError(
            f"A context of {context} tokens is too long: {model.name} reads {model.max_context} at most."
        )
    if sae.d_in != model.d_model:
        raise SettingsError(
            f"The SAE {path} reads vectors of width {sae.d_in} (d_in), but {model.name} has width {model.d_model}: "
            "it was trained on another model."
        )
    if sae.architecture.endswith("transcoder"):
        raise SettingsError(f"The SAE {path} is a {sae.architecture}; extraction reads autoencoders so far.")
    if sae.architecture == "abstopk":
        raise SettingsError(f"The SAE {path} is abstopk; extraction does not count negative activations so far.")


def extract(
    capture: Capture,
    sae: SAE,
    contexts: Iterable[Context],
    settings: ExtractionSettings,
    done: Collection[int] = (),
) -> Iterator[Step]:
    """Read ``contexts`` in the order of their numbers and yield a Step after each batch.

    Shards in ``done`` were saved by an earlier attempt and are passed over. ``capture`` must be calibrated. Raises
    SettingsError where SAE and model do not fit.
    """
    check_fit(sae, capture, settings.context)
    source = iter(contexts)
    n_contexts = n_tokens = shard = 0
    while members := list(islice(source, settings.shard)):
        if shard in done:
            n_contexts += len(members)
            n_tokens += sum(len(c.token_ids) for c in members)
            yield Step(n_contexts, n_tokens, shard, None)
        else:
            state = State.empty(sae.d_sae, sae.d_out, settings, capture.model.device)
            for batch in capture.batches(members, settings.contexts_per_batch(sae.d_sae)):
                add_batch(state, batch, sae, settings.seed)
                n_contexts += len(batch.contexts)
                n_tokens += sum(len(c.token_ids) for c in batch.contexts)
                last = batch.contexts[-1] is members[-1]
                yield Step(n_contexts, n_tokens, shard, state.compact() if last else None)
        shard += 1


@torch.inference_mode()
def add_batch(state: State, batch: Batch, sae: SAE, seed: int) -> None:
    """Add one batch to ``state``: quality over all its unmasked tokens, and every firing."""
    x = batch.x[batch.mask]
    acts = sae.encode(x)
    firings = find_firings(acts, batch.mask.nonzero(), batch.token_ids, batch.lengths, seed)
    state.quality.update(x, sae.decode(acts, x), int((acts != 0).sum()))
    state.count(batch)
    state.add(firings, batch)
