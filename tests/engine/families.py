"""Tiny random models of the families that people train SAEs on, and where each keeps its modules."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from jobs.engine.model import LoadedModel, load_model
from tests.engine import tiny

D_MODEL, N_LAYERS, N_EXPERTS, PER_TOKEN = 16, 3, 5, 2


@dataclass(frozen=True)
class Family:
    """Names of modules inside a block, but for ``embed``. ``dense``: layers of a mixture without experts."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    blocks: str = "model.layers"
    embed: str = "model.embed_tokens"
    attention: str = "self_attn"
    mix: str = "self_attn.o_proj"
    mlp: str = "mlp"
    down: str = "mlp.down_proj"
    norm: str = "post_attention_layernorm"  # before the MLP
    post_attention: str | None = None  # norms of what the sublayers give
    post_mlp: str | None = None
    router: str | None = None
    dense: tuple[int, ...] = ()
    parallel: bool = False

    def __str__(self) -> str:
        return f"{self.name}{'-serial' if self.config.get('use_parallel_residual') is False else ''}"


GEMMA: dict[str, Any] = {
    "norm": "pre_feedforward_layernorm",
    "post_attention": "post_attention_layernorm",
    "post_mlp": "post_feedforward_layernorm",
}
NEOX: dict[str, Any] = {
    "blocks": "gpt_neox.layers", "embed": "gpt_neox.embed_in", "attention": "attention", "mix": "attention.dense",
    "down": "mlp.dense_4h_to_h",
}  # fmt: skip
FEW = {"num_experts": N_EXPERTS, "num_experts_per_tok": PER_TOKEN, "moe_intermediate_size": 12}
LOCAL = {"num_local_experts": N_EXPERTS, "num_experts_per_tok": PER_TOKEN}
FAMILIES = [
    Family("Llama"),
    Family("Mistral", {"sliding_window": 4}),
    Family("Qwen2"),
    Family("Qwen3", {"head_dim": 6}),
    Family("Gemma2", {"head_dim": 6, "sliding_window": 4}, **GEMMA),
    Family("Gemma3", {"head_dim": 6, "sliding_window": 4}, **GEMMA),
    Family(
        "GPT2", {"n_inner": 24}, blocks="transformer.h", embed="transformer.wte", attention="attn", mix="attn.c_proj",
        down="mlp.c_proj", norm="ln_2",
    ),
    Family("GPTNeoX", parallel=True, **NEOX),
    Family("GPTNeoX", {"use_parallel_residual": False}, **NEOX),
    Family("Mixtral", LOCAL, router="mlp.gate"),
    Family(
        "Qwen2Moe", FEW | {"shared_expert_intermediate_size": 20, "mlp_only_layers": [1]}, router="mlp.gate", dense=(1,)
    ),
    Family("Qwen3Moe", FEW | {"head_dim": 6, "mlp_only_layers": [0]}, router="mlp.gate", dense=(0,)),
    Family("Olmoe", FEW, router="mlp.gate"),
    Family("GptOss", LOCAL | {"head_dim": 6, "sliding_window": 4}, router="mlp.router"),
]  # fmt: skip


def write(family: Family, folder: Path) -> Path:
    """Norms' gains and shifts are random, so that what comes before and after them differs."""
    size = tiny.write_tokenizer(folder)
    sizes = {
        "vocab_size": size, "hidden_size": D_MODEL, "intermediate_size": 24, "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    config = getattr(transformers, family.name + ("TextConfig" if family.name == "Gemma3" else "Config"))
    whole = {"GPT2": "GPT2LMHeadModel"}.get(family.name, f"{family.name}ForCausalLM")
    torch.manual_seed(0)
    model = getattr(transformers, whole)(config(**sizes | family.config))
    for name, parameter in model.named_parameters():
        if "norm" in name or ".ln_" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif "bias" in name:
            torch.nn.init.uniform_(parameter, -0.5, 0.5)
    model.save_pretrained(folder)
    return folder


def load(family: Family, folder: Path) -> LoadedModel:
    return load_model(str(write(family, folder)))
