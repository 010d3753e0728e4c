"""Compiles grammars for one tokenizer, and follows outputs through them token by token.

llguidance (github.com/guidance-ai/llguidance) does the parsing: an Earley parser over a lexer of regular expressions
(derivatives, built lazily), which walks the vocabulary as a trie of bytes to find the tokens that may come next.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from torch import Tensor

from minillm.errors import InvalidRequestError
from minillm.structured.grammar import Grammar
from minillm.text import Tokenizer
from minillm.text.tool_messages import CALL_BEGIN, CALL_END, RESPONSE_BEGIN

CACHED_GRAMMARS = 128
PROBE_SECONDS = 5
"""Of processor time, which the compilation of a suspicious grammar may take. By the clock, a busy machine would refuse
what's harmless."""
PROBE_TIMEOUT = 60.0
"""Seconds by the clock, after which a probe is given up in any case."""
LARGE = 16 * 1024
"""Characters from which a schema is suspicious."""

_JSON_OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": False}
_PROBE = """
import sys, threading
from llguidance import LLMatcher
def probe():
    LLMatcher.validate_grammar(sys.stdin.read())
    print("done")
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1])))
except ImportError:  # Windows; there, time by the clock has to do
    pass
threading.stack_size(2 << 20)
thread = threading.Thread(target=probe)
thread.start()
thread.join()
"""


class Matcher:
    """One output's place in its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def fork(self) -> Matcher:
        """Another matcher at the same place, which goes its own way from here."""
        return Matcher(self._matcher.deep_copy())

    def fill_mask(self, mask: Tensor) -> None:
        """Writes which tokens may come next: bit i of the row is token i. End of text may, where the text is complete.

        Args:
            mask: [ceil(vocab_size / 32)] int32, contiguous, on the CPU.
        """
        self._matcher.unsafe_compute_mask_ptr(mask.data_ptr(), mask.numel() * mask.element_size())

    def accept(self, token_id: int) -> bool:
        """Goes on by one token; False if the grammar doesn't allow it, or has become too complex to follow."""
        return bool(self._matcher.consume_token(token_id))

    def forced_tokens(self) -> list[int]:
        """The tokens that have to come next, as far as there is no choice; `fill_mask` allows no others either."""
        return [] if self.is_complete else list(self._matcher.compute_ff_tokens())

    @property
    def is_complete(self) -> bool:
        """Whether the text matches and nothing more may follow."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    @property
    def may_end(self) -> bool:
        """Whether the text matches as it is."""
        return bool(self._matcher.is_accepting())

    @property
    def error(self) -> str:
        """Why nothing is accepted any more; "" while all is well."""
        return _on_one_line(self._matcher.get_error())

    @property
    def is_exhausted(self) -> bool:
        """Whether the grammar came to one of the parser's limits; other errors are tokens that it doesn't allow."""
        return bool(self.error) and "satisfy the grammar" not in self.error


def mask_logits(logits: Tensor, matchers: Sequence[Matcher | None]) -> Tensor:
    """A copy of the logits in which the tokens that a row's grammar forbids are -inf.

    Args:
        logits: [num_seqs, vocab_size].
        matchers: one per row; None leaves it as it is.
    """
    rows = [row for row, matcher in enumerate(matchers) if matcher is not None]
    vocab_size = logits.shape[-1]
    bits = torch.zeros(len(rows), -(-vocab_size // 32), dtype=torch.int32)
    for mask, row in zip(bits, rows, strict=True):
        matcher = matchers[row]
        assert matcher is not None
        matcher.fill_mask(mask)
    # NumPy unpacks bits some ten times faster than PyTorch.
    allowed = np.unpackbits(bits.numpy().view(np.uint8), axis=1, count=vocab_size, bitorder="little")
    forbidden = torch.from_numpy(allowed).to(logits.device) == 0
    if len(rows) == len(logits):
        return logits.masked_fill(forbidden, -torch.inf)
    index = torch.tensor(rows, device=logits.device)
    return logits.index_copy(0, index, logits[index].masked_fill_(forbidden, -torch.inf))


class GrammarCompiler:
    """Makes matchers for one tokenizer. Compiled grammars are kept, the most recently used ones. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """Args:
        tokenizer: whose tokens are masked.
        vocab_size: of the model's logits, which may have more rows than there are tokens.
        """
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._lock = threading.Lock()
        self._vocabulary: LLTokenizer | None = None
        self._compiled: OrderedDict[Grammar, Matcher | InvalidRequestError] = OrderedDict()

    def matcher(self, grammar: Grammar) -> Matcher:
        """A new matcher at the beginning of a text. The first one of a grammar takes from 1 ms to seconds.

        Raises:
            InvalidRequestError: for a grammar that can't be honoured or takes too long to compile; the message names
                the JSON Schema's keyword.
        """
        with self._lock:
            compiled = self._compiled.get(grammar)
            if compiled is not None:
                self._compiled.move_to_end(grammar)
            if self._vocabulary is None:
                self._vocabulary = self._read_vocabulary()
        if compiled is None:
            try:
                compiled = self._compile(grammar, self._vocabulary)
            except InvalidRequestError as error:  # kept too: another try would take as long
                compiled = error
            with self._lock:
                self._compiled[grammar] = compiled
                while len(self._compiled) > CACHED_GRAMMARS:
                    self._compiled.popitem(last=False)
        if isinstance(compiled, InvalidRequestError):
            raise InvalidRequestError(str(compiled), compiled.param)
        return compiled.fork()

    def _compile(self, grammar: Grammar, vocabulary: LLTokenizer) -> Matcher:
        try:
            source = _source(grammar)
        except ValueError as error:  # half of a character, or a number of more than 64 bits
            raise InvalidRequestError(_explain(grammar, f"{error!s:.200}"), "grammar") from None
        if _is_suspicious(grammar):
            _probe(source, "tools" if grammar.kind == "tool_calls" else "grammar")
        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(vocabulary, source, log_level=0, limits=limits)
        if matcher.is_error():
            if grammar.kind == "tool_calls":
                self._blame_part(grammar, vocabulary)
            raise InvalidRequestError(_explain(grammar, matcher.get_error()), "grammar")
        return Matcher(matcher)

    def _blame_part(self, grammar: Grammar, vocabulary: LLTokenizer) -> None:
        """Raises the error of the tool that can't be honoured, with its name; or of the text's schema."""
        for name, part in grammar.parts():
            try:
                self._compile(part, vocabulary)
            except InvalidRequestError as error:
                if name is None:
                    raise
                raise InvalidRequestError(f"The parameters of the tool {name!r}: {error}", "tools") from None

    def _read_vocabulary(self) -> LLTokenizer:
        vocabulary = _Vocabulary(self._tokenizer, self._vocab_size)
        return LLTokenizer(vocabulary, eos_token=vocabulary.eos_token_ids)  # type: ignore[arg-type]


class _Vocabulary:
    """The tokenizer as llguidance reads it; these attributes are its protocol."""

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._markers = re.compile(
            f"({'|'.join(map(re.escape, tokenizer.marker_ids))})" if tokenizer.marker_ids else "(?!)"
        )
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(vocab_size)]
        self.special_token_ids = sorted(token for token in tokenizer.special_token_ids if token < vocab_size)
        self.eos_token_ids = sorted(token for token in tokenizer.eos_token_ids if token < vocab_size)
        if not self.eos_token_ids:  # llguidance needs one; this one is cut off the masks again
            self.tokens.append(b"<end of text>")
            self.eos_token_ids = [vocab_size]
            self.special_token_ids.append(vocab_size)
        self.eos_token_id, self.bos_token_id = self.eos_token_ids[0], tokenizer.bos_token_id

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in self._markers.split(text):  # every other one is a marker
            marker = self._tokenizer.marker_ids.get(piece)
            ids += self._encode(piece) if marker is None else [marker]
        return ids

    def _encode(self, text: str) -> list[int]:
        if not self._tokenizer.strips_leading_space:
            return self._tokenizer.encode(text, add_special_tokens=False)
        # SentencePiece puts a space before a text; here, every text is the continuation of another.
        start = self._tokenizer.encode("\n", add_special_tokens=False)
        return self._tokenizer.encode("\n" + text, add_special_tokens=False)[len(start) :]


def _source(grammar: Grammar) -> str:
    """The grammar in llguidance's own format."""
    if grammar.kind == "regex":
        return LLMatcher.grammar_from_regex(grammar.text)
    if grammar.kind == "lark":
        return LLMatcher.grammar_from_lark(grammar.text)
    if grammar.kind == "tool_calls":
        return LLMatcher.grammar_from_lark(_lark_of_tool_calls(**json.loads(grammar.text)))
    schema = {"type": "object"} if grammar.kind == "json_object" else json.loads(grammar.text)
    return LLMatcher.grammar_from_json_schema(schema, overrides=_JSON_OPTIONS)  # type: ignore[arg-type]


def _lark_of_tool_calls(tools: Mapping[str, Any], max_calls: int, text: Any) -> str:
    """Calls, and the text beside them, as `Grammar.tool_calls` describes them.

    The text up to a call and the call's mark are one lazy lexeme: it ends with the first mark, and until then the
    output may end at any place as `TEXT` does. A line's end may follow the last call, because that's what models write
    between two of them. No text has the mark of a result in it: weak models repeat results, or make them up.
    """
    marks = [mark.removesuffix(">") for mark in (RESPONSE_BEGIN, *(() if tools else (CALL_BEGIN,)))]
    any_text = f"/(.|\\n)*/ & ~/(.|\\n)*({'|'.join(marks)})(.|\\n)*/"
    if not tools:
        return f"start: TEXT\nTEXT: {any_text}"
    begin, end = json.dumps(CALL_BEGIN), json.dumps(f"\n{CALL_END}")
    more = f'("\\n" {begin} call){{0,{max_calls - 1}}} "\\n"?' if max_calls > 1 else ""
    lines = [
        f"start: calls{'' if text is None else ' | TEXT' if text == 'free' else ' | answer'}",
        f"calls: {'marked_text' if text == 'free' else begin} call {more}",
        f"call: ({' | '.join(f'call_{index}' for index in range(len(tools)))}) {end}",
    ]
    for index, (name, schema) in enumerate(tools.items()):
        head = json.dumps(f'\n{{"name": {json.dumps(name)}, "arguments": ')
        lines.append(f'call_{index}: {head} {_inline(schema)} "}}"')
    if text == "free":
        lines += [f"marked_text[lazy]: TEXT {begin}", f"TEXT: {any_text}"]
    elif text is not None:
        lines.append(f"answer: {_inline(text)}")
    return "\n".join(lines)


def _inline(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON_OPTIONS})}"


def _is_suspicious(grammar: Grammar) -> bool:
    """Whether compiling might take for ever or overflow the stack: intersections of regular expressions can be
    exponential, and references are followed recursively."""
    if grammar.kind in ("regex", "lark") or len(grammar.text) > LARGE:
        return True
    schemas = [schema for _, schema in grammar.subschemas()]
    has_patterns = any({"pattern", "patternProperties"} & schema.keys() for schema in schemas)
    return has_patterns or sum("$ref" in schema for schema in schemas) > 50


def _probe(source: str, param: str) -> None:
    """Compiles in another process first, with a part of a usual stack: there it may hang or crash.

    Raises:
        InvalidRequestError: if it did.
    """
    try:
        # A grammar that's merely wrong counts as done: what's wrong is said when it's compiled here.
        command = [sys.executable, "-c", _PROBE, str(PROBE_SECONDS)]
        probe = subprocess.run(command, input=source, capture_output=True, text=True, timeout=PROBE_TIMEOUT)
        is_done = "done" in probe.stdout
    except subprocess.TimeoutExpired:
        is_done = False
    if not is_done:
        raise InvalidRequestError(
            f"The grammar is too complex: compiling it takes more than {PROBE_SECONDS} seconds or too much memory. "
            "The cause is often 'pattern' together with 'allOf', or a long chain of '$ref'; make it simpler.",
            param,
        )


def _explain(grammar: Grammar, error: str) -> str:
    """llguidance's error, with the keyword at fault and where it is."""
    if grammar.kind != "json_schema":
        return f"The {grammar.kind} grammar can't be used: {_on_one_line(error)}"
    unknown = re.match(r"Unimplemented keys: (\[.*\])", error)
    if unknown:
        keyword = json.loads(unknown[1])[0]
        path = next((path for path, schema in grammar.subschemas() if keyword in schema), "#")
        return f"The keyword {keyword!r} at {path} can't be honoured: it isn't supported. Leave it out of the schema."
    for hint, keyword in _KEYWORD_OF_HINT.items():
        if hint in error:
            return f"The keyword {keyword!r} can't be honoured: {_on_one_line(error)}."
    return f"The schema can't be honoured: {_on_one_line(error)}."


_KEYWORD_OF_HINT = {
    "oneOf": "oneOf",
    "patternProperty": "patternProperties",
    "Unknown format": "format",
    "regex": "pattern",
    "Invalid type": "type",
    "Pointer": "$ref",
}


def _on_one_line(error: str) -> str:
    return " ".join(error.split("\n<state>")[0].split())
