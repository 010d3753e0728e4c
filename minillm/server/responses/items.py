"""The items of /v1/responses: checked, in one form, and as the messages that a chat template knows."""

from __future__ import annotations

import reprlib
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any

from minillm.errors import InvalidRequestError
from minillm.server.protocol import check_can_be_told_again

Item = dict[str, Any]
_ROLES = ("user", "assistant", "system", "developer")
_MAX_ID_LENGTH = 128


def new_id(prefix: str) -> str:
    """An id as OpenAI's look: resp_…, msg_…, fc_…."""
    return f"{prefix}_{uuid.uuid4().hex}"


def input_items(given: Any) -> list[Item]:
    """A request's `input` as items of one form, each with an id, its content a list of parts.

    Reasoning items are left out: whoever sends them got them from another model, and this one's template has no place
    for them.

    Raises:
        InvalidRequestError: unless it's a text or a list of items, for an item that isn't known, or lacks something.
    """
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise _refused(f"input must be a text or a list of items; got {reprlib.repr(given)}.")
    checked = [_input_item(item, f"input[{index}]") for index, item in enumerate(given)]
    items = [item for item in checked if item is not None]
    if not items:
        raise _refused("input has nothing to answer. Send a text, or a list of items with a message.")
    check_can_be_told_again(items, "input")
    return items


def _input_item(item: Any, where: str) -> Item | None:
    if not isinstance(item, dict):
        raise _refused(f"{where} must be an object, such as {{'role': 'user', 'content': …}}; got {item!r:.80}.")
    match item.get("type") or "message":
        case "message":
            return _message(item, where)
        case "function_call":
            strings = {name: _string(item, name, where) for name in ("call_id", "name", "arguments")}
            return {"id": _id(item, "fc"), "type": "function_call", "status": "completed", **strings}
        case "function_call_output":
            output = item.get("output")
            return {
                "id": _id(item, "fco"),
                "type": "function_call_output",
                "status": "completed",
                "call_id": _string(item, "call_id", where),
                "output": output if isinstance(output, str) else _parts(output, f"{where}.output", "input_text"),
            }
        case "reasoning":
            return None
        case kind:
            raise _refused(
                f"{where} is of the type {reprlib.repr(kind)}, which this server doesn't have; it has message, "
                "function_call, function_call_output and reasoning."
            )


def _message(item: Item, where: str) -> Item:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise _refused(f"{where} has the role {reprlib.repr(role)}; the roles are {', '.join(_ROLES)}.")
    kind = "output_text" if role == "assistant" else "input_text"
    parts = [{"type": kind, "text": content}] if isinstance(content, str) else _parts(content, f"{where}.content", kind)
    if role == "assistant":
        parts = [part | {"annotations": []} for part in parts]
    return {"id": _id(item, "msg"), "type": "message", "role": role, "status": "completed", "content": parts}


def _parts(content: object, where: str, kind: str) -> list[dict[str, Any]]:
    """Parts of text, all of one kind: clients mix them up."""
    if not isinstance(content, list):
        raise _refused(f"{where} must be a text or a list of parts, not {type(content).__name__}.")
    return [{"type": kind, "text": _part_text(part, f"{where}[{index}]")} for index, part in enumerate(content)]


def _part_text(part: object, where: str) -> str:
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": str() as text}:
            return text
        case {"type": "refusal", "refusal": str() as text}:
            return text
        case {"type": kind} if kind not in ("input_text", "output_text", "text", "refusal"):
            raise _refused(f"{where} is of the type {reprlib.repr(kind)}; this server reads text only (input_text).")
    raise _refused(f"{where} must be {{'type': 'input_text', 'text': …}}; got {reprlib.repr(part)}.")


def _string(item: Item, name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or (not value and name != "arguments"):
        raise _refused(f"{where} needs {name!r}, a string; got {reprlib.repr(value)}.")
    return value


def _id(item: Item, prefix: str) -> str:
    """The item's own id, if it has one that can be one."""
    given = item.get("id")
    return given if isinstance(given, str) and 0 < len(given) <= _MAX_ID_LENGTH else new_id(prefix)


def _refused(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, "input")


def without_the_oldest(items: list[Item], fits: Callable[[list[Item]], bool]) -> list[Item]:
    """Leaves out as few turns as need be, the oldest first; system messages stay, and so does the last turn.

    Args:
        items: of a conversation. A turn begins with a message of the user.
        fits: whether so many of them fit.
    """
    if fits(items):
        return items
    begins = [index for index, item in enumerate(items) if index and item.get("role") == "user"] or [0]
    first = bisect_left(range(len(begins) - 1), True, key=lambda turn: fits(_from(items, begins[turn])))
    return _from(items, begins[first])


def _from(items: list[Item], begin: int) -> list[Item]:
    kept = [item for item in items[:begin] if item.get("role") in ("system", "developer")] + items[begin:]
    calls = {item["call_id"] for item in kept if item["type"] == "function_call"}
    return [item for item in kept if item["type"] != "function_call_output" or item["call_id"] in calls]


def messages_of(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Items as chat messages: calls that follow each other belong to one message of the assistant, and what they
    return comes right after it, wherever it stood.

    Raises:
        InvalidRequestError: for a call without an output, or an output without a call.
    """
    blocks: list[list[dict[str, Any]]] = []  # a message, and the outputs of its calls
    waiting: dict[str, list[dict[str, Any]]] = {}  # the blocks of the calls that have no output yet
    for item in items:
        match item["type"]:
            case "message":
                blocks.append([{"role": item["role"], "content": text_of(item["content"])}])
            case "function_call":
                if not blocks or blocks[-1][0]["role"] != "assistant" or len(blocks[-1]) > 1:
                    blocks.append([{"role": "assistant", "content": ""}])
                blocks[-1][0].setdefault("tool_calls", []).append(_chat_call(item))
                if item["call_id"] in waiting:
                    raise _refused(f"Two calls without an output have the call_id {item['call_id']!r:.80}.")
                waiting[item["call_id"]] = blocks[-1]
            case "function_call_output":
                call_id, output = item["call_id"], item["output"]
                if call_id not in waiting:
                    raise _refused(f"No function_call with the call_id {call_id!r:.80} comes before its output.")
                content = output if isinstance(output, str) else text_of(output)
                waiting.pop(call_id).append({"role": "tool", "tool_call_id": call_id, "content": content})
    for call_id in waiting:
        raise _refused(f"There is no function_call_output for the function_call with the call_id {call_id!r:.80}.")
    return [message for block in blocks for message in block]


def _chat_call(item: Item) -> dict[str, Any]:
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}


def text_of(parts: Iterable[dict[str, Any]]) -> str:
    """The text of all parts."""
    return "".join(part["text"] for part in parts)
