"""Load a causal language model and its tokenizer, and know where they came from."""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from interp_engine import EagerModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from jobs.engine.digests import weights_sha256
from jobs.engine.errors import EngineError, ModelLoadError
from jobs.engine.hub_repo import OnProgress
from jobs.engine.model_files import ModelFiles, find_model, read_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A causal LM in evaluation mode. ``arch`` names the modules of its architecture (interp-engine's addresses).

    ``revision`` is the commit that config, tokenizer and weights come from, and "" unless they come from a hub.
    """

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
    def chat_template_digest(self) -> str:
        """sha256 of the template that makes a conversation a text; "" without one. Nothing here uses it, but a text
        that somebody tries may have come out of it.
        """
        template = getattr(self.tokenizer, "chat_template", None)
        if not template:
            return ""
        named = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
        return hashlib.sha256(named.encode()).hexdigest()

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


def load_model(
    source: str,
    *,
    revision: str = "",
    device: str = "cpu",
    dtype: str = "float32",
    trust_remote_code: bool = False,
    on_progress: OnProgress | None = None,
) -> LoadedModel:
    """Load ``source``: a folder, a .gguf file, ``package:NAME`` (an installed package with a .gguf), or a hub id.

    A hub id is ``org/name``, ``org/name@revision``, or either with the path of a folder or a .gguf inside; ``revision``
    goes before one in the id. It is settled to a commit once, fetched as safetensors or .gguf, and is a folder from
    there on, with the digests of any other. A folder on this machine may also hold pickled weights (.bin), of which
    only tensors are read (torch's ``weights_only``).

    Code that comes with a model is not run, unless ``trust_remote_code``. ``on_progress``: bytes fetched, bytes to
    fetch. Raises ModelLoadError or HubError with a sentence that names the source and the fault.
    """
    _check_device(device)
    if dtype not in DTYPES:
        raise ModelLoadError(f"The dtype {dtype[:50]} is not known: choose one of {', '.join(DTYPES)}.")
    with _in_one_sentence(source, f"the memory of {device} as {dtype}"):
        files = find_model(source, revision, own_code=trust_remote_code, on_progress=on_progress)
        identity = files.identity(trust_remote_code and _brings_code(source, files))
        model, tokenizer = _read(source, files, DTYPES[dtype], trust_remote_code)
        model.requires_grad_(False).eval().to(device)
        digest = weights_sha256(identity)
    try:
        engine = EagerModel(str(files.folder), hf_model=model, tokenizer=tokenizer, trust_remote_code=False)
    except Exception as error:
        raise ModelLoadError(f"The model {source} has an architecture that cannot be hooked: {error}") from error
    return LoadedModel(
        source=source,
        revision=files.revision,
        name=files.name,
        weights_digest=digest,
        tokenizer_digest=hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        engine=engine,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
    )


def _read(source: str, files: ModelFiles, dtype: torch.dtype, trust_remote_code: bool) -> tuple[nn.Module, Any]:
    """Model and tokenizer as transformers reads them, whole. Raises ModelLoadError, and whatever transformers does."""
    extra: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if files.gguf:
        extra["gguf_file"] = files.gguf.name
    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(files.folder, **extra)
        model, info = AutoModelForCausalLM.from_pretrained(
            files.folder, dtype=dtype, weights_only=True, output_loading_info=True, **extra
        )
    if missing := sorted(info["missing_keys"]):
        raise ModelLoadError(
            f"The model {source} lacks {len(missing)} of its weights, such as {missing[0]}, which would be random: "
            "its files are not whole, or not a causal language model's."
        )
    if tokenizer.vocab_size == 0 or not tokenizer.is_fast:
        raise ModelLoadError(f"The model {source} has no fast tokenizer (tokenizer.json); convert its tokenizer first.")
    return model, tokenizer


@contextmanager
def _in_one_sentence(source: str, memory: str) -> Iterator[None]:
    """Raises ModelLoadError for whatever the libraries below raise, and that is anything at all over a damaged file."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        if "trust_remote_code" in reason:
            raise ModelLoadError(
                f"The model {source} needs Python code that comes with it, which is not run here. Read that code; an "
                f"administrator who trusts it adds {source} to the setting TRUST_REMOTE_CODE."
            ) from None
        # The CPU's allocator has no exception of its own.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in reason:
            raise ModelLoadError(
                f"The model {source} does not fit into {memory}: choose a smaller dtype or another device."
            ) from error
        raise ModelLoadError(f"The model {source} cannot be loaded: {reason[:300]}") from error


def _brings_code(source: str, files: ModelFiles) -> bool:
    """Whether its config names classes of its own. Raises ModelLoadError if they lie where no revision pins them."""
    if files.gguf:
        return False
    configs = [files.folder / name for name in ("config.json", "tokenizer_config.json")]
    named = [read_json(config).get("auto_map") for config in configs if config.is_file()]
    if any("--" in str(auto_map) for auto_map in named):
        raise ModelLoadError(
            f"The model {source} takes its code from another repository, which may change at any time: copy that code "
            "into the model's own folder, and the names in auto_map with it."
        )
    return any(named)


def _check_device(device: str) -> None:
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ModelLoadError(f"There is no device {device[:50]}: choose cpu or cuda.") from error
    if wanted.type not in {"cpu", "cuda"}:
        raise ModelLoadError(f"The device {device} is not supported: choose cpu or cuda.")
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise ModelLoadError(f"This machine has {torch.cuda.device_count()} CUDA GPUs, so there is no {device}.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the terminal for our own progress: the GGUF reader draws a bar that no option turns off."""
    transformers_logging.disable_progress_bar()
    with redirect_stderr(io.StringIO()):
        yield
