"""Train a TopK SAE on a model's activations, streamed through a shuffle buffer.

The method is Gao et al. 2024, "Scaling and evaluating sparse autoencoders" (arXiv:2406.04093): TopK activation, decoder
rows of unit norm, encoder started as the decoder's transpose, and an auxiliary loss that lets dead features model what
the others leave over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from jobs.engine.capture import Capture
from jobs.engine.corpus import Context
from jobs.engine.errors import SettingsError


@dataclass(frozen=True)
class TrainingSettings:
    """``batch`` and ``buffer`` count tokens. Each token is drawn ``reuse`` times on average."""

    d_sae: int = 4608
    k: int = 32
    batch: int = 2048
    reuse: int = 4
    buffer: int = 1 << 18
    lr: float = 1e-3
    warmup: int = 100
    aux_k: int = 256
    aux_weight: float = 1 / 32
    dead_after: int = 150_000  # tokens without firing
    context: int = 128
    seed: int = 0


@dataclass
class TrainingStep:
    """What one step did; ``fvu`` is the squared error over the batch's own variance."""

    step: int
    n_steps: int
    fvu: float
    dead: int


@dataclass
class SAEWeights:
    """W_enc [d, F], b_enc [F], W_dec [F, d] of unit rows, b_dec [d], float32, in the units of the activations."""

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    k: int
    history: list[TrainingStep] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        return {"W_enc": self.W_enc, "b_enc": self.b_enc, "W_dec": self.W_dec, "b_dec": self.b_dec}


def train(
    capture: Capture, contexts: Sequence[Context], settings: TrainingSettings
) -> Iterator[tuple[TrainingStep, SAEWeights]]:
    """Yield (step, weights) after every step; the last weights are the SAE. ``weights`` is live: do not change it.

    Raises SettingsError if the text is too short for a single batch.
    """
    n_tokens = sum(len(c.token_ids) for c in contexts)
    n_steps = n_tokens * settings.reuse // settings.batch
    if n_tokens < settings.batch:
        raise SettingsError(f"The training text has {n_tokens} tokens, fewer than one batch of {settings.batch}.")
    generator = torch.Generator().manual_seed(settings.seed)
    trainer: _Trainer | None = None
    for step, x in enumerate(_shuffled(capture, contexts, settings, n_steps, generator)):
        if trainer is None:
            trainer = _Trainer(x, settings, n_steps, generator)
        done = trainer.step(x, step)
        yield done, trainer.weights()


class _Trainer:
    def __init__(self, x: Tensor, settings: TrainingSettings, n_steps: int, generator: torch.Generator) -> None:
        self.settings, self.n_steps = settings, n_steps
        # Work at unit variance per dimension on average, so that one learning rate suits every model.
        mean = x.mean(0)
        self.scale = float((x - mean).square().mean().sqrt())
        W_dec = torch.randn(settings.d_sae, x.shape[1], generator=generator)
        self.W_dec = _unit_rows(W_dec).requires_grad_()
        self.W_enc = self.W_dec.detach().T.clone().contiguous().requires_grad_()
        self.b_enc = torch.zeros(settings.d_sae, requires_grad=True)
        self.b_dec = (mean / self.scale).requires_grad_()
        self.adam = torch.optim.Adam([self.W_enc, self.b_enc, self.W_dec, self.b_dec], lr=settings.lr, fused=True)
        self.silent = torch.zeros(settings.d_sae, dtype=torch.long)  # tokens since each feature last fired
        self.history: list[TrainingStep] = []

    def step(self, x: Tensor, step: int) -> TrainingStep:
        """One Adam step on ``x`` [batch, d]."""
        x = x / self.scale
        pre = (x - self.b_dec) @ self.W_enc + self.b_enc
        values, indices = pre.topk(self.settings.k, dim=-1, sorted=False)
        error = x - self._decode(indices, values.relu())
        variance = (x - x.mean(0)).square().mean()
        dead = self.silent > self.settings.dead_after
        loss = error.square().mean() / variance
        fvu = loss.item()
        if dead.any():
            loss = loss + self.settings.aux_weight * self._auxiliary(pre, error.detach(), dead)
        self._set_lr(step)
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        with torch.no_grad():
            self.W_dec.copy_(_unit_rows(self.W_dec))
            self.silent += len(x)
            self.silent[indices[values > 0]] = 0
        done = TrainingStep(step + 1, self.n_steps, fvu, int(dead.sum()))
        self.history.append(done)
        return done

    def _decode(self, indices: Tensor, values: Tensor) -> Tensor:
        """Sum of ``values`` [n, k] times the decoder rows ``indices`` [n, k], plus the bias: only k rows are read."""
        return embedding_bag(indices, self.W_dec, per_sample_weights=values, mode="sum") + self.b_dec

    def _auxiliary(self, pre: Tensor, residual: Tensor, dead: Tensor) -> Tensor:
        """The dead features' best reconstruction of what is left over, as a share of it."""
        ids = dead.nonzero().squeeze(-1)
        values, chosen = pre[:, ids].topk(min(self.settings.aux_k, len(ids)), dim=-1, sorted=False)
        guess = embedding_bag(ids[chosen], self.W_dec, per_sample_weights=values.relu(), mode="sum")
        return (residual - guess).square().mean() / residual.square().mean()

    def _set_lr(self, step: int) -> None:
        """Warm up, hold, and fall to zero over the last fifth."""
        rise = min(1.0, (step + 1) / self.settings.warmup)
        fall = min(1.0, (self.n_steps - step) / (0.2 * self.n_steps))
        for group in self.adam.param_groups:
            group["lr"] = self.settings.lr * rise * fall

    def weights(self) -> SAEWeights:
        """The weights in the activations' own units. Activations scale with x, so the scale goes into the biases."""
        return SAEWeights(
            W_enc=self.W_enc.detach(),
            b_enc=self.b_enc.detach() * self.scale,
            W_dec=self.W_dec.detach(),
            b_dec=self.b_dec.detach() * self.scale,
            k=self.settings.k,
            history=self.history,
        )


def _shuffled(
    capture: Capture, contexts: Sequence[Context], settings: TrainingSettings, n_steps: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield ``n_steps`` batches [batch, d] float32, drawn at random from a buffer that fresh activations flow through.

    The buffer is float16: without sinks, activations are far inside its range.
    """
    order = torch.randperm(len(contexts), generator=generator).tolist()
    buffer: Tensor | None = None
    filled = written = drawn = 0
    n_tokens = sum(len(c.token_ids) for c in contexts)
    seen = 0
    for batch in capture.batches([contexts[i] for i in order], 32):
        fresh = batch.x[batch.mask].to("cpu", torch.float16)
        seen += batch.token_ids.numel()
        if buffer is None:
            buffer = torch.empty(settings.buffer, fresh.shape[1], dtype=torch.float16)
        places = (written + torch.arange(len(fresh))) % len(buffer)
        buffer[places] = fresh
        written += len(fresh)
        filled = min(written, len(buffer))
        # Draw in step with what was read, and only once the buffer is mixed enough to draw from.
        due = int(n_steps * min(1.0, seen / n_tokens)) if filled * 2 >= min(len(buffer), n_tokens) else drawn
        for _ in range(due - drawn):
            yield buffer[torch.randint(filled, (settings.batch,), generator=generator)].float()
        drawn = max(drawn, due)
    if buffer is None:
        return
    for _ in range(n_steps - drawn):
        yield buffer[torch.randint(filled, (settings.batch,), generator=generator)].float()


def _unit_rows(matrix: Tensor) -> Tensor:
    return normalize(matrix, dim=-1)
