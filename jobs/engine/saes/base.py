"""What the checkpoint formats share: the SAE they are turned into, and careful reading of their files."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from jobs.engine.errors import SAELoadError

MAX_CONFIG_BYTES = 1_000_000
MAX_HOOK_LENGTH = 200
_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True)
class Overrides:
    """What a person adds to a checkpoint whose files do not say it; each wins over the files."""

    k: int | None = None
    layer: int | None = None
    hook: str | None = None  # short ("resid_post") or full ("blocks.9.hook_resid_post")


@dataclass(frozen=True)
class Source:
    """What is known of an SAE beside its weights. ``digest`` covers the files alone, not the overrides."""

    path: Path
    format: str
    architecture: str
    digest: str
    dtype_on_disk: str
    hook_name: str | None  # as the files have it
    hook: str | None
    layer: int | None


class SAE(nn.Module):
    """A sparse autoencoder or transcoder. All weights are float32 buffers; nothing is trained.

    encode: f = activation((norm(x) - pre_bias) @ W_enc + b_enc), with pre_bias 0 where there is none
    decode: y = undo_norm(f @ W_dec + b_dec) + x @ W_skip.T, with W_skip 0 where there is none

    W_enc [d_in, d_sae] and W_dec [d_sae, d_out] are the effective matrices: loaders fold every fixed scale of a
    format (gate magnitudes, decoder norms, dataset norms) into them, so row i of W_dec is what one unit of feature i
    adds to the output, in normalised units where ``decode_needs_x`` is due to a norm.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    pre_bias: Tensor | None
    W_skip: Tensor | None

    def __init__(
        self,
        source: Source,
        *,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        b_dec: Tensor,
        activation: nn.Module,
        pre_bias: Tensor | None = None,
        W_skip: Tensor | None = None,
        norm: "Norm | None" = None,
        undo_norm: bool = True,
    ) -> None:
        super().__init__()
        weights = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec.contiguous(), "b_dec": b_dec}
        for name, tensor in (weights | {"pre_bias": pre_bias, "W_skip": W_skip}).items():
            self.register_buffer(name, tensor)
        self.activation, self.norm = activation, norm
        self._undo = norm if undo_norm else None
        self.source = source
        self.format, self.architecture = source.format, source.architecture
        self.digest, self.dtype_on_disk = source.digest, source.dtype_on_disk
        self.hook_name, self.hook, self.layer = source.hook_name, source.hook, source.layer
        self.d_in, self.d_sae = W_enc.shape
        self.d_out = W_dec.shape[1]

    @property
    def k(self) -> int | None:
        """Features kept per token, or None where the architecture fixes no number."""
        return self.activation.k if isinstance(self.activation, TopK) else None

    @property
    def decode_needs_x(self) -> bool:
        """Whether the output depends on the input beside the features: a skip term, or a norm to undo."""
        return self.W_skip is not None or self._undo is not None

    def encode(self, x: Tensor) -> Tensor:
        """x [n, d_in], any float dtype -> features [n, d_sae] float32, dense."""
        f: Tensor = self.activation(self.pre_activations(x))
        return f

    def pre_activations(self, x: Tensor) -> Tensor:
        """x [n, d_in], any float dtype -> what the activation function is given, [n, d_sae] float32."""
        h = x.to(self.W_enc.dtype)
        if self.norm is not None:
            h = self.norm.apply(h)
        if self.pre_bias is not None:
            h = h - self.pre_bias
        return functional.linear(h, self.W_enc.T, self.b_enc)

    def decode(self, f: Tensor, x: Tensor | None = None) -> Tensor:
        """f [n, d_sae] -> [n, d_out] float32. ``x`` [n, d_in], the raw input, matters only if ``decode_needs_x``.

        Raises ValueError where x is needed and missing.
        """
        if self.decode_needs_x and x is None:
            reason = "adds a skip term" if self.W_skip is not None else "undoes a norm of its input"
            raise ValueError(f"decode of the SAE {self.source.path} needs x: it {reason}.")
        return self.finish(functional.linear(f.to(self.W_dec.dtype), self.W_dec.T, self.b_dec), x)

    def finish(self, y: Tensor, x: Tensor | None) -> Tensor:
        """``y`` = f @ W_dec + b_dec [n, d_out], with the norm of ``x`` undone and the skip term added."""
        if x is not None and self._undo is not None:
            y = self._undo.undo(y, x.to(y.dtype))
        if x is not None and self.W_skip is not None:
            y = y + functional.linear(x.to(y.dtype), self.W_skip)
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x), x)

    def hook_point(self) -> tuple[str, int]:
        """(hook, layer) to read activations from. Raises SAELoadError where the files and the overrides are silent."""
        if self.hook is None or self.layer is None:
            missing = " and ".join(n for n, v in (("hook", self.hook), ("layer", self.layer)) if v is None)
            raise SAELoadError(f"{self.source.path} does not say which {missing} the SAE reads: give {missing}.")
        return self.hook, self.layer


class JumpReLU(nn.Module):
    """p where p > threshold and p > 0, else 0 (Rajamanoharan et al. 2024, arXiv 2407.14435). Overwrites p."""

    threshold: Tensor

    def __init__(self, threshold: Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold.clamp(min=0))

    def forward(self, p: Tensor) -> Tensor:
        return p.masked_fill_(p <= self.threshold, 0)


class TopK(nn.Module):
    """The k largest of each row, then ReLU; with ``by_magnitude`` the k largest |p|, sign kept and no ReLU.

    Gao et al. 2024, arXiv 2406.04093. Of equal values the lower index wins, on every device.
    """

    def __init__(self, k: int, *, by_magnitude: bool = False) -> None:
        super().__init__()
        self.k, self.by_magnitude = k, by_magnitude

    def forward(self, p: Tensor) -> Tensor:
        index = top_k_indices(p.abs() if self.by_magnitude else p, self.k)
        kept = p.gather(-1, index)
        return torch.zeros_like(p).scatter_(-1, index, kept if self.by_magnitude else kept.relu())


def top_k_indices(scores: Tensor, k: int) -> Tensor:
    """scores [n, F] -> int64 [n, k], in no set order. Ties across the boundary go to the lower index.

    Ties at exactly 0 are left as they fall: either choice gives a feature that does not fire.
    """
    if k == scores.shape[-1]:
        return torch.arange(k, device=scores.device).expand(scores.shape)
    values, index = scores.topk(k + 1, dim=-1)
    index = index[..., :k]
    # topk is not stable. A row can differ only where the k-th value comes again; such rows are rare, so sort those.
    tied = (values[..., k - 1] == values[..., k]) & (values[..., k] != 0)
    if tied.any():
        index[tied] = scores[tied].sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return index


class Norm(Protocol):
    """A per-row normalisation of the input. Both sides work from the raw x, so nothing is kept between calls."""

    def apply(self, x: Tensor) -> Tensor: ...

    def undo(self, y: Tensor, x: Tensor) -> Tensor: ...


class LayerNorm:
    """(x - mean) / (std + 1e-5) with the unbiased std (n - 1); undone as y * std + mean, without the 1e-5."""

    def apply(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)

    def undo(self, y: Tensor, x: Tensor) -> Tensor:
        return y * x.std(-1, keepdim=True) + x.mean(-1, keepdim=True)


class ConstantNorm:
    """x scaled to norm sqrt(d_in); a row of zeros stays as it is."""

    def apply(self, x: Tensor) -> Tensor:
        return x * self._scale(x)

    def undo(self, y: Tensor, x: Tensor) -> Tensor:
        return y / self._scale(x)

    def _scale(self, x: Tensor) -> Tensor:
        norm = x.norm(dim=-1, keepdim=True)
        return torch.where(norm == 0, 1.0, x.shape[-1] ** 0.5 / norm)


@dataclass(frozen=True)
class TensorInfo:
    dtype: str
    shape: tuple[int, ...]


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Shapes and dtypes of a safetensors file, without reading its data. The reader checks them against its size."""
    try:
        with safe_open(file, framework="pt") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
            return {name: TensorInfo(s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise SAELoadError(f"{file} is not a whole safetensors file ({clip(error)}): download it again.") from error


def read_tensors(file: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """The named tensors as float32, all finite. Raises SAELoadError on integers, NaN and infinity."""
    tensors = {}
    with safe_open(file, framework="pt") as weights:
        for name in names:
            if (dtype := weights.get_slice(name).get_dtype()) not in _DTYPES:
                raise SAELoadError(f"{file} holds {name} as {dtype}; 16, 32 or 64-bit floats are needed.")
            # A copy, for the reader maps the file: weights must not change, or vanish, with it.
            tensors[name] = finite(weights.get_tensor(name).to(torch.float32, copy=True), f"{name} in {file}")
    return tensors


def dtype_name(info: TensorInfo) -> str:
    return _DTYPES.get(info.dtype, info.dtype.lower())


def finite(tensor: Tensor, what: str) -> Tensor:
    """``tensor`` itself, if it holds neither NaN nor infinity."""
    # NaN spreads through aminmax, so two numbers tell, without a mask as large as the weights.
    if not torch.isfinite(torch.stack(tensor.aminmax())).all():
        raise SAELoadError(f"{what} holds NaN or infinite values: the checkpoint is damaged or training diverged.")
    return tensor


def read_json_object(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``. Raises SAELoadError on anything else, or if it is larger than a config can be."""
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise SAELoadError(f"{file} cannot be read: {error.strerror}.") from error
    if len(text) > MAX_CONFIG_BYTES:
        raise SAELoadError(f"{file} is larger than {MAX_CONFIG_BYTES} bytes, so it is not a config.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SAELoadError(f"{file} is not JSON: {clip(error)}.") from error
    if not isinstance(value, dict):
        raise SAELoadError(f"{file} holds no JSON object but {clip(value)}.")
    return value


def digest_files(*files: Path) -> str:
    """sha256 over the files' names and bytes, read as a stream; the order given does not matter."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.name):
        with file.open("rb") as stream:
            inner = hashlib.file_digest(stream, "sha256").digest()
        digest.update(os.fsencode(file.name) + b"\0" + inner)
    return digest.hexdigest()


def check_hook_name(name: object, where: str) -> str | None:
    """``name`` if it is None or text fit to be stored and shown. Raises SAELoadError."""
    if name is None or (isinstance(name, str) and 0 < len(name) <= MAX_HOOK_LENGTH and name.isprintable()):
        return name
    raise SAELoadError(f"{where} must be a name of at most {MAX_HOOK_LENGTH} printable characters, not {clip(name)}.")


def clip(value: object) -> str:
    """``value`` for an error message: configs are other people's text, so it is kept short and on one line."""
    text = str(value) if isinstance(value, Exception) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "..."
