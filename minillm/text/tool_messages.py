"""Tools in a conversation: how definitions, calls and results are written for a model.

The format is that of Hermes and Qwen: a call is `<tool_call>`, a line of JSON with "name" and "arguments",
`</tool_call>`; a result stands in `<tool_response>`. Where a model's chat template writes it, the template is used.
For all others `plain_chat` says the same in words and turns that every template knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from minillm.errors import InvalidRequestError

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
_AFTER_RESULTS = "\n\nAnswer the question with this."
"""A model that was never trained on tools would otherwise go on in the form of what it sees."""


def with_arguments_as_objects(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose tool calls have their arguments as objects, which is what templates write as JSON.

    OpenAI's API sends them as strings of JSON. A string that isn't JSON, such as that of a call which was cut off,
    stays a string. A turn that consists of calls gets an empty content, since templates look at it.

    Raises:
        InvalidRequestError: for a call of a wrong shape, naming it.
    """
    result = [dict(message) for message in messages]
    for index, message in enumerate(result):
        where = f"messages[{index}]['tool_calls']"
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise InvalidRequestError(f"{where} must be a list, not {type(calls).__name__}.", "messages")
        if calls:
            message.setdefault("content", "")
            message["tool_calls"] = [_with_object(call, f"{where}[{place}]") for place, call in enumerate(calls)]
    return result


def _with_object(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequestError(f"{where} must be {{'function': {{'name': ..., 'arguments': ...}}}}.", "messages")
    arguments = function.get("arguments")
    parsed = function | {"arguments": _parsed(arguments or "{}") if isinstance(arguments, str | None) else arguments}
    return {**call, "function": parsed} if "function" in call else parsed


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def plain_chat(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The same conversation for a template that knows neither tools nor the role `tool`.

    The tools' definitions become a part of the system's text, calls a part of the assistant's, and results that
    follow each other one turn of the user's.
    """
    plain: list[dict[str, Any]] = []
    for is_result, turns in groupby(messages, lambda message: message["role"] == "tool"):
        group = list(turns)
        plain += [_results_turn(group)] if is_result else map(_with_calls_as_text, group)
    return _with_tools(plain, tools) if tools else plain


def _results_turn(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    texts = [f"{RESPONSE_BEGIN}\n{result.get('content', '')}\n{RESPONSE_END}" for result in results]
    return {"role": "user", "content": "\n".join(texts) + _AFTER_RESULTS}


def _with_tools(messages: Sequence[dict[str, Any]], tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Presents the tools in the first turn, after what the system says already."""
    text = _INSTRUCTIONS.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    first, *rest = messages
    if first["role"] == "system":
        return [{**first, "content": f"{first.get('content', '')}\n\n{text}"}, *rest]
    return [{"role": "system", "content": text}, *messages]


def _with_calls_as_text(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return dict(message)
    parts = [message["content"]] if message["content"] else []
    parts += [f"{CALL_BEGIN}\n{_call_as_json(call)}\n{CALL_END}" for call in calls]
    return {key: value for key, value in message.items() if key != "tool_calls"} | {"content": "\n".join(parts)}


def _call_as_json(call: Mapping[str, Any]) -> str:
    function = call.get("function", call)
    # In the order in which the grammar has the model write it, whatever the order in the message.
    return json.dumps({"name": function["name"], "arguments": function["arguments"]}, ensure_ascii=False)
