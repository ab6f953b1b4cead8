"""Read the activations at one hook point, and stop the forward pass there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.engine.corpus import Context
from jobs.engine.errors import SettingsError
from jobs.engine.model import LoadedModel

SINK_RATIO = 10.0
SINK_SAMPLE = 8  # contexts whose median norm sets the sink threshold


class _HookReached(Exception):
    """Raised inside the forward pass once the activations are in hand: later layers need not run."""


@dataclass(frozen=True)
class Batch:
    """Contexts run together. ``x``: activations [contexts, length, d] float32; ``mask``: True where they count."""

    contexts: Sequence[Context]
    token_ids: Tensor  # [contexts, length] int64, padded on the right
    lengths: Tensor  # [contexts] int64, without the padding
    x: Tensor
    mask: Tensor  # neither special, nor padding, nor a sink
    n_special: int
    n_sinks: int


class Capture:
    """Runs contexts through the model up to one hook point.

    Special tokens stay in the input and are masked by id, padding by position, and sinks, tokens whose norm exceeds
    ten times the median norm, by ``sink_threshold``. The threshold is set once per run from the first contexts of
    the corpus, so it depends on neither batch size nor shards. The first ``skip_first`` positions of every context
    count as sinks, too: many models park attention there, whatever the token.
    """

    def __init__(self, model: LoadedModel, hook: str, layer: int, skip_first: int = 0) -> None:
        if not 0 <= layer < model.n_layers:
            raise SettingsError(
                f"Layer {layer} does not exist in {model.name}: it has {model.n_layers} layers, "
                f"0 to {model.n_layers - 1}."
            )
        try:
            self._module, self._side = model.engine.resolve_point(hook, layer)
        except Exception as error:  # interp-engine raises many kinds; each says why in words
            raise SettingsError(f"The hook point {hook} of layer {layer} is not in {model.name}: {error}") from error
        self.model, self.hook, self.layer, self.skip_first = model, hook, layer, skip_first
        self.sink_threshold = float("inf")
        self._special = torch.tensor(sorted(model.special_ids), dtype=torch.long, device=model.device)

    def calibrate(self, contexts: Sequence[Context]) -> float:
        """Set and return the norm above which a token is a sink: SINK_RATIO x the median over ``contexts``."""
        self.sink_threshold = float("inf")
        norms = [batch.x[batch.mask].norm(dim=-1) for batch in self.batches(contexts, 8)]
        median = torch.cat(norms).median().item() if norms and sum(map(len, norms)) else float("inf")
        self.sink_threshold = SINK_RATIO * median
        return self.sink_threshold

    def batches(self, contexts: Sequence[Context], size: int) -> Iterator[Batch]:
        """Run ``contexts`` in order, ``size`` at a time."""
        for start in range(0, len(contexts), size):
            yield self.run(contexts[start : start + size])

    @torch.inference_mode()
    def run(self, contexts: Sequence[Context]) -> Batch:
        """One forward pass over ``contexts``, padded to the longest of them."""
        lengths = torch.tensor([len(c.token_ids) for c in contexts])
        token_ids = torch.from_numpy(_pad([c.token_ids for c in contexts], int(lengths.max())))
        token_ids = token_ids.to(self.model.device)
        lengths = lengths.to(self.model.device)
        real = torch.arange(token_ids.shape[1], device=token_ids.device) < lengths[:, None]
        x = self._forward(token_ids)
        special = torch.isin(token_ids, self._special) & real
        sinks = x.norm(dim=-1) > self.sink_threshold
        sinks[:, : self.skip_first] = True
        sinks &= real & ~special
        mask = real & ~special & ~sinks
        return Batch(contexts, token_ids, lengths, x, mask, int(special.sum()), int(sinks.sum()))

    def _forward(self, token_ids: Tensor) -> Tensor:
        # No attention mask: under causal attention no token sees the padding to its right.
        with _recording(self._module, self._side) as record, suppress(_HookReached):
            self.model.engine.arch.trunk(input_ids=token_ids, use_cache=False)
        if not record or record[0].shape != (*token_ids.shape, self.model.d_model):
            found = f"gives {list(record[0].shape)}" if record else "is never reached"
            raise SettingsError(f"The hook point {self.hook} of layer {self.layer} {found}: it carries no activations.")
        return record[0].float()


@contextmanager
def _recording(module: nn.Module, side: str) -> Iterator[list[Tensor]]:
    """Collect what goes into or comes out of ``module``, and end the forward pass right there."""
    record: list[Tensor] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        record.append(args[0] if args else kwargs["hidden_states"])
        raise _HookReached

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        # Layers return a tensor or a tuple that starts with it, by architecture and transformers version.
        record.append(output[0] if isinstance(output, tuple) else output)
        raise _HookReached

    if side == "input":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield record
    finally:
        handle.remove()


def _pad(rows: Sequence[NDArray[np.int32]], length: int) -> NDArray[np.int64]:
    padded = np.zeros((len(rows), length), dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded
