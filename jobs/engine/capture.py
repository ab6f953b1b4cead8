"""Read the activations at a hook point, or at the two of a transcoder, and stop the forward pass there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.engine import experts as mixture
from jobs.engine.corpus import Context
from jobs.engine.errors import SettingsError
from jobs.engine.model import LoadedModel
from jobs.engine.points import Place, Point, is_choice, recording, resolve, run, some_tokens
from jobs.engine.saes import SAE

SINK_RATIO = 10.0
SINK_SAMPLE = 8  # contexts whose median norm sets the sink threshold


@dataclass(frozen=True)
class Batch:
    """Contexts run together. ``x``: activations [contexts, length, d_in] float32; ``mask``: True where they count."""

    contexts: Sequence[Context]
    token_ids: Tensor  # [contexts, length] int64, padded on the right
    lengths: Tensor  # [contexts] int64, without the padding
    x: Tensor
    mask: Tensor  # neither special, nor padding, nor a sink
    n_special: int
    n_sinks: int
    written: Tensor | None = None  # at a transcoder's output point, [contexts, length, d_out] float32
    mean: Tensor | None = None  # what centring took off y, [contexts, length, 1]
    experts: Tensor | None = None  # that the router chose, [contexts, length, k] int64

    @property
    def y(self) -> Tensor:
        """What the SAE should give: x itself, but for a transcoder. float32 [contexts, length, d_out]."""
        return self.x if self.written is None else self.written


class Capture:
    """Runs contexts through the model up to one hook point.

    Special tokens stay in the input and are masked by id, padding by position, and sinks, tokens whose norm exceeds
    ten times the median norm, by ``sink_threshold``. The threshold is set once per run from the first contexts of
    the corpus, so it depends on neither batch size nor shards. The first ``skip_first`` positions of every context
    count as sinks, too: many models park attention there, whatever the token.

    A transcoder's y is read at ``hook_out`` of ``layer_out`` (``layer``, unless given) in the same pass. ``centred``:
    the mean over the last dimension is taken off x, and off y unless it is a transcoder's. ``experts``: the router's
    choices are read, too, that of ``router_layer``: the last that chooses before the pass ends, so the block's own for
    what comes behind its router. None where there is no such router. Raises SettingsError, one sentence.
    """

    def __init__(
        self,
        model: LoadedModel,
        hook: str,
        layer: int,
        skip_first: int = 0,
        *,
        hook_out: str | None = None,
        layer_out: int | None = None,
        centred: bool = False,
        experts: bool = False,
    ) -> None:
        self.point = resolve(model, hook, layer)
        self.point_out: Point | None = None
        if hook_out is not None:
            self.point_out = resolve(model, hook_out, layer if layer_out is None else layer_out)
        self.model, self.hook, self.layer, self.skip_first = model, self.point.hook, layer, skip_first
        self.centred = centred
        self._places = [point.place for point in (self.point, self.point_out) if point]
        self._check_order()
        self.router_layer: int | None = None
        self._router: Place | None = None
        self.n_experts = self.per_token = 0
        if experts:
            self._find_router()
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
        x, written, chosen = self._forward(token_ids)
        mean = x.mean(-1, keepdim=True) if self.centred else None
        x = x if mean is None else x - mean
        special = torch.isin(token_ids, self._special) & real
        sinks = x.norm(dim=-1) > self.sink_threshold
        sinks[:, : self.skip_first] = True
        sinks &= real & ~special
        return Batch(
            contexts,
            token_ids,
            lengths,
            x,
            mask=real & ~special & ~sinks,
            n_special=int(special.sum()),
            n_sinks=int(sinks.sum()),
            written=written,
            mean=mean if written is None else None,
            experts=chosen,
        )

    def _forward(self, token_ids: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """x; y of a transcoder; the experts chosen."""
        record = self._record(token_ids, [self._router] if self._router else [])
        shape = tuple(token_ids.shape)
        points = [point for point in (self.point, self.point_out) if point]
        for number, point in enumerate(points):
            if number not in record:
                raise SettingsError(f"{point} is never reached: it carries no activations.")
        found = [point.read(record[number], shape) for number, point in enumerate(points)]
        chosen = record[len(points)].reshape(*shape, -1).long() if self._router else None
        return found[0], found[1] if self.point_out else None, chosen

    @torch.inference_mode()
    def _record(self, token_ids: Tensor, routers: Sequence[Place]) -> dict[int, Tensor]:
        with recording(self._places, routers) as record:
            run(self.model, token_ids)
        return record

    def _check_order(self) -> None:
        """Raise SettingsError where the output point comes before the input."""
        if self.point_out and next(iter(self._record(some_tokens(self.model), []))) != 0:
            raise SettingsError(
                f"The transcoder would write {self.point_out.hook} of layer {self.point_out.layer}, which "
                f"{self.model.name} computes before the {self.point.hook} of layer {self.layer} that it reads."
            )

    def _find_router(self) -> None:
        """Take the router that chooses last before the pass ends."""
        places = mixture.routers(self.model)
        record = self._record(some_tokens(self.model), list(places.values())) if places else {}
        for number, (layer, place) in enumerate(places.items(), len(self._places)):
            if is_choice(found := record.get(number)):
                self.router_layer, self._router = layer, place
                self.n_experts, self.per_token = mixture.n_experts(self.model), found.shape[-1]


def capture_of(
    model: LoadedModel, sae: SAE, hook: str, layer: int, skip_first: int = 0, *, experts: bool = False
) -> Capture:
    """The Capture of what ``sae`` reads, and writes if it is a transcoder, with its input at ``hook`` of ``layer``."""
    if sae.is_transcoder and sae.hook_out is None:
        raise SettingsError(f"{sae.source.path} is a {sae.architecture} whose files do not say what it writes.")
    layer_out = moved_layer(sae, layer) if sae.hook_out else None
    return Capture(
        model,
        hook,
        layer,
        skip_first,
        hook_out=sae.hook_out,
        layer_out=layer_out,
        centred=sae.centred,
        experts=experts,
    )


def moved_layer(sae: SAE, layer: int) -> int:
    """The layer that a transcoder writes when it reads ``layer``: as far away as its files have it."""
    return layer + (0 if sae.layer_out is None or sae.layer is None else sae.layer_out - sae.layer)


def _pad(rows: Sequence[NDArray[np.int32]], length: int) -> NDArray[np.int64]:
    padded = np.zeros((len(rows), length), dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded
