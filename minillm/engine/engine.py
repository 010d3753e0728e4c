"""The engine: takes requests, runs one step at a time for all of them, and hands out what they get.

A step is: the scheduler decides who computes how many tokens, the runner computes them in one forward pass, the
sampler chooses a token for each request that has caught up with its text.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import reprlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from minillm.engine.adapters import AdapterSource
from minillm.engine.config import EngineConfig
from minillm.engine.metrics import EngineMetrics
from minillm.engine.parts import Parts, build_parts
from minillm.engine.request import FinishReason, OutputChunk, Request, RequestMetrics, RequestOutput, RequestStatus
from minillm.engine.runner import ForwardBatch
from minillm.engine.scheduler import SchedulerOutput
from minillm.engine.trace import Tracer
from minillm.engine.view import EngineView, RequestView
from minillm.errors import (
    EngineOverloadedError,
    EngineStoppedError,
    InvalidRequestError,
    MinillmError,
    RequestAbortedError,
)
from minillm.sampling import SamplingMetadata, SamplingParams, TokenLogprobs, adjust_logits, token_logprobs, uniform
from minillm.sampling.random import derive_seed, fresh_seed
from minillm.structured import GrammarCompiler, Matcher, mask_logits
from minillm.text import Detokenizer, StopStrings

log = logging.getLogger("minillm.engine")

Event: TypeAlias = OutputChunk | RequestOutput | MinillmError
"""What a request gets: chunks, then its output; or an error, which ends it."""
OnEvent: TypeAlias = Callable[[Event], None]
Send: TypeAlias = Callable[["_Sequence", Event], None]
CHILD_MARK = "#"
"""Stands between a request's id and the number of one of its n outputs."""


@dataclass(eq=False)
class _Sequence:
    """One output of a request on its way: from token ids to text, and who gets it."""

    request: Request
    group: str
    index: int
    on_event: OnEvent
    detokenizer: Detokenizer
    stops: StopStrings
    end_token_ids: frozenset[int]
    arrived_at: float
    first_scheduled_at: float | None = None
    first_token_at: float | None = None
    is_forked: bool = False
    matcher: Matcher | None = None
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)

    def push(self, token_id: int, logprobs: TokenLogprobs | None, send: Send) -> FinishReason | None:
        """Appends a token, sends the text that it completes, and tells whether it was the last."""
        request = self.request
        request.token_ids.append(token_id)
        text, stopped = self.stops.push(self.detokenizer.push(token_id))
        finish_reason: FinishReason | None = None
        if stopped or token_id in self.end_token_ids or (self.matcher is not None and self.matcher.is_complete):
            finish_reason = "stop"
        elif request.num_tokens >= request.max_num_tokens:
            finish_reason = "length"
        if finish_reason and not stopped:
            rest, stopped = self.flush()
            text += rest
            finish_reason = "stop" if stopped else finish_reason
        self.pieces.append(text)
        if logprobs is not None:
            self.logprobs.append(logprobs)
        send(self, OutputChunk(text, [token_id], finish_reason, None if logprobs is None else [logprobs], self.index))
        return finish_reason

    def push_rest(self, finish_reason: FinishReason, send: Send) -> None:
        """Sends what was held back, where the output ends without a last token."""
        rest, _ = self.flush()
        self.pieces.append(rest)
        send(self, OutputChunk(rest, [], finish_reason, None, self.index))

    def push_forced(self, send: Send) -> FinishReason | None:
        """Appends the tokens between which the grammar leaves no choice: the model needn't be asked for them."""
        if self.matcher is None or self.request.params.logprobs is not None:  # which only the model knows
            return None
        for token_id in self.matcher.forced_tokens():
            finish_reason = self.push(token_id, None, send) if self.matcher.accept(token_id) else None
            if finish_reason or self.matcher.error:
                return finish_reason
        return None

    def flush(self) -> tuple[str, bool]:
        """The text that was held back, and whether a stop string turned up in it."""
        rest, stopped = self.stops.push(self.detokenizer.flush())
        return (rest, True) if stopped else (rest + self.stops.flush(), False)

    def output(self, finish_reason: FinishReason) -> RequestOutput:
        """All that the request got."""
        request, now = self.request, time.perf_counter()
        token_ids = request.output_token_ids
        first = self.first_token_at or now
        queued = (self.first_scheduled_at or now) - self.arrived_at
        return RequestOutput(
            text="".join(self.pieces),
            token_ids=token_ids,
            finish_reason=finish_reason,
            prompt_token_ids=request.prompt_token_ids,
            metrics=RequestMetrics(first - self.arrived_at, now - self.arrived_at, len(token_ids), queued),
            logprobs=self.logprobs if request.params.logprobs is not None else None,
            cached_tokens=request.num_cached_tokens or 0,
            index=self.index,
        )


class Engine:
    """Runs any number of requests at once. `step` does a little for each; whoever calls it drives the engine.

    Safe to use from several threads: one step, one new request or one abort happens at a time.

    Attributes:
        config: the settings, with every None resolved.
        model, tokenizer, kv, scheduler, sampler, runner: the parts, see `minillm.engine.parts`.
        adapters: the LoRA adapters that requests may choose from, by name.
        fingerprint: a hash over everything that can change the output's numbers, but for a request's adapter.
        grammars: compiles what `SamplingParams.grammar` describes.
        metrics: what the engine measured of itself.
        tracer: what it did in each of the last steps.
    """

    def __init__(
        self,
        model: str = "smollm2-135m",
        config: EngineConfig | None = None,
        *,
        adapters: Sequence[AdapterSource] | Mapping[str, object] = (),
        **parts: object,
    ) -> None:
        """Loads the model and builds the parts.

        Args:
            model: see `LLM`.
            config: settings.
            adapters: see `LLM`.
            parts: replacements by name, class or instance: block_allocator, prefix_cache, scheduler, sampler,
                attention_backend, kernels.

        Raises:
            MinillmError: if the model can't be had or a part can't be built.
        """
        built: Parts = build_parts(model, config or EngineConfig(), parts, adapters)
        self.adapters = built.adapters
        self.model_name, self.config, self.fingerprint = model, built.config, built.fingerprint
        self.model, self.tokenizer = built.model, built.tokenizer
        self.kv, self.scheduler, self.sampler, self.runner = built.kv, built.scheduler, built.sampler, built.runner
        self.max_model_len = built.max_model_len
        self.grammars = GrammarCompiler(built.tokenizer, built.model.config.vocab_size)
        self.metrics, self.tracer = EngineMetrics(), Tracer(fingerprint=built.fingerprint)
        self._lock = threading.RLock()
        self._sequences: dict[str, _Sequence] = {}
        self._groups: dict[str, list[str]] = {}  # a request's sequences: one, or n
        self._arrivals = itertools.count()
        self._steps = itertools.count()
        self._idle_steps = 0
        self._in_step = False
        self._to_abort: set[str] = set()
        self._observers: deque[Callable[[EngineView], None]] = deque()

    # -- requests -----------------------------------------------------------------------------------------------

    def add_request(
        self,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        on_event: OnEvent,
        *,
        request_id: str | None = None,
        tenant: str = "",
        extra_keys: tuple[str, ...] = (),
        adapter: str | None = None,
    ) -> str:
        """Takes a request in.

        Args:
            prompt_token_ids: what to continue.
            params: how.
            on_event: is called with each event, in whatever thread runs the step; must return quickly.
            request_id: unique among those running; made up if not given.
            tenant: whose it is: prompts are reused and turns are shared within and between tenants.
            extra_keys: what else decides keys and values, such as an image's hash.
            adapter: name of the one of `adapters` that it's computed with; None for the model alone.

        Returns:
            The request's id, for `abort`.

        Raises:
            InvalidRequestError: for a prompt that's empty, too long or has unknown tokens, or an unknown adapter.
            EngineOverloadedError: if max_num_waiting requests wait already.
        """
        prompt = list(prompt_token_ids)
        self.check_request(prompt, params, adapter)
        matcher = None if params.grammar is None else self.grammars.matcher(params.grammar)
        with self._lock:
            waiting, limit = self.scheduler.num_waiting, self.config.max_num_waiting
            if limit is not None and waiting >= limit:
                raise EngineOverloadedError(f"{waiting} requests are waiting, which is the limit. Try again later.")
            arrival = next(self._arrivals)
            request_id = request_id or f"request-{arrival}"
            if request_id in self._groups:
                raise InvalidRequestError(f"There is a request {request_id!r} already.", "request_id")
            if CHILD_MARK in request_id:
                raise InvalidRequestError(
                    f"request_id is {request_id!r}; {CHILD_MARK!r} in it is the engine's own.", "request_id"
                )
            if not isinstance(tenant, str):
                raise InvalidRequestError(f"tenant is {tenant!r}; expected a string.", "tenant")
            if not isinstance(extra_keys, tuple) or not all(isinstance(key, str) for key in extra_keys):
                raise InvalidRequestError(f"extra_keys is {extra_keys!r}; expected a tuple of strings.", "extra_keys")
            if adapter is not None:
                # By what it holds: the same adapter under two names shares its blocks.
                extra_keys = (*extra_keys, f"lora:{self.adapters[adapter].fingerprint}")
            request = Request(
                request_id=request_id,
                prompt_token_ids=prompt,
                params=params,
                max_num_tokens=min(len(prompt) + params.max_tokens, self.max_model_len),
                tenant=tenant,
                extra_keys=extra_keys,
                adapter=adapter or "",
                arrival=arrival,
                seed=fresh_seed() if params.seed is None else params.seed,
            )
            self.scheduler.add(request)
            self._groups[request_id] = []
            self._track(request, request_id, 0, on_event, time.perf_counter()).matcher = matcher
        return request_id

    def check_request(self, prompt: Sequence[int], params: SamplingParams, adapter: str | None = None) -> None:
        """Raises:
        InvalidRequestError: if the request can't be served, whatever the engine's load. A grammar is compiled for
            that, which can take seconds; the next time it's there already.
        """
        self.check_adapter(adapter)
        vocab_size = self.model.config.vocab_size
        if not prompt:
            raise InvalidRequestError("The prompt is empty; the model needs at least one token to continue.", "prompt")
        if any(not 0 <= token < vocab_size for token in prompt):
            raise InvalidRequestError(f"The prompt has token ids outside of 0 to {vocab_size - 1}.", "prompt")
        if len(prompt) >= self.max_model_len:
            raise InvalidRequestError(
                f"The prompt has {len(prompt)} tokens; {self.model_name} takes {self.max_model_len}, the output "
                "included. Shorten the prompt.",
                "prompt",
            )
        if bad := [token for token in params.logit_bias if not 0 <= token < vocab_size]:
            raise InvalidRequestError(
                f"logit_bias names token {reprlib.repr(bad[0])}; the vocabulary has the tokens 0 to {vocab_size - 1}.",
                "logit_bias",
            )
        if params.grammar is not None:
            self.grammars.matcher(params.grammar)

    def check_adapter(self, adapter: str | None) -> None:
        """Raises:
        InvalidRequestError: if this is no name of an adapter that was loaded, nor None.
        """
        if adapter is not None and (not isinstance(adapter, str) or adapter not in self.adapters):
            raise InvalidRequestError(
                f"No adapter {adapter!r:.200} was loaded; there is {', '.join(self.adapters) or 'none'}. Load it with "
                "the model: LLM(model, adapters=[…]).",
                "adapter",
            )

    def fingerprint_with(self, adapter: str | None) -> str:
        """The fingerprint of outputs that are computed with an adapter; of those without, `fingerprint`.

        Raises:
            InvalidRequestError: if there's no such adapter.
        """
        self.check_adapter(adapter)
        if adapter is None:
            return self.fingerprint
        both = f"{self.fingerprint} {self.adapters[adapter].fingerprint}"
        return f"fp_{hashlib.sha256(both.encode()).hexdigest()[:16]}"

    def abort(self, request_id: str) -> bool:
        """Ends a request between two steps, wherever it is; False if it was over already.

        Its reader gets a `RequestAbortedError`. Never waits: where a step is running, that step ends it.
        """
        if request_id not in self._groups:
            return False
        self._to_abort.add(request_id)
        # A lock isn't fair: waiting for it, beside a thread that steps without a pause, can take for ever.
        if self._lock.acquire(blocking=False):
            try:
                if not self._in_step:  # else it was called out of the step, by an event's receiver, say
                    self._apply_aborts()
            finally:
                self._lock.release()
        return True

    def _apply_aborts(self) -> None:
        while self._to_abort:
            request_id = self._to_abort.pop()
            members = [self._sequences[member] for member in self._groups.get(request_id, ())]
            for member in members:
                self._forget(member, "abort")
            if members:
                self._send(members[0], RequestAbortedError(f"The request {request_id!r} was aborted."))
                self.metrics.set_gauges(self.scheduler.num_running, self.scheduler.num_waiting, self.kv.usage())

    def fail_all(self, error: MinillmError, only: Collection[str] | None = None) -> list[Request]:
        """Ends every request, or `only` those with these ids, with this error; returns them as far as they came."""
        with self._lock:
            sequences = [each for each in self._sequences.values() if only is None or each.group in only]
            for sequence in sequences:
                self._fail(sequence.request, error)
            return [sequence.request for sequence in sequences]

    def inspect(self, observer: Callable[[EngineView], None]) -> None:
        """Hands out what is inside the engine, as it is between two steps.

        Never waits, like `abort`: where a step is running, that step hands it out when it's over. Whoever asks just
        then has to ask again.

        Args:
            observer: is called once with the view, in whatever thread runs the step; must return quickly.
        """
        self._observers.append(observer)
        if self._lock.acquire(blocking=False):
            try:
                if not self._in_step:
                    self._answer_observers()
            finally:
                self._lock.release()

    def _answer_observers(self) -> None:
        if not self._observers:
            return
        view = self._view()
        while self._observers:
            try:
                self._observers.popleft()(view)
            except Exception:
                log.exception("An observer failed")

    def _view(self) -> EngineView:
        tables = self.kv.block_tables()
        requests = tuple(
            RequestView.of(each.request, each.arrived_at, each.first_token_at, tables.get(each.request.request_id, ()))
            for each in self._sequences.values()
        )
        metrics = self.metrics.snapshot()
        return EngineView(time.perf_counter(), requests, self.kv.cached_blocks(), self.kv.usage(), metrics)

    @property
    def has_unfinished(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._sequences)

    # -- one step -----------------------------------------------------------------------------------------------

    def step(self) -> int:
        """Lets every scheduled request take its next tokens; returns how many tokens were computed."""
        with self._lock:
            self._apply_aborts()
            self._in_step = True
            try:
                return self._step()
            finally:
                self._in_step = False
                self._apply_aborts()
                self._answer_observers()

    def _step(self) -> int:
        begin = time.perf_counter()
        output = self.scheduler.schedule()
        trace = self.tracer.begin(next(self._steps), begin, output, self.scheduler, self.kv)
        for item in output.scheduled:
            sequence = self._sequences[item.request.request_id]
            sequence.first_scheduled_at = sequence.first_scheduled_at or begin
        batch = self.runner.build(output) if output.scheduled else None
        scheduled_at = forward_at = time.perf_counter()
        if batch is not None:
            computed = self._forward(batch, output)
            forward_at = time.perf_counter()
            if computed is not None:
                self._take_results(output, batch.sampled, *computed)
        for request in output.outgrown:  # larger than the whole pool
            if outgrown := self._sequences.get(request.request_id):
                outgrown.push_rest("length", self._send)
                self._finish(outgrown, "length")
        self._check_progress(output)
        sampled_at = time.perf_counter()
        self.metrics.on_step(self.tracer.end(trace, scheduled_at, forward_at, sampled_at, self.scheduler))
        return output.num_tokens

    def _forward(self, batch: ForwardBatch, output: SchedulerOutput) -> tuple[Tensor, list[Request]] | None:
        """Runs the model, see `ModelRunner.execute`.

        If it fails, so do the requests of this step, and the engine goes on with the others.
        """
        try:
            return self.runner.execute(batch, output.block_copies)
        except Exception as error:
            log.exception("A forward pass failed")
            failure = MinillmError(f"The model could not compute this step ({type(error).__name__}: {error}).")
            failure.__cause__ = error
            for item in output.scheduled:
                self._fail(item.request, failure)
            return None

    def _take_results(
        self, output: SchedulerOutput, requests: list[Request], logits: Tensor, broken: list[Request]
    ) -> None:
        """Counts a step as computed and takes its tokens. If that fails, so do the requests that wait for one."""
        sequences = [self._sequences[request.request_id] for request in requests]
        try:
            # Before anything is published: keys and values that aren't numbers mustn't be found by others.
            sequences, logits = self._without_broken(sequences, logits, broken)
            self.scheduler.update(output)
            if sequences:
                self._take_tokens(*self._fork(sequences, logits))
        except Exception as error:  # of a part that was plugged in: the sampler, mostly
            log.exception("A step's tokens could not be taken")
            failure = MinillmError(f"The next token could not be chosen ({type(error).__name__}: {error}).")
            failure.__cause__ = error
            for sequence in sequences:
                if sequence.request.num_computed_tokens >= sequence.request.num_tokens:
                    self._fail(sequence.request, failure)

    @torch.inference_mode()
    def _take_tokens(self, sequences: list[_Sequence], logits: Tensor) -> None:
        """Samples a token for each row and passes it on."""
        tokens = self._sample(sequences, logits)
        now = time.perf_counter()
        for row, (sequence, token) in enumerate(zip(sequences, tokens, strict=True)):
            if not 0 <= token < logits.shape[-1]:
                self._fail(sequence.request, self._bad_token(token))
                continue
            if sequence.matcher is not None and not sequence.matcher.accept(token):
                self._fail(sequence.request, self._forbidden_token(token, sequence.matcher))
                continue
            sequence.first_token_at = sequence.first_token_at or now
            num_top = sequence.request.params.logprobs
            logprobs = None if num_top is None else token_logprobs(logits[row], token, num_top)
            if finish_reason := sequence.push(token, logprobs, self._send) or sequence.push_forced(self._send):
                self._finish(sequence, finish_reason)

    def _sample(self, sequences: list[_Sequence], logits: Tensor) -> list[int]:
        params = [sequence.request.params for sequence in sequences]
        rows: list[Tensor] | None = None
        for row, sequence in enumerate(sequences):
            if params[row].adjusts_logits:
                # The rows are adjusted in a copy: log-probabilities are those of the model itself.
                rows = rows or list(logits)
                request = sequence.request
                rows[row] = adjust_logits(logits[row], params[row], request.prompt_token_ids, request.output_token_ids)
        uniforms = [
            uniform(each.request.seed, each.request.num_tokens - each.request.num_prompt_tokens) for each in sequences
        ]
        metadata = SamplingMetadata.build(params, uniforms, logits.device)
        logits = logits if rows is None else torch.stack(rows)
        if any(sequence.matcher is not None for sequence in sequences):
            logits = mask_logits(logits, [sequence.matcher for sequence in sequences])
        tokens: list[int] = self.sampler.sample(logits, metadata).tolist()
        return tokens

    def _without_broken(
        self, sequences: list[_Sequence], logits: Tensor, broken: list[Request]
    ) -> tuple[list[_Sequence], Tensor]:
        """Ends the requests whose numbers aren't: those told of, and those of whose logits that's true."""
        # One sum per row finds NaN and infinity in one pass.
        sound = logits.sum(dim=-1).isfinite()
        if not broken and bool(sound.all()):
            return sequences, logits
        broken = broken + [each.request for each, ok in zip(sequences, sound.tolist(), strict=True) if not ok]
        for request in broken:
            self._fail(
                request,
                MinillmError(
                    f"{self.model_name} computed logits that are not numbers. Its weights are broken, or "
                    f"{self.model.dtype} is too narrow for them; try dtype='float32'."
                ),
            )
        kept = [row for row, each in enumerate(sequences) if each.request.request_id in self._sequences]
        return [sequences[row] for row in kept], logits[kept]

    def _fork(self, sequences: list[_Sequence], logits: Tensor) -> tuple[list[_Sequence], Tensor]:
        """Requests with n > 1 part ways after their prompt: each output goes on from the same keys and values."""
        rows: list[int] = []
        all_sequences: list[_Sequence] = []
        for row, sequence in enumerate(sequences):
            rows.append(row)
            all_sequences.append(sequence)
            parent = sequence.request
            if sequence.is_forked or parent.params.n == 1:
                continue
            sequence.is_forked = True
            for index in range(1, parent.params.n):
                child = Request(
                    request_id=f"{parent.request_id}{CHILD_MARK}{index}",
                    prompt_token_ids=parent.prompt_token_ids,
                    params=parent.params,
                    max_num_tokens=parent.max_num_tokens,
                    tenant=parent.tenant,
                    extra_keys=parent.extra_keys,
                    adapter=parent.adapter,
                    arrival=next(self._arrivals),
                    seed=derive_seed(parent.seed, index),
                    num_computed_tokens=parent.num_computed_tokens,
                    num_cached_tokens=parent.num_cached_tokens,
                )
                self.scheduler.fork(parent, child)
                forked = self._track(child, parent.request_id, index, sequence.on_event, sequence.arrived_at)
                forked.is_forked, forked.first_scheduled_at = True, sequence.first_scheduled_at
                forked.matcher = None if sequence.matcher is None else sequence.matcher.fork()
                rows.append(row)
                all_sequences.append(forked)
        return all_sequences, logits if len(rows) == len(sequences) else logits[rows]

    # -- endings ------------------------------------------------------------------------------------------------

    def _track(self, request: Request, group: str, index: int, on_event: OnEvent, arrived_at: float) -> _Sequence:
        ends, grammar = frozenset(request.params.stop_token_ids), request.params.grammar
        sequence = _Sequence(
            request,
            group,
            index,
            on_event,
            Detokenizer(self.tokenizer),
            StopStrings(request.params.stop_strings, until=grammar.unstoppable_from if grammar else None),
            ends if request.params.ignore_eos else ends | self.tokenizer.eos_token_ids,
            arrived_at,
        )
        self._sequences[request.request_id] = sequence
        self._groups[group].append(request.request_id)
        if index == 0:  # the others came with it, and don't wait
            self.tracer.on_arrival(request.request_id, arrived_at)
        return sequence

    def _finish(self, sequence: _Sequence, finish_reason: FinishReason) -> None:
        if sequence.request.request_id in self._sequences:
            self._forget(sequence, finish_reason)
            self._send(sequence, sequence.output(finish_reason))

    def _fail(self, request: Request, error: MinillmError) -> None:
        """Ends a request, all of its n outputs, with one error."""
        if sequence := self._sequences.get(request.request_id):
            for member in list(self._groups[sequence.group]):
                self._forget(self._sequences[member], "error")
            self._send(sequence, error)

    def _send(self, sequence: _Sequence, event: Event) -> None:
        """Hands out an event. A receiver that fails loses its own request and nobody else's."""
        try:
            sequence.on_event(event)
        except Exception:
            log.exception("The receiver of %s failed", sequence.request.request_id)
            if sequence.group in self._groups:
                self._to_abort.add(sequence.group)

    def _forget(self, sequence: _Sequence, reason: str) -> None:
        """The one place where a sequence leaves the engine: its blocks go back exactly once."""
        request = sequence.request
        del self._sequences[request.request_id]
        members = self._groups[sequence.group]
        members.remove(request.request_id)
        if not members:
            del self._groups[sequence.group]
        try:
            self.scheduler.finish(request)
        except Exception:  # one that was plugged in: the others' requests go on
            log.exception("The scheduler could not let go of %s", request.request_id)
        request.status = RequestStatus.FINISHED
        self.metrics.on_request_finished(sequence, reason)
        self.tracer.on_finish(request.request_id, reason)

    def _check_progress(self, output: SchedulerOutput) -> None:
        """A scheduler that hands out nothing would make everybody wait for ever."""
        idle = not (output.scheduled or output.outgrown) and self.has_unfinished
        self._idle_steps = self._idle_steps + 1 if idle else 0
        if self._idle_steps > 3:
            self._idle_steps = 0
            self.fail_all(
                EngineStoppedError(
                    f"The scheduler {type(self.scheduler).__name__} has work and schedules none of it. "
                    "`minillm.testing.check_scheduler` tells what's wrong with it."
                )
            )

    def _bad_token(self, token: int) -> MinillmError:
        return MinillmError(
            f"The sampler {type(self.sampler).__name__} chose token {token}; the vocabulary has the tokens 0 to "
            f"{self.model.config.vocab_size - 1}. `minillm.testing.check_sampler` tells what's wrong with it."
        )

    def _forbidden_token(self, token: int, matcher: Matcher) -> MinillmError:
        if matcher.is_exhausted:
            return InvalidRequestError(
                f"The output can't follow its grammar any further ({matcher.error}). Make the grammar simpler; one "
                "that never ends can't be followed either.",
                "grammar",
            )
        return MinillmError(
            f"The sampler {type(self.sampler).__name__} chose token {token}, which the grammar forbids: its logit is "
            "-inf. `minillm.testing.check_sampler` tells what's wrong with it."
        )
