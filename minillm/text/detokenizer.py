"""Turns a stream of token ids into text, a token at a time, without ever showing half a character.

A token of a byte-level vocabulary stands for bytes, not for characters: one emoji is often three tokens. So
the bytes go through an incremental UTF-8 decoder, which keeps the beginning of a character until the rest
arrives.
"""

from __future__ import annotations

import codecs

from minillm.errors import UnsupportedModelError
from minillm.text.tokenizer import Tokenizer


class Detokenizer:
    """The text of one stream of tokens. What it returns, joined, equals `tokenizer.decode` of all the ids.

    Bytes that aren't UTF-8 become U+FFFD, as in `decode`. Each push takes time proportional to its own
    token only.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        """Starts an empty stream.

        Raises:
            UnsupportedModelError: if the tokenizer's tokens don't stand for bytes (WordPiece and its kind).
        """
        if not tokenizer.is_byte_exact:
            raise UnsupportedModelError(
                "In this tokenizer (an encoder's) a token's text depends on its neighbors, so it can't be "
                "streamed. Use Tokenizer.decode on the whole sequence."
            )
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_token_ids if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._strip = tokenizer.strips_leading_space

    def push(self, token_id: int) -> str:
        """Takes the next token; returns the text that is final now, "" while a character is incomplete."""
        token_id = int(token_id)  # a tensor's element would never be found in a set of ints
        if token_id in self._skipped:
            return ""
        return self._stripped(self._decoder.decode(self._tokenizer.token_bytes(token_id)))

    def flush(self) -> str:
        """Ends the stream: an incomplete character becomes U+FFFD. The detokenizer is then as new."""
        rest = self._stripped(self._decoder.decode(b"", final=True))
        self._strip = self._tokenizer.strips_leading_space
        return rest

    def _stripped(self, text: str) -> str:
        """SentencePiece writes a space before the first word, which isn't part of the text."""
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text
