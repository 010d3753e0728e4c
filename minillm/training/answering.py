"""Putting cases to a model: our own engine in this process, or anything that speaks OpenAI's API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from minillm.engine import LLM, RequestOutput
from minillm.engine.engine import Event
from minillm.errors import InvalidRequestError, MinillmError
from minillm.sampling import SamplingParams
from minillm.structured import Grammar
from minillm.structured.tool_calls import PreparedChat, prepare_chat, read_tool_calls
from minillm.training.example import Case
from minillm.training.scoring import Answer, parse_call

if TYPE_CHECKING:
    import openai

OnAnswer = Callable[[], None]


def answer_with_engine(llm: LLM, cases: Sequence[Case], on_answer: OnAnswer = lambda: None) -> list[Answer]:
    """Answers all cases greedily, as many in one batch as the engine takes.

    A case that the engine refuses, such as one that's longer than the context, gets an answer with an `error`.

    Args:
        llm: the model.
        cases: what to ask.
        on_answer: is called as often as there are cases, whenever one is done.
    """
    answers: dict[int, Answer] = {}

    def begin(index: int, case: Case) -> str:
        chat, params = _prepared(llm, case)

        def deliver(event: Event) -> None:
            if isinstance(event, RequestOutput):
                answers[index] = _read_output(event, chat)
            elif isinstance(event, MinillmError):
                answers[index] = _no_answer(event)
            else:
                return
            on_answer()

        return llm.engine.add_request(chat.prompt_token_ids, params, deliver)

    begun: list[str] = []
    try:
        for index, case in enumerate(cases):
            try:
                begun.append(begin(index, case))
            except InvalidRequestError as error:
                answers[index] = _no_answer(error)
                on_answer()
        while len(answers) < len(cases):
            llm.engine.step()
    finally:
        for request_id in begun:
            llm.engine.abort(request_id)
    return [answers[index] for index in range(len(cases))]


def _prepared(llm: LLM, case: Case) -> tuple[PreparedChat, SamplingParams]:
    answer = Grammar.json_schema(case.schema) if case.schema is not None else None
    chat = prepare_chat(llm.tokenizer, case.messages, tools=case.tools, answer=answer)
    return chat, SamplingParams(temperature=0, max_tokens=case.max_tokens, grammar=chat.grammar)


def _read_output(output: RequestOutput, chat: PreparedChat) -> Answer:
    if not chat.may_call:
        return Answer(output.text, (), output.finish_reason)
    text, calls = read_tool_calls(output.text, chat.new_parser())
    return Answer(text, tuple(parse_call(call.name, call.arguments) for call in calls), output.finish_reason)


def _no_answer(error: Exception) -> Answer:
    return Answer("", (), "error", str(error))


def answer_with_api(
    client: openai.OpenAI, model: str, cases: Sequence[Case], on_answer: OnAnswer = lambda: None, concurrency: int = 8
) -> list[Answer]:
    """Answers all cases through /v1/chat/completions, at temperature 0.

    Args:
        client: of the endpoint.
        model: its name there.
        cases: what to ask.
        on_answer: as in `answer_with_engine`.
        concurrency: how many requests are on their way at once.

    Raises:
        MinillmError: if the endpoint can't be reached, or refuses the key or the model. A request that it finds wrong
            (status 400 or 422) only makes an answer with an `error`.
    """
    import openai

    def answer(case: Case) -> Answer:
        try:
            choice = client.chat.completions.create(model=model, temperature=0, **_request(case)).choices[0]
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return _no_answer(error)
        finally:
            on_answer()
        called = choice.message.tool_calls or ()
        calls = tuple(parse_call(call.function.name, call.function.arguments) for call in called)
        return Answer(choice.message.content or "", calls, choice.finish_reason)

    with ThreadPoolExecutor(concurrency) as pool:
        try:
            return list(pool.map(answer, cases))
        except openai.OpenAIError as error:
            pool.shutdown(wait=False, cancel_futures=True)
            raise MinillmError(
                f"{model!r} at {client.base_url} didn't answer ({type(error).__name__}: {error}). Check the address, "
                "the model's name and OPENAI_API_KEY."
            ) from error


def _request(case: Case) -> dict[str, Any]:
    request: dict[str, Any] = {"messages": list(case.messages), "max_tokens": case.max_tokens}
    if case.tools:
        request |= {"tools": list(case.tools), "tool_choice": "auto"}
    if case.schema is not None:
        schema = {"name": "answer", "strict": True, "schema": case.schema}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    return request
