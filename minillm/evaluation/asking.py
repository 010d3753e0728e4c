"""Many requests to one server: in flight together, tried again where that helps, answered in order."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from minillm.evaluation.connection import Connection, explain
from minillm.evaluation.errors import EvaluationError, ServerError
from minillm.evaluation.journal import Journal, Reply
from minillm.evaluation.limiting import AdaptiveLimit

if TYPE_CHECKING:
    import openai

Progress = Callable[[int, int, int], None]
"""Is told how many replies there are, of how many, and how many requests may be in flight."""

_T = TypeVar("_T")
_FULL = (429, 503)
_TRIES = 4
_MAX_PAUSE = 60.0


@dataclass(frozen=True)
class Prompt:
    """A request for a chat completion.

    Attributes:
        id: what its reply is called; differs from all others that are asked together.
        messages: the conversation to be completed.
        options: further fields of the request, such as max_tokens.
    """

    id: str
    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)

    def key(self, connection: Connection) -> str:
        """A hash of all that decides the answer, under which a `Journal` keeps it."""
        content = [connection.base_url, connection.model, self.id, list(map(dict, self.messages)), dict(self.options)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


async def ask_all(
    connection: Connection,
    prompts: Sequence[Prompt],
    *,
    start: int = 4,
    maximum: int = 64,
    journal: Journal | None = None,
    progress: Progress | None = None,
    patience: float = 300.0,
) -> list[Reply]:
    """Puts prompts to the server, as many at once as it takes.

    The number in flight begins at `start` and grows while answers come. At 429 or 503 it halves, everyone waits as long
    as Retry-After says, and the request is sent again. After another fault of the server's, or of the line, a request
    is tried four times in all. What the server refuses for a fault of the request's own becomes a `Reply` with `error`.

    Args:
        connection: the server and the model.
        prompts: what to ask.
        start, maximum: see `AdaptiveLimit`.
        journal: keeps replies as they come; those that it has already aren't asked for.
        progress: is called at the beginning and at each reply.
        patience: the most seconds to go on without any answer from a server that says it's full.

    Returns:
        the replies, in the order of the prompts.

    Raises:
        ServerError: if the server can't be reached, lets nobody in, doesn't have the model, or stays full. What has
            come by then is in the journal.
    """
    if len({prompt.id for prompt in prompts}) < len(prompts):
        raise EvaluationError("Two prompts have one id. Expected each to have its own.")
    async with connection.open() as client:
        limit = AdaptiveLimit(min(start, maximum), maximum)
        return await _Run(connection, client, prompts, limit, journal, progress, patience).replies()


def ask_all_and_wait(connection: Connection, prompts: Sequence[Prompt], **options: Any) -> list[Reply]:
    """`ask_all` for code that isn't asynchronous; works in a notebook too."""
    return wait_for(ask_all(connection, prompts, **options))


def wait_for(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns. Where an event loop runs in this thread already, as in a notebook, it gets another."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    outcome: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(coroutine))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="minillm-evaluation", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]


class _Run:
    """One call of `ask_all`."""

    def __init__(
        self,
        connection: Connection,
        client: openai.AsyncOpenAI,
        prompts: Sequence[Prompt],
        limit: AdaptiveLimit,
        journal: Journal | None,
        progress: Progress | None,
        patience: float,
    ) -> None:
        self.connection, self.client, self.limit = connection, client, limit
        self.prompts, self.journal, self.progress, self.patience = prompts, journal, progress, patience
        self.found: dict[int, Reply] = {}
        self.last_answer_at = time.monotonic()

    async def replies(self) -> list[Reply]:
        keys = [prompt.key(self.connection) for prompt in self.prompts]
        if self.journal:
            known = {index: reply for index, key in enumerate(keys) if (reply := self.journal.get(key))}
            self.found |= known
        waiting = iter([index for index in range(len(keys)) if index not in self.found])
        self._tell()

        async def work() -> None:
            for index in waiting:  # which all workers share
                reply = await self._ask(self.prompts[index])
                self.found[index] = reply
                if self.journal:
                    self.journal.add(keys[index], reply)
                self._tell()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.limit.maximum, len(keys) - len(self.found))):
                    group.create_task(work())
        except ExceptionGroup as errors:
            # The first is the cause; the other workers were cancelled, or met the same.
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        return [self.found[index] for index in range(len(keys))]

    def _tell(self) -> None:
        if self.progress:
            self.progress(len(self.found), len(self.prompts), int(self.limit.value))

    async def _ask(self, prompt: Prompt) -> Reply:
        """A reply, however many tries it takes."""
        import openai

        tries = 1
        while True:
            place, succeeded, retry_after = await self.limit.acquire(), False, None
            try:
                reply = await self._send(prompt)
                succeeded = True
                return reply
            except openai.APIStatusError as error:
                if error.status_code in _FULL and error.code != "insufficient_quota":
                    retry_after = self._pause(error)
                elif error.status_code in (401, 403, 404, 429):
                    raise explain(error, self.connection.base_url, self.connection.model) from error
                elif tries == _TRIES or (error.status_code < 500 and error.status_code not in (408, 409)):
                    return Reply(prompt.id, "", "error", error=_message(error))
                else:
                    tries += 1
            except openai.APIConnectionError as error:  # time-outs too
                if tries == _TRIES or not self.found:  # a server that never answered isn't waited for
                    raise explain(error, self.connection.base_url, self.connection.model) from error
                tries += 1
            except openai.OpenAIError as error:  # such as an answer that isn't one
                raise explain(error, self.connection.base_url, self.connection.model) from error
            finally:
                await self.limit.release(place, succeeded=succeeded, retry_after=retry_after)
            if retry_after is None:
                await asyncio.sleep(random.uniform(0.5, 1) * 2 ** (tries - 2))

    async def _send(self, prompt: Prompt) -> Reply:
        began = time.monotonic()
        # Checked by the server: what a dataset brings has no static types.
        completion = await self.client.chat.completions.create(
            model=self.connection.model,
            messages=list(prompt.messages),  # type: ignore[arg-type]
            **prompt.options,
        )
        self.last_answer_at = time.monotonic()
        if not completion.choices:
            return Reply(prompt.id, "", "error", error="The server's answer has no choices.")
        choice, usage = completion.choices[0], completion.usage
        return Reply(
            prompt.id,
            choice.message.content or "",
            choice.finish_reason,
            round(self.last_answer_at - began, 4),
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
        )

    def _pause(self, error: openai.APIStatusError) -> float:
        """How long a full server asks to wait; a second where it doesn't say.

        Raises:
            ServerError: if it has been full for too long.
        """
        silent = time.monotonic() - self.last_answer_at
        if silent > self.patience:
            raise ServerError(
                f"The server at {self.connection.base_url} has given no answer for {silent:.0f} s, only: "
                f"{_message(error)} Try again later; answers that came are kept where a file was named."
            ) from error
        seconds = 1.0
        with suppress(ValueError):  # it may be a date
            seconds = float(error.response.headers.get("retry-after", "1"))
        return min(max(seconds, 0.0), _MAX_PAUSE)


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or error)
