"""Chat templates: Jinja programs that ship with models and write a conversation as the text they know.

Control tokens such as <|im_end|> are only text until the tokenizer sees them, so a message that contains
them could pose as the system or end its own turn. Here only the template can write control tokens:

1. every control token's text inside the messages is broken up by a sentinel, a character that occurs
   nowhere else;
2. the template renders them;
3. the tokenizer cuts the result at the control tokens, which are now all the template's own, and then
   takes the sentinel out of the text between them.

Since each piece of text is encoded whole, a message's characters join with the template's into the same
tokens as they would without any of this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from minillm.errors import InvalidRequestError, UnsupportedModelError
from minillm.text.tool_messages import CALL_BEGIN, plain_chat, with_arguments_as_objects

Message = Mapping[str, Any]
ROLES = ("system", "developer", "user", "assistant", "tool")
_MAX_DEPTH = 100


@dataclass(frozen=True)
class RenderedChat:
    """A conversation as text. In it, `sentinel` breaks up what looks like a control token and isn't one."""

    text: str
    sentinel: str  # "" if there was nothing to break up


class ChatTemplate:
    """One model's template, in Jinja's sandbox.

    The sandbox keeps a template from Python's internals, from changing its inputs and from ranges beyond
    100,000. It does not bound time or memory: nested loops can run for hours and "x" * 10**9 is allowed. A
    template is part of the model's files and trusted as they are; the messages are not, and no text of
    theirs runs as one. One thing is left to the template's author: if it glues a control token together
    from parts of a message ('<|' + message.name + '|>'), nothing here can tell.
    """

    def __init__(self, source: str, *, variables: Mapping[str, str], special_tokens: Iterable[str]) -> None:
        """Stores the template; it is compiled at the first use.

        Args:
            source: Jinja source.
            variables: what the template may use besides the conversation: bos_token, eos_token, ….
            special_tokens: the strings that only the template may write.
        """
        self.source = source
        self._variables = dict(variables)
        self._special_tokens = tuple(special_tokens)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
    ) -> RenderedChat:
        """Renders a conversation. See `Tokenizer.apply_chat_template` for arguments and errors."""
        self._refuse_unknown(variables)
        given = dict(variables) | ({"tools": _check_tools(tools)} if tools else {})
        # Arguments are read before anything is broken up: in a string of JSON, \u003c would hide a control token.
        inputs: dict[str, Any] = {"messages": with_arguments_as_objects(check_messages(messages))}
        inputs |= {name: plain_data(value, name, param=name) for name, value in given.items()}
        inputs, sentinel = self._break_special_tokens(inputs)
        if not self.knows_tools:
            inputs["messages"] = plain_chat(inputs["messages"], inputs.pop("tools", None))
        inputs = self._variables | {"tools": None, "add_generation_prompt": add_generation_prompt} | inputs
        template, _ = self._compiled
        try:
            return RenderedChat(template.render(inputs), sentinel)
        except TemplateError as error:
            raise InvalidRequestError(f"The model's chat template refuses this: {error}", "messages") from error
        except Exception as error:  # a template is a program and can fail in every way that a program can
            raise InvalidRequestError(
                f"The model's chat template failed on these messages ({type(error).__name__}: {error}). "
                "It may not know a role or a kind of content that they use.",
                "messages",
            ) from error

    @property
    def knows_tools(self) -> bool:
        """Whether the template writes tools, calls and results, in the format that minillm reads.

        Other formats (Llama 3.1's, Mistral's) don't count: their models are told about ours instead.
        """
        return "tools" in self._compiled[1] and CALL_BEGIN in self.source

    @cached_property
    def _compiled(self) -> tuple[Template, set[str]]:
        """The template, and the names of the variables that it uses."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
        try:
            template = environment.from_string(self.source)
            return template, meta.find_undeclared_variables(environment.parse(self.source))
        except TemplateSyntaxError as error:
            raise UnsupportedModelError(
                f"The model's chat template isn't valid Jinja (line {error.lineno}: {error.message}). "
                "Use generate() with a prompt that you write yourself."
            ) from error

    def _refuse_unknown(self, given: Mapping[str, Any]) -> None:
        """A variable that the template never looks at would be ignored without a word."""
        _, used = self._compiled
        for name in given:
            if name not in used:
                raise InvalidRequestError(
                    f"This model's chat template has no use for {name!r}. Leave it out, or take a model "
                    "whose template knows it.",
                    name,
                )

    def _break_special_tokens(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Puts the sentinel behind the first character of every special token's text in the inputs."""
        strings = list(_strings(inputs))
        present = [token for token in self._special_tokens if any(token in string for string in strings)]
        if not present:
            return inputs, ""
        taken = set(self.source).union(*strings)
        # From the private use area of plane 15, 65,534 characters that stand for nothing.
        sentinel = next((char for char in map(chr, range(0xF0000, 0xFFFFE)) if char not in taken), None)
        if sentinel is None or min(map(len, present)) < 2:
            raise InvalidRequestError(
                f"The messages contain {min(present, key=len)!r}, a control token of this model, and here it "
                "can't be told from the template's own. Take it out.",
                "messages",
            )
        # A lookahead, so that occurrences that overlap are all found.
        occurrence = re.compile(f"(?={'|'.join(map(re.escape, present))})(.)", re.DOTALL)
        return _map_strings(inputs, lambda text: occurrence.sub(rf"\1{sentinel}", text)), sentinel


def check_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as a template gets them: plain data, text parts joined, keys without a value left out.

    Raises:
        InvalidRequestError: for a wrong shape; it names the message and what was expected.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise _bad("messages must be a list of at least one message, such as {'role': 'user', 'content': 'Hello'}.")
    return [_check_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _check_message(message: Message, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise _bad(f"{where} must be a dict with 'role' and 'content', not {type(message).__name__}.")
    role = message.get("role")
    if role not in ROLES:
        problem = "has no 'role'" if role is None else f"has the role {role!r}"
        raise _bad(f"{where} {problem}; the roles are {', '.join(ROLES)}.")
    # Templates ask whether a key is there, and write None where it is and shouldn't be.
    checked = {key: value for key, value in message.items() if value is not None}
    if "content" in checked:
        checked["content"] = _text_content(checked["content"], f"{where}['content']")
    return dict(plain_data(checked, where, param="messages"))


def _text_content(content: object, where: str) -> str:
    """Content as one string. A list of parts (OpenAI's form) is joined; the parts have to be text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        raise _bad(f"{where} must be text, a list of text parts or None, not {type(content).__name__}.")
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind != "text":
            what = f"is of the type {kind!r}" if isinstance(part, Mapping) else f"is a {type(part).__name__}"
            raise _bad(f"{where}[{index}] {what}; only {{'type': 'text', 'text': ...}} is supported.")
        if not isinstance(part.get("text"), str):
            raise _bad(f"{where}[{index}] has no 'text' that is a string.")
    return "".join(part["text"] for part in content)


def _check_tools(tools: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if not isinstance(tools, (list, tuple)) or not all(isinstance(tool, Mapping) for tool in tools):
        raise InvalidRequestError("tools must be a list of dicts, each the JSON schema of a function.", "tools")
    return list(tools)


def plain_data(value: object, where: str, *, param: str, depth: int = 0) -> Any:
    """A copy made of JSON's types only: methods of other objects would be open to the template.

    Raises:
        InvalidRequestError: for any other type, and for data nested more than 100 deep.
    """
    if depth > _MAX_DEPTH:
        raise InvalidRequestError(f"{param} is nested more than {_MAX_DEPTH} deep.", param)
    if value is None or type(value) in (bool, int, float, str):
        return value
    # Subclasses, such as enums, have methods of their own and their own ideas of str().
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {
            str.__str__(key): plain_data(item, f"{where}[{key!r}]", param=param, depth=depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain_data(item, f"{where}[{index}]", param=param, depth=depth + 1) for index, item in enumerate(value)]
    what = "a dict with keys that aren't strings" if isinstance(value, Mapping) else f"a {type(value).__name__}"
    raise InvalidRequestError(f"{where} is {what}; expected what JSON can hold.", param)


def _bad(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, "messages")


def _strings(value: Any) -> Iterator[str]:
    """Every string in plain data, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _map_strings(value: Any, function: Callable[[str], str]) -> Any:
    """Plain data with a function applied to every string, keys included."""
    if isinstance(value, str):
        return function(value)
    if isinstance(value, dict):
        return {function(key): _map_strings(item, function) for key, item in value.items()}
    return [_map_strings(item, function) for item in value] if isinstance(value, list) else value


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own `tojson` escapes HTML's characters, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


class _GenerationTag(Extension):
    """{% generation %}…{% endgeneration %} marks the assistant's text for training; it changes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=lineno)
