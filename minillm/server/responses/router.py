"""The endpoints: POST /v1/responses, GET and DELETE /v1/responses/{id}, GET /v1/responses/{id}/input_items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from minillm.errors import InvalidRequestError
from minillm.server import schemas
from minillm.server.generation import Service, named_events, respond
from minillm.server.protocol import Tally
from minillm.server.responses.events import ResponseAnswer, ResponseObject
from minillm.server.responses.items import Item, input_items, messages_of, without_the_oldest
from minillm.server.responses.request import ResponseRequest, text_grammar
from minillm.server.responses.store import ResponseStore, Turn
from minillm.server.responses.tools import chat_tools, in_this_apis_words
from minillm.server.schemas import answers
from minillm.server.tools import prepare_tools
from minillm.structured import Grammar
from minillm.structured.tool_calls import PreparedChat

_STREAM = "Each has its `type` for a name; the last one holds the whole response."


def responses_router(service: Service, store: ResponseStore) -> APIRouter:
    """The endpoints, and where they keep answers."""
    router = APIRouter()
    config = service.llm.engine.config

    @router.post("/v1/responses", responses=answers(schemas.ResponseObject, stream=_STREAM))
    async def create(body: ResponseRequest, request: Request) -> Response:
        """Answers an input, or goes on from an earlier answer."""
        fingerprint = service.fingerprint_of(body.model)  # an unknown model is told first
        answer_grammar = text_grammar(body.text)
        body.sampling_params(grammar=answer_grammar)  # a wrong field is told before anything is done
        settings = body.settings() | {"system_fingerprint": fingerprint}
        tenant, previous = request.state.tenant.name, body.previous_response_id
        turns = [] if previous is None else store.chain(tenant, previous, "previous_response_id")
        given, chat = await service.tokenized(
            request, lambda: in_this_apis_words(lambda: _prepare(service, body, turns, answer_grammar))
        )
        if chat.grammar is not None:
            await service.compile(chat.grammar, "text.format")
        params = body.sampling_params(grammar=chat.grammar)

        def keep(response: dict[str, Any]) -> None:
            if response["store"]:
                store.add(tenant, Turn(response, given))

        block_size = config.block_size if config.enable_prefix_caching else 0
        response = ResponseObject(settings, Tally(len(chat.prompt_token_ids)), block_size)
        answer = ResponseAnswer(response, service.llm.tokenizer, keep, chat.new_parser())
        events = service.generate(request, [chat.prompt_token_ids], params, body.model)
        return await respond(request, events, answer, stream=body.stream, server_sent=named_events)

    @router.get("/v1/responses/{response_id}", responses=answers(schemas.ResponseObject))
    async def retrieve(response_id: str, request: Request, stream: bool = False) -> dict[str, Any]:
        """An answer that was kept."""
        if stream:
            raise InvalidRequestError("stream=true is not supported for a response that is complete.", "stream")
        return store.get(request.state.tenant.name, response_id).response

    @router.delete("/v1/responses/{response_id}", responses=answers(schemas.DeletedResponse))
    async def delete(response_id: str, request: Request) -> dict[str, Any]:
        """Forgets an answer."""
        store.delete(request.state.tenant.name, response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    @router.get("/v1/responses/{response_id}/input_items", responses=answers(schemas.ItemList))
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


def _prepare(
    service: Service, body: ResponseRequest, turns: Sequence[Turn], answer: Grammar | None
) -> tuple[list[Item], PreparedChat]:
    """The request's own items, and the conversation that they belong to, ready for the engine."""
    tools, tool_choice = chat_tools(body.tools, body.tool_choice)
    # Instructions are of this request only, and come first.
    system = [{"role": "system", "content": body.instructions}] if body.instructions else []

    def lay_out(items: list[Item]) -> PreparedChat:
        return prepare_tools(
            service.llm.tokenizer,
            system + messages_of(items),
            tools=tools,
            tool_choice=tool_choice,
            parallel_tool_calls=body.parallel_tool_calls,
            answer=answer,
        )

    def fits(items: list[Item]) -> bool:
        context = service.llm.max_model_len
        room = min(body.max_new_tokens, context // 2)  # for the answer
        return len(lay_out(items).prompt_token_ids) + room <= context

    given = input_items(body.input)
    items = [item for turn in turns for item in turn.items] + given
    return given, lay_out(without_the_oldest(items, fits) if body.truncation == "auto" else items)


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
