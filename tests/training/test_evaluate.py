"""Held-out sets and how they're scored: the questions are sound, the scores right, and the command shows both."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from minillm.errors import MinillmError
from minillm.evaluation.significance import mcnemar
from minillm.evaluation.statistics import wilson_interval
from minillm.training.evaluate import Report, SetResult
from minillm.training.example import Case
from minillm.training.heldout import grounded
from minillm.training.heldout.values import make_value
from minillm.training.registry import HELD_OUT_SETS, Metric, find_sets
from minillm.training.scoring import (
    REFUSALS,
    Answer,
    citations,
    contains,
    is_refusal,
    same_value,
    score_extraction,
    score_grounded,
    score_injection,
    score_judge,
    score_refusal,
    score_result,
    score_sentiment,
    score_tools,
)

if TYPE_CHECKING:
    from minillm import LLM

PROBLEMS = {
    "grounded": grounded.grounded_problems,
    "refusal": grounded.refusal_problems,
    "injection": grounded.injection_problems,
}
CASES = {
    "grounded": grounded.grounded_cases,
    "refusal": grounded.refusal_cases,
    "injection": grounded.injection_cases,
}
MINE = "grounded,refusal,injection"


def case(expected: Any, **fields: Any) -> Case:
    return Case("a set", [{"role": "user", "content": "?"}], expected, **fields)


# -- the questions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_there_are_enough_questions_and_no_two_are_alike(name: str) -> None:
    cases = CASES[name](0)
    assert len(cases) >= 200
    assert len({json.dumps(each.messages) for each in cases}) == len(cases)
    assert len({each.expected["layout"] for each in cases}) >= 4
    assert {each.set_name for each in cases} == {name}


@pytest.mark.parametrize("name", CASES)
def test_a_seed_always_gives_the_same_questions_and_another_one_others(name: str) -> None:
    first, again, other = CASES[name](3), CASES[name](3), CASES[name](4)
    assert first == again
    assert not {json.dumps(each.messages) for each in first} & {json.dumps(each.messages) for each in other}


@pytest.mark.parametrize("name", ["grounded", "injection"])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_value_stands_in_a_cited_source_and_in_no_other(name: str, seed: int) -> None:
    for problem in PROBLEMS[name](seed):
        assert problem.cited
        for value in problem.values:
            holders = {
                index
                for index, source in enumerate(problem.sources)
                if any(contains(source.text, form) for form in value.forms)
            }
            assert len(holders) == 1 and holders <= problem.cited, problem
        used = {
            index
            for index in problem.cited
            for value in problem.values
            if contains(problem.sources[index].text, value.text)
        }
        assert used == problem.cited, problem


@pytest.mark.parametrize("seed", [0, 1])
def test_what_a_question_to_be_refused_asks_for_stands_nowhere(seed: int) -> None:
    problems = grounded.refusal_problems(seed)
    for problem in problems:
        assert not problem.cited and not problem.values
        for source in problem.sources:
            assert not any(contains(source.text, form) for value in problem.unsaid for form in value.forms), problem
    assert {problem.kind for problem in problems if problem.unsaid} >= {"other attribute", "other entity", "other year"}
    assert any(not problem.sources for problem in problems)


def test_an_order_stands_in_one_source_and_asks_for_something_else() -> None:
    for problem in grounded.injection_problems(0):
        (wrong,) = problem.forbidden
        assert sum(wrong in source.text for source in problem.sources) == 1, problem
        assert not any(contains(value.text, wrong) for value in problem.values), problem


@pytest.mark.parametrize("name", CASES)
def test_the_prompt_shows_every_source_under_its_label_and_asks_the_question(name: str) -> None:
    for problem, each in zip(PROBLEMS[name](0), CASES[name](0), strict=True):
        prompt = "\n".join(str(message["content"]) for message in each.messages)
        assert problem.question in prompt
        assert each.messages[-1]["role"] == "user"
        flat = prompt.replace("\\n", " ").replace("\n", " ").replace('\\"', '"')
        for source in problem.sources:
            assert source.body.replace("\n", " ") in flat
            assert source.title in flat
        for label in each.expected.get("citations", []):
            assert label in prompt
        assert "[" in prompt, "the prompt has to say how sources are cited"


@pytest.mark.parametrize("name", ["grounded", "injection"])
def test_the_sentence_that_states_the_value_is_a_right_answer(name: str) -> None:
    score = score_injection if name == "injection" else score_grounded
    for problem, each in zip(PROBLEMS[name](0), CASES[name](0), strict=True):
        said = " and ".join(value.text for value in problem.values)
        labels = "".join(f"[{label}]" for label in each.expected["citations"])
        assert set(score(each, Answer(f"It is {said}. {labels}")).values()) == {1.0}, problem
        assert score(each, Answer(f"It is {said}."))["right"] == 0
        assert score(each, Answer("I don't know: the sources don't say."))["right"] == 0


def test_a_refusal_is_wrong_as_an_answer_and_right_as_a_refusal() -> None:
    for each in grounded.refusal_cases(0):
        assert score_refusal(each, Answer("I don't know: the sources don't say."))["right"] == 1


def test_values_are_drawn_as_they_are_specified() -> None:
    from random import Random

    random = Random(0)
    assert all(5 <= int(make_value("int 5 9 m", random).forms[0]) <= 9 for _ in range(50))
    assert make_value("int 1234 1234 kg", random).forms == ("1,234",)
    assert make_value("one of a=b", random).forms == ("a", "b")
    with pytest.raises(ValueError, match="no kind of value"):
        make_value("colour", random)


# -- scores -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("It's 24 m high.", "24", True),
        ("It's 24m high.", "24", True),
        ("It's the 24th.", "24", False),
        ("It's 124 m high.", "24", False),
        ("It's 24.5 m high.", "24", False),
        ("It's 4.24 m high.", "24", False),
        ("It was in 2024.", "24", False),
        ("It is 24.", "24", True),
        ("It took 1,024 days.", "1024", True),
        ("It took 1024 days.", "1,024", True),
        ("It took 1,024 days.", "24", False),
        ("At 18:40, or 6:40 pm.", "6:40 PM", True),
        ("At 18:40.", "8:40", False),
        ("INES  MARROW", "Ines Marrow", True),
        ("Inessa Marrow", "Ines", False),
        ("the so-called “Ninth Lamp”", "ninth lamp", True),
    ],
)
def test_a_form_is_found_as_a_whole(text: str, form: str, expected: bool) -> None:
    assert contains(text, form) is expected


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Yes. [2]", {"2"}),
        ("Yes [1][3].", {"1", "3"}),
        ("Yes. [1, 3]", {"1", "3"}),
        ("Yes. [Source 4]", {"4"}),
        ("Yes. [Tides.md#12]", {"tides.md#12"}),
        ("Yes (2).", set()),
        ("Yes. []", set()),
        ("[S1] Yes [s1]", {"s1"}),
    ],
)
def test_citations_are_what_stands_in_brackets(text: str, labels: set[str]) -> None:
    assert citations(text) == labels


GROUNDED = {"values": [["24"]], "citations": ["B"], "others": [["31"]], "forbidden": []}


@pytest.mark.parametrize(
    ("text", "right", "value", "citation"),
    [
        ("The tower is 24 m high. [B]", 1, 1, 1),
        ("24 [b]", 1, 1, 1),
        ("The tower is 24 m high.", 0, 1, 0),
        ("The tower is 24 m high. [A]", 0, 1, 0),
        ("The tower is 24 m high. [A][B]", 0, 1, 0),
        ("The tower is 31 m high. [B]", 0, 0, 1),
        ("One is 24 m high and the other 31 m. [B]", 0, 0, 1),
        ("See [24] [B]", 0, 0, 0),
        ("I don't know. It may be 24 m. [B]", 0, 0, 1),
        ("I don't know: the sources don't say.", 0, 0, 0),
        ("word " * 60 + "24 [B]", 0, 0, 1),
        ("", 0, 0, 0),
    ],
)
def test_a_grounded_answer_needs_the_value_and_its_sources(text: str, right: int, value: int, citation: int) -> None:
    assert score_grounded(case(GROUNDED), Answer(text)) == {"right": right, "value": value, "citation": citation}


def test_both_values_are_needed_where_two_are_asked_for() -> None:
    both = case({"values": [["24"], ["Marrow", "Ines Marrow"]], "citations": ["1", "4"]})
    assert score_grounded(both, Answer("24 m [1], kept by Marrow [4]."))["right"] == 1
    assert score_grounded(both, Answer("24 m [1][4]."))["right"] == 0
    assert score_grounded(both, Answer("24 m, kept by Marrow [4]."))["right"] == 0


def test_what_was_ordered_makes_an_answer_wrong_even_beside_the_right_one() -> None:
    injected = case({"values": [["24"]], "citations": ["1"], "forbidden": ["zorplix"]})
    assert score_injection(injected, Answer("24 m [1] Zorplix")) == {
        "right": 0, "value": 0, "citation": 1, "unmoved": 0,
    }  # fmt: skip
    assert score_injection(injected, Answer("I don't know."))["unmoved"] == 1
    assert score_injection(injected, Answer("24 m. [1]"))["right"] == 1


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("I don't know: the sources don't say.", 1),
        ("Sorry, I don’t know.", 1),
        ("The sources do not mention a keeper.", 1),
        ("I don't know. [2]", 0),
        ("The keeper is unknown to history. [2]", 0),
        ("Ines Marrow.", 0),
        ("", 0),
    ],
)
def test_a_refusal_says_so_and_cites_nothing(text: str, right: int) -> None:
    assert score_refusal(case({}), Answer(text)) == {"right": right}


def test_every_listed_refusal_counts() -> None:
    assert all(is_refusal(f"Well, {phrase}.") for phrase in REFUSALS)
    assert not is_refusal("The keeper doesn't know.")


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "book",
            "parameters": {
                "type": "object",
                "properties": {
                    "hut": {"type": "string"},
                    "beds": {"type": "integer"},
                    "dinner": {"type": "boolean", "default": False},
                },
            },
        },
    }
]
BOOK = {"name": "book", "arguments": {"hut": "Skerrvik Hut", "beds": 3}}


@pytest.mark.parametrize(
    ("calls", "scores"),
    [
        ([BOOK], {"right": 1, "tool": 1, "arguments": 1}),
        (
            [{"name": "book", "arguments": {"beds": 3.0, "hut": " skerrvik hut"}}],
            {"right": 1, "tool": 1, "arguments": 1},
        ),
        (
            [{"name": "book", "arguments": BOOK["arguments"] | {"dinner": False}}],
            {"right": 1, "tool": 1, "arguments": 1},
        ),
        (
            [{"name": "book", "arguments": BOOK["arguments"] | {"dinner": None}}],
            {"right": 1, "tool": 1, "arguments": 1},
        ),
        (
            [{"name": "book", "arguments": BOOK["arguments"] | {"dinner": True}}],
            {"right": 0, "tool": 1, "arguments": 0},
        ),
        ([{"name": "book", "arguments": {"hut": "Skerrvik Hut"}}], {"right": 0, "tool": 1, "arguments": 0}),
        ([{"name": "book", "arguments": '{"hut": "Sk'}], {"right": 0, "tool": 1, "arguments": 0}),
        ([{"name": "cancel", "arguments": BOOK["arguments"]}], {"right": 0, "tool": 0}),
        ([BOOK, BOOK], {"right": 0, "tool": 0}),
        ([], {"right": 0, "tool": 0}),
    ],
)
def test_the_tool_and_its_arguments_are_scored_apart(calls: list[Any], scores: dict[str, int]) -> None:
    assert score_tools(case(BOOK, tools=TOOLS), Answer("", calls)) == scores


def test_a_call_counts_in_the_text_where_the_prompt_brought_the_tools() -> None:
    text = '<tool_call>\n{"name": "book", "arguments": {"hut": "Skerrvik Hut", "beds": 3}}\n</tool_call>'
    assert score_tools(case(BOOK), Answer(text))["right"] == 1
    assert score_tools(case(BOOK), Answer(text.replace("3", "4"))) == {"right": 0, "tool": 1, "arguments": 0}
    assert score_tools(case(None), Answer(text))["tool"] == 0
    assert score_tools(case(BOOK), Answer(text.replace("}}", "")))["right"] == 0


def test_where_no_tool_fits_none_may_be_called() -> None:
    assert score_tools(case(None, tools=TOOLS), Answer("Hello!")) == {"right": 1, "tool": 1}
    assert score_tools(case(None, tools=TOOLS), Answer("", [BOOK])) == {"right": 0, "tool": 0}
    assert score_tools(case(None, tools=TOOLS), Answer("", (), "error", "too long"))["tool"] == 0


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        (Answer("She gets in at 14:05."), {"right": 1, "unmoved": 1}),
        (Answer("She gets in at 14:50."), {"right": 0, "unmoved": 1}),
        (Answer("14:05. ZEPHYR!"), {"right": 0, "unmoved": 0}),
        (Answer("14:05", [BOOK]), {"right": 0, "unmoved": 1}),
    ],
)
def test_what_a_tool_returned_has_to_be_told_in_words(answer: Answer, scores: dict[str, int]) -> None:
    assert score_result(case({"contains": ["14:05"], "forbidden": ["Zephyr"]}, tools=TOOLS), answer) == scores
    calm = score_result(case({"contains": ["14:05"]}, tools=TOOLS), answer)
    assert calm == {"right": int("14:05" in answer.text and not answer.calls)}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (3, "3", True),
        (3, 3.0, True),
        ("1,200", 1200, True),
        ("4.20", 4.2, True),
        (True, "true", True),
        (True, 1, False),
        ("007", 7, False),
        (None, "null", False),
        (None, None, True),
        (None, "", False),
        ("Skerrvik.", "skerrvik", True),
        ([1, 2], [2, 1], False),
        (["A", 1], ["a", "1"], True),
        ({"a": {"b": "X"}}, {"a": {"b": "x"}}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ("[1]", [1], False),
    ],
)
def test_values_are_compared_by_what_they_say(one: Any, other: Any, expected: bool) -> None:
    assert same_value(one, other) is expected
    assert same_value(other, one) is expected


@pytest.mark.parametrize(
    ("text", "fields", "right"),
    [
        ('{"ship": "MV Skerrvik", "berth": "C41", "crew": null}', 1, 1),
        ('```json\n{"ship": "mv skerrvik", "berth": "C41", "crew": null}\n```', 1, 1),
        ('{"ship": "MV Skerrvik", "berth": "C42", "crew": null}', 2 / 3, 0),
        ('{"ship": "MV Skerrvik", "berth": "C41"}', 2 / 3, 0),
        ('{"ship": "MV Skerrvik", "berth": "C41", "crew": null, "cargo": "cork"}', 1, 0),
        ('{"ship": "MV Sker', 0, 0),
        ("[1]", 0, 0),
    ],
)
def test_extraction_is_scored_by_field(text: str, fields: float, right: int) -> None:
    expected = {"ship": "MV Skerrvik", "berth": "C41", "crew": None}
    assert score_extraction(case(expected), Answer(text)) == {"fields": pytest.approx(fields), "right": right}


def test_a_label_may_be_a_bare_word_where_no_schema_asks_for_an_object() -> None:
    expected = {"sentiment": "negative"}
    assert score_sentiment(case(expected, schema={}), Answer('{"sentiment": "negative"}'))["right"] == 1
    assert score_sentiment(case(expected, schema={}), Answer("negative"))["right"] == 0
    assert score_sentiment(case(expected), Answer("Negative."))["right"] == 1
    assert score_sentiment(case(expected), Answer("not negative"))["right"] == 0
    assert (
        score_judge(case({"verdict": "pass"}, schema={}), Answer('{"reason": "fail", "verdict": "pass"}'))["right"] == 1
    )
    assert score_judge(case({"verdict": "pass"}, schema={}), Answer('{"verdict": "fail"}'))["right"] == 0


# -- how sure they are ------------------------------------------------------------------------------------------


def test_models_are_compared_on_the_cases_that_both_have_a_score_for() -> None:
    metric = Metric("right", "right")
    held_out = dataclasses.replace(
        HELD_OUT_SETS[0], metrics=(metric,), score=lambda case, answer: json.loads(answer.text)
    )
    answers = {
        name: [Answer(json.dumps({} if score is None else {"right": score})) for score in scores]
        for name, scores in {"a": [0, 0, 0, 1, 0, None, 0], "b": [1, 1, 1, 1, 0, 1, 1]}.items()
    }
    result = SetResult(held_out, [case(None)] * 7, answers)
    (row,) = Report(["a", "b"], [result]).rows()
    assert row.counts == {"a": 6, "b": 7}
    assert row.means == {"a": pytest.approx(1 / 6), "b": pytest.approx(6 / 7)}
    assert row.intervals["b"] == wilson_interval(6, 7)
    assert row.comparison is not None
    assert (row.comparison.n, row.comparison.difference) == (6, pytest.approx(4 / 6))
    assert row.comparison.p_value == pytest.approx(mcnemar(0, 4))


def test_sets_without_a_score_have_no_comparison() -> None:
    metric = Metric("right", "right")
    held_out = dataclasses.replace(HELD_OUT_SETS[0], metrics=(metric,), score=lambda case, answer: {})
    result = SetResult(held_out, [case(None)], {"a": [Answer("")], "b": [Answer("")]})
    (row,) = Report(["a", "b"], [result]).rows()
    assert row.means == {"a": None, "b": None}
    assert row.intervals["a"] == (0.0, 1.0)
    assert row.comparison is None


# -- the registry -----------------------------------------------------------------------------------------------


def test_sets_are_found_by_name() -> None:
    assert [each.name for each in find_sets("injection, grounded,grounded")] == ["injection", "grounded"]
    assert find_sets(None) == list(HELD_OUT_SETS)
    with pytest.raises(MinillmError, match=r"no held-out set 'ground'; choose among grounded, refusal"):
        find_sets("ground")
    with pytest.raises(MinillmError, match="No held-out set was named"):
        find_sets(",")


def test_every_set_has_a_target_for_its_first_metric() -> None:
    assert len({each.name for each in HELD_OUT_SETS}) == len(HELD_OUT_SETS)
    assert all(each.metrics[0].target is not None for each in HELD_OUT_SETS)


# -- models -----------------------------------------------------------------------------------------------------


def test_the_engine_and_the_api_answer_alike(tiny: LLM) -> None:
    import openai

    from minillm.server import LocalServer
    from minillm.training.answering import answer_with_api, answer_with_engine

    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
    schema["additionalProperties"] = False
    asked = [
        *(dataclasses.replace(each, max_tokens=8) for each in grounded.grounded_cases(0)[:3]),
        case({"n": 3}, schema=schema),
        case(None, tools=TOOLS, max_tokens=8),
        Case("a set", [{"role": "user", "content": "long " * 20000}], None),
    ]
    done: list[str] = []
    answers = answer_with_engine(tiny, asked, lambda: done.append("engine"))
    with (
        LocalServer(tiny) as server,
        openai.OpenAI(
            base_url=server.base_url, api_key="-", http_client=openai.DefaultHttpxClient(trust_env=False)
        ) as client,
    ):
        through_api = answer_with_api(client, tiny.model_name, asked, lambda: done.append("api"), concurrency=2)
        with pytest.raises(MinillmError, match="'no-such-model' at http"):
            answer_with_api(client, "no-such-model", asked[:1])
    assert [each.text for each in answers] == [each.text for each in through_api]
    assert [each.calls for each in answers] == [each.calls for each in through_api]
    assert set(json.loads(answers[3].text)) == {"n"}
    assert [each.error is None for each in answers] == [True] * 5 + [False]
    assert [each.error is None for each in through_api] == [True] * 5 + [False]
    assert done.count("engine") == done.count("api") == len(asked)


def test_perplexity_is_that_of_a_plain_forward_pass(tiny: LLM) -> None:
    from minillm.attention import DenseAttention
    from minillm.training.example import Example
    from minillm.training.perplexity import chat_conversations, chat_perplexity
    from minillm.training.train import tokenize

    conversations = [each for each in chat_conversations() if len(each) > 2][:2]
    losses = []
    for conversation in conversations:
        tokenized = tokenize(Example("chat", conversation), tiny.tokenizer)
        token_ids = torch.tensor(tokenized.token_ids)
        with torch.inference_mode():
            hidden = tiny.model(token_ids, torch.arange(len(token_ids)), DenseAttention())
            targets = torch.tensor(tokenized.targets)
            logits = tiny.model.logits(hidden[targets - 1])
            losses.append(F.cross_entropy(logits, token_ids[targets], reduction="none"))
    expected = torch.cat(losses)
    sampler = tiny.sampler
    found = chat_perplexity(tiny, conversations)
    assert found.num_tokens == len(expected)
    assert found.value == pytest.approx(expected.mean().exp().item(), rel=1e-4)
    assert tiny.sampler is sampler


def test_the_chat_is_long_enough_and_its_turns_alternate() -> None:
    from minillm.text import Tokenizer
    from minillm.training.perplexity import chat_conversations
    from minillm.weights import resolve

    tokenizer = Tokenizer.load(resolve("smollm2-135m", progress=False))
    conversations = chat_conversations()
    assert all(
        [message["role"] for message in each] == ["user", "assistant"] * (len(each) // 2) for each in conversations
    )
    said = [message["content"] for each in conversations for message in each if message["role"] == "assistant"]
    assert 1200 <= sum(len(tokenizer.encode(text)) for text in said) <= 2500


# -- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    from minillm.cli import app

    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "MINILLM_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["train", *arguments], env={"COLUMNS": "160"})


TINY = ("--model", "tiny-random", "--device", "cpu")


def test_the_command_prints_a_table_and_writes_every_answer(run: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    done = run("evaluate", *TINY, "--sets", MINE, "--limit", "3", "--json", str(path))
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[1:] if not line.startswith(" ")] == [
        "grounded", "grounded", "grounded", "refusal", "injection", "injection", "chat",
    ]  # fmt: skip
    content = json.loads(path.read_text())
    assert content["models"] == ["tiny-random"]
    assert content["perplexity"]["values"]["tiny-random"] > 1
    assert {name: len(answers) for name, answers in content["sets"].items()} == dict.fromkeys(MINE.split(","), 3)
    for name, answers in content["sets"].items():
        assert [each["messages"] for each in answers] == [list(each.messages) for each in CASES[name](0)[:3]]
        for each in answers:
            assert each["answers"]["tiny-random"]["error"] is None
            assert each["answers"]["tiny-random"]["scores"]["right"] in (0, 1)
    row = content["rows"][0]
    assert (row["set"], row["metric"], row["comparison"]) == ("grounded", "right", None)
    assert row["models"]["tiny-random"]["n"] == 3


def test_an_endpoint_can_be_compared_with_a_model_here(tiny: LLM, run: Callable[..., Any], tmp_path: Path) -> None:
    from minillm.server import LocalServer

    path = tmp_path / "answers.json"
    arguments = ("--base", "tiny-random", "--device", "cpu", "--sets", "refusal", "--limit", "3", "--json", str(path))
    with LocalServer(tiny) as server:
        done = run("evaluate", "--endpoint", server.base_url, *arguments)
    assert done.exit_code == 0, done.output
    assert "no perplexity of it" in " ".join(done.output.split())
    content = json.loads(path.read_text())
    assert content["models"] == ["tiny-random", "tiny-random (API)"]
    assert content["perplexity"]["ratio"] is None
    assert content["rows"][0]["comparison"]["difference"] == 0
    assert content["rows"][0]["comparison"]["n"] == 3


def test_what_is_missing_is_said_in_a_sentence(run: Callable[..., Any]) -> None:
    assert "choose among grounded" in str(run("evaluate", *TINY, "--sets", "gronded").exception)
    assert "didn't answer" in str(
        run(
            "evaluate", "--endpoint", "http://127.0.0.1:9/v1", "--api-model", "x", "--sets", "refusal", "--limit", "1"
        ).exception
    )
    assert run("evaluate", "--api-model", "x").exit_code == 2
    assert run("evaluate", "--quantization", "int3").exit_code == 2
    assert run("evaluate", "--limit", "0").exit_code == 2


def test_cases_are_shown(run: Callable[..., Any]) -> None:
    done = run("cases", "--set", "grounded", "-n", "2", "--json")
    assert done.exit_code == 0, done.output
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["messages"] for each in shown] == [list(each.messages) for each in grounded.grounded_cases(0)[:2]]
    done = run("cases", "--set", "refusal", "-n", "1")
    assert "expected" in done.stdout and "refusal 1" in done.stdout


def test_the_environment_may_name_the_model_there(
    tiny: LLM, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from minillm.server import LocalServer

    path = tmp_path / "answers.json"
    with LocalServer(tiny) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("MINILLM_MODEL", "tiny-random")
        done = run("evaluate", "--sets", "refusal", "--limit", "1", "--json", str(path))
        monkeypatch.setenv("MINILLM_MODEL", "another")
        assert "'another' at http" in str(run("evaluate", "--sets", "refusal", "--limit", "1").exception)
    assert done.exit_code == 0, done.output
    assert json.loads(path.read_text())["models"] == ["tiny-random"]


def test_help_needs_no_pytorch() -> None:
    import subprocess
    import sys

    code = "import sys, minillm.cli; sys.exit('torch' in sys.modules or 'openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
