"""Tools in a conversation: how definitions, calls and results are written for a model.

The format is that of Hermes and Qwen: a call is `<tool_call>`, a line of JSON with "name" and "arguments",
`</tool_call>`; a result stands in `<tool_response>`. Where a model's chat template writes it, the template is used.
For all others `plain_chat` says the same in words and turns that every template knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

CALL_BEGIN, CALL_END = "<tool_call>", "</tool_call>"
RESPONSE_BEGIN, RESPONSE_END = "<tool_response>", "</tool_response>"
MARKERS = (CALL_BEGIN, CALL_END, RESPONSE_BEGIN, RESPONSE_END)
"""Models that were trained on them have a token for each."""

_INSTRUCTIONS = f"""\
# Tools

You can call functions. These are the ones that there are, each as JSON with a schema of its arguments:
<tools>
{{tools}}
</tools>

To call one, write its name and its arguments like this, as JSON between the two marks:
{CALL_BEGIN}
{{{{"name": <name>, "arguments": <arguments>}}}}
{CALL_END}
What it returns comes back between {RESPONSE_BEGIN} and {RESPONSE_END}. Use it for your answer."""


def with_arguments_as_objects(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose tool calls have their arguments as objects, which is what templates write as JSON.

    OpenAI's API sends them as strings of JSON. A string that isn't JSON, such as that of a call which was cut off,
    stays a string. A turn that consists of calls gets an empty content, since templates look at it.
    """
    return [dict(message) if "tool_calls" not in message else _with_objects(message) for message in messages]


def _with_objects(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = message["tool_calls"]
    if not isinstance(calls, list):
        return dict(message)
    return {"content": "", **message, "tool_calls": [_call_with_object(call) for call in calls]}


def _call_with_object(call: Any) -> Any:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _call_with_object(call["function"])}
    arguments = call.get("arguments")
    return {**call, "arguments": _parsed(arguments)} if isinstance(arguments, str) else call


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments


def plain_chat(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The same conversation for a template that knows neither tools nor the role `tool`.

    The tools' definitions become a part of the system's text, calls a part of the assistant's, and results that
    follow each other one turn of the user's.
    """
    plain: list[dict[str, Any]] = []
    in_results = False
    for message in messages:
        is_result = message["role"] == "tool"
        if is_result:
            text = f"{RESPONSE_BEGIN}\n{message.get('content', '')}\n{RESPONSE_END}"
            if in_results:
                plain[-1]["content"] += f"\n{text}"
            else:
                plain.append({"role": "user", "content": text})
        else:
            plain.append(_with_calls_as_text(message))
        in_results = is_result
    return _with_tools(plain, tools) if tools else plain


def _with_tools(messages: Sequence[dict[str, Any]], tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Presents the tools in the first turn, after what the system says already."""
    text = _INSTRUCTIONS.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    first, *rest = messages
    if first["role"] == "system":
        return [{**first, "content": f"{first.get('content', '')}\n\n{text}"}, *rest]
    return [{"role": "system", "content": text}, *messages]


def _with_calls_as_text(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return dict(message)
    parts = [message["content"]] if message.get("content") else []
    parts += [f"{CALL_BEGIN}\n{_call_as_json(call)}\n{CALL_END}" for call in calls]
    return {key: value for key, value in message.items() if key != "tool_calls"} | {"content": "\n".join(parts)}


def _call_as_json(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, dict) else {}
    # In the order in which the grammar has the model write it, whatever the order in the message.
    written = {"name": function.get("name"), "arguments": function.get("arguments", {})}
    return json.dumps(written, ensure_ascii=False)
