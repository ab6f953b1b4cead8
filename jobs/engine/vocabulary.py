"""The bytes of every token, read off the tokenizer, so that pages can show tokens without it."""

import json
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.engine.model import LoadedModel

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class TokenBytes:
    """``raw``: all tokens end to end; ``ends`` int64 [V]; ``joiner`` stands between tokens where spaces are dropped."""

    raw: bytes
    ends: NDArray[np.int64]
    joiner: str


def token_bytes(model: LoadedModel) -> TokenBytes:
    """The bytes of tokens 0 to V - 1, V being the tokenizer's size; ids without a token have none."""
    tokenizer = model.tokenizer
    decoder = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder"))
    added = {i: token.content for i, token in tokenizer.added_tokens_decoder.items()}
    vocabulary = {i: token for token, i in tokenizer.get_vocab().items()} | added
    size = max(vocabulary) + 1
    pieces = []
    for i in range(size):
        token = vocabulary.get(i, "")
        pieces.append(token.encode("utf-8", "replace") if i in added else _bytes_of(token, decoder))
    keeps_spaces = any(name in decoder for name in ('"ByteLevel"', '"Metaspace"', '"ByteFallback"', "\\u2581"))
    return TokenBytes(b"".join(pieces), np.cumsum([len(p) for p in pieces]), "" if keeps_spaces else " ")


def _bytes_of(token: str, decoder: str) -> bytes:
    """What ``token`` stands for, by the tokenizer's own decoder: byte-level, SentencePiece, or the text as it is."""
    if '"ByteLevel"' in decoder:
        # A character outside the byte alphabet comes from a vocabulary edited by hand: keep it as it is.
        return b"".join(bytes([_BYTE_OF[c]]) if c in _BYTE_OF else c.encode("utf-8", "replace") for c in token)
    if "\\u2581" in decoder or '"Metaspace"' in decoder or '"ByteFallback"' in decoder:
        if fallback := _BYTE_FALLBACK.fullmatch(token):
            return bytes([int(fallback[1], 16)])
        return token.replace("\u2581", " ").encode("utf-8", "replace")
    return token.encode("utf-8", "replace")


def _byte_alphabet() -> dict[str, int]:
    """The characters that stand for the 256 bytes in byte-level BPE (Radford et al. 2019): printable Latin-1 stands
    for itself, and the other bytes follow from U+0100 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}


_BYTE_OF = _byte_alphabet()
