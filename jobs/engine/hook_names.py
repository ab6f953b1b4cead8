"""Names of hook points: other libraries' names, read into a hook and a layer. Text alone, no model is needed.

A *hook* is one of HOOKS, or a module's path inside a block that ends in ``.input`` or ``.output``.
"""

import re

# What a sublayer adds to the residual stream is its out: after the norm that some models (Gemma 2 and 3, OLMo 2) put
# behind it, as TransformerLens has it. A module path names the module's own output, which there is another tensor.
HOOKS = {
    "embeddings": "what the token embedding gives",
    "resid_pre": "the residual stream that the block reads",
    "resid_mid": "the residual stream between attention and MLP",
    "resid_post": "the residual stream that the block leaves",
    "attn_out": "what attention adds to the residual stream",
    "z": "the heads' outputs side by side, before they are mixed",
    "mlp_in": "what the MLP reads: the norm's output",
    "mlp_in_normalized": "what the MLP reads, before the norm's gain",
    "mlp_act": "the MLP's neurons",
    "mlp_out": "what the MLP adds to the residual stream",
}
_TRANSFORMER_LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_z": "z",
    "mlp.hook_post": "mlp_act",
    "mlp.hook_in": "mlp_in",
    "ln2.hook_normalized": "mlp_in_normalized",
}
_EMBEDDINGS = re.compile(r"(?:hook_embed|embeddings|(?:[a-z_]{1,40}\.){0,3}(?:embed_tokens|embed_in|wte)(?:\.output)?)")
_BLOCK = re.compile(r"blocks\.(\d{1,4})\.([\w.]{1,100})", re.ASCII)
_MODULE = re.compile(
    r"(?:[a-z_]{1,40}\.){0,3}(?:layers|h)\.(\d{1,4})((?:\.\w{1,60}){0,5}?)(?:\.(input|output))?", re.ASCII
)


def parse(name: object) -> tuple[str | None, int | None]:
    """(hook, layer) of a name; None for what it does not say, and twice for what is no name of a hook point.

    Read are TransformerLens' names ("blocks.9.hook_resid_post"), paths of Hugging Face modules, whose output is meant
    unless they end in ``.input`` ("model.layers.9", "layers.10.mlp", "h.3.attn.c_proj.input"), and HOOKS, bare. Of a
    TransformerLens name without a counterpart the hook is the rest of the name.
    """
    if not isinstance(name, str):
        return None, None
    if name in HOOKS and name != "embeddings":
        return name, None
    if _EMBEDDINGS.fullmatch(name):
        return "embeddings", 0
    if match := _BLOCK.fullmatch(name):
        return _TRANSFORMER_LENS.get(match[2], match[2]), int(match[1])
    if match := _MODULE.fullmatch(name):
        return _module_hook(match[2].removeprefix("."), match[3] or "output"), int(match[1])
    return None, None


def _module_hook(path: str, side: str) -> str:
    if not path:
        return {"input": "resid_pre", "output": "resid_post"}[side]
    return f"{path}.{side}"
