"""A random model of two layers, its tokenizer, random SAEs and a small corpus, written to disk as people bring them."""

import json
import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from jobs.engine.saes import SAE
from jobs.engine.saes.activations import TopK
from jobs.engine.saes.base import Source

D_MODEL = 24
N_LAYERS = 2
D_SAE = 64
HOOK_LAYER = 1
SPECIAL = ["<bos>", "<eos>", "<|user|>"]
WORDS = (
    "the quick brown fox jumps over a lazy dog while rain falls on old stone bridges and nine ships sail past "
    "naïve café 東京 🙂 lanterns"
).split()


def write_model(folder: Path, seed: int = 0, d_model: int = D_MODEL) -> Path:
    """A Llama with untied embeddings and the tokenizer below."""
    size = write_tokenizer(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size, hidden_size=d_model, intermediate_size=48, num_hidden_layers=N_LAYERS,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.4,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    torch.nn.init.uniform_(model.model.norm.weight, 0.5, 1.5)
    model.save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path) -> int:
    """A byte-level BPE that splits characters; <bos> opens every document. Returns how many tokens it has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS[:12])] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", additional_special_tokens=["<|user|>"]
    )
    fast.save_pretrained(folder)
    return len(fast)


def write_sae(
    folder: Path,
    seed: int = 0,
    *,
    architecture: str = "topk",
    d_in: int = D_MODEL,
    d_sae: int = D_SAE,
    k: int = 6,
    layer: int = HOOK_LAYER,
) -> Path:
    """A SAELens folder. The last four features never fire; features 0 and 1 are twins, so their values tie."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    W_dec = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=generator), dim=-1)
    W_dec[1] = W_dec[0]
    b_enc = 0.1 * torch.randn(d_sae, generator=generator)
    b_enc[1] = b_enc[0]
    b_enc[-4:] = -1e4
    weights = {"W_enc": W_dec.T.contiguous(), "W_dec": W_dec, "b_enc": b_enc, "b_dec": torch.zeros(d_in)}
    if architecture == "jumprelu":
        weights["threshold"] = torch.full((d_sae,), 0.3)
    config = {
        "architecture": architecture, "d_in": d_in, "d_sae": d_sae, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post", "sae_lens_version": "6.0.0"},
    } | ({"k": k, "rescale_acts_by_decoder_norm": False} if architecture == "topk" else {})  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


def random_sae(d_in: int, d_out: int | None = None, *, d_sae: int = D_SAE, k: int = 6, skip: bool = False) -> SAE:
    """In memory alone. A transcoder where ``d_out`` is given, with a skip term where that is asked for."""
    generator = torch.Generator().manual_seed(0)
    d_y = d_in if d_out is None else d_out
    W_enc = torch.randn(d_in, d_sae, generator=generator) / d_in**0.5
    W_dec = torch.nn.functional.normalize(torch.randn(d_sae, d_y, generator=generator), dim=-1)
    b_enc, b_dec = (0.1 * torch.randn(n, generator=generator) for n in (d_sae, d_y))
    source = Source("tiny", "topk", "", "float32", Path("tiny"), is_transcoder=d_out is not None)
    W_skip = 0.1 * torch.randn(d_y, d_in, generator=generator) if skip else None
    return SAE(source, W_enc=W_enc, b_enc=b_enc, W_dec=W_dec, b_dec=b_dec, activation=TopK(k), W_skip=W_skip)


def write_corpus(path: Path, n: int = 40, seed: int = 0) -> Path:
    """Documents of 3 to 120 words: some repeated whole, some sharing a passage, some with special tokens in them."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 120))) for _ in range(n)]
    texts += [texts[0], texts[3], texts[0]]
    texts += ["<|user|> " + texts[5] + " <eos> " + texts[5][:60], " ".join(WORDS) + " " + texts[7]]
    lines = [json.dumps({"id": f"doc-{i}", "source": f"tiny {i % 3}", "text": t}) for i, t in enumerate(texts)]
    path.write_text("\n".join(lines) + "\n")
    return path
