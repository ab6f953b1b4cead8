"""The SAE that every checkpoint format is turned into, and what is known of it beside its weights."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from jobs.engine import hook_names
from jobs.engine.digests import file_sha256
from jobs.engine.errors import SAELoadError
from jobs.engine.saes.activations import GroupMax, TopK
from jobs.engine.saes.norms import Norm
from jobs.engine.saes.text import clip


@dataclass(frozen=True)
class Overrides:
    """What a person adds to a checkpoint whose files do not say it; each wins over the files."""

    k: int | None = None
    layer: int | None = None
    hook: str | None = None  # short ("resid_post") or full ("blocks.9.hook_resid_post")
    hook_out: str | None = None  # of a transcoder; makes one of what the files do not call so
    layer_out: int | None = None

    def no_k(self, file: Path, architecture: str) -> None:
        if self.k is not None:
            raise SAELoadError(f"k was given for {file}, but its architecture {architecture} has no k.")

    def choose_k(self, stated: int | None, d_sae: int, file: Path) -> int:
        """k as given, else as ``stated`` in ``file``, if features can be chosen by it."""
        k = stated if self.k is None else self.k
        if k is None:
            raise SAELoadError(f"{file} has no k, which its architecture needs: give k.")
        if not 1 <= k <= d_sae:
            raise SAELoadError(f"k is {clip(k)} for {file}, but must be from 1 to its {d_sae} features.")
        return k


@dataclass(frozen=True)
class Site:
    """Where an SAE reads, and a transcoder writes, as far as it is known (jobs.engine.hook_names has the words).

    ``hook_name`` is the name that the files give the place, unchanged.
    """

    hook_name: str | None = None
    hook: str | None = None
    layer: int | None = None
    hook_out: str | None = None
    layer_out: int | None = None

    @classmethod
    def find(
        cls,
        overrides: Overrides,
        hook_name: str | None = None,
        *,
        read_as: str | None = None,
        layer: int | None = None,
        out_name: str | None = None,
    ) -> "Site":
        """From names as files have them; ``read_as``: what such a name means, where hook_names does not know it.

        ``layer`` is what is said beside the name; ``overrides`` win over it all. Where they move the input, the output
        moves along, unless its layer is given too.
        """
        hook, named_layer = hook_names.parse(hook_name if read_as is None else read_as)
        stated = layer = named_layer if layer is None else layer
        if overrides.hook is not None:
            given, given_layer = hook_names.parse(overrides.hook)
            hook = overrides.hook if given is None else given
            layer = layer if given_layer is None else given_layer
        layer = layer if overrides.layer is None else overrides.layer
        hook_out, layer_out = hook_names.parse(out_name)
        if stated is not None and layer is not None and layer_out is not None:
            layer_out = layer + layer_out - stated
        if overrides.hook_out is not None:
            given, given_layer = hook_names.parse(overrides.hook_out)
            hook_out = overrides.hook_out if given is None else given
            layer_out = layer_out if given_layer is None else given_layer
        layer_out = layer_out if overrides.layer_out is None else overrides.layer_out
        return cls(hook_name, hook, layer, hook_out, layer if layer_out is None and hook_out else layer_out)


@dataclass(frozen=True)
class Source:
    """What is known of an SAE beside its weights. ``digest`` covers the files alone, not the overrides.

    ``variant``: what the format itself calls the architecture. ``normalisation``: said in words, where weights were
    scaled at load. ``centred``: the mean over d_in is to be taken off the activations before the SAE sees them, as in
    models whose writing weights TransformerLens centres. ``reported_l0``: as the files or their names have it.
    """

    format: str
    architecture: str
    digest: str
    dtype_on_disk: str
    path: Path
    files: tuple[Path, ...] = ()
    site: Site = Site()
    variant: str | None = None
    normalisation: str | None = None
    is_transcoder: bool = False
    centred: bool = False
    reported_l0: float | None = None
    model_name: str | None = None
    notes: tuple[str, ...] = ()


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
        norm: Norm | None = None,
        undo_norm: bool = True,
    ) -> None:
        super().__init__()
        weights = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec.contiguous(), "b_dec": b_dec}
        for name, tensor in (weights | {"pre_bias": pre_bias, "W_skip": W_skip}).items():
            self.register_buffer(name, tensor)
        self.activation, self.norm = activation, norm
        self._undo = norm if undo_norm else None
        self.source, site = source, source.site
        self.format, self.architecture = source.format, source.architecture
        self.digest, self.dtype_on_disk = source.digest, source.dtype_on_disk
        self.hook_name, self.hook, self.layer = site.hook_name, site.hook, site.layer
        self.hook_out, self.layer_out = site.hook_out, site.layer_out
        self.is_transcoder, self.centred = source.is_transcoder or site.hook_out is not None, source.centred
        self.reported_l0, self.model_name = source.reported_l0, source.model_name
        self.d_in, self.d_sae = W_enc.shape
        self.d_out = W_dec.shape[1]
        self._files = [{"name": file.name, "bytes": file.stat().st_size} for file in source.files]

    @property
    def k(self) -> int | None:
        """Features kept per token, or None where the architecture fixes no number."""
        return self.activation.k if isinstance(self.activation, TopK | GroupMax) else None

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

    def card(self) -> dict[str, object]:
        """What a person wants to know of the SAE, as JSON."""
        source = self.source
        return {
            "format": self.format,
            "architecture": self.architecture,
            "variant": source.variant,
            "hook": self.hook,
            "layer": self.layer,
            "hook_out": self.hook_out,
            "layer_out": self.layer_out,
            "d_in": self.d_in,
            "d_sae": self.d_sae,
            "d_out": self.d_out,
            "k": self.k,
            "normalisation": self.norm.NAME if self.norm is not None else source.normalisation,
            "subtracts_b_dec": self.pre_bias is not None,
            "centred": self.centred,
            "reported_l0": self.reported_l0,
            "model_name": self.model_name,
            "dtype": self.dtype_on_disk,
            "digest": self.digest,
            "files": self._files,
            "notes": list(source.notes),
        }


def digest_files(*files: Path) -> str:
    """sha256 over the files' names and bytes; the order given does not matter."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.name):
        digest.update(os.fsencode(file.name) + b"\0" + file_sha256(file))
    return digest.hexdigest()
