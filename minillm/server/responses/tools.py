"""Tools of /v1/responses, whose definitions are flatter than those of /v1/chat/completions."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

from minillm.errors import InvalidRequestError

T = TypeVar("T")
_NESTED = re.compile(r"^(tools\[\d+\])\.function")


def chat_tools(tools: Any, choice: Any) -> tuple[Any, Any]:
    """`tools` and `tool_choice` as /v1/chat/completions has them.

    Of allowed tools, the others are left out: that the model can't see them makes no difference to what it may call.

    Raises:
        InvalidRequestError: for a choice that isn't known.
    """
    nested = [_chat_tool(tool) for tool in tools] if isinstance(tools, list) else tools
    match choice:
        case None | str():
            return nested, choice
        case {"type": "function", "name": str() as name}:
            return nested, {"type": "function", "function": {"name": name}}
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list() as allowed}:
            return _only(nested, allowed), mode
    raise InvalidRequestError(
        'tool_choice has to be "none", "auto", "required", {"type": "function", "name": …} or {"type": '
        f'"allowed_tools", "mode": …, "tools": […]}}; got {reprlib.repr(choice)}.',
        "tool_choice",
    )


def _chat_tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool  # refused by name, with all that isn't a function
    fields = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {field: tool.get(field) for field in fields}}


def _only(tools: Any, allowed: list[Any]) -> list[Any]:
    functions = [tool for tool in tools or [] if isinstance(tool, dict) and "function" in tool]
    known = [tool["function"]["name"] for tool in functions]
    names = [each.get("name") if isinstance(each, dict) else each for each in allowed]
    if unknown := [name for name in names if name not in known]:
        raise InvalidRequestError(
            f"tool_choice allows {reprlib.repr(unknown[0])}; the functions are {', '.join(map(str, known))}.",
            "tool_choice",
        )
    return [tool for tool in functions if tool["function"]["name"] in names]


def in_this_apis_words(prepare: Callable[[], T]) -> T:
    """Calls what reads the form of /v1/chat/completions; errors name the fields as they are called here.

    Raises:
        InvalidRequestError: what it raises.
    """
    try:
        return prepare()
    except InvalidRequestError as error:
        param = error.param and _NESTED.sub(r"\1", error.param)
        param = "input" if param and param.startswith("messages") else param
        raise InvalidRequestError(_NESTED.sub(r"\1", str(error)), param) from error
