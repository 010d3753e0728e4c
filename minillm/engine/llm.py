"""`LLM`: a model to call from Python. One request at a time, each with a contiguous KV cache."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor

from minillm.attention import ContiguousKVCache
from minillm.engine.loading import load_model_and_tokenizer, resolve_device, resolve_dtype
from minillm.engine.progress import track
from minillm.engine.request import FinishReason, OutputChunk, RequestMetrics, RequestOutput
from minillm.errors import InvalidRequestError, MinillmError
from minillm.sampling import (
    FilteringSampler,
    Sampler,
    SamplingMetadata,
    SamplingParams,
    TokenLogprobs,
    adjust_logits,
    token_logprobs,
    uniform,
)
from minillm.sampling.random import fresh_seed
from minillm.text import Detokenizer, StopStrings

Prompt = str | Sequence[int]
Message = Mapping[str, Any]
Chunks = Generator[OutputChunk, None, RequestOutput]

# Long prompts go through the model in pieces, which bounds the memory of the attention mask.
PREFILL_CHUNK = 512


class LLM:
    """Loads a model and generates with it.

    >>> llm = LLM("smollm2-135m")
    >>> llm.generate("The capital of France is", SamplingParams(temperature=0, max_tokens=8)).text
    """

    def __init__(
        self,
        model: str | Path = "smollm2-135m",
        *,
        dtype: str = "auto",
        device: str = "auto",
        max_model_len: int | None = None,
        sampler: Sampler | Callable[[], Sampler] | None = None,
    ) -> None:
        """Loads the model; fetches it first if need be.

        Args:
            model: a name that minillm knows ("smollm2-135m", "tiny-random"), the path of a folder or of a .gguf
                file, or a Hugging Face name ("org/name").
            dtype: of the weights: "float32", "bfloat16", "float16", or "auto" for the device's best.
            device: "cpu", "cuda", or "auto" for a GPU where there is one.
            max_model_len: the most tokens of prompt and output together; the model's own limit if not given.
            sampler: a `Sampler`, its class, or a function that makes one, in place of the default one.

        Raises:
            MinillmError: if the model can't be found, fetched, read or run; the message says what to do.
        """
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self.model_name = str(model)
        self.sampler = _as_sampler(sampler)
        self.model, self.tokenizer = load_model_and_tokenizer(self.model_name, self.dtype, self.device)
        self.max_model_len = self._checked_length(max_model_len)

    def _checked_length(self, max_model_len: int | None) -> int:
        limit = self.model.config.max_model_len
        if max_model_len is not None and not 1 <= max_model_len <= limit:
            raise InvalidRequestError(
                f"max_model_len is {max_model_len}; {self.model_name} takes 1 to {limit} tokens.", param="max_model_len"
            )
        return max_model_len or limit

    @cached_property
    def fingerprint(self) -> str:
        """A hash over everything that decides the logits: weights, configuration, dtype, tokenizer."""
        digest = hashlib.sha256(repr(sorted(asdict(self.model.config).items())).encode())
        digest.update(f"{self.dtype} {self.device.type} {self.tokenizer.fingerprint}".encode())
        for name, parameter in self.model.named_parameters():
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return f"fp_{digest.hexdigest()[:16]}"

    # -- generating ---------------------------------------------------------------------------------------------

    # A text is a sequence of texts to the type checker, hence the "ignore".
    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        prompts: str | Sequence[int],
        sampling_params: SamplingParams | None = None,
        *,
        stream: Literal[False] = False,
    ) -> RequestOutput: ...
    @overload
    def generate(
        self,
        prompts: Sequence[str] | Sequence[Sequence[int]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stream: Literal[False] = False,
    ) -> list[RequestOutput]: ...
    @overload
    def generate(
        self, prompts: Prompt, sampling_params: SamplingParams | None = None, *, stream: Literal[True]
    ) -> Iterator[OutputChunk]: ...

    def generate(
        self,
        prompts: Any,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stream: bool = False,
    ) -> Any:
        """Continues one prompt or several.

        Args:
            prompts: a text, a list of token ids, or a list of either. Text that looks like a special token
                ("<|im_end|>") is taken as the text it is.
            sampling_params: for all of them, or one per prompt; the defaults of `SamplingParams` if not given.
            stream: for one prompt: return an iterator of `OutputChunk`s as they are made.

        Returns:
            A `RequestOutput` for one prompt, a list of them for a list, in its order.

        Raises:
            InvalidRequestError: for an empty prompt, one that's longer than the context, or anything malformed; every
                prompt is checked before the first is begun.
        """
        if not isinstance(prompts, str) and not _is_sequence(prompts):
            raise InvalidRequestError(
                f"Expected a text, a list of token ids, or a list of either; got {type(prompts).__name__}.", "prompt"
            )
        single = isinstance(prompts, str) or (len(prompts) > 0 and all(isinstance(item, int) for item in prompts))
        return self._generate([prompts] if single else prompts, sampling_params, single=single, stream=stream)

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        sampling_params: SamplingParams | None = None,
        *,
        stream: Literal[False] = False,
    ) -> RequestOutput: ...
    @overload
    def chat(
        self,
        messages: Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stream: Literal[False] = False,
    ) -> list[RequestOutput]: ...
    @overload
    def chat(
        self, messages: Sequence[Message], sampling_params: SamplingParams | None = None, *, stream: Literal[True]
    ) -> Iterator[OutputChunk]: ...

    def chat(
        self,
        messages: Any,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stream: bool = False,
    ) -> Any:
        """Answers one conversation or several, laid out by the model's chat template.

        Args:
            messages: a list of {"role": …, "content": …}, or a list of such lists.
            sampling_params, stream: as in `generate`.

        Raises:
            InvalidRequestError: for malformed messages, or a model without a chat template.
        """
        single = not _is_sequence(messages) or not messages or not all(map(_is_sequence, messages))
        conversations = [messages] if single else messages
        prompts = [self.tokenizer.apply_chat_template(conversation) for conversation in conversations]
        return self._generate(prompts, sampling_params, single=single, stream=stream)

    def _generate(
        self,
        prompts: Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        *,
        single: bool,
        stream: bool,
    ) -> Any:
        params = _one_per_prompt(sampling_params, len(prompts))
        # All are checked before the first is begun, so that a bad one at the end doesn't waste the work before it.
        requests = [(self._token_ids(prompt), each) for prompt, each in zip(prompts, params, strict=True)]
        for request in requests:
            self._check_request(*request)
        if stream:
            if not single:
                raise InvalidRequestError("Only one prompt at a time can be streamed.", param="stream")
            return self._run(*requests[0])
        outputs = [_finish(self._run(*request)) for request in track(requests, "Generating")]
        return outputs[0] if single else outputs

    def _token_ids(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        if not _is_sequence(prompt) or not all(isinstance(token, int) for token in prompt):
            raise InvalidRequestError(
                f"A prompt must be a text or a list of token ids, which are ints; got {str(prompt)[:80]!r}.", "prompt"
            )
        return list(prompt)

    def _check_request(self, token_ids: list[int], params: SamplingParams) -> None:
        if not token_ids:
            raise InvalidRequestError("The prompt is empty; the model needs at least one token to continue.", "prompt")
        vocab_size = self.model.config.vocab_size
        if any(not 0 <= token < vocab_size for token in token_ids):
            raise InvalidRequestError(f"The prompt has token ids outside of 0 to {vocab_size - 1}.", "prompt")
        if len(token_ids) >= self.max_model_len:
            raise InvalidRequestError(
                f"The prompt has {len(token_ids)} tokens; {self.model_name} takes {self.max_model_len}, the output "
                "included. Shorten the prompt.",
                "prompt",
            )
        if bad := [token for token in params.logit_bias if not 0 <= token < vocab_size]:
            raise InvalidRequestError(
                f"logit_bias names token {bad[0]}; the vocabulary has the tokens 0 to {vocab_size - 1}.", "logit_bias"
            )

    # -- one request --------------------------------------------------------------------------------------------

    def _run(self, prompt_token_ids: list[int], params: SamplingParams) -> Chunks:
        """Generates for one request, chunk by chunk; the generator's return value is the whole output."""
        begin = time.perf_counter()
        max_tokens = min(params.max_tokens, self.max_model_len - len(prompt_token_ids))
        cache = self._new_cache(len(prompt_token_ids) + max_tokens)
        seed = fresh_seed() if params.seed is None else params.seed
        ends = self._end_token_ids(params)
        detokenizer, stops = Detokenizer(self.tokenizer), StopStrings(params.stop_strings)
        pieces: list[str] = []
        token_ids: list[int] = []
        logprobs: list[TokenLogprobs] = []
        finish_reason: FinishReason | None = None
        first_token_at = begin
        pending = prompt_token_ids  # tokens whose keys and values aren't in the cache yet
        while finish_reason is None:
            logits = self._forward(pending, cache)
            token_id = self._sample(logits, params, seed, prompt_token_ids, token_ids)
            pending = [token_id]
            token_ids.append(token_id)
            if len(token_ids) == 1:
                first_token_at = time.perf_counter()
            if params.logprobs is not None:
                logprobs.append(token_logprobs(logits, token_id, params.logprobs))
            text, stopped = stops.push(detokenizer.push(token_id))
            if stopped or token_id in ends:
                finish_reason = "stop"
            elif len(token_ids) == max_tokens:
                finish_reason = "length"
            if finish_reason and not stopped:
                last, stopped = stops.push(detokenizer.flush())
                text += last if stopped else last + stops.flush()
                finish_reason = "stop" if stopped else finish_reason
            pieces.append(text)
            yield OutputChunk(text, [token_id], finish_reason, logprobs[-1:] if params.logprobs is not None else None)
        metrics = RequestMetrics(first_token_at - begin, time.perf_counter() - begin, len(token_ids))
        return RequestOutput(
            text="".join(pieces),
            token_ids=token_ids,
            finish_reason=finish_reason,
            prompt_token_ids=prompt_token_ids,
            metrics=metrics,
            logprobs=logprobs if params.logprobs is not None else None,
        )

    def _new_cache(self, max_tokens: int) -> ContiguousKVCache:
        config = self.model.config
        return ContiguousKVCache(
            num_layers=config.num_layers,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            max_tokens=max_tokens,
            dtype=self.dtype,
            device=self.device,
        )

    def _end_token_ids(self, params: SamplingParams) -> frozenset[int]:
        ends = frozenset(params.stop_token_ids)
        return ends if params.ignore_eos else ends | self.tokenizer.eos_token_ids

    @torch.inference_mode()
    def _forward(self, token_ids: list[int], cache: ContiguousKVCache) -> Tensor:
        """Computes the tokens that follow those in the cache; returns the logits after the last, [vocab_size]."""
        for begin in range(0, len(token_ids), PREFILL_CHUNK):
            chunk = torch.tensor(token_ids[begin : begin + PREFILL_CHUNK], device=self.device)
            positions = torch.arange(len(chunk), device=self.device) + cache.num_computed_tokens
            hidden = self.model(chunk, positions, cache)
            cache.advance(len(chunk))
        return self.model.logits(hidden[-1:])[0]

    @torch.inference_mode()
    def _sample(
        self, logits: Tensor, params: SamplingParams, seed: int, prompt_token_ids: list[int], token_ids: list[int]
    ) -> int:
        if not bool(torch.isfinite(logits).all()):
            raise MinillmError(
                f"{self.model_name} computed logits that are not numbers. Its weights are broken, or {self.dtype} is "
                "too narrow for them; try dtype='float32'."
            )
        logits = adjust_logits(logits, params, prompt_token_ids, token_ids)
        metadata = SamplingMetadata.build([params], [uniform(seed, len(token_ids))], self.device)
        token_id = int(self.sampler.sample(logits[None], metadata)[0])
        if not 0 <= token_id < len(logits):
            raise MinillmError(
                f"The sampler {type(self.sampler).__name__} chose token {token_id}; the vocabulary has the tokens 0 to "
                f"{len(logits) - 1}. `minillm.testing.check_sampler` tells what's wrong with it."
            )
        return token_id


def _is_sequence(value: object) -> bool:
    """A list, a tuple or their like; texts and bytes are sequences too, but never what is meant."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _as_sampler(sampler: Sampler | Callable[[], Sampler] | None) -> Sampler:
    """A sampler is taken as it is; its class, or a function that makes one, is called."""
    if sampler is None:
        return FilteringSampler()
    makes_one = isinstance(sampler, type) or not hasattr(sampler, "sample")
    made = sampler() if makes_one and callable(sampler) else sampler
    if not callable(getattr(made, "sample", None)):
        raise InvalidRequestError(
            f"sampler is {sampler!r}; expected an object with a method `sample`, or its class.", param="sampler"
        )
    return cast(Sampler, made)


def _one_per_prompt(
    params: SamplingParams | Sequence[SamplingParams] | None, num_prompts: int
) -> Sequence[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * num_prompts
    if not _is_sequence(params) or not all(isinstance(each, SamplingParams) for each in params):
        raise InvalidRequestError(
            f"Expected SamplingParams, or a list of them; got {params!r:.80}.", param="sampling_params"
        )
    if len(params) != num_prompts:
        raise InvalidRequestError(
            f"{len(params)} sampling parameters were given for {num_prompts} prompts; give one, or one for each.",
            param="sampling_params",
        )
    return params


def _finish(chunks: Chunks) -> RequestOutput:
    """Runs a request to its end; what the generator returns is the whole output."""
    while True:
        try:
            next(chunks)
        except StopIteration as end:
            return cast(RequestOutput, end.value)
