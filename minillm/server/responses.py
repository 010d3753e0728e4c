"""POST /v1/responses, and what it keeps: GET and DELETE /v1/responses/{id}, GET /v1/responses/{id}/input_items."""

from __future__ import annotations

import reprlib
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field, StringConstraints, WithJsonSchema

from minillm.errors import InvalidRequestError
from minillm.sampling import SamplingParams
from minillm.sampling.params import MAX_LOGPROBS
from minillm.server.chat import DEFAULT_MAX_TOKENS, response_grammar
from minillm.server.generation import Service, named_events, respond
from minillm.server.protocol import FailFastList, GenerationRequest, Tally, check_can_be_told_again
from minillm.server.response_events import ResponseAnswer, ResponseObject
from minillm.server.response_items import Item, input_items, messages_of, without_the_oldest
from minillm.server.response_store import ResponseStore, Turn
from minillm.server.response_tools import chat_tools, in_this_apis_words
from minillm.server.tools import prepare_tools
from minillm.structured import Grammar
from minillm.structured.tool_calls import PreparedChat

LOGPROBS = "message.output_text.logprobs"
_ITEM = {"type": "object", "properties": {"type": {"type": "string"}, "role": {"type": "string"}}}
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]


class ResponseRequest(GenerationRequest):
    """The body of a request."""

    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {
        "background": (None, False),
        "context_management": (None, []),
        "conversation": (None,),
        "moderation": (None,),
        "prompt": (None,),
        # Of the other endpoints; here they have other names, or none.
        "max_completion_tokens": (None,),
        "max_tokens": (None,),
        "messages": (None,),
        "n": (None, 1),
        "response_format": (None, {"type": "text"}),
    }

    # Checked where it's read, whose message says which item is wrong; one from here would list every form.
    input: Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _ITEM}]})]
    instructions: str | None = None
    previous_response_id: str | None = None
    truncation: Literal["auto", "disabled"] | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    include: FailFastList[str] | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    store: bool | None = True
    tools: list[Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    # Told again in the answer.
    metadata: Metadata | None = None
    user: str | None = None
    max_tool_calls: int | None = Field(None, ge=1)  # of built-in tools, of which there are none
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    def check_supported(self) -> None:
        """Raises:
        InvalidRequestError: for a field that would change the answer and isn't supported.
        """
        super().check_supported()
        parts = {
            "reasoning.effort": ((self.reasoning or {}).get("effort"), (None, "none")),
            "text.verbosity": ((self.text or {}).get("verbosity"), (None, "medium")),
        }
        for name, (value, harmless) in parts.items():
            if value not in harmless:
                raise InvalidRequestError(f"{name}={reprlib.repr(value)} is not supported by this server.", name)
        if self.top_logprobs and not self.has_logprobs:
            raise InvalidRequestError(f"top_logprobs needs include=[{LOGPROBS!r}].", "top_logprobs")

    @property
    def max_new_tokens(self) -> int:
        """The most tokens of the answer."""
        return DEFAULT_MAX_TOKENS if self.max_output_tokens is None else self.max_output_tokens

    @property
    def has_logprobs(self) -> bool:
        """Whether log-probabilities are asked for."""
        return LOGPROBS in (self.include or [])

    def sampling_params(self, **more: Any) -> SamplingParams:
        """The request's `SamplingParams`, with `more` of their fields.

        Raises:
            InvalidRequestError: for a value out of range, or a field that isn't supported.
        """
        return self.build_sampling_params(
            max_tokens=self.max_new_tokens,
            logprobs=(self.top_logprobs or 0) if self.has_logprobs else None,
            **more,
        )

    def settings(self) -> dict[str, Any]:
        """What the answer tells of the request.

        Raises:
            InvalidRequestError: for a value that an answer can't hold.
        """
        settings = {
            "model": self.model,
            "background": False,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": self.max_tool_calls,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "prompt_cache_key": self.prompt_cache_key,
            "reasoning": {"effort": (self.reasoning or {}).get("effort"), "summary": None},
            "safety_identifier": self.safety_identifier,
            "service_tier": "default",
            "store": self.store is not False,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "text": {"format": (self.text or {}).get("format") or {"type": "text"}, "verbosity": "medium"},
            "tool_choice": self.tool_choice or "auto",
            "tools": self.tools or [],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "truncation": self.truncation or "disabled",
            "user": self.user,
        }
        for name, value in settings.items():
            check_can_be_told_again(value, name)
        return settings


def text_grammar(text: dict[str, Any] | None) -> Grammar | None:
    """What `text.format` has the answer follow. None for plain text.

    Raises:
        InvalidRequestError: for a form that isn't known, or a schema that can't be honoured.
    """
    match (text or {}).get("format"):
        case None | {"type": "text" | "json_object"} as simple:
            return response_grammar(simple)
        case {"type": "json_schema", "name": str(), "schema": dict()} as flat:
            try:
                return response_grammar({"type": "json_schema", "json_schema": flat})
            except InvalidRequestError as error:
                raise InvalidRequestError(str(error), "text.format") from None
        case other:
            raise InvalidRequestError(
                'text.format has to be {"type": "text"}, {"type": "json_object"}, or {"type": "json_schema", '
                f'"name": …, "schema": {{…}}}}; got {reprlib.repr(other)}.',
                "text.format",
            )


def responses_router(service: Service, store: ResponseStore) -> APIRouter:
    """The endpoints, and where they keep answers."""
    router = APIRouter()
    tokenizer = service.llm.tokenizer
    config = service.llm.engine.config

    @router.post("/v1/responses")
    async def create(body: ResponseRequest, request: Request) -> Response:
        """Answers an input, or goes on from an earlier answer."""
        service.check_model(body.model)
        answer_grammar = text_grammar(body.text)
        body.sampling_params(grammar=answer_grammar)  # a wrong field is told before anything is done
        settings = body.settings() | {"system_fingerprint": service.llm.fingerprint}
        tenant = request.state.tenant.name
        previous = body.previous_response_id
        turns = [] if previous is None else store.chain(tenant, previous, "previous_response_id")

        def lay_out(items: list[Item]) -> PreparedChat:
            # Instructions are of this request only, and come first.
            system = [{"role": "system", "content": body.instructions}] if body.instructions else []
            tools, tool_choice = chat_tools(body.tools, body.tool_choice)
            return prepare_tools(
                tokenizer,
                system + messages_of(items),
                tools=tools,
                tool_choice=tool_choice,
                parallel_tool_calls=body.parallel_tool_calls,
                answer=answer_grammar,
            )

        def fits(items: list[Item]) -> bool:
            context = service.llm.max_model_len
            room = min(body.max_new_tokens, context // 2)  # for the answer
            return len(lay_out(items).prompt_token_ids) + room <= context

        def prepare() -> tuple[list[Item], PreparedChat]:
            given = input_items(body.input)
            items = [item for turn in turns for item in turn.items] + given
            return given, lay_out(without_the_oldest(items, fits) if body.truncation == "auto" else items)

        given, chat = await service.tokenized(request, lambda: in_this_apis_words(prepare))
        if chat.grammar is not None:
            await service.compile(chat.grammar, "text.format")
        params = body.sampling_params(grammar=chat.grammar)

        def keep(response: dict[str, Any]) -> None:
            if response["store"]:
                store.add(tenant, Turn(response, given))

        block_size = config.block_size if config.enable_prefix_caching else 0
        response = ResponseObject(settings, Tally(len(chat.prompt_token_ids)), block_size)
        answer = ResponseAnswer(response, tokenizer, keep, may_call=chat.may_call)
        events = service.generate(request, [chat.prompt_token_ids], params)
        return await respond(request, events, answer, stream=body.stream, server_sent=named_events)

    @router.get("/v1/responses/{response_id}")
    async def retrieve(response_id: str, request: Request, stream: bool = False) -> dict[str, Any]:
        """An answer that was kept."""
        if stream:
            raise InvalidRequestError("stream=true is not supported for a response that is complete.", "stream")
        return store.get(request.state.tenant.name, response_id).response

    @router.delete("/v1/responses/{response_id}")
    async def delete(response_id: str, request: Request) -> dict[str, Any]:
        """Forgets an answer."""
        store.delete(request.state.tenant.name, response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    @router.get("/v1/responses/{response_id}/input_items")
    async def list_input_items(
        response_id: str,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> dict[str, Any]:
        """What an answer was given: the items of the turns before, and its own."""
        *before, last = store.chain(request.state.tenant.name, response_id, "response_id")
        items = [*(item for turn in before for item in turn.items), *last.input]
        return _page(items if order == "asc" else items[::-1], limit, after)

    return router


def _page(items: list[Item], limit: int, after: str | None) -> dict[str, Any]:
    begin = 0
    if after is not None:
        begin = next((index + 1 for index, item in enumerate(items) if item["id"] == after), -1)
        if begin < 0:
            raise InvalidRequestError(f"after={after!r:.100} is no item of this response.", "after")
    page = items[begin : begin + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": begin + limit < len(items),
    }
