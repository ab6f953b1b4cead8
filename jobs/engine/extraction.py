"""One pass over a corpus: what every feature of an SAE does there, exactly, in memory that does not grow with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.engine import codes
from jobs.engine.capture import Batch, Capture
from jobs.engine.corpus import Context
from jobs.engine.errors import SettingsError
from jobs.engine.saes import SAE
from jobs.engine.saes.activations import TopK
from jobs.engine.state import State

MAX_CONTEXT = (1 << 15) - 1  # positions are kept in 16 bits, with a sign
MAX_CELLS = 1 << 23  # (context, feature) pairs of a batch
GROUP = 16  # batches' worth of contexts that are sorted by length together
NEAR_PER_TOKEN = 4


@dataclass(frozen=True)
class ExtractionSettings:
    """``top``: examples kept from the highest maxima; ``per_band``: from each quarter of the activations below.

    ``reservoir``: contexts sampled per feature and octave, from which the bands are filled. ``batch``: tokens per
    forward pass. ``skip_first`` is Capture's.
    """

    context: int = 128
    top: int = 24
    per_band: int = 4
    reservoir: int = 8
    skip_first: int = 0
    batch: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"context": (2, MAX_CONTEXT), "top": (1, 1000), "seed": (0, (1 << 31) - 1)}
        limits["skip_first"] = (0, self.context - 1)
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f"{name} must be from {low} to {high}, not {getattr(self, name)}.")


@dataclass(frozen=True)
class Step:
    """After each batch: contexts and tokens of the shard read so far; after the last one, its ``state``.

    ``halved``: out of memory made the pass go on with at most so many contexts at a time; None while all fit.
    """

    n_contexts: int
    n_tokens: int
    halved: int | None
    state: State | None


def plan_batches(lengths: NDArray[np.int64], settings: ExtractionSettings, d_sae: int) -> list[NDArray[np.int64]]:
    """The numbers of the contexts that run together, batch by batch, for contexts of ``lengths`` tokens.

    What a model computes for a context depends in its last bits on what else is in the batch, so the batches of a
    corpus are fixed here, once, and shards are runs of whole batches. Neighbours are sorted by length, to save padding.
    """
    batches = []
    most = max(1, MAX_CELLS // d_sae)
    group = GROUP * max(1, settings.batch // settings.context)
    for start in range(0, len(lengths), group):
        members = np.arange(start, min(start + group, len(lengths)))
        members = members[np.argsort(-lengths[members], kind="stable")]
        while len(members):
            size = max(1, min(most, settings.batch // int(lengths[members[0]])))
            batches.append(members[:size])
            members = members[size:]
    return batches


def check_fit(sae: SAE, capture: Capture, context: int) -> None:
    """Raise SettingsError where this SAE cannot read what ``capture`` gives, or the model no window so long."""
    model = capture.model
    if model.max_context is not None and context > model.max_context:
        raise SettingsError(
            f"A context of {context} tokens is too long: {model.name} reads {model.max_context} at most."
        )
    check_widths(sae, capture)
    if isinstance(sae.activation, TopK) and sae.activation.by_magnitude:
        raise SettingsError(
            f"The SAE {sae.source.path} is {sae.architecture}; extraction does not count negative activations so far."
        )


def check_widths(sae: SAE, capture: Capture) -> None:
    """Raise SettingsError where the SAE's widths are not those of what ``capture`` gives."""
    model, path = capture.model, sae.source.path
    if sae.is_transcoder and capture.point_out is None:
        raise SettingsError(f"The SAE {path} is a transcoder, but nothing says at which hook point it writes.")
    read, written = capture.point, capture.point_out or capture.point
    sides = ("reads", "d_in", sae.d_in, read), ("writes", "d_out", sae.d_out, written)
    for verb, name, width, point in sides:
        if width != point.width:
            raise SettingsError(
                f"The SAE {path} {verb} vectors of width {width} ({name}), but {model.name} has width {point.width} "
                f"at {point.hook} of layer {point.layer}: it was trained on another model or hook point."
            )


def extract(
    capture: Capture,
    sae: SAE,
    contexts: Sequence[Context],
    batches: Sequence[NDArray[np.int64]],
    settings: ExtractionSettings,
) -> Iterator[Step]:
    """Read ``batches`` of ``contexts``, the whole corpus, and yield a Step after each; the last one has the state.

    ``capture`` must be calibrated. Where the device runs out of memory, the batch is halved and the shard goes on.
    Raises SettingsError where SAE and model do not fit, and torch.OutOfMemoryError where not even one context fits.
    """
    check_fit(sae, capture, settings.context)
    state = State.empty(sae.d_sae, sae.d_out, settings, len(contexts), capture.model.device, capture.n_experts)
    n_contexts = n_tokens = 0
    limit: int | None = None
    for number, members in enumerate(batches, 1):
        waiting = list(_pieces(members, limit))
        while waiting:
            piece = waiting.pop(0)
            try:
                batch = capture.run([contexts[int(i)] for i in piece])
                found = read(batch, sae)
            except RuntimeError as error:
                if not out_of_memory(error) or len(piece) == 1:
                    raise
                limit = -(-len(piece) // 2)
                waiting = [half for part in [piece, *waiting] for half in _pieces(part, limit)]
                torch.cuda.empty_cache()
                continue
            state.update(batch, *found, settings.seed)
            n_contexts += len(piece)
            n_tokens += int(batch.lengths.sum())
        yield Step(n_contexts, n_tokens, limit, state if number == len(batches) else None)


@torch.inference_mode()
def read(batch: Batch, sae: SAE) -> tuple[codes.Codes, torch.Tensor]:
    """What the SAE sees in the unmasked tokens of ``batch``, and what it makes of that: float32 [n, d_out]."""
    x = batch.x[batch.mask]
    found = codes.encode(sae, x, NEAR_PER_TOKEN)
    return found, codes.reconstruct(sae, found, x)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` says that the device, or the CPU's allocator, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _pieces(members: NDArray[np.int64], limit: int | None) -> Iterator[NDArray[np.int64]]:
    size = limit or len(members)
    return (members[start : start + size] for start in range(0, len(members), size))
