"""Rebuilds a tokenizer from GGUF metadata.

GGUF doesn't carry a tokenizer.json. It carries a vocabulary, merges or scores, and the name of a
pre-tokenizer, under the keys of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer. What a
name stands for is knowledge outside of the file: here, the tokenizer.json that the models came with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from minillm.errors import UnsupportedModelError
from minillm.text.checkpoint import TokenizerParts

# Values of tokenizer.ggml.token_type.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2_SPLIT = _LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
_LLAMA3_NAMES = ("llama-bpe", "llama3", "llama-v3")
PRE_TOKENIZERS = ("default", "gpt-2", "smollm", *_LLAMA3_NAMES, "qwen2")


def _byte_alphabet() -> dict[str, int]:
    """The characters that a byte-level vocabulary writes its 256 bytes with: the byte that each stands for.

    GPT-2's table: bytes that are printable Latin-1 characters stand for themselves, the others take the next
    characters from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


BYTE_OF_CHAR: Mapping[str, int] = _byte_alphabet()


def parts_from_gguf(metadata: Mapping[str, Any]) -> TokenizerParts:
    """Rebuilds what `tokenizer.*` describes.

    Raises:
        UnsupportedModelError: for a kind of tokenizer or a pre-tokenizer that isn't rebuilt here, and for
            metadata that contradict themselves.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise UnsupportedModelError(
            f"This GGUF file's tokenizer is of the kind {kind!r}; 'gpt2' (byte-level BPE) and 'llama' "
            "(SentencePiece BPE) can be rebuilt. Use the model's original folder with its tokenizer.json."
        )
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens", [])
    types: Sequence[int] = metadata.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    pre = metadata.get("tokenizer.ggml.pre", "default")
    try:
        if kind == "gpt2":
            backend = _byte_level(tokens, metadata.get("tokenizer.ggml.merges", []), pre)
        else:
            backend = _sentencepiece(tokens, types, metadata)
        _add_tokens(backend, tokens, types)
        backend.post_processor = _post_processor(metadata)
        config = _config(metadata, tokens, types)
    except UnsupportedModelError:
        raise
    except Exception as error:  # the library raises bare Exception, for example for a merge of unknown tokens
        raise UnsupportedModelError(
            f"This GGUF file's tokenizer can't be rebuilt: {error}. Use a folder with tokenizer.json."
        ) from error
    eos_ids = (metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom"))
    names = {"tokenizer.chat_template": "default", "tokenizer.chat_template.tool_use": "tool_use"}
    templates = {name: metadata[key] for key, name in names.items() if key in metadata}
    return TokenizerParts(backend, config, templates, frozenset(i for i in eos_ids if i is not None))


def _config(metadata: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]) -> dict[str, Any]:
    """The special tokens by their roles, as tokenizer_config.json has them."""
    config: dict[str, Any] = {}
    if UNKNOWN in types:
        config["unk_token"] = tokens[types.index(UNKNOWN)]
    keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    for name, key in keys.items():
        token_id = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if token_id is not None:
            config[name] = tokens[token_id]
    return config


def _post_processor(metadata: Mapping[str, Any]) -> processors.TemplateProcessing:
    """Puts BOS and EOS around a text, if the file says so."""
    # Files without the key rely on llama.cpp's default for their kind.
    is_sentencepiece = metadata["tokenizer.ggml.model"] == "llama"
    adds_bos = is_sentencepiece or metadata.get("tokenizer.ggml.pre") in _LLAMA3_NAMES
    wanted = {
        "bos": metadata.get("tokenizer.ggml.add_bos_token", adds_bos),
        "eos": metadata.get("tokenizer.ggml.add_eos_token", False),
    }
    ids = {name: metadata.get(f"tokenizer.ggml.{name}_token_id") for name, add in wanted.items() if add}
    special = [
        {"id": name, "ids": [token_id], "tokens": [metadata["tokenizer.ggml.tokens"][token_id]]}
        for name, token_id in ids.items()
        if token_id is not None
    ]
    names = [entry["id"] for entry in special]
    single = [name for name in ("bos", "$A", "eos") if name in (*names, "$A")]
    return processors.TemplateProcessing(single=single, special_tokens=special)


def _byte_level(tokens: Sequence[str], merges: Sequence[str], pre: str) -> Backend:
    """Byte-level BPE (GPT-2's): text as bytes, bytes as characters, pairs merged in the order learned."""
    if pre not in PRE_TOKENIZERS:
        raise UnsupportedModelError(
            f"This GGUF file names the pre-tokenizer {pre!r}; known are {', '.join(PRE_TOKENIZERS)}. "
            "Use the model's original folder with its tokenizer.json."
        )
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    # Llama 3 has words in its vocabulary that its merges don't lead to.
    backend = Backend(BPE(vocab=vocab, merges=pairs, ignore_merges=pre in _LLAMA3_NAMES))
    backend.pre_tokenizer = _pre_tokenizer(pre)
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    return backend


def _pre_tokenizer(pre: str) -> pre_tokenizers.PreTokenizer:
    """How text is cut into words before merging, by the name that llama.cpp gives it."""
    if pre in ("default", "gpt-2"):
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    split = pre_tokenizers.Split(Regex(_QWEN2_SPLIT if pre == "qwen2" else _LLAMA3_SPLIT), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _sentencepiece(tokens: Sequence[str], types: Sequence[int], metadata: Mapping[str, Any]) -> Backend:
    """SentencePiece BPE (Llama 2's): spaces as U+2581, bytes for characters that the vocabulary lacks."""
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    merges = metadata.get("tokenizer.ggml.merges")
    if merges is None:
        scores = metadata.get("tokenizer.ggml.scores") or [0.0] * len(tokens)
        # No merge may lead from ordinary text to a control token.
        ordinary = [token_id for token_id, kind in enumerate(types) if kind not in (UNKNOWN, CONTROL, BYTE)]
        pairs = merges_from_scores(vocab, {tokens[token_id]: scores[token_id] for token_id in ordinary})
    else:
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    unknown = tokens[types.index(UNKNOWN)] if UNKNOWN in types else None
    backend = Backend(BPE(vocab=vocab, merges=pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    add_space = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if add_space else "never", split=False)
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if add_space else steps)
    return backend


def merges_from_scores(vocab: Mapping[str, int], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The merges that a SentencePiece BPE vocabulary implies, best first, in transformers' order.

    SentencePiece joins the neighbors whose union has the best score, so every way to cut a token into two
    tokens is a merge with that token's score.

    Args:
        vocab: ids of all tokens.
        scores: of the tokens that merges may use; higher is better.
    """
    merges: list[tuple[float, str, str]] = []
    for token, score in scores.items():
        cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
        known = [(left, right) for left, right in cuts if left in scores and right in scores]
        known.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        merges += [(score, left, right) for left, right in known]
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    return [(left, right) for _, left, right in merges]


def _add_tokens(backend: Backend, tokens: Sequence[str], types: Sequence[int]) -> None:
    """Tokens that are found whole in a text, before it's cut into words: control and user-defined ones."""
    typed = list(zip(tokens, types, strict=True))
    special = [AddedToken(text, normalized=False, special=True) for text, kind in typed if kind in (UNKNOWN, CONTROL)]
    backend.add_special_tokens(special)
    backend.add_tokens(
        [AddedToken(text, normalized=False, special=False) for text, kind in typed if kind == USER_DEFINED]
    )
