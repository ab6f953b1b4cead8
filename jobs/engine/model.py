"""Load a causal language model and its tokenizer, and know where they came from."""

import hashlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from interp_engine import EagerModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from jobs.engine.errors import ModelLoadError

WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".bin")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A causal LM in evaluation mode. ``arch`` names the modules of its architecture (interp-engine's addresses)."""

    source: str
    revision: str
    name: str
    weights_digest: str
    tokenizer_digest: str
    engine: EagerModel
    tokenizer: Any
    device: str
    dtype: str

    @property
    def arch(self) -> Any:
        return self.engine.arch

    @property
    def architecture(self) -> str:
        return str(self.arch.architecture)

    @property
    def n_layers(self) -> int:
        return int(self.arch.n_layers)

    @property
    def d_model(self) -> int:
        return int(self.arch.d_model)

    @property
    def max_context(self) -> int | None:
        """The longest window that the model was made for, where its config says so."""
        found = getattr(self.engine.hf_model.config.get_text_config(), "max_position_embeddings", None)
        return found if isinstance(found, int) else None

    @property
    def vocab_size(self) -> int:
        return int(self.unembedding.shape[0])

    @property
    def unembedding(self) -> Tensor:
        """W_U, [vocab, d_model]."""
        return self.arch.lm_head.weight  # type: ignore[no-any-return]

    @property
    def final_norm(self) -> nn.Module:
        return self.arch.final_norm  # type: ignore[no-any-return]

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of BOS, EOS, padding, chat markers and every other token that the tokenizer calls special."""
        added = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return frozenset(added | set(self.tokenizer.all_special_ids))

    def tokenize(self, text: str) -> Sequence[int]:
        """Token ids of ``text`` with the special tokens that the tokenizer itself adds, untruncated."""
        ids: list[int] = self.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        return ids


def load_model(source: str, *, revision: str = "", device: str = "cpu", dtype: str = "float32") -> LoadedModel:
    """Load ``source``: a folder, a .gguf file, ``package:NAME`` (an installed package with a .gguf), or a hub id.

    Raises ModelLoadError with a sentence that names the source and the fault.
    """
    try:
        place, gguf = _locate(source)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ModelLoadError(f"The model {source} cannot be found: {error}") from error
    extra: dict[str, Any] = {"gguf_file": gguf.name} if gguf else {}
    if revision:
        extra["revision"] = revision
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(place, **extra)
            model = AutoModelForCausalLM.from_pretrained(place, dtype=DTYPES[dtype], **extra)
    except Exception as error:  # the libraries below raise anything at all over a damaged file
        reason = " ".join(str(error).split())[:300]
        raise ModelLoadError(f"The model {source} cannot be loaded: {reason}") from error
    if tokenizer.vocab_size == 0 or not tokenizer.is_fast:
        raise ModelLoadError(f"The model {source} has no fast tokenizer (tokenizer.json); convert its tokenizer first.")
    model.requires_grad_(False).eval().to(device)
    try:
        engine = EagerModel(str(place), hf_model=model, tokenizer=tokenizer)
    except Exception as error:
        raise ModelLoadError(f"The model {source} has an architecture that cannot be hooked: {error}") from error
    return LoadedModel(
        source=source,
        revision=revision or str(getattr(model.config, "_commit_hash", "") or ""),
        name=gguf.stem if gguf else Path(source).name,
        weights_digest=_weights_digest(place, gguf, model),
        tokenizer_digest=hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        engine=engine,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the terminal for our own progress: the GGUF reader draws a bar that no option turns off."""
    transformers_logging.disable_progress_bar()
    with redirect_stderr(io.StringIO()):
        yield


def _locate(source: str) -> tuple[str, Path | None]:
    """What to hand to transformers, and the .gguf in it if that is how the weights are kept."""
    if source.startswith("package:"):
        spec = importlib.util.find_spec(source.removeprefix("package:"))
        if spec is None or spec.origin is None:
            raise ModelLoadError(f"The model {source} is missing: that Python package is not installed.")
        folder = Path(spec.origin).parent
    else:
        folder = Path(source).expanduser()
    if folder.is_file():
        if folder.suffix != ".gguf":
            raise ModelLoadError(f"The model {source} is a file, but not a .gguf; give the folder that holds it.")
        return str(folder.parent), folder
    if not folder.is_dir():
        if source.count("/") == 1 and not source.startswith((".", "/", "~")):
            return source, None  # a hub id, from the cache or the network
        raise ModelLoadError(f"The model {source} is missing: there is no such folder or .gguf file.")
    if (folder / "config.json").is_file():
        return str(folder), None
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) != 1:
        found = "no config.json and no .gguf" if not ggufs else f"{len(ggufs)} .gguf files; name one of them"
        raise ModelLoadError(f"The model {source} cannot be read: the folder has {found}.")
    return str(folder), ggufs[0]


def _weights_digest(place: str, gguf: Path | None, model: nn.Module) -> str:
    """sha256 over config.json and the weight files, names and bytes; over the tensors where files are not at hand.

    The config belongs to the weights: a changed norm or rope setting makes another model of them.
    """
    digest = hashlib.sha256()
    files = (
        [gguf]
        if gguf
        else sorted(p for p in Path(place).glob("*") if p.suffix in WEIGHT_SUFFIXES or p.name == "config.json")
    )
    if not files:
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
