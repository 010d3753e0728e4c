"""The workloads: the same ones every time, of the promised sizes."""

from __future__ import annotations

import pytest

from minillm.bench.workloads import TEXT, WORKLOADS, Workload, build_workload
from minillm.errors import MinillmError
from minillm.text import tiny_tokenizer

# Numbers are compared over months: whoever changes a workload gives it another name.
DIGESTS = {
    "single": "a3b38db108ef167d",
    "batch": "6112e137a55df354",
    "mixed": "e430ae9b46a70249",
    "shared-prefix": "6446ebc8ae741900",
    "repetitive": "bf0bcd4c27d1eee0",
    "paging": "102beaaa090a9ced",
}


@pytest.fixture(scope="module")
def text() -> list[int]:
    """What we ship, in the tiny model's tokens."""
    return tiny_tokenizer().encode(TEXT.read_text(encoding="utf-8"))


def sizes(workload: Workload) -> list[list[tuple[int, int]]]:
    return [[(len(each.prompt_token_ids), each.max_tokens) for each in part.requests] for part in workload.parts]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_the_same_every_time(name: str, text: list[int]) -> None:
    assert build_workload(name, text) == build_workload(name, text)
    assert build_workload(name, text).digest == DIGESTS[name]


def test_sizes_are_those_that_are_promised(text: list[int]) -> None:
    assert sizes(build_workload("single", text)) == [[(32, 128)], [(512, 128)]]
    assert sizes(build_workload("batch", text)) == [[(128, 128)] * 16]
    assert sizes(build_workload("batch", text, 3)) == [[(128, 128)] * 3]
    assert [len(part) for part in sizes(build_workload("paging", text))] == [1, 16]
    assert [len(part) for part in sizes(build_workload("paging", text, 5))] == [5]
    (mixed,) = sizes(build_workload("mixed", text))
    assert len(mixed) == 64
    assert all(16 <= prompt <= 256 and 16 <= output <= 256 for prompt, output in mixed)
    assert len(set(mixed)) > 60


def test_no_two_prompts_begin_alike_but_where_a_prefix_is_shared(text: list[int]) -> None:
    for name in ("batch", "mixed"):
        (part,) = build_workload(name, text).parts
        assert len({request.prompt_token_ids[:16] for request in part.requests}) == len(part.requests)
    cold, warm = build_workload("shared-prefix", text).parts
    for first, second in zip(cold.requests, warm.requests, strict=True):
        assert len(first.prompt_token_ids) == len(second.prompt_token_ids) == 1000
        assert first.prompt_token_ids[:900] == second.prompt_token_ids[:900]
        assert first.prompt_token_ids[900:] != second.prompt_token_ids[900:]
    assert len({request.prompt_token_ids[:16] for request in cold.requests}) == len(cold.requests)


def test_a_repetitive_prompt_breaks_off_where_its_continuation_is_known(text: list[int]) -> None:
    (part,) = build_workload("repetitive", text).parts
    for request in part.requests:
        prompt = request.prompt_token_ids
        assert prompt[:160] * 3 + prompt[:16] == prompt
        assert request.max_tokens <= 160 - 16


@pytest.mark.parametrize(("name", "size"), [("doubel", None), ("mixed", 8), ("batch", 0)])
def test_what_is_not_there_is_refused(name: str, size: int | None, text: list[int]) -> None:
    with pytest.raises(MinillmError, match=r"batch_size is|choose single, batch, mixed"):
        build_workload(name, text, size)
