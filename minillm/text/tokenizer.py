"""The tokenizer: text to token ids and back, and conversations to token ids by the model's chat template.

The subword algorithms come from the `tokenizers` library. This module decides what surrounds them: which
strings are control tokens and when they count as such, how a vocabulary is read from a checkpoint, and what
bytes a token stands for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from minillm.errors import InvalidRequestError, ModelNotFoundError
from minillm.text.chat_template import ChatTemplate, Message, RenderedChat
from minillm.text.checkpoint import TokenizerParts, read_folder, token_text, write_folder
from minillm.text.gguf_vocab import BYTE_OF_CHAR, parts_from_gguf
from minillm.text.tool_messages import MARKERS

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_SPACE = re.compile(r"\s*")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class Tokenizer:
    """Encodes and decodes text for one model. Immutable once built, so threads may share it.

    Attributes:
        vocab_size: one more than the largest token id.
        special_token_ids: control tokens, such as end of text; `decode` leaves them out.
        marker_ids: tokens that mark tool calls and results, by their text. Control tokens too, except that `decode`
            keeps them, because they are how a call is told from text.
        eos_token_ids: the tokens that end a generation.
        bos_token_id: the token that begins a text, if the model has one.
        add_bos: whether `encode` puts it in front.
        is_byte_exact: whether joined `token_bytes` give the text, as in byte-level BPE and SentencePiece.
        strips_leading_space: whether decoding drops one space at the beginning (SentencePiece's rule).
    """

    def __init__(self, parts: TokenizerParts) -> None:
        """Takes over a checkpoint's parts. `load`, `from_folder` and `from_gguf` are the usual ways here."""
        config = parts.config
        self._config = config
        self._named = {name: token_text(config[name]) for name in NAMED_TOKENS if config.get(name)}
        self._backend = _prepare(parts.backend, [*self._named.values(), *MARKERS])
        self._continuation = _without_first_space(self._backend)
        self._added = self._backend.get_added_tokens_decoder()
        self._added_ids = {token.content: token_id for token_id, token in self._added.items()}
        matched = (token.content for token in self._added.values() if token.special or not token.normalized)
        self._added_pattern = _any_of(matched)
        self.marker_ids = {text: self._added_ids[text] for text in MARKERS if text in self._added_ids}
        control_ids = {i for i, token in self._added.items() if token.special}
        self.special_token_ids = frozenset(control_ids.difference(self.marker_ids.values()))
        self.vocab_size = max(self._backend.get_vocab().values(), default=-1) + 1
        self.bos_token_id = self._named_id("bos_token")
        eos = self._named_id("eos_token")
        self.eos_token_ids = parts.eos_token_ids | (frozenset() if eos is None else {eos})
        # Ordinary text may give the unknown token, but no other special one.
        self._forbidden_ids = control_ids - {self._named_id("unk_token")}
        self._prefix, self._suffix = self._affixes()
        self.add_bos = self.bos_token_id is not None and self._prefix[:1] == [self.bos_token_id]
        special = sorted(self._added[i].content for i in control_ids)
        self._chat_templates = {
            name: ChatTemplate(source, variables=self._named, special_tokens=special)
            for name, source in parts.chat_templates.items()
        }
        self._read_decoder()
        # Filled as tokens are met. Two threads may both do it, with the same result.
        self._bytes_of: dict[int, bytes] = {}

    # Loading and saving

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Reads the tokenizer of a checkpoint: a folder with tokenizer.json, or a .gguf file, or its folder.

        Raises:
            ModelNotFoundError: if nothing is there.
            WeightsError: if the GGUF file is damaged.
            UnsupportedModelError: if the tokenizer is of a kind that minillm doesn't implement.
        """
        path = Path(path)
        if not path.exists():
            raise ModelNotFoundError(f"There is no file or folder {path}. Expected a .gguf file or a model's folder.")
        if path.is_dir():
            gguf_files = sorted(path.glob("*.gguf"))
            if (path / "tokenizer.json").exists() or not gguf_files:
                return cls.from_folder(path)
            path = gguf_files[0]
        # Only GGUF needs that reader, and it imports torch.
        from minillm.models.gguf import GGUFFile

        return cls.from_gguf(GGUFFile(path).metadata)

    @classmethod
    def from_folder(cls, path: str | Path) -> Tokenizer:
        """Reads tokenizer.json, and the configuration and chat template beside it.

        Raises:
            UnsupportedModelError: if tokenizer.json is missing or can't be read.
        """
        return cls(read_folder(Path(path)))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """Rebuilds the tokenizer that a GGUF file's metadata describes.

        Args:
            metadata: the file's keys with their values as Python objects.

        Raises:
            UnsupportedModelError: for a tokenizer or pre-tokenizer that minillm doesn't rebuild, by name.
        """
        return cls(parts_from_gguf(metadata))

    def save(self, folder: str | Path) -> None:
        """Writes the files that `from_folder` and transformers' AutoTokenizer read."""
        sources = {name: template.source for name, template in self._chat_templates.items()}
        write_folder(TokenizerParts(self._backend, self._config, sources, self.eos_token_ids), Path(folder))

    # Text to ids

    def encode(self, text: str, *, parse_special: bool = False, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text.

        Some byte-level vocabularies lack a few bytes (SmolLM2's: six control characters, and characters
        beyond U+40000 that nobody has assigned); those characters are left out, as in transformers.

        Args:
            text: any text. Strings such as "<|im_end|>" in it are ordinary text unless parse_special.
            parse_special: let special tokens written in the text be special tokens. Only for text you trust.
            add_special_tokens: put what the model expects around a text (BOS; an encoder's [CLS] and [SEP]).

        Raises:
            InvalidRequestError: if text isn't a str, or holds lone surrogates, which have no UTF-8.
        """
        _check_text(text, "prompt")
        ids = self._encode_special(text) if parse_special else self._encode_ordinary(text, self._backend)
        return [*self._prefix, *ids, *self._suffix] if add_special_tokens else ids

    def _encode_ordinary(self, text: str, backend: Backend) -> list[int]:
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        if not self._forbidden_ids.isdisjoint(ids):
            token = next(self._added[i].content for i in ids if i in self._forbidden_ids)
            raise InvalidRequestError(
                f"This model's vocabulary turns ordinary text into its control token {token!r}. Take that "
                "out of the text, or encode with parse_special=True if it is meant."
            )
        return ids

    def _encode_special(self, text: str, sentinel: str = "") -> list[int]:
        """Ids of a text whose special tokens count; `sentinel` is taken out of what lies between them."""
        ids: list[int] = []
        backend = self._backend
        for ordinary, token_id in self._split_at_special(text):
            ids += self._encode_ordinary(ordinary.replace(sentinel, ""), backend) if ordinary else []
            ids += [] if token_id is None else [token_id]
            backend = self._continuation
        return ids

    def _split_at_special(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Cuts a text at its special tokens: (the text before one, its id), at the end (the rest, None)."""
        start = 0
        for match in self._added_pattern.finditer(text):
            token_id = self._added_ids[match.group()]
            token = self._added[token_id]
            if not token.special or (token.single_word and _inside_word(text, match)):
                continue
            before = text[start : match.start()]
            yield before.rstrip() if token.lstrip else before, token_id
            start = match.end()
            if token.rstrip:
                start = _end_of_space(text, start)
        yield text[start:], None

    # Ids to text

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids. Bytes that aren't UTF-8 become U+FFFD; ids beyond the vocabulary give "".

        Raises:
            InvalidRequestError: for a negative id.
        """
        skipped = self.special_token_ids if skip_special_tokens else frozenset()
        kept = [token_id for token_id in map(int, token_ids) if token_id not in skipped]
        if not self.is_byte_exact:
            return str(self._backend.decode(kept, skip_special_tokens=False))
        text = b"".join(map(self.token_bytes, kept)).decode("utf-8", errors="replace")
        return text.removeprefix(" ") if self.strips_leading_space else text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for: often part of a character, b"" for an id beyond the vocabulary.

        (A model's logits are often padded to a round size, so such an id can be sampled.)

        Raises:
            InvalidRequestError: for a negative id.
        """
        known = self._bytes_of.get(token_id)
        if known is None:
            if token_id < 0:
                raise InvalidRequestError(f"Token ids are 0 or more, got {token_id}.")
            known = self._bytes_of[token_id] = self._lookup_bytes(token_id)
        return known

    def _lookup_bytes(self, token_id: int) -> bytes:
        # The backend's ids are 32 bits wide.
        text = self._backend.id_to_token(token_id) if token_id < self.vocab_size else None
        if text is None:
            return b""
        if token_id not in self._added:
            if self._is_byte_level and all(char in BYTE_OF_CHAR for char in text):
                return bytes(BYTE_OF_CHAR[char] for char in text)
            if self._is_sentencepiece:
                byte = _BYTE_TOKEN.fullmatch(text)
                return bytes.fromhex(byte[1]) if byte else text.replace("\u2581", " ").encode()
        return text.removeprefix(self._word_prefix).encode()

    # Conversations

    @cached_property
    def fingerprint(self) -> str:
        """A hash over everything that decides which token ids a text becomes."""
        templates = {name: template.source for name, template in sorted(self._chat_templates.items())}
        parts = f"{self._backend.to_str()} {sorted(self._named.items())} {sorted(self.eos_token_ids)} {templates}"
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    @property
    def has_chat_template(self) -> bool:
        """Whether the model says how a conversation becomes text."""
        return "default" in self._chat_templates

    def apply_chat_template(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **template_kwargs: Any,
    ) -> list[int]:
        """Token ids of a conversation, in the form that the model was trained on.

        Only the template writes control tokens: "<|im_end|>" in a message stays the text it is. Otherwise
        the ids are those of transformers' `apply_chat_template`.

        Args:
            messages: each with "role" (system, developer, user, assistant, tool) and "content" (text, a
                list of text parts, or None); further keys are the template's business.
            add_generation_prompt: end with the beginning of the assistant's answer.
            tools: definitions of functions, in OpenAI's form; [] is the same as None. A template that doesn't write
                tools, calls and results in Hermes' format gets them as text (see `tool_messages.plain_chat`).
            template_kwargs: further variables of the template, such as enable_thinking.

        Raises:
            InvalidRequestError: for messages or tools of a wrong shape or that the template refuses, for a
                variable that it has no use for, and if the model has no template.
        """
        rendered = self._render(messages, add_generation_prompt, tools, template_kwargs)
        _check_text(rendered.text, "messages")
        return self._encode_special(rendered.text, rendered.sentinel)

    def render_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **template_kwargs: Any,
    ) -> str:
        """The conversation as text, for reading; arguments and errors as for `apply_chat_template`.

        Don't encode it for a model: it no longer tells control tokens from the same characters in a message.
        """
        rendered = self._render(messages, add_generation_prompt, tools, template_kwargs)
        return rendered.text.replace(rendered.sentinel, "")

    def _render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        template_kwargs: Mapping[str, Any],
    ) -> RenderedChat:
        for_tools = self._chat_templates.get("tool_use")
        name = "tool_use" if tools and for_tools is not None and for_tools.knows_tools else "default"
        if name not in self._chat_templates:
            raise InvalidRequestError(
                "This model has no chat template: it was trained to continue text, not to chat. "
                "Use generate() with a prompt, or a model that has one (often called -Instruct).",
                "messages",
            )
        return self._chat_templates[name].render(
            messages, add_generation_prompt=add_generation_prompt, tools=tools, variables=template_kwargs
        )

    # Parts of the constructor

    def _named_id(self, name: str) -> int | None:
        return self._backend.token_to_id(self._named[name]) if name in self._named else None

    def _affixes(self) -> tuple[list[int], list[int]]:
        """The ids that go before and after every text: what the backend puts around a letter."""
        encoding = self._backend.encode("a")
        ids, is_affix = encoding.ids, encoding.special_tokens_mask
        if 0 not in is_affix:  # a vocabulary without that letter
            return ids, []
        begin = is_affix.index(0)
        end = len(is_affix) - is_affix[::-1].index(0)
        return ids[:begin], ids[end:]

    def _read_decoder(self) -> None:
        """Finds out, from the backend's way to decode, what kind of text the vocabulary holds."""
        decoder = json.loads(self._backend.decoder.__getstate__()) if self._backend.decoder else {}
        steps = decoder.get("decoders", [decoder])
        kinds = {step.get("type") for step in steps}
        self._is_byte_level = "ByteLevel" in kinds
        self._is_sentencepiece = not self._is_byte_level and bool(kinds & {"ByteFallback", "Metaspace"})
        self._word_prefix: str = decoder.get("prefix", "") if "WordPiece" in kinds else ""
        self.is_byte_exact = self._is_byte_level or self._is_sentencepiece
        self.strips_leading_space = self._is_sentencepiece and any(map(_strips_space, steps))


def _prepare(backend: Backend, named_tokens: Iterable[str]) -> Backend:
    """Sets a backend up to return every token of a text and to read special tokens as ordinary text."""
    # Encoders often carry the settings of a training run, such as padding everything to 128 tokens.
    backend.no_truncation()
    backend.no_padding()
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    # Never one that is new to the vocabulary: the model has no embedding for it.
    missing = [text for text in named_tokens if text not in special and backend.token_to_id(text) is not None]
    backend.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in missing])
    backend.encode_special_tokens = True
    return backend


def _without_first_space(backend: Backend) -> Backend:
    """The backend for text after a special token, where SentencePiece's rule "first" adds no space."""
    first = '"prepend_scheme":"first"'  # can't be part of a token: JSON would write its quotes as \"
    if backend.pre_tokenizer is None or first not in backend.pre_tokenizer.__getstate__().decode():
        return backend
    copy = Backend.from_str(backend.to_str().replace(first, '"prepend_scheme":"never"'))
    copy.encode_special_tokens = True
    return copy


def _any_of(strings: Iterable[str]) -> re.Pattern[str]:
    """Matches like the backend: the leftmost string, and of those that begin there the longest."""
    longest_first = sorted(filter(None, strings), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _inside_word(text: str, match: re.Match[str]) -> bool:
    neighbors = text[max(match.start() - 1, 0) : match.start()] + text[match.end() : match.end() + 1]
    return re.search(r"\w", neighbors) is not None


def _end_of_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start


def _strips_space(decoder: Mapping[str, Any]) -> bool:
    """Whether this step of a decoder drops a space at the beginning of the text."""
    if decoder.get("type") == "Metaspace":
        return bool(decoder.get("prepend_scheme", "always") != "never")
    return decoder.get("type") == "Strip" and decoder.get("content") == " " and decoder.get("start", 0) > 0


def _check_text(text: str, param: str) -> None:
    if not isinstance(text, str):
        raise InvalidRequestError(f"Expected text (a str), got {type(text).__name__}.", param)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"The text holds {text[error.start]!a} at position {error.start}: half of a character (a lone "
            "surrogate), which has no UTF-8. Use text.encode('utf-8', 'replace').decode() to replace it.",
            param,
        ) from None
