"""Whatever else happens to a request, what it gets follows its grammar."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from schemas import SCHEMAS
from torch import Tensor

from minillm import LLM, SamplingParams
from minillm.engine.request import RequestOutput
from minillm.errors import InvalidRequestError, MinillmError
from minillm.sampling import SamplingMetadata
from minillm.structured import Grammar

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["student", "teacher"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
PERSON_GRAMMAR = Grammar.json_schema(PERSON)
LONG = 600


@settings(max_examples=40)
@given(schema=SCHEMAS, seed=st.integers(0, 999), temperature=st.sampled_from([0, 1.0, 5.0]))
def test_any_output_validates(tiny: LLM, schema: dict[str, Any], seed: int, temperature: float) -> None:
    params = SamplingParams(grammar=Grammar.json_schema(schema), seed=seed, temperature=temperature, max_tokens=LONG)
    output = tiny.generate("Data:", params)
    assert output.finish_reason == "stop"
    jsonschema.Draft202012Validator(schema).validate(json.loads(output.text))


KINDS = [
    SamplingParams(grammar=PERSON_GRAMMAR, seed=1, max_tokens=200),
    SamplingParams(seed=2, max_tokens=20, ignore_eos=True),
    SamplingParams(grammar=Grammar.regex("[a-z]{3,9}( [a-z]{3,9}){2}"), seed=3, max_tokens=60, top_k=5),
    SamplingParams(grammar=PERSON_GRAMMAR, temperature=0, max_tokens=200, repetition_penalty=1.3),
    SamplingParams(grammar=Grammar.json_schema({"enum": ["yes", "no"]}), seed=4, logit_bias={70: 5.0}),
    SamplingParams(grammar=Grammar.lark('start: "(" start ")" | "x"'), seed=5, top_p=0.9, max_tokens=30),
    SamplingParams(grammar=Grammar.json_object(), seed=6, max_tokens=25),
]


@pytest.mark.parametrize("num_blocks", [None, 12], ids=["roomy", "preempting"])
def test_a_batch_of_different_grammars_equals_each_alone(tiny: LLM, num_blocks: int | None) -> None:
    llm = LLM("tiny-random", device="cpu", num_blocks=num_blocks, debug=True)
    prompts = [f"Question {index}: who is it?" for index in range(len(KINDS))]
    together = llm.generate(prompts, KINDS)
    alone = [tiny.generate(prompt, params) for prompt, params in zip(prompts, KINDS, strict=True)]
    assert [output.token_ids for output in together] == [output.token_ids for output in alone]
    for output in (together[0], together[3]):
        jsonschema.validate(json.loads(output.text), PERSON)
    if num_blocks:
        assert any(step.preempted for step in llm.engine.tracer.steps)


def test_several_outputs_of_one_request_go_their_own_ways(tiny: LLM) -> None:
    first = tiny.generate("Data:", SamplingParams(grammar=PERSON_GRAMMAR, seed=1, n=6, max_tokens=200))
    texts = [first.text, *(other.text for other in first.others)]
    for text in texts:
        jsonschema.validate(json.loads(text), PERSON)
    assert len(set(texts)) > 1


@pytest.mark.parametrize("seed", range(5))
def test_jumping_over_forced_tokens_changes_no_token(tiny: LLM, seed: int) -> None:
    """With log-probabilities, every token goes through the model."""
    jumping = tiny.generate("Data:", SamplingParams(grammar=PERSON_GRAMMAR, seed=seed, max_tokens=200))
    before = tiny.engine.metrics.snapshot().num_steps
    walking = tiny.generate("Data:", SamplingParams(grammar=PERSON_GRAMMAR, seed=seed, max_tokens=200, logprobs=0))
    assert jumping.token_ids == walking.token_ids
    assert walking.logprobs is not None
    assert len(walking.logprobs) == len(walking.token_ids)
    assert tiny.engine.metrics.snapshot().num_steps - before == len(walking.token_ids)


def test_forced_tokens_cost_no_step_of_their_own(tiny: LLM) -> None:
    before = tiny.engine.metrics.snapshot().num_steps
    output = tiny.generate("Data:", SamplingParams(grammar=Grammar.json_schema({"const": "a" * 40})))
    assert (output.text, output.finish_reason) == (f'"{"a" * 40}"', "stop")
    assert tiny.engine.metrics.snapshot().num_steps - before <= 3


def test_a_stream_gives_the_same_text_and_stops_where_the_grammar_does(tiny: LLM) -> None:
    params = SamplingParams(grammar=PERSON_GRAMMAR, seed=3, max_tokens=200)
    chunks = list(tiny.generate("Data:", params, stream=True))
    assert "".join(chunk.text for chunk in chunks) == tiny.generate("Data:", params).text
    assert chunks[-1].finish_reason == "stop"


def test_max_tokens_cuts_in_the_middle_even_of_forced_tokens(tiny: LLM) -> None:
    output = tiny.generate("Data:", SamplingParams(grammar=PERSON_GRAMMAR, max_tokens=4))
    assert (len(output.token_ids), output.finish_reason) == (4, "length")


def test_stop_strings_work_inside_of_a_grammar(tiny: LLM) -> None:
    output = tiny.generate("Data:", SamplingParams(grammar=PERSON_GRAMMAR, seed=1, max_tokens=200, stop='"age"'))
    assert output.finish_reason == "stop"
    assert re.fullmatch(r'\{"name": ".*", ', output.text)


class Wanting:
    """Takes one token wherever its logit isn't -inf, else the first that's allowed."""

    def __init__(self, token_id: int) -> None:
        self.token_id = token_id

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        first = logits.isfinite().int().argmax(dim=-1)
        return torch.where(logits[:, self.token_id].isfinite(), self.token_id, first)


@pytest.mark.parametrize(("pattern", "length"), [("[0-9]{3}", 3), ("[0-9]{3}[a-z]*", 3), ("[a-z]*", 0)])
def test_the_end_of_text_is_allowed_only_where_the_grammar_is_complete(pattern: str, length: int) -> None:
    llm = LLM("tiny-random", device="cpu")
    llm.sampler = Wanting(min(llm.tokenizer.eos_token_ids))
    output: RequestOutput = llm.generate("Data:", SamplingParams(grammar=Grammar.regex(pattern)))
    assert (len(output.text), output.finish_reason) == (length, "stop")


class Stubborn:
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        return torch.full((len(logits),), 65)


def test_a_sampler_that_ignores_the_mask_fails_its_request_only() -> None:
    llm = LLM("tiny-random", device="cpu", sampler=Stubborn())
    with pytest.raises(MinillmError, match="Stubborn"):
        llm.generate("Data:", SamplingParams(grammar=PERSON_GRAMMAR))
    assert not llm.engine.has_unfinished
    assert llm.generate("Data:", SamplingParams(max_tokens=2)).token_ids == [65, 65]


def test_a_grammar_that_cannot_be_honoured_is_refused_before_anything_runs(tiny: LLM) -> None:
    with pytest.raises(InvalidRequestError, match="uniqueItems"):
        tiny.generate("Data:", SamplingParams(grammar=Grammar.json_schema({"uniqueItems": True})))
    assert not tiny.engine.has_unfinished


@pytest.mark.parametrize("wrong", [{"grammar": "json"}, {"grammar": PERSON_GRAMMAR, "ignore_eos": True}])
def test_parameters_that_contradict_a_grammar_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        SamplingParams(**wrong)


def test_the_real_model_writes_json_it_was_not_asked_for(smollm2: LLM) -> None:
    params = SamplingParams(grammar=PERSON_GRAMMAR, temperature=0, max_tokens=100)
    output = smollm2.generate("Alice is 30 years old and teaches. Bob is", params)
    jsonschema.validate(json.loads(output.text), PERSON)
