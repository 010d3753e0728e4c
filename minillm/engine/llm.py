"""`LLM`: a model to call from Python, with the engine under it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, overload

import torch

from minillm.engine.adapters import AdapterSource
from minillm.engine.config import EngineConfig
from minillm.engine.engine import Engine, Event
from minillm.engine.progress import track
from minillm.engine.request import OutputChunk, RequestOutput
from minillm.errors import InvalidRequestError, MinillmError
from minillm.models.decoder import Decoder
from minillm.sampling import Sampler, SamplingParams
from minillm.structured.tool_calls import (
    PreparedChat,
    TextDelta,
    ToolCallParser,
    ToolEvent,
    collect_events,
    prepare_chat,
    read_tool_calls,
)
from minillm.text import Tokenizer

Prompt = str | Sequence[int]
Message = Mapping[str, Any]
Chunks = Generator[OutputChunk, None, RequestOutput]


class LLM:
    """Loads a model and generates with it.

    >>> llm = LLM("smollm2-135m")
    >>> llm.generate("The capital of France is", SamplingParams(temperature=0, max_tokens=8)).text

    Attributes:
        engine: runs the requests; `engine.metrics` and `engine.tracer` tell how.
    """

    def __init__(
        self,
        model: str | Path = "smollm2-135m",
        *,
        config: EngineConfig | None = None,
        adapters: Sequence[AdapterSource] | Mapping[str, object] = (),
        block_allocator: object = None,
        prefix_cache: object = None,
        scheduler: object = None,
        sampler: object = None,
        attention_backend: object = None,
        kernels: object = None,
        **settings: Any,
    ) -> None:
        """Loads the model; fetches it first if need be.

        Args:
            model: a name that minillm knows ("smollm2-135m", "tiny-random"), the path of a folder or of a .gguf
                file, or a Hugging Face name ("org/name"). "model+adapter" merges a LoRA adapter into the weights.
            config: settings of the engine.
            adapters: LoRA adapters that requests may choose from, each a name or the path of a folder, or a mapping of
                names to paths. They stay beside the model, and requests with different ones run in the same batch.
            block_allocator, prefix_cache, scheduler, sampler, attention_backend, kernels: parts that replace the
                engine's own, each by a registered name, a class or an instance.
            settings: fields of `EngineConfig`, in place of a whole one: `LLM(model, dtype="bfloat16")`.

        Raises:
            MinillmError: if the model can't be found, fetched, read or run; the message says what to do.
        """
        try:
            config = dataclasses.replace(config or EngineConfig(), **settings)
        except TypeError as error:
            known = ", ".join(item.name for item in dataclasses.fields(EngineConfig))
            raise InvalidRequestError(f"An unknown setting ({error}); the settings are {known}.") from error
        self.engine = Engine(
            str(model),
            config,
            adapters=adapters,
            block_allocator=block_allocator,
            prefix_cache=prefix_cache,
            scheduler=scheduler,
            sampler=sampler,
            attention_backend=attention_backend,
            kernels=kernels,
        )

    @property
    def model_name(self) -> str:
        """What the model was asked for as."""
        return self.engine.model_name

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters that requests may choose from."""
        return tuple(self.engine.adapters)

    @property
    def model(self) -> Decoder:
        """The decoder, to look into or to call."""
        return self.engine.model

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, with its chat template."""
        return self.engine.tokenizer

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, before quantization."""
        return self.engine.model.dtype

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.engine.model.device

    @property
    def sampler(self) -> Sampler:
        """What chooses the tokens; another one may be put in at any time."""
        return self.engine.sampler

    @sampler.setter
    def sampler(self, sampler: Sampler) -> None:
        self.engine.sampler = sampler

    @property
    def max_model_len(self) -> int:
        """The most tokens of prompt and output together."""
        return self.engine.max_model_len

    @property
    def fingerprint(self) -> str:
        """A hash over everything that decides the logits: weights, configuration, dtype, arithmetic, tokenizer."""
        return self.engine.fingerprint

    # -- generating ---------------------------------------------------------------------------------------------

    # A text is a sequence of texts to the type checker, hence the "ignore".
    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        prompts: str | Sequence[int],
        sampling_params: SamplingParams | None = None,
        *,
        stream: Literal[False] = False,
        adapter: str | None = None,
    ) -> RequestOutput: ...
    @overload
    def generate(
        self,
        prompts: Sequence[str] | Sequence[Sequence[int]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stream: Literal[False] = False,
        adapter: str | Sequence[str | None] | None = None,
    ) -> list[RequestOutput]: ...
    @overload
    def generate(
        self,
        prompts: Prompt,
        sampling_params: SamplingParams | None = None,
        *,
        stream: Literal[True],
        adapter: str | None = None,
    ) -> Iterator[OutputChunk]: ...

    def generate(
        self,
        prompts: Any,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stream: bool = False,
        adapter: str | Sequence[str | None] | None = None,
    ) -> Any:
        """Continues one prompt or several.

        Args:
            prompts: a text, a list of token ids, or a list of either. Text that looks like a special token
                ("<|im_end|>") is taken as the text it is.
            sampling_params: for all of them, or one per prompt; the defaults of `SamplingParams` if not given.
            stream: for one prompt: return an iterator of `OutputChunk`s as they are made.
            adapter: name of one of `adapters`, for all of them, or one per prompt; None for the model alone.

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
        return self._generate([prompts] if single else prompts, sampling_params, adapter, single=single, stream=stream)

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        sampling_params: SamplingParams | None = None,
        *,
        stream: Literal[False] = False,
        tools: Sequence[Message] | None = None,
        tool_choice: str | Message | None = None,
        parallel_tool_calls: bool | None = None,
        adapter: str | None = None,
    ) -> RequestOutput: ...
    @overload
    def chat(
        self,
        messages: Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stream: Literal[False] = False,
        tools: Sequence[Message] | None = None,
        tool_choice: str | Message | None = None,
        parallel_tool_calls: bool | None = None,
        adapter: str | Sequence[str | None] | None = None,
    ) -> list[RequestOutput]: ...
    @overload
    def chat(
        self,
        messages: Sequence[Message],
        sampling_params: SamplingParams | None = None,
        *,
        stream: Literal[True],
        tools: Sequence[Message] | None = None,
        tool_choice: str | Message | None = None,
        parallel_tool_calls: bool | None = None,
        adapter: str | None = None,
    ) -> Iterator[OutputChunk]: ...

    def chat(
        self,
        messages: Any,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stream: bool = False,
        tools: Sequence[Message] | None = None,
        tool_choice: str | Message | None = None,
        parallel_tool_calls: bool | None = None,
        adapter: str | Sequence[str | None] | None = None,
    ) -> Any:
        """Answers one conversation or several, laid out by the model's chat template.

        Args:
            messages: a list of {"role": …, "content": …}, or a list of such lists.
            sampling_params, stream, adapter: as in `generate`.
            tools, tool_choice, parallel_tool_calls: as in OpenAI's API; see `minillm.structured.tool_calls`. The
                calls are in the output's `tool_calls`, or in the chunks' `tool_events`.

        Raises:
            InvalidRequestError: for malformed messages or tools, or a model without a chat template.
        """
        single = not _is_sequence(messages) or not messages or not all(map(_is_sequence, messages))
        conversations = [messages] if single else messages
        params = _one_per_prompt(sampling_params, len(conversations))
        chats = [
            prepare_chat(
                self.tokenizer,
                conversation,
                tools=tools,
                tool_choice=tool_choice,
                parallel_tool_calls=parallel_tool_calls,
                answer=each.grammar,
            )
            for conversation, each in zip(conversations, params, strict=True)
        ]
        params = [dataclasses.replace(each, grammar=chat.grammar) for each, chat in zip(params, chats, strict=True)]
        prompts = [chat.prompt_token_ids for chat in chats]
        outputs = self._generate(prompts, params, adapter, single=single, stream=stream)
        if not chats[0].may_call:
            return outputs
        if stream:
            return _chunks_with_calls(outputs, chats[0])
        if single:
            return _with_calls(outputs, chats[0])
        return [_with_calls(output, chat) for output, chat in zip(outputs, chats, strict=True)]

    def _generate(
        self,
        prompts: Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        adapter: str | Sequence[str | None] | None,
        *,
        single: bool,
        stream: bool,
    ) -> Any:
        params = _one_per_prompt(sampling_params, len(prompts))
        adapters = _adapter_per_prompt(adapter, len(prompts))
        # All are checked before the first is begun, so that a bad one at the end doesn't waste the work before it.
        requests = [
            (self._token_ids(prompt), each, name) for prompt, each, name in zip(prompts, params, adapters, strict=True)
        ]
        for request in requests:
            self.engine.check_request(*request)
        if stream:
            if not single:
                raise InvalidRequestError("Only one prompt at a time can be streamed.", param="stream")
            return self._stream(*requests[0])
        outputs = self._run(requests)
        return outputs[0] if single else outputs

    def _token_ids(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        if not _is_sequence(prompt) or not all(isinstance(token, int) for token in prompt):
            raise InvalidRequestError(
                f"A prompt must be a text or a list of token ids, which are ints; got {str(prompt)[:80]!r}.", "prompt"
            )
        return list(prompt)

    def _run(self, requests: Sequence[tuple[list[int], SamplingParams, str | None]]) -> list[RequestOutput]:
        """Runs requests to their ends, all at once; in their order."""
        inboxes = [_Inbox(params.n) for _, params, _ in requests]
        ids: list[str] = []
        try:
            for (prompt, params, adapter), inbox in zip(requests, inboxes, strict=True):
                # A whole list may be longer than the queue: then what's in it is worked on first.
                limit = self.engine.config.max_num_waiting
                while limit is not None and self.engine.scheduler.num_waiting >= limit:
                    self.engine.step()
                ids.append(self.engine.add_request(prompt, params, inbox, adapter=adapter))
            for inbox in track(inboxes, "Generating"):
                while not inbox.is_complete:
                    self.engine.step()
            return [inbox.output() for inbox in inboxes]
        finally:
            for request_id in ids:
                self.engine.abort(request_id)

    def _stream(self, prompt: list[int], params: SamplingParams, adapter: str | None) -> Chunks:
        """Runs one request, chunk by chunk; the generator's return value is the whole output."""
        inbox = _Inbox(params.n)
        request_id = self.engine.add_request(prompt, params, inbox, adapter=adapter)
        try:
            # In this order: another thread may run the last step between the two looks.
            while not inbox.is_complete or inbox.chunks:
                if inbox.chunks:
                    yield inbox.chunks.popleft()
                else:
                    self.engine.step()
            return inbox.output()
        finally:
            self.engine.abort(request_id)


def _with_calls(output: RequestOutput, chat: PreparedChat) -> RequestOutput:
    text, calls = read_tool_calls(output.text, chat.new_parser())
    others = tuple(_with_calls(other, chat) for other in output.others)
    return dataclasses.replace(output, text=text, tool_calls=calls, others=others)


def _chunks_with_calls(chunks: Chunks, chat: PreparedChat) -> Chunks:
    """A stream in which calls are told from text; with the same calls in the whole output, its return value."""
    parsers: defaultdict[int, ToolCallParser | None] = defaultdict(chat.new_parser)
    all_events: defaultdict[int, list[ToolEvent]] = defaultdict(list)

    def finished(output: RequestOutput) -> RequestOutput:
        text, calls = collect_events(all_events[output.index])
        return dataclasses.replace(output, text=text, tool_calls=calls, others=tuple(map(finished, output.others)))

    with closing(chunks):
        while True:
            try:
                chunk = next(chunks)
            except StopIteration as end:
                return finished(end.value)
            parser = parsers[chunk.index]
            assert parser is not None
            events = parser.push(chunk.text) + (parser.finish() if chunk.finish_reason else [])
            all_events[chunk.index] += events
            text = "".join(event.text for event in events if isinstance(event, TextDelta))
            calls = tuple(event for event in events if not isinstance(event, TextDelta))
            yield dataclasses.replace(chunk, text=text, tool_events=calls)


class _Inbox:
    """Takes a request's events."""

    def __init__(self, n: int) -> None:
        self.chunks: deque[OutputChunk] = deque()
        self._n = n
        self._outputs: list[RequestOutput] = []
        self._error: MinillmError | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, OutputChunk):
            self.chunks.append(event)
        elif isinstance(event, RequestOutput):
            self._outputs.append(event)
        else:
            self._error = event

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is to come."""
        return self._error is not None or len(self._outputs) == self._n

    def output(self) -> RequestOutput:
        """A request's output; with n > 1 the first, with the others at it.

        Raises:
            MinillmError: if the request failed.
        """
        if self._error is not None:
            raise self._error
        first, *others = sorted(self._outputs, key=lambda output: output.index)
        return dataclasses.replace(first, others=tuple(others))


def _is_sequence(value: object) -> bool:
    """A list, a tuple or their like; texts and bytes are sequences too, but never what is meant."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


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


def _adapter_per_prompt(adapter: str | Sequence[str | None] | None, num_prompts: int) -> Sequence[str | None]:
    if adapter is None or isinstance(adapter, str):
        return [adapter] * num_prompts
    if not _is_sequence(adapter) or len(adapter) != num_prompts:
        raise InvalidRequestError(
            f"adapter is {adapter!r:.80}; expected the name of an adapter, or a list with a name or None for each of "
            f"the {num_prompts} prompts.",
            param="adapter",
        )
    return adapter
