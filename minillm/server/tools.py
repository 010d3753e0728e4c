"""Conversations with tools, as they come in over HTTP: checked like OpenAI checks them, and ready for the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minillm.errors import InvalidRequestError
from minillm.structured import Grammar
from minillm.structured.tool_calls import PreparedChat, prepare_chat
from minillm.text import Tokenizer


def prepare_tools(
    tokenizer: Tokenizer,
    messages: Sequence[dict[str, Any]],
    *,
    tools: object = None,
    tool_choice: object = None,
    parallel_tool_calls: bool | None = None,
    answer: Grammar | None = None,
    add_generation_prompt: bool = True,
) -> PreparedChat:
    """Token ids of a conversation, and what may follow it.

    Args:
        tokenizer: of the model.
        messages: in the form of /v1/chat/completions.
        tools, tool_choice, parallel_tool_calls: likewise. Parallel calls that nobody asked for are made where the
            model is free to call, but not where it has to.
        answer: what an output without calls has to follow (`response_format`).
        add_generation_prompt: end with the beginning of the assistant's answer.

    Raises:
        InvalidRequestError: naming what can't be taken, such as tools[0].function.name.
    """
    check_tool_messages(messages)
    return prepare_chat(
        tokenizer,
        chat_messages(messages),
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=parallel_tool_calls,
        answer=answer,
        add_generation_prompt=add_generation_prompt,
    )


def chat_messages(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as small models' templates know them: no `developer` (OpenAI's newer `system`), no null content, no
    refusals as a kind of their own."""
    return [
        message
        | {
            "role": "system" if message.get("role") == "developer" else message.get("role"),
            "content": _content(message.get("content")),
        }
        for message in messages
    ]


def _content(content: Any) -> Any:
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    return [
        {"type": "text", "text": part.get("refusal")}
        if isinstance(part, dict) and part.get("type") == "refusal"
        else part
        for part in content
    ]


def check_tool_messages(messages: Sequence[dict[str, Any]]) -> None:
    """Sees to it that calls and results belong together, as OpenAI does.

    Raises:
        InvalidRequestError: for a call of a wrong shape, a result without its call, or a call whose result isn't
            among the messages that follow it.
    """
    waiting: dict[str, str] = {}  # ids of calls without a result yet, and where they are
    known: set[str] = set()
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.get("function_call") is not None:
            raise _bad(f"{where}.function_call", "is not supported by this server; use tool_calls")
        if message.get("role") == "tool":
            call_id = message.get("tool_call_id")
            if not isinstance(call_id, str):
                raise _bad(f"{where}.tool_call_id", "is missing; it has to be the id of the call that this answers")
            if call_id not in known:
                raise _bad(
                    f"{where}.tool_call_id",
                    f"is {call_id!r:.80}, which is the id of no call in the assistant's message before it",
                )
            waiting.pop(call_id, None)
            continue
        _check_answered(waiting)
        known = set(_call_ids(message, where))
        waiting = dict.fromkeys(known, f"{where}.tool_calls")
    _check_answered(waiting)


def _check_answered(waiting: dict[str, str]) -> None:
    for call_id, where in waiting.items():
        raise _bad(where, f"has the call {call_id!r:.80}, but no message with the role 'tool' follows that answers it")


def _call_ids(message: dict[str, Any], where: str) -> list[str]:
    calls = message.get("tool_calls")
    if calls is None or message.get("role") != "assistant":
        return []
    if not isinstance(calls, list):
        raise _bad(f"{where}.tool_calls", "must be a list")
    return [_call_id(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)]


def _call_id(call: Any, where: str) -> str:
    match call:
        case {"id": str() as call_id, "function": {"name": str(), "arguments": str() | dict()}}:
            if call.get("type", "function") == "function":
                return call_id
    raise _bad(where, 'must be {"id": …, "type": "function", "function": {"name": …, "arguments": "…"}}')


def _bad(where: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{where} {what}.", where)
