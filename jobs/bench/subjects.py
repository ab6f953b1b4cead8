"""What is measured: a model, an SAE and tokens; on the disk, or of random weights in the shape of known ones."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from interp_engine import EagerModel
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders
from tokenizers import models as tokenizer_models
from transformers import AutoModelForCausalLM, Gemma2Config, PreTrainedTokenizerFast

from jobs.engine.corpus import Context, cut_contexts, read_corpus
from jobs.engine.errors import SettingsError
from jobs.engine.model import DTYPES, LoadedModel, load_model
from jobs.engine.saes import SAE, load_sae
from jobs.engine.saes.activations import TopK
from jobs.engine.saes.base import Site, Source

RANDOM = "random:"
SHAPES: dict[str, dict[str, Any]] = {
    "gemma-2-2b": {
        "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    },
    "tiny": {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    },
}  # fmt: skip


def model_for(source: str, device: str, dtype: str) -> LoadedModel:
    """A model as ``load_model`` takes it, or ``random:SHAPE``."""
    if not source.startswith(RANDOM):
        return load_model(source, device=device, dtype=dtype)
    shape = SHAPES.get(source.removeprefix(RANDOM))
    if shape is None:
        raise SettingsError(f"There is no shape {source}: choose one of {', '.join(RANDOM + s for s in SHAPES)}.")
    words = {f"<{i}>": i for i in range(shape["vocab_size"])}
    core = Tokenizer(tokenizer_models.WordLevel(words, unk_token="<0>"))  # noqa: S106 - a word, not a password
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(Gemma2Config(**shape), dtype=DTYPES[dtype])
    model.requires_grad_(False).eval()
    return LoadedModel(
        source=source,
        revision="",
        name=source,
        weights_digest=source,
        tokenizer_digest=source,
        engine=EagerModel(source, hf_model=model, tokenizer=tokenizer),
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
    )


def sae_for(source: str, model: LoadedModel) -> SAE:
    """A checkpoint as ``load_sae`` takes it, or ``random:F``: TopK 32 with F features, on the middle layer."""
    if source.startswith(RANDOM):
        return random_sae(int(source.removeprefix(RANDOM)), model.d_model, model.n_layers // 2, model.device)
    return load_sae(source, device=model.device)


def random_sae(d_sae: int, d: int, layer: int, device: str = "cpu", k: int = 32) -> SAE:
    generator = torch.Generator(device).manual_seed(0)
    W_dec = torch.randn(d_sae, d, generator=generator, device=device)
    W_dec /= W_dec.norm(dim=-1, keepdim=True)
    name = f"{RANDOM}{d_sae}"
    return SAE(
        Source("random", "topk", name, "float32", Path(name), site=Site(hook="resid_post", layer=layer)),
        W_enc=W_dec.T.contiguous(),
        b_enc=torch.zeros(d_sae, device=device),
        W_dec=W_dec,
        b_dec=torch.zeros(d, device=device),
        activation=TopK(min(k, d_sae)),
    )


def contexts_for(tokens: str | None, corpus: str, model: LoadedModel, limit: int, context: int = 128) -> list[Context]:
    """Rows of an .npy file of token ids [contexts, length], or the text of ``corpus``; about ``limit`` tokens of it."""
    if tokens is None and not model.source.startswith(RANDOM):
        return list(cut_contexts(read_corpus(corpus), model.tokenize, context, limit))
    ids = random_ids(model, limit, context) if tokens is None else read_ids(tokens, model)
    rows = ids[: max(1, limit // ids.shape[1])]
    return [Context(i, f"row-{i}", "", 0, np.asarray(row, np.int32)) for i, row in enumerate(rows)]


def read_ids(path: str, model: LoadedModel) -> NDArray[np.integer]:
    """Raises SettingsError."""
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is not an .npy file of token ids: {error}") from error
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.size:
        raise SettingsError(f"{path} holds {ids.dtype} {list(ids.shape)}; token ids [contexts, length] are needed.")
    if ids.min() < 0 or ids.max() >= model.vocab_size:
        raise SettingsError(f"{path} holds ids that {model.name} does not have: it has 0 to {model.vocab_size - 1}.")
    return ids  # type: ignore[no-any-return]


def random_ids(model: LoadedModel, limit: int, context: int) -> NDArray[np.integer]:
    rng = np.random.default_rng(0)
    return rng.integers(0, model.vocab_size, (max(1, limit // context), context))
